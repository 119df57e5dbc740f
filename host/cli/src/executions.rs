//! `executions`: a look into a journal, without taking it over. What is done to executions is in `control`.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use compozy_engine::History;
use compozy_engine::limits::LIST_MAX;
use compozy_engine::port::{Execution, ExecutionId, Filter, JournalRecord};
use compozy_interpreter::Status;
use compozy_server::time::rfc3339;
use compozy_server::view;
use serde_json::{Value, json};

use crate::args::{Executions, HostArgs};
use crate::control;
use crate::exit::{Exit, Fatal};
use crate::host::engine_fatal;
use crate::output::{result, say};
use crate::progress::{count, millis, status_text};
use crate::records::{self, Records};
use crate::render::{self, printable};
use crate::threads;
use crate::watch::watch;

/// An export that is read, in bytes.
const EXPORT_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Prints what was asked for.
pub(crate) fn look(host: &HostArgs, what: &Executions) -> Result<Exit, Fatal> {
    threads::run(async move {
        match what {
            Executions::Watch { id, remote } => watch(remote.address(), id).await,
            Executions::Verify { file: Some(file), .. } => verify_file(file),
            _ => match control::request(what)? {
                Some(request) => control::send(request).await,
                None => look_on(host, what).await,
            },
        }
    })
}

/// Copies the journal to a new file.
pub(crate) fn backup(host: &HostArgs, to: &Path) -> Result<Exit, Fatal> {
    threads::run(async move {
        records::journal(host)?.backup(to).await.map_err(|error| engine_fatal(&error))?;
        result(&format!("backup: {}", to.display()));
        Ok(Exit::Ok)
    })
}

async fn look_on(host: &HostArgs, what: &Executions) -> Result<Exit, Fatal> {
    let view = Records::open(host).await?;
    match what {
        Executions::List { status, workflow, before, since, until, limit, json } => {
            let filter = Filter {
                status: status.as_deref().map(status_of).transpose()?,
                workflow: workflow.clone(),
                started_from_ms: *since,
                started_before_ms: *until,
            };
            list(&view, &filter, before.clone().map(ExecutionId), *limit, *json).await
        }
        Executions::Show { id, json } => show(&view, id, *json).await,
        Executions::Journal { id, json } => journal(&view, id, *json).await,
        Executions::Verify { id, .. } => return verify(&view, id.as_deref()).await,
        Executions::Export { id, output } => export(&view, id, output.as_deref()).await,
        // The others were taken by `control`.
        _ => Ok(()),
    }?;
    Ok(Exit::Ok)
}

fn status_of(text: &str) -> Result<Status, Fatal> {
    let name = text.to_ascii_uppercase().replace('-', "_");
    serde_json::from_value(Value::String(name)).map_err(|_unknown| {
        let known = "pending, running, waiting, paused, success, failed, timed_out, canceled";
        Fatal::new(Exit::Usage, format!("`{}` is no status; there are {known}", printable(text)))
    })
}

/// One execution, or all, page by page.
async fn verify(journal: &Records, id: Option<&str>) -> Result<Exit, Fatal> {
    let mut counts = (0_usize, 0_usize);
    if let Some(id) = id {
        check(journal, &ExecutionId(id.to_owned()), &mut counts).await?;
    } else {
        let mut last = None;
        loop {
            let page = journal
                .search(&Filter::default(), LIST_MAX, last.as_ref())
                .await
                .map_err(|error| engine_fatal(&error))?;
            for summary in &page {
                check(journal, &summary.id, &mut counts).await?;
            }
            match page.into_iter().last() {
                Some(summary) => last = Some(summary.id),
                None => break,
            }
        }
    }
    let (checked, different) = counts;
    result(&format!("verify: executions={checked} different={different}"));
    Ok(if different == 0 { Exit::Ok } else { Exit::Failed })
}

async fn check(journal: &Records, id: &ExecutionId, counts: &mut (usize, usize)) -> Result<(), Fatal> {
    counts.0 += 1;
    if let Some(difference) = journal.verify(id).await.map_err(|error| engine_fatal(&error))? {
        counts.1 += 1;
        result(&format!("{id}: {}", printable(&difference.to_string())));
    }
    Ok(())
}

/// Writes all that is recorded of an execution.
async fn export(journal: &Records, id: &str, output: Option<&Path>) -> Result<(), Fatal> {
    let history = journal.export(&ExecutionId(id.to_owned())).await.map_err(|error| engine_fatal(&error))?;
    let mut text = serde_json::to_string_pretty(&history).map_err(Fatal::setup)?;
    text.push('\n');
    let Some(path) = output else {
        result(&text);
        return Ok(());
    };
    let written = File::create_new(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| Fatal::setup(format!("`{}` cannot be written: {error}", path.display())))?;
    let (events, tasks) = (history.events.len(), history.tasks.len());
    result(&format!("export: {} events={events} tasks={tasks}", path.display()));
    Ok(())
}

/// Verifies an export, without a host and without its journal.
fn verify_file(path: &Path) -> Result<Exit, Fatal> {
    let problem = |why: &dyn std::fmt::Display| Fatal::setup(format!("`{}` cannot be verified: {why}", path.display()));
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(EXPORT_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| problem(&error))?;
    if bytes.len() as u64 > EXPORT_BYTES_MAX {
        return Err(problem(&format!("it has more than {EXPORT_BYTES_MAX} bytes")));
    }
    let history: History = serde_json::from_slice(&bytes).map_err(|error| problem(&error))?;
    let difference = history.verify().map_err(|error| problem(&error))?;
    if let Some(difference) = &difference {
        result(&format!("{}: {}", history.execution, printable(&difference.to_string())));
    }
    result(&format!("verify: executions=1 different={}", usize::from(difference.is_some())));
    Ok(if difference.is_none() { Exit::Ok } else { Exit::Failed })
}

async fn list(
    journal: &Records,
    filter: &Filter,
    before: Option<ExecutionId>,
    limit: usize,
    as_json: bool,
) -> Result<(), Fatal> {
    let found = journal.search(filter, limit, before.as_ref()).await.map_err(|error| engine_fatal(&error))?;
    let next = (found.len() == limit).then(|| found.last().map(|last| &last.id)).flatten();
    if as_json {
        let executions: Vec<_> = found.iter().map(view::summary).collect();
        result(&format!("{:#}", json!({ "executions": executions, "next": next })));
        return Ok(());
    }
    let line = |summary: &_| {
        let line = view::summary(summary);
        let (id, status, workflow) = (line.exec_id, status_text(line.status), printable(line.workflow_id));
        format!("{id}  {status:<9}  {}  {workflow}\n", line.started_at)
    };
    let lines: String = found.iter().map(line).collect();
    result(if lines.is_empty() { "no executions" } else { &lines });
    if let Some(next) = next {
        say(&format!("there may be more: --before {next}"));
    }
    Ok(())
}

async fn show(journal: &Records, id: &str, as_json: bool) -> Result<(), Fatal> {
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
        "plugins": view.plugins,
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

async fn journal(journal: &Records, id: &str, as_json: bool) -> Result<(), Fatal> {
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
