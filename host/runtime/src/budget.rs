//! How long a call keeps a thread busy.
//!
//! A call is a future. Its polls are the time in which the guest's code, or the host's on its behalf, runs; between them it
//! waits for I/O or for its turn, and that is not the guest's fault. So `wall_ms` counts the polls, and
//! `call_timeout_ms` counts everything.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::limits::{Limit, LimitHit, Limits};

/// Counts the busy time of the call that an instance serves.
#[derive(Debug)]
pub(crate) struct CallClock {
    origin: Instant,
    allowed: Duration,
    /// Busy time of the polls that are over, in microseconds.
    busy_us: AtomicU64,
    /// When the present poll began, in microseconds after `origin`.
    entered_us: AtomicU64,
    /// Polls of this call, and the one for which SQL got its deadline.
    polls: AtomicU64,
    told: AtomicU64,
}

impl CallClock {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            origin: Instant::now(),
            allowed: limits.duration(Limit::WallMs),
            busy_us: AtomicU64::new(0),
            entered_us: AtomicU64::new(0),
            polls: AtomicU64::new(0),
            told: AtomicU64::new(0),
        }
    }

    /// A new call begins.
    pub(crate) fn reset(&self) {
        self.busy_us.store(0, Relaxed);
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A poll begins; answers when, in microseconds after `origin`.
    fn enter(&self) -> u64 {
        let now = self.now_us();
        self.entered_us.store(now, Relaxed);
        // Only one thread polls at a time.
        self.polls.store(self.polls.load(Relaxed) + 1, Relaxed);
        now
    }

    /// A poll ends; answers when.
    fn leave(&self) -> u64 {
        let now = self.now_us();
        let spent = now.saturating_sub(self.entered_us.load(Relaxed));
        // Only one thread polls at a time.
        self.busy_us.store(self.busy_us.load(Relaxed) + spent, Relaxed);
        now
    }

    /// Busy time until now. Only meaningful inside of a poll.
    pub(crate) fn busy(&self) -> Duration {
        let present = self.now_us().saturating_sub(self.entered_us.load(Relaxed));
        Duration::from_micros(self.busy_us.load(Relaxed) + present)
    }

    /// Whether the budget is used up.
    pub(crate) fn check(&self) -> Result<(), LimitHit> {
        let busy = self.busy();
        if busy < self.allowed {
            return Ok(());
        }
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Err(LimitHit { limit: Limit::WallMs, used: millis(busy), allowed: millis(self.allowed) })
    }

    /// When the budget will be used up if the call goes on without waiting; `None` when that was said for this poll.
    pub(crate) fn new_deadline(&self) -> Option<Instant> {
        let poll = self.polls.load(Relaxed);
        if self.told.swap(poll, Relaxed) == poll {
            return None;
        }
        // Counted from the begin of the poll, so that a call which never waits reads the clock once.
        let left = self.allowed.saturating_sub(Duration::from_micros(self.busy_us.load(Relaxed)));
        Some(self.origin + Duration::from_micros(self.entered_us.load(Relaxed)) + left)
    }
}

/// Runs the future of one call under its clock and its outer timeout.
#[derive(Debug)]
pub struct CallTimer {
    clock: Arc<CallClock>,
    timeout: Duration,
}

impl CallTimer {
    pub(crate) fn new(clock: Arc<CallClock>, timeout: Duration) -> Self {
        Self { clock, timeout }
    }

    /// Lets the caller's own patience end the call sooner.
    pub(crate) fn at_most(mut self, timeout: Duration) -> Self {
        self.timeout = self.timeout.min(timeout);
        self
    }

    /// Runs the call. When it takes too long the future is dropped and the error is a [`LimitHit`] of `call_timeout_ms`.
    pub async fn run<T>(self, call: impl Future<Output = wasmtime::Result<T>>) -> wasmtime::Result<T> {
        let Self { clock, timeout } = self;
        let mut call = pin!(call);
        let mut begun = 0;
        // Most calls never wait, and a timer that is not needed costs more than some of them.
        let first = poll_fn(|context| {
            begun = clock.enter();
            let poll = call.as_mut().poll(context);
            // A call that has ended has no use for its time.
            if poll.is_pending() {
                clock.leave();
            }
            Poll::Ready(poll)
        });
        if let Poll::Ready(result) = first.await {
            return result;
        }
        let rest = poll_fn(|context| {
            clock.enter();
            let poll = call.as_mut().poll(context);
            if poll.is_pending() {
                clock.leave();
            }
            poll
        });
        let deadline = clock.origin + Duration::from_micros(begun) + timeout;
        // Boxed, because every call would carry the room for it.
        let timed = Box::pin(tokio::time::timeout_at(deadline.into(), rest));
        if let Ok(result) = timed.await {
            return result;
        }
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let elapsed = Duration::from_micros(clock.now_us().saturating_sub(begun));
        let (used, allowed) = (millis(elapsed), millis(timeout));
        Err(LimitHit { limit: Limit::CallTimeoutMs, used, allowed }.into())
    }
}
