//! The traits over a store plugin: each call takes a warm instance from the plugin's pool and gives it back.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{
    Cache, Condition, ConfigPage, ConfigStore, Counts, DumpPage, Dumped, DumpedConfig, Entry, HealthStatus, KeyPage,
    Lifetime, MemoryStore, MessagePage, Messages, Namespace, Result, Values, milliseconds,
};
use crate::bindings::cache::CachePlugin;
use crate::bindings::config_store::ConfigStorePlugin;
use crate::bindings::memory_store::MemoryStorePlugin;
use crate::pool::InstancePool;

/// Calls one exported function on a leased instance. The instance goes back to the pool, or away when it trapped.
macro_rules! call {
    ($self:ident, $interface:ident.$function:ident($($argument:expr),*)) => {{
        let mut lease = $self.pool.lease().await?;
        let timer = lease.timer();
        let (exports, store) = lease.parts();
        let result = timer.run(exports.$interface().$function(store $(, $argument)*)).await;
        Ok(lease.finish(result)??)
    }};
}

/// The role `cache` of a plugin.
#[derive(Debug)]
pub struct PluginCache {
    pool: Arc<InstancePool<CachePlugin>>,
}

impl PluginCache {
    /// Over the instances of this pool.
    pub fn new(pool: impl Into<Arc<InstancePool<CachePlugin>>>) -> Self {
        Self { pool: pool.into() }
    }
}

#[async_trait]
impl Cache for PluginCache {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        call!(self, compozy_store_cache.call_get(key))
    }

    async fn get_many(&self, keys: &[String]) -> Result<Values> {
        call!(self, compozy_store_cache.call_get_many(keys))
    }

    async fn set(&self, key: &str, value: &[u8], ttl: Option<Duration>, condition: Condition) -> Result<Option<u64>> {
        call!(self, compozy_store_cache.call_set(key, value, milliseconds(ttl), condition))
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        call!(self, compozy_store_cache.call_delete(key))
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        call!(self, compozy_store_cache.call_exists(key))
    }

    async fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool> {
        call!(self, compozy_store_cache.call_expire(key, milliseconds(ttl)))
    }

    async fn ttl(&self, key: &str) -> Result<Lifetime> {
        call!(self, compozy_store_cache.call_ttl(key))
    }

    async fn increment(&self, key: &str, delta: i64, ttl: Option<Duration>) -> Result<i64> {
        call!(self, compozy_store_cache.call_increment(key, delta, milliseconds(ttl)))
    }

    async fn scan(&self, prefix: &str, cursor: Option<&str>, max: u32) -> Result<KeyPage> {
        call!(self, compozy_store_cache.call_scan(prefix, cursor, max))
    }

    async fn health(&self) -> Result<HealthStatus> {
        call!(self, compozy_store_cache.call_health())
    }

    async fn dump(&self, cursor: Option<&str>, max: u32) -> Result<DumpPage> {
        call!(self, compozy_store_cache.call_dump(cursor, max))
    }

    async fn load(&self, entries: &[Dumped], bytes: &[u8]) -> Result<()> {
        call!(self, compozy_store_cache.call_load(entries, bytes))
    }
}

/// The role `config-store` of a plugin.
#[derive(Debug)]
pub struct PluginConfigStore {
    pool: Arc<InstancePool<ConfigStorePlugin>>,
}

impl PluginConfigStore {
    /// Over the instances of this pool.
    pub fn new(pool: impl Into<Arc<InstancePool<ConfigStorePlugin>>>) -> Self {
        Self { pool: pool.into() }
    }
}

#[async_trait]
impl ConfigStore for PluginConfigStore {
    async fn save(&self, namespace: Namespace, id: &str, value: &[u8], ttl: Option<Duration>) -> Result<()> {
        call!(self, compozy_store_config_store.call_save(namespace, id, value, milliseconds(ttl)))
    }

    async fn get(&self, namespace: Namespace, id: &str) -> Result<Option<Vec<u8>>> {
        call!(self, compozy_store_config_store.call_get(namespace, id))
    }

