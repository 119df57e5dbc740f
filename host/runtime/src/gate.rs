//! The places of one plugin, and the bounded queue before them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{Limit, LimitHit, Limits};

/// Lets in as many calls as there are places, in the order of asking.
#[derive(Debug)]
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    waiting: AtomicU64,
    queue: u64,
    wait: Duration,
}

/// Why nobody was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Queue or wait is too long.
    Busy(LimitHit),
    /// The host stops.
    Closed,
}

impl Gate {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            places: Arc::new(Semaphore::new(limits.size(Limit::Concurrency))),
            waiting: AtomicU64::new(0),
            queue: limits.get(Limit::QueueLength),
            wait: limits.duration(Limit::QueueWaitMs),
        }
    }

    /// Waits for a place. Cancel-safe: dropped, it has taken none.
    pub(crate) async fn enter(&self) -> Result<OwnedSemaphorePermit, Refused> {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => Ok(place),
            // Boxed, because every call would carry the room for it.
            Err(_) => Box::pin(self.queue()).await,
        }
    }

    async fn queue(&self) -> Result<OwnedSemaphorePermit, Refused> {
        if self.places.is_closed() {
            return Err(Refused::Closed);
        }
        let _waiting = Waiting::begin(&self.waiting, self.queue)?;
        let begun = Instant::now();
        match tokio::time::timeout(self.wait, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) => Err(Refused::Closed),
            Err(_) => {
                let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
                let (used, allowed) = (millis(begun.elapsed()), millis(self.wait));
                Err(Refused::Busy(LimitHit { limit: Limit::QueueWaitMs, used, allowed }))
            }
        }
    }

    /// Lets nobody in any more.
    pub(crate) fn close(&self) {
        self.places.close();
    }

    /// Whether nobody is let in any more.
    pub(crate) fn closed(&self) -> bool {
        self.places.is_closed()
    }
}

struct Waiting<'a>(&'a AtomicU64);

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a AtomicU64, allowed: u64) -> Result<Self, Refused> {
        let used = waiting.fetch_add(1, Ordering::AcqRel) + 1;
        let guard = Self(waiting);
        if used > allowed {
            return Err(Refused::Busy(LimitHit { limit: Limit::QueueLength, used, allowed }));
        }
        Ok(guard)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
