//! What the interpreter itself finds wrong, each with a stable code and a message for a person.

use compozy_plan::schema::Violation;
use serde_json::Value;

use crate::event::{Failure, TaskKey};
use crate::limits::{NAMES_SHOWN_MAX, VALUE_SHOWN_CHARS_MAX};

/// Why a task or a run cannot go on. Every message names the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("{place}: the template in `{field}` failed: {reason}")]
    Template { place: Place, field: &'static str, reason: String },
    #[error("{place}: the condition in `{field}` failed: {reason}")]
    Condition { place: Place, field: &'static str, reason: String },
    #[error("{place}: its arguments (`with`) do not fit its `input` schema: {reason}")]
    InputInvalid { place: Place, reason: String },
    #[error("{place}: its output does not fit its `output` schema: {reason}")]
    OutputInvalid { place: Place, reason: String },
    #[error("{place}: no route for `{value}`; the routes are {known}; add a route or change the condition")]
    RouteNotFound { place: Place, value: String, known: String },
    #[error("{place}: `items` must be a list but is {found}")]
    ItemsNotAList { place: Place, found: String },
    #[error(
        "{place}: `items` has {count} items but at most {limit} are allowed; split the list over several collections"
    )]
    ItemsTooMany { place: Place, count: usize, limit: usize },
    #[error("{place}: {what} is nested deeper than {limit} levels, the most that a run can keep; make it flatter")]
    ValueTooDeep { place: Place, what: &'static str, limit: usize },
    #[error(
        "{place}: `{field}` looks into values of more than {limit} bytes together, the most that it may; hand them on whole, \
         or let a task select the part that is needed"
    )]
    ReadTooMuch { place: Place, field: &'static str, limit: u64 },
    #[error("{place}: `{field}` must be {wanted} but is {found}")]
    WrongValue { place: Place, field: &'static str, wanted: &'static str, found: String },
    #[error("{place}: all of its {count} children failed; the first: {first}")]
    AllChildrenFailed { place: Place, count: usize, first: String, code: String },
    #[error(
        "{place}: the run has {limit} task states, the most that a run may have; look for a loop that never ends, \
         or split the work over several runs"
    )]
    RunTooLong { place: Place, limit: usize },
    #[error(
        "{place}: with {what} the run keeps more than {limit} bytes of arguments, items and outputs, the most that a \
         run may keep; hand on references to large data, or reduce outputs with `outputs`"
    )]
    RunTooLarge { place: Place, what: &'static str, limit: usize },
    #[error(
        "{place}: one event led the run through {limit} tasks, the most that are allowed without waiting for an \
         executor; look for a loop of routers or aggregates that never ends"
    )]
    EventTooLong { place: Place, limit: usize },
    #[error(
        "{place}: the plan does not have what the run's state refers to: {missing}; the run needs the plan that it began with"
    )]
    PlanMismatch { place: Place, missing: String },
    #[error("the plan has format {found}, but this version runs format {known}; compile the workflow again")]
    PlanFormat { found: u32, known: u32 },
}

/// Where it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a task of the run.
    Task(TaskKey),
    /// At the level of the whole workflow.
    Workflow,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Task(key) => write!(f, "task `{key}`"),
            Self::Workflow => f.write_str("the workflow"),
        }
    }
}

impl Fault {
    /// State and plan do not belong together.
    pub(crate) fn mismatch(key: &TaskKey, missing: &str) -> Self {
        Self::PlanMismatch { place: Place::Task(key.clone()), missing: missing.to_owned() }
    }

    /// Stable: workflows and clients may depend on it.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Template { .. } => "TEMPLATE_ERROR",
            Self::Condition { .. } => "CONDITION_ERROR",
            Self::InputInvalid { .. } => "INPUT_INVALID",
            Self::OutputInvalid { .. } => "OUTPUT_INVALID",
            Self::RouteNotFound { .. } => "ROUTE_NOT_FOUND",
            Self::ItemsNotAList { .. } => "ITEMS_NOT_A_LIST",
            Self::WrongValue { .. } => "VALUE_INVALID",
            Self::ReadTooMuch { .. } => "READ_LIMIT",
            Self::ItemsTooMany { .. } => "ITEMS_TOO_MANY",
            // The first child's code says more than that all of them failed.
            Self::AllChildrenFailed { code, .. } => code,
            Self::ValueTooDeep { .. } => "VALUE_TOO_DEEP",
            Self::RunTooLong { .. } | Self::RunTooLarge { .. } | Self::EventTooLong { .. } => "RUN_LIMIT",
            Self::PlanMismatch { .. } | Self::PlanFormat { .. } => "PLAN_MISMATCH",
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::permanent(fault.code(), fault.to_string())
    }
}

/// A value in a message, with what it is; a long text is cut to [`VALUE_SHOWN_CHARS_MAX`].
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(truth) => format!("`{truth}`"),
        Value::Number(number) => format!("the number `{number}`"),
        Value::String(text) => format!("the text `{}`", cut(text)),
        Value::Array(items) if items.len() == 1 => "a list of one item".to_owned(),
        Value::Array(items) => format!("a list of {} items", items.len()),
        Value::Object(fields) => format!("an object with {}", listed(fields.keys())),
    }
}

/// Text in a message, cut to [`VALUE_SHOWN_CHARS_MAX`].
pub(crate) fn cut(text: &str) -> String {
    match text.char_indices().nth(VALUE_SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// What does not fit a schema, in one line.
pub(crate) fn joined(violations: &[Violation]) -> String {
    violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Names in a message, at most [`NAMES_SHOWN_MAX`].
pub(crate) fn listed<'a>(names: impl ExactSizeIterator<Item = &'a String>) -> String {
    let count = names.len();
    if count == 0 {
        return "nothing".to_owned();
    }
    let mut text = names.take(NAMES_SHOWN_MAX).map(|name| format!("`{}`", cut(name))).collect::<Vec<_>>().join(", ");
    if count > NAMES_SHOWN_MAX {
        text += " and ";
        text += &(count - NAMES_SHOWN_MAX).to_string();
        text += " more";
    }
    text
}
