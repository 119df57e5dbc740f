//! The engine on Temporal, as a host has it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use compozy_blobs::{ObjectBlobs, UsedBlobs};
use compozy_dev_server::{DevServer, Options as DevServerOptions};
use compozy_engine::EngineError;
use compozy_engine::port::Engine;
use compozy_plan::plan::MEMORY_PLUGIN;
use compozy_temporal::{
    Address, Companion, ConnectError, ProcessSlots, Role, Slots, TemporalEngine, TemporalOptions, names,
};

use crate::engine::{EngineFactory, EngineParts};
use crate::slots::LockedSlots;

/// Where the Temporal server is.
#[derive(Debug, Clone)]
pub enum TemporalServer {
    /// Somebody runs it.
    At(Address),
    /// A development server, started and ended with the host; its files lie in the data folder.
    Managed {
        /// The program; `None` is `temporal` on the PATH.
        program: Option<PathBuf>,
        /// How long it may take until it serves.
        start_timeout: Duration,
    },
}

/// How a host uses Temporal.
#[derive(Debug, Clone)]
pub struct TemporalChoice {
    /// The server.
    pub server: TemporalServer,
    /// What task queues are called after; hosts with the same name work together.
    pub project: String,
    /// What this host does.
    pub roles: BTreeSet<Role>,
    /// The plugins that it runs tasks of; `None` is all.
    pub plugins: Option<Vec<String>>,
    /// Attempts that run at once, by plugin.
    pub concurrency: BTreeMap<String, usize>,
    /// How long one request to the server may take.
    pub rpc_timeout: Duration,
}

impl TemporalChoice {
    /// Everything in one host.
    pub fn new(server: TemporalServer, project: impl Into<String>) -> Self {
        Self {
            server,
            project: project.into(),
            roles: Role::ALL.into(),
            plugins: None,
            concurrency: BTreeMap::new(),
            rpc_timeout: Duration::from_secs(10),
        }
    }

    fn is_split(&self) -> bool {
        self.roles.len() < Role::ALL.len()
    }
}

/// Opens the engine.
#[derive(Debug)]
pub(crate) struct TemporalFactory(pub(crate) TemporalChoice);

/// Ends the server after the engine that it served.
struct Server(Arc<DevServer>);

#[async_trait]
impl Companion for Server {
    async fn stop(&self) {
        let server = Arc::clone(&self.0);
        drop(tokio::task::spawn_blocking(move || server.stop()).await);
    }
}

#[async_trait]
impl EngineFactory for TemporalFactory {
    fn name(&self) -> &'static str {
        "temporal"
    }

    async fn check(&self) -> Result<(), EngineError> {
        match &self.0.server {
            TemporalServer::At(address) => compozy_temporal::reach(address).await.map_err(refused),
            TemporalServer::Managed { .. } => Ok(()),
        }
    }

    async fn open(&self, parts: EngineParts) -> Result<Arc<dyn Engine>, EngineError> {
        let choice = &self.0;
        let (address, companion) = match &choice.server {
            TemporalServer::At(address) => (address.clone(), None),
            TemporalServer::Managed { program, start_timeout } => {
                let server = manage(&parts.data_dir, program.clone(), *start_timeout).await?;
                (Address::new(format!("http://{}", server.address())), Some(Arc::new(Server(server))))
            }
        };
        let in_data_dir = || Arc::new(UsedBlobs::new(ObjectBlobs::folder(parts.data_dir.join("blobs")))) as _;
        let blobs = parts.blobs.clone().unwrap_or_else(in_data_dir);
        let slots: Arc<dyn Slots> = match (&parts.stores.locks, choice.is_split()) {
            (Some(locks), true) => Arc::new(LockedSlots::new(Arc::clone(locks))),
            _ => Arc::new(ProcessSlots::default()),
        };
        // Tasks on the memory store need no plugin of their own, so every tool worker does them.
        let mut plugins = choice.plugins.clone().unwrap_or_else(|| parts.executor.plugins());
        plugins.push(MEMORY_PLUGIN.to_owned());
        let options = TemporalOptions {
            roles: choice.roles.clone(),
            workflows: Arc::clone(&parts.workflows),
            plugins,
            concurrency: choice.concurrency.clone(),
            slots,
            guests: Some(parts.guests.clone()),
            rpc_timeout: choice.rpc_timeout,
            companion: companion.clone().map(|server| server as Arc<dyn Companion>),
            ..TemporalOptions::new(address, choice.project.clone(), parts.executor, blobs)
        };
        match TemporalEngine::open(options).await {
            Ok(engine) => Ok(Arc::new(engine)),
            Err(error) => {
                if let Some(server) = companion {
                    server.stop().await;
                }
                Err(refused(error))
            }
        }
    }
}

/// Starts a development server in the data folder.
async fn manage(
    data_dir: &Path,
    program: Option<PathBuf>,
    start_timeout: Duration,
) -> Result<Arc<DevServer>, EngineError> {
    let options = DevServerOptions {
        program,
        search_attributes: names::ATTRIBUTES.map(|name| (name.to_owned(), "Keyword".to_owned())).to_vec(),
        start_timeout,
        ..DevServerOptions::new(data_dir.join("temporal"))
    };
    let started = tokio::task::spawn_blocking(move || DevServer::start(options)).await;
    let started = started.map_err(|error| EngineError::Internal(format!("the Temporal server's start: {error}")))?;
    started.map(Arc::new).map_err(|error| EngineError::InvalidOption(error.to_string()))
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn refused(error: ConnectError) -> EngineError {
    EngineError::InvalidOption(error.to_string())
}
