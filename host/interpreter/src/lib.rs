//! The semantics of workflows. Pure: no clock, no I/O, no randomness, no async.
//!
//! An engine stores events and hands them to [`advance`] one by one; what is to be done comes back as [`Command`]s.
//! Same plan, same events: same state, same commands, byte for byte. What a run does:
//!
//! - A list (the workflow's own, or a composite's) runs one task after the other. After a success comes a router's
//!   choice, else the end if the task is `final`, else `on_success.next`, else the next of the list. After a failure
//!   comes `on_error` in the same way; without it the list fails with that failure. `final` inside a composite ends
//!   the composite.
//! - A task whose `condition` is false is skipped: the run goes on as if it were not there. After a success the run
//!   waits for the task's `sleep` before it goes on.
//! - A collection keeps the items that its `filter` likes and runs its task for each, at most `parallel` at once.
//!   `index`, the key `[n]`, and the place in `outputs` all count the items that were kept; in the filter, `index`
//!   counts all items. A parallel runs its tasks in the same way. Under `wait_all` no child begins after one has
//!   failed; those that run are let end, and the failure with the lowest place becomes that of the whole. Under
//!   `fail_fast` the first failure, and under `race` the first success, cancels all others at once. Under
//!   `best_effort` and `race` the whole fails only when no child succeeded and one failed.
//! - Signals are kept in the order in which they came until a wait takes them; one that a wait does not like stays for
//!   others. A wait may hand each signal to its `processor` before its `condition` is asked.
//! - While a run is paused nothing begins; what runs goes on, what ends is recorded, timers fire, signals are taken.
//! - A cancelled run begins nothing more, asks what runs to end, and ends with it or when the grace is over.
//! - A retry begins the tasks again that ended badly, as new visits, in the containers around them, which open again.
//!   A reset does the same from any task of a list on.
//! - A task comes to be known under its path: `collection[3]`, `composite/task`, and `task#2` when a loop comes to it
//!   a second time. `tasks.<id>` is the latest visit; inner lists come before outer ones.
//! - Faults of a workflow (a template, a route, a schema) fail the task in which they are, and `on_error` handles them
//!   like a failure of the executor. Only [`limits`] and a plan that does not belong to the run end the run at once.

mod blob;
mod collection;
mod control;
mod dispatch;
mod ending;
mod event;
mod fan;
mod fault;
pub mod limits;
mod list;
mod locate;
mod machine;
mod measure;
mod rewind;
mod router;
mod scope;
mod signal;
mod state;
mod wait;

pub use blob::{BlobError, Blobs, NoBlobs};
pub use event::{Command, Dispatch, Event, Failure, Signal, Slot, TaskKey, Timeout, Timer};
pub use measure::is_too_deep;
pub use rewind::{RewindRefused, can_reset, can_retry};
pub use signal::{SignalRefused, check_signal};
pub use state::{
    Asleep, BEHAVIOUR_VERSION, ChildFailure, CollectionProgress, Held, Received, RunState, Status, TaskState,
    WaitProgress,
};

use compozy_plan::plan::{PLAN_FORMAT, Plan};

use compozy_plan::blob::has_blob_key;

use crate::blob::Reading;
use crate::fault::Fault;
use crate::machine::Machine;

/// Takes a run one event further and answers what is to be done, in order.
///
/// Total: every event is fine in every state. An event changes nothing and answers nothing when it comes too late or
/// out of order: for a run that has ended or not begun, a second start, a task or a timer that is unknown or has
/// ended, a signal that the run had before, or a run of a behaviour that this version does not have (see
/// [`behaviour_supported`]).
///
/// `blobs` reads the values that are kept apart, when somebody looks into one. An error means that one could not be read:
/// the state is then neither the old nor the new one, and must be thrown away.
pub fn advance(plan: &Plan, state: &mut RunState, event: &Event, blobs: &dyn Blobs) -> Result<Vec<Command>, BlobError> {
    let reading = Reading::new(blobs);
    let commands = advance_reading(plan, state, event, &reading);
    match reading.failed() {
        Some(error) => Err(error),
        None => Ok(commands),
    }
}

