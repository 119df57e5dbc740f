//! The port: what the rest of the host knows of an engine, whichever it is.
//!
//! Guarantee of every engine: **a task may run more than once, its result is recorded exactly once.**

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use compozy_interpreter::{Failure, RunState, Signal, Status, TaskKey};
use compozy_plan::plan::{Plan, Tool};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::services::{ServiceHealth, WorkerHealth};

/// Names an execution. Sorts by the time of its start.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExecutionId(pub String);

impl std::fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A run to be started.
#[derive(Debug, Clone)]
pub struct StartRequest {
    /// The definition; the run keeps it.
    pub plan: Arc<Plan>,
    /// Checked against the plan's schema by the engine before anything is written.
    pub input: Value,
    /// A second start with the same key answers the first one's id. At most 255 bytes.
    pub idempotency_key: Option<String>,
    /// The priority of its tasks, 1 (first) to 5 (last), in place of the definition's.
    pub priority: Option<u8>,
}

/// What a run is bound to beside its definition: the plugins that it may call, by name, each with the SHA-256 of its
/// component when the run began.
pub type Pins = BTreeMap<String, String>;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// How.
    pub status: Status,
    /// What it answered; `None` unless it succeeded.
    pub output: Option<Value>,
    /// Why it did not succeed.
    pub failure: Option<Failure>,
}

/// An execution as it stands.
#[derive(Debug, Clone)]
pub struct Execution {
    /// Its id.
    pub id: ExecutionId,
    /// The workflow's id.
    pub workflow: String,
    /// SHA-256 of the definition that it runs on.
    pub definition: String,
    /// The plugins that it is bound to.
    pub pins: Pins,
    /// Status, tasks, output.
    pub state: RunState,
    /// What the engine knows of each scheduled task, by key.
    pub attempts: indexmap::IndexMap<String, TaskRecord>,
    /// Events in its journal.
    pub events: u64,
    /// The run that it is a part of.
    pub parent: Option<ExecutionId>,
    /// The runs that its tasks started, by the task's key.
    pub children: indexmap::IndexMap<String, ExecutionId>,
}

/// What an engine records of a scheduled task beside its result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Attempts begun.
    pub attempts: u32,
    /// Who ran the last attempt.
    pub ran: Option<Ran>,
    /// When the last attempt began, in milliseconds since 1970.
    pub started_at_ms: Option<u64>,
    /// When the last attempt ended, in milliseconds since 1970.
    pub ended_at_ms: Option<u64>,
    /// When the next attempt begins, while one is due, in milliseconds since 1970.
    pub next_attempt_at_ms: Option<u64>,
    /// Why the last attempt failed, when another follows or none is left.
    pub last_failure: Option<String>,
}

/// What executed an attempt, and what it cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// The plugin's name.
    pub plugin: String,
    /// The plugin's version.
    pub version: String,
    /// SHA-256 of the plugin's component.
    pub digest: String,
    /// Fuel used (about one per WebAssembly instruction).
    pub fuel: u64,
    /// Time from call to answer, in microseconds.
    pub wall_us: u64,
}

/// One attempt of one task, for a [`TaskExecutor`].
#[derive(Debug, Clone)]
pub struct TaskCall {
    /// The execution.
    pub execution: ExecutionId,
    /// The task's key in it.
    pub task: String,
    /// What to call.
    pub tool: Tool,
    /// SHA-256 of the component that the run is bound to; `None` when it is bound to none.
    pub pin: Option<String>,
    /// The rendered `with`.
    pub input: Value,
    /// Equal for all attempts of one task: `<execution>/<task>`.
    pub idempotency_key: String,
    /// From 1.
    pub attempt: u32,
    /// The attempt ends after this long; the engine enforces it by dropping the future.
    pub timeout: Duration,
    /// How the attempt and the engine talk to each other meanwhile.
    pub signs: Signs,
}

