//! The door to plugins: opens them, runs tasks, answers what is loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use crate::archive::Build;
use crate::bindings::task::exports::compozy::task::executor::{Request, TaskError};
use crate::call::task_failure;
use crate::clock::{Clock, SystemClock};
use crate::engine::SandboxEngine;
use crate::error::{CallError, nearest};
use crate::identity::Identity;
use crate::limits::{Limit, LimitHit};
use crate::loader::{self, Builtin, LoadError, PluginPolicy};
use crate::pinned::Pinned;
use crate::plugin::{Action, Counts, Plugin, PluginHandle, Role, Source};
use crate::pool::Idle;
use crate::progress::{ProgressAccess, Supervisor};
use crate::redis::RedisSettings;
use crate::selection::{Selected, StoreSelection, select};
use crate::stores::{Monitor, RoleStatus, Stores, Sweeper};

/// What a runtime is opened with.
#[derive(Clone)]
pub struct RuntimeOptions {
    /// Folders whose sub-folders are plugins (or that are one themselves).
    pub plugin_dirs: Vec<PathBuf>,
    /// Plugins inside of the binary.
    pub builtins: Vec<Builtin>,
    /// Where plugins have their databases.
    pub data_dir: PathBuf,
    /// Where compiled code is kept; `None` compiles at every start.
    pub code_cache_dir: Option<PathBuf>,
    /// Where builds of task plugins are kept for the runs that are bound to them; `None` keeps none.
    pub archive_dir: Option<PathBuf>,
    /// What the operator says to single plugins, by name.
    pub policies: BTreeMap<String, PluginPolicy>,
    /// What the operator says to all others.
    pub default_policy: PluginPolicy,
    /// Who fills the stores' roles.
    pub stores: StoreSelection,
    /// The Redis server, for plugins with the capability `redis`; `None` when there is none.
    pub redis: Option<RedisSettings>,
    /// The time of day that plugins see.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for RuntimeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RuntimeOptions").field("plugin_dirs", &self.plugin_dirs).finish_non_exhaustive()
    }
}

impl RuntimeOptions {
    /// No plugins, nothing granted, the system's clock.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let data_dir = data_dir.into();
        Self {
            plugin_dirs: Vec::new(),
            builtins: Vec::new(),
            code_cache_dir: Some(data_dir.join("code")),
            archive_dir: Some(data_dir.join("archive")),
            data_dir,
            policies: BTreeMap::new(),
            default_policy: PluginPolicy::default(),
            stores: StoreSelection::default(),
            redis: None,
            clock: Arc::new(SystemClock),
        }
    }
}

/// Everything that kept the runtime from opening.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct OpenError(pub Vec<LoadError>);

/// One attempt of one task.
#[derive(Debug, Clone)]
pub struct TaskRequest {
    /// The plugin's name.
    pub plugin: String,
    /// SHA-256 of the component that it must be; `None` is the one that is loaded.
    pub digest: Option<String>,
    /// The action; `None` for the plugin's first one.
    pub action: Option<String>,
    /// The input, UTF-8 JSON.
    pub input: Vec<u8>,
    /// The tool's config, UTF-8 JSON; `null` when there is none.
    pub config: Vec<u8>,
    /// The execution.
    pub execution_id: String,
    /// The task's key in it.
    pub task: String,
    /// Equal for all attempts of one task.
    pub idempotency_key: String,
    /// From 1.
    pub attempt: u32,
    /// The attempt ends after this long; `call_timeout_ms` may end it sooner.
    pub timeout: Duration,
    /// Who is told of heartbeats, and knows whether the attempt is to end.
    pub supervisor: Option<Arc<dyn Supervisor>>,
}

/// Who ran, and what it cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Which plugin.
    pub plugin: Arc<Identity>,
    /// Fuel used. A call that did not end well is charged all that it had: what it used is not known to the last instruction.
    pub fuel: u64,
    /// From the begin of the call to its answer, without the wait for a place.
    pub wall: Duration,
}

/// A task's output.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskResponse {
    /// The output.
    pub output: Value,
    /// Who ran.
    pub ran: Ran,
}

/// A task without output.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct CallFailure {
    /// Why.
    pub error: CallError,
    /// Who ran; `None` when nobody did.
    pub ran: Option<Ran>,
}

impl From<CallError> for CallFailure {
    fn from(error: CallError) -> Self {
        Self { error, ran: None }
    }
}

/// A loaded plugin for `health`.
#[derive(Debug, Clone, Serialize)]
pub struct PluginStatus {
    /// Name, version, digest.
    #[serde(flatten)]
    pub identity: Identity,
    /// One sentence for a person.
    pub description: String,
    /// What it can be.
    pub roles: Vec<Role>,
    /// What it can do.
    pub actions: Vec<Action>,
    /// Where it came from.
    pub source: Source,
    /// Whether it takes the place of a built-in of its name.
    pub replaces_builtin: bool,
    /// What it may do.
    pub granted: Vec<String>,
    /// What it requests without having it.
    pub denied: Vec<String>,
    /// What it did since the start.
    pub counts: Counts,
}

