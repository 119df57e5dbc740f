//! Signals: who may be told what, and how a run tells others.

use compozy_plan::plan::{MEMORY_PLUGIN, Memory, Plan, SendSignal, Task, Tool};
use compozy_plan::schema::Violation;
use serde_json::{Value, json};

use crate::blob::{BlobError, Blobs, Reading};
use crate::event::{Command, Signal, TaskKey};
use crate::fault::{Fault, Place, joined, shown};
use crate::limits::{RUN_SIGNALS_MAX, SIGNAL_ID_BYTES_MAX, SIGNAL_RECEIVERS_MAX, VALUE_DEPTH_MAX};
use crate::machine::Machine;
use crate::measure;
use crate::scope::Site;
use crate::state::{Received, RunState};
use crate::wait::waits_for;

/// Why a signal is not for a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignalRefused {
    /// The workflow waits for no signal of this name.
    #[error("the workflow waits for no signal `{name}`; it waits for {known}")]
    Unknown {
        /// The signal's name.
        name: String,
        /// For a person.
        known: String,
    },
    /// The payload does not fit.
    #[error("the payload of the signal `{name}` does not fit its schema: {}", joined(.violations))]
    Invalid {
        /// The signal's name.
        name: String,
        /// At least one.
        violations: Vec<Violation>,
    },
    /// The payload is nested too deep, or the id is empty or too long.
    #[error("{what} of the signal `{name}` is {used}, at most {allowed} is allowed")]
    TooLarge {
        /// The signal's name.
        name: String,
        /// What, with its unit.
        what: &'static str,
        /// How much there is.
        used: String,
        /// The limit.
        allowed: usize,
    },
    /// The run had too many.
    #[error("the run has had {allowed} signals, the most that a run may have")]
    TooMany {
        /// The limit.
        allowed: u64,
    },
    /// The run has ended, is about to end, or has not begun.
    #[error("the run has ended or is about to end")]
    Over,
}

impl SignalRefused {
    /// Stable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "SIGNAL_UNKNOWN",
            Self::Invalid { .. } => "SIGNAL_INVALID",
            Self::TooLarge { .. } => "SIGNAL_TOO_LARGE",
            Self::TooMany { .. } => "SIGNAL_LIMIT",
            Self::Over => "EXECUTION_ENDED",
        }
    }
}

/// Whether a run can take a signal. One that it had before is fine: it has no effect.
///
/// The outer error means that the payload is kept apart and could not be read.
pub fn check_signal(
    plan: &Plan,
    state: &RunState,
    signal: &Signal,
    blobs: &dyn Blobs,
) -> Result<Result<(), SignalRefused>, BlobError> {
    let reading = Reading::new(blobs);
    let checked = check(plan, state, signal, &reading);
    match reading.failed() {
        Some(error) => Err(error),
        None => Ok(checked),
    }
}

pub(crate) fn check(
    plan: &Plan,
    state: &RunState,
    signal: &Signal,
    reading: &Reading<'_>,
) -> Result<(), SignalRefused> {
    if state.signal_ids.contains(&signal.id) {
        return Ok(());
    }
    if state.status.is_terminal() || state.status == crate::Status::Pending || state.canceling.is_some() {
        return Err(SignalRefused::Over);
    }
    if state.signals >= RUN_SIGNALS_MAX {
        return Err(SignalRefused::TooMany { allowed: RUN_SIGNALS_MAX });
    }
    let too_large =
        |what, used: String, allowed| SignalRefused::TooLarge { name: signal.name.clone(), what, used, allowed };
    if signal.id.is_empty() || signal.id.len() > SIGNAL_ID_BYTES_MAX {
        return Err(too_large("the id", format!("{} bytes", signal.id.len()), SIGNAL_ID_BYTES_MAX));
    }
    if measure::size(&signal.payload).is_none() {
        return Err(too_large("the nesting of the payload", "deeper".to_owned(), VALUE_DEPTH_MAX));
    }
    let (waits, others) = waits_for(plan, &signal.name);
    if waits.is_empty() {
        let others: Vec<String> = others.into_iter().map(str::to_owned).collect();
        let known = crate::fault::listed(others.iter());
        return Err(SignalRefused::Unknown { name: signal.name.clone(), known });
    }
    // Several waits may have different schemas; one that fits is enough.
    let mut violations = Vec::new();
    for wait in waits {
        match wait.schema.as_ref().map_or(Ok(()), |schema| reading.validate(schema, &signal.payload)) {
            Ok(()) => return Ok(()),
            Err(found) => violations = found,
        }
    }
    Err(SignalRefused::Invalid { name: signal.name.clone(), violations })
}