    async fn peek(&self, namespace: Namespace, id: &str) -> Result<Option<Vec<u8>>> {
        call!(self, compozy_store_config_store.call_peek(namespace, id))
    }

    async fn delete(&self, namespace: Namespace, id: &str) -> Result<bool> {
        call!(self, compozy_store_config_store.call_delete(namespace, id))
    }

    async fn list(&self, namespace: Namespace, prefix: &str, cursor: Option<&str>, max: u32) -> Result<KeyPage> {
        call!(self, compozy_store_config_store.call_list(namespace, prefix, cursor, max))
    }

    async fn health(&self) -> Result<HealthStatus> {
        call!(self, compozy_store_config_store.call_health())
    }

    async fn dump(&self, namespace: Namespace, cursor: Option<&str>, max: u32) -> Result<ConfigPage> {
        call!(self, compozy_store_config_store.call_dump(namespace, cursor, max))
    }

    async fn load(&self, namespace: Namespace, entries: &[DumpedConfig], bytes: &[u8]) -> Result<()> {
        call!(self, compozy_store_config_store.call_load(namespace, entries, bytes))
    }
}

/// The role `memory-store` of a plugin.
#[derive(Debug)]
pub struct PluginMemoryStore {
    pool: Arc<InstancePool<MemoryStorePlugin>>,
}

impl PluginMemoryStore {
    /// Over the instances of this pool.
    pub fn new(pool: impl Into<Arc<InstancePool<MemoryStorePlugin>>>) -> Self {
        Self { pool: pool.into() }
    }
}

#[async_trait]
impl MemoryStore for PluginMemoryStore {
    async fn append(
        &self,
        key: &str,
        messages: &Messages,
        ttl: Option<Duration>,
        keep_last: Option<u32>,
    ) -> Result<Counts> {
        call!(self, compozy_store_memory_store.call_append(key, messages, milliseconds(ttl), keep_last))
    }

    async fn read(&self, key: &str) -> Result<Messages> {
        call!(self, compozy_store_memory_store.call_read(key))
    }

    async fn page(&self, key: &str, offset: u64, limit: u32) -> Result<MessagePage> {
        call!(self, compozy_store_memory_store.call_page(key, offset, limit))
    }

    async fn count(&self, key: &str) -> Result<Counts> {
        call!(self, compozy_store_memory_store.call_count(key))
    }

    async fn replace(&self, key: &str, messages: &Messages, ttl: Option<Duration>) -> Result<Counts> {
        call!(self, compozy_store_memory_store.call_replace(key, messages, milliseconds(ttl)))
    }

    async fn trim(&self, key: &str, keep_last: u32) -> Result<Counts> {
        call!(self, compozy_store_memory_store.call_trim(key, keep_last))
    }

    async fn clear(&self, key: &str) -> Result<bool> {
        call!(self, compozy_store_memory_store.call_clear(key))
    }

    async fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool> {
        call!(self, compozy_store_memory_store.call_expire(key, milliseconds(ttl)))
    }

    async fn ttl(&self, key: &str) -> Result<Lifetime> {
        call!(self, compozy_store_memory_store.call_ttl(key))
    }

    async fn mark_flush_pending(&self, key: &str) -> Result<bool> {
        call!(self, compozy_store_memory_store.call_mark_flush_pending(key))
    }

    async fn is_flush_pending(&self, key: &str) -> Result<bool> {
        call!(self, compozy_store_memory_store.call_is_flush_pending(key))
    }

    async fn clear_flush_pending(&self, key: &str) -> Result<bool> {
        call!(self, compozy_store_memory_store.call_clear_flush_pending(key))
    }

    async fn list(&self, prefix: &str, cursor: Option<&str>, max: u32) -> Result<KeyPage> {
        call!(self, compozy_store_memory_store.call_list(prefix, cursor, max))
    }

    async fn health(&self) -> Result<HealthStatus> {
        call!(self, compozy_store_memory_store.call_health())
    }
}
