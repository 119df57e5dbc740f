//! Verification: what is recorded of an execution, taken through the interpreter again. Needs no journal file and no engine.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use compozy_interpreter::{
    BEHAVIOUR_VERSION, BlobError, Blobs, Command, Event, RunState, TaskKey, TaskState, advance, behaviour_supported,
    is_timely,
};
use compozy_plan::blob::BlobRef;
use compozy_plan::plan::{Plan, Tool};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::port::{ExecutionId, JournalRecord, Pins, TaskRecord};

/// The version of [`History`] as a document.
pub const HISTORY_FORMAT: u32 = 1;
/// Tasks that differ and are looked into; the first difference is among them but for wild damage.
const TASKS_TRACED_MAX: usize = 64;
/// A value in the text of a difference is cut to this, in characters.
const VALUE_CHARS_MAX: usize = 120;

/// Everything that is recorded of an execution. As JSON it is the document of an export.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// [`HISTORY_FORMAT`].
    pub format: u32,
    /// The execution's id.
    pub execution: ExecutionId,
    /// The workflow's id.
    pub workflow: String,
    /// The interpreter's behaviour that it began with.
    pub behaviour: u32,
    /// SHA-256 of the definition.
    pub definition: String,
    /// The definition.
    pub plan: Value,
    /// The plugins that it is bound to.
    pub pins: Pins,
    /// The run that it is a part of.
    pub parent: Option<ExecutionId>,
    /// The runs that its tasks started, by the task's key.
    pub children: IndexMap<String, ExecutionId>,
    /// Every event, from the first.
    pub events: Vec<JournalRecord>,
    /// How the run stood after one of the events: after the last, when it has ended.
    pub state: Option<RecordedState>,
    /// What was scheduled, by the task's key.
    pub tasks: IndexMap<String, ScheduledTask>,
    /// The large values that the run refers to, by their digest; only in an export.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub blobs: IndexMap<String, Value>,
}

impl Blobs for History {
    fn load(&self, blob: &BlobRef) -> Result<Arc<Value>, BlobError> {
        let lost = || BlobError::Lost { blob: blob.clone(), reason: "the document does not have it".to_owned() };
        self.blobs.get(&blob.digest).cloned().map(Arc::new).ok_or_else(lost)
    }
}

/// How a run stood after one of its events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedState {
    /// The event's number.
    pub seq: u64,
    /// The state.
    pub state: Value,
}

/// A task that was given to an executor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduledTask {
    /// What was called; `None` when it was never called, because its arguments were too large.
    pub call: Option<ScheduledCall>,
    /// Its attempts.
    pub record: TaskRecord,
}

/// The call of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduledCall {
    /// What to call.
    pub tool: Tool,
    /// The arguments.
    pub input: Value,
}

/// The first thing that differs between what is recorded and what the interpreter makes of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The event after which it differs, from 1.
    pub seq: u64,
    /// The event's kind.
    pub kind: String,
    /// What differs, for example `task b: status`.
    pub what: String,
    /// As it is recorded.
    pub expected: Value,
    /// As the interpreter has it.
    pub actual: Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seq, kind, what, expected, actual } = self;
        write!(f, "event {seq} ({kind}): {what}: recorded is {}, computed {}", cut(expected), cut(actual))
    }
}

fn cut(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        None => text,
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}

/// Why something cannot be verified at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Another version wrote it.
    #[error("the document has format {found}, this version reads {HISTORY_FORMAT}")]
    Format {
        /// Its format.
        found: u32,
    },
    /// Another version of the interpreter made the run.
    #[error("the execution began with behaviour {found}, this version has {BEHAVIOUR_VERSION}")]
    Behaviour {
        /// The run's.
        found: u32,
    },
    /// The definition is not the one that it is named after.
    #[error("the definition has the sha256 {found}, but the execution is bound to {expected}")]
    Definition {
        /// Of the definition as it is there.
        found: String,
        /// Of the one that the run is bound to.
        expected: String,
    },
    /// Something cannot be read.
    #[error("{what} cannot be read: {reason}")]
    Unreadable {
        /// What.
        what: String,
        /// Why.
        reason: String,
    },
}

fn lost(error: &BlobError) -> VerifyError {
    unreadable("a large value", error)
}

fn unreadable(what: impl Into<String>, reason: &impl ToString) -> VerifyError {
    VerifyError::Unreadable { what: what.into(), reason: reason.to_string() }
}

impl History {
    /// Takes the run through its events. `None`: everything that is recorded is what the interpreter makes of them.
    pub fn verify(&self) -> Result<Option<Difference>, VerifyError> {
        self.verify_with(self)
    }

