//! The plan: what a workflow file means, checked and resolved. The interpreter reads nothing else.
//!
//! A plan is a plain value. It serialises to JSON and back without loss, and its digest (SHA-256 of that JSON)
//! names the definition that an execution runs on, whatever happens to the file.

use std::collections::BTreeSet;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::condition::Condition;
use crate::dispatch::DispatchPolicy;
use crate::schema::Schema;
use crate::template::Template;

/// The version of this format. A plan of another version is refused, never guessed at.
pub const PLAN_FORMAT: u32 = 2;

/// A validated workflow.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// Always [`PLAN_FORMAT`].
    pub format: u32,
    /// The workflow's `id`.
    pub workflow: String,
    /// The workflow's `version`, empty when it has none.
    pub version: String,
    /// One sentence for a person, empty when there is none.
    pub description: String,
    /// The project that the workflow belongs to; visible to templates as `project`.
    pub project: ProjectInfo,
    /// The schema that an input must fit.
    pub input: Option<Schema>,
    /// Values visible to templates as `env`. Never secrets.
    pub env: IndexMap<String, String>,
    /// Tasks in the order of the file. The first one starts.
    pub tasks: Vec<Task>,
    /// The workflow's output; without it, the output of the task that ended the run.
    pub outputs: Option<Template>,
    /// The whole run may take this long, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Signals that start a run of this workflow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<Trigger>,
    /// The priority of its tasks, 1 (first) to 5 (last), unless a start or a task says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
}

/// A signal that starts a run; its payload becomes the run's input.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trigger {
    /// The signal's name.
    pub name: String,
    /// The schema that the payload must fit, beside the workflow's own.
    pub schema: Option<Schema>,
}

/// Why a stored plan cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The plan was made by another version.
    #[error("the plan has format {found} and this version reads format {PLAN_FORMAT}; compile the workflow file again")]
    Format {
        /// The plan's format.
        found: u64,
    },
    /// The text is not a plan.
    #[error("the stored plan cannot be read: {0}")]
    Invalid(#[from] serde_json::Error),
}

impl Plan {
    /// The plan as JSON, always the same text for the same plan.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a plan has only text keys and finite numbers")
    }

    /// Reads a plan that [`Plan::to_json`] wrote.
    pub fn from_json(json: &str) -> Result<Self, PlanError> {
        let value: Value = serde_json::from_str(json)?;
        match value.get("format").and_then(Value::as_u64) {
            Some(found) if found != u64::from(PLAN_FORMAT) => Err(PlanError::Format { found }),
            _ => Ok(serde_json::from_value(value)?),
        }
    }

    /// The plugins that its tasks call, without those of child workflows.
    pub fn plugins(&self) -> BTreeSet<&str> {
        fn collect<'a>(tasks: &'a [Task], plugins: &mut BTreeSet<&'a str>) {
            for task in tasks {
                match &task.kind {
                    TaskKind::Basic(tool) => drop(plugins.insert(&tool.plugin)),
                    TaskKind::Collection(collection) => collect(std::slice::from_ref(&collection.task), plugins),
                    TaskKind::Parallel(parallel) => collect(&parallel.tasks, plugins),
                    TaskKind::Composite { tasks } => collect(tasks, plugins),
                    TaskKind::Wait(wait) => collect(wait.processor.as_slice(), plugins),
                    TaskKind::Router { .. }
                    | TaskKind::Signal(_)
                    | TaskKind::Memory(_)
                    | TaskKind::Workflow(_)
                    | TaskKind::Aggregate => {}
                }
            }
        }
        let mut plugins = BTreeSet::new();
        collect(&self.tasks, &mut plugins);
        plugins
    }

    /// SHA-256 of [`Plan::to_json`] in hexadecimal: names the definition that a run is bound to.
    pub fn digest(&self) -> String {
        use std::fmt::Write;

        use sha2::{Digest, Sha256};
        let mut text = String::with_capacity(64);
        for byte in Sha256::digest(self.to_json()) {
            write!(text, "{byte:02x}").expect("writing to a text cannot fail");
        }
        text
    }
}

