//! Engines on a server.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use compozy_engine::blob_store::FileBlobs;
use compozy_engine::port::{Engine, Execution, ExecutionId, TaskExecutor};
use compozy_temporal::{Address, Role, TemporalEngine, TemporalOptions};
use serde_json::json;

use crate::common::{Script, report};

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

/// An engine in a runtime of its own, which can end as a process would.
pub(crate) struct Doomed {
    runtime: tokio::runtime::Runtime,
    engine: TemporalEngine,
}

impl Doomed {
    /// With these roles.
    pub(crate) fn begin(site: &Site, roles: &[Role]) -> Self {
        let options = TemporalOptions { roles: roles.iter().copied().collect(), ..site.options.clone() };
        let begun = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let runtime = runtime.expect("a runtime");
            let engine = runtime.block_on(TemporalEngine::open(options)).expect("the engine opens");
            Self { runtime, engine }
        });
        begun.join().expect("it began")
    }

    /// Without a word to the server.
    pub(crate) fn die(self) {
        self.engine.abandon();
        self.runtime.shutdown_background();
    }
}

/// Tasks of 700 ms, and the most of them that ran at once.
pub(crate) fn counted() -> (Arc<Script>, Arc<AtomicU32>) {
    let (now, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let peak = Arc::clone(&most);
    let script = Script::new(move |call| {
        let (running, peak) = (Arc::clone(&now), Arc::clone(&peak));
        async move {
            peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(700)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            report(Ok(json!(call.task)))
        }
    });
    (script, most)
}

/// A task whose first attempt never ends and whose next one answers its number, and how many began.
pub(crate) fn first_hangs() -> (Arc<Script>, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let called = Arc::clone(&calls);
    let script = Script::new(move |call| {
        let first = called.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first {
                std::future::pending::<()>().await;
            }
            report(Ok(json!(call.attempt)))
        }
    });
    (script, calls)
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
