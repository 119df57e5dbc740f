//! `plugin test`: the public conformance suite on one component.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use compozy_conformance::{Backend, ManualClock, Options, Report, Subject, Suite};
use compozy_embed::builtins::EMBEDDED;
use compozy_runtime::bindings::compozy::host::redis::{Atomicity, Commands};
use compozy_runtime::redis::RedisClient;
use compozy_runtime::stores::{Span, Stores};
use compozy_runtime::{
    Builtin, Clock, Limits, PluginPolicy, RedisSettings, Role, Runtime, RuntimeOptions, StoreSelection, SystemClock,
};

use crate::args::{HostArgs, PluginTestArgs};
use crate::exit::{Exit, Fatal};
use crate::output::{result, say};
use crate::threads;

/// Operations of each role in a deep run.
const DEEP: usize = 1_000_000;
/// The name of a component without a manifest.
const NAMELESS: &str = "plugin-under-test";

/// Runs the suite and prints one line per rule.
pub(crate) fn test(host: &HostArgs, args: &PluginTestArgs) -> Result<Exit, Fatal> {
    let usage = |problem: String| Fatal::new(Exit::Usage, problem);
    let (manifest, component) = candidate(&args.plugin)?;
    let redis = host.loaded.config.redis_url.as_ref().map(|url| RedisSettings::parse(url.expose())).transpose();
    let redis = redis.map_err(|error| usage(error.to_string()))?;
    let scratch = tempfile::tempdir().map_err(|error| {
        Fatal::new(Exit::StorageUnavailable, format!("no temporary folder can be made: {error}; set TMPDIR"))
    })?;
    let on_redis = manifest.lines().any(|line| line.replace(' ', "") == "redis=true");
    if on_redis && redis.is_none() {
        return Err(usage("this plugin keeps its data on a Redis server; name one with --redis-url".to_owned()));
    }
    // What goes by the clock of another machine cannot be turned, only waited for.
    let clock = (!args.real_time && !on_redis).then(|| Arc::new(ManualClock::default()));
    let options = Options {
        operations: if args.deep { DEEP } else { args.operations },
        seed: args.seed,
        clock: clock.clone().map(|clock| clock as _),
        filter: args.rule.clone(),
        ..Options::default()
    };
    let clock: Arc<dyn Clock> = clock.map_or_else(|| Arc::new(SystemClock) as _, |clock| clock as _);
    let subject = Component {
        builtin: Builtin { manifest: Cow::Owned(manifest), component },
        scratch: scratch.path().to_owned(),
        redis,
        clock,
        volatile: args.volatile,
        opened: AtomicU64::new(0),
    };
    let wanted = args.role.clone();
    let summary = threads::run(async move {
        let roles = subject.roles(&wanted).await.map_err(usage)?;
        let names: Vec<&str> = roles.iter().map(|role| role.name()).collect();
        say(&format!("{}: {} operations for each of {}", args.plugin, options.operations, names.join(", ")));
        let mut print = |report: &Report| result(&report.to_string());
        Suite::new(options).run(&subject, &roles, &mut print).await.map_err(|problem| Fatal::new(Exit::Failed, problem))
    })?;
    result(&summary.to_string());
    Ok(if summary.failed() == 0 { Exit::Ok } else { Exit::Failed })
}

/// Manifest and component of a built-in, or of a file.
fn candidate(plugin: &str) -> Result<(String, Cow<'static, [u8]>), Fatal> {
    if let Some(embedded) = EMBEDDED.iter().find(|embedded| embedded.name == plugin) {
        return Ok((embedded.manifest.to_owned(), Cow::Borrowed(embedded.component)));
    }
    let path = Path::new(plugin);
    let unreadable = |path: &Path, error: std::io::Error| {
        Fatal::new(
            Exit::Usage,
            format!("`{}` cannot be read: {error}; name a .wasm file or a built-in", path.display()),
        )
    };
    let component = std::fs::read(path).map_err(|error| unreadable(path, error))?;
    let manifest = path.with_file_name("plugin.toml");
    let manifest = match std::fs::read_to_string(&manifest) {
        Ok(manifest) => manifest,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            format!("name = \"{NAMELESS}\"\nversion = \"0.0.0\"\n\n[capabilities]\nsql = true\n")
        }
        Err(error) => return Err(unreadable(&manifest, error)),
    };
    Ok((manifest, Cow::Owned(component)))
}

/// A component, opened as often as the suite asks for, each time with data of its own.
struct Component {
    builtin: Builtin,
    scratch: PathBuf,
    redis: Option<RedisSettings>,
    clock: Arc<dyn Clock>,
    volatile: bool,
    opened: AtomicU64,
}

