//! A lock that is held: renewed in the background until it is given back, and telling when it is lost.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{LockError, Locks, StoreError};

/// A lease is renewed each time when this share of it has passed.
const RENEW_SHARE: u32 = 3;

/// A lock that is held. Dropped, it gives the lock back in the background; [`LockGuard::release`] tells whether that was in time.
#[derive(Debug)]
pub struct LockGuard {
    held: Option<Held>,
}

struct Held {
    locks: Arc<dyn Locks>,
    name: String,
    token: u64,
    lost: watch::Receiver<bool>,
    renewal: JoinHandle<()>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("name", &self.name).field("token", &self.token).finish_non_exhaustive()
    }
}

impl LockGuard {
    /// `asked` is when the backend was asked: its lease cannot have begun before.
    pub(super) fn new(locks: Arc<dyn Locks>, name: &str, token: u64, ttl: Duration, asked: Instant) -> Self {
        let (sender, lost) = watch::channel(false);
        let renewal =
            Renewal { locks: Arc::clone(&locks), name: name.to_owned(), token, ttl, valid_until: asked + ttl };
        let renewal = tokio::spawn(async move {
            let loss = renewal.run().await;
            tracing::warn!(lock = %loss.name, "{loss}");
            sender.send_replace(true);
        });
        Self { held: Some(Held { locks, name: name.to_owned(), token, lost, renewal }) }
    }

    fn held(&self) -> &Held {
        self.held.as_ref().expect("taken only by `release` and `drop`")
    }

    /// The fencing token: greater than that of every lease of this lock before it.
    pub fn token(&self) -> u64 {
        self.held().token
    }

    /// The lock's name.
    pub fn name(&self) -> &str {
        &self.held().name
    }

    /// Whether the lease is lost.
    pub fn is_lost(&self) -> bool {
        *self.held().lost.borrow()
    }

    fn loss(&self) -> LockError {
        let Held { name, token, .. } = self.held();
        LockError::Lost { name: name.clone(), token: *token }
    }

    /// Ends when the lease is lost: it expired without a renewal, or somebody took it away. Cancel safe.
    pub async fn lost(&self) -> LockError {
        let mut lost = self.held().lost.clone();
        // An error means that the renewal ended in another way; then nobody renews, and the lease is as good as lost.
        let _ = lost.wait_for(|lost| *lost).await;
        self.loss()
    }

    /// Runs work that only the holder may do. It is dropped where it waits as soon as the lease is lost.
    ///
    /// # Errors
    ///
    /// [`LockError::Lost`].
    pub async fn protect<T>(&self, work: impl Future<Output = T>) -> Result<T, LockError> {
        tokio::select! {
            biased;
            error = self.lost() => Err(error),
            answer = work => Ok(answer),
        }
    }

    /// Gives the lock back.
    ///
    /// # Errors
    ///
    /// [`LockError::Lost`] when it was lost before; else as the backend answers, and the lease then ends by itself.
    pub async fn release(mut self) -> Result<(), LockError> {
        let loss = self.loss();
        let Held { locks, name, token, lost, renewal } = self.held.take().expect("released once");
        renewal.abort();
        let released = locks.release(&name, token).await?;
        if released && !*lost.borrow() { Ok(()) } else { Err(loss) }
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        let Some(Held { locks, name, token, renewal, .. }) = self.held.take() else { return };
        renewal.abort();
        // Outside of a runtime nobody can give it back; then it expires.
        if let Ok(handle) = tokio::runtime::Handle::try_current() {
            handle.spawn(async move {
                if let Err(error) = locks.release(&name, token).await {
                    tracing::debug!(lock = %name, %error, "a lock could not be given back and expires by itself");
                }
            });
        }
    }
}

struct Renewal {
    locks: Arc<dyn Locks>,
    name: String,
    token: u64,
    ttl: Duration,
    /// Until then the lease is ours for sure, counted from before the backend was asked.
    valid_until: Instant,
}

/// Why a lease was lost, for the log.
struct Loss {
    name: String,
    error: Option<StoreError>,
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.error {
            None => f.write_str("a lock was lost: its lease had ended when it was to be renewed"),
            Some(error) => write!(f, "a lock was lost: it could not be renewed in time: {error}"),
        }
    }
}

impl Renewal {
    /// Renews until the lease is lost.
    async fn run(mut self) -> Loss {
        let mut pause = self.ttl / RENEW_SHARE;
        let mut error = None;
        loop {
            let next = (Instant::now() + pause).min(self.valid_until);
            tokio::time::sleep_until(next).await;
            let asked = Instant::now();
            if asked >= self.valid_until {
                return Loss { name: self.name, error };
            }
            let refresh = self.locks.refresh(&self.name, self.token, self.ttl);
            match tokio::time::timeout_at(self.valid_until, refresh).await {
                Ok(Ok(true)) => {
                    self.valid_until = asked + self.ttl;
                    pause = self.ttl / RENEW_SHARE;
                }
                Ok(Ok(false)) => return Loss { name: self.name, error: None },
                Ok(Err(failed)) => {
                    error = Some(failed);
                    // Some tries fit into what is left.
                    pause = self.ttl / (RENEW_SHARE * 4);
                }
                Err(_) => return Loss { name: self.name, error },
            }
        }
    }
}
