//! How long a run may become, whichever engine runs it.

use compozy_interpreter::Failure;

use crate::limits::{CHILD_DEPTH_MAX, RUN_BYTES_MAX, RUN_EVENTS_MAX};

/// What a run has too much of: a name, the amount, and the limit. `events` and `bytes` are those of its journal.
pub fn at_run_limit(events: u64, bytes: u64) -> Option<(&'static str, u64, u64)> {
    if events + 1 >= RUN_EVENTS_MAX {
        return Some(("events", events, RUN_EVENTS_MAX));
    }
    (bytes >= RUN_BYTES_MAX).then_some(("bytes of events", bytes, RUN_BYTES_MAX))
}

/// Why such a run is ended in place of its next event.
pub fn run_limit_failure(events: u64, bytes: u64) -> Option<Failure> {
    let advice = "split the work over several runs, for example with child workflows";
    let reason = if events + 1 >= RUN_EVENTS_MAX {
        let events = events + 1;
        format!("the run has {events} events, at most {RUN_EVENTS_MAX} are allowed; {advice}")
    } else if bytes >= RUN_BYTES_MAX {
        format!("the run's events have {bytes} bytes, at most {RUN_BYTES_MAX} bytes are allowed; {advice}")
    } else {
        return None;
    };
    Some(Failure::permanent("RUN_LIMIT", reason))
}

/// Why a run cannot start `workflow`, which would be inside of `depth` others; see
/// [`CHILD_DEPTH_MAX`](crate::limits::CHILD_DEPTH_MAX).
pub fn too_deep(workflow: &str, depth: u32) -> Failure {
    let message = format!(
        "workflow `{workflow}` would run inside {depth} others, at most {CHILD_DEPTH_MAX} are allowed; look for a \
         workflow that starts itself"
    );
    Failure::permanent("CHILD_DEPTH", message)
}
