//! The configuration, typed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::secret::Secret;

/// How a host is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The project's name, if the project file has one.
    pub project: Option<String>,
    /// What the defaults go by.
    pub mode: Mode,
    /// What carries workflows out.
    pub engine: EngineConfig,
    /// Which plugin keeps which store.
    pub stores: StoresConfig,
    /// The Redis server's URL.
    pub redis_url: Option<Secret>,
    /// Where large values are.
    pub blobs: BlobsConfig,
    /// What this process does. Never empty.
    pub roles: BTreeSet<ProcessRole>,
    /// What a tool-worker does.
    pub worker: WorkerConfig,
    /// Where HTTP listens, `HOST:PORT`.
    pub listen: String,
    /// The data folder.
    pub data_dir: PathBuf,
    /// Folders with plugins.
    pub plugin_dirs: Vec<PathBuf>,
    /// How long the start may take.
    pub start_timeout: Duration,
    /// How long running tasks have to end.
    pub drain: Duration,
    /// Requests of one client; `None` lets all through.
    pub rate_limit: Option<RateLimit>,
    /// How long executions are kept.
    pub retention: RetentionConfig,
    /// The log's filter; `None` leaves it to the command.
    pub log: Option<String>,
}

/// What the defaults go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One process without any service.
    Standalone,
    /// Temporal and Redis.
    Distributed,
}

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// The one in this process.
    Embedded,
    /// A Temporal server.
    Temporal,
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessRole {
    /// Serves HTTP.
    Api,
    /// Decides what comes next.
    WorkflowWorker,
    /// Runs plugins.
    ToolWorker,
}

impl ProcessRole {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Api, Self::WorkflowWorker, Self::ToolWorker];

    /// Its word in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::WorkflowWorker => "workflow-worker",
            Self::ToolWorker => "tool-worker",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standalone => "standalone",
            Self::Distributed => "distributed",
        })
    }
}

/// What carries workflows out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Which.
    pub kind: EngineKind,
    /// The Temporal server; of no meaning to the embedded engine.
    pub temporal: TemporalConfig,
}

/// The Temporal server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemporalConfig {
    /// `http://HOST:PORT` or `https://HOST:PORT`. `None` only when it is managed, or not used.
    pub address: Option<String>,
    /// The namespace.
    pub namespace: String,
    /// What task queues begin with.
    pub project: String,
    /// Sent with every request.
    pub api_key: Option<Secret>,
    /// Certificates.
    pub tls: TlsConfig,
    /// Whether a development server is started as a child.
    pub managed: bool,
    /// The program for it; `None` looks for `temporal` on the PATH.
    pub binary: Option<PathBuf>,
    /// How long one request may take.
    pub rpc_timeout: Duration,
}

/// Certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// Authorities (PEM); `None` takes the public ones.
    pub ca_file: Option<PathBuf>,
    /// Our certificate (PEM); never without the key.
    pub cert_file: Option<PathBuf>,
    /// Its key (PEM).
    pub key_file: Option<PathBuf>,
    /// The name in the server's certificate.
    pub domain: Option<String>,
}

/// Which plugin keeps which store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoresConfig {
    /// The plugins by store, for each of [`crate::keys::STORES`].
    pub plugins: BTreeMap<&'static str, String>,
}

impl StoresConfig {
    /// The stores that this plugin keeps.
    pub fn kept_by(&self, plugin: &str) -> Vec<&'static str> {
        let in_order = crate::keys::STORES.iter().copied();
        in_order.filter(|store| self.plugins.get(store).is_some_and(|keeper| keeper == plugin)).collect()
    }
}

/// Where large values are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobsConfig {
    /// In this folder; `None` is `blobs` in the data folder, which no other process sees.
    Folder(Option<PathBuf>),
    /// On S3-compatible storage.
    S3(S3Config),
}

/// S3-compatible storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Config {
    /// Where it answers; `None` is AWS.
    pub endpoint: Option<String>,
    /// The bucket.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// What names begin with; may be empty.
    pub prefix: String,
    /// The key's id.
    pub access_key_id: Secret,
    /// The key.
    pub secret_access_key: Secret,
    /// Whether the endpoint may be without TLS.
    pub allow_http: bool,
}

/// What a tool-worker does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkerConfig {
    /// The plugins that it serves; `None` is all.
    pub plugins: Option<Vec<String>>,
    /// Attempts at once, by plugin.
    pub concurrency: BTreeMap<String, u32>,
}

/// How many requests a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// So many.
    pub requests: u32,
    /// Within this time.
    pub per: Duration,
    /// So many at once, after a pause.
    pub burst: u32,
}

/// How long executions are kept after their end, by how they ended. `None` keeps them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetentionConfig {
    /// Those that ended well.
    pub success: Option<Duration>,
    /// Those that failed.
    pub failed: Option<Duration>,
    /// Those that took too long.
    pub timed_out: Option<Duration>,
    /// Those that were cancelled.
    pub canceled: Option<Duration>,
}

impl Config {
    /// Whether this process has this role.
    pub fn has(&self, role: ProcessRole) -> bool {
        self.roles.contains(&role)
    }

    /// Whether other processes have to do what this one does not.
    pub fn is_split(&self) -> bool {
        self.roles.len() < ProcessRole::ALL.len()
    }
}
