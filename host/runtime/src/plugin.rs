//! A plugin that is loaded: who it is, what it may do, and how to make instances of it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use serde::Serialize;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store, UpdateDeadline};
use wasmtime_wasi_http::WasiHttpCtx;

use crate::bindings::cache::CachePluginPre;
use crate::bindings::config_store::ConfigStorePluginPre;
use crate::bindings::events::EventsPluginPre;
use crate::bindings::locks::LocksPluginPre;
use crate::bindings::memory_store::MemoryStorePluginPre;
use crate::bindings::task::TaskPluginPre;
use crate::budget::CallClock;
use crate::call::{CallTimer, classify};
use crate::capabilities::{Effective, Origin, Requested, why_denied};
use crate::clock::Clock;
use crate::egress::Egress;
use crate::error::CallError;
use crate::gate::{Gate, Refused};
use crate::guest::GuestState;
use crate::identity::Identity;
use crate::limiter::Limiter;
use crate::limits::{Limit, Limits};
use crate::log::{LogAccess, LogBudget};
use crate::progress::ProgressAccess;
use crate::redis::{RedisAccess, RedisClient};
use crate::sql::{SqlAccess, SqlDatabase};
use crate::stores::{StoreAccess, Stores};
use crate::wasi;

/// A loaded plugin, shared by all who call it.
pub type PluginHandle = Arc<Plugin>;

/// What a plugin can be. Its exports say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs tasks.
    Executor,
    /// Keeps values by key.
    Cache,
    /// Keeps locks.
    Locks,
    /// Keeps streams of events.
    Events,
    /// Keeps configurations.
    ConfigStore,
    /// Keeps conversations.
    MemoryStore,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Executor, Self::Cache, Self::Locks, Self::Events, Self::ConfigStore, Self::MemoryStore];
    /// Those of a backend.
    pub const STORES: [Self; 5] = [Self::Cache, Self::Locks, Self::Events, Self::ConfigStore, Self::MemoryStore];

    /// Its name in configuration and answers.
    pub fn name(self) -> &'static str {
        self.interface().rsplit('/').next().expect("an interface has a package")
    }

    /// The interface that makes a plugin one of these, without its version.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Executor => "compozy:task/executor",
            Self::Cache => "compozy:store/cache",
            Self::Locks => "compozy:store/locks",
            Self::Events => "compozy:store/events",
            Self::ConfigStore => "compozy:store/config-store",
            Self::MemoryStore => "compozy:store/memory-store",
        }
    }
}

/// Where a plugin came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "path")]
pub enum Source {
    /// Embedded in the host.
    Builtin,
    /// A folder.
    Folder(PathBuf),
}

/// An action of a task executor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Action {
    /// Its name.
    pub name: String,
    /// One sentence for a person.
    pub description: String,
    /// JSON Schema of its input; `None` for any input.
    pub input_schema: Option<serde_json::Value>,
}

/// What is ready to be instantiated, by role.
#[derive(Default)]
pub(crate) struct Prepared {
    pub(crate) task: Option<TaskPluginPre<GuestState>>,
    pub(crate) cache: Option<CachePluginPre<GuestState>>,
    pub(crate) locks: Option<LocksPluginPre<GuestState>>,
    pub(crate) events: Option<EventsPluginPre<GuestState>>,
    pub(crate) config: Option<ConfigStorePluginPre<GuestState>>,
    pub(crate) memory: Option<MemoryStorePluginPre<GuestState>>,
}

/// Counts since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    calls: AtomicU64,
    failed: AtomicU64,
    instances: AtomicU64,
}

/// What a plugin did since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Calls that were let in.
    pub calls: u64,
    /// Calls that a trap or a limit ended.
    pub failed: u64,
    /// Instances made.
    pub instances: u64,
}