/// Signs of life from an attempt to its engine, and the wish to end from the engine to the attempt. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Signs(Arc<SignsInner>);

/// Whoever is told of heartbeats, and of what they say.
type Listener = Box<dyn Fn(&str) + Send + Sync>;

struct SignsInner {
    alive: tokio::sync::Notify,
    asked: tokio::sync::watch::Sender<bool>,
    listener: Option<Listener>,
}

impl std::fmt::Debug for SignsInner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signs").field("asked_to_end", &*self.asked.borrow()).finish_non_exhaustive()
    }
}

impl Default for Signs {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Signs {
    fn new(listener: Option<Listener>) -> Self {
        let asked = tokio::sync::watch::channel(false).0;
        Self(Arc::new(SignsInner { alive: tokio::sync::Notify::new(), asked, listener }))
    }

    /// Tells somebody of each heartbeat, with what it says. What is called must not block.
    pub fn heard_by(listener: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self::new(Some(Box::new(listener)))
    }

    /// The attempt is alive. A task with a heartbeat timeout must say so at least that often.
    pub fn heartbeat(&self) {
        self.heartbeat_at("");
    }

    /// The same, with a few words about where the attempt is.
    pub fn heartbeat_at(&self, detail: &str) {
        self.0.alive.notify_one();
        if let Some(listener) = &self.0.listener {
            listener(detail);
        }
    }

    /// Waits for the next sign of life.
    pub async fn alive(&self) {
        self.0.alive.notified().await;
    }

    /// Asks the attempt to end by itself.
    pub fn ask_to_end(&self) {
        self.0.asked.send_replace(true);
    }

    /// Whether somebody wants the attempt to end.
    pub fn asked_to_end(&self) -> bool {
        *self.0.asked.borrow()
    }

    /// Waits until somebody wants the attempt to end.
    pub async fn wait_until_asked(&self) {
        let mut asked = self.0.asked.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        drop(asked.wait_for(|asked| *asked).await);
    }
}

/// The workflows that a run may start: as a child, or by a signal.
pub trait Workflows: Send + Sync + 'static {
    /// The workflow of this id.
    fn workflow(&self, id: &str) -> Option<Arc<Plan>>;
    /// The workflows with a trigger of this name, in a fixed order.
    fn triggered_by(&self, signal: &str) -> Vec<Arc<Plan>>;
}

/// A fixed set of workflows, by id.
impl Workflows for BTreeMap<String, Arc<Plan>> {
    fn workflow(&self, id: &str) -> Option<Arc<Plan>> {
        self.get(id).cloned()
    }

    fn triggered_by(&self, signal: &str) -> Vec<Arc<Plan>> {
        let listens = |plan: &&Arc<Plan>| plan.triggers.iter().any(|trigger| trigger.name == signal);
        self.values().filter(listens).cloned().collect()
    }
}

/// What can be done to an execution that runs, or has ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Control {
    /// Say something to it. A second signal of the same id has no effect; one with an empty id gets one of its own.
    Signal(Signal),
    /// Begin nothing new. No effect on one that is paused.
    Pause {
        /// For a person.
        reason: String,
    },
    /// Go on. No effect on one that is not paused.
    Resume,
    /// End: what runs is asked to, and ended by force after the grace. No effect on one that has ended.
    Cancel {
        /// For a person.
        reason: String,
        /// In milliseconds, at most [`crate::limits::CANCEL_GRACE_MS_MAX`]; 0 ends it at once.
        grace_ms: u64,
    },
    /// End at once, as failed. No effect on one that has ended.
    Terminate {
        /// For a person.
        reason: String,
    },
    /// Begin again what ended badly. Only for one that has ended badly.
    Retry,
    /// Go back to a task and on from there.
    Reset {
        /// The task's key.
        task: TaskKey,
    },
}

