//! What came of a fixture, in lines that must be equal on every engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use compozy_engine::port::{Execution, JournalRecord};
use compozy_interpreter::{Failure, Status, TaskKey, TaskState};
use compozy_plan::plan::Plan;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::names::Names;
use crate::order::settle;
use crate::scripted::Called;

/// A longer text is shown by its size and digest, in bytes.
const TEXT_SHOWN_MAX: usize = 160;

/// What came of a fixture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Without anything that may differ.
    pub lines: Vec<String>,
    /// What did not come as the fixture expects.
    pub problems: Vec<String>,
}

/// One run of the fixture.
pub(crate) struct Run {
    pub(crate) name: String,
    pub(crate) execution: Execution,
    pub(crate) journal: Vec<JournalRecord>,
}

/// Writes down runs, calls, and what was said.
pub(crate) fn write(
    said: &[String],
    runs: &[Run],
    calls: &[Called],
    plans: &BTreeMap<String, Arc<Plan>>,
    ids: &BTreeMap<String, String>,
) -> Vec<String> {
    let names = Names::new(ids);
    let mut lines = Vec::new();
    lines.extend(said.iter().map(|said| names.plain(said)));
    for run in runs {
        lines.extend(Writer { names: &names, run }.lines(plans));
    }
    // Tasks that run at once are called in any order.
    let mut called: Vec<String> = calls
        .iter()
        .map(|call| {
            let shown = short(&call.shown(), &names);
            names.plain(&format!("call of {} in {}, attempt {}: {shown}", call.task, call.execution, call.attempt))
        })
        .collect();
    called.sort();
    lines.extend(called);
    lines
}

/// Writes down one run.
struct Writer<'a> {
    names: &'a Names,
    run: &'a Run,
}

impl Writer<'_> {
    fn lines(&self, plans: &BTreeMap<String, Arc<Plan>>) -> Vec<String> {
        let execution = &self.run.execution;
        let state = &execution.state;
        let parent = execution.parent.as_ref().map_or_else(String::new, |parent| format!(", child of {parent}"));
        let mut lines =
            vec![format!("run {} of {}{parent}: {}", self.run.name, execution.workflow, state.status.name())];
        lines.push(format!("  input {}", self.value(&state.input)));
        lines.extend(state.output.as_ref().map(|output| format!("  output {}", self.value(output))));
        lines.extend(state.failure.as_ref().map(|failure| format!("  failure {}", self.failure(failure))));
        for received in &state.inbox {
            lines.push(format!("  unread signal {} {}", received.signal.name, self.value(&received.signal.payload)));
        }
        lines.push("  tasks".to_owned());
        self.tasks(None, 2, &mut lines);
        lines.push("  events".to_owned());
        let events: Vec<Value> = self.run.journal.iter().map(|record| record.event.clone()).collect();
        let events = match plans.get(&execution.workflow) {
            Some(plan) => settle(plan, events),
            None => events,
        };
        lines.extend(events.into_iter().map(|event| self.event(event)));
        lines.iter().map(|line| self.names.plain(line)).collect()
    }

    /// The tasks in a container, each with those in it. What runs beside each other is in the order of the file or of the items; what
    /// comes one after the other is in the order in which the run came to it.
    fn tasks(&self, parent: Option<&TaskKey>, depth: usize, lines: &mut Vec<String>) {
        let tasks = &self.run.execution.state.tasks;
        let inside = tasks.iter().filter(|(_, task)| task.parent.as_ref() == parent);
        let mut inside: Vec<(&TaskKey, &TaskState)> = inside.collect();
        let beside = parent.and_then(|parent| tasks.get(parent)).is_some_and(|task| task.progress.is_some());
        if beside {
            inside.sort_by_key(|(_, task)| task.at);
        }
        let space = "  ".repeat(depth);
        for (key, task) in inside {
            lines.push(format!("{space}{key} {}", self.standing(key, task)));
            if !task.with.is_null() {
                lines.push(format!("{space}  with {}", self.value(&task.with)));
            }
            lines.extend(task.output.as_ref().map(|output| format!("{space}  output {}", self.value(output))));
            lines.extend(task.failure.as_ref().map(|failure| format!("{space}  failure {}", self.failure(failure))));
            self.tasks(Some(key), depth + 1, lines);
        }
    }

    /// How a task stands, and what its engine knows of its attempts.
    fn standing(&self, key: &TaskKey, task: &TaskState) -> String {
        let mut text = format!("({}) {}", task.kind, task.status.name());
        if task.skipped {
            text += ", skipped";
        }
        // Nobody waits for what an attempt comes to that is not wanted any more: how many there were is then known to
        // an engine in one process, and to one of several only while they run.
        let known = self.run.execution.attempts.get(&key.0).filter(|_| task.status != Status::Canceled);
        if let Some(record) = known {
            text += &format!(", attempts {}", record.attempts);
            if let Some(ran) = &record.ran {
                text += &format!(" by {}", ran.plugin);
            }
            if let Some(failure) = &record.last_failure {
                text += &format!(", last failure {failure}");
            }
        }
        text
    }

    fn failure(&self, failure: &Failure) -> String {
        let details =
            if failure.details.is_null() { String::new() } else { format!(" {}", self.value(&failure.details)) };
        let again = if failure.retryable { ", retryable" } else { "" };
        let timeout = failure.timeout.map_or_else(String::new, |timeout| format!(", timeout {}", timeout.name()));
        format!("{}: {}{again}{timeout}{details}", failure.code, failure.message)
    }

    /// Times, and what an engine draws by chance, are no part of it.
    fn event(&self, mut event: Value) -> String {
        let mut kind = String::new();
        if let Value::Object(fields) = &mut event {
            kind = fields.shift_remove("kind").and_then(|kind| Some(kind.as_str()?.to_owned())).unwrap_or_default();
            for field in ["now_ms", "execution_id", "seed"] {
                fields.shift_remove(field);
            }
        }
        format!("    {kind} {}", self.value(&event)).trim_end_matches(" {}").to_owned()
    }

    fn value(&self, value: &Value) -> Value {
        short(value, self.names)
    }
}

/// The value without what differs from run to run, and with the size and digest of texts that are long.
fn short(value: &Value, names: &Names) -> Value {
    match value {
        Value::String(text) => {
            let text = names.plain(text);
            if text.len() <= TEXT_SHOWN_MAX {
                return Value::String(text);
            }
            let digest = hex::encode(&Sha256::digest(&text)[..4]);
            json!(format!("<{} bytes, {digest}>", text.len()))
        }
        Value::Array(items) => items.iter().map(|item| short(item, names)).collect(),
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), short(value, names))).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_told_apart_by_their_digest_whatever_ids_are_in_them() {
        let long = |text: &str| json!([format!("{text} {}", "a".repeat(TEXT_SHOWN_MAX))]);
        let names = |id: &str| Names::new(&BTreeMap::from([("main".to_owned(), id.to_owned())]));
        let (one, other) = (names("id-1"), names("id-2"));
        assert_ne!(short(&long("a"), &one), short(&long("b"), &one));
        assert_eq!(short(&long("by id-1"), &one), short(&long("by id-2"), &other));
        assert!(short(&long("a"), &one)[0].as_str().unwrap().contains("162 bytes"));
        assert_eq!(short(&json!({"k": "short"}), &one), json!({"k": "short"}));
    }
}
