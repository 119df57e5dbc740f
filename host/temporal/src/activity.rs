//! One attempt of a task on a tool worker: the same bounds, judgement and large values as in the embedded engine.
//!
//! - The attempt says that it lives all the time; when it does not, its worker is taken for dead and another begins it
//!   again. What it counts (attempts that failed) goes with the heartbeat to the next one.
//! - A wish to end comes with the answer to a heartbeat. How long the attempt may still take the run is asked.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use compozy_engine::attempt::{self, Verdict, attempt_bound, judge, timed_out};
use compozy_engine::port::{ExecutionId, Notice, Signs, TaskCall, TaskExecutor, TaskRecord, TaskReport};
use compozy_engine::vault::Vault;
use compozy_engine::{Clock as _, SystemClock};
use compozy_interpreter::{Failure, TaskKey, Timeout};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use temporalio_client::{Client, WorkflowQueryOptions};
use temporalio_sdk::ApplicationFailure;
use temporalio_sdk::activities::{
    ActivityContext, ActivityDefinitions, ActivityError, ActivityImplementer, ExecutableActivity,
};
use tokio::runtime::Handle;
use tokio::sync::broadcast;

use crate::eager::{NoPlace, Places};
use crate::limits::GRACE_POLL;
use crate::message::{GraceQuestion, NotHere, Progress, TaskFailed, TaskInput, TaskOutput};
use crate::names::NOT_HERE;
use crate::slots::{Slots, take_all};
use crate::start::TaskActivity;
use crate::workflow::Run;

/// When a task that found no place is tried again.
const NO_PLACE_RETRY: Duration = Duration::from_millis(200);

/// What runs tasks on a tool worker.
#[derive(Clone)]
pub(crate) struct Tools {
    pub(crate) executor: Arc<dyn TaskExecutor>,
    pub(crate) vault: Arc<Vault>,
    /// Where guests run.
    pub(crate) guests: Handle,
    pub(crate) slots: Arc<dyn Slots>,
    pub(crate) notices: broadcast::Sender<Notice>,
    pub(crate) running: Arc<std::sync::atomic::AtomicU64>,
    pub(crate) heartbeat_every: Duration,
    /// True once the worker has no more time: its attempts are begun again elsewhere.
    pub(crate) over: tokio::sync::watch::Receiver<bool>,
    /// What this process runs tasks of.
    pub(crate) places: Arc<Places>,
    /// These are tasks that runs kept for the process that drives them, and not those of a plugin's queue.
    pub(crate) kept: bool,
}

impl ActivityImplementer for Tools {
    fn register_all(self: Arc<Self>, definitions: &mut ActivityDefinitions) {
        definitions.register_activity::<TaskActivity>(self);
    }
}

impl ExecutableActivity for TaskActivity {
    type Implementer = Tools;
    const REQUIRES_INSTANCE: bool = true;

    fn definition() -> Self {
        Self
    }

    fn execute(
        tools: Option<Arc<Tools>>,
        ctx: ActivityContext,
        input: TaskInput,
    ) -> BoxFuture<'static, Result<TaskOutput, ActivityError>> {
        let tools = tools.expect("the worker registers the activity with its tools");
        async move { Attempt::new(tools, ctx, input).run().await }.boxed()
    }
}

/// How the work of an attempt ended.
enum Worked {
    /// It answered, or its time was over.
    Reported(Box<TaskReport>),
    /// Nobody wants its answer.
    Dropped,
    /// The worker stops: somebody else begins it again.
    Stopped,
}

struct Attempt {
    tools: Arc<Tools>,
    ctx: ActivityContext,
    input: TaskInput,
    progress: Progress,
    scheduled_ms: u64,
    deadline_ms: Option<u64>,
    started_at_ms: u64,
}

