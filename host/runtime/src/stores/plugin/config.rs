//! The role `config-store`.

use std::time::Duration;

use async_trait::async_trait;

use super::{PluginStore, call};
use crate::bindings::config_store::ConfigStorePlugin;
use crate::stores::{
    ConfigPage, ConfigStore, DumpedConfig, HealthStatus, KeyPage, Namespace, Result, Statistics, milliseconds,
};

/// The role `config-store` of a plugin.
pub type PluginConfigStore = PluginStore<ConfigStorePlugin>;

#[async_trait]
impl ConfigStore for PluginConfigStore {
    async fn save(&self, namespace: Namespace, id: &str, value: &[u8], ttl: Option<Duration>) -> Result<()> {
        call!(self, Again, compozy_store_config_store.call_save(namespace, id, value, milliseconds(ttl)))
    }

    async fn get(&self, namespace: Namespace, id: &str) -> Result<Option<Vec<u8>>> {
        call!(self, Again, compozy_store_config_store.call_get(namespace, id))
    }

    async fn peek(&self, namespace: Namespace, id: &str) -> Result<Option<Vec<u8>>> {
        call!(self, Again, compozy_store_config_store.call_peek(namespace, id))
    }

    async fn delete(&self, namespace: Namespace, id: &str) -> Result<bool> {
        call!(self, Once, compozy_store_config_store.call_delete(namespace, id))
    }

    async fn list(&self, namespace: Namespace, prefix: &str, cursor: Option<&str>, max: u32) -> Result<KeyPage> {
        call!(self, Again, compozy_store_config_store.call_list(namespace, prefix, cursor, max))
    }

    async fn health(&self) -> Result<HealthStatus> {
        call!(self, Again, compozy_store_config_store.call_health())
    }

    async fn stats(&self) -> Result<Statistics> {
        call!(self, Again, compozy_store_config_store.call_stats())
    }

    async fn sweep(&self, max: u32) -> Result<u32> {
        call!(self, Aside, compozy_store_config_store.call_sweep(max))
    }

    async fn dump(&self, namespace: Namespace, cursor: Option<&str>, max: u32) -> Result<ConfigPage> {
        call!(self, Again, compozy_store_config_store.call_dump(namespace, cursor, max))
    }

    async fn load(&self, namespace: Namespace, entries: &[DumpedConfig], bytes: &[u8]) -> Result<()> {
        call!(self, Again, compozy_store_config_store.call_load(namespace, entries, bytes))
    }
}
