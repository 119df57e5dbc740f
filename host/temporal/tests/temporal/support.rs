//! Engines on a server.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use compozy_engine::blob_store::FileBlobs;
use compozy_engine::port::{Engine, Execution, ExecutionId, TaskExecutor};
use compozy_temporal::{Address, Role, TemporalEngine, TemporalOptions};

/// Nothing here takes nearly as long.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// Engines of one project.
pub(crate) struct Site {
    pub(crate) options: TemporalOptions,
    _folder: tempfile::TempDir,
}

impl Site {
    /// A project of its own on the server that all tests share.
    pub(crate) async fn shared(executor: Arc<dyn TaskExecutor>) -> Self {
        let url = tokio::task::spawn_blocking(|| temporal_test_server::shared().url()).await.expect("a server");
        Self::at(&url, executor)
    }

    /// The same on another server.
    pub(crate) fn at(url: &str, executor: Arc<dyn TaskExecutor>) -> Self {
        static OPENED: AtomicUsize = AtomicUsize::new(0);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let project = format!("test-{}-{}", std::process::id(), OPENED.fetch_add(1, Ordering::SeqCst));
        let options = TemporalOptions {
            plugins: vec!["test".to_owned()],
            heartbeat_every: Duration::from_millis(100),
            lost_after: Duration::from_secs(3),
            ..TemporalOptions::new(Address::new(url), project, executor, Arc::new(FileBlobs::new(folder.path())))
        };
        Self { options, _folder: folder }
    }

    /// Everything in one.
    pub(crate) async fn engine(&self) -> TemporalEngine {
        self.with(|_| {}).await
    }

    /// Only these roles.
    pub(crate) async fn role(&self, roles: &[Role]) -> TemporalEngine {
        let roles: BTreeSet<Role> = roles.iter().copied().collect();
        self.with(|options| options.roles.clone_from(&roles)).await
    }

    /// With other options.
    pub(crate) async fn with(&self, change: impl FnOnce(&mut TemporalOptions)) -> TemporalEngine {
        let mut options = self.options.clone();
        change(&mut options);
        TemporalEngine::open(options).await.expect("the engine opens")
    }
}

/// The end of a run.
pub(crate) async fn wait(engine: &dyn Engine, id: &ExecutionId) -> Execution {
    let ended = tokio::time::timeout(PATIENCE, engine.wait(id)).await;
    ended.expect("the run ends").expect("the run can be read")
}

/// Looks until something holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, look: impl Fn() -> F) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !look().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(waited.await.is_ok(), "it never came to: {what}");
}
