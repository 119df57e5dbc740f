//! What the host knows about a role in use: how long it takes, what goes wrong, and whether calls are let through.
//!
//! A backend that does not answer costs every caller its timeout. So after some failures in a row the circuit opens: calls
//! are refused at once, and from time to time one is let through to see whether the backend is well again.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::histogram::{Histogram, Latency};
use super::{Result, StoreError};
use crate::error::CallError;
use crate::identity::Identity;
use crate::plugin::Role;

/// Failures in a row that open the circuit.
const FAILURES_MAX: u32 = 5;
/// How long the circuit stays open at first; each failed probe doubles it.
const OPEN_MIN: Duration = Duration::from_millis(200);
/// How long it stays open at most.
const OPEN_MAX: Duration = Duration::from_secs(10);
/// How often an operation that may be repeated is tried.
const TRIES_MAX: u32 = 3;
/// An operation that took this long is not tried again: its caller waited enough.
const RETRY_WITHIN: Duration = Duration::from_secs(1);
/// The pause before the second try; doubled before the third.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Whether an operation may be tried again when nobody knows whether it took place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// A second one does no harm.
    Again,
    /// A second one could count twice.
    Once,
    /// The host's own work in the background, which need not reach the backend: it tells nothing about the circuit, and is not tried again.
    Aside,
}

/// Whether calls are let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Circuit {
    /// All calls are let through.
    Closed,
    /// No call is let through until the pause has ended.
    Open,
    /// One call is let through, to see.
    HalfOpen,
}

/// What health shows of a role.
#[derive(Debug, Clone, Serialize)]
pub struct RoleStatus {
    /// The role's name.
    pub role: &'static str,
    /// Who fills it.
    pub plugin: Identity,
    /// Whether calls are let through.
    pub circuit: Circuit,
    /// Milliseconds until the next probe, while the circuit is open.
    pub next_probe_ms: Option<u64>,
    /// How long calls took.
    pub latency: Latency,
    /// Errors by code since the start.
    pub errors: BTreeMap<String, u64>,
}

/// Watches one role of one plugin.
#[derive(Debug)]
pub struct Monitor {
    role: Role,
    plugin: Arc<Identity>,
    latency: Histogram,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Failures in a row.
    failures: u32,
    /// Set while the circuit is not closed.
    open: Option<Open>,
    errors: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    until: Instant,
    pause: Duration,
    probing: bool,
}

