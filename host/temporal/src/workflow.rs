//! The workflow type: one loop between Temporal and the interpreter.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use compozy_engine::attempt::too_large;
use compozy_engine::limits as engine_limits;
use compozy_engine::vault::Vault;
use compozy_interpreter::{Command, Event, Failure, Status, TaskKey};
use serde_json::Value;
use temporalio_sdk::workflows::select;
use temporalio_sdk::{
    ApplicationFailure, ContinueAsNewOptions, SyncWorkflowContext, TimerOptions, WorkflowCancellationToken,
    WorkflowContext, WorkflowContextView, WorkflowResult, WorkflowTermination,
};
use temporalio_workflow::{workflow, workflow_methods};

use crate::driver::Driver;
use crate::eager::Places;
use crate::limits::{JOURNAL_PAGE_BYTES_MAX, JOURNAL_PAGE_MAX, TASKS_SHOWN_MAX};
use crate::message::{Carry, ControlMessage, Ending, GraceQuestion, JournalQuestion, StartInput};
use crate::names::{ATTRIBUTE_STATUS, WORKFLOW_TYPE};
use crate::packed::Packed;
use crate::pending::{Awaited, Close, Done, Pending, until};
use crate::start::{self, waited};

/// What all runs of a worker share. Nothing in it changes what a run does.
pub(crate) struct Shared {
    pub(crate) vault: Arc<Vault>,
    pub(crate) project: String,
    /// A worker that says nothing for this long is taken for dead.
    pub(crate) lost_after: Duration,
    /// Events of a history after which a run goes on in a new one.
    pub(crate) history_events: u32,
    /// What this process does itself.
    pub(crate) places: Arc<Places>,
}

/// A run on a worker.
#[workflow]
pub(crate) struct Run {
    pub(crate) shared: Arc<Shared>,
    /// `None` until its input was read.
    pub(crate) driver: Option<Driver>,
    /// What was said to it and has not been looked at.
    pub(crate) inbox: VecDeque<ControlMessage>,
    /// Activities whose answer is wanted; a time for those that were asked to end by then, in milliseconds since 1970.
    pub(crate) wanted: BTreeMap<TaskKey, Option<u64>>,
}

impl Run {
    /// A run that has not begun.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, driver: None, inbox: VecDeque::new(), wanted: BTreeMap::new() }
    }

    fn answer<T: serde::Serialize>(&self, look: impl FnOnce(&Driver) -> T) -> Result<Packed, Unanswered> {
        let driver = self.driver.as_ref().ok_or("the run has not begun")?;
        Ok(Packed::pack(&look(driver), &self.shared.vault)?)
    }
}

/// Why a query has no answer, as the library takes it.
type Unanswered = Box<dyn std::error::Error + Send + Sync>;

#[expect(clippy::needless_pass_by_value, reason = "the library hands the questions of queries over")]
#[workflow_methods(factory_only)]
impl Run {
    #[run(name = WORKFLOW_TYPE)]
    pub(crate) async fn run(ctx: &mut WorkflowContext<Self>, input: StartInput) -> WorkflowResult<Value> {
        let vault = ctx.state(|run| run.shared.vault.of(&input.execution.0));
        let mut machine = Machine {
            ctx: ctx.clone(),
            pending: Pending::default(),
            input,
            vault,
            deferred: VecDeque::new(),
            bytes: 0,
            known_bytes: 0,
            kept: 0,
        };
        machine.run().await
    }

    #[signal(name = "control")]
    pub(crate) fn control(&mut self, _ctx: &mut SyncWorkflowContext<Self>, message: ControlMessage) {
        self.inbox.push_back(message);
    }

    #[query(name = "state")]
    pub(crate) fn state(&self, _ctx: &WorkflowContextView) -> Result<Packed, Unanswered> {
        self.answer(Driver::reply)
    }

    #[query(name = "journal")]
    pub(crate) fn journal(&self, _ctx: &WorkflowContextView, question: JournalQuestion) -> Result<Packed, Unanswered> {
        let limit = question.limit.min(JOURNAL_PAGE_MAX);
        self.answer(|driver| driver.journal(question.after, limit, JOURNAL_PAGE_BYTES_MAX))
    }

    /// The definition's JSON, as a text.
    #[query(name = "definition")]
    pub(crate) fn definition(&self, _ctx: &WorkflowContextView) -> Result<Packed, Unanswered> {
        self.answer(Driver::plan_json)
    }

    /// The number of events so far. Whoever asks knows that everything that was said before was looked at.
    #[query(name = "progress")]
    pub(crate) fn progress(&self, _ctx: &WorkflowContextView) -> u64 {
        self.driver.as_ref().map_or(0, |driver| driver.book.seq)
    }

