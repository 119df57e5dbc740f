//! How a [`crate::TemporalEngine`] is set up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use compozy_engine::blob_store::BlobStore;
use compozy_engine::port::{TaskExecutor, Workflows};
use tokio::runtime::Handle;

use crate::slots::{ProcessSlots, Slots};

/// Something that the engine rests on and that ends after it, for example a server of its own.
#[async_trait::async_trait]
pub trait Companion: Send + Sync + 'static {
    /// Ends it. Idempotent.
    async fn stop(&self);
}

/// Where the server is.
#[derive(Debug, Clone)]
pub struct Address {
    /// `http://HOST:PORT`, or `https://HOST:PORT` for TLS.
    pub url: String,
    /// The namespace; it must exist.
    pub namespace: String,
    /// For a server that asks for one.
    pub api_key: Option<ApiKey>,
    /// Certificates, for a server that asks for them.
    pub tls: Option<Tls>,
    /// How long the first connection may take.
    pub connect_timeout: Duration,
}

/// A key that is never shown.
#[derive(Clone)]
pub struct ApiKey(pub String);

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

/// Certificates, in files of PEM.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// The authority that the server's certificate is from; the well-known ones otherwise.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// The name that the server's certificate must have.
    pub domain: Option<String>,
}

/// What a process does for a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Takes requests.
    Api,
    /// Drives runs.
    WorkflowWorker,
    /// Runs tasks.
    ToolWorker,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Api, Self::WorkflowWorker, Self::ToolWorker];

    /// The name in configuration and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::WorkflowWorker => "workflow-worker",
            Self::ToolWorker => "tool-worker",
        }
    }
}

/// Everything that an engine on Temporal needs.
#[derive(Clone)]
pub struct TemporalOptions {
    /// The server.
    pub address: Address,
    /// Names the task queues; processes with the same name work together.
    pub project: String,
    /// What this process does.
    pub roles: BTreeSet<Role>,
    /// The workflows that runs may start.
    pub workflows: Arc<dyn Workflows>,
    /// Runs tasks, and knows plugins.
    pub executor: Arc<dyn TaskExecutor>,
    /// Where large values are kept: one place for all processes of the project.
    pub blobs: Arc<dyn BlobStore>,
    /// The plugins that this process runs tasks of.
    pub plugins: Vec<String>,
    /// Attempts that run at once, by plugin; [`compozy_engine::limits::CONCURRENCY_DEFAULT`] for the others.
    pub concurrency: BTreeMap<String, usize>,
    /// Places that tasks of many runs share.
    pub slots: Arc<dyn Slots>,
    /// Where guests run; the current runtime otherwise.
    pub guests: Option<Handle>,
    /// A tool worker that says nothing for this long is taken for dead, and others begin its attempts again.
    pub lost_after: Duration,
    /// A tool worker says this often that an attempt lives; a wish to end reaches the attempt with the answer.
    pub heartbeat_every: Duration,
    /// How long one request to the server may take.
    pub rpc_timeout: Duration,
    /// Runs that a workflow worker keeps in memory.
    pub cached_runs: usize,
    /// Events of a history after which a run goes on in a new one as soon as nothing is under way. The same for all
    /// workers of a project, always: a replay must come to the same.
    pub history_events: u32,
    /// Ends after the engine.
    pub companion: Option<Arc<dyn Companion>>,
}

impl TemporalOptions {
    /// Everything in one process, with the usual times.
    pub fn new(
        address: Address,
        project: impl Into<String>,
        executor: Arc<dyn TaskExecutor>,
        blobs: Arc<dyn BlobStore>,
    ) -> Self {
        Self {
            address,
            project: project.into(),
            roles: Role::ALL.into(),
            workflows: Arc::new(BTreeMap::new()),
            executor,
            blobs,
            plugins: Vec::new(),
            concurrency: BTreeMap::new(),
            slots: Arc::new(ProcessSlots::default()),
            guests: None,
            lost_after: Duration::from_secs(10),
            heartbeat_every: Duration::from_secs(1),
            rpc_timeout: Duration::from_secs(10),
            cached_runs: 1_000,
            history_events: crate::limits::HISTORY_EVENTS_DUE,
            companion: None,
        }
    }
}

impl Address {
    /// A server without TLS, namespace `default`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            namespace: "default".to_owned(),
            api_key: None,
            tls: None,
            connect_timeout: Duration::from_secs(10),
        }
    }
}
