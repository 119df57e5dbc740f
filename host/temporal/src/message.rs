//! What goes over the wire: inputs and answers of workflows and activities, signals, queries. All of it is JSON.

use compozy_engine::port::{Control, ExecutionId, JournalRecord, Pins, TaskRecord};
use compozy_interpreter::{Command, Failure, RunState, Signal, Slot, TaskKey};
use compozy_plan::plan::{TaskPolicy, Tool};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::packed::Packed;

/// The input of the workflow: all that a run needs, so that a replay needs nothing else.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StartInput {
    pub(crate) execution: ExecutionId,
    /// The workflow's id.
    pub(crate) workflow: String,
    /// SHA-256 of the definition.
    pub(crate) definition: String,
    /// The definition's JSON as text, since its digest is that of the text.
    pub(crate) plan: Packed,
    pub(crate) input: Value,
    pub(crate) seed: u64,
    #[serde(default, skip_serializing_if = "Pins::is_empty")]
    pub(crate) pins: Pins,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<ExecutionId>,
    /// How many runs it is inside of.
    #[serde(default)]
    pub(crate) depth: u32,
    /// Of a run that goes on after its history became long, or after its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) carry: Option<Carry>,
}

/// Where a run goes on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Carry {
    /// A [`Carried`].
    pub(crate) run: Packed,
    /// What is to be done to it first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) then: Option<ControlMessage>,
}

/// A run between two histories.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Carried {
    pub(crate) state: RunState,
    pub(crate) book: Book,
    /// The histories that it had, the oldest first.
    pub(crate) spans: Vec<Span>,
    /// What it wanted to begin and has not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) deferred: Vec<Command>,
}

/// A history that a run had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    /// Temporal's run id.
    pub(crate) run_id: String,
    /// The number of the first event in it.
    pub(crate) first: u64,
}

/// What is recorded of a run beside its state.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Book {
    /// Events so far.
    pub(crate) seq: u64,
    /// Their JSON, together, in bytes.
    pub(crate) bytes: u64,
    /// Scheduled tasks, by key.
    pub(crate) records: IndexMap<String, TaskRecord>,
    /// Runs that tasks started, by the task's key.
    pub(crate) children: IndexMap<String, ExecutionId>,
}

/// What is said to a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "control", rename_all = "snake_case")]
pub(crate) enum ControlMessage {
    Signal(Signal),
    Pause { reason: String },
    Resume,
    Cancel { reason: String, grace_ms: u64 },
    Terminate { reason: String },
    Retry,
    Reset { task: TaskKey },
}

impl From<Control> for ControlMessage {
    fn from(control: Control) -> Self {
        match control {
            Control::Signal(signal) => Self::Signal(signal),
            Control::Pause { reason } => Self::Pause { reason },
            Control::Resume => Self::Resume,
            Control::Cancel { reason, grace_ms } => Self::Cancel { reason, grace_ms },
            Control::Terminate { reason } => Self::Terminate { reason },
            Control::Retry => Self::Retry,
            Control::Reset { task } => Self::Reset { task },
        }
    }
}

/// The input of a task's activity.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TaskInput {
    pub(crate) execution: ExecutionId,
    pub(crate) task: TaskKey,
    pub(crate) tool: Tool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pin: Option<String>,
    /// The rendered `with`.
    pub(crate) input: Value,
    pub(crate) policy: TaskPolicy,
    pub(crate) seed: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) slots: Vec<Slot>,
    /// What came of it before, of a task that is given to a queue a second time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) before: Option<Before>,
}

/// A task's time on the queue of its run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Before {
    /// How long it was there, in milliseconds.
    pub(crate) waited_ms: u64,
    /// The attempts that began there.
    pub(crate) progress: Progress,
}

/// The details of a task that did not begin, because the process that got it cannot do it now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NotHere {
    /// It has the plugin.
    pub(crate) served: bool,
    /// The attempts that began.
    pub(crate) progress: Progress,
}

/// The answer of a task's activity.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TaskOutput {
    pub(crate) output: Value,
    pub(crate) record: TaskRecord,
}

/// The details of a task that failed for good.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TaskFailed {
    pub(crate) failure: Failure,
    pub(crate) record: TaskRecord,
}

/// What an attempt leaves to the next: the details of its heartbeat.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// The attempt that wrote it.
    pub(crate) attempt: u32,
    /// Attempts in Temporal's count that did not begin, because no place was free.
    #[serde(default)]
    pub(crate) skipped: u32,
    /// Attempts that failed. Those that were lost with their worker do not count.
    pub(crate) failed: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_failure: Option<String>,
    /// Where it is, in its own words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) detail: String,
}

/// The question of the query `grace`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GraceQuestion {
    pub(crate) task: TaskKey,
    /// The asker's clock, in milliseconds since 1970.
    pub(crate) now_ms: u64,
}

/// How a run ended, for the one that started it and for whoever waits.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ending {
    pub(crate) status: compozy_interpreter::Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<Failure>,
}

/// The answer to the query `state`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StateReply {
    pub(crate) workflow: String,
    pub(crate) definition: String,
    pub(crate) pins: Pins,
    pub(crate) parent: Option<ExecutionId>,
    pub(crate) depth: u32,
    pub(crate) priority: Option<u8>,
    pub(crate) state: RunState,
    pub(crate) book: Book,
    /// The histories before this one.
    pub(crate) spans: Vec<Span>,
    /// The number of the first event in this one.
    pub(crate) first: u64,
}

/// The question of the query `journal`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct JournalQuestion {
    pub(crate) after: u64,
    pub(crate) limit: usize,
}

/// The answer to the query `journal`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct JournalReply {
    pub(crate) records: Vec<JournalRecord>,
    /// The histories before this one.
    pub(crate) spans: Vec<Span>,
    /// The number of the first event in this one.
    pub(crate) first: u64,
    /// The run has ended, and nothing follows these records.
    pub(crate) ended: bool,
}

/// The question of the local activity that finds a definition, and of the one that checks an input.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FindWorkflow {
    pub(crate) workflow: String,
    pub(crate) input: Value,
    /// The run that is to begin with it.
    pub(crate) child: ExecutionId,
}

/// Its answer: everything of a child that the parent's worker knows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FoundWorkflow {
    Found { definition: String, plan: Packed, pins: Pins },
    Refused(Failure),
}

/// The question of the local activity that delivers signals.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Deliver {
    pub(crate) to: Option<Vec<String>>,
    pub(crate) signal: Signal,
}

/// Its answer.
pub(crate) type Delivered = Result<Value, Failure>;
