//! Gives the room of what has expired back, in the background and in small steps. Nothing but the room depends on it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::{Result, Stores};

/// How often it is looked for what has expired.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// How much one step removes at most, so that it holds up writers for a moment only.
const STEP_ENTRIES: u32 = 256;
/// The pause between two steps while there is more.
const STEP_PAUSE: Duration = Duration::from_millis(20);

/// Sweeps until it is stopped.
#[derive(Debug)]
pub(crate) struct Sweeper(JoinHandle<()>);

impl Sweeper {
    /// Must be called within a tokio runtime.
    pub(crate) fn start(stores: Arc<Stores>) -> Self {
        Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP_EVERY).await;
                stores.sweep().await;
            }
        }))
    }

    /// Stops at once; a step that runs is dropped, and its transaction rolled back.
    pub(crate) fn stop(&self) {
        self.0.abort();
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sweeps one role until nothing is left.
async fn sweep<F: Future<Output = Result<u32>>>(role: &str, step: impl Fn() -> F) -> u64 {
    let mut removed = 0;
    loop {
        match step().await {
            Ok(step) => {
                removed += u64::from(step);
                if step < STEP_ENTRIES {
                    return removed;
                }
            }
            Err(error) => {
                tracing::debug!(role, %error, code = error.code(), "what has expired could not be removed; it is tried again later");
                return removed;
            }
        }
        tokio::time::sleep(STEP_PAUSE).await;
    }
}

impl Stores {
    /// Removes everything that has expired, in small steps; answers how much that was. The runtime does this every 10 s.
    pub async fn sweep(&self) -> u64 {
        let mut removed = 0;
        if let Some(cache) = &self.cache {
            removed += sweep("cache", || cache.sweep(STEP_ENTRIES)).await;
        }
        if let Some(locks) = &self.locks {
            removed += sweep("locks", || locks.sweep(STEP_ENTRIES)).await;
        }
        if let Some(config) = &self.config {
            removed += sweep("config-store", || config.sweep(STEP_ENTRIES)).await;
        }
        if let Some(memory) = &self.memory {
            removed += sweep("memory-store", || memory.sweep(STEP_ENTRIES)).await;
        }
        removed
    }
}