/// The loaded plugins.
pub struct Runtime {
    sandbox: SandboxEngine,
    plugins: BTreeMap<String, PluginHandle>,
    pinned: Pinned,
    stores: Arc<Stores>,
    /// Those of the stores.
    pools: Vec<Arc<dyn Idle>>,
    monitors: Vec<Arc<Monitor>>,
    sweeper: Sweeper,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("plugins", &self.plugins.keys()).finish_non_exhaustive()
    }
}

impl Runtime {
    /// Loads all plugins, or tells everything that is wrong with them. Compiles on tokio's blocking threads.
    pub async fn open(options: RuntimeOptions) -> Result<Arc<Self>, OpenError> {
        let sandbox = SandboxEngine::open().map_err(|error| {
            OpenError(vec![LoadError::new(
                "ENGINE_UNAVAILABLE",
                "the host",
                format!("wasmtime cannot start: {error:#}"),
            )])
        })?;
        let (workshop, plugins, mut errors) = loader::load(&sandbox, &options).await;
        let Selected { stores, pools, monitors } = select(&plugins, &options.stores, &mut errors);
        let Some(workshop) = workshop.filter(|_| errors.is_empty()) else {
            return Err(OpenError(errors));
        };
        let pinned = Pinned::new(workshop, options);
        let stores = Arc::new(stores);
        // Those that fill a store's role get no stores: a chain of calls is never longer than task, store.
        for plugin in plugins.values().filter(|plugin| plugin.roles() == [Role::Executor]) {
            let set = plugin.stores.set(Arc::clone(&stores));
            debug_assert!(set.is_ok(), "set once");
        }
        let sweeper = Sweeper::start(Arc::clone(&stores));
        Ok(Arc::new(Self { sandbox, plugins, pinned, stores, pools, monitors, sweeper }))
    }

    /// The stores in use.
    pub fn stores(&self) -> &Arc<Stores> {
        &self.stores
    }

    /// How each store's role does.
    pub fn roles(&self) -> Vec<RoleStatus> {
        self.monitors.iter().map(|monitor| monitor.status()).collect()
    }

    /// The plugin of this name.
    pub fn plugin(&self, name: &str) -> Result<&PluginHandle, CallError> {
        self.plugins.get(name).ok_or_else(|| CallError::NotFound {
            name: name.to_owned(),
            nearest: nearest(name, self.plugins.keys().map(String::as_str)),
            known: self.plugins.keys().cloned().collect(),
        })
    }

    /// The build of a plugin that a run is bound to: the one that is loaded, or one of before from the archive.
    async fn build(&self, name: &str, digest: Option<&str>) -> Result<PluginHandle, CallError> {
        let present = self.plugins.get(name);
        match digest {
            Some(digest) if present.is_none_or(|plugin| plugin.identity.digest != digest) => {
                let present = present.map(|plugin| plugin.identity.digest.as_str());
                self.pinned.get(name, digest, present, &self.stores).await
            }
            _ => self.plugin(name).map(Arc::clone),
        }
    }

    /// Removes builds from the archive that are neither loaded nor among `bound`. Answers how many.
    pub async fn clean_archive(&self, mut bound: BTreeSet<Build>) -> std::io::Result<usize> {
        let loaded = self.plugins.values().map(|plugin| (plugin.identity.name.clone(), plugin.identity.digest.clone()));
        bound.extend(loaded);
        self.pinned.clean(bound).await
    }

    /// Everything that is loaded, by name.
    pub fn plugins(&self) -> Vec<PluginStatus> {
        self.plugins.values().map(|plugin| status(plugin)).collect()
    }

    /// The actions of each executor, by its name.
    pub fn catalog(&self) -> BTreeMap<&str, &[Action]> {
        let executors = self.plugins.iter().filter(|(_, plugin)| plugin.prepared.task.is_some());
        executors.map(|(name, plugin)| (name.as_str(), plugin.actions())).collect()
    }

    /// Whether guests can be interrupted. When they cannot, the host must not be called healthy.
    pub fn ticking(&self) -> bool {
        self.sandbox.ticking()
    }

