//! The embedded engine: a journal in one SQLite file, and nothing else to install.
//!
//! - `writer` is the one thread that writes: group commit, dispatch, retries. `batch` is one commit; `ops` and `tx` are
//!   its operations.
//! - `runs` holds runs in memory and reads them back: snapshot, then tail through the interpreter.
//! - `control` is what people do to a run, `outside` and `deliver` are what runs tell each other (an outbox, so that a
//!   crash between the two loses nothing) and their timers; `prune` removes what ended long ago.
//! - `queue` is the way in; `attempt` runs one attempt and reports.
//! - `lanes` says which of the waiting tasks are next.
//! - `reader` answers questions on connections that cannot write; `history` reads all that is recorded of a run.
//! - `checkpoint` keeps the write-ahead log short, beside the writer.
//! - `sweep` removes large values that a crash left to nobody.
//! - `file`, `schema` and `lock` are the file, its format and its owner.
//!
//! **A task may run more than once, its result is recorded exactly once.** An attempt begins after its row is durable;
//! its end counts only while the row still belongs to that attempt and that owner. After a crash the tasks whose
//! attempts were lost are attempted again, with the next attempt number and the same idempotency key; a lost attempt
//! does not count as a failed one.

mod attempt;
mod backup;
mod batch;
mod checkpoint;
mod control;
mod deliver;
mod file;
mod history;
mod lanes;
mod lock;
mod ops;
mod outside;
mod prune;
mod queue;
mod reader;
mod request;
mod runs;
mod schema;
mod shared;
mod sweep;
mod tx;
mod view;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use compozy_interpreter::RunState;
use compozy_plan::blob::has_blob_key;
use tokio::runtime::Handle;
use tokio::sync::{Notify, broadcast, oneshot};

pub use self::prune::Retention;
pub use self::shared::Stats;
pub use self::view::JournalView;

use self::file::JournalFile;
use self::lock::OwnerLock;
use self::prune::Over;
use self::queue::{QueueLimits, Request, StartReply};
use self::reader::Readers;
use self::request::{Definitions, Start};
use self::shared::{Phase, Shared};
use self::writer::Writer;
use crate::blob_store::{BlobStore, FileBlobs};
use crate::clock::{Clock, SystemClock};
use crate::port::{
    Control, Engine, EngineHealth, Execution, ExecutionId, ExecutionSummary, Filter, JournalPage, JournalRecord,
    Notice, Outcome, StartRequest, TaskExecutor, Workflows,
};
use crate::vault::{Claim, Vault};
use crate::{Difference, EngineError, History, limits};

/// The name of this engine.
const ENGINE: &str = "embedded";

/// Where large values are, in the data folder.
const BLOBS_FOLDER: &str = "blobs";

/// How long a stop waits for executors that do not let go of their thread.
const ABORT_MAX: Duration = Duration::from_secs(5);

/// What an embedded engine needs.
#[derive(Clone)]
pub struct LocalOptions {
    /// Where the journal is; created when it is missing. One host at a time.
    pub data_dir: PathBuf,
    /// Runs the tasks.
    pub executor: Arc<dyn TaskExecutor>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Attempts that run at once, 1 to [`limits::CONCURRENCY_MAX`].
    pub concurrency: usize,
    /// Runs the attempts; `None` is the runtime in which the engine is opened.
    pub runtime: Option<Handle>,
    /// Requests that may wait for the writer.
    pub queue_operations: usize,
    /// What those may hold together, in bytes.
    pub queue_bytes: usize,
    /// Where values go that are too large for the journal; `None` is the folder `blobs` in the data folder.
    pub blobs: Option<Arc<dyn BlobStore>>,
    /// The workflows that runs may start.
    pub workflows: Arc<dyn Workflows>,
    /// How long runs are kept after their end.
    pub retention: Retention,
    /// How often those are looked for that were kept for long enough.
    pub retention_every: Duration,
}

impl LocalOptions {
    /// The defaults, on the machine's clock.
    pub fn new(data_dir: impl Into<PathBuf>, executor: Arc<dyn TaskExecutor>) -> Self {
        Self {
            data_dir: data_dir.into(),
            executor,
            clock: Arc::new(SystemClock),
            concurrency: limits::CONCURRENCY_DEFAULT,
            runtime: None,
            queue_operations: limits::SUBMIT_OPS_MAX,
            queue_bytes: limits::SUBMIT_BYTES_MAX,
            blobs: None,
            workflows: Arc::new(BTreeMap::new()),
            retention: Retention::default(),
            retention_every: limits::RETENTION_EVERY,
        }
    }
}

