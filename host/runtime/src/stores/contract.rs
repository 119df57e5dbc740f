//! The contract of `compozy:store` as plain async traits. See `wit/store` for every rule.

use std::time::Duration;

use async_trait::async_trait;

use super::{
    Assignment, Attempt, Condition, ConfigPage, Counts, DumpPage, Dumped, DumpedConfig, DumpedLock, DumpedMemory,
    DumpedStream, Entry, Event, EventPage, HealthStatus, Keep, KeyPage, Lifetime, LockPage, LockState, MemoryPage,
    MessagePage, Messages, Namespace, Retention, Span, Statistics, StoreError, StreamPage, StreamState, Values,
};

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
    /// Writes up to 1,000 keys in one atomic step.
    async fn set_many(&self, entries: &[Assignment], bytes: &[u8], ttl: Option<Duration>) -> Result<()>;
    /// True when the key existed and had not expired.
    async fn delete(&self, key: &str) -> Result<bool>;
    /// True when the key exists and has not expired.
    async fn exists(&self, key: &str) -> Result<bool>;
    /// Gives the key a new time to live, `None` to keep it. False when it is missing.
    async fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool>;
    /// Keeps the key until it is deleted. False when it is missing.
    async fn persist(&self, key: &str) -> Result<bool> {
        self.expire(key, None).await
    }
    /// The time to live that is left.
    async fn ttl(&self, key: &str) -> Result<Lifetime>;
    /// Adds to a decimal integer and answers the sum. A missing key counts as 0 and gets `ttl`.
    async fn increment(&self, key: &str, delta: i64, ttl: Option<Duration>) -> Result<i64>;
    /// Keys that start with `prefix`, page by page.
    async fn scan(&self, prefix: &str, cursor: Option<&str>, max: u32) -> Result<KeyPage>;
    /// Answers when the backend can read.
    async fn health(&self) -> Result<HealthStatus>;
    /// How much there is.
    async fn stats(&self) -> Result<Statistics>;
    /// Removes up to `max` things that have expired; answers how many. The runtime calls it in the background.
    async fn sweep(&self, max: u32) -> Result<u32>;
    /// Everything, page by page.
    async fn dump(&self, cursor: Option<&str>, max: u32) -> Result<DumpPage>;
    /// Writes a page of a dump.
    async fn load(&self, entries: &[Dumped], bytes: &[u8]) -> Result<()>;
}

/// Locks with fencing tokens (`compozy:store/locks`). Does not wait: [`LockManager`](super::LockManager) does.
#[async_trait]
pub trait Locks: Send + Sync {
    /// Takes the lock if nobody has it.
    async fn acquire(&self, name: &str, ttl: Duration, holder: &str) -> Result<Attempt>;
    /// Gives the lease a new time to live. False when it was lost.
    async fn refresh(&self, name: &str, token: u64, ttl: Duration) -> Result<bool>;
    /// Gives the lock back. False when the lease was lost before.
    async fn release(&self, name: &str, token: u64) -> Result<bool>;
    /// Who has the lock.
    async fn inspect(&self, name: &str) -> Result<Option<LockState>>;
    /// Answers when the backend can read.
    async fn health(&self) -> Result<HealthStatus>;
    /// How much there is.
    async fn stats(&self) -> Result<Statistics>;
    /// Removes up to `max` things that have expired; answers how many. The runtime calls it in the background.
    async fn sweep(&self, max: u32) -> Result<u32>;
    /// Every lock that is held, page by page.
    async fn dump(&self, cursor: Option<&str>, max: u32) -> Result<LockPage>;
    /// Writes a page of a dump.
    async fn load(&self, locks: &[DumpedLock], greatest_token: u64) -> Result<()>;
}

