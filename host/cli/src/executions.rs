//! `executions`: a look into a journal, without taking it over.

use compozy_engine::local::JournalView;
use compozy_engine::port::{Execution, ExecutionId, JournalRecord};
use compozy_server::time::rfc3339;
use compozy_server::view;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::args::{Executions, HostArgs};
use crate::exit::{Exit, Fatal};
use crate::host::engine_fatal;
use crate::output::result;
use crate::progress::{count, millis, status_text};
use crate::render::{self, printable};
use crate::threads;

/// Executions that `list` shows.
const LIST: usize = 100;

/// Prints what was asked for.
pub(crate) fn look(host: &HostArgs, what: &Executions) -> Result<Exit, Fatal> {
    threads::run(|_guests| look_on(host, what))
}

async fn look_on(host: &HostArgs, what: &Executions) -> Result<Exit, Fatal> {
    if !host.data_dir.is_dir() {
        let folder = host.data_dir.display();
        return Err(Fatal::setup(format!("there is no data folder `{folder}`; name one with --data-dir")));
    }
    let view = JournalView::open(&host.data_dir, Handle::current()).map_err(|error| engine_fatal(&error))?;
    match what {
        Executions::List { json } => list(&view, *json).await,
        Executions::Show { id, json } => show(&view, id, *json).await,
        Executions::Journal { id, json } => journal(&view, id, *json).await,
    }?;
    Ok(Exit::Ok)
}

async fn list(journal: &JournalView, as_json: bool) -> Result<(), Fatal> {
    let found = journal.list(LIST, None).await.map_err(|error| engine_fatal(&error))?;
    if as_json {
        let executions: Vec<_> = found.iter().map(view::summary).collect();
        result(&format!("{:#}", json!({ "executions": executions })));
        return Ok(());
    }
    let line = |summary: &_| {
        let line = view::summary(summary);
        let (id, status, workflow) = (line.exec_id, status_text(line.status), printable(line.workflow_id));
        format!("{id}  {status:<9}  {}  {workflow}\n", line.started_at)
    };
    let lines: String = found.iter().map(line).collect();
    result(if lines.is_empty() { "no executions" } else { &lines });
    Ok(())
}

async fn show(journal: &JournalView, id: &str, as_json: bool) -> Result<(), Fatal> {
    let found = journal.execution(&ExecutionId(id.to_owned())).await.map_err(|error| engine_fatal(&error))?;
    let not_found = || Fatal::new(Exit::Failed, format!("there is no execution `{}` in this journal", printable(id)));
    let execution = found.ok_or_else(not_found)?;
    if as_json {
        let document = serde_json::to_value(view::execution(&execution)).unwrap_or_default();
        result(&format!("{document:#}"));
    } else {
        result(&text_of(&execution));
    }
    Ok(())
}

fn text_of(execution: &Execution) -> String {
    let view = view::execution(execution);
    let head = json!({
        "execution": view.exec_id,
        "workflow": view.workflow_id,
        "definition": view.definition,
        "status": view.status,
        "started": view.started_at,
        "ended": view.ended_at,
        "events": view.events,
    });
    let mut text = render::value(&head);
    text.push_str("\ntasks:\n");
    let width = view.tasks.iter().map(|task| task.task.chars().count()).max().unwrap_or(0);
    for task in &view.tasks {
        let (key, status, kind) = (printable(task.task), status_text(task.status), task.kind);
        let mut line = format!("  {key:<width$}  {status:<9}  {kind:<10}");
        if let Some(plugin) = &task.plugin {
            let time = millis(task.wall_us.unwrap_or_default());
            let fuel = count(task.fuel.unwrap_or_default());
            let attempts = task.attempts.unwrap_or_default();
            line += &format!("  {}@{}  {time}  {fuel} fuel  attempts {attempts}", plugin.name, plugin.version);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    for (title, value) in [("input", Some(view.input)), ("output", view.output)] {
        if let Some(value) = value {
            text += &format!("\n{title}:\n{}", indented(&render::value(value)));
        }
    }
    if let Some(failure) = view.failure {
        text += &format!("\nfailure:\n  {}: {}\n", failure.code, printable(&failure.message));
    }
    text
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

async fn journal(journal: &JournalView, id: &str, as_json: bool) -> Result<(), Fatal> {
    let records = journal.journal(&ExecutionId(id.to_owned())).await.map_err(|error| engine_fatal(&error))?;
    let lines: Vec<String> =
        records.iter().map(|record| if as_json { json_line(record) } else { text_line(record) }).collect();
    result(&lines.join("\n"));
    Ok(())
}

fn json_line(record: &JournalRecord) -> String {
    serde_json::to_string(record).unwrap_or_default()
}

/// The number, the time, what happened, to which task; then the rest of the event as JSON.
fn text_line(record: &JournalRecord) -> String {
    let field = |name: &str| record.event.get(name).and_then(Value::as_str).unwrap_or_default();
    let rest: serde_json::Map<String, Value> = record
        .event
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| !["kind", "task", "now_ms", "execution_id"].contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let (seq, at, kind) = (record.seq, rfc3339(record.at_ms), field("kind"));
    format!(
        "{seq:>4}  {at}  {kind:<14}  {:<24}  {}",
        printable(field("task")),
        printable(&Value::Object(rest).to_string())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line() {
        let event = json!({ "kind": "task_completed", "now_ms": 5, "task": "greet", "output": { "text": "hi\n" } });
        let line = text_line(&JournalRecord { seq: 2, at_ms: 5, event });
        assert_eq!(
            line,
            "   2  1970-01-01T00:00:00.005Z  task_completed  greet                     {\"output\":{\"text\":\"hi\\n\"}}"
        );
    }
}
