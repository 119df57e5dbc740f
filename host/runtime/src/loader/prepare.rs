//! From a candidate to a plugin: compile, check imports and exports, ask for its actions.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store};

use super::LoadError;
use super::discover::Candidate;
use crate::archive::Archive;
use crate::bindings::cache::CachePluginPre;
use crate::bindings::config_store::ConfigStorePluginPre;
use crate::bindings::events::EventsPluginPre;
use crate::bindings::locks::LocksPluginPre;
use crate::bindings::memory_store::MemoryStorePluginPre;
use crate::bindings::task::TaskPluginPre;
use crate::bindings::task::exports::compozy::task::executor;
use crate::call::{CallTimer, cut};
use crate::capabilities::Effective;
use crate::code_cache::{self, CodeCache};
use crate::error::{CallError, nearest};
use crate::gate::Gate;
use crate::guest::GuestState;
use crate::identity::Identity;
use crate::limits::{Limit, Limits};
use crate::link;
use crate::plugin::{Action, Counters, Plugin, PluginHandle, Prepared, Role};
use crate::redis::RedisClient;
use crate::runtime::RuntimeOptions;
use crate::sql::SqlDatabase;

/// Actions of one plugin.
const ACTIONS_MAX: usize = 1_000;
const ACTION_NAME_BYTES_MAX: usize = 64;
const DESCRIPTION_BYTES_MAX: usize = 1024;
const WASM_PAGE_BYTES: u64 = 64 * 1024;
/// The version of the contract that the host speaks, as the names of exports end.
const CONTRACT_TRACK: &str = "0.1.";

/// What all plugins are made with.
pub(crate) struct Workshop {
    pub(super) engine: Engine,
    pub(super) linker: Linker<GuestState>,
    pub(super) cache: Option<Arc<CodeCache>>,
}

