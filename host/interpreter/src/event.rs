//! What happens to a run, and what the run wants done: the interpreter's whole vocabulary.

use compozy_plan::plan::{TaskPolicy, Tool};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Names one task within one run: the path of ids, `[n]` for the n-th item of a collection, `#n` for the n-th visit
/// of a task that a run comes to again. For example `activities[3]`, `save_results/save_json`, `poll#2`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskKey(pub String);

impl std::fmt::Display for TaskKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TaskKey {
    /// The first visit of the task `id` in the list of `parent`; `None` is the workflow's own list.
    pub(crate) fn of(parent: Option<&Self>, id: &str) -> Self {
        match parent {
            Some(parent) => Self(format!("{parent}/{id}")),
            None => Self(id.to_owned()),
        }
    }

    /// The child of a collection for its n-th item.
    pub(crate) fn item(&self, at: usize) -> Self {
        Self(format!("{self}[{at}]"))
    }

    /// The n-th visit, from 1, of a task, given the key of its first.
    pub(crate) fn visit(&self, visit: u32) -> Self {
        if visit <= 1 { self.clone() } else { Self(format!("{self}#{visit}")) }
    }
}

/// Why a task or a run failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Stable, upper case, for example `PLUGIN_LIMIT`.
    pub code: String,
    /// For a person.
    pub message: String,
    /// Whether another attempt can help. Only an engine looks at it; to the interpreter a failure is final.
    pub retryable: bool,
    /// Not before this many milliseconds, when the executor asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// More facts, `null` for none.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub details: Value,
}

impl Failure {
    /// A failure that no attempt can cure.
    pub fn permanent(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            retryable: false,
            retry_after_ms: None,
            details: Value::Null,
        }
    }
    /// A failure that another attempt may cure.
    pub fn transient(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { retryable: true, ..Self::permanent(code, message) }
    }
}

/// Something that happened. Time, ids and randomness come in here and nowhere else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The first event of every run.
    Started {
        /// Milliseconds since 1970.
        now_ms: u64,
        /// The execution's id.
        execution_id: String,
        /// For whatever needs randomness later.
        seed: u64,
        /// Checked against the plan's schema before.
        input: Value,
    },
    /// A task that was scheduled succeeded.
    TaskCompleted {
        /// Milliseconds since 1970.
        now_ms: u64,
        /// As in [`Command::ScheduleTask`].
        task: TaskKey,
        /// The executor's answer.
        output: Value,
    },
    /// A task that was scheduled failed for good: its attempts are used up, or another cannot help.
    TaskFailed {
        /// Milliseconds since 1970.
        now_ms: u64,
        /// As in [`Command::ScheduleTask`].
        task: TaskKey,
        /// Why.
        failure: Failure,
    },
    /// Somebody wants the run to end.
    CancelRequested {
        /// Milliseconds since 1970.
        now_ms: u64,
        /// For a person.
        reason: String,
    },
}

/// Something to be done, in order, after the event and the new state are durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "nearly every command is of the large variant")]
pub enum Command {
    /// Run a task: any number of attempts, one [`Event::TaskCompleted`] or [`Event::TaskFailed`].
    ScheduleTask {
        /// Names the task in the event that answers.
        task: TaskKey,
        /// What to call.
        tool: Tool,
        /// The rendered `with`.
        input: Value,
        /// Bounds and retries, for the engine to enforce.
        policy: TaskPolicy,
    },
    /// The result of this task is not wanted any more. No event answers.
    CancelTask {
        /// As in [`Command::ScheduleTask`].
        task: TaskKey,
    },
    /// The run ended. Always the last command of a run; the state has status and output or failure.
    Finish,
}