/// A signal as templates and conditions see it.
pub(crate) fn signal_value(plan: &Plan, received: &Received) -> Value {
    let Received { at_ms, signal, .. } = received;
    json!({
        "name": signal.name,
        "payload": signal.payload,
        "metadata": {
            "signal_id": signal.id,
            "received_at_utc": utc(*at_ms),
            "workflow_id": plan.workflow,
            "source": signal.source,
        },
    })
}

impl Machine<'_, '_> {
    /// Sends a signal.
    pub(crate) fn send(&mut self, key: &TaskKey, task: &Task, signal: &SendSignal) -> Result<(), Fault> {
        let place = Place::Task(key.clone());
        let site = Site::inside(key, &self.state.tasks[key], task);
        let to = match &signal.to {
            None => None,
            Some(template) => Some(receivers(&site.render_whole(self.world(), template, "to")?, &place)?),
        };
        let payload = match &signal.payload {
            None => Value::Null,
            Some(template) => site.render(self.world(), template, "payload")?,
        };
        self.kept(&place, "the signal's payload", &payload)?;
        let source = self.state.execution_id.clone();
        let signal = Signal { name: signal.name.clone(), payload, id: format!("{source}/{key}"), source };
        self.give_out(key, Command::SendSignal { task: key.clone(), to, signal });
        Ok(())
    }

    /// Works on a memory: an executor does it.
    pub(crate) fn remember(&mut self, key: &TaskKey, task: &Task, memory: &Memory) -> Result<(), Fault> {
        let place = Place::Task(key.clone());
        let site = Site::inside(key, &self.state.tasks[key], task);
        let memory_key = match &memory.key {
            None => Value::from(memory.memory.as_str()),
            Some(template) => site.render_whole(self.world(), template, "key_template")?,
        };
        if !matches!(&memory_key, Value::String(text) if !text.is_empty()) {
            let (wanted, found) = ("a text that is not empty", shown(&memory_key));
            return Err(Fault::WrongValue { place, field: "key_template", wanted, found });
        }
        let payload = match &memory.payload {
            None => Value::Null,
            Some(template) => site.render(self.world(), template, "payload")?,
        };
        self.kept(&place, "the memory's payload", &payload)?;
        let tool = Tool {
            id: memory.memory.clone(),
            plugin: MEMORY_PLUGIN.to_owned(),
            action: Some(memory.operation.name().to_owned()),
            config: memory.options.clone(),
        };
        let input = json!({ "key": memory_key, "payload": payload });
        let policy = task.policy.clone();
        let dispatch = self.dispatch(key, task)?;
        self.give_out(key, Command::ScheduleTask { task: key.clone(), tool, input, policy, dispatch });
        Ok(())
    }
}

/// The executions that a signal goes to.
fn receivers(value: &Value, place: &Place) -> Result<Vec<String>, Fault> {
    let wrong = |found| Fault::WrongValue {
        place: place.clone(),
        field: "to",
        wanted: "the id of an execution or a list of 1 to 1000 of them",
        found,
    };
    let one = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => Ok(text.clone()),
        other => Err(wrong(shown(other))),
    };
    match value {
        Value::Array(items) if !(1..=SIGNAL_RECEIVERS_MAX).contains(&items.len()) => Err(wrong(shown(value))),
        Value::Array(items) => items.iter().map(one).collect(),
        other => Ok(vec![one(other)?]),
    }
}

/// A time as RFC 3339 in UTC.
fn utc(at_ms: u64) -> String {
    let (seconds, ms) = (at_ms / 1_000, at_ms % 1_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, in eras of 400 years: a leap day is then the last day of a year.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn times_are_written_as_rfc_3339() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (1_795_264_496_007, "2026-11-21T12:34:56.007Z"),
            (4_102_444_800_000, "2100-01-01T00:00:00.000Z"),
        ];
        for (at_ms, text) in cases {
            assert_eq!(utc(at_ms), text);
        }
    }
}