type Prepare<T> = Result<T, (&'static str, String)>;

impl Workshop {
    /// Makes a plugin of a candidate.
    pub(crate) async fn prepare(
        &self,
        candidate: Candidate,
        options: &RuntimeOptions,
    ) -> Result<PluginHandle, LoadError> {
        let place = candidate.place();
        self.plugin(candidate, options).await.map_err(|(code, message)| LoadError::new(code, place, message))
    }

    async fn plugin(&self, candidate: Candidate, options: &RuntimeOptions) -> Prepare<PluginHandle> {
        let Candidate { manifest, text, wasm, source, replaces_builtin } = candidate;
        preamble(&wasm)?;
        let digest = code_cache::hex(&Sha256::digest(&wasm));
        let (component, wasm) = self.component(digest.clone(), wasm).await?;
        let policy = options.policies.get(&manifest.name).unwrap_or(&options.default_policy);
        let limits = Arc::new(Limits::effective(&manifest.limits, &policy.caps));
        static_limits(&component, &limits)?;
        let prepared = self.roles(&component)?;
        let granted = Effective::intersect(&manifest.capabilities, &policy.grants);
        let database = if granted.sql { Some(database(options, &manifest.name, &limits)?) } else { None };
        let redis = if granted.redis { redis(options, &manifest.name, &limits)? } else { None };
        let mut plugin = Plugin {
            identity: Arc::new(Identity { name: manifest.name, version: manifest.version, digest }),
            description: manifest.description,
            source,
            replaces_builtin,
            gate: Gate::new(&limits),
            limits,
            requested: manifest.capabilities,
            http: Arc::new(granted.http.clone()),
            granted,
            actions: Vec::new(),
            engine: self.engine.clone(),
            prepared,
            counters: Counters::default(),
            database,
            redis,
            stores: OnceLock::new(),
            clock: Arc::clone(&options.clock),
        };
        plugin.actions = probe(&plugin).await?;
        if plugin.prepared.task.is_some() {
            keep(options, &plugin.identity, text, wasm).await?;
        }
        Ok(Arc::new(plugin))
    }

    async fn component(&self, digest: String, wasm: Cow<'static, [u8]>) -> Prepare<(Component, Cow<'static, [u8]>)> {
        let (engine, cache) = (self.engine.clone(), self.cache.clone());
        let compile = move || {
            let compiled = match cache {
                Some(cache) => cache.component(&engine, &digest, &wasm).map(|(component, _)| component),
                None => code_cache::compile(&engine, &wasm),
            };
            (compiled, wasm)
        };
        let (compiled, wasm) =
            tokio::task::spawn_blocking(compile).await.expect("compiling does not panic and is not cancelled");
        compiled.map(|component| (component, wasm)).map_err(|error| beyond_the_pool(&error).unwrap_or_else(|| ("PLUGIN_INVALID", format!("the component cannot be compiled: {error:#}; it may be cut off or use a feature of WebAssembly that the host does not offer"))))
    }

    /// What a component is, by its exports, with all imports and exports checked.
    fn roles(&self, component: &Component) -> Prepare<Prepared> {
        let unknown = link::unknown_imports(&self.engine, component);
        if !unknown.is_empty() {
            let list = unknown.join("; ");
            return Err(("PLUGIN_IMPORT_UNKNOWN", format!("it imports what the host does not offer: {list}")));
        }
        let roles = exported(&self.engine, component)?;
        let ready = self.linker.instantiate_pre(component).map_err(|error| {
            ("PLUGIN_IMPORT_MISMATCH", format!("an import does not fit the host's contract: {error:#}; build the plugin against the `wit/` of this host"))
        })?;
        let mut prepared = Prepared::default();
        for role in roles {
            let fits = match role {
                Role::Executor => TaskPluginPre::new(ready.clone()).map(|pre| prepared.task = Some(pre)),
                Role::Cache => CachePluginPre::new(ready.clone()).map(|pre| prepared.cache = Some(pre)),
                Role::Locks => LocksPluginPre::new(ready.clone()).map(|pre| prepared.locks = Some(pre)),
                Role::Events => EventsPluginPre::new(ready.clone()).map(|pre| prepared.events = Some(pre)),
                Role::ConfigStore => ConfigStorePluginPre::new(ready.clone()).map(|pre| prepared.config = Some(pre)),
                Role::MemoryStore => MemoryStorePluginPre::new(ready.clone()).map(|pre| prepared.memory = Some(pre)),
            };
            fits.map_err(|error| mismatch(role, &error))?;
        }
        Ok(prepared)
    }
}

fn mismatch(role: Role, error: &wasmtime::Error) -> (&'static str, String) {
    let interface = role.interface();
    (
        "PLUGIN_EXPORT_MISMATCH",
        format!(
            "its export `{interface}` does not fit the contract: {error:#}; build the plugin against the `wit/` of this host"
        ),
    )
}

/// The first eight bytes tell a component from everything else.
fn preamble(wasm: &[u8]) -> Prepare<()> {
    let how = "build it with `cargo build --target wasm32-wasip2`";
    match wasm {
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            Err(("PLUGIN_CORE_MODULE", format!("it is a core WebAssembly module, not a component; {how}")))
        }
        [0, b'a', b's', b'm', ..] => Err((
            "PLUGIN_NOT_A_COMPONENT",
            format!("it is WebAssembly of a kind or version that the host does not know; {how}"),
        )),
        [] => Err(("PLUGIN_NOT_A_COMPONENT", format!("the file is empty; {how}"))),
        _ => Err((
            "PLUGIN_NOT_A_COMPONENT",
            format!("it is not WebAssembly (it begins with {:02x?}); {how}", &wasm[..wasm.len().min(4)]),
        )),
    }
}

/// Limits that a component breaks before it runs.
fn static_limits(component: &Component, limits: &Limits) -> Prepare<()> {
    let Some(needs) = component.resources_required() else { return Ok(()) };
    let initial = |number: Option<u64>| number.unwrap_or_default();
    let checks = [
        (Limit::Memories, u64::from(needs.num_memories)),
        (Limit::Tables, u64::from(needs.num_tables)),
        // wasmtime answers pages.
        (Limit::MemoryBytes, initial(needs.max_initial_memory_size).saturating_mul(WASM_PAGE_BYTES)),
        (Limit::TableElements, initial(needs.max_initial_table_size)),
    ];
    for (limit, used) in checks {
        let allowed = limits.get(limit);
        if used > allowed {
            return Err(needs_too_much(limit, used, allowed));
        }
    }
    Ok(())
}

