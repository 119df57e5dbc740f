//! What callers, attempts and the writer share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, watch};

use super::queue::{Queue, QueueLimits};
use crate::clock::Clock;
use crate::limits;
use crate::port::{EngineHealth, ExecutionId, Notice, Outcome, TaskExecutor};
use crate::vault::Vault;

/// How far the engine is with stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Works.
    Running,
    /// Begins no attempt, and none runs any more.
    Drained,
    /// The journal is closed.
    Stopped,
}

/// What the engine counted since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Commits, each one fsync.
    pub commits: u64,
    /// Requests and reports in those commits.
    pub operations: u64,
    /// Attempts begun.
    pub attempts: u64,
    /// Those of them whose task had waited for a slot.
    pub dispatched: u64,
    /// How long it took to find the next of these and to write that they begin, commits not included, in nanoseconds.
    pub dispatch_ns: u64,
    /// Results that came too late: the attempt was no longer the task's current one. They were dropped.
    pub stale_results: u64,
    /// Commits that storage refused.
    pub failed_commits: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) commits: AtomicU64,
    pub(super) operations: AtomicU64,
    pub(super) attempts: AtomicU64,
    pub(super) dispatched: AtomicU64,
    pub(super) dispatch_ns: AtomicU64,
    pub(super) stale_results: AtomicU64,
    pub(super) failed_commits: AtomicU64,
    pub(super) open_executions: AtomicU64,
    pub(super) running_tasks: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Callers that wait for the end of one run.
struct Waiters {
    ended: watch::Sender<Option<Arc<Outcome>>>,
    count: usize,
}

pub(super) struct Shared {
    pub(super) queue: Queue,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) vault: Arc<Vault>,
    pub(super) executor: Arc<dyn TaskExecutor>,
    pub(super) runtime: Handle,
    pub(super) notices: broadcast::Sender<Notice>,
    pub(super) counters: Counters,
    /// No new runs and no new attempts.
    pub(super) draining: AtomicBool,
    pub(super) phase: watch::Sender<Phase>,
    /// Attempts whose future exists, also those that are about to be dropped.
    pub(super) live: watch::Sender<usize>,
    /// Why nothing can be written, while that is so.
    trouble: Mutex<Option<String>>,
    waiters: Mutex<HashMap<ExecutionId, Waiters>>,
    followers: Followers,
}

/// Those who follow single executions.
#[derive(Default)]
struct Followers {
    by_execution: Mutex<HashMap<ExecutionId, broadcast::Sender<Notice>>>,
    /// How many executions are followed, so that nobody takes the lock for nothing.
    count: AtomicUsize,
}

impl Followers {
    fn follow(&self, id: &ExecutionId) -> broadcast::Receiver<Notice> {
        let mut all = self.by_execution.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, sender| sender.receiver_count() > 0);
        let sender = all.entry(id.clone()).or_insert_with(|| broadcast::channel(limits::FOLLOW_NOTICES_MAX).0);
        let receiver = sender.subscribe();
        self.count.store(all.len(), Ordering::Release);
        receiver
    }

    fn tell(&self, notice: &Notice) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut all = self.by_execution.lock().unwrap_or_else(PoisonError::into_inner);
        let id = notice.execution();
        if all.get(id).is_some_and(|sender| sender.send(notice.clone()).is_err()) {
            // The last follower has gone.
            all.remove(id);
            self.count.store(all.len(), Ordering::Release);
        }
    }
}

impl Shared {
    pub(super) fn new(
        queue: QueueLimits,
        clock: Arc<dyn Clock>,
        vault: Arc<Vault>,
        executor: Arc<dyn TaskExecutor>,
        runtime: Handle,
    ) -> Self {
        Self {
            queue: Queue::new(queue),
            clock,
            vault,
            executor,
            runtime,
            notices: broadcast::channel(limits::WATCH_NOTICES_MAX).0,
            counters: Counters::default(),
            draining: AtomicBool::new(false),
            phase: watch::channel(Phase::Running).0,
            live: watch::channel(0).0,
            trouble: Mutex::new(None),
            waiters: Mutex::default(),
            followers: Followers::default(),
        }
    }

    /// Whether anybody wants to know what happens.
    pub(super) fn watched(&self) -> bool {
        self.notices.receiver_count() > 0 || self.followers.count.load(Ordering::Acquire) > 0
    }

    /// Tells everybody who watches.
    pub(super) fn tell(&self, notice: Notice) {
        self.followers.tell(&notice);
        // Nobody may be watching any more.
        drop(self.notices.send(notice));
    }

    /// What happens to one execution from now on.
    pub(super) fn follow(&self, id: &ExecutionId) -> broadcast::Receiver<Notice> {
        self.followers.follow(id)
    }

    pub(super) fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(super) fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    pub(super) fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            commits: read(&self.counters.commits),
            operations: read(&self.counters.operations),
            attempts: read(&self.counters.attempts),
            dispatched: read(&self.counters.dispatched),
            dispatch_ns: read(&self.counters.dispatch_ns),
            stale_results: read(&self.counters.stale_results),
            failed_commits: read(&self.counters.failed_commits),
        }
    }

    pub(super) fn health(&self) -> EngineHealth {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let phase = *self.phase.borrow();
        let writable = trouble.is_none() && phase != Phase::Stopped;
        let detail = match (trouble, phase) {
            (_, Phase::Stopped) => "the engine has stopped".to_owned(),
            (Some(trouble), _) => trouble,
            (None, _) if self.draining() => "the engine is stopping".to_owned(),
            (None, _) => "every commit is synced to disk".to_owned(),
        };
        EngineHealth {
            engine: super::ENGINE,
            writable,
            detail,
            open_executions: self.counters.open_executions.load(Ordering::Relaxed),
            running_tasks: self.counters.running_tasks.load(Ordering::Relaxed),
            commits: self.counters.commits.load(Ordering::Relaxed),
        }
    }

    /// Wakes those that wait for the end of a run.
    pub(super) fn wake_waiters(&self, id: &ExecutionId, outcome: Outcome) {
        if let Some(waiters) = self.waiters.lock().unwrap_or_else(PoisonError::into_inner).get(id) {
            waiters.ended.send_replace(Some(Arc::new(outcome)));
        }
    }

    /// Registers a caller that waits for the end of a run, until the answer is dropped.
    pub(super) fn waiter(self: &Arc<Self>, id: &ExecutionId) -> Waiter {
        let mut all = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        let waiters = all.entry(id.clone()).or_insert_with(|| Waiters { ended: watch::channel(None).0, count: 0 });
        waiters.count += 1;
        Waiter { shared: Arc::clone(self), id: id.clone(), ended: waiters.ended.subscribe() }
    }
}

/// One caller that waits for the end of a run.
pub(super) struct Waiter {
    shared: Arc<Shared>,
    id: ExecutionId,
    /// How the run ended, if it did since the first of its callers began to wait.
    pub(super) ended: watch::Receiver<Option<Arc<Outcome>>>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut all = self.shared.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiters) = all.get_mut(&self.id) {
            waiters.count -= 1;
            if waiters.count == 0 {
                all.remove(&self.id);
            }
        }
    }
}