fn advance_reading(plan: &Plan, state: &mut RunState, event: &Event, reading: &Reading<'_>) -> Vec<Command> {
    if !behaviour_supported(state.behaviour) || !timely(plan, state, event, reading) {
        return Vec::new();
    }
    state.has_blobs |= event.payload().is_some_and(has_blob_key);
    state.now_ms = state.now_ms.max(event.now_ms());
    if let Event::Started { execution_id, seed, input, .. } = event {
        state.execution_id.clone_from(execution_id);
        state.seed = *seed;
        state.input.clone_from(input);
        state.started_at_ms = state.now_ms;
    }
    // While the event is worked on; how the run stands afterwards is said below.
    if !state.status.is_terminal() {
        state.status = Status::Running;
    }
    let mut machine = Machine::new(plan, state, reading);
    match event {
        _ if plan.format != PLAN_FORMAT => machine.abort(Fault::PlanFormat { found: plan.format, known: PLAN_FORMAT }),
        Event::Started { .. } => machine.start(),
        Event::TaskCompleted { task, output, .. } => machine.completed(task, output),
        Event::TaskFailed { task, failure, .. } => machine.failed(task, failure),
        Event::TimerFired { timer, .. } => machine.fired(timer),
        Event::SignalReceived { signal, .. } => machine.received(signal),
        Event::CancelRequested { reason, grace_ms, .. } => machine.cancel(reason, *grace_ms),
        Event::Terminated { failure, .. } => machine.end_all(Status::Failed, failure.clone()),
        Event::PauseRequested { reason, .. } => machine.pause(reason),
        Event::ResumeRequested { .. } => machine.resume(),
        Event::RetryRequested { .. } => machine.retry(),
        Event::ResetRequested { task, .. } => machine.reset(task),
    }
    let commands = machine.into_commands();
    if !state.status.is_terminal() {
        state.status = match (&state.paused, state.active) {
            (Some(_), _) => Status::Paused,
            (None, 0) => Status::Waiting,
            (None, _) => Status::Running,
        };
    }
    commands
}

/// True when this version can go on with a run that began under behaviour `version`. Ask before handing events to
/// [`advance`]: it leaves the run of another behaviour as it is.
pub fn behaviour_supported(version: u32) -> bool {
    version == BEHAVIOUR_VERSION
}

/// True when the event means something to the run as it stands. [`advance`] ignores all others.
///
/// An error means that a value that is kept apart could not be read.
pub fn is_timely(plan: &Plan, state: &RunState, event: &Event, blobs: &dyn Blobs) -> Result<bool, BlobError> {
    let reading = Reading::new(blobs);
    let timely = timely(plan, state, event, &reading);
    match reading.failed() {
        Some(error) => Err(error),
        None => Ok(timely),
    }
}

fn timely(plan: &Plan, state: &RunState, event: &Event, reading: &Reading<'_>) -> bool {
    let open = state.status != Status::Pending && !state.status.is_terminal();
    match event {
        Event::Started { .. } => state.status == Status::Pending,
        Event::TaskCompleted { task, .. } | Event::TaskFailed { task, .. } => {
            open && state.tasks.get(task).is_some_and(TaskState::is_scheduled)
        }
        Event::TimerFired { timer, .. } => open && state.timers.contains_key(&timer.to_string()),
        Event::SignalReceived { signal, .. } => {
            !state.signal_ids.contains(&signal.id) && signal::check(plan, state, signal, reading).is_ok()
        }
        // A second request may hasten the end.
        Event::CancelRequested { grace_ms, .. } => open && (state.canceling.is_none() || *grace_ms == 0),
        Event::Terminated { .. } => open,
        Event::PauseRequested { .. } => open && state.paused.is_none() && state.canceling.is_none(),
        Event::ResumeRequested { .. } => open && state.paused.is_some(),
        Event::RetryRequested { .. } => can_retry(state).is_ok(),
        Event::ResetRequested { task, .. } => can_reset(plan, state, task).is_ok(),
    }
}
