//! The executor and the clock of a simulation: both do nothing until they are told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use compozy_engine::Clock;
use compozy_engine::port::{TaskCall, TaskExecutor, TaskReport};
use compozy_tests::random::Random;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::disk::Disk;

/// Where the clock begins.
pub(super) const BEGIN_MS: u64 = 1_800_000_000_000;

/// Stands still until it is set, and names runs by counting.
pub(super) struct HandClock {
    now_ms: AtomicU64,
    named: AtomicU64,
    seed: u64,
}

impl HandClock {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self { now_ms: AtomicU64::new(BEGIN_MS), named: AtomicU64::new(0), seed })
    }

    pub(super) fn set(&self, ms: u64) {
        self.now_ms.store(ms, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    fn id(&self) -> Uuid {
        let number = self.named.fetch_add(1, Ordering::SeqCst);
        Uuid::from_u64_pair(number, Random::new(self.seed ^ number).number())
    }
}

/// An attempt that began.
#[derive(Debug, Clone)]
pub(super) struct Begun {
    pub(super) execution: String,
    pub(super) task: String,
    pub(super) attempt: u32,
    /// The disk's moment, and the clock, when it began.
    pub(super) moment: usize,
    pub(super) now_ms: u64,
}

#[derive(Default)]
struct Inner {
    next: u64,
    /// Attempts that wait for an answer, in the order in which they began.
    open: BTreeMap<u64, (TaskCall, oneshot::Sender<TaskReport>)>,
    begun: Vec<Begun>,
}

/// Lays attempts on a desk until somebody answers them. One desk for each engine.
pub(super) struct Desk {
    inner: Mutex<Inner>,
    disk: Arc<Disk>,
    clock: Arc<HandClock>,
}

impl Desk {
    pub(super) fn new(disk: Arc<Disk>, clock: Arc<HandClock>) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), disk, clock })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The attempts that wait for an answer.
    pub(super) fn open(&self) -> Vec<(u64, TaskCall)> {
        self.inner().open.iter().map(|(number, (call, _))| (*number, call.clone())).collect()
    }

    /// All attempts that began here.
    pub(super) fn begun(&self) -> Vec<Begun> {
        self.inner().begun.clone()
    }

    /// How many wait, and how many began.
    pub(super) fn counts(&self) -> (usize, usize) {
        let inner = self.inner();
        (inner.open.len(), inner.begun.len())
    }

    pub(super) fn answer(&self, number: u64, report: TaskReport) {
        if let Some((_, reply)) = self.inner().open.remove(&number) {
            // The attempt may have been cancelled at this moment.
            drop(reply.send(report));
        }
    }
}

/// Takes an attempt off the desk when its engine drops it.
struct Place<'a>(&'a Desk, u64);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        drop(self.0.inner().open.remove(&self.1));
    }
}

#[async_trait::async_trait]
impl TaskExecutor for Desk {
    async fn execute(&self, call: TaskCall) -> TaskReport {
        let (reply, answer) = oneshot::channel();
        let number = {
            let moment = self.disk.moment();
            let mut inner = self.inner();
            inner.next += 1;
            let number = inner.next;
            inner.begun.push(Begun {
                execution: call.execution.0.clone(),
                task: call.task.clone(),
                attempt: call.attempt,
                moment,
                now_ms: self.clock.now_ms(),
            });
            inner.open.insert(number, (call, reply));
            number
        };
        let _place = Place(self, number);
        match answer.await {
            Ok(report) => report,
            Err(_) => std::future::pending().await,
        }
    }
}
