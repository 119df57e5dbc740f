//! The engine port on Temporal: the same interpreter, driven by one generic workflow type.
//!
//! - [`TemporalEngine`] is the port for callers: it starts, asks, signals and lists; it holds no state of runs.
//! - `workflow` is the workflow type: what Temporal says becomes events, [`compozy_interpreter::advance`] makes commands
//!   of them, and `pending` turns those into activities, timers and child workflows. It has no semantics of its own.
//! - `driver` is the part of it without Temporal: events in, commands out, limits, the log.
//! - `activity` runs one attempt of a task on a tool worker; `outside` does what runs need of the world: finding the
//!   definition of a child, delivering signals.
//! - `sweep` removes large values of executions that the server has forgotten.
//! - `worker` runs workers on threads of their own; `message` is everything that goes over the wire.
//!
//! **What Temporal's history holds is the journal.** A run's events exist twice: there, and in the memory of whichever
//! worker has the run; the second follows from the first.
//!
//! **A task may run more than once, its result is recorded exactly once.** A lost attempt (its worker died) does not
//! count as a failed one, as in the embedded engine.

mod activity;
mod caller;
mod connect;
mod driver;
mod eager;
mod engine;
mod error;
mod health;
mod limits;
mod list;
mod message;
pub mod names;
mod options;
mod outcome;
mod outside;
mod packed;
mod pending;
mod replay;
mod room;
mod slots;
mod start;
mod starter;
mod sweep;
mod worker;
mod workflow;

pub use self::connect::{ConnectError, Finding, inspect, reach};
pub use self::engine::TemporalEngine;
pub use self::options::{Address, ApiKey, Companion, Role, TemporalOptions, Tls};
pub use self::replay::{ReplayError, replay};
pub use self::slots::{ProcessSlots, Slots, TakenSlot};