fn needs_too_much(limit: Limit, used: u64, allowed: u64) -> (&'static str, String) {
    let spec = limit.spec();
    let message = format!(
        "it exceeds `{limit}` ({}) before it runs: it needs {used} {unit}, allowed are {allowed} {unit}; {}",
        spec.meaning,
        spec.advice,
        unit = spec.unit
    );
    ("PLUGIN_LIMIT", message)
}

/// What needs more than the pool has for any component is refused by wasmtime itself while it compiles. Its error has no type
/// that one could ask for; a test fires each of these, so that an upgrade that changes the words is noticed.
fn beyond_the_pool(error: &wasmtime::Error) -> Option<(&'static str, String)> {
    const WORDS: [(&str, Limit); 3] = [
        ("core module instances", Limit::Instances),
        ("Wasm linear memories", Limit::Memories),
        ("tables", Limit::Tables),
    ];
    let text = error.root_cause().to_string();
    let (number, what) = text.strip_prefix("The component transitively contains ")?.split_once(' ')?;
    let (_, limit) = WORDS.into_iter().find(|(words, _)| what.starts_with(words))?;
    Some(needs_too_much(limit, number.parse().ok()?, limit.spec().max))
}

fn exported(engine: &Engine, component: &Component) -> Prepare<BTreeSet<Role>> {
    let mut roles = BTreeSet::new();
    let mut others = Vec::new();
    for (name, _) in component.component_type().exports(engine) {
        let (interface, version) = name.split_once('@').unwrap_or((name, ""));
        match Role::ALL.into_iter().find(|role| role.interface() == interface) {
            Some(role) if version.starts_with(CONTRACT_TRACK) => drop(roles.insert(role)),
            Some(_) => {
                let message = format!(
                    "it exports `{name}`, but this host speaks version {CONTRACT_TRACK}x of it; build the plugin against the `wit/` of this host"
                );
                return Err(("PLUGIN_EXPORT_MISMATCH", message));
            }
            None => others.push(interface.to_owned()),
        }
    }
    if !roles.is_empty() {
        return Ok(roles);
    }
    let known = Role::ALL.map(Role::interface);
    let has = if others.is_empty() { "nothing".to_owned() } else { format!("`{}`", others.join("`, `")) };
    let hint = others.iter().find_map(|other| nearest(other, known)).map_or_else(
        || format!("export at least one of: {}", known.join(", ")),
        |near| format!("did you mean `{near}`?"),
    );
    Err(("PLUGIN_NO_ROLE", format!("it exports {has}, and the host knows nothing of that; {hint}")))
}

fn database(options: &RuntimeOptions, name: &str, limits: &Limits) -> Prepare<Arc<SqlDatabase>> {
    let folder = options.data_dir.join("plugins").join(name);
    SqlDatabase::new(&folder, limits.clone()).map_err(|error| ("PLUGIN_DATABASE", error.to_string()))
}

/// The plugin's part of the Redis server; `None` when the operator configured none, and each function then says so.
fn redis(options: &RuntimeOptions, name: &str, limits: &Limits) -> Prepare<Option<Arc<RedisClient>>> {
    let Some(settings) = &options.redis else { return Ok(None) };
    let client = RedisClient::new(settings, name, limits.clone());
    client.map(Some).map_err(|error| ("PLUGIN_REDIS", error.to_string()))
}

/// Keeps a build of a task plugin before a run can be bound to it.
async fn keep(
    options: &RuntimeOptions,
    identity: &Arc<Identity>,
    manifest: Cow<'static, str>,
    wasm: Cow<'static, [u8]>,
) -> Prepare<()> {
    let Some(archive) = options.archive_dir.as_deref().map(Archive::new) else { return Ok(()) };
    let (folder, identity) = (archive.folder().display().to_string(), Arc::clone(identity));
    let keep = move || archive.keep(&identity.name, &identity.digest, &manifest, &wasm);
    let kept = tokio::task::spawn_blocking(keep).await.expect("writing does not panic and is not cancelled");
    kept.map_err(|error| {
        ("PLUGIN_ARCHIVE", format!("it cannot be kept in `{folder}` for the executions that are to call it: {error}"))
    })
}

