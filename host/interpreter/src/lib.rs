//! The semantics of workflows. Pure: no clock, no I/O, no randomness, no async.
//!
//! An engine stores events and hands them to [`advance`] one by one; what is to be done comes back as [`Command`]s.
//! Same plan, same events: same state, same commands, byte for byte. What a run does:
//!
//! - A list (the workflow's own, or a composite's) runs one task after the other. After a success comes a router's
//!   choice, else the end if the task is `final`, else `on_success.next`, else the next of the list. After a failure
//!   comes `on_error` in the same way; without it the list fails with that failure. `final` inside a composite ends
//!   the composite.
//! - A collection keeps the items that its `filter` likes and runs its task for each, at most `parallel` at once.
//!   `index`, the key `[n]`, and the place in `outputs` all count the items that were kept; in the filter, `index`
//!   counts all items. Under `wait_all` no child begins after one has failed; those that run are let end, and the
//!   failure with the lowest place becomes the collection's.
//! - A task comes to be known under its path: `collection[3]`, `composite/task`, and `task#2` when a loop comes to it
//!   a second time. `tasks.<id>` is the latest visit; inner lists come before outer ones.
//! - Faults of a workflow (a template, a route, a schema) fail the task in which they are, and `on_error` handles them
//!   like a failure of the executor. Only [`limits`] and a plan that does not belong to the run end the run at once.

mod collection;
mod event;
mod fault;
pub mod limits;
mod list;
mod locate;
mod machine;
mod measure;
mod router;
mod scope;
mod state;

pub use event::{Command, Event, Failure, TaskKey};
pub use state::{BEHAVIOUR_VERSION, ChildFailure, CollectionProgress, RunState, Status, TaskState};

use compozy_plan::plan::{PLAN_FORMAT, Plan};

use crate::fault::Fault;
use crate::machine::Machine;

/// Takes a run one event further and answers what is to be done, in order.
///
/// Total: every event is fine in every state. An event changes nothing and answers nothing when it comes too late or
/// out of order: for a run that has ended or not begun, a second start, a task that is unknown or has ended, or a run
/// of a behaviour that this version does not have (see [`behaviour_supported`]).
pub fn advance(plan: &Plan, state: &mut RunState, event: &Event) -> Vec<Command> {
    if !behaviour_supported(state.behaviour) || !is_timely(state, event) {
        return Vec::new();
    }
    let now_ms = match event {
        Event::Started { now_ms, .. }
        | Event::TaskCompleted { now_ms, .. }
        | Event::TaskFailed { now_ms, .. }
        | Event::CancelRequested { now_ms, .. } => *now_ms,
    };
    state.now_ms = state.now_ms.max(now_ms);
    if let Event::Started { execution_id, seed, input, .. } = event {
        state.status = Status::Running;
        state.execution_id.clone_from(execution_id);
        state.seed = *seed;
        state.input.clone_from(input);
        state.started_at_ms = state.now_ms;
    }
    let mut machine = Machine::new(plan, state);
    match event {
        _ if plan.format != PLAN_FORMAT => machine.abort(Fault::PlanFormat { found: plan.format, known: PLAN_FORMAT }),
        Event::Started { .. } => machine.start(),
        Event::TaskCompleted { task, output, .. } => machine.completed(task, output),
        Event::TaskFailed { task, failure, .. } => machine.failed(task, failure),
        Event::CancelRequested { reason, .. } => machine.cancel(Failure::permanent("CANCELED", reason)),
    }
    machine.commands
}

/// True when this version can go on with a run that began under behaviour `version`. Ask before handing events to
/// [`advance`]: it leaves the run of another behaviour as it is.
pub fn behaviour_supported(version: u32) -> bool {
    version == BEHAVIOUR_VERSION
}

/// True when the event can mean something to the run as it stands.
fn is_timely(state: &RunState, event: &Event) -> bool {
    match event {
        Event::Started { .. } => state.status == Status::Pending,
        Event::TaskCompleted { task, .. } | Event::TaskFailed { task, .. } => {
            !state.status.is_terminal() && state.tasks.get(task).is_some_and(TaskState::is_scheduled)
        }
        Event::CancelRequested { .. } => state.status != Status::Pending && !state.status.is_terminal(),
    }
}