/// What templates see of the project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectInfo {
    /// The project's `name`.
    pub name: String,
    /// The project's `version`.
    pub version: String,
    /// The project's `description`.
    pub description: String,
}

/// One task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    /// Unique in its list; letters, digits, `-` and `_`.
    pub id: String,
    /// What the task does.
    pub kind: TaskKind,
    /// The task's arguments, visible to its templates as `with`.
    pub with: Option<Template>,
    /// The schema that the rendered `with` must fit.
    pub input: Option<Schema>,
    /// The schema that the task's output must fit.
    pub output: Option<Schema>,
    /// What becomes of the executor's answer (visible as `output`); without it the answer is the output.
    /// For an aggregate this is the whole task.
    pub outputs: Option<Template>,
    /// Where the run goes after success.
    pub on_success: Option<Transition>,
    /// Where the run goes after failure; without it the run fails.
    pub on_error: Option<Transition>,
    /// The run ends after this task.
    pub is_final: bool,
    /// How attempts of the task are bounded and repeated.
    pub policy: TaskPolicy,
    /// How the task waits for its turn.
    #[serde(default, skip_serializing_if = "DispatchPolicy::is_default")]
    pub dispatch: DispatchPolicy,
    /// The task is skipped when this is false. Not for a router and a wait, whose conditions mean something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    /// After the task succeeded the run waits this long before it goes on, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleep_ms: Option<u64>,
    /// The task with all that is in it may take this long, in milliseconds. For tasks that make no attempts of their
    /// own: those of a basic or memory task are bounded by `policy`, a wait has its own timeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// A step to another task of the same list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Transition {
    /// The task to go to; `None` keeps the order of the file.
    pub next: Option<String>,
    /// Arguments that replace the next task's own `with`, rendered in the scope of the task that is left.
    pub with: Option<Template>,
}

/// The types of task that this version runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TaskKind {
    /// Calls an action of a plugin.
    Basic(Tool),
    /// Goes to one of several tasks.
    Router {
        /// Its value, as text, is looked up in `routes`.
        condition: Condition,
        /// Value to task id. Inline tasks were lifted into the workflow's list, marked [`Task::is_final`] unless they say where to go.
        routes: IndexMap<String, String>,
    },
    /// Runs a task for each item of a list.
    Collection(Box<Collection>),
    /// Runs several tasks at once.
    Parallel(Box<Parallel>),
    /// Sends a signal.
    Signal(Box<SendSignal>),
    /// Waits for a signal.
    Wait(Box<Wait>),
    /// Works on a memory: messages that outlive the run.
    Memory(Box<Memory>),
    /// Runs another workflow. In a file it is a basic task with `workflow` in place of `tool`.
    Workflow(Box<ChildWorkflow>),
    /// Renders `outputs`, nothing else.
    Aggregate,
    /// Runs tasks one after the other and stops at the first that fails.
    Composite {
        /// At least one.
        tasks: Vec<Task>,
    },
}

impl TaskKind {
    /// The type's name as a workflow file spells it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Basic(_) => "basic",
            Self::Router { .. } => "router",
            Self::Collection(_) => "collection",
            Self::Aggregate => "aggregate",
            Self::Composite { .. } => "composite",
            Self::Parallel(_) => "parallel",
            Self::Signal(_) => "signal",
            Self::Wait(_) => "wait",
            Self::Memory(_) => "memory",
            Self::Workflow(_) => "workflow",
        }
    }

    /// True for a task that somebody outside of the interpreter does and answers: an executor, or the engine itself.
    pub fn is_answered_outside(&self) -> bool {
        matches!(self, Self::Basic(_) | Self::Memory(_) | Self::Signal(_) | Self::Workflow(_))
    }
}

/// Several tasks at once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Parallel {
    /// At least one. They stand beside each other: none can go to another.
    pub tasks: Vec<Task>,
    /// Children that may run at once, 1 to [`crate::limits::COLLECTION_PARALLEL_MAX`].
    pub parallel: u32,
    /// When the whole counts as successful.
    pub strategy: Strategy,
}

/// A signal to be sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SendSignal {
    /// The signal's name.
    pub name: String,
    /// Renders to the id of an execution, or to a list of ids. `None`: every workflow with a trigger of this name is
    /// started.
    pub to: Option<Template>,
    /// What the signal carries; `None` is null.
    pub payload: Option<Template>,
}

