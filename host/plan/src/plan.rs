//! The plan: what a workflow file means, checked and resolved. The interpreter reads nothing else.
//!
//! A plan is a plain value. It serialises to JSON and back without loss, and its digest (SHA-256 of that JSON)
//! names the definition that an execution runs on, whatever happens to the file.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::condition::Condition;
use crate::schema::Schema;
use crate::template::Template;

/// The version of this format. A plan of another version is refused, never guessed at.
pub const PLAN_FORMAT: u32 = 1;

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
        }
    }
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
}

/// How attempts of a task are bounded and repeated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskPolicy {
    /// One attempt may take this long, in milliseconds.
    pub start_to_close_ms: u64,
    /// All attempts together may take this long, in milliseconds; `None` for no bound of its own.
    pub schedule_to_close_ms: Option<u64>,
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
        Self { start_to_close_ms: 300_000, schedule_to_close_ms: Some(360_000), retry: RetryPolicy::default() }
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
}
