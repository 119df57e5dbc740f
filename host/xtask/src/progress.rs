//! What the developer sees while something takes long. On standard error: standard output is for results.

use std::time::{Duration, Instant};

/// Says what begins now.
pub(crate) fn step(what: &str) {
    eprintln!("==> {what}");
}

/// Says something worth knowing that is no step.
pub(crate) fn note(what: &str) {
    eprintln!("    {what}");
}

/// Does `work` under the heading `what`, and says how long it took when that was long.
pub(crate) fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    step(what);
    let start = Instant::now();
    let result = work();
    let took = start.elapsed();
    if took >= Duration::from_secs(5) {
        note(&format!("took {} s", took.as_secs()));
    }
    result
}
