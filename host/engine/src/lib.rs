//! Engines: the port, the failure model, and the embedded engine.
//!
//! - [`port`] is all that the rest of the host knows of an engine.
//! - [`error`] is why an engine refuses; every error has a stable code and a kind.
//! - [`attempt`] runs one attempt of a task and judges its end; [`request`] checks what callers want.
//! - [`vault`] keeps large values apart; [`blob_store`] is where values too large for a journal are kept.
//! - [`services`] is what an engine rests on, and whether it is there.
//! - [`limits`] holds every bound with its unit.
//! - [`verify`] takes what is recorded of an execution through the interpreter again.
//! - [`local`] is the embedded engine: a journal in one SQLite file and nothing else.

pub mod attempt;
pub mod blob_store;
mod cache;
pub mod clock;
pub mod error;
pub mod limits;
pub mod local;
pub mod port;
pub mod request;
pub mod run_limit;
pub mod services;
pub mod signal;
pub mod vault;
pub mod verify;

pub use clock::{Clock, SystemClock};
pub use error::{EngineError, ErrorKind, Violation};
pub use verify::{Difference, History};
