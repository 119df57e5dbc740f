//! The engine on a real Temporal server. All tests have `on_temporal` in their names, so that they can be left out.
#[allow(dead_code, reason = "shared with the tests of the embedded engine")]
#[path = "../../../engine/tests/engine/script.rs"]
mod common;
mod eager;
mod faults;
mod history;
mod kept;
mod requests;
mod support;
mod sweeps;
mod versions;
mod workers;
