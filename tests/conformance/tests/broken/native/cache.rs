//! The role `cache`.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use compozy_runtime::stores::{
    Assignment, Cache, Condition, DumpPage, Dumped, Entry, Found, HealthStatus, KeyPage, Lifetime, Result, Statistics,
    StoreError, Values,
};

use super::{Fault, Native, check_batch, check_key, check_page, check_write_batch, cursor, cursor_after};
use super::{lifetime, lock, push, slice};

#[derive(Debug, Clone)]
struct Slot {
    value: Vec<u8>,
    version: u64,
    expires: Option<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Slots {
    map: BTreeMap<String, Slot>,
    versions: u64,
}

impl Slots {
    fn live(&self, key: &str, now: u64) -> Option<&Slot> {
        self.map.get(key).filter(|slot| slot.expires.is_none_or(|expires| expires > now))
    }

    fn keys(&self, now: u64) -> impl Iterator<Item = &String> {
        self.map.keys().filter(move |key| self.live(key, now).is_some())
    }

    fn put(&mut self, key: &str, value: &[u8], expires: Option<u64>, fault: Fault) -> u64 {
        self.versions += 1;
        let mut version = self.versions;
        if fault == Fault::VersionsBeginAgain {
            version = self.map.get(key).map_or(1, |slot| slot.version + 1);
        }
        self.map.insert(key.to_owned(), Slot { value: value.to_vec(), version, expires });
        version
    }
}

impl Native {
    fn name(&self, key: &str) -> Result<String> {
        check_key(key)?;
        Ok(if self.has(Fault::KeysWithoutCase) { key.to_lowercase() } else { key.to_owned() })
    }
}

#[async_trait]
impl Cache for Native {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        let key = self.name(key)?;
        let slots = lock(&self.cache);
        let slot = slots.live(&key, self.now()).map(|slot| Entry { value: slot.value.clone(), version: slot.version });
        if self.has(Fault::MissingIsEmpty) {
            return Ok(slot.or(Some(Entry { value: Vec::new(), version: 0 })));
        }
        Ok(slot)
    }

    async fn get_many(&self, keys: &[String]) -> Result<Values> {
        check_batch(keys.len())?;
        let slots = lock(&self.cache);
        let (mut found, mut bytes) = (Vec::new(), Vec::new());
        for key in keys {
            let slot = slots.live(&self.name(key)?, self.now());
            found.push(slot.map(|slot| Found { span: push(&mut bytes, &slot.value), version: slot.version }));
        }
        Ok(Values { found, bytes })
    }

    async fn set(&self, key: &str, value: &[u8], ttl: Option<Duration>, condition: Condition) -> Result<Option<u64>> {
        let key = self.name(key)?;
        self.check_value(value.len())?;
        let expires = self.expires(ttl)?;
        let mut slots = lock(&self.cache);
        let found = slots.live(&key, self.now());
        let holds = match condition {
            Condition::Always => true,
            Condition::IfAbsent => found.is_none(),
            Condition::IfVersion(_) if self.has(Fault::CasDoesNotCompare) => found.is_some(),
            Condition::IfVersion(version) => found.is_some_and(|slot| slot.version == version),
        };
        Ok(holds.then(|| slots.put(&key, value, expires, self.fault)))
    }

    async fn set_many(&self, entries: &[Assignment], bytes: &[u8], ttl: Option<Duration>) -> Result<()> {
        check_write_batch(entries.len())?;
        let expires = self.expires(ttl)?;
        let mut writes: Vec<(String, &[u8])> = Vec::new();
        for entry in entries {
            let value = slice(bytes, entry.value)?;
            let key = self.name(&entry.key)?;
            self.check_value(value.len())?;
            if self.has(Fault::SetManyNotAtomic) {
                lock(&self.cache).put(&key, value, expires, self.fault);
                super::pause().await;
                continue;
            }
            let twice = writes.iter().any(|(other, _)| *other == key);
            if !(twice && self.has(Fault::SetManyKeepsFirst)) {
                writes.push((key, value));
            }
        }
        let mut slots = lock(&self.cache);
        for (key, value) in writes {
            slots.put(&key, value, expires, self.fault);
        }
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        let key = self.name(key)?;
        let mut slots = lock(&self.cache);
        let there = slots.live(&key, self.now()).is_some();
        slots.map.remove(&key);
        Ok(there)
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        let now = if self.has(Fault::ExistsCountsExpired) { 0 } else { self.now() };
        Ok(lock(&self.cache).live(&self.name(key)?, now).is_some())
    }

    async fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool> {
        let key = self.name(key)?;
        let expires = self.expires(ttl)?;
        let mut slots = lock(&self.cache);
        if slots.live(&key, self.now()).is_none() {
            return Ok(false);
        }
        Ok(slots.map.get_mut(&key).map(|slot| slot.expires = expires).is_some())
    }

