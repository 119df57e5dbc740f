//! What the tests of large numbers share.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use compozy_engine::Clock;
use compozy_engine::local::{LocalEngine, LocalOptions};
use compozy_engine::port::{Engine as _, Execution, ExecutionId, StartRequest, TaskCall, TaskExecutor, TaskReport};
use compozy_plan::plan::Plan;
use compozy_plan::{Project, SourceFile, compile_workflow};
use serde_json::{Value, json};

/// Nothing here takes nearly as long, on any machine.
pub(crate) const ENOUGH: Duration = Duration::from_mins(5);
/// Set to run at full size.
const FULL: &str = "COMPOZY_SCALE_FULL";

/// The size for a test, or the one for the long form.
pub(crate) fn size(short: usize, full: usize) -> usize {
    if std::env::var_os(FULL).is_some() { full } else { short }
}

/// For whoever runs the long form.
#[expect(clippy::print_stderr, reason = "figures for a person; the test harness keeps them else")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

/// A folder in memory where that is possible: for figures that are not about the disk.
pub(crate) fn memory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a folder")
}

/// Compiles a workflow with one tool, `tool`.
pub(crate) fn plan(rest: &str) -> Arc<Plan> {
    let text = format!("id: example\nversion: 0.1.0\ntools: [{{id: tool, plugin: test}}]\n{rest}");
    let file = SourceFile { path: "example.yaml".to_owned(), text };
    let outcome = compile_workflow(&file, &Project::default(), None);
    Arc::new(outcome.value.unwrap_or_else(|| panic!("{:?}", outcome.diagnostics)))
}

/// Counts what it is asked, and answers the arguments with the task's key, or nothing at all.
pub(crate) struct Worker {
    count: AtomicUsize,
    answers: bool,
}

impl Worker {
    pub(crate) fn echo() -> Arc<Self> {
        Arc::new(Self { count: AtomicUsize::new(0), answers: true })
    }

    pub(crate) fn never() -> Arc<Self> {
        Arc::new(Self { count: AtomicUsize::new(0), answers: false })
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

#[async_trait::async_trait]
impl TaskExecutor for Worker {
    async fn execute(&self, call: TaskCall) -> TaskReport {
        self.count.fetch_add(1, Ordering::SeqCst);
        if !self.answers {
            std::future::pending::<()>().await;
        }
        let mut output = call.input;
        match &mut output {
            Value::Object(output) => drop(output.insert("task".into(), json!(call.task))),
            other => *other = json!({ "task": call.task }),
        }
        TaskReport { result: Ok(output), ran: None }
    }
}

/// Stands still until it is set, in seconds from some noon.
pub(crate) struct HandClock(AtomicI64);

impl HandClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(0)))
    }

    pub(crate) fn set(&self, second: i64) {
        self.0.store(second * 1_000, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now_ms(&self) -> u64 {
        1_800_000_000_000_u64.saturating_add_signed(self.0.load(Ordering::SeqCst))
    }
}

pub(crate) fn engine(folder: &Path, worker: &Arc<Worker>) -> LocalEngine {
    engine_with(folder, worker, |_| {})
}

pub(crate) fn engine_with(folder: &Path, worker: &Arc<Worker>, adjust: impl FnOnce(&mut LocalOptions)) -> LocalEngine {
    let mut options = LocalOptions::new(folder, Arc::clone(worker) as _);
    adjust(&mut options);
    LocalEngine::open(options).expect("the engine opens")
}

pub(crate) async fn started(engine: &LocalEngine, plan: &Arc<Plan>, input: Value) -> ExecutionId {
    let request = StartRequest { plan: Arc::clone(plan), input, idempotency_key: None, priority: None };
    engine.start(request).await.expect("it starts")
}

pub(crate) async fn ended(engine: &LocalEngine, id: &ExecutionId) -> Execution {
    tokio::time::timeout(ENOUGH, engine.wait(id)).await.expect("it ends long before").expect("it ends")
}

/// Lets the engine look at its clock: anything that happens makes it do so.
pub(crate) async fn look(engine: &LocalEngine) {
    engine.prune(0).await.expect("nothing to remove");
}

pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let look = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(ENOUGH, look).await.is_ok(), "{what} did not come true");
}

/// All at once; the answers in order.
pub(crate) async fn all<F: Future>(work: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut open: Vec<_> = work.map(|work| (Box::pin(work), None)).collect();
    std::future::poll_fn(|cx| {
        let mut ready = true;
        for (work, answer) in &mut open {
            if answer.is_none() {
                match work.as_mut().poll(cx) {
                    Poll::Ready(value) => *answer = Some(value),
                    Poll::Pending => ready = false,
                }
            }
        }
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    open.into_iter().filter_map(|(_, answer)| answer).collect()
}
