//! The role `locks`.

use std::time::Duration;

use async_trait::async_trait;

use super::{PluginStore, call};
use crate::bindings::locks::LocksPlugin;
use crate::stores::changes::lock_topic;
use crate::stores::{
    Attempt, DumpedLock, HealthStatus, LockPage, LockState, Locks, Result, Statistics, whole_milliseconds,
};

/// The role `locks` of a plugin.
pub type PluginLocks = PluginStore<LocksPlugin>;

#[async_trait]
impl Locks for PluginLocks {
    async fn acquire(&self, name: &str, ttl: Duration, holder: &str) -> Result<Attempt> {
        call!(self, Once, compozy_store_locks.call_acquire(name, whole_milliseconds(ttl), holder))
    }

    async fn refresh(&self, name: &str, token: u64, ttl: Duration) -> Result<bool> {
        call!(self, Again, compozy_store_locks.call_refresh(name, token, whole_milliseconds(ttl)))
    }

    async fn release(&self, name: &str, token: u64) -> Result<bool> {
        let released = call!(self, Once, compozy_store_locks.call_release(name, token));
        self.changes.announce(|| lock_topic(name));
        released
    }

    async fn inspect(&self, name: &str) -> Result<Option<LockState>> {
        call!(self, Again, compozy_store_locks.call_inspect(name))
    }

    async fn health(&self) -> Result<HealthStatus> {
        call!(self, Again, compozy_store_locks.call_health())
    }

    async fn stats(&self) -> Result<Statistics> {
        call!(self, Again, compozy_store_locks.call_stats())
    }

    async fn sweep(&self, max: u32) -> Result<u32> {
        call!(self, Aside, compozy_store_locks.call_sweep(max))
    }

    async fn dump(&self, cursor: Option<&str>, max: u32) -> Result<LockPage> {
        call!(self, Again, compozy_store_locks.call_dump(cursor, max))
    }

    async fn load(&self, locks: &[DumpedLock], greatest_token: u64) -> Result<()> {
        call!(self, Again, compozy_store_locks.call_load(locks, greatest_token))
    }
}
