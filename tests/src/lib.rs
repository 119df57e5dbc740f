//! What the suites over the whole binary share: a project in a temporary folder, a host that never outlives its test,
//! and a small HTTP client.
//!
//! Each suite runs the real `compozy-host` and looks at what a person or a client would see.

pub mod crash;
pub mod guests;
pub mod host;
pub mod http;
pub mod project;
pub mod random;

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up. Far beyond what a slow machine needs.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// Asks again until there is an answer.
///
/// # Panics
/// When there is none within [`PATIENCE`]; `what` says what was waited for.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
