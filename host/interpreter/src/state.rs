//! The state of a run: a plain value that an engine stores and hands back.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::{Failure, TaskKey};

/// The behaviour of [`crate::advance`]. It grows with every change after which recorded events lead elsewhere;
/// a run keeps the one that it began with.
pub const BEHAVIOUR_VERSION: u32 = 1;

/// How a run or a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Known, not begun.
    Pending,
    /// Begun.
    Running,
    /// Waits for something outside.
    Waiting,
    /// Stopped by an operator, can go on.
    Paused,
    /// Ended well.
    Success,
    /// Ended badly.
    Failed,
    /// Ended by a timeout.
    TimedOut,
    /// Ended on request.
    Canceled,
}

impl Status {
    /// True when nothing more can happen.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Success | Self::Failed | Self::TimedOut | Self::Canceled)
    }
}

/// A run between two events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// [`BEHAVIOUR_VERSION`] when the run began.
    pub behaviour: u32,
    /// How the run stands.
    pub status: Status,
    /// Empty before [`crate::Event::Started`].
    pub execution_id: String,
    /// From the first event.
    pub seed: u64,
    /// From the first event.
    pub started_at_ms: u64,
    /// The time of the last event; never goes back.
    pub now_ms: u64,
    /// From the first event.
    pub input: Value,
    /// The run's output, once it succeeded.
    pub output: Option<Value>,
    /// Why the run failed or was cancelled.
    pub failure: Option<Failure>,
    /// Every task that the run came to, in the order in which it came to them.
    pub tasks: IndexMap<TaskKey, TaskState>,
}

/// A task of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskState {
    /// The task's id in the plan.
    pub id: String,
    /// The task's type as the workflow file spells it.
    pub kind: String,
    /// The collection or composite that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<TaskKey>,
    /// How the task stands.
    pub status: Status,
    /// Milliseconds since 1970.
    pub started_at_ms: u64,
    /// Milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at_ms: Option<u64>,
    /// The rendered `with`.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub with: Value,
    /// The output, once it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What a collection or composite needs to go on; `null` for the others.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub progress: Value,
}

impl RunState {
    /// The state before the first event.
    pub fn new() -> Self {
        Self {
            behaviour: BEHAVIOUR_VERSION,
            status: Status::Pending,
            execution_id: String::new(),
            seed: 0,
            started_at_ms: 0,
            now_ms: 0,
            input: Value::Null,
            output: None,
            failure: None,
            tasks: IndexMap::new(),
        }
    }
}

impl Default for RunState {
    fn default() -> Self {
        Self::new()
    }
}
