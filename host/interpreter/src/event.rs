//! What happens to a run, and what the run wants done: the interpreter's whole vocabulary.

use compozy_plan::plan::{ParentClose, TaskPolicy, Tool};
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

/// Which bound of time was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timeout {
    /// The first attempt did not begin in time.
    ScheduleToStart,
    /// One attempt, or a task with all that is in it, took too long.
    StartToClose,
    /// All attempts together took too long.
    ScheduleToClose,
    /// An attempt did not show that it is alive.
    Heartbeat,
    /// No signal came.
    Wait,
    /// The whole run took too long.
    Workflow,
}

impl Timeout {
    /// The name as messages and details have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ScheduleToStart => "schedule_to_start",
            Self::StartToClose => "start_to_close",
            Self::ScheduleToClose => "schedule_to_close",
            Self::Heartbeat => "heartbeat",
            Self::Wait => "wait",
            Self::Workflow => "workflow",
        }
    }

    /// The code of a failure by this timeout.
    pub fn code(self) -> &'static str {
        match self {
            Self::Wait => "WAIT_TIMEOUT",
            Self::Workflow => "WORKFLOW_TIMEOUT",
            Self::ScheduleToStart | Self::StartToClose | Self::ScheduleToClose | Self::Heartbeat => "TASK_TIMEOUT",
        }
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
    /// The timeout that it was, for a task that ends as [`crate::Status::TimedOut`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
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
            timeout: None,
            details: Value::Null,
        }
    }
    /// A failure that another attempt may cure.
    pub fn transient(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { retryable: true, ..Self::permanent(code, message) }
    }
    /// A bound of time that was passed.
    pub fn timed_out(timeout: Timeout, message: impl Into<String>) -> Self {
        Self { timeout: Some(timeout), ..Self::permanent(timeout.code(), message) }
    }
}

/// Names a timer of a run. A run has at most one of each at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Timer {
    /// The run's own timeout.
    Workflow,
    /// The grace after a request to end.
    Grace,
    /// The sleep after a task.
    Sleep {
        /// The task that ended.
        task: TaskKey,
    },
    /// The timeout of a wait.
    Wait {
        /// The wait.
        task: TaskKey,
    },
    /// The timeout of a task with all that is in it.
    Task {
        /// The task.
        task: TaskKey,
    },
}

impl std::fmt::Display for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Workflow => f.write_str("workflow"),
            Self::Grace => f.write_str("grace"),
            Self::Sleep { task } => write!(f, "sleep:{task}"),
            Self::Wait { task } => write!(f, "wait:{task}"),
            Self::Task { task } => write!(f, "task:{task}"),
        }
    }
}

impl std::str::FromStr for Timer {
    type Err = String;

    /// Reads what [`std::fmt::Display`] writes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let task = |key: &str| TaskKey(key.to_owned());
        match text.split_once(':') {
            None if text == "workflow" => Ok(Self::Workflow),
            None if text == "grace" => Ok(Self::Grace),
            Some(("sleep", key)) => Ok(Self::Sleep { task: task(key) }),
            Some(("wait", key)) => Ok(Self::Wait { task: task(key) }),
            Some(("task", key)) => Ok(Self::Task { task: task(key) }),
            _ => Err(format!("`{text}` names no timer")),
        }
    }
}

/// Something that somebody says to a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// What a wait waits for.
    pub name: String,
    /// What it carries.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub payload: Value,
    /// Names the signal: a second one with the same id is the first one again, and has no effect.
    pub id: String,
    /// Who sent it, for a person: `api`, or an execution's id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
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
        /// For whatever needs randomness: an engine spreads its retries by it.
        seed: u64,
        /// Checked against the plan's schema before.
        input: Value,
    },
    /// A task that was scheduled, sent or started succeeded.
    TaskCompleted {
        /// Milliseconds since 1970.
        now_ms: u64,
        /// As in the command.
        task: TaskKey,
        /// The answer.
        output: Value,
    },
    /// A task that was scheduled, sent or started failed for good: its attempts are used up, or another cannot help.
    TaskFailed {
        /// Milliseconds since 1970.
        now_ms: u64,
        /// As in the command.
        task: TaskKey,
        /// Why.
        failure: Failure,
    },
    /// A timer's time has come. May come late, never early.
    TimerFired {
        /// Milliseconds since 1970.
        now_ms: u64,
        /// As in [`Command::StartTimer`].
        timer: Timer,
    },
    /// Somebody says something to the run. Kept until a wait takes it. An engine asks [`crate::check_signal`] first.
    SignalReceived {
        /// Milliseconds since 1970.
        now_ms: u64,
        /// What.
        signal: Signal,
    },
    /// Somebody wants the run to end. Nothing begins any more; what an executor works on is asked to end.
    CancelRequested {
        /// Milliseconds since 1970.
        now_ms: u64,
        /// For a person.
        reason: String,
        /// How long what runs may take to end by itself, in milliseconds; 0 ends it at once.
        #[serde(default)]
        grace_ms: u64,
    },
    /// The run ends at once as failed: somebody's wish, or a limit of the engine.
    Terminated {
        /// Milliseconds since 1970.
        now_ms: u64,
        /// Why.
        failure: Failure,
    },
    /// Nothing begins until the run is resumed. What runs goes on, what ends is recorded, and time goes on.
    PauseRequested {
        /// Milliseconds since 1970.
        now_ms: u64,
        /// For a person.
        reason: String,
    },
    /// A paused run goes on.
    ResumeRequested {
        /// Milliseconds since 1970.
        now_ms: u64,
    },
    /// A run that ended badly goes on: what did not succeed is visited again. An engine asks [`crate::can_retry`] first.
    RetryRequested {
        /// Milliseconds since 1970.
        now_ms: u64,
    },
    /// The run goes back to a task and on from there. An engine asks [`crate::can_reset`] first.
    ResetRequested {
        /// Milliseconds since 1970.
        now_ms: u64,
        /// The visit to go back to.
        task: TaskKey,
    },
}

