//! A storage backend of a third party: the role `cache` in the memory of one instance. It needs no capability.
//!
//! It brings a map and says how much fits into it; the SDK's [`CacheTable`] makes a cache of that, with the rules of `wit/store`.
//! What is this backend's own: all is lost when the host stops or a call is ended by a limit, and there is room for [`ROOM_BYTES`] only.

use std::cell::RefCell;
use std::collections::BTreeMap;

use compozy_sdk::store::table::{CacheTable, Slot};
use compozy_sdk::store::{Statistics, StoreError};

/// Keys and values of all entries together, in bytes.
const ROOM_BYTES: usize = 64 * 1024 * 1024;

/// The entries, and the bytes of their keys and values.
#[derive(Default)]
struct MemoryCache {
    slots: BTreeMap<String, Slot>,
    bytes: usize,
}

// One instance serves one call at a time, and `plugin.toml` asks for one instance: so this is the only map there is.
thread_local! {
    static CACHE: RefCell<MemoryCache> = RefCell::default();
}

compozy_sdk::store_plugin!(MemoryCache: cache);

impl CacheTable for MemoryCache {
    fn with<T>(operation: impl FnOnce(&mut Self) -> T) -> T {
        CACHE.with_borrow_mut(operation)
    }

    fn find(&self, key: &str) -> Option<&Slot> {
        self.slots.get(key)
    }

    fn starting_at<'a>(&'a self, key: &str) -> impl Iterator<Item = (&'a str, &'a Slot)> {
        self.slots.range(key.to_owned()..).map(|(key, slot)| (key.as_str(), slot))
    }

    fn put(&mut self, key: String, slot: Slot) {
        self.remove(&key);
        self.bytes += key.len() + slot.value.len();
        self.slots.insert(key, slot);
    }

    fn remove(&mut self, key: &str) -> Option<Slot> {
        let slot = self.slots.remove(key)?;
        self.bytes -= key.len() + slot.value.len();
        Some(slot)
    }

    /// `busy` and not `too-large`, because deleting or expiry can make room.
    fn room(&self, more: usize) -> Result<(), StoreError> {
        let used = self.bytes.saturating_add(more);
        if used <= ROOM_BYTES {
            return Ok(());
        }
        Err(StoreError::Busy(format!(
            "the cache is full: {used} of {ROOM_BYTES} bytes; delete keys or let some expire"
        )))
    }

    fn describe(&self) -> String {
        format!("{} keys in memory", self.slots.len())
    }

    fn statistics(&self) -> Statistics {
        let room = ("room_bytes".to_owned(), ROOM_BYTES.to_string());
        Statistics { entries: Some(self.slots.len() as u64), bytes: Some(self.bytes as u64), details: vec![room] }
    }
}