impl Component {
    /// The roles that were asked for, or all that it has.
    async fn roles(&self, wanted: &[Role]) -> Result<Vec<Role>, String> {
        let runtime = open(self.options(&self.folder(0), StoreSelection::none())).await?;
        let has = runtime.plugins().first().map(|plugin| plugin.roles.clone()).unwrap_or_default();
        runtime.stop();
        let has: Vec<Role> = Role::STORES.into_iter().filter(|role| has.contains(role)).collect();
        if has.is_empty() {
            return Err("the component exports no role of a store, so there is nothing to test".to_owned());
        }
        match wanted.iter().find(|role| !has.contains(role)) {
            Some(missing) => Err(format!("the component does not export `{}`", missing.interface())),
            None if wanted.is_empty() => Ok(has),
            None => Ok(has.into_iter().filter(|role| wanted.contains(role)).collect()),
        }
    }

    fn folder(&self, number: u64) -> PathBuf {
        self.scratch.join(number.to_string())
    }

    fn options(&self, folder: &Path, stores: StoreSelection) -> RuntimeOptions {
        let mut policy = PluginPolicy::default();
        (policy.grants.sql, policy.grants.redis) = (true, true);
        RuntimeOptions {
            builtins: vec![self.builtin.clone()],
            code_cache_dir: Some(self.scratch.join("code")),
            default_policy: policy,
            stores,
            redis: self.redis.clone(),
            clock: Arc::clone(&self.clock),
            ..RuntimeOptions::new(folder)
        }
    }
}

async fn open(options: RuntimeOptions) -> Result<Arc<Runtime>, String> {
    Runtime::open(options).await.map_err(|error| error.to_string())
}

#[async_trait]
impl Subject for Component {
    async fn open(&self) -> Result<Box<dyn Backend>, String> {
        let number = self.opened.fetch_add(1, Ordering::Relaxed) + 1;
        let mut options = self.options(&self.folder(number), StoreSelection::none());
        if let Some(redis) = &mut options.redis {
            // Keys of their own for each, and for each run of this command.
            redis.prefix = format!("{}-test-{}-{number}", redis.prefix, std::process::id());
        }
        let probe = open(options.clone()).await?;
        let plugin = probe.plugins().into_iter().next().ok_or("the component was not loaded")?;
        probe.stop();
        drop(probe);
        for role in plugin.roles {
            if let Some(filled) = options.stores.role_mut(role) {
                *filled = Some(plugin.identity.name.clone());
            }
        }
        let runtime = open(options.clone()).await?;
        Ok(Box::new(Opened { options, runtime: Some(runtime), volatile: self.volatile }))
    }
}

/// One of them.
struct Opened {
    options: RuntimeOptions,
    runtime: Option<Arc<Runtime>>,
    volatile: bool,
}

#[async_trait]
impl Backend for Opened {
    fn stores(&self) -> Stores {
        self.runtime.as_ref().map(|runtime| Stores::clone(runtime.stores())).unwrap_or_default()
    }

    async fn reopen(&mut self) -> Result<bool, String> {
        if self.volatile {
            return Ok(false);
        }
        // The old one goes first: a database belongs to one runtime at a time.
        if let Some(runtime) = self.runtime.take() {
            runtime.stop();
        }
        self.runtime = Some(open(self.options.clone()).await?);
        Ok(true)
    }
}

/// Removes what the plugin wrote under its prefix, so that a server that is not ours is left as it was, and walks over its keys do not
/// grow with each backend.
async fn clean(settings: RedisSettings, plugin: String) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let client = RedisClient::new(&settings, &plugin, Limits::default())?;
    let mut cursor = None;
    loop {
        let page = client.scan("", cursor.as_deref(), 1_000).await.map_err(|error| format!("{error:?}"))?;
        let mut unlink = Commands { counts: Vec::new(), arguments: Vec::new(), bytes: Vec::new() };
        for key in &page.keys {
            unlink.counts.push(2);
            for argument in ["UNLINK", key] {
                let (offset, length) = (u32::try_from(unlink.bytes.len())?, u32::try_from(argument.len())?);
                unlink.arguments.push(Span { offset, length });
                unlink.bytes.extend_from_slice(argument.as_bytes());
            }
        }
        // A page may have some keys more than it was asked for, and a call takes 1,000 commands.
        if !page.keys.is_empty() {
            unlink.counts.truncate(1_000);
            unlink.arguments.truncate(2 * unlink.counts.len());
            client.run(&unlink, Atomicity::Pipeline).await.map_err(|error| format!("{error:?}"))?;
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => return Ok(()),
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.stop();
            let plugin = runtime.plugins().into_iter().next().map(|plugin| plugin.identity.name);
            if let (Some(settings), Some(plugin)) = (self.options.redis.clone(), plugin) {
                tokio::spawn(async move {
                    if let Err(error) = clean(settings, plugin).await {
                        tracing::warn!(error, "keys of the test stay on the Redis server");
                    }
                });
            }
        }
        // Many are opened in one run; what they wrote is of no more use.
        let _ = std::fs::remove_dir_all(&self.options.data_dir);
    }
}
