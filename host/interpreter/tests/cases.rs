//! The semantics as readable files: `cases/*.txt`, each a workflow, a script of events, and what came of it.
//!
//! Everything after `--- expected` is written by `UPDATE_CASES=1 cargo test -p compozy-interpreter --test cases`;
//! read what it wrote before you keep it.

#[path = "support/script.rs"]
mod script;
mod support;
#[path = "support/workflow.rs"]
mod workflow;

use std::fmt::Write as _;
use std::path::Path;

use compozy_interpreter::{Command, RunState};
use script::act;
use serde_json::json;
use support::Run;

/// A run away has thousands of tasks; the first ones tell enough.
const TASKS_SHOWN: usize = 20;
const EXPECTED: &str = "--- expected\n";

#[test]
fn every_case_goes_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let update = std::env::var_os("UPDATE_CASES").is_some();
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder of cases")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    assert!(files.len() >= 60, "only {} cases", files.len());
    let mut wrong = String::new();
    for path in files {
        let text = std::fs::read_to_string(&path).expect("a case");
        let (given, expected) = text.split_once(EXPECTED).unwrap_or((&text, ""));
        let found = play(given);
        if update {
            std::fs::write(&path, format!("{given}{EXPECTED}{found}")).expect("a case that can be written");
        } else if found != expected {
            let _ = writeln!(wrong, "=== {}\n--- expected\n{expected}--- found\n{found}", path.display());
        }
    }
    assert!(wrong.is_empty(), "cases went otherwise; run with UPDATE_CASES=1 and read the changes\n{wrong}");
}

/// Plays a case's script and writes down what happens.
fn play(given: &str) -> String {
    let (_, rest) = given.split_once("--- workflow\n").expect("a workflow");
    let (yaml, script) = rest.split_once("--- script\n").expect("a script");
    let plan = workflow::compile(yaml).unwrap_or_else(|error| panic!("{error}\n{given}"));
    let mut run = Run::new(&plan);
    let mut found = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let before = run.state.clone();
        let commands = act(&mut run, line);
        let _ = writeln!(found, "{line}");
        if commands.is_empty() {
            let _ = writeln!(found, "  ({})", if run.state == before { "ignored" } else { "waits" });
        }
        for command in &commands {
            let _ = writeln!(found, "  {}", command_line(command));
        }
    }
    found.push_str(&state_lines(&run.state));
    found
}

fn command_line(command: &Command) -> String {
    match command {
        Command::ScheduleTask { task, tool, input, dispatch, .. } => {
            let held = if dispatch.is_default() { String::new() } else { format!(" held by {}", json!(dispatch)) };
            format!("schedule {task}: {} {input}{held}", tool.id)
        }
        Command::CancelTask { task } => format!("cancel {task}"),
        Command::AskTaskToEnd { task, grace_ms } => format!("ask {task} to end in {grace_ms} ms"),
        Command::StartTimer { timer, fire_at_ms } => format!("timer {timer} at {fire_at_ms}"),
        Command::CancelTimer { timer } => format!("no timer {timer}"),
        Command::StartChild { task, workflow, input, parent_close } => {
            format!("child {task}: {workflow} {input} {parent_close:?}")
        }
        Command::SendSignal { task, to, signal } => {
            format!("signal {task}: {} {} to {to:?}, id {}", signal.name, signal.payload, signal.id)
        }
        Command::Finish => "finish".to_owned(),
    }
}

fn state_lines(state: &RunState) -> String {
    let mut text = format!("run {}", state.status.name());
    if let Some(output) = &state.output {
        let _ = write!(text, " {output}");
    }
    if let Some(failure) = &state.failure {
        let _ = write!(text, "\n  {}: {}", failure.code, failure.message);
    }
    text.push('\n');
    for (key, task) in state.tasks.iter().take(TASKS_SHOWN) {
        let skipped = if task.skipped { " skipped" } else { "" };
        let _ = write!(text, "{key} ({}) {}{skipped}", task.kind, task.status.name());
        if !task.with.is_null() {
            let _ = write!(text, "\n  with {}", task.with);
        }
        if let Some(output) = &task.output {
            let _ = write!(text, "\n  output {output}");
        }
        if let Some(failure) = &task.failure {
            let _ = write!(text, "\n  {}: {}", failure.code, failure.message);
        }
        text.push('\n');
    }
    if state.tasks.len() > TASKS_SHOWN {
        let _ = writeln!(text, "... and {} more", state.tasks.len() - TASKS_SHOWN);
    }
    text
}