impl Attempt {
    fn new(tools: Arc<Tools>, ctx: ActivityContext, mut input: TaskInput) -> Self {
        let (waited_ms, earlier) =
            input.before.take().map(|before| (before.waited_ms, before.progress)).unwrap_or_default();
        let begun_earlier = earlier.attempt;
        let before: Progress = ctx.heartbeat_details().deserialize().ok().flatten().unwrap_or(earlier);
        let attempt = ctx.info().attempt.saturating_sub(before.skipped).max(1) + begun_earlier;
        let progress = Progress { attempt, detail: String::new(), ..before };
        let scheduled_ms = ctx.info().scheduled_time.map_or_else(now_ms, ms).saturating_sub(waited_ms);
        let deadline_ms = input.policy.schedule_to_close_ms.map(|bound| scheduled_ms.saturating_add(bound));
        Self { tools, ctx, input, progress, scheduled_ms, deadline_ms, started_at_ms: now_ms() }
    }

    async fn run(mut self) -> Result<TaskOutput, ActivityError> {
        let (plugin, places) = (&self.input.tool.plugin, &self.tools.places);
        let at_once = places.take_now(plugin);
        let waits = at_once.is_err() && !self.tools.kept;
        let _place = match if waits { places.take(plugin).await } else { at_once } {
            Ok(place) => place,
            Err(reason) if self.tools.kept => return Err(self.not_here(reason)),
            Err(_) => {
                let reason = format!("all places of plugin `{plugin}` are taken");
                return Err(self.no_place(reason).await);
            }
        };
        self.started_at_ms = now_ms();
        let Some((limit_ms, bound)) = attempt_bound(&self.input.policy, self.deadline_ms, now_ms()) else {
            let (task, attempt) = (&self.input.task.0, self.progress.attempt);
            let failure = timed_out(task, attempt, &self.input.policy, Timeout::ScheduleToClose);
            return Err(self.failed(failure, None));
        };
        // A place that is free by now may come too late.
        if (waits || self.progress.skipped > 0) && self.may_still_wait_ms() == Some(0) {
            return Err(self.waited_too_long());
        }
        let places = match take_all(self.tools.slots.as_ref(), &self.input.slots).await {
            Ok(Some(places)) => places,
            Ok(None) => return Err(self.no_place("all places are taken".to_owned()).await),
            Err(failure) => return Err(self.no_place(failure.message).await),
        };
        self.tell(|id, task, attempt| Notice::AttemptStarted { id, task, attempt });
        let signs = self.signs();
        let worked = self.work(signs.clone(), Duration::from_millis(limit_ms), bound).await;
        drop(places);
        let TaskReport { result, ran } = match worked {
            Worked::Reported(report) => *report,
            Worked::Dropped => return Err(ActivityError::cancelled()),
            Worked::Stopped => {
                let stopped = "the worker stopped before the task ended".to_owned();
                return Err(self.again("WORKER_STOPPED", stopped, Duration::ZERO).await);
            }
        };
        let (policy, failed, asked) = (&self.input.policy, self.progress.failed, signs.asked_to_end());
        match judge(&self.input.task.0, policy, self.input.seed, failed, self.deadline_ms, now_ms(), result) {
            Verdict::Completed(output) => Ok(TaskOutput { output, record: self.record(ran, None) }),
            // A run that is about to end begins nothing more.
            Verdict::Retry { failure, .. } if asked => Err(self.failed(failure, ran)),
            Verdict::Failed(failure) => Err(self.failed(failure, ran)),
            Verdict::Retry { failure, wait_ms } => Err(self.retry(failure, wait_ms).await),
        }
    }

    /// How long the first attempt may still wait for its beginning, in milliseconds; `None` when there is no such bound.
    fn may_still_wait_ms(&self) -> Option<u64> {
        let bound_ms = self.input.policy.schedule_to_start_ms.filter(|_| self.progress.attempt == 1)?;
        Some(bound_ms.saturating_sub(now_ms().saturating_sub(self.scheduled_ms)))
    }