/// A wait for a signal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Wait {
    /// The signal's name.
    pub name: String,
    /// The schema that the payload must fit. A signal that does not is refused when it is sent.
    pub schema: Option<Schema>,
    /// Says of a signal, visible as `signal`, whether it is the one; `None` takes any. With a processor its output is
    /// visible as `processor`.
    pub condition: Option<Condition>,
    /// How long to wait; renders to a duration (`"30s"`) or a number of milliseconds.
    pub timeout: Option<Template>,
    /// The task to go to after the timeout, in place of `on_error`.
    pub on_timeout: Option<String>,
    /// Looks at each signal before the condition does.
    pub processor: Option<Task>,
}

/// The plugin name under which memory tasks are handed to the executor. No plugin can be called this.
pub const MEMORY_PLUGIN: &str = "@memory";

/// An operation on a memory. It is handed to the executor as a call of [`MEMORY_PLUGIN`], with the operation as the
/// action, [`Memory::options`] as the config, and `{"key", "payload"}` as the input.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Memory {
    /// What to do.
    pub operation: MemoryOperation,
    /// The id of the memory.
    pub memory: String,
    /// Renders to the key; without it the memory's id is the key.
    pub key: Option<Template>,
    /// The messages to write or append.
    pub payload: Option<Template>,
    /// The rest of the task's keys as they are in the file (`max_keys`, `flush_config` and so on).
    pub options: Value,
}

/// What a memory task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryOperation {
    /// Answers the messages.
    Read,
    /// Replaces the messages.
    Write,
    /// Adds messages at the end.
    Append,
    /// Removes the messages of a key.
    Delete,
    /// Keeps only the latest messages.
    Flush,
    /// Asks whether the backend works.
    Health,
    /// Removes the messages; asks for `clear_config.confirm`.
    Clear,
    /// Counts messages and tokens.
    Stats,
}

impl MemoryOperation {
    /// Every operation, by the name that a file uses.
    pub const NAMES: [&str; 8] = ["read", "write", "append", "delete", "flush", "health", "clear", "stats"];

    /// The operation of a name.
    pub fn of(name: &str) -> Option<Self> {
        serde_json::from_value(Value::from(name)).ok()
    }

    /// The name that a file uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Append => "append",
            Self::Delete => "delete",
            Self::Flush => "flush",
            Self::Health => "health",
            Self::Clear => "clear",
            Self::Stats => "stats",
        }
    }
}

/// Another workflow, run as a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChildWorkflow {
    /// The workflow's id. It starts with the definition that the host has at that time; its input is the task's `with`.
    pub workflow: String,
    /// What becomes of the child when this task is cancelled or the run ends before it.
    pub parent_close: ParentClose,
}

/// What becomes of a child run that nobody waits for any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParentClose {
    /// It is cancelled, with the grace that its parent has.
    #[default]
    Cancel,
    /// It is ended at once.
    Terminate,
    /// It goes on by itself.
    Abandon,
}

/// What a basic task calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// The id of the tool in the file, for messages.
    pub id: String,
    /// The plugin's name.
    pub plugin: String,
    /// One of the plugin's actions; `None` is its first.
    pub action: Option<String>,
    /// Handed to the plugin as it is.
    pub config: Value,
}

/// A task over the items of a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Collection {
    /// Renders to a list.
    pub items: Template,
    /// Keeps the items for which it is true; others count as skipped.
    pub filter: Option<Condition>,
    /// The name of the item in the scope of filter and child. Default `item`.
    pub item_var: String,
    /// The name of the item's position, from 0. Default `index`.
    pub index_var: String,
    /// Children that may run at once, 1 to [`crate::limits::COLLECTION_PARALLEL_MAX`]. 1 when `mode: sequential`.
    pub parallel: u32,
    /// When the collection counts as successful.
    pub strategy: Strategy,
    /// The task for each item.
    pub task: Task,
}

