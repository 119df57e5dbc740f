//! What the tests share: plans from workflow texts, an executor that follows a script, and bounded waits.

use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use compozy_engine::local::{LocalEngine, LocalOptions};
use compozy_engine::port::{
    Engine as _, Execution, ExecutionId, Notice, Ran, StartRequest, TaskCall, TaskExecutor, TaskReport,
};
use compozy_engine::{Clock, EngineError};
use compozy_interpreter::{Failure, Status};
use compozy_plan::plan::Plan;
use compozy_plan::{Project, SourceFile, compile_workflow};
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// Nothing here takes nearly as long; a test that would wait for ever fails instead.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often a condition that nobody announces is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(5);

/// Compiles a workflow with one tool, `tool`. `rest` begins with `tasks:` or other keys of a workflow.
pub(crate) fn plan(rest: &str) -> Arc<Plan> {
    let text = format!("id: example\nversion: 0.1.0\ntools: [{{id: tool, plugin: test}}]\n{rest}");
    let file = SourceFile { path: "example.yaml".to_owned(), text };
    let outcome = compile_workflow(&file, &Project::default(), None);
    Arc::new(outcome.value.unwrap_or_else(|| panic!("{}\n{:?}", file.text, outcome.diagnostics)))
}

/// Tasks `t0`, `t1`, … one after the other; each has what the one before it answered. One attempt each.
pub(crate) fn linear(tasks: usize) -> Arc<Plan> {
    let task = |n: usize| {
        let with = match n.checked_sub(1) {
            Some(before) => format!("{{before: \"{{{{ .tasks.t{before}.output }}}}\"}}"),
            None => "{first: true}".to_owned(),
        };
        format!("  - {{id: t{n}, tool: tool, with: {with}}}\n")
    };
    let tasks: String = (0..tasks).map(task).collect();
    plan(&format!("config: {{retry_policy: {{maximum_attempts: 1}}}}\ntasks:\n{tasks}"))
}

/// One task, `t`, with this policy.
pub(crate) fn with_policy(policy: &str) -> Arc<Plan> {
    plan(&format!("tasks:\n  - {{id: t, tool: tool, with: {{n: 1}}, config: {policy}}}\n"))
}

pub(crate) fn request(plan: &Arc<Plan>) -> StartRequest {
    request_with(plan, json!({}))
}

pub(crate) fn request_with(plan: &Arc<Plan>, input: Value) -> StartRequest {
    StartRequest { plan: Arc::clone(plan), input, idempotency_key: None, priority: None }
}

pub(crate) fn keyed(plan: &Arc<Plan>, input: Value, key: &str) -> StartRequest {
    StartRequest { idempotency_key: Some(key.to_owned()), ..request_with(plan, input) }
}

/// An answer.
pub(crate) type Answer = Pin<Box<dyn Future<Output = TaskReport> + Send>>;

/// An executor that follows a script, and notes what it was asked.
pub(crate) struct Script {
    calls: Mutex<Vec<TaskCall>>,
    answer: Box<dyn Fn(TaskCall) -> Answer + Send + Sync>,
}

impl Script {
    /// Answers with what a future comes to.
    pub(crate) fn new<F>(answer: impl Fn(TaskCall) -> F + Send + Sync + 'static) -> Arc<Self>
    where
        F: Future<Output = TaskReport> + Send + 'static,
    {
        Arc::new(Self { calls: Mutex::default(), answer: Box::new(move |call| Box::pin(answer(call))) })
    }

    /// Answers at once.
    pub(crate) fn now(answer: impl Fn(&TaskCall) -> Result<Value, Failure> + Send + Sync + 'static) -> Arc<Self> {
        Self::new(move |call| std::future::ready(report(answer(&call))))
    }

    /// Every task answers its own key.
    pub(crate) fn echo() -> Arc<Self> {
        Self::now(|call| Ok(json!(call.task)))
    }

    /// No attempt ever ends by itself.
    pub(crate) fn never() -> Arc<Self> {
        Self::new(|_| std::future::pending())
    }

    pub(crate) fn calls(&self) -> Vec<TaskCall> {
        self.calls.lock().expect("no test panics while it holds this").clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.calls.lock().expect("no test panics while it holds this").len()
    }

    /// What was called, in order, with the number of the attempt.
    pub(crate) fn attempts(&self) -> Vec<(String, u32)> {
        self.calls().into_iter().map(|call| (call.task, call.attempt)).collect()
    }
}

#[async_trait::async_trait]
impl TaskExecutor for Script {
    async fn execute(&self, call: TaskCall) -> TaskReport {
        self.calls.lock().expect("no test panics while it holds this").push(call.clone());
        (self.answer)(call).await
    }
}

pub(crate) fn ran() -> Ran {
    Ran { plugin: "test".to_owned(), version: "1.0.0".to_owned(), digest: "d1".to_owned(), fuel: 7, wall_us: 9 }
}

pub(crate) fn report(result: Result<Value, Failure>) -> TaskReport {
    TaskReport { result, ran: Some(ran()) }
}

/// Counts how often a future that holds one was dropped.
#[derive(Clone, Default)]
pub(crate) struct Drops(Arc<AtomicUsize>);

impl Drops {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// A future that never ends, and counts its end.
    pub(crate) fn pending(&self) -> impl Future<Output = TaskReport> + Send + use<> {
        struct OnDrop(Drops);
        impl Drop for OnDrop {
            fn drop(&mut self) {
                self.0.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let guard = OnDrop(self.clone());
        async move {
            let _guard = guard;
            std::future::pending().await
        }
    }
}

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

/// Compiles workflows that know each other.
pub(crate) fn workflows(files: &[(&str, &str)]) -> std::collections::BTreeMap<String, Arc<Plan>> {
    let compiled = files.iter().map(|(id, rest)| {
        let text = format!("id: {id}\ntools: [{{id: tool, plugin: test}}]\n{rest}");
        let file = SourceFile { path: format!("{id}.yaml"), text };
        let outcome = compile_workflow(&file, &Project::default(), None);
        let plan = outcome.value.unwrap_or_else(|| panic!("{}\n{:?}", file.text, outcome.diagnostics));
        ((*id).to_owned(), Arc::new(plan))
    });
    compiled.collect()
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
