//! A task's view of the host's stores (capability `stores`).
//!
//! The host puts every key under the plugin's own name, so plugins cannot see each other's keys. A time to live of
//! `None` means: until it is deleted; it is counted in whole milliseconds, and less than one counts as one.
//!
//! ```no_run
//! # use std::time::Duration;
//! # fn main() -> Result<(), compozy_sdk::TaskError> {
//! use compozy_sdk::stores::cache;
//!
//! cache::set("forecast/Lisbon", b"sunny", Some(Duration::from_secs(600)))?;
//! let forecast = cache::get("forecast/Lisbon")?.map(|entry| entry.value);
//! # Ok(())
//! # }
//! ```

use std::time::Duration;

use crate::bindings::imports::compozy::host::stores as host;
pub use crate::bindings::imports::compozy::types::stores::{Condition, Counts, Entry, Keep, Lifetime, StoreError};

/// The time to live in the contract's unit.
fn ms(ttl: Option<Duration>) -> Option<u64> {
    ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1))
}

/// Runs `call` inside the host; elsewhere there is nobody to answer.
fn call<T>(call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    if crate::IN_HOST { call() } else { Err(StoreError::Denied(crate::outside("compozy:host/stores"))) }
}

/// Values by key, with times to live, versions and counters.
pub mod cache {
    use super::{Condition, Duration, Entry, Lifetime, StoreError, call, host, ms};

    /// The value of a key, `None` when it is missing or expired.
    ///
    /// # Errors
    ///
    /// As [`StoreError`] tells; this holds for all functions of the module.
    pub fn get(key: &str) -> Result<Option<Entry>, StoreError> {
        call(|| host::cache_get(key))
    }

    /// Writes a value and its time to live; answers the new version.
    pub fn set(key: &str, value: &[u8], ttl: Option<Duration>) -> Result<u64, StoreError> {
        set_if(key, value, ttl, Condition::Always)?
            .ok_or_else(|| StoreError::Internal("the cache wrote nothing though no condition was given".into()))
    }

    /// Writes when `condition` holds; answers the new version, `None` when nothing was written.
    pub fn set_if(
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        condition: Condition,
    ) -> Result<Option<u64>, StoreError> {
        call(|| host::cache_set(key, value, ms(ttl), condition))
    }

    /// True when the key existed.
    pub fn delete(key: &str) -> Result<bool, StoreError> {
        call(|| host::cache_delete(key))
    }

    /// Adds to a decimal integer and answers the sum. A missing key counts as 0 and gets `ttl`; an existing one keeps its own.
    pub fn increment(key: &str, delta: i64, ttl: Option<Duration>) -> Result<i64, StoreError> {
        call(|| host::cache_increment(key, delta, ms(ttl)))
    }

    /// The time to live that is left.
    pub fn ttl(key: &str) -> Result<Lifetime, StoreError> {
        call(|| host::cache_ttl(key))
    }
}

/// Values by id, whose time to live begins anew with each read.
pub mod config {
    use super::{Duration, StoreError, call, host, ms};

    /// Writes a value and its time to live.
    ///
    /// # Errors
    ///
    /// As [`StoreError`] tells; this holds for all functions of the module.
    pub fn save(id: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), StoreError> {
        call(|| host::config_save(id, value, ms(ttl)))
    }

    /// The value, `None` when it is missing or expired. Its time to live begins anew.
    pub fn get(id: &str) -> Result<Option<Vec<u8>>, StoreError> {
        call(|| host::config_get(id))
    }

    /// True when it existed.
    pub fn delete(id: &str) -> Result<bool, StoreError> {
        call(|| host::config_delete(id))
    }
}

/// Conversations: ordered messages with token counts.
pub mod memory {
    use super::{Counts, Duration, Keep, StoreError, call, host, ms};
    use crate::bindings::imports::compozy::types::stores as wit;
    use crate::store::{append as append_flat, slice};

    /// One message of a memory.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Message {
        /// The content, usually JSON.
        pub content: Vec<u8>,
        /// Its cost in tokens, counted by whoever appends it.
        pub tokens: u32,
    }

    /// Appends 1 to 1,000 messages, then trims to `keep` when given, then sets the time to live when given: one step.
    ///
    /// # Errors
    ///
    /// As [`StoreError`] tells; this holds for all functions of the module.
    pub fn append(
        key: &str,
        messages: &[Message],
        ttl: Option<Duration>,
        keep: Option<Keep>,
    ) -> Result<Counts, StoreError> {
        let mut flat = wit::Messages { list: Vec::with_capacity(messages.len()), bytes: Vec::new() };
        for Message { content, tokens } in messages {
            let span = append_flat(&mut flat.bytes, content)?;
            flat.list.push(wit::Message { span, tokens: *tokens });
        }
        call(|| host::memory_append(key, &flat, ms(ttl), keep))
    }

    /// `limit` (1 to 1,000) messages from the `offset`-th on, oldest first, and how many there are in all.
    pub fn page(key: &str, offset: u64, limit: u32) -> Result<(Vec<Message>, u64), StoreError> {
        let page = call(|| host::memory_page(key, offset, limit))?;
        let message = |wit::Message { span, tokens }: &wit::Message| {
            slice(&page.messages.bytes, *span).map(|content| Message { content: content.to_vec(), tokens: *tokens })
        };
        Ok((page.messages.list.iter().map(message).collect::<Result<_, _>>()?, page.total))
    }

    /// Messages and tokens; zero and zero when there are none.
    pub fn count(key: &str) -> Result<Counts, StoreError> {
        call(|| host::memory_count(key))
    }

    /// Removes all messages. True when there were any.
    pub fn clear(key: &str) -> Result<bool, StoreError> {
        call(|| host::memory_clear(key))
    }
}
