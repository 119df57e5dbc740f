//! The stores as the rest of the host sees them: plain async traits, behind which any plugin may sit.
//!
//! - `error`: why an operation failed, and whether trying again can help
//! - `plugin`: the traits over a store plugin's pool of instances
//! - `access`: a task's view of the stores (`compozy:host/stores`), each plugin under its own name
//!
//! The words of the traits are those of `wit/store`; see there for every rule.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

mod access;
mod error;
mod plugin;

pub use access::StoreAccess;
pub use error::StoreError;
pub use plugin::{PluginCache, PluginConfigStore, PluginMemoryStore};

pub use crate::bindings::compozy::types::buffers::Span;
pub use crate::bindings::compozy::types::stores::{
    Condition, Counts, DumpPage, Dumped, Entry, Exceeded, Found, HealthStatus, KeyPage, Lifetime, Message, MessagePage,
    Messages, Values,
};
pub use crate::bindings::config_store::exports::compozy::store::config_store::{ConfigPage, DumpedConfig, Namespace};

/// What every operation answers.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Values by key, with times to live, versions and counters (`compozy:store/cache`).
#[async_trait]
pub trait Cache: Send + Sync {
    /// The value of a key, `None` when it is missing or expired.
    async fn get(&self, key: &str) -> Result<Option<Entry>>;
    /// Up to 1,000 keys at one moment.
    async fn get_many(&self, keys: &[String]) -> Result<Values>;
    /// Writes when the condition holds. Answers the new version, or `None` when nothing was written.
    async fn set(&self, key: &str, value: &[u8], ttl: Option<Duration>, condition: Condition) -> Result<Option<u64>>;
    /// True when the key existed and had not expired.
    async fn delete(&self, key: &str) -> Result<bool>;
    /// True when the key exists and has not expired.
    async fn exists(&self, key: &str) -> Result<bool>;
    /// Gives the key a new time to live, `None` to keep it. False when it is missing.
    async fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool>;
    /// The time to live that is left.
    async fn ttl(&self, key: &str) -> Result<Lifetime>;
    /// Adds to a decimal integer and answers the sum. A missing key counts as 0 and gets `ttl`.
    async fn increment(&self, key: &str, delta: i64, ttl: Option<Duration>) -> Result<i64>;
    /// Keys that start with `prefix`, page by page.
    async fn scan(&self, prefix: &str, cursor: Option<&str>, max: u32) -> Result<KeyPage>;
    /// Answers when the backend can read.
    async fn health(&self) -> Result<HealthStatus>;
    /// Everything, page by page.
    async fn dump(&self, cursor: Option<&str>, max: u32) -> Result<DumpPage>;
    /// Writes a page of a dump.
    async fn load(&self, entries: &[Dumped], bytes: &[u8]) -> Result<()>;
}

/// Configurations of running tasks and the host's metadata (`compozy:store/config-store`).
#[async_trait]
pub trait ConfigStore: Send + Sync {
    /// Writes a value; replaces value and time to live of an existing one.
    async fn save(&self, namespace: Namespace, id: &str, value: &[u8], ttl: Option<Duration>) -> Result<()>;
    /// The value; resets its time to live to the full length.
    async fn get(&self, namespace: Namespace, id: &str) -> Result<Option<Vec<u8>>>;
    /// The value, without touching its time to live.
    async fn peek(&self, namespace: Namespace, id: &str) -> Result<Option<Vec<u8>>>;
    /// True when it existed and had not expired.
    async fn delete(&self, namespace: Namespace, id: &str) -> Result<bool>;
    /// Ids that start with `prefix`, in byte order, page by page.
    async fn list(&self, namespace: Namespace, prefix: &str, cursor: Option<&str>, max: u32) -> Result<KeyPage>;
    /// Answers when the backend can read.
    async fn health(&self) -> Result<HealthStatus>;
    /// Everything of a namespace, page by page.
    async fn dump(&self, namespace: Namespace, cursor: Option<&str>, max: u32) -> Result<ConfigPage>;
    /// Writes a page of a dump.
    async fn load(&self, namespace: Namespace, entries: &[DumpedConfig], bytes: &[u8]) -> Result<()>;
}

/// Conversations: ordered messages with exact token counts (`compozy:store/memory-store`).
#[async_trait]
pub trait MemoryStore: Send + Sync {
    /// Appends, then keeps the last `keep_last`, then sets the time to live: one atomic step.
    async fn append(
        &self,
        key: &str,
        messages: &Messages,
        ttl: Option<Duration>,
        keep_last: Option<u32>,
    ) -> Result<Counts>;
    /// All messages; an empty list when there are none.
    async fn read(&self, key: &str) -> Result<Messages>;
    /// A slice of the messages, and the total at the same moment.
    async fn page(&self, key: &str, offset: u64, limit: u32) -> Result<MessagePage>;
    /// Zero and zero when there are none.
    async fn count(&self, key: &str) -> Result<Counts>;
    /// Puts these messages in the place of all.
    async fn replace(&self, key: &str, messages: &Messages, ttl: Option<Duration>) -> Result<Counts>;
    /// Keeps the last messages; 0 keeps none.
    async fn trim(&self, key: &str, keep_last: u32) -> Result<Counts>;
    /// Removes messages, time to live and flush flag. True when there were messages.
    async fn clear(&self, key: &str) -> Result<bool>;
    /// Gives the memory a new time to live, `None` to keep it. False when it has no messages.
    async fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool>;
    /// The time to live that is left.
    async fn ttl(&self, key: &str) -> Result<Lifetime>;
    /// Sets the flush flag for 30 minutes. False when it was set already.
    async fn mark_flush_pending(&self, key: &str) -> Result<bool>;
    /// True while the flag is set and has not expired.
    async fn is_flush_pending(&self, key: &str) -> Result<bool>;
    /// Clears the flag. True when it was set.
    async fn clear_flush_pending(&self, key: &str) -> Result<bool>;
    /// Keys of memories that start with `prefix`, in byte order, page by page.
    async fn list(&self, prefix: &str, cursor: Option<&str>, max: u32) -> Result<KeyPage>;
    /// Answers when the backend can read.
    async fn health(&self) -> Result<HealthStatus>;
}

/// The backends in use, one per role. A role that no plugin fills is `None`.
#[derive(Clone, Default)]
pub struct Stores {
    /// The role `cache`.
    pub cache: Option<Arc<dyn Cache>>,
    /// The role `config-store`.
    pub config: Option<Arc<dyn ConfigStore>>,
    /// The role `memory-store`.
    pub memory: Option<Arc<dyn MemoryStore>>,
}

impl std::fmt::Debug for Stores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stores")
            .field("cache", &self.cache.is_some())
            .field("config", &self.config.is_some())
            .field("memory", &self.memory.is_some())
            .finish()
    }
}

/// Milliseconds of a time to live, rounded up: something that lives shorter than a millisecond does not live for ever.
fn milliseconds(ttl: Option<Duration>) -> Option<u64> {
    ttl.map(|ttl| u64::try_from(ttl.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX))
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
