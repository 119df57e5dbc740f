//! What belongs to one instance of a plugin: the `T` of its wasmtime `Store`.
//!
//! # How the native sides plug in
//!
//! Each interface of `compozy:host` is implemented for the part of the state that serves it, not for the whole:
//!
//! - `sql`: [`SqlAccess`] implements `bindings::compozy::host::sql::{Host, HostStatement}`.
//!   Made with `SqlAccess::denied(why)` or `SqlAccess::granted(database, hand_over)`.
//! - `redis`: [`RedisAccess`], in the same manner.
//! - `stores`: [`StoreAccess`] implements `bindings::compozy::host::stores::Host` (async, trappable).
//!   Made with `StoreAccess::denied(why)` or
//!   `StoreAccess::granted(stores: Arc<Stores>, plugin: Arc<Identity>, kinds: BTreeSet<StoreKind>)`.
//!   It puts `<plugin name>/` before each key, and answers `denied` for a kind that is not among `kinds`.
//! - `log`: [`crate::log::LogAccess`].
//! - `progress`: [`ProgressAccess`]; only a task's attempt has somebody to tell.
//!
//! An error that the guest may see is an `Ok(Err(..))` of the contract. Returning `Err` ends the guest's call:
//! `Err(LimitHit { limit, used, allowed }.into())` becomes `PLUGIN_LIMIT`, anything else `PLUGIN_TRAP`.
//!
//! # How stores call their plugins
//!
//! A facade owns an [`InstancePool`](crate::pool::InstancePool) of its role's bindings:
//!
//! ```ignore
//! let mut lease = pool.lease().await?;            // waits for a place, arms all budgets
//! let timer = lease.timer();
//! let (exports, store) = lease.parts();           // (&CachePlugin, &mut Store<GuestState>)
//! let result = timer.run(exports.compozy_store_cache().call_get(store, key)).await;
//! let answer = lease.finish(result)?;             // back into the pool, or thrown away and a CallError
//! ```
//!
//! A lease that is dropped without `finish` (a cancelled future) throws its instance away.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::budget::CallClock;
use crate::egress::Egress;
use crate::identity::Identity;
use crate::limiter::Limiter;
use crate::log::LogAccess;
use crate::progress::ProgressAccess;
use crate::redis::RedisAccess;
use crate::sql::SqlAccess;
use crate::stores::StoreAccess;

/// Everything that the host keeps for one instance.
pub struct GuestState {
    pub(crate) plugin: Arc<Identity>,
    /// How long the current call has kept a thread busy.
    pub(crate) clock: Arc<CallClock>,
    pub(crate) limiter: Limiter,
    pub(crate) log: LogAccess,
    pub(crate) progress: ProgressAccess,
    pub(crate) redis: RedisAccess,
    pub(crate) sql: SqlAccess,
    pub(crate) stores: StoreAccess,
    pub(crate) wasi: WasiCtx,
    pub(crate) table: ResourceTable,
    pub(crate) http: WasiHttpCtx,
    pub(crate) egress: Egress,
}

impl GuestState {
    /// Called before each exported call: all budgets of a call begin anew.
    pub(crate) fn begin_call(&mut self) {
        self.clock.reset();
        self.log.reset();
    }

    /// Called when an exported call has ended in whatever way.
    pub(crate) fn end_call(&mut self) {
        self.sql.end_call();
    }

    /// Whose instance this is.
    pub fn plugin(&self) -> &Arc<Identity> {
        &self.plugin
    }
}

impl std::fmt::Debug for GuestState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestState").field("plugin", &self.plugin).finish_non_exhaustive()
    }
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for GuestState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.egress }
    }
}