    /// How long an attempt of a task may still take, in milliseconds: `None` as long as it likes, 0 when nobody wants
    /// its answer. `now_ms` is the asker's clock.
    #[query(name = "grace")]
    pub(crate) fn grace(&self, _ctx: &WorkflowContextView, question: GraceQuestion) -> Option<u64> {
        let GraceQuestion { task, now_ms } = question;
        let over = self.driver.as_ref().is_some_and(|driver| driver.state.status.is_terminal());
        match self.wanted.get(&task) {
            Some(until) if !over => until.map(|until| until.saturating_sub(now_ms)),
            _ => Some(0),
        }
    }
}

/// A run between two polls.
pub(crate) struct Machine {
    pub(crate) ctx: WorkflowContext<Run>,
    pub(crate) pending: Pending,
    pub(crate) input: StartInput,
    /// As this run uses it.
    vault: Arc<Vault>,
    /// What begins when others have ended, or in the next history.
    pub(crate) deferred: VecDeque<Command>,
    /// What was given to all that began in this history, in bytes.
    pub(crate) bytes: u64,
    /// Bytes of the events before this history.
    pub(crate) known_bytes: u64,
    /// Tasks that were kept for this process since something last happened.
    pub(crate) kept: usize,
}

impl Machine {
    async fn run(&mut self) -> WorkflowResult<Value> {
        let mut events = match self.open() {
            Ok(events) => events,
            Err(error) => return Err(self.stuck(&error)),
        };
        loop {
            if let Err(error) = self.work_off(&mut events) {
                return Err(self.stuck(&error));
            }
            self.take_deferred(&mut events);
            if !events.is_empty() {
                continue;
            }
            if self.is_over() && !self.pending.must_wait() && self.ctx.state(|run| run.inbox.is_empty()) {
                return self.ending();
            }
            if self.history_is_due() {
                return Err(self.go_on_in_a_new_history());
            }
            self.publish();
            if let Err(error) = self.next(&mut events).await {
                return Err(self.stuck(&error));
            }
        }
    }

    /// Reads the input. Answers the first events.
    fn open(&mut self) -> Result<VecDeque<Event>, crate::driver::DriveError> {
        let now_ms = self.now_ms();
        let vault = self.vault();
        let (driver, deferred, then) = Driver::open(&self.input, &vault)?;
        let mut events = VecDeque::new();
        if self.input.carry.is_none() {
            let (execution_id, seed) = (self.input.execution.0.clone(), self.input.seed);
            events.push_back(Event::Started { now_ms, execution_id, seed, input: self.input.input.clone() });
        }
        if let Some(message) = then {
            events.extend(driver.event_of(message, now_ms, &vault)?);
        }
        let timers: Vec<(String, u64)> = driver.state.timers.iter().map(|(name, at)| (name.clone(), *at)).collect();
        self.known_bytes = driver.book.bytes;
        self.ctx.state_mut(|run| run.driver = Some(driver));
        for (name, fire_at_ms) in timers {
            if let Ok(timer) = name.parse() {
                self.start_timer(timer, fire_at_ms);
            }
        }
        for command in deferred {
            self.obey(command, &mut events);
        }
        Ok(events)
    }

    pub(crate) fn vault(&self) -> Arc<Vault> {
        Arc::clone(&self.vault)
    }

    /// Milliseconds since 1970, as Temporal's history has them.
    pub(crate) fn now_ms(&self) -> u64 {
        now_ms(&self.ctx)
    }

    pub(crate) fn driver<R>(&self, look: impl FnOnce(&Driver) -> R) -> R {
        self.ctx.state(|run| look(run.driver.as_ref().expect("the run was opened")))
    }

    fn driver_mut<R>(&self, change: impl FnOnce(&mut Driver) -> R) -> R {
        self.ctx.state_mut(|run| change(run.driver.as_mut().expect("the run was opened")))
    }

    fn apply(&self, event: Event) -> Result<Vec<Command>, crate::driver::DriveError> {
        let vault = self.vault();
        self.driver_mut(|driver| driver.apply(event, &vault))
    }

    /// Applies events until none is left, and does what each of them asks for.
    fn work_off(&mut self, events: &mut VecDeque<Event>) -> Result<(), crate::driver::DriveError> {
        while let Some(event) = events.pop_front() {
            for command in self.apply(event)? {
                self.obey(command, events);
            }
        }
        Ok(())
    }

    pub(crate) fn is_over(&self) -> bool {
        self.driver(|driver| driver.state.status.is_terminal())
    }

