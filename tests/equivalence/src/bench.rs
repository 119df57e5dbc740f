//! Engines to play on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use compozy_engine::local::{LocalEngine, LocalOptions};
use compozy_engine::port::{Engine, TaskExecutor};
use compozy_plan::plan::Plan;

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
    // The same engine again: what differs between two plays of it is no difference of engines.
    Ok(vec![Arc::new(Embedded::new("embedded again")?)])
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
