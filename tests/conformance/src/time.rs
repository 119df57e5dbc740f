//! Time as the suite sees it: exact where the clock can be turned, else waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::subject::TurnableClock;

/// What a wait takes longer than it must, so that a server's clock of whole milliseconds has arrived too.
const MARGIN_MS: u64 = 10;

/// The clock of one run of a script.
///
/// With a real clock, the model's time stands still but for the waits of the script. The time that calls take on top of
/// that is the *drift*: a thing may be so much older than the model believes, never younger.
pub(crate) struct Time {
    clock: Option<Arc<dyn TurnableClock>>,
    begun: Instant,
    turned_ms: AtomicU64,
}

impl Time {
    pub(crate) fn new(clock: Option<Arc<dyn TurnableClock>>) -> Self {
        Self { clock, begun: Instant::now(), turned_ms: AtomicU64::new(0) }
    }

    /// True when the clock stands until it is turned.
    pub(crate) fn exact(&self) -> bool {
        self.clock.is_some()
    }

    /// The model's time.
    pub(crate) fn now(&self) -> u64 {
        match &self.clock {
            Some(clock) => clock.now_ms(),
            None => self.turned_ms.load(Ordering::SeqCst),
        }
    }

    /// Lets time pass.
    pub(crate) async fn turn(&self, ms: u64) {
        if let Some(clock) = &self.clock {
            clock.turn(ms);
        } else {
            tokio::time::sleep(Duration::from_millis(ms + MARGIN_MS)).await;
            self.turned_ms.fetch_add(ms, Ordering::SeqCst);
        }
    }

    /// How much older than the model believes a thing may be.
    pub(crate) fn drift_ms(&self) -> u64 {
        if self.exact() {
            return 0;
        }
        let elapsed = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        elapsed.saturating_sub(self.turned_ms.load(Ordering::SeqCst)) + 1
    }

    /// True when this may be what is left of a time to live of which the model believes so much to be left.
    pub(crate) fn fits(&self, expected_ms: u64, actual_ms: u64) -> bool {
        let early = u64::from(!self.exact());
        (expected_ms.saturating_sub(self.drift_ms()).max(1)..=expected_ms.saturating_add(early)).contains(&actual_ms)
    }
}