/// The embedded engine. Dropped without [`Engine::stop`], it ends at once and goes on at the next open.
pub struct LocalEngine {
    shared: Arc<Shared>,
    readers: Arc<Readers>,
    definitions: Arc<Definitions>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl LocalEngine {
    /// Opens or creates the journal, takes over what an earlier owner left, and goes on with it.
    ///
    /// Blocks for a few disk operations.
    pub fn open(options: LocalOptions) -> Result<Self, EngineError> {
        let LocalOptions { data_dir, executor, clock, concurrency, runtime, queue_operations, queue_bytes, .. } =
            options;
        let LocalOptions { blobs, workflows, retention, retention_every, .. } = options;
        if concurrency == 0 || concurrency > limits::CONCURRENCY_MAX {
            return Err(EngineError::InvalidOption(format!(
                "the concurrency is {concurrency}, 1 to {} attempts are allowed",
                limits::CONCURRENCY_MAX
            )));
        }
        let runtime = match runtime {
            Some(runtime) => runtime,
            None => Handle::try_current().map_err(|_outside| {
                EngineError::InvalidOption("the engine needs a tokio runtime to run tasks in".to_owned())
            })?,
        };
        let lock = OwnerLock::acquire(&data_dir)?;
        let file = JournalFile::new(&data_dir);
        let queue = QueueLimits { operations: queue_operations.max(1), bytes: queue_bytes };
        let definitions = Arc::new(Definitions::new(Arc::clone(&clock), Some(Arc::clone(&executor))));
        let blobs = blobs.unwrap_or_else(|| Arc::new(FileBlobs::new(data_dir.join(BLOBS_FOLDER))));
        let vault = Arc::new(Vault::new(blobs));
        let shared = Arc::new(Shared::new(queue, clock, Arc::clone(&vault), executor, runtime.clone()));
        let (ours, theirs) = (Arc::clone(&shared), Arc::clone(&definitions));
        let writer = Writer::open(ours, file.clone(), lock, concurrency, workflows, theirs)?;
        let readers = Readers::open(file, runtime.clone(), vault)?;
        let writer = std::thread::Builder::new()
            .name("journal-writer".to_owned())
            .spawn({
                let last = WriterGone(Arc::clone(&shared));
                // Dropped after the writer has closed the journal and freed the folder, also when it panicked.
                move || {
                    let _last = last;
                    writer.run();
                }
            })
            .map_err(|e| EngineError::Internal(format!("the journal's writer cannot begin: {e}")))?;
        let swept = Arc::clone(&shared);
        runtime.spawn_blocking(move || sweep::sweep(&swept));
        runtime.spawn(prune::retain(Arc::clone(&shared), retention, retention_every));
        Ok(Self { shared, readers, definitions, writer: Mutex::new(Some(writer)) })
    }

    /// What was counted since the engine was opened.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Submits a request and waits for its answer, which comes after the commit.
    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, EngineError>>) -> Request,
    ) -> Result<T, EngineError> {
        self.submit(request)?.await.map_err(|_writer_gone| EngineError::Stopping)?
    }

    /// Submits a request; answers where its answer will be.
    fn submit<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, EngineError>>) -> Request,
    ) -> Result<oneshot::Receiver<Result<T, EngineError>>, EngineError> {
        if self.shared.draining() {
            return Err(EngineError::Stopping);
        }
        let (reply, answer) = oneshot::channel();
        self.shared.queue.submit(request(reply))?;
        Ok(answer)
    }

    /// Checks a request, and puts away what is large of it.
    async fn take_in(&self, request: StartRequest) -> Result<Start, EngineError> {
        let (definitions, vault) = (Arc::clone(&self.definitions), Arc::clone(&self.shared.vault));
        let now_ms = self.shared.clock.now_ms();
        let large = crate::request::json_bytes(&request.input) > limits::INLINE_BYTES_MAX;
        self.maybe_blocking(large, move || request::take_in(&definitions, request, now_ms, &vault)).await
    }

    /// An outcome with all that its output refers to.
    async fn whole(&self, outcome: Option<Arc<Outcome>>) -> Result<Option<Arc<Outcome>>, EngineError> {
        let Some(outcome) = outcome else { return Ok(None) };
        if !outcome.output.as_ref().is_some_and(has_blob_key) {
            return Ok(Some(outcome));
        }
        let Outcome { status, output, failure } = Arc::unwrap_or_clone(outcome);
        let vault = Arc::clone(&self.shared.vault);
        let read = move || Ok(output.map(|output| vault.whole_or_as_it_is(output)));
        let output = self.maybe_blocking(true, read).await?;
        Ok(Some(Arc::new(Outcome { status, output, failure })))
    }

    /// Runs what may write to the blob store where it may block.
    async fn maybe_blocking<T: Send + 'static>(
        &self,
        blocking: bool,
        work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        if !blocking {
            return work();
        }
        let done = self.shared.runtime.spawn_blocking(work).await;
        done.map_err(|e| EngineError::Internal(format!("the blob store: {e}")))?
    }

    fn shut_down(&self) {
        self.shared.draining.store(true, Ordering::Release);
        self.shared.queue.shutdown();
        self.readers.close();
    }

    fn join(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the journal's writer panicked");
        }
    }
}

