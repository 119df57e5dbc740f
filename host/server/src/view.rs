//! An execution as clients see it: one JSON document, the same over HTTP and from the command line.

use compozy_engine::port::{Execution, ExecutionSummary, Pins, Ran, TaskRecord};
use compozy_interpreter::{Failure, RunState, TaskState};
use serde::Serialize;
use serde_json::Value;

use crate::time::rfc3339;

/// An execution.
#[derive(Debug, Serialize)]
pub struct ExecutionView<'a> {
    /// Its id.
    pub exec_id: &'a str,
    /// The workflow's id.
    pub workflow_id: &'a str,
    /// SHA-256 of the definition that it runs on.
    pub definition: &'a str,
    /// The plugins that it is bound to: SHA-256 of the component, by name.
    pub plugins: &'a Pins,
    /// How it stands.
    pub status: compozy_interpreter::Status,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// When it ended, RFC 3339.
    pub ended_at: Option<String>,
    /// What it was started with.
    pub input: &'a Value,
    /// What it answered; `null` until it succeeded.
    pub output: Option<&'a Value>,
    /// Why it did not succeed.
    pub failure: Option<&'a Failure>,
    /// The tasks that it came to, in that order.
    pub tasks: Vec<TaskView<'a>>,
    /// Events in its journal.
    pub events: u64,
    /// The execution that it is a part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<&'a str>,
}

/// A task of an execution.
#[derive(Debug, Serialize)]
pub struct TaskView<'a> {
    /// The task's key within the execution, for example `activities[3]`.
    pub task: &'a str,
    /// The task's id in the workflow.
    pub id: &'a str,
    /// The task's type.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// The key of the collection or composite around it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<&'a str>,
    /// How it stands.
    pub status: compozy_interpreter::Status,
    /// The plugin that ran the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginView<'a>>,
    /// Attempts begun; absent for a task that calls no plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// When the run came to it, RFC 3339.
    pub started_at: String,
    /// When it ended, RFC 3339.
    pub ended_at: Option<String>,
    /// When the last attempt began, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt_started_at: Option<String>,
    /// When the next attempt begins, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<String>,
    /// Why the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<&'a str>,
    /// Fuel of the last attempt, about one per WebAssembly instruction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
    /// Time of the last attempt, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_us: Option<u64>,
    /// Its condition was false, so it did nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// The execution that it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child: Option<&'a str>,
    /// The rendered arguments.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub with: &'a Value,
    /// What it answered; `null` until it succeeded.
    pub output: Option<&'a Value>,
    /// Why it did not succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<&'a Failure>,
}

/// The plugin that ran a task.
#[derive(Debug, Serialize)]
pub struct PluginView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// SHA-256 of its component.
    pub digest: &'a str,
}

/// The document of an execution.
pub fn execution(execution: &Execution) -> ExecutionView<'_> {
    let state = &execution.state;
    let tasks = state.tasks.iter().map(|(key, task)| view_task(&key.0, task, execution));
    ExecutionView {
        exec_id: &execution.id.0,
        workflow_id: &execution.workflow,
        definition: &execution.definition,
        plugins: &execution.pins,
        status: state.status,
        started_at: rfc3339(state.started_at_ms),
        ended_at: ended_at(state),
        input: &state.input,
        output: state.output.as_ref(),
        failure: state.failure.as_ref(),
        tasks: tasks.collect(),
        events: execution.events,
        parent: execution.parent.as_ref().map(|parent| parent.0.as_str()),
    }
}

/// One line of a list of executions.
#[derive(Debug, Serialize)]
pub struct SummaryView<'a> {
    /// Its id.
    pub exec_id: &'a str,
    /// The workflow's id.
    pub workflow_id: &'a str,
    /// How it stands.
    pub status: compozy_interpreter::Status,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// When it ended, RFC 3339.
    pub ended_at: Option<String>,
}

/// The document of one line of a list.
pub fn summary(summary: &ExecutionSummary) -> SummaryView<'_> {
    SummaryView {
        exec_id: &summary.id.0,
        workflow_id: &summary.workflow,
        status: summary.status,
        started_at: rfc3339(summary.started_at_ms),
        ended_at: summary.ended_at_ms.map(rfc3339),
    }
}

fn ended_at(state: &RunState) -> Option<String> {
    state.status.is_terminal().then(|| rfc3339(state.now_ms))
}

fn view_task<'a>(key: &'a str, task: &'a TaskState, execution: &'a Execution) -> TaskView<'a> {
    let record: Option<&TaskRecord> = execution.attempts.get(key);
    let ran = record.and_then(|r| r.ran.as_ref());
    TaskView {
        task: key,
        id: &task.id,
        kind: &task.kind,
        parent: task.parent.as_ref().map(|p| p.0.as_str()),
        status: task.status,
        plugin: ran.map(view_plugin),
        attempts: record.map(|r| r.attempts),
        started_at: rfc3339(task.started_at_ms),
        ended_at: task.ended_at_ms.map(rfc3339),
        attempt_started_at: record.and_then(|r| r.started_at_ms).map(rfc3339),
        next_attempt_at: record.and_then(|r| r.next_attempt_at_ms).map(rfc3339),
        last_failure: record.and_then(|r| r.last_failure.as_deref()),
        fuel: ran.map(|r| r.fuel),
        wall_us: ran.map(|r| r.wall_us),
        skipped: task.skipped,
        child: execution.children.get(key).map(|child| child.0.as_str()),
        with: &task.with,
        output: task.output.as_ref(),
        failure: task.failure.as_ref(),
    }
}

fn view_plugin(ran: &Ran) -> PluginView<'_> {
    PluginView { name: &ran.plugin, version: &ran.version, digest: &ran.digest }
}
