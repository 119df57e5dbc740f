//! What is tested, and how it is opened.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use compozy_runtime::Clock;
use compozy_runtime::stores::Stores;

/// A kind of backend: opens as many as the suite asks for.
#[async_trait]
pub trait Subject: Send + Sync {
    /// A backend that is empty and has nothing to do with those that were opened before.
    ///
    /// The suite asks for one per rule, and for many more while it looks for the shortest script of a failure.
    /// An error, in words for a person, ends the rule as failed.
    async fn open(&self) -> Result<Box<dyn Backend>, String>;
}

/// A backend that was opened. It is closed when it is dropped.
#[async_trait]
pub trait Backend: Send + Sync {
    /// The roles that it fills.
    fn stores(&self) -> Stores;

    /// Closes or kills the backend and opens it again on the same data; [`Backend::stores`] answers the new one from then on.
    /// False when that cannot be done; rules that need it are then skipped.
    async fn reopen(&mut self) -> Result<bool, String> {
        Ok(false)
    }
}

/// The clock that all backends of a subject go by, where it can be turned.
pub trait TurnableClock: Send + Sync {
    /// Milliseconds since 1970.
    fn now_ms(&self) -> u64;
    /// Lets so many milliseconds pass at once.
    fn turn(&self, ms: u64);
}

/// A clock that stands until it is turned, for a runtime and the suite that tests it.
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl Default for ManualClock {
    fn default() -> Self {
        Self(AtomicU64::new(1_700_000_000_000))
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl TurnableClock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn turn(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}
