//! What a run waits for, in the order in which it began: activities, timers, child workflows, signals under way.
//!
//! One loop polls all of it in that order, so that a replay sees the same order. What is not wanted any more stays until
//! it ends, and nobody looks at its answer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use compozy_engine::port::ExecutionId;
use compozy_interpreter::{Failure, TaskKey, Timer};
use compozy_plan::plan::{ParentClose, TaskPolicy};
use futures_util::future::LocalBoxFuture;
use serde_json::Value;
use temporalio_sdk::WorkflowCancellationToken;

use crate::message::{ControlMessage, Delivered, TaskOutput};

/// What an activity answered.
pub(crate) type TaskResult = Result<TaskOutput, temporalio_sdk::ActivityExecutionError>;

/// What came to an end.
pub(crate) enum Done {
    /// An activity.
    Task { task: TaskKey, policy: TaskPolicy, result: Box<TaskResult> },
    /// A timer.
    Timer(Timer),
    /// A child run.
    Child { task: TaskKey, result: Result<Value, Failure> },
    /// A signal that a task sent.
    Sent { task: TaskKey, result: Delivered },
    /// Something that nobody waits for.
    Nothing,
}

/// What somebody waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Awaited {
    Task(TaskKey),
    Timer(Timer),
    Child(TaskKey),
    Sent(TaskKey),
    /// The end of a message to a child. The run does not close before it.
    Told,
}

/// A child run, as it and whoever closes it know it.
#[derive(Debug, Default)]
pub(crate) struct ChildLink {
    pub(crate) id: Option<ExecutionId>,
    pub(crate) phase: ChildPhase,
    /// Said to it as soon as it has begun.
    pub(crate) close: Option<ControlMessage>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChildPhase {
    /// Its definition is looked for.
    #[default]
    Finding,
    /// Temporal has been told to begin it.
    Starting,
    /// It has begun.
    Running,
}

struct Item {
    what: Awaited,
    wanted: bool,
    /// It was polled, so Temporal may know of it.
    begun: bool,
    /// What it was given, in bytes.
    bytes: usize,
    token: WorkflowCancellationToken,
    child: Option<(ParentClose, Rc<RefCell<ChildLink>>)>,
    future: LocalBoxFuture<'static, Done>,
}

/// All that a run waits for.
#[derive(Default)]
pub(crate) struct Pending {
    items: Vec<Item>,
}

/// How a child that is not wanted any more can be told so.
pub(crate) enum Close {
    /// It has not begun, or will be told as soon as it has.
    Later,
    /// It has begun.
    Tell(ExecutionId, ControlMessage),
}

impl Pending {
    pub(crate) fn add(
        &mut self,
        what: Awaited,
        token: WorkflowCancellationToken,
        future: LocalBoxFuture<'static, Done>,
    ) {
        self.items.push(Item { what, wanted: true, begun: false, bytes: 0, token, child: None, future });
    }

    pub(crate) fn add_child(
        &mut self,
        task: TaskKey,
        close: ParentClose,
        link: Rc<RefCell<ChildLink>>,
        future: LocalBoxFuture<'static, Done>,
    ) {
        let (what, token) = (Awaited::Child(task), WorkflowCancellationToken::new());
        let child = Some((close, link));
        self.items.push(Item { what, wanted: true, begun: false, bytes: 0, token, child, future });
    }

    fn wanted(&mut self, what: &Awaited) -> Option<&mut Item> {
        self.items.iter_mut().find(|item| item.wanted && item.what == *what)
    }

    /// Whether something is under way that another history could not go on with. Timers it can.
    pub(crate) fn is_busy(&self) -> bool {
        self.items.iter().any(|item| !matches!(item.what, Awaited::Timer(_)))
    }

    /// How many things are under way, without timers, and what they were given, in bytes.
    pub(crate) fn under_way(&self) -> (usize, usize) {
        let items = self.items.iter().filter(|item| !matches!(item.what, Awaited::Timer(_)));
        items.fold((0, 0), |(count, bytes), item| (count + 1, bytes + item.bytes))
    }

    /// What was added last was given so much, in bytes.
    pub(crate) fn weigh_last(&mut self, bytes: usize) {
        if let Some(item) = self.items.last_mut() {
            item.bytes = bytes;
        }
    }

    /// Whether the run must still wait before it closes.
    pub(crate) fn must_wait(&self) -> bool {
        self.items.iter().any(|item| {
            let starting = |(_, link): &(ParentClose, Rc<RefCell<ChildLink>>)| {
                link.borrow().phase == ChildPhase::Starting && link.borrow().close.is_some()
            };
            item.what == Awaited::Told || item.child.as_ref().is_some_and(starting)
        })
    }

    /// The activity, and its answer, are not wanted any more.
    pub(crate) fn cancel(&mut self, what: &Awaited) {
        if let Some(item) = self.wanted(what) {
            item.wanted = false;
            item.token.cancel();
        }
        // Temporal need not know of what was not wanted before it began.
        self.items.retain(|item| item.wanted || item.begun || item.what != *what);
    }

    /// The activity is to end, and its answer is wanted.
    pub(crate) fn ask(&mut self, what: &Awaited) -> bool {
        let item = self.wanted(what);
        if let Some(item) = &item {
            item.token.cancel();
        }
        item.is_some()
    }

    /// The children that are open: of one task, or all.
    pub(crate) fn children(&self, only: Option<&TaskKey>) -> Vec<TaskKey> {
        let open = self.items.iter().filter(|item| item.wanted && item.child.is_some());
        let keys = open.filter_map(|item| match &item.what {
            Awaited::Child(key) if only.is_none_or(|only| only == key) => Some(key.clone()),
            _ => None,
        });
        keys.collect()
    }

    /// What a child is told that is not wanted any more, as its parent's close policy says; `None` lets it go on.
    pub(crate) fn close_child(&mut self, task: &TaskKey, grace_ms: u64, asked: bool) -> Option<Close> {
        let item = self.wanted(&Awaited::Child(task.clone()))?;
        let (policy, link) = item.child.clone()?;
        let reason = "the run that it is a part of wants it no more".to_owned();
        // One that is asked to end still has an answer to give.
        item.wanted = asked;
        let message = match policy {
            _ if asked => ControlMessage::Cancel { reason, grace_ms },
            ParentClose::Abandon => return None,
            ParentClose::Terminate => ControlMessage::Terminate { reason },
            ParentClose::Cancel => ControlMessage::Cancel { reason, grace_ms },
        };
        let mut link = link.borrow_mut();
        if let (ChildPhase::Running, Some(id)) = (link.phase, link.id.clone()) {
            return Some(Close::Tell(id, message));
        }
        link.close = Some(message);
        Some(Close::Later)
    }

    /// The next of them that ends, and whether somebody wants to know.
    pub(crate) async fn next(&mut self) -> (bool, Done) {
        poll_fn(|cx| {
            for at in 0..self.items.len() {
                self.items[at].begun = true;
                if let Poll::Ready(done) = self.items[at].future.as_mut().poll(cx) {
                    let item = self.items.remove(at);
                    return Poll::Ready((item.wanted, done));
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// The time from now to a moment, in the server's unit: at least one millisecond, since no timer fires early.
pub(crate) fn until(fire_at_ms: u64, now_ms: u64) -> Duration {
    Duration::from_millis(fire_at_ms.saturating_sub(now_ms).max(1))
}
