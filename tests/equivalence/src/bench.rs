//! Engines to play on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use compozy_engine::blob_store::FileBlobs;
use compozy_engine::local::{LocalEngine, LocalOptions};
use compozy_engine::port::{Engine, TaskExecutor};
use compozy_plan::plan::{MEMORY_PLUGIN, Plan};
use compozy_temporal::{Address, TemporalEngine, TemporalOptions};

/// Opens engines of one kind.
#[async_trait::async_trait]
pub trait Bench: Send + Sync + 'static {
    /// For headings.
    fn name(&self) -> &'static str;
    /// An engine of its own for one fixture: it knows these workflows and no run of another fixture. It is stopped after use.
    async fn open(
        &self,
        executor: Arc<dyn TaskExecutor>,
        workflows: BTreeMap<String, Arc<Plan>>,
    ) -> Result<Arc<dyn Engine>>;
}

/// The engines that are compared with the embedded one.
pub fn others() -> Result<Vec<Arc<dyn Bench>>> {
    Ok(vec![Arc::new(Temporal::new()?)])
}

/// The engine on a real Temporal server, each fixture a project of its own.
#[derive(Debug)]
pub struct Temporal {
    folder: tempfile::TempDir,
    opened: AtomicUsize,
}

impl Temporal {
    /// On the server that all tests of the process share.
    pub fn new() -> Result<Self> {
        Ok(Self { folder: tempfile::tempdir()?, opened: AtomicUsize::new(0) })
    }
}

#[async_trait::async_trait]
impl Bench for Temporal {
    fn name(&self) -> &'static str {
        "temporal"
    }

    async fn open(
        &self,
        executor: Arc<dyn TaskExecutor>,
        workflows: BTreeMap<String, Arc<Plan>>,
    ) -> Result<Arc<dyn Engine>> {
        let number = self.opened.fetch_add(1, Ordering::SeqCst);
        let url = tokio::task::spawn_blocking(|| temporal_test_server::shared().url()).await?;
        let blobs = Arc::new(FileBlobs::new(self.folder.path().join(number.to_string())));
        let mut plugins: BTreeSet<String> =
            workflows.values().flat_map(|plan| plan.plugins()).map(str::to_owned).collect();
        plugins.insert(MEMORY_PLUGIN.to_owned());
        let project = format!("fixture-{}-{number}", std::process::id());
        let options = TemporalOptions {
            workflows: Arc::new(workflows),
            plugins: plugins.into_iter().collect(),
            heartbeat_every: Duration::from_millis(100),
            ..TemporalOptions::new(Address::new(url), project, executor, blobs)
        };
        Ok(Arc::new(TemporalEngine::open(options).await?))
    }
}

/// The embedded engine, each on a journal of its own.
#[derive(Debug)]
pub struct Embedded {
    name: &'static str,
    folder: tempfile::TempDir,
    opened: AtomicUsize,
}

impl Embedded {
    /// In a temporary folder.
    pub fn new(name: &'static str) -> Result<Self> {
        Ok(Self { name, folder: tempfile::tempdir()?, opened: AtomicUsize::new(0) })
    }
}

#[async_trait::async_trait]
impl Bench for Embedded {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn open(
        &self,
        executor: Arc<dyn TaskExecutor>,
        workflows: BTreeMap<String, Arc<Plan>>,
    ) -> Result<Arc<dyn Engine>> {
        let folder = self.folder.path().join(self.opened.fetch_add(1, Ordering::SeqCst).to_string());
        let options = LocalOptions { workflows: Arc::new(workflows), ..LocalOptions::new(folder, executor) };
        let engine = tokio::task::spawn_blocking(move || LocalEngine::open(options)).await??;
        Ok(Arc::new(engine))
    }
}
