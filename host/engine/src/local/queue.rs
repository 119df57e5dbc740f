//! The way to the writer: bounded for what asks, unbounded for what was already begun.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::batch::Answer;
use super::prune::{Over, Pruned};
use super::request::Start;
use crate::port::{Control, ExecutionId, TaskReport};
use crate::vault::Claim;
use crate::{EngineError, limits};

/// Something that somebody waits for.
pub(super) enum Request {
    /// Start a run.
    Start { start: Box<Start>, reply: StartReply },
    /// Remove some of the runs that are over.
    Prune { over: Over, reply: oneshot::Sender<Result<Pruned, EngineError>> },
    /// Forget those of these blobs that no run refers to.
    SweepBlobs { digests: Vec<String> },
    /// Do something to a run.
    Control {
        id: ExecutionId,
        control: Box<Control>,
        bytes: usize,
        _claim: Claim,
        reply: oneshot::Sender<Result<(), EngineError>>,
    },
}

/// Where the answer to a start goes.
pub(super) struct StartReply {
    sender: Option<oneshot::Sender<Result<ExecutionId, EngineError>>>,
    /// Told where there is anything else to know than that the run has begun. Who waits for the end of a run looks at
    /// the answer only then, and need not be woken up for it.
    otherwise: Option<Arc<Notify>>,
}

impl StartReply {
    /// To somebody who waits for it.
    pub(super) fn awaited(sender: oneshot::Sender<Result<ExecutionId, EngineError>>) -> Self {
        Self { sender: Some(sender), otherwise: None }
    }

    /// To somebody who looks at it when he is told to.
    pub(super) fn unless_begun(
        sender: oneshot::Sender<Result<ExecutionId, EngineError>>,
        otherwise: Arc<Notify>,
    ) -> Self {
        Self { sender: Some(sender), otherwise: Some(otherwise) }
    }

    fn send(mut self, own: &ExecutionId, answer: Result<ExecutionId, EngineError>) {
        if answer.as_ref().is_ok_and(|id| id == own) {
            self.otherwise = None;
        }
        // A caller that does not wait any more does not want to know.
        self.sender.take().map(|sender| sender.send(answer));
    }
}

impl Drop for StartReply {
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(otherwise) = &self.otherwise {
            otherwise.notify_one();
        }
    }
}

impl Request {
    fn bytes(&self) -> usize {
        // The fixed part stands for what a request costs beside its payload.
        512 + match self {
            Self::Start { start, .. } => start.input_bytes,
            Self::Control { bytes, .. } => *bytes,
            Self::Prune { .. } | Self::SweepBlobs { .. } => 0,
        }
    }

    /// Tells the caller what came of it.
    pub(super) fn answer(self, answer: Answer) {
        // A caller that does not wait any more does not want to know.
        match (self, answer) {
            (Self::Start { start, reply }, Answer::Started(answer)) => reply.send(&start.id, answer),
            (Self::Control { reply, .. }, Answer::Controlled(answer)) => drop(reply.send(answer)),
            (Self::Prune { reply, .. }, Answer::Pruned(answer)) => drop(reply.send(answer)),
            (Self::SweepBlobs { .. }, Answer::Nobody) => {}
            _ => debug_assert!(false, "the answer to something else"),
        }
    }

    /// Answers that nothing was done.
    pub(super) fn refuse(self, error: EngineError) {
        // A caller that does not wait any more does not want to know.
        match self {
            Self::Start { start, reply } => reply.send(&start.id, Err(error)),
            Self::Control { reply, .. } => drop(reply.send(Err(error))),
            Self::Prune { reply, .. } => drop(reply.send(Err(error))),
            Self::SweepBlobs { .. } => {}
        }
    }
}

/// An attempt is over. It is never refused: the work is done and must be recorded.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) task: i64,
    pub(super) attempt: u32,
    pub(super) end: AttemptEnd,
    /// The size of its result as JSON, in bytes.
    pub(super) bytes: usize,
    /// Protects what of the result is kept apart.
    pub(super) _claim: Arc<Claim>,
}

#[derive(Debug, Clone)]
pub(super) enum AttemptEnd {
    /// The executor answered, or the engine in its place.
    Answered(Box<TaskReport>),
    /// The runtime dropped the attempt before it ended.
    Lost,
}

/// What the writer takes at once.
#[derive(Default)]
pub(super) struct Drained {
    pub(super) reports: Vec<Report>,
    pub(super) requests: Vec<Request>,
    pub(super) shutdown: bool,
}

/// Bounds of the requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueLimits {
    pub(super) operations: usize,
    pub(super) bytes: usize,
}

#[derive(Default)]
struct Inner {
    requests: VecDeque<Request>,
    bytes: usize,
    reports: VecDeque<Report>,
    woken: bool,
    shutdown: bool,
    /// The writer waits. While it works nobody need call the system to wake it.
    asleep: bool,
}

pub(super) struct Queue {
    inner: Mutex<Inner>,
    wake: Condvar,
    limits: QueueLimits,
}

