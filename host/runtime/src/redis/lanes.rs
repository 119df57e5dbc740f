//! The connections of one plugin: opened when they are needed, shared by all callers, and opened again when they end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::backoff::Backoff;
use super::connect::{ConnectError, Connected, connect};
use super::error::{no_answer, no_connection};
use super::guard::{LARGE_BYTES, Meter};
use super::settings::Target;
use crate::bindings::compozy::host::redis::RedisError;

/// Connections of one plugin.
const LANES: usize = 3;

/// A connection that is up.
#[derive(Debug)]
pub(super) struct Live {
    connection: MultiplexedConnection,
    meter: Arc<Meter>,
    /// Calls under way.
    load: AtomicUsize,
    /// Told to end the connection.
    end: Notify,
}

impl Live {
    /// Whether what is sent now would wait.
    fn held_up(&self, now: Instant) -> bool {
        self.load.load(Ordering::Relaxed) > 0 && self.meter.held_up(now.into_std())
    }

    /// The size of the reply that ended the connection, if it had the mark of this number.
    pub(super) fn too_large(&self, number: u64) -> Option<u64> {
        self.meter.too_large(number)
    }
}

/// What is known of one connection.
#[derive(Debug, Default)]
struct Lane {
    live: Option<Arc<Live>>,
    task: Option<JoinHandle<()>>,
    /// Attempts that failed since there was a connection, and why the last one did.
    failed: u64,
    last: Option<(Instant, ConnectError)>,
}

/// The connections of one plugin.
#[derive(Debug)]
pub(super) struct Lanes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    target: Target,
    plugin: String,
    /// Bytes of one reply.
    allowed: u64,
    lanes: Mutex<[Lane; LANES]>,
    /// Told when a connection has come up.
    up: Notify,
}