    /// As [`Self::verify`], with the values that are kept apart from elsewhere.
    pub(crate) fn verify_with(&self, blobs: &dyn Blobs) -> Result<Option<Difference>, VerifyError> {
        if self.format != HISTORY_FORMAT {
            return Err(VerifyError::Format { found: self.format });
        }
        if !behaviour_supported(self.behaviour) {
            return Err(VerifyError::Behaviour { found: self.behaviour });
        }
        let plan = Plan::from_json(&self.plan.to_string()).map_err(|error| unreadable("the definition", &error))?;
        let found = plan.digest();
        if found != self.definition {
            return Err(VerifyError::Definition { found, expected: self.definition.clone() });
        }
        let events = self.events.iter().map(|record| {
            serde_json::from_value(record.event.clone())
                .map_err(|error| unreadable(format!("event {}", record.seq), &error))
        });
        let events: Vec<Event> = events.collect::<Result<_, _>>()?;
        Replay { history: self, plan: &plan, events: &events, blobs }.first_difference()
    }
}

struct Replay<'a> {
    history: &'a History,
    plan: &'a Plan,
    events: &'a [Event],
    blobs: &'a dyn Blobs,
}

impl Replay<'_> {
    fn first_difference(&self) -> Result<Option<Difference>, VerifyError> {
        let mut state = RunState::new();
        let mut scheduled = BTreeSet::new();
        let mut found = None;
        for (at, (event, record)) in self.events.iter().zip(&self.history.events).enumerate() {
            let odd = self.odd_event(at as u64 + 1, record, event, &state)?;
            if let Some(earlier) = found.or(odd) {
                return Ok(Some(earlier));
            }
            for command in advance(self.plan, &mut state, event, self.blobs).map_err(|error| lost(&error))? {
                let Command::ScheduleTask { task, tool, input, .. } = command else { continue };
                if let Some((what, expected, actual)) = self.call_difference(&task, &tool, &input) {
                    return Ok(Some(Difference {
                        seq: record.seq,
                        kind: event.kind().to_owned(),
                        what,
                        expected,
                        actual,
                    }));
                }
                scheduled.insert(task.0);
            }
            found = self.state_difference(record.seq, &state)?;
        }
        Ok(found.or_else(|| self.lost_events()).or_else(|| self.left_over(&scheduled)))
    }

    /// Events that the recorded state knows and that are not there.
    fn lost_events(&self) -> Option<Difference> {
        let (seq, kind) = self.last();
        let known = self.history.state.as_ref().filter(|known| known.seq > seq)?;
        let what = "the number of events".to_owned();
        Some(Difference { seq, kind, what, expected: known.seq.into(), actual: seq.into() })
    }

    /// What is wrong with an event as the `number`th of the run.
    fn odd_event(
        &self,
        number: u64,
        record: &JournalRecord,
        event: &Event,
        state: &RunState,
    ) -> Result<Option<Difference>, VerifyError> {
        let (what, expected, actual) = if record.seq != number {
            ("the event's number".to_owned(), record.seq.into(), number.into())
        } else if record.at_ms != event.now_ms() {
            ("the event's time".to_owned(), record.at_ms.into(), event.now_ms().into())
        } else if !is_timely(self.plan, state, event, self.blobs).map_err(|error| lost(&error))? {
            (subject(event), "an event that the run takes".into(), "one that means nothing to it".into())
        } else {
            return Ok(None);
        };
        Ok(Some(Difference { seq: record.seq, kind: event.kind().to_owned(), what, expected, actual }))
    }

    /// What was recorded as scheduled against what the interpreter schedules.
    fn call_difference(&self, task: &TaskKey, tool: &Tool, input: &Value) -> Option<(String, Value, Value)> {
        let Some(known) = self.history.tasks.get(&task.0) else {
            return Some((format!("task {task}"), "not scheduled".into(), "scheduled".into()));
        };
        let call = known.call.as_ref()?;
        if call.tool != *tool {
            let json = |tool: &Tool| serde_json::to_value(tool).unwrap_or_default();
            return Some((format!("task {task}: the tool that it calls"), json(&call.tool), json(tool)));
        }
        let (path, expected, actual) = first_unequal(&call.input, input)?;
        Some((format!("task {task}: its arguments{path}"), expected, actual))
    }

    /// What was recorded as scheduled and never is.
    fn left_over(&self, scheduled: &BTreeSet<String>) -> Option<Difference> {
        let extra = self.history.tasks.keys().find(|key| !scheduled.contains(*key))?;
        let (seq, kind) = self.last();
        let (expected, actual) = ("scheduled".into(), "not scheduled".into());
        Some(Difference { seq, kind, what: format!("task {extra}"), expected, actual })
    }

    fn last(&self) -> (u64, String) {
        let kind = self.events.last().map_or("none", Event::kind);
        (self.events.len() as u64, kind.to_owned())
    }

    /// The first difference between the recorded state and that after event `seq`, if it is recorded for that event.
    fn state_difference(&self, seq: u64, state: &RunState) -> Result<Option<Difference>, VerifyError> {
        let Some(known) = self.history.state.as_ref().filter(|known| known.seq == seq) else { return Ok(None) };
        let recorded: RunState = serde_json::from_value(known.state.clone())
            .map_err(|error| unreadable(format!("the state after event {seq}"), &error))?;
        if recorded == *state {
            return Ok(None);
        }
        let of_task = self.task_difference(seq, &recorded, state)?;
        Ok(of_task.or_else(|| self.run_difference(seq, &recorded, state)))
    }

    /// The task that differs first, with the event that last changed it.
    fn task_difference(
        &self,
        seq: u64,
        recorded: &RunState,
        state: &RunState,
    ) -> Result<Option<Difference>, VerifyError> {
        let keys = recorded.tasks.keys().chain(state.tasks.keys());
        let differs = |key: &&TaskKey| recorded.tasks.get(*key) != state.tasks.get(*key);
        // One that the interpreter never comes to belongs to no event before the last.
        let last = self.events.len().min(usize::try_from(seq).unwrap_or(usize::MAX)).checked_sub(1);
        let Some(last) = last else { return Ok(None) };
        let mut different: IndexMap<&TaskKey, (Option<TaskState>, usize)> =
            keys.filter(differs).take(TASKS_TRACED_MAX).map(|key| (key, (None, last))).collect();
        let mut fresh = RunState::new();
        for (at, event) in self.events.iter().take(last + 1).enumerate() {
            advance(self.plan, &mut fresh, event, self.blobs).map_err(|error| lost(&error))?;
            for (key, (before, changed)) in &mut different {
                let now = fresh.tasks.get(*key);
                if now != before.as_ref() {
                    (*before, *changed) = (now.cloned(), at);
                }
            }
        }
        let Some((key, (_, at))) = different.into_iter().min_by_key(|(_, (_, at))| *at) else { return Ok(None) };
        let json = |state: &RunState| serde_json::to_value(state.tasks.get(key)).unwrap_or_default();
        let Some((path, expected, actual)) = first_unequal(&json(recorded), &json(state)) else { return Ok(None) };
        let what = format!("task {key}{}", path.replacen('/', ": ", 1));
        let (seq, kind) = (at as u64 + 1, self.events[at].kind().to_owned());
        Ok(Some(Difference { seq, kind, what, expected, actual }))
    }

    /// What differs in the run beside its tasks.
    fn run_difference(&self, seq: u64, recorded: &RunState, state: &RunState) -> Option<Difference> {
        let json = |state: &RunState| {
            let mut value = serde_json::to_value(state).unwrap_or_default();
            if let Some(fields) = value.as_object_mut() {
                // The order of tasks counts; that they are equal is known.
                let keys: Vec<Value> = state.tasks.keys().map(|key| key.0.clone().into()).collect();
                fields.insert("tasks".to_owned(), keys.into());
            }
            value
        };
        let (path, expected, actual) = first_unequal(&json(recorded), &json(state))?;
        let kind = usize::try_from(seq).ok().and_then(|seq| self.events.get(seq - 1)).map_or("none", Event::kind);
        let what = format!("the run{}", path.replacen('/', ": ", 1));
        Some(Difference { seq, kind: kind.to_owned(), what, expected, actual })
    }
}

