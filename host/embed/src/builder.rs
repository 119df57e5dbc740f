//! How a host is put together.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use compozy_engine::blob_store::BlobStore;
use compozy_plan::SourceFile;
use compozy_server::RateLimit;
use compozy_server::limits::Limits;

use crate::engine::EngineChoice;
use crate::error::StartError;
use crate::host::Host;
use crate::options::{Documents, HostOptions, Mode, OperatorSettings, ProjectSource};
use crate::prepare::{self, Prepared};
use crate::stores::StoreChoice;

/// Collects options. Nothing is looked at before [`HostBuilder::prepare`] or [`HostBuilder::start`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is started"]
pub struct HostBuilder(HostOptions);

impl HostBuilder {
    /// With these options.
    pub fn of(options: HostOptions) -> Self {
        Self(options)
    }

    /// The workflows of a project folder, a project file or a single workflow file, with what it says to plugins and stores.
    pub fn project(mut self, path: impl Into<PathBuf>) -> Self {
        self.0.project = ProjectSource::Path(path.into());
        self
    }

    /// A workflow that lies in memory; may be repeated. `name` is for messages.
    pub fn workflow(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        let file = SourceFile { path: name.into(), text: text.into() };
        self.documents().workflows.push(file);
        self
    }

    /// The project file of workflows that lie in memory.
    pub fn project_text(mut self, text: impl Into<String>) -> Self {
        self.documents().project = Some(text.into());
        self
    }

    fn documents(&mut self) -> &mut Documents {
        if let ProjectSource::Path(_) = self.0.project {
            self.0.project = ProjectSource::Memory(Documents::default());
        }
        match &mut self.0.project {
            ProjectSource::Memory(documents) => documents,
            ProjectSource::Path(_) => unreachable!("it was replaced"),
        }
    }

    /// A folder of plugins; may be repeated. A plugin takes the place of the built-in of its name.
    pub fn plugins(mut self, folder: impl Into<PathBuf>) -> Self {
        self.0.plugin_dirs.push(folder.into());
        self
    }

    /// Which plugin keeps a store; goes before the project file.
    pub fn store(mut self, choice: StoreChoice) -> Self {
        self.0.overrides.stores.push(choice);
        self
    }

    /// The Redis server, for plugins that use one; goes before the project file.
    pub fn redis_url(mut self, url: impl Into<String>) -> Self {
        self.0.overrides.redis_url = Some(url.into());
        self
    }

    /// In place of everything that the project file says to plugins, stores, Redis and retention.
    pub fn settings(mut self, settings: OperatorSettings) -> Self {
        self.0.settings = Some(settings);
        self
    }

    /// Whether the services that the host uses must be there when it starts.
    pub fn mode(mut self, mode: Mode) -> Self {
        self.0.mode = mode;
        self
    }

    /// Who runs the workflows.
    pub fn engine(mut self, engine: EngineChoice) -> Self {
        self.0.engine = engine;
        self
    }

    /// Where large values are kept.
    pub fn blobs(mut self, blobs: Arc<dyn BlobStore>) -> Self {
        self.0.blobs = Some(blobs);
        self
    }

    /// Serves the HTTP API at this address, for example `127.0.0.1:0` for a free port.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.0.listen = Some(address.into());
        self
    }

    /// Limits of the HTTP API.
    pub fn http(mut self, limits: Limits) -> Self {
        self.0.http = limits;
        self
    }

    /// How often one client of the HTTP API may ask.
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.0.rate_limit = Some(limit);
        self
    }

    /// A start that takes longer is given up and undone.
    pub fn start_timeout(mut self, limit: Duration) -> Self {
        self.0.start_timeout = limit;
        self
    }

    /// Running tasks have this long to end after a stop.
    pub fn drain(mut self, limit: Duration) -> Self {
        self.0.drain = limit;
        self
    }

    /// How often services that the host uses are asked whether they are there.
    pub fn probe_every(mut self, pause: Duration) -> Self {
        self.0.probe_every = pause;
        self
    }

    /// Threads that run plugins.
    pub fn guest_threads(mut self, threads: NonZeroUsize) -> Self {
        self.0.guest_threads = Some(threads);
        self
    }

    /// Reads and checks everything; nothing runs yet. Needs a tokio runtime with time and I/O.
    ///
    /// # Errors
    /// Everything that is wrong, in one go.
    pub async fn prepare(self) -> Result<Prepared, StartError> {
        prepare::prepare(self.0).await
    }

    /// Starts a host. From then on executions that were interrupted go on. Needs a tokio runtime with time and I/O.
    ///
    /// # Errors
    /// Everything that is wrong, in one go. What was begun is undone.
    pub async fn start(self) -> Result<Host, StartError> {
        self.prepare().await?.start().await
    }
}