impl Control {
    /// For messages and routes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Signal(_) => "signal",
            Self::Pause { .. } => "pause",
            Self::Resume => "resume",
            Self::Cancel { .. } => "cancel",
            Self::Terminate { .. } => "terminate",
            Self::Retry => "retry",
            Self::Reset { .. } => "reset",
        }
    }
}

/// Which executions a list shows. Everything that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// How they stand.
    pub status: Option<Status>,
    /// Their workflow's id.
    pub workflow: Option<String>,
    /// They began at this time or later, in milliseconds since 1970.
    pub started_from_ms: Option<u64>,
    /// They began before this time, in milliseconds since 1970.
    pub started_before_ms: Option<u64>,
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub struct TaskReport {
    /// The executor's answer, or why there is none.
    pub result: Result<Value, Failure>,
    /// Who answered; `None` when no plugin was reached.
    pub ran: Option<Ran>,
}

/// Runs tasks for an engine. Dropping the future ends the attempt at once.
#[async_trait::async_trait]
pub trait TaskExecutor: Send + Sync + 'static {
    /// Runs one attempt. Never panics, never blocks the thread for long.
    async fn execute(&self, call: TaskCall) -> TaskReport;
    /// The plugins that a run of this plan may call, as they are now; child runs have pins of their own. Does no I/O.
    fn pins(&self, _plan: &Plan) -> Pins {
        Pins::new()
    }
}

/// What an engine tells to those who watch it. Best effort: a slow watcher misses some; the journal has all.
#[derive(Debug, Clone)]
pub enum Notice {
    /// An execution began.
    ExecutionStarted {
        /// Which.
        id: ExecutionId,
        /// The workflow's id.
        workflow: String,
    },
    /// A task ended (any type, not only scheduled ones).
    TaskEnded {
        /// Of which execution.
        id: ExecutionId,
        /// The task's key.
        task: String,
        /// The task's type.
        kind: String,
        /// How.
        status: compozy_interpreter::Status,
        /// Who ran it, for a scheduled task.
        ran: Option<Ran>,
        /// Attempts, for a scheduled task.
        attempts: u32,
    },
    /// An attempt failed and another will follow.
    AttemptFailed {
        /// Of which execution.
        id: ExecutionId,
        /// The task's key.
        task: String,
        /// The attempt that failed, from 1.
        attempt: u32,
        /// Why.
        failure: Failure,
        /// The wait before the next one, in milliseconds.
        retry_in_ms: u64,
    },
    /// An event was written to an execution's journal.
    Recorded {
        /// Of which execution.
        id: ExecutionId,
        /// The event's number; the greatest there is where the engine does not know it.
        seq: u64,
    },
    /// An attempt of a task begins.
    AttemptStarted {
        /// Of which execution.
        id: ExecutionId,
        /// The task's key.
        task: String,
        /// The attempt, from 1.
        attempt: u32,
    },
    /// An attempt of a task is alive.
    Heartbeat {
        /// Of which execution.
        id: ExecutionId,
        /// The task's key.
        task: String,
        /// The attempt, from 1.
        attempt: u32,
        /// Where it is, in its own words.
        detail: String,
    },
    /// An execution that has not ended stands otherwise now: it waits, is paused, or goes on.
    ExecutionChanged {
        /// Which.
        id: ExecutionId,
        /// How.
        status: compozy_interpreter::Status,
    },
    /// An execution ended.
    ExecutionEnded {
        /// Which.
        id: ExecutionId,
        /// How.
        status: compozy_interpreter::Status,
    },
}

impl Notice {
    /// The execution that it is about.
    pub fn execution(&self) -> &ExecutionId {
        match self {
            Self::ExecutionStarted { id, .. }
            | Self::TaskEnded { id, .. }
            | Self::Recorded { id, .. }
            | Self::AttemptStarted { id, .. }
            | Self::AttemptFailed { id, .. }
            | Self::Heartbeat { id, .. }
            | Self::ExecutionChanged { id, .. }
            | Self::ExecutionEnded { id, .. } => id,
        }
    }
}

