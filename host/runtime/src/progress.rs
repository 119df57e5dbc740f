//! Signs of life of a task's attempt, and the wish to end: `compozy:host/progress`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bindings::compozy::host::progress::Host;
use crate::call::cut;

/// What an attempt may say of itself in one heartbeat, in bytes; the rest is cut.
pub const HEARTBEAT_DETAIL_BYTES_MAX: usize = 1024;
/// Heartbeats that follow each other faster are not passed on.
pub const HEARTBEAT_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Whoever looks after an attempt.
pub trait Supervisor: std::fmt::Debug + Send + Sync {
    /// The attempt is alive and says where it is. Must not block.
    fn heartbeat(&self, detail: &str);
    /// Whether the attempt is to end.
    fn asked_to_end(&self) -> bool;
}

/// The part of a guest's state that serves `compozy:host/progress`.
#[derive(Debug, Default)]
pub(crate) struct ProgressAccess {
    supervisor: Option<Arc<dyn Supervisor>>,
    passed_on: Option<Instant>,
}

impl ProgressAccess {
    pub(crate) fn of(supervisor: Option<Arc<dyn Supervisor>>) -> Self {
        Self { supervisor, passed_on: None }
    }
}

impl Host for ProgressAccess {
    fn heartbeat(&mut self, detail: String) -> wasmtime::Result<bool> {
        let Some(supervisor) = &self.supervisor else { return Ok(false) };
        if self.passed_on.is_none_or(|at| at.elapsed() >= HEARTBEAT_INTERVAL_MIN) {
            supervisor.heartbeat(&cut(detail, HEARTBEAT_DETAIL_BYTES_MAX));
            self.passed_on = Some(Instant::now());
        }
        Ok(supervisor.asked_to_end())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Noted {
        beats: Mutex<Vec<String>>,
        end: AtomicBool,
    }

    impl Supervisor for Noted {
        fn heartbeat(&self, detail: &str) {
            self.beats.lock().unwrap().push(detail.to_owned());
        }
        fn asked_to_end(&self) -> bool {
            self.end.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn heartbeats_are_cut_and_rate_limited_and_the_wish_to_end_is_always_told() {
        let noted = Arc::new(Noted::default());
        let mut access = ProgressAccess::of(Some(noted.clone()));
        assert!(!access.heartbeat("x".repeat(5_000)).unwrap());
        for _ in 0..100 {
            access.heartbeat("too fast".into()).unwrap();
        }
        let beats = noted.beats.lock().unwrap().clone();
        assert!(beats.len() <= 2 && beats[0].len() == HEARTBEAT_DETAIL_BYTES_MAX + 3, "{}", beats.len());
        noted.end.store(true, Ordering::Relaxed);
        assert!(access.heartbeat(String::new()).unwrap());
        assert!(!ProgressAccess::default().heartbeat(String::new()).unwrap(), "nobody is there");
    }
}