    /// `given`: the size of what a task is given, in bytes.
    pub(crate) fn carry_out(&mut self, command: Command, given: usize, events: &mut VecDeque<Event>) {
        match command {
            Command::ScheduleTask { task, tool, input, policy, dispatch } => {
                if given > engine_limits::PAYLOAD_BYTES_MAX {
                    let failure = too_large(&task.0, "input", given);
                    let now_ms = self.now_ms();
                    let failed = self.driver_mut(|driver| {
                        driver.scheduled(&task);
                        driver.task_ended(task, Err(failure), None, now_ms)
                    });
                    events.extend(failed);
                    return;
                }
                self.start_task(task, tool, input, policy, dispatch);
            }
            Command::CancelTask { task } => {
                self.ctx.state_mut(|run| run.wanted.remove(&task));
                self.pending.cancel(&Awaited::Task(task.clone()));
                self.pending.cancel(&Awaited::Sent(task.clone()));
                self.undefer(&task);
                self.close_children(Some(&task), 0, false);
            }
            Command::AskTaskToEnd { task, grace_ms } => {
                if self.undefer(&task) {
                    let now_ms = self.now_ms();
                    let failure = waited(&task);
                    events.extend(self.driver_mut(|driver| driver.task_ended(task, Err(failure), None, now_ms)));
                    return;
                }
                let until_ms = self.now_ms().saturating_add(grace_ms);
                if self.pending.ask(&Awaited::Task(task.clone())) {
                    self.ctx.state_mut(|run| run.wanted.insert(task.clone(), Some(until_ms)));
                }
                self.close_children(Some(&task), grace_ms, true);
            }
            Command::StartTimer { timer, fire_at_ms } => {
                self.pending.cancel(&Awaited::Timer(timer.clone()));
                self.start_timer(timer, fire_at_ms);
            }
            Command::CancelTimer { timer } => self.pending.cancel(&Awaited::Timer(timer)),
            Command::StartChild { task, workflow, input, parent_close } => {
                self.start_child(task, workflow, input, parent_close);
            }
            Command::SendSignal { task, to, signal } => self.send_signal(task, to, signal),
            Command::Finish => self.close_children(None, 0, false),
        }
    }

    fn close_children(&mut self, only: Option<&TaskKey>, grace_ms: u64, asked: bool) {
        for task in self.pending.children(only) {
            if let Some(Close::Tell(id, message)) = self.pending.close_child(&task, grace_ms, asked) {
                self.tell(&id, message);
            }
        }
    }

    fn start_timer(&mut self, timer: compozy_interpreter::Timer, fire_at_ms: u64) {
        let token = WorkflowCancellationToken::new();
        let options = TimerOptions::builder(until(fire_at_ms, self.now_ms()))
            .cancellation_token(token.clone())
            .summary(timer.to_string())
            .build();
        let (ctx, ended) = (self.ctx.clone(), timer.clone());
        let future = Box::pin(async move {
            match ctx.timer(options).await {
                temporalio_sdk::TimerResult::Fired => Done::Timer(ended),
                temporalio_sdk::TimerResult::Cancelled => Done::Nothing,
            }
        });
        self.pending.add(Awaited::Timer(timer), token, future);
    }

    /// Waits for the next thing to happen, and answers it as events.
    async fn next(&mut self, events: &mut VecDeque<Event>) -> Result<(), crate::driver::DriveError> {
        let ctx = self.ctx.clone();
        let root = ctx.cancellation_token();
        let already = self.driver(|driver| driver.state.canceling.is_some() || driver.state.status.is_terminal());
        let happened = {
            let mut said = Box::pin(ctx.wait_condition(|run| !run.inbox.is_empty()));
            let mut done = Box::pin(futures_util::FutureExt::fuse(self.pending.next()));
            if root.is_cancelled() {
                select! {
                    (wanted, done) = done => Happened::Done(wanted, done),
                    _ = futures_util::FutureExt::fuse(&mut said) => Happened::Said,
                }
            } else {
                select! {
                    (wanted, done) = done => Happened::Done(wanted, done),
                    _ = futures_util::FutureExt::fuse(&mut said) => Happened::Said,
                    reason = ctx.cancelled() => Happened::Canceled(reason),
                }
            }
        };
        self.kept = 0;
        let vault = self.vault();
        let now_ms = self.now_ms();
        match happened {
            Happened::Done(true, done) => events.extend(self.ended(done)),
            Happened::Done(false, _) => {}
            Happened::Said => {
                let messages: Vec<ControlMessage> = ctx.state_mut(|run| run.inbox.drain(..).collect());
                // Each is judged after the ones before it have had their effect.
                for message in messages {
                    let event = self.driver(|driver| driver.event_of(message, now_ms, &vault))?;
                    let mut follow: VecDeque<Event> = event.into_iter().collect();
                    self.work_off(&mut follow)?;
                }
            }
            Happened::Canceled(_) if already => {}
            Happened::Canceled(reason) => {
                let reason = reason.filter(|reason| !reason.is_empty());
                let reason = reason.unwrap_or_else(|| "cancelled in Temporal".to_owned());
                let message = ControlMessage::Cancel { reason, grace_ms: engine_limits::CANCEL_GRACE_MS_DEFAULT };
                events.extend(self.driver(|driver| driver.event_of(message, now_ms, &vault))?);
            }
        }
        Ok(())
    }

