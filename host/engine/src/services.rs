//! What an engine or a host rests on, and whether it is there: services on other machines, and workers that take work.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::clock::Clock;

/// Whether a service is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// Nobody has asked yet.
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

/// A service as it was seen last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceHealth {
    /// What it is, for a person: `Redis`, `Temporal server`, `blob store`.
    pub service: String,
    /// Where it should be. Never with a password.
    pub address: String,
    /// Whether it is there.
    pub state: ServiceState,
    /// Since when it is so, in milliseconds since 1970.
    pub since_ms: u64,
    /// What was met instead of an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What does not work without it.
    pub needed_by: Vec<String>,
}

/// Whether anybody takes work from a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkerHealth {
    /// What its workers do: `workflow-worker`, `tool-worker`.
    pub role: String,
    /// The queue's name.
    pub queue: String,
    /// Whether somebody took work lately, or waits for it.
    pub present: bool,
    /// Since when it is so, in milliseconds since 1970.
    pub since_ms: u64,
}

/// Remembers how a service was seen last, and tells the log when that changes.
pub struct ServiceWatch {
    clock: Arc<dyn Clock>,
    seen: Mutex<ServiceHealth>,
}

impl std::fmt::Debug for ServiceWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.health(), f)
    }
}

impl ServiceWatch {
    /// A service that nobody has asked yet.
    pub fn new(
        service: impl Into<String>,
        address: impl Into<String>,
        needed_by: Vec<String>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let seen = ServiceHealth {
            service: service.into(),
            address: address.into(),
            state: ServiceState::Unknown,
            since_ms: clock.now_ms(),
            detail: None,
            needed_by,
        };
        Self { clock, seen: Mutex::new(seen) }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, ServiceHealth> {
        // Nothing panics while it holds the lock.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has answered.
    pub fn up(&self) {
        let mut seen = self.seen();
        if seen.state == ServiceState::Up {
            return;
        }
        if seen.state == ServiceState::Down {
            let down_ms = self.clock.now_ms().saturating_sub(seen.since_ms);
            tracing::info!(service = seen.service, address = seen.address, down_ms, "a service answers again");
        }
        (seen.state, seen.since_ms, seen.detail) = (ServiceState::Up, self.clock.now_ms(), None);
    }

    /// It has not, and this is what was met instead.
    pub fn down(&self, reason: impl Into<String>) {
        let reason = reason.into();
        let mut seen = self.seen();
        if seen.state != ServiceState::Down {
            let (service, address) = (&seen.service, &seen.address);
            tracing::warn!(service, address, reason, code = "BACKEND_UNAVAILABLE", "a service does not answer");
            (seen.state, seen.since_ms) = (ServiceState::Down, self.clock.now_ms());
        }
        seen.detail = Some(reason);
    }

    /// As it was seen last.
    pub fn health(&self) -> ServiceHealth {
        self.seen().clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Default)]
    struct Held(AtomicU64);

    impl Clock for Held {
        fn now_ms(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_service_is_in_its_state_since_that_began() {
        let clock = Arc::new(Held::default());
        let watch = ServiceWatch::new("Redis", "localhost:1", vec!["cache".to_owned()], Arc::clone(&clock) as _);
        let at = |ms: u64| clock.0.store(ms, Ordering::Relaxed);
        let seen = || {
            let ServiceHealth { state, since_ms, detail, .. } = watch.health();
            (state, since_ms, detail)
        };
        assert_eq!(seen(), (ServiceState::Unknown, 0, None));
        at(5);
        watch.up();
        at(6);
        watch.up();
        assert_eq!(seen(), (ServiceState::Up, 5, None));
        watch.down("refused");
        at(7);
        watch.down("timed out");
        assert_eq!(seen(), (ServiceState::Down, 6, Some("timed out".to_owned())), "the latest reason, the first time");
        watch.up();
        assert_eq!(seen(), (ServiceState::Up, 7, None));
    }
}
