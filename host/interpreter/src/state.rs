//! The state of a run: a plain value that an engine stores and hands back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use compozy_plan::plan::Task;
use indexmap::IndexMap;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::event::{Failure, Signal, TaskKey};

/// The behaviour of [`crate::advance`]. It grows with every change after which recorded events lead elsewhere;
/// a run keeps the one that it began with.
pub const BEHAVIOUR_VERSION: u32 = 2;

/// How a run or a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Known, not begun.
    Pending,
    /// Begun.
    Running,
    /// Waits for a signal or for a time to come, and nothing else is under way.
    Waiting,
    /// Stopped by an operator, can go on: nothing new begins.
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
    /// The name as JSON and templates have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Waiting => "WAITING",
            Self::Paused => "PAUSED",
            Self::Success => "SUCCESS",
            Self::Failed => "FAILED",
            Self::TimedOut => "TIMED_OUT",
            Self::Canceled => "CANCELED",
        }
    }

    /// True when nothing more can happen.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Success | Self::Failed | Self::TimedOut | Self::Canceled)
    }
}

/// Reads a value that is there: `null` is a value, and not the absence of one.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
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
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub output: Option<Value>,
    /// Why the run failed or was cancelled.
    pub failure: Option<Failure>,
    /// Every task that the run came to, in the order in which it came to them.
    pub tasks: IndexMap<TaskKey, TaskState>,
    /// How often the run came to a task, by the key of its first visit, for those that it came to more than once.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub visits: IndexMap<TaskKey, u32>,
    /// The size of the values kept so far, in bytes; bounded by [`crate::limits::RUN_BYTES_MAX`].
    #[serde(default)]
    pub bytes: usize,
    /// Whether something that was handed to the run is kept apart, and only referred to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_blobs: bool,
    /// Tasks that somebody outside works on.
    #[serde(default)]
    pub active: usize,
    /// When each timer that runs is due, in milliseconds since 1970, by the text of [`crate::Timer`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub timers: BTreeMap<String, u64>,
    /// Why the run is paused, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// What would have begun while the run is paused, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<Held>,
    /// How the run is going to end, while what runs has time to end by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canceling: Option<Failure>,
    /// Signals that no wait has taken, in the order in which they came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inbox: Vec<Received>,
    /// Signals that came so far.
    #[serde(default)]
    pub signals: u64,
    /// The ids of those; a second signal of the same id has no effect.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub signal_ids: BTreeSet<String>,
    /// Waits that have not ended, in the order in which they began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<TaskKey>,
}

/// A signal as it came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Received {
    /// The how manieth signal of the run it is, from 1.
    pub number: u64,
    /// When it came, in milliseconds since 1970.
    pub at_ms: u64,
    /// What it says.
    pub signal: Signal,
}

/// A task that would have begun while its run is paused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// The container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<TaskKey>,
    /// The place in the container.
    pub at: usize,
    /// The arguments that a transition gave.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub with: Option<Value>,
    /// Why a transition could not give arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Failure>,
}

/// A task of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskState {
    /// The task's id in the plan.
    pub id: String,
    /// The task's type as the workflow file spells it.
    pub kind: String,
    /// The container that it belongs to.
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
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub output: Option<Value>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The task's place in its list of the plan; for the child of a collection, the item's place.
    #[serde(default)]
    pub at: usize,
    /// What a collection or a parallel needs to go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<CollectionProgress>,
    /// Its condition was false, so it did nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// It succeeded, and the run sleeps before it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asleep: Option<Asleep>,
    /// What a wait needs to go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<WaitProgress>,
}

/// How the run goes on after a sleep.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Asleep {
    /// The task that a router chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
}

/// How far a wait got.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WaitProgress {
    /// The name of the signal.
    pub name: String,
    /// The number of the last signal that it looked at.
    pub seen: u64,
    /// How long it waits, in milliseconds; 0 for ever.
    #[serde(default)]
    pub timeout_ms: u64,
    /// The signal that its processor looks at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looking: Option<Received>,
}

/// How far a collection or a parallel got.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CollectionProgress {
    /// The items that the filter kept. Empty again once the collection ended: nothing can ask for them any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<Value>,
    /// How many items the filter kept.
    pub count: usize,
    /// How many items the filter left out.
    pub skipped: usize,
    /// Children begun. Item `started` is next.
    pub started: usize,
    /// Children that have begun and not ended.
    pub running: usize,
    /// Children that succeeded.
    pub succeeded: usize,
    /// The failed child with the lowest place so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_failure: Option<ChildFailure>,
    /// The child that won a race.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub winner: Option<usize>,
    /// Children that begin again after a retry, the next one last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub again: Vec<usize>,
}

/// A child that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChildFailure {
    /// The child's item.
    pub at: usize,
    /// Why, with a message that names the task.
    pub failure: Failure,
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
            visits: IndexMap::new(),
            bytes: 0,
            has_blobs: false,
            active: 0,
            timers: BTreeMap::new(),
            paused: None,
            held: Vec::new(),
            canceling: None,
            inbox: Vec::new(),
            signals: 0,
            signal_ids: BTreeSet::new(),
            waits: Vec::new(),
        }
    }

    /// The tasks that were scheduled and have not been answered, in the order in which they were scheduled.
    pub fn scheduled(&self) -> impl Iterator<Item = (&TaskKey, &TaskState)> {
        self.tasks.iter().filter(|(_, task)| task.is_scheduled())
    }

    /// How often the run came to a task, given the key of its first visit.
    pub(crate) fn visits_of(&self, first: &TaskKey) -> u32 {
        match self.visits.get(first) {
            Some(visits) => *visits,
            None => u32::from(self.tasks.contains_key(first)),
        }
    }

    /// The key of the latest visit of a task, given the key of its first.
    pub(crate) fn latest(&self, first: &TaskKey) -> TaskKey {
        first.visit(self.visits_of(first))
    }
}

static NO_ARGUMENTS: LazyLock<Value> = LazyLock::new(|| Value::Object(serde_json::Map::new()));

/// The arguments of a task that has none.
pub(crate) fn no_arguments() -> &'static Value {
    &NO_ARGUMENTS
}

impl TaskState {
    /// A task that begins now.
    pub(crate) fn begun(task: &Task, parent: Option<TaskKey>, at: usize, with: Value, now_ms: u64) -> Self {
        Self {
            id: task.id.clone(),
            kind: task.kind.name().to_owned(),
            parent,
            // What somebody outside does has begun when it was given out.
            status: if task.kind.is_answered_outside() { Status::Pending } else { Status::Running },
            started_at_ms: now_ms,
            ended_at_ms: None,
            with,
            output: None,
            failure: None,
            at,
            progress: None,
            skipped: false,
            asleep: None,
            wait: None,
        }
    }

    /// Ends the task. No template can ask for the items of a collection that ended, so they go.
    pub(crate) fn end(&mut self, status: Status, now_ms: u64) {
        self.status = status;
        self.ended_at_ms = Some(now_ms);
        if let Some(progress) = &mut self.progress {
            progress.items = Vec::new();
            progress.again = Vec::new();
        }
        self.wait = None;
    }

    /// The rendered `with`; an empty object when the task has none.
    pub fn arguments(&self) -> &Value {
        if self.with.is_null() { no_arguments() } else { &self.with }
    }

    /// True while somebody outside works on the task: an executor, another run, or the engine.
    pub fn is_scheduled(&self) -> bool {
        self.status == Status::Running && matches!(self.kind.as_str(), "basic" | "memory" | "signal" | "workflow")
    }
}

impl Default for RunState {
    fn default() -> Self {
        Self::new()
    }
}
