//! Whether engines are equal: the same workflows with the same inputs, signals, failures and wishes end the same way on each of them,
//! with the same output and the same recorded events.
//!
//! A **fixture** (`tests/fixtures/equivalence/*.yaml`) is a workflow and a script. [`play`](play()) plays it on any engine and writes down what
//! came of it; what may differ (times, ids, the order of tasks that run at once) is taken out, and the rest must be equal, line by line.
//!
//! A **bench** ([`Bench`]) opens an engine for a fixture. The embedded engine is the measure; what it records is kept in
//! `tests/fixtures/equivalence/records`, so that a change of its behaviour is noticed even when all engines change alike.

pub mod bench;
mod compare;
mod fixture;
mod names;
mod order;
mod play;
mod plugins;
mod record;
mod scripted;
mod suite;
mod values;

pub use bench::{Bench, Embedded};
pub use compare::side_by_side;
pub use fixture::{Fixture, all, records};
pub use play::play;
pub use record::Record;
pub use suite::{Report, Suite};
