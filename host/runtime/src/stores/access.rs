//! A task's view of the stores: `compozy:host/stores`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::Result as HostResult;

use super::{
    Cache, Condition, ConfigStore, Counts, Entry, Keep, Lifetime, MemoryStore, MessagePage, Messages, Namespace,
    StoreError, Stores,
};
use crate::bindings::compozy::host::stores::Host;
use crate::bindings::compozy::types::stores::StoreError as WitError;
use crate::capabilities::StoreKind;
use crate::identity::Identity;

/// Keys and ids, in bytes (`key_bytes` of `compozy:store`).
const KEY_BYTES_MAX: u64 = 512;

/// The part of a guest's state that serves `compozy:host/stores`.
///
/// A store operation is a call of another plugin on an instance of that plugin: it has budgets of its own, and the time that
/// it takes counts in the caller's `call_timeout_ms`. Instances that serve a store role themselves get no access,
/// so that a chain of calls is never longer than task, store.
#[derive(Debug)]
pub struct StoreAccess(Access);

#[derive(Debug)]
enum Access {
    /// Each function answers this sentence.
    Denied(String),
    Granted(Granted),
}

#[derive(Debug)]
struct Granted {
    stores: Arc<Stores>,
    plugin: Arc<Identity>,
    kinds: BTreeSet<StoreKind>,
}

impl StoreAccess {
    /// No access; `why` tells the plugin's author and the operator what to do.
    pub fn denied(why: impl Into<String>) -> Self {
        Self(Access::Denied(why.into()))
    }

    /// Access to the stores of these kinds, under the plugin's own name.
    pub fn granted(stores: Arc<Stores>, plugin: Arc<Identity>, kinds: BTreeSet<StoreKind>) -> Self {
        Self(Access::Granted(Granted { stores, plugin, kinds }))
    }

    fn granted_kind(&self, kind: StoreKind, name: &str) -> Result<&Granted, StoreError> {
        match &self.0 {
            Access::Denied(why) => Err(StoreError::Denied(why.clone())),
            Access::Granted(granted) if granted.kinds.contains(&kind) => Ok(granted),
            Access::Granted(granted) => Err(StoreError::Denied(format!(
                "plugin {} was not granted the store `{name}`; request it under [capabilities] in plugin.toml \
                 and grant it in the host's configuration",
                granted.plugin
            ))),
        }
    }

    fn cache(&self, key: &str) -> Result<(Arc<dyn Cache>, String), StoreError> {
        let granted = self.granted_kind(StoreKind::Cache, "cache")?;
        Ok((granted.stores.cache.clone().ok_or_else(|| unfilled("cache"))?, granted.own("key", key)?))
    }

    fn config(&self, id: &str) -> Result<(Arc<dyn ConfigStore>, String), StoreError> {
        let granted = self.granted_kind(StoreKind::Config, "config")?;
        Ok((granted.stores.config.clone().ok_or_else(|| unfilled("config-store"))?, granted.own("id", id)?))
    }

    fn memory(&self, key: &str) -> Result<(Arc<dyn MemoryStore>, String), StoreError> {
        let granted = self.granted_kind(StoreKind::Memory, "memory")?;
        Ok((granted.stores.memory.clone().ok_or_else(|| unfilled("memory-store"))?, granted.own("key", key)?))
    }
}

impl Granted {
    /// The key under the plugin's name. A plugin's name has no `/`, so that keys of two plugins never meet.
    fn own(&self, what: &str, key: &str) -> Result<String, StoreError> {
        if key.is_empty() {
            return Err(StoreError::InvalidArgument(format!("the {what} is empty")));
        }
        let allowed = KEY_BYTES_MAX.saturating_sub(self.plugin.name.len() as u64 + 1);
        if key.len() as u64 > allowed {
            return Err(StoreError::TooLarge { limit: "key_bytes".to_owned(), used: key.len() as u64, allowed });
        }
        Ok([self.plugin.name.as_str(), "/", key].concat())
    }
}

fn unfilled(role: &str) -> StoreError {
    StoreError::Unavailable(format!(
        "no plugin fills the role `{role}`; install one that exports `compozy:store/{role}`"
    ))
}

fn duration(ttl_ms: Option<u64>) -> Option<Duration> {
    ttl_ms.map(Duration::from_millis)
}

/// Runs one operation of one store, and answers in the words of the contract.
macro_rules! operate {
    ($self:ident.$store:ident($key:expr), |$backend:ident, $own:ident| $operation:expr) => {{
        let result = match $self.$store(&$key) {
            Ok(($backend, $own)) => $operation.await,
            Err(error) => Err(error),
        };
        Ok(result.map_err(WitError::from))
    }};
}

impl Host for StoreAccess {
    async fn cache_get(&mut self, key: String) -> HostResult<Result<Option<Entry>, WitError>> {
        operate!(self.cache(key), |cache, own| cache.get(&own))
    }

    async fn cache_set(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
        condition: Condition,
    ) -> HostResult<Result<Option<u64>, WitError>> {
        operate!(self.cache(key), |cache, own| cache.set(&own, &value, duration(ttl_ms), condition))
    }

    async fn cache_delete(&mut self, key: String) -> HostResult<Result<bool, WitError>> {
        operate!(self.cache(key), |cache, own| cache.delete(&own))
    }

    async fn cache_increment(
        &mut self,
        key: String,
        delta: i64,
        ttl_ms: Option<u64>,
    ) -> HostResult<Result<i64, WitError>> {
        operate!(self.cache(key), |cache, own| cache.increment(&own, delta, duration(ttl_ms)))
    }

    async fn cache_ttl(&mut self, key: String) -> HostResult<Result<Lifetime, WitError>> {
        operate!(self.cache(key), |cache, own| cache.ttl(&own))
    }

    async fn config_save(
        &mut self,
        id: String,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> HostResult<Result<(), WitError>> {
        operate!(self.config(id), |store, own| store.save(Namespace::Config, &own, &value, duration(ttl_ms)))
    }

    async fn config_get(&mut self, id: String) -> HostResult<Result<Option<Vec<u8>>, WitError>> {
        operate!(self.config(id), |store, own| store.get(Namespace::Config, &own))
    }

    async fn config_delete(&mut self, id: String) -> HostResult<Result<bool, WitError>> {
        operate!(self.config(id), |store, own| store.delete(Namespace::Config, &own))
    }

    async fn memory_append(
        &mut self,
        key: String,
        messages: Messages,
        ttl_ms: Option<u64>,
        keep: Option<Keep>,
    ) -> HostResult<Result<Counts, WitError>> {
        operate!(self.memory(key), |memory, own| memory.append(&own, &messages, duration(ttl_ms), keep))
    }

    async fn memory_page(&mut self, key: String, offset: u64, limit: u32) -> HostResult<Result<MessagePage, WitError>> {
        operate!(self.memory(key), |memory, own| memory.page(&own, offset, limit))
    }

    async fn memory_count(&mut self, key: String) -> HostResult<Result<Counts, WitError>> {
        operate!(self.memory(key), |memory, own| memory.count(&own))
    }

    async fn memory_clear(&mut self, key: String) -> HostResult<Result<bool, WitError>> {
        operate!(self.memory(key), |memory, own| memory.clear(&own))
    }
}