/// A loaded plugin.
pub struct Plugin {
    pub(crate) identity: Arc<Identity>,
    pub(crate) description: String,
    pub(crate) source: Source,
    pub(crate) replaces_builtin: bool,
    pub(crate) limits: Arc<Limits>,
    pub(crate) requested: Requested,
    pub(crate) granted: Effective,
    pub(crate) http: Arc<BTreeSet<Origin>>,
    pub(crate) actions: Vec<Action>,
    pub(crate) engine: Engine,
    pub(crate) prepared: Prepared,
    pub(crate) gate: Gate,
    pub(crate) counters: Counters,
    pub(crate) database: Option<Arc<SqlDatabase>>,
    pub(crate) redis: Option<Arc<RedisClient>>,
    pub(crate) stores: OnceLock<Arc<Stores>>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Plugin {
    /// Which plugin this is.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// The limits that hold for it.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// Its actions; empty when it is no executor.
    pub fn actions(&self) -> &[Action] {
        &self.actions
    }

    /// What it exports.
    pub fn roles(&self) -> Vec<Role> {
        let has = |role: &Role| match role {
            Role::Executor => self.prepared.task.is_some(),
            Role::Cache => self.prepared.cache.is_some(),
            Role::Locks => self.prepared.locks.is_some(),
            Role::Events => self.prepared.events.is_some(),
            Role::ConfigStore => self.prepared.config.is_some(),
            Role::MemoryStore => self.prepared.memory.is_some(),
        };
        Role::ALL.into_iter().filter(has).collect()
    }

    /// What it did since the start.
    pub fn counts(&self) -> Counts {
        let Counters { calls, failed, instances } = &self.counters;
        Counts { calls: calls.load(Relaxed), failed: failed.load(Relaxed), instances: instances.load(Relaxed) }
    }

    /// Waits for a place.
    pub(crate) async fn enter(&self) -> Result<tokio::sync::OwnedSemaphorePermit, CallError> {
        let place = self.gate.enter().await.map_err(|refused| match refused {
            Refused::Busy(hit) => CallError::Busy { plugin: Arc::clone(&self.identity), hit },
            Refused::Closed => CallError::Stopping,
        })?;
        self.counters.calls.fetch_add(1, Relaxed);
        Ok(place)
    }

    /// What became of a call that wasmtime ended, counted.
    pub(crate) fn failure(&self, error: &wasmtime::Error) -> CallError {
        self.counters.failed.fetch_add(1, Relaxed);
        let error = classify(error, &self.identity, &self.limits);
        tracing::debug!(plugin = %self.identity.name, code = error.code(), %error, "a plugin's call failed");
        error
    }

    /// A store for one instance. `hand_over`: whether its SQL may run long (a task's may, a store's may not).
    pub(crate) fn store(&self, hand_over: bool) -> Result<Store<GuestState>, CallError> {
        let state = self.state(hand_over)?;
        let limits = &self.limits;
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(limits.size(Limit::HostcallBytes));
        store.set_max_component_handles(limits.size(Limit::Handles));
        store.epoch_deadline_callback(|context| {
            context.data().clock.check()?;
            // Not wasmtime's own yield: tokio's tells its scheduler that others are to run first.
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        self.counters.instances.fetch_add(1, Relaxed);
        Ok(store)
    }

    /// Gives a store the budgets of one call.
    pub(crate) fn begin(&self, store: &mut Store<GuestState>) -> CallTimer {
        let limits = &self.limits;
        store.set_fuel(limits.get(Limit::Fuel)).expect("the engine counts fuel");
        store.set_epoch_deadline(1);
        store.data_mut().begin_call();
        CallTimer::new(Arc::clone(&store.data().clock), limits.duration(Limit::CallTimeoutMs))
    }

    fn state(&self, hand_over: bool) -> Result<GuestState, CallError> {
        let (plugin, limits) = (&self.identity, &self.limits);
        let budget = Arc::new(LogBudget::new(limits));
        let wasi = wasi::context(plugin, limits, &self.granted, &self.clock, &budget)
            .map_err(|reason| CallError::Grant { plugin: Arc::clone(plugin), reason })?;
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.size(Limit::Handles));
        let sql = match &self.database {
            Some(database) => SqlAccess::granted(Arc::clone(database), hand_over),
            None => SqlAccess::denied(why_denied(&plugin.name, "sql", self.requested.sql)),
        };
        let redis = match &self.redis {
            Some(client) => RedisAccess::granted(Arc::clone(client)),
            None if self.granted.redis => RedisAccess::denied(
                "no Redis server is named in the host's configuration; set `redis: { url: ... }` in compozy.yaml, COMPOZY_REDIS_URL or --redis-url",
            ),
            None => RedisAccess::denied(why_denied(&plugin.name, "redis", self.requested.redis)),
        };
        Ok(GuestState {
            plugin: Arc::clone(plugin),
            clock: Arc::new(CallClock::new(limits)),
            limiter: Limiter::new(limits),
            log: LogAccess::new(Arc::clone(plugin), budget),
            progress: ProgressAccess::default(),
            redis,
            sql,
            stores: self.store_access(),
            wasi,
            table,
            http: WasiHttpCtx::new(),
            egress: Egress::new(Arc::clone(plugin), Arc::clone(&self.http)),
        })
    }

    fn store_access(&self) -> StoreAccess {
        let name = &self.identity.name;
        if self.granted.stores.is_empty() {
            return StoreAccess::denied(why_denied(name, "stores", !self.requested.stores.is_empty()));
        }
        match self.stores.get() {
            Some(stores) => {
                StoreAccess::granted(Arc::clone(stores), Arc::clone(&self.identity), self.granted.stores.clone())
            }
            None => StoreAccess::denied(format!(
                "plugin `{name}` may not use stores while it is loaded, or fills a store's role itself"
            )),
        }
    }
}
