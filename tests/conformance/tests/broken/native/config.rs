//! The role `config-store`.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use compozy_runtime::stores::{
    ConfigPage, ConfigStore, DumpedConfig, HealthStatus, KeyPage, Namespace, Result, Statistics,
};

use super::{Fault, Native, check_batch, check_key, check_page, cursor, cursor_after, lock, push, slice};

#[derive(Debug, Clone)]
pub(crate) struct Slot {
    value: Vec<u8>,
    ttl: Option<Duration>,
    expires: Option<u64>,
}

/// By namespace and id.
pub(crate) type Slots = BTreeMap<(u8, String), Slot>;

impl Native {
    fn place(&self, namespace: Namespace, id: &str) -> Result<(u8, String)> {
        check_key(id)?;
        Ok((self.space(namespace), id.to_owned()))
    }

    fn space(&self, namespace: Namespace) -> u8 {
        if self.has(Fault::NamespacesMeet) { 0 } else { namespace as u8 }
    }

    fn lives(&self, slot: &Slot) -> bool {
        slot.expires.is_none_or(|expires| expires > self.now())
    }
}

#[async_trait]
impl ConfigStore for Native {
    async fn save(&self, namespace: Namespace, id: &str, value: &[u8], ttl: Option<Duration>) -> Result<()> {
        let place = self.place(namespace, id)?;
        self.check_value(value.len())?;
        let expires = self.expires(ttl)?;
        lock(&self.config).insert(place, Slot { value: value.to_vec(), ttl, expires });
        Ok(())
    }

    async fn get(&self, namespace: Namespace, id: &str) -> Result<Option<Vec<u8>>> {
        let place = self.place(namespace, id)?;
        if self.has(Fault::StaleRead) {
            let value = lock(&self.config).get(&place).filter(|slot| self.lives(slot)).map(|slot| slot.value.clone());
            super::pause().await;
            // Writes back what it saw, with its full time to live.
            if let Some(value) = &value {
                self.save(namespace, id, value, Some(Duration::from_hours(24))).await?;
            }
            return Ok(value);
        }
        let mut slots = lock(&self.config);
        let Some(slot) = slots.get_mut(&place).filter(|slot| self.lives(slot)) else {
            return Ok(self.has(Fault::MissingIsEmpty).then(Vec::new));
        };
        if !self.has(Fault::GetLeavesTtl) {
            slot.expires = self.expires(slot.ttl)?;
        }
        Ok(Some(slot.value.clone()))
    }

    async fn peek(&self, namespace: Namespace, id: &str) -> Result<Option<Vec<u8>>> {
        if self.has(Fault::PeekResetsTtl) {
            return self.get(namespace, id).await;
        }
        let slots = lock(&self.config);
        let slot = slots.get(&self.place(namespace, id)?).filter(|slot| self.lives(slot));
        Ok(slot.map(|slot| slot.value.clone()))
    }

    async fn delete(&self, namespace: Namespace, id: &str) -> Result<bool> {
        let place = self.place(namespace, id)?;
        Ok(lock(&self.config).remove(&place).is_some_and(|slot| self.lives(&slot)))
    }

    async fn list(&self, namespace: Namespace, prefix: &str, cursor: Option<&str>, max: u32) -> Result<KeyPage> {
        let slots = lock(&self.config);
        let space = self.space(namespace);
        let live = slots.iter().filter(|((place, _), slot)| *place == space && self.lives(slot));
        self.key_page(live.map(|((_, id), _)| id), prefix, cursor, max)
    }

    async fn health(&self) -> Result<HealthStatus> {
        Ok(HealthStatus { detail: "in memory".to_owned() })
    }

    async fn stats(&self) -> Result<Statistics> {
        Ok(Statistics { entries: Some(lock(&self.config).len() as u64), bytes: None, details: Vec::new() })
    }

    async fn sweep(&self, max: u32) -> Result<u32> {
        check_page(max)?;
        let mut slots = lock(&self.config);
        let old = slots.iter().filter(|(_, slot)| !self.lives(slot)).map(|(place, _)| place.clone());
        let old: Vec<_> = old.take(max as usize).collect();
        for place in &old {
            drop(slots.remove(place));
        }
        Ok(old.len() as u32)
    }

    async fn dump(&self, namespace: Namespace, after: Option<&str>, max: u32) -> Result<ConfigPage> {
        check_page(max)?;
        let after = cursor_after("", after)?;
        let (slots, now, space) = (lock(&self.config), self.now(), self.space(namespace));
        let live = slots.iter().filter(|((place, _), slot)| *place == space && self.lives(slot));
        let mut live = live.filter(|((_, id), _)| after.is_none_or(|after| id.as_str() > after)).peekable();
        let (mut entries, mut bytes) = (Vec::new(), Vec::new());
        for ((_, id), slot) in live.by_ref().take(max as usize) {
            let ttl_ms = slot.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
            let remaining_ms = slot.expires.map(|expires| expires - now);
            let value = push(&mut bytes, &slot.value);
            entries.push(DumpedConfig { id: id.clone(), value, ttl_ms, remaining_ms });
        }
        let next = live.peek().and_then(|_| entries.last()).map(|last| cursor("", &last.id));
        Ok(ConfigPage { entries, bytes, next })
    }

    async fn load(&self, namespace: Namespace, entries: &[DumpedConfig], bytes: &[u8]) -> Result<()> {
        check_batch(entries.len())?;
        for entry in entries {
            let place = self.place(namespace, &entry.id)?;
            let value = slice(bytes, entry.value)?.to_vec();
            let remaining = if self.has(Fault::LoadBeginsTtlAgain) { entry.ttl_ms } else { entry.remaining_ms };
            let expires = self.expires(remaining.map(Duration::from_millis))?;
            let ttl = entry.ttl_ms.map(Duration::from_millis);
            lock(&self.config).insert(place, Slot { value, ttl, expires });
        }
        Ok(())
    }
}
