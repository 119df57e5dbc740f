//! A storage backend of a third party: the role `cache` in the memory of one instance. It needs no capability.
//!
//! The rules are those of `wit/store`. What is this backend's own: all is lost when the host stops or a call is ended by a limit, and
//! there is room for [`ROOM_BYTES`] only.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use compozy_sdk::store::{
    Assignment, Cache, Condition, DumpPage, Dumped, Entry, Found, HealthStatus, KeyPage, Lifetime, Statistics,
    StoreError, Values, append, slice,
};

mod check;

use check::{batch, cursor, decimal, key_bytes, not_zero, page_size, value_bytes};

/// Keys and values of all entries together, in bytes.
const ROOM_BYTES: usize = 64 * 1024 * 1024;
/// Values of one page of a dump, in bytes; a single larger one travels alone.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

type Result<T> = std::result::Result<T, StoreError>;

struct Slot {
    value: Vec<u8>,
    version: u64,
    expires_ms: Option<u64>,
}

#[derive(Default)]
struct Map {
    slots: BTreeMap<String, Slot>,
    bytes: usize,
    /// The greatest version so far. It begins with the time, so that it is not one that the map had before a restart.
    version: u64,
}

thread_local! {
    static MAP: RefCell<Map> = RefCell::default();
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn expires(ttl_ms: Option<u64>) -> Option<u64> {
    ttl_ms.map(|ttl| now_ms().saturating_add(ttl))
}

impl Slot {
    fn lives(&self, now: u64) -> bool {
        self.expires_ms.is_none_or(|at| at > now)
    }

    fn left_ms(&self, now: u64) -> Option<u64> {
        self.expires_ms.map(|at| at.saturating_sub(now).max(1))
    }
}

impl Map {
    fn live(&self, key: &str) -> Option<&Slot> {
        self.slots.get(key).filter(|slot| slot.lives(now_ms()))
    }

    /// The live entries after the cursor of a `call` that begin with `prefix`.
    fn after(&self, call: char, prefix: &str, place: Option<&str>) -> Result<impl Iterator<Item = (&String, &Slot)>> {
        let (now, last) = (now_ms(), cursor(call, prefix, place)?);
        let from = last.unwrap_or(prefix).to_owned();
        let (skip, prefix) = (last.map(str::to_owned), prefix.to_owned());
        let inside = self.slots.range(from..).take_while(move |(key, _)| key.starts_with(&prefix));
        Ok(inside.filter(move |(key, slot)| slot.lives(now) && Some(*key) != skip.as_ref()))
    }

    fn remove(&mut self, key: &str) -> Option<Slot> {
        let slot = self.slots.remove(key)?;
        self.bytes -= key.len() + slot.value.len();
        Some(slot)
    }

    fn next_version(&mut self) -> u64 {
        self.version = self.version.wrapping_add(1).max(now_ms() << 20);
        self.version
    }

    /// Whether there is room for this many bytes more. `busy`, because removing or expiry can make it.
    fn room(&self, more: usize) -> Result<()> {
        let used = self.bytes.saturating_add(more);
        if used <= ROOM_BYTES {
            return Ok(());
        }
        Err(StoreError::Busy(format!(
            "the cache is full: {used} of {ROOM_BYTES} bytes; delete keys or let some expire"
        )))
    }

    fn write(&mut self, key: String, value: Vec<u8>, version: u64, expires_ms: Option<u64>) {
        self.remove(&key);
        self.bytes += key.len() + value.len();
        self.slots.insert(key, Slot { value, version, expires_ms });
    }
}

struct MemoryCache;

compozy_sdk::store_plugin!(MemoryCache: cache);

impl Cache for MemoryCache {
    fn get(key: String) -> Result<Option<Entry>> {
        key_bytes(&key)?;
        let entry = |slot: &Slot| Entry { value: slot.value.clone(), version: slot.version };
        Ok(MAP.with_borrow(|map| map.live(&key).map(entry)))
    }

    fn get_many(keys: Vec<String>) -> Result<Values> {
        batch(keys.len(), 0)?;
        keys.iter().try_for_each(|key| key_bytes(key))?;
        let (mut found, mut bytes) = (Vec::with_capacity(keys.len()), Vec::new());
        MAP.with_borrow(|map| {
            for slot in keys.iter().map(|key| map.live(key)) {
                found.push(match slot {
                    Some(slot) => Some(Found { span: append(&mut bytes, &slot.value)?, version: slot.version }),
                    None => None,
                });
            }
            Ok(Values { found, bytes })
        })
    }

    fn set(key: String, value: Vec<u8>, ttl_ms: Option<u64>, condition: Condition) -> Result<Option<u64>> {
        key_bytes(&key)?;
        value_bytes(value.len())?;
        not_zero(ttl_ms)?;
        MAP.with_borrow_mut(|map| {
            let found = map.live(&key).map(|slot| slot.version);
            let holds = match condition {
                Condition::Always => true,
                Condition::IfAbsent => found.is_none(),
                Condition::IfVersion(version) => found == Some(version),
            };
            if !holds {
                return Ok(None);
            }
            map.room(key.len() + value.len())?;
            let version = map.next_version();
            map.write(key, value, version, expires(ttl_ms));
            Ok(Some(version))
        })
    }

    fn set_many(entries: Vec<Assignment>, bytes: Vec<u8>, ttl_ms: Option<u64>) -> Result<()> {
        batch(entries.len(), 1)?;
        not_zero(ttl_ms)?;
        let mut more = 0;
        for entry in &entries {
            key_bytes(&entry.key)?;
            value_bytes(slice(&bytes, entry.value)?.len())?;
            more += entry.key.len() + entry.value.length as usize;
        }
        MAP.with_borrow_mut(|map| {
            // All is checked before anything is written.
            map.room(more)?;
            for Assignment { key, value } in entries {
                let (value, version) = (slice(&bytes, value)?.to_vec(), map.next_version());
                map.write(key, value, version, expires(ttl_ms));
            }
            Ok(())
        })
    }

    fn delete(key: String) -> Result<bool> {
        key_bytes(&key)?;
        Ok(MAP.with_borrow_mut(|map| map.remove(&key)).is_some_and(|slot| slot.lives(now_ms())))
    }

    fn exists(key: String) -> Result<bool> {
        key_bytes(&key)?;
        Ok(MAP.with_borrow(|map| map.live(&key).is_some()))
    }

    fn expire(key: String, ttl_ms: Option<u64>) -> Result<bool> {
        key_bytes(&key)?;
        not_zero(ttl_ms)?;
        MAP.with_borrow_mut(|map| {
            let slot = map.slots.get_mut(&key).filter(|slot| slot.lives(now_ms()));
            Ok(slot.map(|slot| slot.expires_ms = expires(ttl_ms)).is_some())
        })
    }

    fn ttl(key: String) -> Result<Lifetime> {
        key_bytes(&key)?;
        Ok(MAP.with_borrow(|map| match map.live(&key).map(|slot| slot.left_ms(now_ms())) {
            None => Lifetime::Missing,
            Some(None) => Lifetime::Unlimited,
            Some(Some(left)) => Lifetime::RemainingMs(left),
        }))
    }

    fn increment(key: String, delta: i64, ttl_ms: Option<u64>) -> Result<i64> {
        key_bytes(&key)?;
        not_zero(ttl_ms)?;
        MAP.with_borrow_mut(|map| {
            let (number, expires_ms) = match map.live(&key) {
                None => (0, expires(ttl_ms)),
                Some(slot) => (decimal(&key, &slot.value)?, slot.expires_ms),
            };
            let sum = number.checked_add(delta);
            let sum =
                sum.ok_or_else(|| StoreError::Overflow(format!("{number} + {delta} leaves 64 bits (key `{key}`)")))?;
            let (value, version) = (sum.to_string().into_bytes(), map.next_version());
            map.room(key.len() + value.len())?;
            map.write(key, value, version, expires_ms);
            Ok(sum)
        })
    }

    fn scan(prefix: String, cursor: Option<String>, max: u32) -> Result<KeyPage> {
        let max = page_size(max)?;
        MAP.with_borrow(|map| {
            let mut keys = Vec::new();
            for (key, _) in map.after('s', &prefix, cursor.as_deref())? {
                if keys.len() == max {
                    return Ok(KeyPage { next: keys.last().map(|last| format!("s{last}")), keys });
                }
                keys.push(key.clone());
            }
            Ok(KeyPage { keys, next: None })
        })
    }

    fn health() -> Result<HealthStatus> {
        Ok(HealthStatus { detail: MAP.with_borrow(|map| format!("{} keys in memory", map.slots.len())) })
    }

    fn stats() -> Result<Statistics> {
        let (entries, bytes) = MAP.with_borrow(|map| (map.slots.len() as u64, map.bytes as u64));
        let room = ("room_bytes".to_owned(), ROOM_BYTES.to_string());
        Ok(Statistics { entries: Some(entries), bytes: Some(bytes), details: vec![room] })
    }

    fn sweep(max: u32) -> Result<u32> {
        let (max, now) = (page_size(max)?, now_ms());
        MAP.with_borrow_mut(|map| {
            let dead = map.slots.iter().filter(|(_, slot)| !slot.lives(now)).take(max);
            let dead: Vec<String> = dead.map(|(key, _)| key.clone()).collect();
            Ok(dead.iter().filter_map(|key| map.remove(key)).count() as u32)
        })
    }

    fn dump(cursor: Option<String>, max: u32) -> Result<DumpPage> {
        let (max, now) = (page_size(max)?, now_ms());
        MAP.with_borrow(|map| {
            let (mut entries, mut bytes): (Vec<Dumped>, _) = (Vec::new(), Vec::new());
            for (key, slot) in map.after('d', "", cursor.as_deref())? {
                if let Some(last) = entries.last()
                    && (entries.len() == max || bytes.len() + slot.value.len() > PAGE_BYTES)
                {
                    return Ok(DumpPage { next: Some(format!("d{}", last.key)), entries, bytes });
                }
                let (value, ttl_ms) = (append(&mut bytes, &slot.value)?, slot.left_ms(now));
                entries.push(Dumped { key: key.clone(), value, version: slot.version, ttl_ms });
            }
            Ok(DumpPage { entries, bytes, next: None })
        })
    }

    fn load(entries: Vec<Dumped>, bytes: Vec<u8>) -> Result<()> {
        batch(entries.len(), 0)?;
        let mut more = 0;
        for entry in &entries {
            key_bytes(&entry.key)?;
            value_bytes(slice(&bytes, entry.value)?.len())?;
            not_zero(entry.ttl_ms)?;
            more += entry.key.len() + entry.value.length as usize;
        }
        MAP.with_borrow_mut(|map| {
            map.room(more)?;
            for Dumped { key, value, version, ttl_ms } in entries {
                map.version = map.version.max(version);
                map.write(key, slice(&bytes, value)?.to_vec(), version, expires(ttl_ms));
            }
            Ok(())
        })
    }
}