    fn waited_too_long(mut self) -> ActivityError {
        self.progress.attempt = 0;
        let failure = timed_out(&self.input.task.0, 0, &self.input.policy, Timeout::ScheduleToStart);
        self.failed(failure, None)
    }

    /// The attempt does not begin. It is tried again soon, as long as it may wait for its beginning.
    async fn no_place(mut self, reason: String) -> ActivityError {
        let wait = match self.may_still_wait_ms() {
            Some(0) => return self.waited_too_long(),
            Some(left_ms) => NO_PLACE_RETRY.min(Duration::from_millis(left_ms)),
            None => NO_PLACE_RETRY,
        };
        self.progress.skipped += 1;
        self.again("NO_PLACE", reason, wait).await
    }

    /// The run is to give the task to the plugin's queue.
    fn not_here(mut self, reason: NoPlace) -> ActivityError {
        // This one did not begin, and those that did not are not counted there.
        self.progress.attempt -= 1;
        self.progress.skipped = 0;
        let details = NotHere { served: reason == NoPlace::Full, progress: self.progress };
        let failed = ApplicationFailure::builder("this process cannot do the task now".to_owned())
            .type_name(NOT_HERE.to_owned())
            .non_retryable(true)
            .details(temporalio_common::error::FailurePayloads::from(details))
            .build();
        ActivityError::application(failed)
    }

    /// What an attempt and whoever watches it tell each other.
    fn signs(&self) -> Signs {
        let (notices, id, task, attempt) = (
            self.tools.notices.clone(),
            self.input.execution.clone(),
            self.input.task.0.clone(),
            self.progress.attempt,
        );
        Signs::heard_by(move |detail| {
            let (id, task, detail) = (id.clone(), task.clone(), detail.to_owned());
            drop(notices.send(Notice::Heartbeat { id, task, attempt, detail }));
        })
    }

    /// Runs the work where guests run, and says all the time that it lives.
    async fn work(&mut self, signs: Signs, timeout: Duration, bound: Timeout) -> Worked {
        let call = TaskCall {
            execution: self.input.execution.clone(),
            task: self.input.task.0.clone(),
            tool: self.input.tool.clone(),
            pin: self.input.pin.clone(),
            input: std::mem::take(&mut self.input.input),
            idempotency_key: format!("{}/{}", self.input.execution, self.input.task),
            attempt: self.progress.attempt,
            timeout,
            signs: signs.clone(),
        };
        let (executor, policy, vault, guests) = (
            Arc::clone(&self.tools.executor),
            self.input.policy.clone(),
            self.tools.vault.of(&self.input.execution.0),
            self.tools.guests.clone(),
        );
        let _running = Running::new(&self.tools.running);
        let mut work = AbortOnDrop(
            self.tools
                .guests
                .spawn(async move { attempt::run(executor, call, &policy, bound, &vault, &guests).await.0 }),
        );
        let every = self.tools.heartbeat_every;
        let mut beat = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
        let mut stopping = self.tools.over.clone();
        let grace = Grace::new(&self.ctx, &self.input.task);
        let mut over = std::pin::pin!(grace.over(&signs));
        loop {
            tokio::select! {
                biased;
                ended = &mut work.0 => return match ended {
                    Ok(report) => Worked::Reported(Box::new(report)),
                    // The runtime of the guests has ended.
                    Err(_) => Worked::Stopped,
                },
                () = &mut over => return Worked::Dropped,
                () = stopped(&mut stopping) => return Worked::Stopped,
                _ = beat.tick() => drop(self.ctx.record_heartbeat(self.progress.clone()).await),
            }
        }
    }

    fn record(&self, ran: Option<compozy_engine::port::Ran>, failure: Option<&Failure>) -> TaskRecord {
        TaskRecord {
            attempts: self.progress.attempt,
            ran,
            started_at_ms: Some(self.started_at_ms),
            ended_at_ms: Some(now_ms()),
            next_attempt_at_ms: None,
            last_failure: failure.map(text).or_else(|| self.progress.last_failure.clone()),
        }
    }

