//! The role `cache`.

use std::time::Duration;

use async_trait::async_trait;

use super::{PluginStore, call};
use crate::bindings::cache::CachePlugin;
use crate::stores::{
    Assignment, Cache, Condition, DumpPage, Dumped, Entry, HealthStatus, KeyPage, Lifetime, Result, Span, Statistics,
    StoreError, Values, milliseconds,
};

/// The role `cache` of a plugin.
pub type PluginCache = PluginStore<CachePlugin>;

/// Keys as they travel: in one buffer, because each string of a list would be a call of its own into the guest's allocator.
fn flat(keys: &[String]) -> Result<(Vec<Span>, Vec<u8>)> {
    let used = keys.iter().map(|key| key.len() as u64).sum();
    let allowed = u64::from(u32::MAX);
    if used > allowed {
        return Err(StoreError::TooLarge { limit: "key_bytes".to_owned(), used, allowed });
    }
    let mut bytes = Vec::with_capacity(used as usize);
    let spans = keys.iter().map(|key| {
        let offset = bytes.len() as u32;
        bytes.extend_from_slice(key.as_bytes());
        Span { offset, length: key.len() as u32 }
    });
    Ok((spans.collect(), bytes))
}

#[async_trait]
impl Cache for PluginCache {
    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        call!(self, Again, compozy_store_cache.call_get(key))
    }

    async fn get_many(&self, keys: &[String]) -> Result<Values> {
        let (keys, bytes) = flat(keys)?;
        call!(self, Again, compozy_store_cache.call_get_many(&keys, &bytes))
    }

    async fn set(&self, key: &str, value: &[u8], ttl: Option<Duration>, condition: Condition) -> Result<Option<u64>> {
        call!(self, Once, compozy_store_cache.call_set(key, value, milliseconds(ttl), condition))
    }

    async fn set_many(&self, entries: &[Assignment], bytes: &[u8], ttl: Option<Duration>) -> Result<()> {
        call!(self, Again, compozy_store_cache.call_set_many(entries, bytes, milliseconds(ttl)))
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        call!(self, Once, compozy_store_cache.call_delete(key))
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        call!(self, Again, compozy_store_cache.call_exists(key))
    }

    async fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool> {
        call!(self, Again, compozy_store_cache.call_expire(key, milliseconds(ttl)))
    }

    async fn ttl(&self, key: &str) -> Result<Lifetime> {
        call!(self, Again, compozy_store_cache.call_ttl(key))
    }

    async fn increment(&self, key: &str, delta: i64, ttl: Option<Duration>) -> Result<i64> {
        call!(self, Once, compozy_store_cache.call_increment(key, delta, milliseconds(ttl)))
    }

    async fn scan(&self, prefix: &str, cursor: Option<&str>, max: u32) -> Result<KeyPage> {
        call!(self, Again, compozy_store_cache.call_scan(prefix, cursor, max))
    }

    async fn health(&self) -> Result<HealthStatus> {
        call!(self, Again, compozy_store_cache.call_health())
    }

    async fn stats(&self) -> Result<Statistics> {
        call!(self, Again, compozy_store_cache.call_stats())
    }

    async fn sweep(&self, max: u32) -> Result<u32> {
        call!(self, Aside, compozy_store_cache.call_sweep(max))
    }

    async fn dump(&self, cursor: Option<&str>, max: u32) -> Result<DumpPage> {
        call!(self, Again, compozy_store_cache.call_dump(cursor, max))
    }

    async fn load(&self, entries: &[Dumped], bytes: &[u8]) -> Result<()> {
        call!(self, Again, compozy_store_cache.call_load(entries, bytes))
    }
}