/// One event of an execution's journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalRecord {
    /// From 1, without gaps.
    pub seq: u64,
    /// When it was recorded, in milliseconds since 1970.
    pub at_ms: u64,
    /// The event.
    pub event: Value,
}

/// A part of an execution's journal.
#[derive(Debug, Clone, PartialEq)]
pub struct JournalPage {
    /// In order.
    pub records: Vec<JournalRecord>,
    /// Nothing follows: the execution has ended.
    pub ended: bool,
}

/// One line of a list of executions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExecutionSummary {
    /// Its id.
    pub id: ExecutionId,
    /// The workflow's id.
    pub workflow: String,
    /// How it stands.
    pub status: compozy_interpreter::Status,
    /// Milliseconds since 1970.
    pub started_at_ms: u64,
    /// Milliseconds since 1970, once it ended.
    pub ended_at_ms: Option<u64>,
}

/// How an engine feels.
#[derive(Debug, Clone, Serialize)]
pub struct EngineHealth {
    /// `embedded` or `temporal`.
    pub engine: &'static str,
    /// False while it cannot make anything durable.
    pub writable: bool,
    /// One sentence for a person, for example why it cannot write.
    pub detail: String,
    /// Runs that have not ended.
    pub open_executions: u64,
    /// Tasks that run now.
    pub running_tasks: u64,
    /// Commits since it was opened; each is one sync of the disk. 0 where somebody else keeps the journal.
    pub commits: u64,
}