/// Makes one instance per role, which checks the types of all exports, and asks an executor for its actions.
async fn probe(plugin: &Plugin) -> Prepare<Vec<Action>> {
    macro_rules! instance {
        ($role:expr, $prepared:expr) => {
            if let Some(prepared) = &$prepared {
                let (mut store, timer) = fresh(plugin)?;
                let instance = timer.run(prepared.instantiate_async(&mut store)).await;
                instance.map_err(|error| broken(plugin, $role, &error))?;
            }
        };
    }
    instance!(Role::Cache, plugin.prepared.cache);
    instance!(Role::Locks, plugin.prepared.locks);
    instance!(Role::Events, plugin.prepared.events);
    instance!(Role::ConfigStore, plugin.prepared.config);
    instance!(Role::MemoryStore, plugin.prepared.memory);
    let Some(prepared) = &plugin.prepared.task else { return Ok(Vec::new()) };
    let (mut store, timer) = fresh(plugin)?;
    let listed = timer
        .run(async {
            let exports = prepared.instantiate_async(&mut store).await?;
            exports.compozy_task_executor().call_actions(&mut store).await
        })
        .await;
    actions(listed.map_err(|error| broken(plugin, Role::Executor, &error))?)
        .map_err(|why| ("PLUGIN_ACTIONS_INVALID", format!("the actions that it lists are refused: {why}")))
}

fn fresh(plugin: &Plugin) -> Prepare<(Store<GuestState>, CallTimer)> {
    let mut store = plugin.store(true).map_err(|error| ("PLUGIN_GRANT_UNAVAILABLE", error.to_string()))?;
    let timer = plugin.begin(&mut store);
    Ok((store, timer))
}

/// A trap, a limit, or an export of another type than the contract's.
fn broken(plugin: &Plugin, role: Role, error: &wasmtime::Error) -> (&'static str, String) {
    let ran = error.downcast_ref::<wasmtime::WasmBacktrace>().is_some();
    let failure = plugin.failure(error);
    if !ran && matches!(failure, CallError::Trap { .. }) {
        return mismatch(role, error);
    }
    let error = failure;
    let code = if matches!(error, CallError::Limit { .. }) { "PLUGIN_LIMIT" } else { "PLUGIN_TRAP" };
    (code, format!("it failed while it was loaded: {error}"))
}

fn actions(listed: Vec<executor::Action>) -> Result<Vec<Action>, String> {
    if listed.is_empty() {
        return Err("there must be at least one".to_owned());
    }
    if listed.len() > ACTIONS_MAX {
        return Err(format!("there are {}, allowed are {ACTIONS_MAX}", listed.len()));
    }
    let mut names = BTreeSet::new();
    let mut actions = Vec::with_capacity(listed.len());
    for action in listed {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !(1..=ACTION_NAME_BYTES_MAX).contains(&action.name.len()) || !action.name.chars().all(known) {
            let name = cut(action.name, ACTION_NAME_BYTES_MAX);
            return Err(format!(
                "`{name}` is no name: write letters, digits, `-`, `_` and `.`, 1 to {ACTION_NAME_BYTES_MAX} bytes"
            ));
        }
        if !names.insert(action.name.clone()) {
            return Err(format!("`{}` is listed twice", action.name));
        }
        let input_schema = match action.input_schema {
            None => None,
            Some(text) => Some(
                serde_json::from_str(&text)
                    .map_err(|error| format!("the input schema of `{}` is no JSON: {error}", action.name))?,
            ),
        };
        actions.push(Action {
            name: action.name,
            description: cut(action.description, DESCRIPTION_BYTES_MAX),
            input_schema,
        });
    }
    Ok(actions)
}
