//! The role `memory-store`.

use std::time::Duration;

use async_trait::async_trait;

use super::{PluginStore, call};
use crate::bindings::memory_store::MemoryStorePlugin;
use crate::stores::{
    Counts, DumpedMemory, HealthStatus, Keep, KeyPage, Lifetime, MemoryPage, MemoryStore, MessagePage, Messages,
    Result, Statistics, milliseconds,
};

/// The role `memory-store` of a plugin.
pub type PluginMemoryStore = PluginStore<MemoryStorePlugin>;

#[async_trait]
impl MemoryStore for PluginMemoryStore {
    async fn append(
        &self,
        key: &str,
        messages: &Messages,
        ttl: Option<Duration>,
        keep: Option<Keep>,
    ) -> Result<Counts> {
        call!(self, Once, compozy_store_memory_store.call_append(key, messages, milliseconds(ttl), keep))
    }

    async fn read(&self, key: &str) -> Result<Messages> {
        call!(self, Again, compozy_store_memory_store.call_read(key))
    }

    async fn page(&self, key: &str, offset: u64, limit: u32) -> Result<MessagePage> {
        call!(self, Again, compozy_store_memory_store.call_page(key, offset, limit))
    }

    async fn count(&self, key: &str) -> Result<Counts> {
        call!(self, Again, compozy_store_memory_store.call_count(key))
    }

    async fn replace(&self, key: &str, messages: &Messages, ttl: Option<Duration>) -> Result<Counts> {
        call!(self, Again, compozy_store_memory_store.call_replace(key, messages, milliseconds(ttl)))
    }

    async fn trim(&self, key: &str, keep: Keep) -> Result<Counts> {
        call!(self, Once, compozy_store_memory_store.call_trim(key, keep))
    }

    async fn clear(&self, key: &str) -> Result<bool> {
        call!(self, Once, compozy_store_memory_store.call_clear(key))
    }

    async fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool> {
        call!(self, Again, compozy_store_memory_store.call_expire(key, milliseconds(ttl)))
    }

    async fn ttl(&self, key: &str) -> Result<Lifetime> {
        call!(self, Again, compozy_store_memory_store.call_ttl(key))
    }

    async fn mark_flush_pending(&self, key: &str) -> Result<bool> {
        call!(self, Once, compozy_store_memory_store.call_mark_flush_pending(key))
    }

    async fn is_flush_pending(&self, key: &str) -> Result<bool> {
        call!(self, Again, compozy_store_memory_store.call_is_flush_pending(key))
    }

    async fn clear_flush_pending(&self, key: &str) -> Result<bool> {
        call!(self, Once, compozy_store_memory_store.call_clear_flush_pending(key))
    }

    async fn list(&self, prefix: &str, cursor: Option<&str>, max: u32) -> Result<KeyPage> {
        call!(self, Again, compozy_store_memory_store.call_list(prefix, cursor, max))
    }

    async fn health(&self) -> Result<HealthStatus> {
        call!(self, Again, compozy_store_memory_store.call_health())
    }

    async fn stats(&self) -> Result<Statistics> {
        call!(self, Again, compozy_store_memory_store.call_stats())
    }

    async fn sweep(&self, max: u32) -> Result<u32> {
        call!(self, Aside, compozy_store_memory_store.call_sweep(max))
    }

    async fn dump(&self, cursor: Option<&str>, max: u32) -> Result<MemoryPage> {
        call!(self, Again, compozy_store_memory_store.call_dump(cursor, max))
    }

    async fn load(&self, memories: &[DumpedMemory], messages: &Messages) -> Result<()> {
        call!(self, Again, compozy_store_memory_store.call_load(memories, messages))
    }
}