    /// The event of something that ended.
    fn ended(&mut self, done: Done) -> Option<Event> {
        let now_ms = self.now_ms();
        match done {
            Done::Task { task, policy, result } => {
                self.ctx.state_mut(|run| run.wanted.remove(&task));
                let (result, record) = start::task_result(&task, &policy, *result);
                self.driver_mut(|driver| driver.task_ended(task, result, record, now_ms))
            }
            Done::Timer(timer) => {
                let due_ms = self.driver(|driver| driver.state.timers.get(&timer.to_string()).copied());
                // The server's clock may be a little behind: never early.
                due_ms.map(|due_ms| Event::TimerFired {
                    now_ms: self.driver(|driver| driver.event_time(now_ms.max(due_ms))),
                    timer,
                })
            }
            Done::Child { task, result } | Done::Sent { task, result } => {
                self.driver_mut(|driver| driver.task_ended(task, result, None, now_ms))
            }
            Done::Nothing => None,
        }
    }

    /// Tells Temporal's own pages and searches how the run stands, where they do not know it: in a straight run never.
    fn publish(&self) {
        let (status, details) = self.driver(|driver| (driver.state.status, driver.details(TASKS_SHOWN_MAX)));
        self.ctx.set_current_details(details);
        if !status.is_terminal()
            && self.ctx.search_attributes().get(&ATTRIBUTE_STATUS).as_deref() != Some(status.name())
        {
            self.ctx.upsert_search_attributes([ATTRIBUTE_STATUS.value_set(status.name().to_owned())]);
        }
    }

    fn go_on_in_a_new_history(&self) -> WorkflowTermination {
        let carried = self.driver(|driver| driver.carry(self.ctx.run_id(), self.deferred.iter().cloned().collect()));
        let run = match Packed::pack(&carried, &self.vault()) {
            Ok(run) => run,
            Err(error) => return self.stuck(&error),
        };
        let mut input = self.input.clone();
        input.carry = Some(Carry { run, then: None });
        // What the run was told in the beginning is in its state.
        input.input = Value::Null;
        match self.ctx.continue_as_new(input, ContinueAsNewOptions::default()) {
            Err(termination) => termination,
            Ok(never) => match never {},
        }
    }

    /// How the run ended, as Temporal knows it.
    fn ending(&self) -> WorkflowResult<Value> {
        let (ending, output) = self.driver(|driver| {
            let state = &driver.state;
            (Ending { status: state.status, failure: state.failure.clone() }, state.output.clone())
        });
        if ending.status == Status::TimedOut {
            self.ctx.upsert_search_attributes([ATTRIBUTE_STATUS.value_set(ending.status.name().to_owned())]);
        }
        match ending.status {
            Status::Success => {
                let output = output.unwrap_or(Value::Null);
                self.hand_to_parent(&output)?;
                Ok(output)
            }
            Status::Canceled => Err(WorkflowTermination::cancelled_with_details(ending)),
            _ => {
                let failure =
                    ending.failure.clone().unwrap_or_else(|| Failure::permanent("FAILED", "without a reason"));
                let failed = ApplicationFailure::builder(failure.message)
                    .type_name(failure.code)
                    .non_retryable(true)
                    .details(temporalio_common::error::FailurePayloads::from(ending))
                    .build();
                Err(failed.into())
            }
        }
    }

    /// The parent refers to the output as soon as it reads it, which may be long after this run is gone.
    fn hand_to_parent(&self, output: &Value) -> Result<(), WorkflowTermination> {
        // A replay comes after it was done.
        let Some(parent) = self.input.parent.as_ref().filter(|_| !self.ctx.is_replaying()) else { return Ok(()) };
        self.vault.of(&parent.0).record(output).map_err(|error| self.stuck(&error))
    }

    /// The workflow task fails and is tried again by the server: the blob store may be back then.
    fn stuck(&self, error: &dyn std::fmt::Display) -> WorkflowTermination {
        let (execution, error) = (self.input.execution.0.as_str(), error.to_string());
        if !self.ctx.is_replaying() {
            tracing::warn!(execution, error, "a run cannot go on now; the server tries again");
        }
        self.ctx.force_task_fail(error);
        WorkflowTermination::Evicted
    }
}

/// Milliseconds since 1970, as Temporal's history has them.
pub(crate) fn now_ms(ctx: &WorkflowContext<Run>) -> u64 {
    let since = ctx.workflow_time().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

enum Happened {
    Done(bool, Done),
    Said,
    Canceled(Option<String>),
}
