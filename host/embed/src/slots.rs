//! Places that tasks share over several processes (`concurrency`): each is a lock of the locks store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use compozy_interpreter::{Failure, Slot};
use compozy_runtime::stores::{Attempt, Locks};
use compozy_temporal::{Slots, TakenSlot};

/// A process that dies gives its places back after this long.
const TTL: Duration = Duration::from_secs(30);
/// How often a place that is held is kept.
const REFRESH: Duration = Duration::from_secs(10);

/// Places kept in the locks store.
pub(crate) struct LockedSlots {
    locks: Arc<dyn Locks>,
    holder: String,
}

impl LockedSlots {
    pub(crate) fn new(locks: Arc<dyn Locks>) -> Self {
        Self { locks, holder: format!("tool-worker {}", std::process::id()) }
    }
}

/// A place that is kept until this is dropped.
struct Taken {
    keeper: tokio::task::JoinHandle<()>,
    locks: Arc<dyn Locks>,
    name: String,
    token: u64,
    runtime: tokio::runtime::Handle,
}

impl TakenSlot for Taken {}

impl Drop for Taken {
    fn drop(&mut self) {
        self.keeper.abort();
        let (locks, name, token) = (Arc::clone(&self.locks), std::mem::take(&mut self.name), self.token);
        self.runtime.spawn(async move {
            if let Err(error) = locks.release(&name, token).await {
                tracing::debug!(name, %error, "a place is given back by its time to live");
            }
        });
    }
}

#[async_trait]
impl Slots for LockedSlots {
    async fn take(&self, slot: &Slot) -> Result<Option<Box<dyn TakenSlot>>, Failure> {
        for place in 0..slot.limit {
            let name = format!("slot/{}/{place}", slot.key);
            let attempt = self.locks.acquire(&name, TTL, &self.holder).await;
            let attempt = attempt.map_err(|error| Failure::transient("BACKEND_UNAVAILABLE", error.to_string()))?;
            let Attempt::Acquired(lease) = attempt else { continue };
            let (locks, kept, token) = (Arc::clone(&self.locks), name.clone(), lease.token);
            let keeper = tokio::spawn(async move {
                loop {
                    tokio::time::sleep(REFRESH).await;
                    drop(locks.refresh(&kept, token, TTL).await);
                }
            });
            let (locks, runtime) = (Arc::clone(&self.locks), tokio::runtime::Handle::current());
            return Ok(Some(Box::new(Taken { keeper, locks, name, token, runtime })));
        }
        Ok(None)
    }
}