impl Monitor {
    /// For this role of this plugin.
    pub fn new(role: Role, plugin: Arc<Identity>) -> Self {
        Self { role, plugin, latency: Histogram::default(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an operation, unless the circuit is open.
    pub fn begin(&self, repeat: Repeat) -> Result<Operation<'_>> {
        let now = Instant::now();
        let mut state = self.state();
        let mut probe = false;
        if let Some(open) = &mut state.open {
            if open.probing || now < open.until || repeat == Repeat::Aside {
                let retry_after = open.until.saturating_duration_since(now).max(Duration::from_millis(1));
                *state.errors.entry("STORE_CIRCUIT_OPEN".to_owned()).or_default() += 1;
                return Err(StoreError::CircuitOpen { role: self.role.name(), retry_after });
            }
            open.probing = true;
            probe = true;
        }
        drop(state);
        Ok(Operation { monitor: self, repeat, first: now, begun: now, tries: 0, probe })
    }

    fn ended(&self, took: Duration, error: Option<&StoreError>) {
        self.latency.record(took);
        let Some(error) = error else { return self.succeeded() };
        let mut state = self.state();
        *state.errors.entry(error.code().to_owned()).or_default() += 1;
        if !outage(error) {
            // It answered, if only to say no.
            drop(state);
            return self.succeeded();
        }
        state.failures = state.failures.saturating_add(1);
        let pause = match state.open {
            Some(open) => (open.pause * 2).min(OPEN_MAX),
            None if state.failures >= FAILURES_MAX => OPEN_MIN,
            None => return,
        };
        let role = self.role.name();
        tracing::warn!(role, plugin = %self.plugin.name, %error, pause_ms = pause.as_millis(), "a store does not answer; calls are refused for a while");
        state.open = Some(Open { until: Instant::now() + pause, pause, probing: false });
    }

    fn succeeded(&self) {
        let mut state = self.state();
        state.failures = 0;
        if state.open.take().is_some() {
            tracing::info!(role = self.role.name(), plugin = %self.plugin.name, "a store answers again");
        }
    }

    /// For health.
    pub fn status(&self) -> RoleStatus {
        let state = self.state();
        let now = Instant::now();
        let left = state.open.map(|open| open.until.saturating_duration_since(now));
        let circuit = match (state.open, left) {
            (None, _) => Circuit::Closed,
            (Some(open), Some(left)) if !open.probing && left > Duration::ZERO => Circuit::Open,
            _ => Circuit::HalfOpen,
        };
        RoleStatus {
            role: self.role.name(),
            plugin: Identity::clone(&self.plugin),
            circuit,
            next_probe_ms: left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            latency: self.latency.summary(),
            errors: state.errors.clone(),
        }
    }
}

/// Whether the error says that the backend is away, and not that it refused something.
fn outage(error: &StoreError) -> bool {
    match error {
        StoreError::Unavailable(_) => true,
        // What the host refused before the backend heard of it says nothing about the backend.
        StoreError::Call(error) => !matches!(error, CallError::Busy { .. } | CallError::Stopping),
        _ => false,
    }
}

/// One operation that was let through, with all its tries. Dropped in the middle, it counts neither as success nor as failure.
#[derive(Debug)]
pub struct Operation<'a> {
    monitor: &'a Monitor,
    repeat: Repeat,
    first: Instant,
    begun: Instant,
    tries: u32,
    probe: bool,
}

impl Operation<'_> {
    /// A try has ended: `Break` with the answer, or `Continue` with the pause before the next one.
    pub fn end<T>(&mut self, result: Result<T>) -> ControlFlow<Result<T>, Duration> {
        let now = Instant::now();
        if self.repeat == Repeat::Aside {
            return ControlFlow::Break(result);
        }
        self.monitor.ended(now - self.begun, result.as_ref().err());
        let probe = std::mem::take(&mut self.probe);
        self.tries += 1;
        match &result {
            Err(error)
                if error.retryable()
                    && self.repeat == Repeat::Again
                    && !probe
                    && self.tries < TRIES_MAX
                    && now - self.first < RETRY_WITHIN =>
            {
                let pause = RETRY_PAUSE * 2_u32.pow(self.tries - 1);
                self.begun = now + pause;
                ControlFlow::Continue(pause)
            }
            _ => ControlFlow::Break(result),
        }
    }
}

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        if self.probe
            && let Some(open) = &mut self.monitor.state().open
        {
            // The probe's caller went away: the next call may probe.
            open.probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn monitor() -> Monitor {
        let plugin = Identity { name: "p".to_owned(), version: "0.1.0".to_owned(), digest: "0".repeat(64) };
        Monitor::new(Role::Cache, Arc::new(plugin))
    }

    fn away() -> Result<()> {
        Err(StoreError::Unavailable("away".to_owned()))
    }

    fn run(monitor: &Monitor, result: Result<()>) -> Result<()> {
        let mut operation = monitor.begin(Repeat::Once)?;
        match operation.end(result) {
            ControlFlow::Break(result) => result,
            ControlFlow::Continue(_) => panic!("an operation that must not be repeated was"),
        }
    }

    #[test]
    fn failures_in_a_row_open_the_circuit_and_a_probe_closes_it() {
        let monitor = monitor();
        for _ in 0..FAILURES_MAX {
            assert_eq!(monitor.status().circuit, Circuit::Closed);
            assert!(matches!(run(&monitor, away()), Err(StoreError::Unavailable(_))));
        }
        assert_eq!(monitor.status().circuit, Circuit::Open);
        assert!(matches!(run(&monitor, Ok(())), Err(StoreError::CircuitOpen { .. })), "refused while it is open");
        std::thread::sleep(OPEN_MIN + Duration::from_millis(5));
        assert_eq!(monitor.status().circuit, Circuit::HalfOpen);
        let probe = monitor.begin(Repeat::Once).unwrap();
        assert!(monitor.begin(Repeat::Once).is_err(), "one probe at a time");
        drop(probe);
        assert!(run(&monitor, away()).is_err(), "the next one probes, and fails");
        let pause = monitor.status().next_probe_ms.unwrap();
        assert!(u128::from(pause) > OPEN_MIN.as_millis(), "the pause grows: {pause} ms");
        std::thread::sleep(OPEN_MIN * 2 + Duration::from_millis(5));
        run(&monitor, Ok(())).unwrap();
        assert_eq!(monitor.status().circuit, Circuit::Closed);
        assert_eq!(monitor.status().errors["STORE_UNAVAILABLE"], u64::from(FAILURES_MAX) + 1);
    }

    #[test]
    fn an_answer_that_says_no_is_no_outage() {
        let monitor = monitor();
        for _ in 0..3 * FAILURES_MAX {
            assert!(run(&monitor, Err(StoreError::WrongType("text".to_owned()))).is_err());
        }
        assert_eq!(monitor.status().circuit, Circuit::Closed);
    }

    #[test]
    fn work_in_the_background_tells_nothing_about_the_backend() {
        let monitor = monitor();
        let aside = |result: Result<()>| monitor.begin(Repeat::Aside).map(|mut operation| operation.end(result));
        for _ in 0..FAILURES_MAX {
            assert!(run(&monitor, away()).is_err());
            assert!(aside(Ok(())).is_err() || monitor.status().circuit == Circuit::Closed);
        }
        assert_eq!(
            monitor.status().circuit,
            Circuit::Open,
            "a sweep that found nothing to do is no answer of the backend"
        );
        assert!(matches!(aside(Ok(())), Err(StoreError::CircuitOpen { .. })), "and it does not probe");
    }

    #[test]
    fn only_what_may_be_repeated_and_can_help_is_tried_again() {
        let monitor = monitor();
        let mut operation = monitor.begin(Repeat::Again).unwrap();
        let mut tries = 1;
        while let ControlFlow::Continue(pause) = operation.end(away()) {
            assert!(pause < Duration::from_secs(1));
            tries += 1;
        }
        assert_eq!(tries, TRIES_MAX);
        let mut operation = monitor.begin(Repeat::Again).unwrap();
        assert!(operation.end::<()>(Err(StoreError::Overflow("x".to_owned()))).is_break());
        let mut operation = monitor.begin(Repeat::Once).unwrap();
        assert!(operation.end(away()).is_break());
    }
}