    /// The task failed for good.
    fn failed(&self, failure: Failure, ran: Option<compozy_engine::port::Ran>) -> ActivityError {
        let record = self.record(ran, Some(&failure));
        let failed = ApplicationFailure::builder(failure.message.clone())
            .type_name(failure.code.clone())
            .non_retryable(true)
            .details(temporalio_common::error::FailurePayloads::from(TaskFailed { failure, record }))
            .build();
        ActivityError::application(failed)
    }

    /// Another attempt follows.
    async fn retry(mut self, failure: Failure, wait_ms: u64) -> ActivityError {
        self.progress.failed = self.progress.failed.saturating_add(1);
        self.progress.last_failure = Some(text(&failure));
        let told = failure.clone();
        self.tell(|id, task, attempt| Notice::AttemptFailed { id, task, attempt, failure: told, retry_in_ms: wait_ms });
        self.again(&failure.code, failure.message, Duration::from_millis(wait_ms)).await
    }

    async fn again(&self, code: &str, message: String, wait: Duration) -> ActivityError {
        drop(self.ctx.record_heartbeat(self.progress.clone()).await);
        let failed = ApplicationFailure::builder(message)
            .type_name(code.to_owned())
            // A wait of nothing would mean that the server chooses.
            .next_retry_delay(wait.max(Duration::from_millis(1)))
            .build();
        ActivityError::application(failed)
    }

    fn tell(&self, notice: impl FnOnce(ExecutionId, String, u32) -> Notice) {
        if self.tools.notices.receiver_count() > 0 {
            let (id, task) = (self.input.execution.clone(), self.input.task.0.clone());
            drop(self.tools.notices.send(notice(id, task, self.progress.attempt)));
        }
    }
}

/// How long an attempt may still take once somebody wanted it to end.
struct Grace {
    ctx: ActivityContext,
    client: Client,
    task: TaskKey,
}

impl Grace {
    fn new(ctx: &ActivityContext, task: &TaskKey) -> Self {
        Self { ctx: ctx.clone(), client: ctx.client(), task: task.clone() }
    }

    /// Waits until the attempt's time is over because somebody wanted it to end. Asks it to end by itself before, if it
    /// has time for that.
    async fn over(&self, signs: &Signs) {
        self.ctx.cancelled().await;
        loop {
            match self.left_ms().await {
                // The run has ended, or wants it no more; or its worker stops, and it is begun again elsewhere.
                None | Some(0) => return,
                Some(left_ms) => {
                    signs.ask_to_end();
                    tokio::time::sleep(GRACE_POLL.min(Duration::from_millis(left_ms))).await;
                }
            }
        }
    }

    /// `None` when nobody asked the attempt to end: then it is the worker that stops.
    async fn left_ms(&self) -> Option<u64> {
        let id = self.ctx.info().workflow_id.clone()?;
        let handle = self.client.get_workflow_handle::<Run>(&id);
        let question = GraceQuestion { task: self.task.clone(), now_ms: now_ms() };
        match Box::pin(handle.query(Run::grace, question, WorkflowQueryOptions::default())).await {
            Ok(left_ms) => left_ms,
            Err(error) => {
                tracing::debug!(execution = id, task = %self.task, %error, "a run does not say how long a task may take");
                Some(0)
            }
        }
    }
}

async fn stopped(over: &mut tokio::sync::watch::Receiver<bool>) {
    // Whoever could say so is gone: the worker has ended.
    drop(over.wait_for(|over| *over).await);
}

/// Ends the work when the attempt is dropped.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Counts an attempt while it runs.
struct Running(Arc<std::sync::atomic::AtomicU64>);

impl Running {
    fn new(count: &Arc<std::sync::atomic::AtomicU64>) -> Self {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

fn text(failure: &Failure) -> String {
    format!("{}: {}", failure.code, failure.message)
}

fn ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn now_ms() -> u64 {
    SystemClock.now_ms()
}
