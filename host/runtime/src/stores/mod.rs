//! The stores as the rest of the host sees them: plain async traits, behind which any plugin may sit.
//!
//! - `contract`: the traits
//! - `error`: why an operation failed, and whether trying again can help
//! - `lock_manager`, `lock_guard`: waiting for a lock, and holding it
//! - `event_feed`: waiting for events, and following a stream; `changes`: who waits is woken
//! - `sweeper`: the room of what has expired
//! - `monitor`, `histogram`: whether calls are let through, how long they take, what goes wrong
//! - `plugin`: the traits over a store plugin's pool of instances
//! - `access`: a task's view of the stores (`compozy:host/stores`), each plugin under its own name
//!
//! The words of the traits are those of `wit/store`; see there for every rule.

use std::sync::Arc;
use std::time::Duration;

mod access;
mod changes;
mod contract;
mod error;
mod event_feed;
mod histogram;
mod lock_guard;
mod lock_manager;
mod monitor;
mod plugin;
mod sweeper;

pub(crate) use sweeper::Sweeper;

pub use access::StoreAccess;
pub use changes::Changes;
pub(crate) use changes::Remote;
pub use contract::{Cache, ConfigStore, Events, Locks, MemoryStore, Result};
pub use error::StoreError;
pub use event_feed::{EVENT_WAIT_MAX, EventFeed, Received, Subscription};
pub use histogram::Latency;
pub use lock_guard::LockGuard;
pub use lock_manager::{LOCK_WAIT_MAX, LockError, LockManager, LockOptions};
pub use monitor::{Circuit, Monitor, Repeat, RoleStatus};
pub use plugin::{PluginCache, PluginConfigStore, PluginEvents, PluginLocks, PluginMemoryStore};

pub use crate::bindings::compozy::types::buffers::Span;
pub use crate::bindings::compozy::types::stores::{
    Assignment, Attempt, Condition, Counts, DumpPage, Dumped, DumpedLock, DumpedMemory, DumpedStream, Entry, Event,
    EventPage, Exceeded, Found, HealthStatus, Keep, KeyPage, Lease, Lifetime, LockPage, LockState, MemoryPage, Message,
    MessagePage, Messages, Retention, Statistics, StreamPage, StreamState, Values,
};
pub use crate::bindings::config_store::exports::compozy::store::config_store::{ConfigPage, DumpedConfig, Namespace};

/// The backends in use, one per role. A role that no plugin fills is `None`.
#[derive(Clone, Default)]
pub struct Stores {
    /// The role `cache`.
    pub cache: Option<Arc<dyn Cache>>,
    /// The role `locks`, for those who do not wait.
    pub locks: Option<Arc<dyn Locks>>,
    /// The role `locks`, for those who wait and hold.
    pub lock_manager: Option<Arc<LockManager>>,
    /// The role `events`, for those who do not wait.
    pub events: Option<Arc<dyn Events>>,
    /// The role `events`, for those who wait.
    pub event_feed: Option<EventFeed>,
    /// The role `config-store`.
    pub config: Option<Arc<dyn ConfigStore>>,
    /// The role `memory-store`.
    pub memory: Option<Arc<dyn MemoryStore>>,
}

impl Stores {
    /// Adds the backend of `locks`. Its releases are announced on `changes`.
    #[must_use]
    pub fn with_locks(mut self, locks: Arc<dyn Locks>, changes: &Arc<Changes>) -> Self {
        self.lock_manager = Some(Arc::new(LockManager::new(Arc::clone(&locks), Arc::clone(changes))));
        self.locks = Some(locks);
        self
    }

    /// Adds the backend of `events`. Its appends are announced on `changes`.
    #[must_use]
    pub fn with_events(mut self, events: Arc<dyn Events>, changes: &Arc<Changes>) -> Self {
        self.event_feed = Some(EventFeed::new(Arc::clone(&events), Arc::clone(changes)));
        self.events = Some(events);
        self
    }
}

impl std::fmt::Debug for Stores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stores")
            .field("cache", &self.cache.is_some())
            .field("locks", &self.locks.is_some())
            .field("events", &self.events.is_some())
            .field("config", &self.config.is_some())
            .field("memory", &self.memory.is_some())
            .finish_non_exhaustive()
    }
}

/// Milliseconds of a time to live, if there is one.
fn milliseconds(ttl: Option<Duration>) -> Option<u64> {
    ttl.map(whole_milliseconds)
}

/// Milliseconds, rounded up: something that lives shorter than a millisecond does not live for ever.
fn whole_milliseconds(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_live_is_rounded_up_to_milliseconds() {
        assert_eq!(milliseconds(None), None);
        assert_eq!(milliseconds(Some(Duration::ZERO)), Some(0));
        assert_eq!(milliseconds(Some(Duration::from_micros(1))), Some(1));
        assert_eq!(milliseconds(Some(Duration::from_micros(1_001))), Some(2));
        assert_eq!(milliseconds(Some(Duration::MAX)), Some(u64::MAX));
    }
}
