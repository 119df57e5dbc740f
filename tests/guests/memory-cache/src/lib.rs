//! The plugin `memory-cache`: the role `cache` on a map inside of the instance.
//!
//! It imports nothing but a clock, so a call of it costs what a crossing costs. `concurrency = 1` in its `plugin.toml`
//! keeps the pool at one instance, and so the map in one place.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use compozy_sdk::store::{
    Cache, Condition, DumpPage, Dumped, Entry, Found, HealthStatus, KeyPage, Lifetime, StoreError, Values, append,
    slice,
};

#[derive(Clone)]
struct Slot {
    value: Vec<u8>,
    version: u64,
    expires_ms: Option<u64>,
}

#[derive(Default)]
struct Map {
    slots: BTreeMap<String, Slot>,
    versions: u64,
}

thread_local! {
    static MAP: RefCell<Map> = RefCell::default();
}

struct MemoryCache;

compozy_sdk::store_plugin!(MemoryCache: cache);

const KEY_BYTES_MAX: usize = 512;
const PAGE_MAX: u32 = 1_000;

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Runs with the map after everything that has expired was taken out of it.
fn with_map<T>(work: impl FnOnce(&mut Map, u64) -> T) -> T {
    MAP.with_borrow_mut(|map| {
        let now = now_ms();
        map.slots.retain(|_, slot| slot.expires_ms.is_none_or(|expires| expires > now));
        work(map, now)
    })
}

fn check_key(key: &str) -> Result<(), StoreError> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(());
    }
    Err(StoreError::InvalidArgument(format!("a key has 1 to {KEY_BYTES_MAX} bytes, this one has {}", key.len())))
}

fn expires(now: u64, ttl_ms: Option<u64>) -> Result<Option<u64>, StoreError> {
    match ttl_ms {
        Some(0) => Err(StoreError::InvalidArgument("a time to live is at least 1 ms".to_owned())),
        ttl => Ok(ttl.map(|ttl| now.saturating_add(ttl))),
    }
}

impl Map {
    fn write(&mut self, key: String, value: Vec<u8>, expires_ms: Option<u64>) -> u64 {
        self.versions += 1;
        let version = self.versions;
        self.slots.insert(key, Slot { value, version, expires_ms });
        version
    }

    /// The keys of a page, and where the next one begins.
    fn page(
        &self,
        prefix: &str,
        cursor: Option<&String>,
        max: u32,
    ) -> Result<(Vec<&String>, Option<String>), StoreError> {
        if !(1..=PAGE_MAX).contains(&max) {
            return Err(StoreError::InvalidArgument(format!("`max` is 1 to {PAGE_MAX}, this one is {max}")));
        }
        let after = |key: &&String| cursor.is_none_or(|cursor| *key > cursor);
        let mut keys: Vec<&String> =
            self.slots.keys().filter(|key| key.starts_with(prefix)).filter(after).take(max as usize + 1).collect();
        let more = keys.len() > max as usize;
        keys.truncate(max as usize);
        let next = more.then(|| keys.last().map(|key| (*key).clone())).flatten();
        Ok((keys, next))
    }
}

impl Cache for MemoryCache {
    fn get(key: String) -> Result<Option<Entry>, StoreError> {
        check_key(&key)?;
        Ok(with_map(|map, _| {
            map.slots.get(&key).map(|slot| Entry { value: slot.value.clone(), version: slot.version })
        }))
    }

    fn get_many(keys: Vec<String>) -> Result<Values, StoreError> {
        keys.iter().try_for_each(|key| check_key(key))?;
        with_map(|map, _| {
            let mut bytes = Vec::new();
            let mut find = |key: &String| match map.slots.get(key) {
                Some(slot) => Ok(Some(Found { span: append(&mut bytes, &slot.value)?, version: slot.version })),
                None => Ok(None),
            };
            let found = keys.iter().map(&mut find).collect::<Result<_, StoreError>>()?;
            Ok(Values { found, bytes })
        })
    }

