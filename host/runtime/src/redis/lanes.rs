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
use super::guard::Meter;
use super::settings::Target;
use crate::bindings::compozy::host::redis::RedisError;

/// Connections that all calls share.
const SHARED: usize = 3;
/// One more, for transactions whose answer can be large: when it is too large, only then is it sure who asked for it.
const EXCLUSIVE: usize = SHARED;
/// Calls under way on each open connection before one more is opened.
const BUSY: usize = 8;

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
    /// The size of the reply that was too large and ended the connection, if one did.
    pub(super) fn too_large(&self) -> Option<u64> {
        self.meter.too_large()
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
pub(super) struct Lanes {
    shared: Arc<Shared>,
    exclusive: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Shared {
    target: Target,
    plugin: String,
    /// Bytes of one reply.
    allowed: u64,
    lanes: Mutex<[Lane; SHARED + 1]>,
    /// Told when a connection has come up.
    up: Notify,
}

impl Shared {
    fn lanes(&self) -> MutexGuard<'_, [Lane; SHARED + 1]> {
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
        let shared = Shared { target, plugin: plugin.to_owned(), allowed, lanes, up };
        Self { shared: Arc::new(shared), exclusive: tokio::sync::Mutex::default() }
    }

    /// Runs something on a connection, from finding one to the answer within `timeout`.
    pub(super) async fn call<T>(
        &self,
        timeout: Duration,
        work: impl AsyncFnOnce(MultiplexedConnection, &Live) -> Result<T, RedisError>,
    ) -> Result<T, RedisError> {
        self.within(Instant::now() + timeout, timeout, SHARED, work).await
    }

    /// As `call`, on a connection that nobody else uses meanwhile.
    pub(super) async fn call_alone<T>(
        &self,
        timeout: Duration,
        work: impl AsyncFnOnce(MultiplexedConnection, &Live) -> Result<T, RedisError>,
    ) -> Result<T, RedisError> {
        let deadline = Instant::now() + timeout;
        let Ok(_turn) = timeout_at(deadline, self.exclusive.lock()).await else {
            return Err(no_answer(&self.shared.target.endpoint, timeout));
        };
        self.within(deadline, timeout, EXCLUSIVE, work).await
    }

    async fn within<T>(
        &self,
        deadline: Instant,
        timeout: Duration,
        which: usize,
        work: impl AsyncFnOnce(MultiplexedConnection, &Live) -> Result<T, RedisError>,
    ) -> Result<T, RedisError> {
        let endpoint = &self.shared.target.endpoint;
        let borrowed = match self.pick(which) {
            Some(borrowed) => borrowed,
            None => match timeout_at(deadline, self.wait(which)).await {
                Ok(borrowed) => borrowed,
                Err(_) => return Err(no_connection(endpoint, timeout, &self.tried(which))),
            },
        };
        let live = &borrowed.0;
        let result = timeout_at(deadline, work(live.connection.clone(), live)).await;
        result.unwrap_or_else(|_| {
            // Others wait behind this call. When nothing at all moved, the server or the way to it is gone, and a new connection
            // is the better one; it also frees what is queued for this one.
            if live.meter.silent() >= timeout {
                live.end.notify_one();
            }
            Err(no_answer(endpoint, timeout))
        })
    }

    /// Waits until there is a connection.
    async fn wait(&self, which: usize) -> Borrowed {
        loop {
            let up = self.shared.up.notified();
            tokio::pin!(up);
            up.as_mut().enable();
            if let Some(borrowed) = self.pick(which) {
                return borrowed;
            }
            up.await;
        }
    }

    /// The connection with the fewest calls under way; opens more when all are busy. Never waits.
    fn pick(&self, which: usize) -> Option<Borrowed> {
        let mut lanes = self.shared.lanes();
        if which == EXCLUSIVE {
            self.open(EXCLUSIVE, &mut lanes[EXCLUSIVE]);
            return lanes[EXCLUSIVE].live.as_ref().map(Borrowed::new);
        }
        let load = |live: &&Arc<Live>| live.load.load(Ordering::Relaxed);
        let best = lanes[..SHARED].iter().filter_map(|lane| lane.live.as_ref()).min_by_key(load).map(Borrowed::new);
        let busy = best.as_ref().is_none_or(|borrowed| borrowed.0.load.load(Ordering::Relaxed) > BUSY);
        if busy {
            // The first one, or the first that is neither up nor being opened.
            let next = (0..SHARED).find(|&at| !is_running(&lanes[at]));
            let first_is_coming = best.is_none() && is_running(&lanes[0]);
            if let Some(next) = next.filter(|_| !first_is_coming) {
                self.open(next, &mut lanes[next]);
            }
        }
        best
    }

    fn open(&self, at: usize, lane: &mut Lane) {
        if !is_running(lane) {
            lane.live = None;
            lane.task = Some(tokio::spawn(keep(Arc::clone(&self.shared), at)));
        }
    }

    /// What became of the attempts, for a person.
    fn tried(&self, which: usize) -> String {
        let lanes = self.shared.lanes();
        let lanes = if which == EXCLUSIVE { &lanes[EXCLUSIVE..] } else { &lanes[..SHARED] };
        let last = lanes.iter().filter_map(|lane| lane.last.as_ref().map(|last| (lane.failed, last)));
        match last.max_by_key(|(_, (at, _))| *at) {
            Some((failed, (_, error))) => format!("tried {failed} times, the last time: {error}"),
            None => "the first attempt is not answered yet".to_owned(),
        }
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        for lane in self.shared.lanes().iter_mut() {
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