    async fn ttl(&self, key: &str) -> Result<Lifetime> {
        let slots = lock(&self.cache);
        Ok(lifetime(self.now(), slots.live(&self.name(key)?, self.now()).map(|slot| slot.expires)))
    }

    async fn increment(&self, key: &str, delta: i64, ttl: Option<Duration>) -> Result<i64> {
        let key = self.name(key)?;
        let expires = self.expires(ttl)?;
        let found = lock(&self.cache).live(&key, self.now()).cloned();
        let number = found.as_ref().map_or(Ok(0), |slot| self.number(&slot.value))?;
        let sum = if self.has(Fault::IncrementWraps) {
            number.wrapping_add(delta)
        } else {
            number.checked_add(delta).ok_or_else(|| StoreError::Overflow(format!("{number} + {delta}")))?
        };
        let kept = found.map_or(expires, |slot| slot.expires);
        let expires = if self.has(Fault::IncrementTakesTtl) { expires } else { kept };
        if self.has(Fault::LostUpdate) {
            super::pause().await;
            lock(&self.cache).put(&key, sum.to_string().as_bytes(), expires, self.fault);
            return Ok(sum);
        }
        // Looked at and written in one step.
        let mut slots = lock(&self.cache);
        let found = slots.live(&key, self.now());
        let now_there = found.map_or(Ok(0), |slot| self.number(&slot.value))?;
        let kept =
            found.map_or(expires, |slot| if self.has(Fault::IncrementTakesTtl) { expires } else { slot.expires });
        let sum = if now_there == number {
            sum
        } else {
            now_there.checked_add(delta).ok_or_else(|| StoreError::Overflow(format!("{now_there} + {delta}")))?
        };
        slots.put(&key, sum.to_string().as_bytes(), kept, self.fault);
        Ok(sum)
    }

    async fn scan(&self, prefix: &str, cursor: Option<&str>, max: u32) -> Result<KeyPage> {
        let slots = lock(&self.cache);
        self.key_page(slots.keys(self.now()), prefix, cursor, max)
    }

    async fn health(&self) -> Result<HealthStatus> {
        Ok(HealthStatus { detail: "in memory".to_owned() })
    }

    async fn stats(&self) -> Result<Statistics> {
        let entries = Some(lock(&self.cache).map.len() as u64);
        Ok(Statistics { entries, bytes: None, details: Vec::new() })
    }

    async fn sweep(&self, max: u32) -> Result<u32> {
        check_page(max)?;
        let now = if self.has(Fault::SweepTakesAll) { u64::MAX } else { self.now() };
        let mut slots = lock(&self.cache);
        let old = slots.map.keys().filter(|key| slots.live(key, now).is_none()).take(max as usize);
        let old: Vec<String> = old.cloned().collect();
        for key in &old {
            drop(slots.map.remove(key));
        }
        Ok(old.len() as u32)
    }

    async fn dump(&self, after: Option<&str>, max: u32) -> Result<DumpPage> {
        check_page(max)?;
        let after = cursor_after("", after)?;
        let slots = lock(&self.cache);
        let now = self.now();
        let mut keys = slots.keys(now).filter(|key| after.is_none_or(|after| key.as_str() > after)).peekable();
        let (mut entries, mut bytes) = (Vec::new(), Vec::new());
        for key in keys.by_ref().take(max as usize) {
            let slot = &slots.map[key];
            let ttl_ms = slot.expires.map(|expires| expires - now);
            let value = push(&mut bytes, &slot.value);
            entries.push(Dumped { key: key.clone(), value, version: slot.version, ttl_ms });
        }
        let next = keys.peek().and_then(|_| entries.last()).map(|last| cursor("", &last.key));
        Ok(DumpPage { entries, bytes, next })
    }

    async fn load(&self, entries: &[Dumped], bytes: &[u8]) -> Result<()> {
        check_batch(entries.len())?;
        let mut slots = lock(&self.cache);
        for entry in entries {
            check_key(&entry.key)?;
            let value = slice(bytes, entry.value)?.to_vec();
            let ttl = entry.ttl_ms.filter(|_| !self.has(Fault::LoadDropsTtl));
            let expires = self.expires(ttl.map(Duration::from_millis))?;
            slots.versions = slots.versions.max(entry.version);
            let version = if self.has(Fault::LoadGivesNewVersions) { entry.version + 1 } else { entry.version };
            slots.map.insert(entry.key.clone(), Slot { value, version, expires });
        }
        Ok(())
    }
}

impl Native {
    fn number(&self, value: &[u8]) -> Result<i64> {
        let text = std::str::from_utf8(value).map_err(|_| StoreError::WrongType("not a number".to_owned()))?;
        let text = if self.has(Fault::IncrementTrims) { text.trim() } else { text };
        let number = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
        number.ok_or_else(|| StoreError::WrongType(format!("{text:?} is not a number")))
    }
}