    fn set(key: String, value: Vec<u8>, ttl_ms: Option<u64>, condition: Condition) -> Result<Option<u64>, StoreError> {
        check_key(&key)?;
        with_map(|map, now| {
            let expires = expires(now, ttl_ms)?;
            let holds = match (condition, map.slots.get(&key)) {
                (Condition::Always, _) | (Condition::IfAbsent, None) => true,
                (Condition::IfVersion(version), Some(slot)) => slot.version == version,
                (Condition::IfAbsent, Some(_)) | (Condition::IfVersion(_), None) => false,
            };
            Ok(holds.then(|| map.write(key, value, expires)))
        })
    }

    fn delete(key: String) -> Result<bool, StoreError> {
        check_key(&key)?;
        Ok(with_map(|map, _| map.slots.remove(&key).is_some()))
    }

    fn exists(key: String) -> Result<bool, StoreError> {
        check_key(&key)?;
        Ok(with_map(|map, _| map.slots.contains_key(&key)))
    }

    fn expire(key: String, ttl_ms: Option<u64>) -> Result<bool, StoreError> {
        check_key(&key)?;
        with_map(|map, now| {
            let expires = expires(now, ttl_ms)?;
            let slot = map.slots.get_mut(&key);
            Ok(slot.map(|slot| slot.expires_ms = expires).is_some())
        })
    }

    fn ttl(key: String) -> Result<Lifetime, StoreError> {
        check_key(&key)?;
        Ok(with_map(|map, now| match map.slots.get(&key) {
            None => Lifetime::Missing,
            Some(Slot { expires_ms: None, .. }) => Lifetime::Unlimited,
            Some(Slot { expires_ms: Some(expires), .. }) => Lifetime::RemainingMs(expires - now),
        }))
    }

    fn increment(key: String, delta: i64, ttl_ms: Option<u64>) -> Result<i64, StoreError> {
        check_key(&key)?;
        with_map(|map, now| {
            let (number, expires) = match map.slots.get(&key) {
                None => (0, expires(now, ttl_ms)?),
                Some(slot) => {
                    let text = std::str::from_utf8(&slot.value).ok().and_then(|text| text.parse::<i64>().ok());
                    let number =
                        text.ok_or_else(|| StoreError::WrongType(format!("the value of `{key}` is no integer")))?;
                    (number, slot.expires_ms)
                }
            };
            let sum = number.checked_add(delta).ok_or_else(|| StoreError::Overflow(format!("{number} + {delta}")))?;
            map.write(key, sum.to_string().into_bytes(), expires);
            Ok(sum)
        })
    }

    fn scan(prefix: String, cursor: Option<String>, max: u32) -> Result<KeyPage, StoreError> {
        with_map(|map, _| {
            let (keys, next) = map.page(&prefix, cursor.as_ref(), max)?;
            Ok(KeyPage { keys: keys.into_iter().cloned().collect(), next })
        })
    }

    fn health() -> Result<HealthStatus, StoreError> {
        Ok(HealthStatus { detail: with_map(|map, _| format!("{} keys in memory", map.slots.len())) })
    }

    fn dump(cursor: Option<String>, max: u32) -> Result<DumpPage, StoreError> {
        with_map(|map, now| {
            let (keys, next) = map.page("", cursor.as_ref(), max)?;
            let mut bytes = Vec::new();
            let mut entries = Vec::new();
            for key in keys {
                let slot = &map.slots[key];
                let value = append(&mut bytes, &slot.value)?;
                let ttl_ms = slot.expires_ms.map(|expires| expires - now);
                entries.push(Dumped { key: key.clone(), value, version: slot.version, ttl_ms });
            }
            Ok(DumpPage { entries, bytes, next })
        })
    }

    fn load(entries: Vec<Dumped>, bytes: Vec<u8>) -> Result<(), StoreError> {
        with_map(|map, now| {
            let slot = |entry: &Dumped| {
                check_key(&entry.key)?;
                let value = slice(&bytes, entry.value)?.to_vec();
                Ok(Slot { value, version: entry.version, expires_ms: expires(now, entry.ttl_ms)? })
            };
            // All is checked before anything is written.
            let slots = entries.iter().map(slot).collect::<Result<Vec<_>, StoreError>>()?;
            for (entry, slot) in entries.into_iter().zip(slots) {
                map.versions = map.versions.max(slot.version);
                map.slots.insert(entry.key, slot);
            }
            Ok(())
        })
    }
}