/// What an event is about.
fn subject(event: &Event) -> String {
    match event {
        Event::TaskCompleted { task, .. } | Event::TaskFailed { task, .. } | Event::ResetRequested { task, .. } => {
            format!("task {task}")
        }
        Event::TimerFired { timer, .. } => format!("timer {timer}"),
        Event::SignalReceived { signal, .. } => format!("signal {}", signal.name),
        _ => "the run".to_owned(),
    }
}

/// The place of the first difference between two values, as a path, with both sides. `null` stands for what is not there.
fn first_unequal(expected: &Value, actual: &Value) -> Option<(String, Value, Value)> {
    let mut path = String::new();
    let (mut expected, mut actual) = (expected, actual);
    'deeper: while expected != actual {
        match (expected, actual) {
            (Value::Object(a), Value::Object(b)) => {
                for key in a.keys().chain(b.keys()) {
                    let (left, right) = (a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null));
                    if left != right {
                        path.push('/');
                        path.push_str(key);
                        (expected, actual) = (left, right);
                        continue 'deeper;
                    }
                }
            }
            (Value::Array(a), Value::Array(b)) => {
                for at in 0..a.len().max(b.len()) {
                    let (left, right) = (a.get(at).unwrap_or(&Value::Null), b.get(at).unwrap_or(&Value::Null));
                    if left != right {
                        let _ = write!(path, "/{at}");
                        (expected, actual) = (left, right);
                        continue 'deeper;
                    }
                }
            }
            _ => {}
        }
        return Some((path, expected.clone(), actual.clone()));
    }
    None
}