/// Leaves nobody waiting for a writer that is no more.
struct WriterGone(Arc<Shared>);

impl Drop for WriterGone {
    fn drop(&mut self) {
        self.0.draining.store(true, Ordering::Release);
        self.0.queue.shutdown();
        loop {
            let rest = self.0.queue.drain(Some(Instant::now()));
            if rest.requests.is_empty() && rest.reports.is_empty() {
                break;
            }
            rest.requests.into_iter().for_each(|request| request.refuse(EngineError::Stopping));
        }
        self.0.phase.send_replace(Phase::Stopped);
    }
}

#[async_trait::async_trait]
impl Engine for LocalEngine {
    async fn start(&self, request: StartRequest) -> Result<ExecutionId, EngineError> {
        let start = self.take_in(request).await?;
        self.ask(|reply| Request::Start { start: Box::new(start), reply: StartReply::awaited(reply) }).await
    }

    async fn run(
        &self,
        request: StartRequest,
        patience: Duration,
    ) -> Result<(ExecutionId, Option<Arc<Outcome>>), EngineError> {
        let until = tokio::time::Instant::now() + patience;
        let start = self.take_in(request).await?;
        let own = start.id.clone();
        // Before it begins, so that its end cannot be missed and nothing need be read to know of it.
        let mut waiter = self.shared.waiter(&own);
        let mut phase = self.shared.phase.subscribe();
        let otherwise = Arc::new(Notify::new());
        let reply = |reply| StartReply::unless_begun(reply, Arc::clone(&otherwise));
        let started = self.submit(|sender| Request::Start { start: Box::new(start), reply: reply(sender) })?;
        let ended = async {
            tokio::select! {
                ended = waiter.ended.wait_for(Option::is_some) => ended.ok().and_then(|ended| ended.clone()),
                () = otherwise.notified() => None,
                // It was started and goes on when the journal is opened again.
                _ = phase.wait_for(|phase| *phase == Phase::Stopped) => None,
            }
        };
        if let Ok(Some(outcome)) = tokio::time::timeout_at(until, ended).await {
            return Ok((own, self.whole(Some(outcome)).await?));
        }
        let id = started.await.map_err(|_writer_gone| EngineError::Stopping)??;
        if id == own {
            return Ok((id, None));
        }
        // A repeated request: the first one's run may have ended long ago.
        match tokio::time::timeout_at(until, self.wait(&id)).await {
            Ok(execution) => {
                let RunState { status, output, failure, .. } = execution?.state;
                Ok((id, self.whole(Some(Arc::new(Outcome { status, output, failure }))).await?))
            }
            Err(_elapsed) => Ok((id, None)),
        }
    }

    async fn execution(&self, id: &ExecutionId) -> Result<Option<Execution>, EngineError> {
        self.readers.execution(id).await
    }

    async fn journal(&self, id: &ExecutionId) -> Result<Vec<JournalRecord>, EngineError> {
        self.readers.journal(id).await
    }

