//! Locks for those who wait and hold: a line of waiters, renewal in the background, and work that ends when the lock is lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use super::changes::{Changes, lock_topic};
use super::lock_guard::LockGuard;
use super::{Attempt, Locks, StoreError};

/// How long one may wait for a lock.
pub const LOCK_WAIT_MAX: Duration = Duration::from_hours(24);
/// How often the first in line looks though nobody told it that the lock is free: other hosts may hold it, and their news can be lost.
const LOOK_MIN: Duration = Duration::from_millis(5);
const LOOK_MAX: Duration = Duration::from_millis(250);

/// Why a lock is not, or no longer, held.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LockError {
    /// Somebody else had it for the whole wait.
    #[error("the lock `{name}` was not free within {} ms; wait longer, or see who has it", waited.as_millis())]
    Timeout {
        /// The lock.
        name: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The lease ended before it was given back.
    #[error(
        "the lock `{name}` was lost (its lease had the token {token}): it was not renewed in time; what it protected may run elsewhere now"
    )]
    Lost {
        /// The lock.
        name: String,
        /// The token of the lease.
        token: u64,
    },
    /// The backend failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LockError {
    /// True when the same call may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Timeout { .. } => true,
            Self::Lost { .. } => false,
            Self::Store(error) => error.retryable(),
        }
    }

    /// A stable code for machines.
    pub fn code(&self) -> &str {
        match self {
            Self::Timeout { .. } => "LOCK_TIMEOUT",
            Self::Lost { .. } => "LOCK_LOST",
            Self::Store(error) => error.code(),
        }
    }
}

/// How a lock is to be taken.
#[derive(Debug, Clone)]
pub struct LockOptions {
    /// How long it is held without a renewal, at least 1 ms. Renewal happens each third of it.
    pub ttl: Duration,
    /// How long to wait for it; zero asks once. At most [`LOCK_WAIT_MAX`].
    pub wait: Duration,
    /// What people see who look at the lock, at most 512 bytes.
    pub holder: String,
}

/// The line of those who wait for one lock in this process. Only the first in line asks the backend.
type Line = Arc<AsyncMutex<()>>;

/// Takes locks, waiting for them in line.
pub struct LockManager {
    locks: Arc<dyn Locks>,
    changes: Arc<Changes>,
    lines: Mutex<HashMap<String, Line>>,
}

impl std::fmt::Debug for LockManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LockManager").finish_non_exhaustive()
    }
}

impl LockManager {
    /// Over this backend; `changes` is where it says that a lock was given back.
    pub(super) fn new(locks: Arc<dyn Locks>, changes: Arc<Changes>) -> Self {
        Self { locks, changes, lines: Mutex::default() }
    }

    /// Takes a lock and keeps it renewed until the guard is released or dropped. Waiters of this process get it in the order in which they
    /// asked; between processes chance decides. Cancel safe: a waiter that goes away leaves the line.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`] after `wait`; else as the backend answers.
    pub async fn acquire(&self, name: &str, options: LockOptions) -> Result<LockGuard, LockError> {
        let LockOptions { ttl, wait, holder } = options;
        if wait > LOCK_WAIT_MAX {
            return Err(LockError::Store(StoreError::InvalidArgument(format!(
                "the wait is {} ms; at most {} ms are allowed",
                wait.as_millis(),
                LOCK_WAIT_MAX.as_millis()
            ))));
        }
        let begun = Instant::now();
        let deadline = begun + wait;
        let timeout = || LockError::Timeout { name: name.to_owned(), waited: begun.elapsed() };
        let place = Place { manager: self, name, line: self.line(name) };
        let Ok(_first) = tokio::time::timeout_at(deadline, place.line.lock()).await else { return Err(timeout()) };
        let mut listener = None;
        let mut look = LOOK_MIN;
        loop {
            let asked = Instant::now();
            let left = match self.locks.acquire(name, ttl, &holder).await? {
                Attempt::Acquired(lease) => {
                    return Ok(LockGuard::new(Arc::clone(&self.locks), name, lease.token, ttl, asked));
                }
                Attempt::Held(left_ms) => Duration::from_millis(left_ms),
            };
            if Instant::now() >= deadline {
                return Err(timeout());
            }
            let Some(listener) = &mut listener else {
                listener = Some(self.changes.listen(lock_topic(name)));
                continue;
            };
            let until = (Instant::now() + look.min(left + Duration::from_millis(1))).min(deadline);
            if tokio::time::timeout_at(until, listener.changed()).await.is_err() {
                look = (look * 2).min(LOOK_MAX);
            }
        }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<String, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, name: &str) -> Line {
        Arc::clone(self.lines().entry(name.to_owned()).or_default())
    }
}

/// A place in a line. The last one to leave takes the line away.
struct Place<'a> {
    manager: &'a LockManager,
    name: &'a str,
    line: Line,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut lines = self.manager.lines();
        // One count is the map's, one is ours.
        if Arc::strong_count(&self.line) <= 2 {
            lines.remove(self.name);
        }
    }
}