impl Queue {
    pub(super) fn new(limits: QueueLimits) -> Self {
        Self { inner: Mutex::default(), wake: Condvar::new(), limits }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it holds the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rouse(&self, mut inner: MutexGuard<'_, Inner>) {
        let asleep = std::mem::take(&mut inner.asleep);
        // Not while it is locked: the writer would wake up only to wait for us.
        drop(inner);
        if asleep {
            self.wake.notify_one();
        }
    }

    /// Takes a request, or refuses it when the writer is too far behind.
    pub(super) fn submit(&self, request: Request) -> Result<(), EngineError> {
        let mut inner = self.lock();
        if inner.shutdown {
            return Err(EngineError::Stopping);
        }
        let bytes = request.bytes();
        // An empty queue takes any request: its size was checked against the limit of a payload before.
        let full = inner.requests.len() >= self.limits.operations || inner.bytes + bytes > self.limits.bytes;
        if full && !inner.requests.is_empty() {
            return Err(EngineError::QueueFull {
                operations: inner.requests.len(),
                operations_max: self.limits.operations,
                bytes: inner.bytes,
                bytes_max: self.limits.bytes,
                retry_after: limits::SUBMIT_RETRY_AFTER,
            });
        }
        inner.bytes += bytes;
        inner.requests.push_back(request);
        self.rouse(inner);
        Ok(())
    }

    /// Takes a report. There are at most as many as attempts that run.
    pub(super) fn report(&self, report: Report) {
        let mut inner = self.lock();
        inner.reports.push_back(report);
        self.rouse(inner);
    }

    /// Lets the writer look around.
    pub(super) fn wake(&self) {
        let mut inner = self.lock();
        inner.woken = true;
        self.rouse(inner);
    }

    /// Lets the writer end. What still waits is refused by it.
    pub(super) fn shutdown(&self) {
        let mut inner = self.lock();
        inner.shutdown = true;
        self.rouse(inner);
    }

    /// Waits until there is something, but at most until `until`, and takes what is there: it never waits for more.
    pub(super) fn drain(&self, until: Option<Instant>) -> Drained {
        let mut inner = self.lock();
        while inner.requests.is_empty() && inner.reports.is_empty() && !inner.woken && !inner.shutdown {
            inner.asleep = true;
            let Some(until) = until else {
                inner = self.wake.wait(inner).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                break;
            }
            inner = self.wake.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        inner.asleep = false;
        inner.woken = false;
        let mut drained = Drained { shutdown: inner.shutdown, ..Drained::default() };
        let mut bytes = 0;
        // What was begun comes first: it frees slots.
        while drained.reports.len() < limits::BATCH_OPS_MAX && bytes < limits::BATCH_BYTES_MAX {
            let Some(report) = inner.reports.pop_front() else { break };
            bytes += report.bytes;
            drained.reports.push(report);
        }
        while drained.reports.len() + drained.requests.len() < limits::BATCH_OPS_MAX && bytes < limits::BATCH_BYTES_MAX
        {
            let Some(request) = inner.requests.pop_front() else { break };
            inner.bytes -= request.bytes();
            bytes += request.bytes();
            drained.requests.push(request);
        }
        // What did not fit comes with the next drain, at once.
        inner.woken = !inner.reports.is_empty() || !inner.requests.is_empty();
        drained
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cancel(reason: &str) -> Request {
        let control = Box::new(Control::Cancel { reason: reason.into(), grace_ms: 0 });
        Request::Control {
            id: ExecutionId("x".into()),
            control,
            bytes: reason.len(),
            _claim: Claim::default(),
            reply: oneshot::channel().0,
        }
    }

    #[test]
    fn requests_are_refused_beyond_operations_and_beyond_bytes_and_reports_never() {
        let queue = Queue::new(QueueLimits { operations: 2, bytes: 2000 });
        queue.submit(cancel("")).unwrap();
        queue.submit(cancel("")).unwrap();
        let refused = queue.submit(cancel("")).unwrap_err();
        assert!(matches!(refused, EngineError::QueueFull { operations: 2, bytes: 1024, .. }), "{refused:?}");
        assert_eq!(refused.retry_after(), Some(limits::SUBMIT_RETRY_AFTER));
        for attempt in 0..10 {
            queue.report(Report { task: 1, attempt, end: AttemptEnd::Lost, bytes: 0, _claim: Arc::default() });
        }
        let drained = queue.drain(None);
        assert_eq!((drained.reports.len(), drained.requests.len()), (10, 2));

        queue.submit(cancel(&"x".repeat(1000))).unwrap();
        let refused = queue.submit(cancel("")).unwrap_err();
        assert!(matches!(refused, EngineError::QueueFull { operations: 1, bytes: 1512, .. }), "{refused:?}");
        drop(queue.drain(None));
        // Alone, even the largest request is taken.
        queue.submit(cancel(&"x".repeat(5000))).unwrap();
    }

    #[test]
    fn one_drain_is_bounded_and_waits_no_longer_than_told() {
        let queue = Queue::new(QueueLimits { operations: 10_000, bytes: usize::MAX });
        for _ in 0..=limits::BATCH_OPS_MAX {
            queue.submit(cancel("")).unwrap();
        }
        assert_eq!(queue.drain(None).requests.len(), limits::BATCH_OPS_MAX);
        assert_eq!(queue.drain(None).requests.len(), 1);
        assert_eq!(queue.drain(Some(Instant::now())).requests.len(), 0);
        for _ in 0..10 {
            queue.submit(cancel(&"x".repeat(1024 * 1024))).unwrap();
        }
        assert_eq!(queue.drain(None).requests.len(), 4);
        let answer = |bytes| Report { task: 1, attempt: 1, end: AttemptEnd::Lost, bytes, _claim: Arc::default() };
        for _ in 0..10 {
            queue.report(answer(1024 * 1024));
        }
        let drained = queue.drain(None);
        assert_eq!((drained.reports.len(), drained.requests.len()), (4, 0), "reports count, and go before requests");
    }

    #[test]
    fn after_shutdown_nothing_is_taken() {
        let queue = Queue::new(QueueLimits { operations: 1, bytes: 1000 });
        queue.shutdown();
        assert_eq!(queue.submit(cancel("")).unwrap_err(), EngineError::Stopping);
        assert!(queue.drain(None).shutdown);
    }
}