    async fn search(
        &self,
        filter: &Filter,
        limit: usize,
        before: Option<&ExecutionId>,
    ) -> Result<Vec<ExecutionSummary>, EngineError> {
        self.readers.list(filter, limit, before).await
    }

    async fn control(&self, id: &ExecutionId, control: Control) -> Result<(), EngineError> {
        let mut control = crate::request::named(control);
        let mut claim = Claim::default();
        if let Control::Signal(signal) = &mut control {
            let mut payload = std::mem::take(&mut signal.payload);
            let vault = Arc::clone(&self.shared.vault);
            let large = crate::request::json_bytes(&payload) > limits::INLINE_BYTES_MAX;
            let take_in = move || {
                let claim = vault.take_in(|| "the payload of the signal".to_owned(), &mut payload)?;
                Ok((payload, claim))
            };
            (signal.payload, claim) = self.maybe_blocking(large, take_in).await?;
        }
        let bytes = crate::request::check_control(&control)?;
        let (id, control) = (id.clone(), Box::new(control));
        self.ask(|reply| Request::Control { id, control, bytes, _claim: claim, reply }).await
    }

    async fn prune(&self, ended_before_ms: u64) -> Result<u64, EngineError> {
        if self.shared.draining() {
            return Err(EngineError::Stopping);
        }
        prune::sweep(&self.shared, Over::all(ended_before_ms), Duration::ZERO).await
    }

    async fn blob(&self, id: &ExecutionId, digest: &str) -> Result<Option<Vec<u8>>, EngineError> {
        self.readers.blob(id, digest).await
    }

    async fn backup(&self, to: &Path) -> Result<(), EngineError> {
        self.readers.backup(to).await
    }

    async fn verify(&self, id: &ExecutionId) -> Result<Option<Difference>, EngineError> {
        self.readers.verify(id).await
    }

    async fn journal_after(&self, id: &ExecutionId, after: u64, limit: usize) -> Result<JournalPage, EngineError> {
        self.readers.journal_after(id, after, limit).await
    }

    async fn export(&self, id: &ExecutionId) -> Result<History, EngineError> {
        self.readers.export(id).await
    }

    async fn pins(&self) -> Result<BTreeSet<(String, String)>, EngineError> {
        self.readers.pins().await
    }

    async fn wait(&self, id: &ExecutionId) -> Result<Execution, EngineError> {
        let mut waiter = self.shared.waiter(id);
        let mut phase = self.shared.phase.subscribe();
        loop {
            // From here on no end is missed, so the state is read after it.
            waiter.ended.mark_unchanged();
            if self.readers.has_ended(id).await? {
                let execution = self.execution(id).await?;
                return execution.ok_or_else(|| EngineError::ExecutionNotFound { id: id.clone() });
            }
            tokio::select! {
                _ = waiter.ended.changed() => {}
                _ = phase.wait_for(|phase| *phase == Phase::Stopped) => return Err(EngineError::Stopping),
            }
        }
    }

    fn watch(&self) -> broadcast::Receiver<Notice> {
        self.shared.notices.subscribe()
    }

    fn follow(&self, id: &ExecutionId) -> broadcast::Receiver<Notice> {
        self.shared.follow(id)
    }

    fn health(&self) -> EngineHealth {
        self.shared.health()
    }

    async fn stop(&self, drain: Duration) {
        self.shared.draining.store(true, Ordering::Release);
        self.shared.queue.wake();
        let mut phase = self.shared.phase.subscribe();
        let drained = tokio::time::timeout(drain, phase.wait_for(|phase| *phase >= Phase::Drained)).await.is_ok();
        if !drained {
            tracing::warn!("tasks still ran after the drain; they are attempted again at the next start");
        }
        self.shut_down();
        // The sender lives in `shared`, so neither wait can fail.
        drop(phase.wait_for(|phase| *phase == Phase::Stopped).await);
        let mut live = self.shared.live.subscribe();
        drop(tokio::time::timeout(ABORT_MAX, live.wait_for(|live| *live == 0)).await);
        self.join();
    }
}

impl Drop for LocalEngine {
    fn drop(&mut self) {
        self.shut_down();
        // The writer waits for nothing but the disk.
        self.join();
    }
}

#[cfg(test)]
mod tests;