/// When a task with children counts as successful.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// When all children succeeded.
    WaitAll,
    /// When at least one child succeeded (or there was none).
    BestEffort,
    /// When all children succeeded; the first failure cancels the others at once.
    FailFast,
    /// As soon as one child succeeded, which cancels the others at once.
    Race,
}

impl Strategy {
    /// The name that a file uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::WaitAll => "wait_all",
            Self::BestEffort => "best_effort",
            Self::FailFast => "fail_fast",
            Self::Race => "race",
        }
    }
}

/// How attempts of a task are bounded and repeated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskPolicy {
    /// One attempt may take this long, in milliseconds.
    pub start_to_close_ms: u64,
    /// All attempts together may take this long, in milliseconds; `None` for no bound of its own.
    pub schedule_to_close_ms: Option<u64>,
    /// The task may wait this long for its first attempt to begin, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_to_start_ms: Option<u64>,
    /// An attempt must show that it is alive at least this often, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_ms: Option<u64>,
    /// How failed attempts are repeated.
    pub retry: RetryPolicy,
}

/// How failed attempts are repeated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts in all, the first included; at least 1.
    pub maximum_attempts: u32,
    /// The wait after the first failure, in milliseconds.
    pub initial_interval_ms: u64,
    /// Each further wait is this many times the last one; at least 1.
    pub backoff_coefficient: f64,
    /// No wait is longer, in milliseconds.
    pub maximum_interval_ms: u64,
    /// Failure codes that are never repeated.
    pub non_retryable_codes: Vec<String>,
}

impl Default for TaskPolicy {
    fn default() -> Self {
        Self {
            start_to_close_ms: 300_000,
            schedule_to_close_ms: Some(360_000),
            schedule_to_start_ms: None,
            heartbeat_ms: None,
            retry: RetryPolicy::default(),
        }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            maximum_attempts: 3,
            initial_interval_ms: 1_000,
            backoff_coefficient: 2.0,
            maximum_interval_ms: 60_000,
            non_retryable_codes: Vec::new(),
        }
    }
}

impl RetryPolicy {
    /// The wait before attempt `attempt + 1`, in milliseconds, after attempt `attempt` (from 1) failed.
    pub fn backoff_ms(&self, attempt: u32) -> u64 {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let wait = self.initial_interval_ms as f64 * self.backoff_coefficient.max(1.0).powi(exponent);
        #[expect(clippy::cast_sign_loss, reason = "both factors are positive; the cast saturates")]
        let wait = wait as u64;
        wait.min(self.maximum_interval_ms)
    }

    /// As [`Self::backoff_ms`], longer by a random share of up to [`BACKOFF_JITTER_PERCENT`] (within the maximum), so that tasks that
    /// failed together do not come back together. Equal for equal `chance`.
    pub fn jittered_backoff_ms(&self, attempt: u32, chance: u64) -> u64 {
        let wait = self.backoff_ms(attempt);
        let extra = wait / 100 * BACKOFF_JITTER_PERCENT;
        let jitter = if extra == 0 { 0 } else { chance % (extra + 1) };
        wait.saturating_add(jitter).min(self.maximum_interval_ms.max(wait))
    }
}

/// The largest share of a backoff that is added by chance, in percent.
pub const BACKOFF_JITTER_PERCENT: u64 = 20;

#[cfg(test)]
mod tests {
    use super::RetryPolicy;

    #[test]
    fn a_backoff_grows_to_its_cap_and_chance_never_shortens_it() {
        let policy = RetryPolicy { initial_interval_ms: 100, maximum_interval_ms: 1_000, ..RetryPolicy::default() };
        for (attempt, wait) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1_000), (u32::MAX, 1_000)] {
            assert_eq!(policy.backoff_ms(attempt), wait);
            for chance in [0, 1, 7, 1_000_003, u64::MAX] {
                let jittered = policy.jittered_backoff_ms(attempt, chance);
                assert!((wait..=(wait + wait / 5).min(1_000)).contains(&jittered), "{attempt}: {jittered}");
                assert_eq!(jittered, policy.jittered_backoff_ms(attempt, chance));
            }
        }
        assert_ne!(policy.jittered_backoff_ms(2, 3), policy.jittered_backoff_ms(2, 4));
    }
}