/// An engine.
#[async_trait::async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Starts a run and answers once that is durable. Cancel-safe: dropped, the run was either started whole or not at all.
    async fn start(&self, request: StartRequest) -> Result<ExecutionId, crate::EngineError>;
    /// Starts a run and waits for its end, but at most for `patience`; `None` when it goes on after that.
    async fn run(
        &self,
        request: StartRequest,
        patience: Duration,
    ) -> Result<(ExecutionId, Option<Arc<Outcome>>), crate::EngineError> {
        let id = self.start(request).await?;
        let Ok(ended) = tokio::time::timeout(patience, self.wait(&id)).await else { return Ok((id, None)) };
        let RunState { status, output, failure, .. } = ended?.state;
        Ok((id, Some(Arc::new(Outcome { status, output, failure }))))
    }
    /// An execution as it stands, `None` when there is none of this id. Its output is whole; what is large of its input
    /// and its tasks is a reference.
    async fn execution(&self, id: &ExecutionId) -> Result<Option<Execution>, crate::EngineError>;
    /// The recorded events of an execution, from the first. An error when there is none of this id.
    async fn journal(&self, _id: &ExecutionId) -> Result<Vec<JournalRecord>, crate::EngineError> {
        Err(crate::EngineError::NotSupported { engine: self.health().engine, operation: "show a journal" })
    }
    /// The recorded events after the event `after`, at most `limit`, and whether there are none behind them and the
    /// execution has ended. An error when there is none of this id.
    async fn journal_after(
        &self,
        id: &ExecutionId,
        after: u64,
        limit: usize,
    ) -> Result<JournalPage, crate::EngineError> {
        let mut records = self.journal(id).await?;
        records.retain(|record| record.seq > after);
        let more = records.len() > limit;
        records.truncate(limit);
        let ended = self.execution(id).await?.is_none_or(|execution| execution.state.status.is_terminal());
        Ok(JournalPage { records, ended: ended && !more })
    }
    /// Everything that is recorded of an execution, enough to check it elsewhere. An error when there is none of this id.
    async fn export(&self, _id: &ExecutionId) -> Result<crate::History, crate::EngineError> {
        Err(crate::EngineError::NotSupported { engine: self.health().engine, operation: "export an execution" })
    }
    /// The plugins that executions which have not ended are bound to: names, and digests of their components.
    async fn pins(&self) -> Result<BTreeSet<(String, String)>, crate::EngineError> {
        Ok(BTreeSet::new())
    }
    /// Executions, the latest start first, those that started before `before`; at most
    /// [`crate::limits::LIST_MAX`].
    async fn list(
        &self,
        limit: usize,
        before: Option<&ExecutionId>,
    ) -> Result<Vec<ExecutionSummary>, crate::EngineError> {
        self.search(&Filter::default(), limit, before).await
    }
    /// As [`Engine::list`], of those that the filter lets through.
    async fn search(
        &self,
        _filter: &Filter,
        _limit: usize,
        _before: Option<&ExecutionId>,
    ) -> Result<Vec<ExecutionSummary>, crate::EngineError> {
        Err(crate::EngineError::NotSupported { engine: self.health().engine, operation: "list executions" })
    }
    /// Does something to an execution, and answers once that is durable. Doing it twice is doing it once.
    async fn control(&self, _id: &ExecutionId, control: Control) -> Result<(), crate::EngineError> {
        let engine = self.health().engine;
        Err(crate::EngineError::NotSupported { engine, operation: control.name() })
    }
    /// Ends an execution at once, as cancelled. No effect on one that has ended.
    async fn cancel(&self, id: &ExecutionId, reason: String) -> Result<(), crate::EngineError> {
        self.control(id, Control::Cancel { reason, grace_ms: 0 }).await
    }
    /// Removes executions that ended before a time, in milliseconds since 1970, with all that was recorded of them.
    /// Answers how many. One with a child that goes on stays.
    async fn prune(&self, _ended_before_ms: u64) -> Result<u64, crate::EngineError> {
        Err(crate::EngineError::NotSupported { engine: self.health().engine, operation: "remove executions" })
    }
    /// A value that an execution refers to, as JSON ([`compozy_plan::blob`]: large values are kept apart). `None` when
    /// it does not refer to one of this digest.
    async fn blob(&self, _id: &ExecutionId, _digest: &str) -> Result<Option<Vec<u8>>, crate::EngineError> {
        Err(crate::EngineError::NotSupported { engine: self.health().engine, operation: "show a value" })
    }
    /// Writes a copy of everything, as it is at one moment, to a file that does not exist yet. Work goes on meanwhile.
    async fn backup(&self, _to: &std::path::Path) -> Result<(), crate::EngineError> {
        Err(crate::EngineError::NotSupported { engine: self.health().engine, operation: "make a backup" })
    }
    /// Takes an execution through its journal again, from the first event. `None`: the result is what is known of it;
    /// otherwise what differs first.
    async fn verify(&self, _id: &ExecutionId) -> Result<Option<crate::Difference>, crate::EngineError> {
        Err(crate::EngineError::NotSupported { engine: self.health().engine, operation: "verify an execution" })
    }
    /// Waits until an execution has ended. Cancel-safe.
    async fn wait(&self, id: &ExecutionId) -> Result<Execution, crate::EngineError>;
    /// Everything that happens from now on.
    fn watch(&self) -> tokio::sync::broadcast::Receiver<Notice>;
    /// What happens to one execution from now on. It costs the others nothing.
    fn follow(&self, _id: &ExecutionId) -> tokio::sync::broadcast::Receiver<Notice> {
        self.watch()
    }
    /// How it feels. Does no I/O.
    fn health(&self) -> EngineHealth;
    /// The services that it rests on. Does no I/O.
    fn services(&self) -> Vec<ServiceHealth> {
        Vec::new()
    }
    /// The queues that somebody must take work from, so that executions go on. Does no I/O.
    fn workers(&self) -> Vec<WorkerHealth> {
        Vec::new()
    }
    /// Takes no more work, lets running attempts end for at most `drain`, and closes. Idempotent.
    /// What was not done goes on at the next start.
    async fn stop(&self, drain: Duration);
}