    /// Runs one attempt on an instance of its own. Dropping the future ends the attempt and throws the instance away.
    ///
    /// The guest's code runs inside of this future's polls, at most one tick (10 ms) at a time. Whoever has deadlines
    /// of less than that beside it gives plugins a tokio runtime of their own.
    pub async fn execute(&self, request: TaskRequest) -> Result<TaskResponse, CallFailure> {
        let plugin = &self.build(&request.plugin, request.digest.as_deref()).await?;
        let action = action(plugin, request.action.as_deref())?;
        let used = (request.input.len() + request.config.len()) as u64;
        let allowed = plugin.limits.get(Limit::InputBytes);
        if used > allowed {
            let hit = LimitHit { limit: Limit::InputBytes, used, allowed };
            return Err(CallError::Limit { plugin: Arc::clone(&plugin.identity), hit }.into());
        }
        let place = plugin.enter().await?;
        attempt(plugin, place, action, request).await
    }

    /// Instances of stores that wait for their next call.
    pub fn idle_instances(&self) -> usize {
        self.pools.iter().map(|pool| pool.count()).sum()
    }

    /// Takes no more calls and throws idle instances away. Idempotent. Calls that run are left to those who wait for them.
    pub fn stop(&self) {
        self.sweeper.stop();
        for plugin in self.plugins.values() {
            plugin.gate.close();
        }
        self.pinned.close();
        for pool in &self.pools {
            pool.clear();
        }
    }
}

async fn attempt(
    plugin: &Plugin,
    place: OwnedSemaphorePermit,
    action: String,
    request: TaskRequest,
) -> Result<TaskResponse, CallFailure> {
    let begun = Instant::now();
    let timeout = request.timeout.min(plugin.limits.duration(Limit::CallTimeoutMs));
    let supervisor = request.supervisor;
    let request = Request {
        action,
        input: request.input,
        config: request.config,
        execution_id: request.execution_id,
        task: request.task,
        idempotency_key: request.idempotency_key,
        attempt: request.attempt,
        timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
    };
    let prepared = plugin.prepared.task.as_ref().expect("`action` asked for an executor");
    let mut store = plugin.store(true)?;
    store.data_mut().progress = ProgressAccess::of(supervisor);
    let timer = plugin.begin(&mut store).at_most(timeout);
    let result = timer
        .run(async {
            let exports = prepared.instantiate_async(&mut store).await?;
            exports.compozy_task_executor().call_execute(&mut store, &request).await
        })
        .await;
    let fuel_allowed = plugin.limits.get(Limit::Fuel);
    let fuel = match &result {
        Ok(_) => fuel_allowed - store.get_fuel().expect("the engine counts fuel").min(fuel_allowed),
        Err(_) => fuel_allowed,
    };
    let outcome = match result {
        Ok(answer) => output(plugin, answer),
        Err(error) => Err(plugin.failure(&error)),
    };
    let ran = Ran { plugin: Arc::clone(&plugin.identity), fuel, wall: begun.elapsed() };
    // The answer does not wait until the memory of the instance was given back; its place in the plugin does.
    tokio::spawn(async move { drop((store, place)) });
    match outcome {
        Ok(output) => Ok(TaskResponse { output, ran }),
        Err(error) => Err(CallFailure { error, ran: Some(ran) }),
    }
}

fn output(plugin: &Plugin, answer: Result<Vec<u8>, TaskError>) -> Result<Value, CallError> {
    let bytes = answer.map_err(|error| CallError::Task(task_failure(error)))?;
    let identity = || Arc::clone(&plugin.identity);
    let (used, allowed) = (bytes.len() as u64, plugin.limits.get(Limit::OutputBytes));
    if used > allowed {
        return Err(CallError::Limit {
            plugin: identity(),
            hit: LimitHit { limit: Limit::OutputBytes, used, allowed },
        });
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| CallError::OutputNotJson { plugin: identity(), reason: error.to_string() })
}

fn action(plugin: &Plugin, wanted: Option<&str>) -> Result<String, CallError> {
    let Some(first) = plugin.actions.first() else {
        return Err(CallError::NotAnExecutor { plugin: Arc::clone(&plugin.identity) });
    };
    let Some(wanted) = wanted else { return Ok(first.name.clone()) };
    let names = || plugin.actions.iter().map(|action| action.name.as_str());
    if names().any(|name| name == wanted) {
        return Ok(wanted.to_owned());
    }
    Err(CallError::ActionUnknown {
        plugin: Arc::clone(&plugin.identity),
        action: wanted.to_owned(),
        nearest: nearest(wanted, names()),
        known: names().map(ToOwned::to_owned).collect(),
    })
}

fn status(plugin: &Plugin) -> PluginStatus {
    PluginStatus {
        identity: Identity::clone(&plugin.identity),
        description: plugin.description.clone(),
        roles: plugin.roles(),
        actions: plugin.actions.clone(),
        source: plugin.source.clone(),
        replaces_builtin: plugin.replaces_builtin,
        granted: plugin.granted.granted.clone(),
        denied: plugin.granted.denied.clone(),
        counts: plugin.counts(),
    }
}
