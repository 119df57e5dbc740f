//! What a host is built with.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use compozy_config::{Assignment, Given, Loaded};
use compozy_engine::blob_store::BlobStore;
use compozy_engine::local::Retention;
use compozy_plan::SourceFile;
use compozy_runtime::{Builtin, PluginPolicy, RedisSettings, RuntimeOptions, StoreSelection};
use compozy_server::RateLimit;
use compozy_server::limits::Limits;

use crate::builtins::builtins;
use crate::engine::EngineChoice;
use crate::stores::{REDIS_PLUGIN, StoreChoice};

/// A start that takes longer is given up and undone.
pub const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Running tasks have this long to end after a stop.
pub const DRAIN: Duration = Duration::from_secs(10);
/// How often services that a host uses are asked whether they are there.
pub const PROBE_EVERY: Duration = Duration::from_secs(5);

/// Whether a host needs other services.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// It needs none.
    #[default]
    Standalone,
    /// Its stores and its engine lie on services that other hosts use as well; a start waits for them.
    Distributed,
}

impl Mode {
    /// As `health` tells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Distributed => "distributed",
        }
    }
}

/// Documents of a project that lie in memory.
#[derive(Debug, Clone, Default)]
pub struct Documents {
    /// The text of the project file, which must name no workflow files.
    pub project: Option<String>,
    /// The workflows. The path of each is for messages only.
    pub workflows: Vec<SourceFile>,
}

/// Where the workflows come from.
#[derive(Debug, Clone)]
pub enum ProjectSource {
    /// A project folder, a project file or a workflow file.
    Path(PathBuf),
    /// Not from the disk.
    Memory(Documents),
}

/// What goes before the project file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Who keeps single stores.
    pub stores: Vec<StoreChoice>,
    /// The Redis server.
    pub redis_url: Option<String>,
}

impl Overrides {
    /// As keys of the configuration.
    pub(crate) fn assignments(&self) -> Vec<Assignment> {
        let assign =
            |key: String, value: &str| Assignment { key, value: Given::Text(value.to_owned()), option: "the program" };
        let stores = self.stores.iter().map(|choice| assign(format!("stores.{}", choice.role.name()), &choice.plugin));
        stores.chain(self.redis_url.iter().map(|url| assign("redis.url".to_owned(), url))).collect()
    }
}

/// What the operator says to the host, beside the workflows.
#[derive(Debug, Clone, Default)]
pub struct OperatorSettings {
    /// What plugins may do, by name.
    pub policies: BTreeMap<String, PluginPolicy>,
    /// Which plugin keeps what.
    pub stores: StoreSelection,
    /// The Redis server, if there is one.
    pub redis: Option<RedisSettings>,
    /// How long executions are kept after their end.
    pub retention: Retention,
}

impl OperatorSettings {
    /// The plugins of the binary that are of use under these settings.
    fn builtins(&self) -> Vec<Builtin> {
        builtins(|name| name != REDIS_PLUGIN || self.redis.is_some())
    }

    /// What the runtime of a host with these settings is opened with.
    pub fn runtime_options(&self, plugin_dirs: &[PathBuf], data_dir: &Path) -> RuntimeOptions {
        RuntimeOptions {
            plugin_dirs: plugin_dirs.to_vec(),
            builtins: self.builtins(),
            policies: self.policies.clone(),
            stores: self.stores.clone(),
            redis: self.redis.clone(),
            ..RuntimeOptions::new(data_dir)
        }
    }
}

/// All of it; [`crate::HostBuilder`] sets one at a time.
#[derive(Clone)]
pub struct HostOptions {
    /// Where the workflows come from.
    pub project: ProjectSource,
    /// Where journal, databases of plugins and compiled code are kept. One host at a time.
    pub data_dir: PathBuf,
    /// Folders of plugins, beside those that are built in.
    pub plugin_dirs: Vec<PathBuf>,
    /// In place of what the project file says to the operator's side.
    pub settings: Option<OperatorSettings>,
    /// The configuration, when somebody has read it already.
    pub configuration: Option<Arc<Loaded>>,
    /// What goes before the project file.
    pub overrides: Overrides,
    /// Whether other services are needed.
    pub mode: Mode,
    /// Who runs the workflows.
    pub engine: EngineChoice,
    /// Where large values are kept; `None` is the data folder.
    pub blobs: Option<Arc<dyn BlobStore>>,
    /// Whether this host takes requests; without, its address only says how it feels.
    pub api: bool,
    /// Address and port of the HTTP API; `None` opens no port, port 0 takes a free one.
    pub listen: Option<String>,
    /// Limits of the HTTP API.
    pub http: Limits,
    /// How often one client of the HTTP API may ask; distributed hosts with the same cache count together.
    pub rate_limit: Option<RateLimit>,
    /// A start that takes longer is given up and undone.
    pub start_timeout: Duration,
    /// Running tasks have this long to end after a stop.
    pub drain: Duration,
    /// How often services that the host uses are asked whether they are there.
    pub probe_every: Duration,
    /// Threads that run plugins; `None` is one for each processor.
    pub guest_threads: Option<NonZeroUsize>,
}

impl HostOptions {
    /// A host with the plugins that are built in, without workflows and without HTTP.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            project: ProjectSource::Memory(Documents::default()),
            data_dir: data_dir.into(),
            plugin_dirs: Vec::new(),
            settings: None,
            configuration: None,
            overrides: Overrides::default(),
            mode: Mode::default(),
            engine: EngineChoice::default(),
            blobs: None,
            api: true,
            listen: None,
            http: Limits::default(),
            rate_limit: None,
            start_timeout: START_TIMEOUT,
            drain: DRAIN,
            probe_every: PROBE_EVERY,
            guest_threads: None,
        }
    }
}

impl std::fmt::Debug for HostOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostOptions")
            .field("data_dir", &self.data_dir)
            .field("mode", &self.mode)
            .field("engine", &self.engine)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}
