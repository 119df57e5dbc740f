//! What the tests share beside [`crate::script`]: engines on folders, and bounded waits.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use compozy_engine::local::{LocalEngine, LocalOptions};
use compozy_engine::port::{Engine as _, Execution, ExecutionId, Notice, StartRequest, TaskExecutor};
use compozy_engine::{Clock, EngineError};
use compozy_interpreter::Status;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

pub(crate) use crate::script::*;

/// Nothing here takes nearly as long; a test that would wait for ever fails instead.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often a condition that nobody announces is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(5);

pub(crate) fn open(folder: &Path, executor: &Arc<Script>) -> LocalEngine {
    open_with(folder, executor, |_| {}).expect("the engine opens")
}

pub(crate) fn open_with(
    folder: &Path,
    executor: &Arc<Script>,
    adjust: impl FnOnce(&mut LocalOptions),
) -> Result<LocalEngine, EngineError> {
    let mut options = LocalOptions::new(folder, Arc::clone(executor) as Arc<dyn TaskExecutor>);
    adjust(&mut options);
    LocalEngine::open(options)
}

/// The error of an engine that must not open.
pub(crate) fn refused(folder: &Path) -> EngineError {
    match open_with(folder, &Script::echo(), |_| {}) {
        Ok(_) => panic!("the engine opened"),
        Err(error) => error,
    }
}

/// Waits, but not for ever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("this ends long before the test's patience does")
}

/// Waits until something holds that nobody announces.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let look = async {
        while !holds() {
            tokio::time::sleep(LOOK).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, look).await.is_ok(), "{what} did not come true");
}

/// Starts a run and waits for its end.
pub(crate) async fn run(engine: &LocalEngine, request: StartRequest) -> Execution {
    let id = engine.start(request).await.expect("the run starts");
    ended(engine, &id).await
}

pub(crate) async fn ended(engine: &LocalEngine, id: &ExecutionId) -> Execution {
    within(engine.wait(id)).await.expect("the run ends")
}

/// What is told until a run has ended, all included.
pub(crate) async fn notices_of(watch: &mut Receiver<Notice>, run: &ExecutionId) -> Vec<Notice> {
    let mut notices = Vec::new();
    loop {
        match within(watch.recv()).await {
            Ok(notice) => {
                let last = matches!(&notice, Notice::ExecutionEnded { id, .. } if id == run);
                notices.push(notice);
                if last {
                    return notices;
                }
            }
            Err(error @ (RecvError::Closed | RecvError::Lagged(_))) => panic!("{error} after {notices:?}"),
        }
    }
}

/// Asserts that a run ended well, that its journal has no gap, and that its events lead to what is known of it.
pub(crate) async fn assert_sound(engine: &LocalEngine, id: &ExecutionId) -> Execution {
    let execution = engine.execution(id).await.expect("readable").expect("known");
    assert_eq!(execution.state.status, Status::Success, "{:?}", execution.state.failure);
    let journal = engine.journal(id).await.expect("a journal");
    let seqs: Vec<u64> = journal.iter().map(|record| record.seq).collect();
    assert_eq!(seqs, (1..=execution.events).collect::<Vec<_>>(), "numbered from 1 without gaps");
    let mut recorded: Vec<&str> = journal.iter().filter_map(|record| record.event["task"].as_str()).collect();
    recorded.sort_unstable();
    let mut tasks: Vec<&str> = execution.attempts.keys().map(String::as_str).collect();
    tasks.sort_unstable();
    recorded.retain(|task| execution.attempts.contains_key(*task));
    assert_eq!(recorded, tasks, "the end of each task is recorded once");
    assert_eq!(engine.verify(id).await.expect("verifiable"), None);
    execution
}

/// Keeps the engine's writer from writing until it is dropped.
pub(crate) struct Stall(rusqlite::Connection);

impl Stall {
    pub(crate) fn begin(folder: &Path) -> Self {
        let conn = sqlite(folder);
        conn.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes for longer than a commit");
        Self(conn)
    }

    pub(crate) fn end(self) {
        self.0.execute_batch("ROLLBACK").expect("nothing was written");
    }
}

/// The journal as any program sees it.
pub(crate) fn sqlite(folder: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(folder.join("journal.db")).expect("the journal is a SQLite file")
}

/// Where a clock that a test holds begins.
pub(crate) const NOON: u64 = 1_800_000_000_000;

/// Stands still until it is moved.
pub(crate) struct HandClock(AtomicU64);

impl HandClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(NOON)))
    }

    /// To this many milliseconds from noon.
    pub(crate) fn set(&self, ms: i64) {
        self.0.store(NOON.saturating_add_signed(ms), Ordering::SeqCst);
    }

    pub(crate) fn get(&self) -> i64 {
        self.0.load(Ordering::SeqCst).cast_signed() - NOON.cast_signed()
    }
}

impl Clock for HandClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Waits until an execution stands in a certain way.
pub(crate) async fn stands(engine: &LocalEngine, id: &ExecutionId, status: Status) -> Execution {
    let look = async {
        loop {
            let execution = engine.execution(id).await.expect("readable").expect("known");
            if execution.state.status == status {
                return execution;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    within(look).await
}

/// The kinds of the recorded events.
pub(crate) async fn kinds(engine: &LocalEngine, id: &ExecutionId) -> Vec<String> {
    let journal = engine.journal(id).await.expect("a journal");
    journal.iter().map(|record| record.event["kind"].as_str().unwrap_or_default().to_owned()).collect()
}