/// Streams of events without gaps (`compozy:store/events`). Does not wait: [`EventFeed`](super::EventFeed) does.
#[async_trait]
pub trait Events: Send + Sync {
    /// Appends one event and answers its sequence.
    async fn append(&self, stream: &str, payload: &[u8]) -> Result<u64>;
    /// Appends up to 1,000 events in one atomic step; answers the last one's sequence.
    async fn append_many(&self, stream: &str, payloads: &[Span], bytes: &[u8]) -> Result<u64>;
    /// Events after this sequence, the oldest first.
    async fn read_after(&self, stream: &str, after: u64, max: u32) -> Result<EventPage>;
    /// What the stream holds.
    async fn state(&self, stream: &str) -> Result<StreamState>;
    /// Removes old events; answers how many.
    async fn trim(&self, stream: &str, keep: Retention) -> Result<u64>;
    /// Streams that start with `prefix`, page by page.
    async fn list(&self, prefix: &str, cursor: Option<&str>, max: u32) -> Result<KeyPage>;
    /// Answers when the backend can read.
    async fn health(&self) -> Result<HealthStatus>;
    /// How much there is.
    async fn stats(&self) -> Result<Statistics>;
    /// Everything, page by page.
    async fn dump(&self, cursor: Option<&str>, max: u32) -> Result<StreamPage>;
    /// Writes a page of a dump.
    async fn load(&self, streams: &[DumpedStream], events: &[Event], bytes: &[u8]) -> Result<()>;
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
    /// Ids that start with `prefix`, page by page.
    async fn list(&self, namespace: Namespace, prefix: &str, cursor: Option<&str>, max: u32) -> Result<KeyPage>;
    /// Answers when the backend can read.
    async fn health(&self) -> Result<HealthStatus>;
    /// How much there is.
    async fn stats(&self) -> Result<Statistics>;
    /// Removes up to `max` things that have expired; answers how many. The runtime calls it in the background.
    async fn sweep(&self, max: u32) -> Result<u32>;
    /// Everything of a namespace, page by page.
    async fn dump(&self, namespace: Namespace, cursor: Option<&str>, max: u32) -> Result<ConfigPage>;
    /// Writes a page of a dump.
    async fn load(&self, namespace: Namespace, entries: &[DumpedConfig], bytes: &[u8]) -> Result<()>;
}

/// Conversations: ordered messages with exact token counts (`compozy:store/memory-store`).
#[async_trait]
pub trait MemoryStore: Send + Sync {
    /// Appends, then trims to `keep`, then sets the time to live: one atomic step.
    async fn append(&self, key: &str, messages: &Messages, ttl: Option<Duration>, keep: Option<Keep>)
    -> Result<Counts>;
    /// All messages; an empty list when there are none.
    async fn read(&self, key: &str) -> Result<Messages>;
    /// A slice of the messages, and the total at the same moment.
    async fn page(&self, key: &str, offset: u64, limit: u32) -> Result<MessagePage>;
    /// Zero and zero when there are none.
    async fn count(&self, key: &str) -> Result<Counts>;
    /// Puts these messages in the place of all.
    async fn replace(&self, key: &str, messages: &Messages, ttl: Option<Duration>) -> Result<Counts>;
    /// Removes the oldest messages.
    async fn trim(&self, key: &str, keep: Keep) -> Result<Counts>;
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
    /// Keys of memories that start with `prefix`, page by page.
    async fn list(&self, prefix: &str, cursor: Option<&str>, max: u32) -> Result<KeyPage>;
    /// Answers when the backend can read.
    async fn health(&self) -> Result<HealthStatus>;
    /// How much there is.
    async fn stats(&self) -> Result<Statistics>;
    /// Removes up to `max` things that have expired; answers how many. The runtime calls it in the background.
    async fn sweep(&self, max: u32) -> Result<u32>;
    /// Everything, page by page.
    async fn dump(&self, cursor: Option<&str>, max: u32) -> Result<MemoryPage>;
    /// Writes a page of a dump.
    async fn load(&self, memories: &[DumpedMemory], messages: &Messages) -> Result<()>;
}
