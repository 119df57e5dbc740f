//! The engine on a real Temporal server. All tests have `on_temporal` in their names, so that they can be left out.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails, also in its helpers")]

#[allow(dead_code, reason = "shared with the tests of the embedded engine")]
#[path = "../../../engine/tests/engine/script.rs"]
mod common;
mod faults;
mod history;
mod kept;
mod requests;
mod support;
mod workers;