impl Event {
    /// When it happened, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        match self {
            Self::Started { now_ms, .. }
            | Self::TaskCompleted { now_ms, .. }
            | Self::TaskFailed { now_ms, .. }
            | Self::TimerFired { now_ms, .. }
            | Self::SignalReceived { now_ms, .. }
            | Self::CancelRequested { now_ms, .. }
            | Self::Terminated { now_ms, .. }
            | Self::PauseRequested { now_ms, .. }
            | Self::ResumeRequested { now_ms }
            | Self::RetryRequested { now_ms }
            | Self::ResetRequested { now_ms, .. } => *now_ms,
        }
    }

    /// What somebody outside handed to the run with it.
    pub fn payload(&self) -> Option<&Value> {
        match self {
            Self::Started { input, .. } => Some(input),
            Self::TaskCompleted { output, .. } => Some(output),
            Self::SignalReceived { signal, .. } => Some(&signal.payload),
            _ => None,
        }
    }

    /// As [`Self::payload`], to put a reference in the place of a large part.
    pub fn payload_mut(&mut self) -> Option<&mut Value> {
        match self {
            Self::Started { input, .. } => Some(input),
            Self::TaskCompleted { output, .. } => Some(output),
            Self::SignalReceived { signal, .. } => Some(&mut signal.payload),
            _ => None,
        }
    }

    /// The event's name, as its JSON has it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::TaskCompleted { .. } => "task_completed",
            Self::TaskFailed { .. } => "task_failed",
            Self::TimerFired { .. } => "timer_fired",
            Self::SignalReceived { .. } => "signal_received",
            Self::CancelRequested { .. } => "cancel_requested",
            Self::Terminated { .. } => "terminated",
            Self::PauseRequested { .. } => "pause_requested",
            Self::ResumeRequested { .. } => "resume_requested",
            Self::RetryRequested { .. } => "retry_requested",
            Self::ResetRequested { .. } => "reset_requested",
        }
    }
}

/// When a task may begin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispatch {
    /// The task's own priority, 1 (first) to 5 (last); `None` is that of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// What the task takes up while an attempt of it runs; all of them must have room.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<Slot>,
}

impl Dispatch {
    /// True when nothing but the engine's own limits holds the task back.
    pub fn is_default(&self) -> bool {
        self.priority.is_none() && self.slots.is_empty()
    }
}

/// One place of a limited number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Slot {
    /// Names what is limited; tasks of all runs with the same key share it.
    pub key: String,
    /// The task begins while fewer than this many hold a place.
    pub limit: u32,
}

/// Something to be done, in order, after the event and the new state are durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Command {
    /// Run a task: any number of attempts, one [`Event::TaskCompleted`] or [`Event::TaskFailed`].
    ScheduleTask {
        /// Names the task in the event that answers.
        task: TaskKey,
        /// What to call; [`compozy_plan::plan::MEMORY_PLUGIN`] for a memory task.
        tool: Tool,
        /// The rendered `with`.
        input: Value,
        /// Bounds and retries, for the engine to enforce.
        policy: TaskPolicy,
        /// When it may begin, for the engine to enforce.
        #[serde(default, skip_serializing_if = "Dispatch::is_default")]
        dispatch: Dispatch,
    },
    /// The result of this task is not wanted any more, whatever kind of command began it. No event answers; a child
    /// run is closed as its [`ParentClose`] says.
    CancelTask {
        /// As in the command that began it.
        task: TaskKey,
    },
    /// Ask what works on this task to end. Its end is still wanted.
    AskTaskToEnd {
        /// As in the command that began it.
        task: TaskKey,
        /// How long it has, in milliseconds.
        grace_ms: u64,
    },
    /// Send [`Event::TimerFired`] when the time has come.
    StartTimer {
        /// Names it.
        timer: Timer,
        /// Milliseconds since 1970.
        fire_at_ms: u64,
    },
    /// The timer is not wanted any more.
    CancelTimer {
        /// As in [`Command::StartTimer`].
        timer: Timer,
    },
    /// Start a run of another workflow; its end answers with [`Event::TaskCompleted`] or [`Event::TaskFailed`].
    StartChild {
        /// Names the task in the event that answers.
        task: TaskKey,
        /// The workflow's id.
        workflow: String,
        /// The child's input.
        input: Value,
        /// What becomes of it when nobody waits for it any more.
        parent_close: ParentClose,
    },
    /// Send a signal, once for all its receivers; [`Event::TaskCompleted`] or [`Event::TaskFailed`] answers.
    SendSignal {
        /// Names the task in the event that answers.
        task: TaskKey,
        /// Executions to send it to; `None` starts every workflow with a trigger of this name.
        to: Option<Vec<String>>,
        /// What to send. Its id is the same however often it is sent.
        signal: Signal,
    },
    /// The run ended, with its timers. Always the last command, until a retry or a reset opens the run again; the state
    /// has status and output or failure.
    Finish,
}
