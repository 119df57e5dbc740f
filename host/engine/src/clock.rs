//! Where an engine takes the time and new ids from.

use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

/// Tells the time, and names what is new. An engine asks nothing else, so a test can hold the clock and repeat a history.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since 1970. May jump in both directions; timers then fire late, never early.
    fn now_ms(&self) -> u64;

    /// Names a run that begins; its last 64 bits are the run's seed.
    fn id(&self) -> Uuid {
        Uuid::now_v7()
    }
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        // A clock before 1970 is a broken machine; the journal then starts at zero.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