impl Shared {
    fn lanes(&self) -> MutexGuard<'_, [Lane; LANES]> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use by one call.
struct Borrowed(Arc<Live>);

impl Borrowed {
    fn new(live: &Arc<Live>) -> Self {
        live.load.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(live))
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        self.0.load.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lanes {
    pub(super) fn new(target: Target, plugin: &str, allowed: u64) -> Self {
        let (lanes, up) = (Mutex::default(), Notify::new());
        Self(Arc::new(Shared { target, plugin: plugin.to_owned(), allowed, lanes, up }))
    }

    /// Runs something that sends so many bytes on a connection, from finding one to the answer within `timeout`.
    pub(super) async fn call<T>(
        &self,
        timeout: Duration,
        size: usize,
        work: impl AsyncFnOnce(MultiplexedConnection, &Live) -> Result<T, RedisError>,
    ) -> Result<T, RedisError> {
        let now = Instant::now();
        let deadline = now + timeout;
        let endpoint = &self.0.target.endpoint;
        let large = size as u64 > LARGE_BYTES;
        let borrowed = match self.pick(large, now) {
            Some(borrowed) => borrowed,
            None => match timeout_at(deadline, self.wait(large)).await {
                Ok(borrowed) => borrowed,
                Err(_) => return Err(no_connection(endpoint, timeout, &self.tried())),
            },
        };
        let live = &borrowed.0;
        let result = timeout_at(deadline, work(live.connection.clone(), live)).await;
        result.unwrap_or_else(|_| {
            // Others wait behind this call. When nothing came all the time, the server or the way to it is gone, and a new connection
            // is the better one; it also frees what is queued for this one.
            if live.meter.silent(timeout) {
                live.end.notify_one();
            }
            Err(no_answer(endpoint, timeout))
        })
    }

    /// Waits until there is a connection.
    async fn wait(&self, large: bool) -> Borrowed {
        loop {
            let up = self.0.up.notified();
            tokio::pin!(up);
            up.as_mut().enable();
            if let Some(borrowed) = self.pick(large, Instant::now()) {
                return borrowed;
            }
            up.await;
        }
    }

    /// A connection for one call. Never waits.
    ///
    /// The first one that is not held up: what many ask for at once travels together on it, which costs host and server least. What
    /// is large begins at the other end. One more is opened when all are held up.
    fn pick(&self, large: bool, now: Instant) -> Option<Borrowed> {
        let mut lanes = self.0.lanes();
        let is_up = |lane: &&Lane| is_running(lane);
        let free = |live: &&Arc<Live>| !live.held_up(now);
        let free = if large {
            lanes.iter().rev().filter(is_up).filter_map(|lane| lane.live.as_ref()).find(free)
        } else {
            lanes.iter().filter(is_up).filter_map(|lane| lane.live.as_ref()).find(free)
        };
        if let Some(live) = free {
            return Some(Borrowed::new(live));
        }
        let load = |live: &&Arc<Live>| live.load.load(Ordering::Relaxed);
        let up = lanes.iter().filter(is_up).filter_map(|lane| lane.live.as_ref());
        let best = up.min_by_key(load).map(Borrowed::new);
        let first_is_coming = best.is_none() && is_running(&lanes[0]);
        let next = (0..LANES).find(|&at| !is_running(&lanes[at]));
        if let Some(next) = next.filter(|_| !first_is_coming) {
            self.open(next, &mut lanes[next]);
        }
        best
    }

    fn open(&self, at: usize, lane: &mut Lane) {
        if !is_running(lane) {
            lane.live = None;
            lane.task = Some(tokio::spawn(keep(Arc::clone(&self.0), at)));
        }
    }

    /// What became of the attempts, for a person.
    fn tried(&self) -> String {
        let lanes = self.0.lanes();
        let last = lanes.iter().filter_map(|lane| lane.last.as_ref().map(|last| (lane.failed, last)));
        match last.max_by_key(|(_, (at, _))| *at) {
            Some((failed, (_, error))) => format!("tried {failed} times, the last time: {error}"),
            None => "the first attempt is not answered yet".to_owned(),
        }
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        for lane in self.0.lanes().iter_mut() {
            if let Some(task) = lane.task.take() {
                task.abort();
            }
        }
    }
}

/// Whether the lane's task is there. It ends with the tokio runtime that it was started on.
fn is_running(lane: &Lane) -> bool {
    lane.task.as_ref().is_some_and(|task| !task.is_finished())
}

/// Keeps one connection open for ever.
async fn keep(shared: Arc<Shared>, at: usize) {
    let mut backoff = Backoff::default();
    let endpoint = &shared.target.endpoint;
    loop {
        match connect(&shared.target, &shared.plugin, shared.allowed).await {
            Ok(Connected { connection, meter, driver }) => {
                let (load, end) = (AtomicUsize::new(0), Notify::new());
                let live = Arc::new(Live { connection, meter, load, end });
                let failed = {
                    let lane = &mut shared.lanes()[at];
                    (lane.live, lane.last) = (Some(Arc::clone(&live)), None);
                    std::mem::take(&mut lane.failed)
                };
                shared.up.notify_waiters();
                let begun = Instant::now();
                if failed > 0 {
                    tracing::info!(plugin = shared.plugin, %endpoint, failed, "connected to Redis again");
                }
                tokio::select! {
                    biased;
                    () = driver => tracing::debug!(plugin = shared.plugin, %endpoint, "a connection to Redis ended"),
                    () = live.end.notified() => tracing::warn!(plugin = shared.plugin, %endpoint, "a silent connection to Redis is given up"),
                }
                let ended = ConnectError("the connection that was there has ended".to_owned());
                let lane = &mut shared.lanes()[at];
                (lane.live, lane.last) = (None, Some((Instant::now(), ended)));
                backoff.lived(begun.elapsed());
            }
            Err(error) => {
                let first = {
                    let lane = &mut shared.lanes()[at];
                    lane.failed += 1;
                    lane.last = Some((Instant::now(), error.clone()));
                    lane.failed == 1
                };
                if first {
                    tracing::warn!(plugin = shared.plugin, %endpoint, %error, "no connection to Redis; it is tried again");
                }
            }
        }
        tokio::time::sleep(backoff.next()).await;
    }
}
