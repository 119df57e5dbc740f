//! The semantics of workflows. Pure: no clock, no I/O, no randomness, no async.

mod event;
mod state;

pub use event::{Command, Event, Failure, TaskKey};
pub use state::{BEHAVIOUR_VERSION, RunState, Status, TaskState};

/// Takes a run one event further and answers what is to be done.
pub fn advance(_plan: &compozy_plan::plan::Plan, _state: &mut RunState, _event: &Event) -> Vec<Command> {
    Vec::new()
}
