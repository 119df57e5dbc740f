//! How commands begin: tasks as activities, children as workflows, signals through an activity. And what their ends
//! mean to the run.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use compozy_engine::attempt::timed_out;
use compozy_engine::limits as engine_limits;
use compozy_engine::port::{ExecutionId, TaskRecord};
use compozy_interpreter::{Dispatch, Failure, Signal, TaskKey, Timeout};
use compozy_plan::plan::{ParentClose, TaskPolicy, Tool};
use serde_json::{Value, json};
use temporalio_common::error::{
    ActivityExecutionError, ChildWorkflowExecutionError, ChildWorkflowStartError, IncomingError, TimeoutType,
};
use temporalio_common::search_attributes::SearchAttributes;
use temporalio_common::{ActivityCloseTimeouts, ActivityDefinition, Priority, RetryPolicy};
use temporalio_sdk::{
    ActivityCancellationType, ActivityOptions, ChildWorkflowOptions, LocalActivityOptions, ParentClosePolicy,
    SignalWorkflowOptions, WorkflowCancellationToken, WorkflowContext,
};

use crate::eager::KEPT_MAX;
use crate::limits::{BACKSTOP, DELIVER_TRY, LOCAL_TRY, LOST_RETRY};
use crate::message::{
    Before, ControlMessage, Deliver, Delivered, Ending, FindWorkflow, FoundWorkflow, NotHere, Progress, StartInput,
    TaskFailed, TaskInput, TaskOutput,
};
use crate::names::{
    ATTRIBUTE_DEFINITION, ATTRIBUTE_STATUS, ATTRIBUTE_WORKFLOW, DELIVER, ENDING, FIND_WORKFLOW, NOT_HERE, TASK,
    tool_queue,
};
use crate::pending::{Awaited, ChildLink, ChildPhase, Done, TaskResult};
use crate::workflow::{Machine, Run, Shared, now_ms};

/// The activity that runs an attempt.
pub(crate) struct TaskActivity;

impl ActivityDefinition for TaskActivity {
    type Input = TaskInput;
    type Output = TaskOutput;
    fn name(&self) -> &str {
        TASK
    }
}

/// The local activity that finds the definition of a child.
pub(crate) struct FindActivity;

impl ActivityDefinition for FindActivity {
    type Input = FindWorkflow;
    type Output = FoundWorkflow;
    fn name(&self) -> &str {
        FIND_WORKFLOW
    }
}

/// The local activity that says how a child ended.
pub(crate) struct EndingActivity;

impl ActivityDefinition for EndingActivity {
    type Input = ExecutionId;
    type Output = Option<Ending>;
    fn name(&self) -> &str {
        ENDING
    }
}

/// The activity that delivers a signal. Not a local one: it asks the receivers whether they take it, and one that is itself
/// in a workflow task, perhaps with a signal for this run, answers only after that.
pub(crate) struct DeliverActivity;

impl ActivityDefinition for DeliverActivity {
    type Input = Deliver;
    type Output = Delivered;
    fn name(&self) -> &str {
        DELIVER
    }
}

/// Retries without end: what a worker must not repeat it says itself, and an attempt that was lost with its worker is
/// always repeated.
fn always() -> RetryPolicy {
    let mut policy = RetryPolicy::default();
    policy.set_initial_interval(LOST_RETRY);
    policy.set_backoff_coefficient(2.0);
    policy.set_maximum_interval(Some(Duration::from_secs(5)));
    policy.set_maximum_attempts(0);
    policy
}

fn local() -> LocalActivityOptions {
    LocalActivityOptions::builder()
        .retry_policy(always())
        .start_to_close_timeout(LOCAL_TRY)
        .cancellation_token(WorkflowCancellationToken::new())
        .build()
}

impl Machine {
    /// Gives a task to the tool workers of its plugin.
    pub(crate) fn start_task(
        &mut self,
        task: TaskKey,
        tool: Tool,
        mut input: Value,
        policy: TaskPolicy,
        dispatch: Dispatch,
    ) {
        let vault = self.vault();
        if let Err(error) = vault.put_away(&mut input) {
            self.ctx.force_task_fail(error);
            return;
        }
        let (execution, seed, pin, priority) = self.ctx.state_mut(|run| {
            run.wanted.insert(task.clone(), None);
            let driver = run.driver.as_mut().expect("the run was opened");
            driver.scheduled(&task);
            let pin = driver.pins.get(&tool.plugin).cloned();
            (driver.execution.clone(), driver.state.seed, pin, driver.priority(dispatch.priority))
        });
        let summary = match &tool.action {
            Some(action) => format!("{task}: {}.{action}", tool.plugin),
            None => format!("{task}: {}", tool.plugin),
        };
        let shared = self.ctx.state(|run| Arc::clone(&run.shared));
        let kept = self.kept < KEPT_MAX && shared.places.keeps(&tool.plugin);
        self.kept += usize::from(kept);
        let token = WorkflowCancellationToken::new();
        let start = TaskStart {
            ctx: self.ctx.clone(),
            shared,
            call: TaskInput {
                execution,
                task: task.clone(),
                tool,
                pin,
                input,
                policy: policy.clone(),
                seed,
                slots: dispatch.slots,
                before: None,
            },
            token: token.clone(),
            summary,
            // Fairness between workflows, as in the embedded engine; a server without it looks at the priority alone.
            priority: Priority::builder()
                .priority_key(u32::from(priority))
                .fairness_key(self.input.workflow.clone())
                .build(),
        };
        let key = task.clone();
        let future = Box::pin(async move {
            let result = start.run(kept).await;
            Done::Task { task: key, policy, result: Box::new(result) }
        });
        self.pending.add(Awaited::Task(task), token, future);
    }

    /// Sends a signal, through a worker that can reach other runs.
    pub(crate) fn send_signal(&mut self, task: TaskKey, to: Option<Vec<String>>, signal: Signal) {
        let token = WorkflowCancellationToken::new();
        let options = ActivityOptions::with_start_to_close_timeout(DELIVER_TRY)
            .activity_id(task.0.clone())
            .cancellation_token(token.clone())
            .retry_policy(always())
            .summary(format!("{task}: signal `{}`", signal.name))
            .build();
        let (ctx, key) = (self.ctx.clone(), task.clone());
        let future = Box::pin(async move {
            match ctx.execute_activity(DeliverActivity, Deliver { to, signal }, options).await {
                Ok(result) => Done::Sent { task: key, result },
                Err(error) => Done::Sent { task: key, result: Err(not_done("the signal", &error)) },
            }
        });
        self.pending.add(Awaited::Sent(task), token, future);
    }

    /// Says something to a child. The run does not close before it was taken.
    pub(crate) fn tell(&mut self, id: &ExecutionId, message: ControlMessage) {
        let token = WorkflowCancellationToken::new();
        let told = self.ctx.external_workflow(id.0.clone(), None).signal(Run::control, message, detached(&token));
        // One that has ended meanwhile cannot be told anything, and need not.
        let future = Box::pin(async move {
            drop(told.await);
            Done::Nothing
        });
        self.pending.add(Awaited::Told, token, future);
    }

    /// Starts another workflow as a child.
    pub(crate) fn start_child(&mut self, task: TaskKey, workflow: String, input: Value, close: ParentClose) {
        let (parent, depth) = self.ctx.state(|run| {
            let driver = run.driver.as_ref().expect("the run was opened");
            (driver.execution.clone(), driver.depth + 1)
        });
        let link = Rc::new(RefCell::new(ChildLink::default()));
        let start = ChildStart {
            ctx: self.ctx.clone(),
            link: Rc::clone(&link),
            task: task.clone(),
            workflow,
            input,
            close,
            parent,
            depth,
            priority: self.input.priority,
        };
        let future = Box::pin(async move {
            let task = start.task.clone();
            match start.run().await {
                Some(result) => Done::Child { task, result },
                None => Done::Nothing,
            }
        });
        self.pending.add_child(task, close, link, future);
    }
}

fn detached(token: &WorkflowCancellationToken) -> SignalWorkflowOptions {
    SignalWorkflowOptions::builder().cancellation_token(token.clone()).build()
}

/// A task on its way to those who can do it.
struct TaskStart {
    ctx: WorkflowContext<Run>,
    shared: Arc<Shared>,
    call: TaskInput,
    token: WorkflowCancellationToken,
    summary: String,
    priority: Priority,
}

impl TaskStart {
    /// `kept`: this process has the plugin, and a place for the task. A replay elsewhere may say otherwise, so nothing but
    /// the queue may depend on it.
    async fn run(mut self, kept: bool) -> TaskResult {
        let begun_ms = now_ms(&self.ctx);
        let queue = tool_queue(&self.shared.project, &self.call.tool.plugin);
        let options = self.options((!kept).then(|| queue.clone()));
        let result = self.ctx.execute_activity(TaskActivity, self.call.clone(), options).await;
        let Some(NotHere { served, progress }) = result.as_ref().err().and_then(not_here) else { return result };
        if !served && !self.ctx.is_replaying() {
            self.shared.places.was_misled();
        }
        let waited_ms = now_ms(&self.ctx).saturating_sub(begun_ms);
        self.call.before = Some(Before { waited_ms, progress });
        let options = self.options(Some(queue));
        self.ctx.execute_activity(TaskActivity, self.call, options).await
    }

    /// Without a queue it is that of the run.
    fn options(&self, queue: Option<String>) -> ActivityOptions {
        let (policy, before) = (&self.call.policy, self.call.before.as_ref());
        let left = |bound_ms: u64| {
            let waited_ms = before.map_or(0, |before| before.waited_ms);
            Duration::from_millis(bound_ms.saturating_sub(waited_ms).max(1))
        };
        let start_to_close = Duration::from_millis(policy.start_to_close_ms).saturating_add(BACKSTOP);
        let timeouts = match policy.schedule_to_close_ms {
            Some(bound_ms) => {
                ActivityCloseTimeouts::ScheduleAndStartToClose { schedule_to_close: left(bound_ms), start_to_close }
            }
            None => ActivityCloseTimeouts::StartToClose(start_to_close),
        };
        // It has begun where an attempt has.
        let begun = before.is_some_and(|before| before.progress.attempt > 0);
        ActivityOptions::with_close_timeouts(timeouts)
            .activity_id(self.call.task.0.clone())
            .maybe_task_queue(queue)
            .maybe_schedule_to_start_timeout(policy.schedule_to_start_ms.filter(|_| !begun).map(left))
            .heartbeat_timeout(self.shared.lost_after)
            .cancellation_type(ActivityCancellationType::WaitCancellationCompleted)
            .cancellation_token(self.token.clone())
            .retry_policy(always())
            .summary(self.summary.clone())
            .priority(self.priority.clone())
            .build()
    }
}

/// What whoever got a task says of it, when he cannot do it.
fn not_here(error: &ActivityExecutionError) -> Option<NotHere> {
    let ActivityExecutionError::Failed(failed) = error else { return None };
    let Some(IncomingError::Application(application)) = failed.cause() else { return None };
    if application.type_name() != Some(NOT_HERE) {
        return None;
    }
    application.details().ok().flatten()
}

struct ChildStart {
    ctx: WorkflowContext<Run>,
    link: Rc<RefCell<ChildLink>>,
    task: TaskKey,
    workflow: String,
    input: Value,
    close: ParentClose,
    parent: ExecutionId,
    depth: u32,
    priority: Option<u8>,
}

impl ChildStart {
    /// Answers how the child ended; `None` when nobody wants to know any more.
    async fn run(self) -> Option<Result<Value, Failure>> {
        if self.depth > engine_limits::CHILD_DEPTH_MAX {
            return Some(Err(compozy_engine::run_limit::too_deep(&self.workflow, self.depth)));
        }
        let first = self.ctx.state(|run| run.driver.as_ref().expect("the run was opened").first());
        let id = child_id(&self.parent, &self.task, first);
        let question = FindWorkflow { workflow: self.workflow.clone(), input: self.input.clone(), child: id.clone() };
        let found = match self.ctx.execute_local_activity(FindActivity, question, local()).await {
            Ok(FoundWorkflow::Found { definition, plan, pins }) => (definition, plan, pins),
            Ok(FoundWorkflow::Refused(failure)) => return Some(Err(failure)),
            Err(error) => return Some(Err(not_done("the definition", &error))),
        };
        if self.link.borrow().close.is_some() {
            // Cancelled before it began.
            return Some(Err(waited(&self.task)));
        }
        let (definition, plan, pins) = found;
        {
            let mut link = self.link.borrow_mut();
            link.phase = ChildPhase::Starting;
            link.id = Some(id.clone());
        }
        self.ctx.state_mut(|run| {
            let driver = run.driver.as_mut().expect("the run was opened");
            driver.book.children.insert(self.task.0.clone(), id.clone());
        });
        let attributes = attributes(&self.workflow, &definition);
        let input = StartInput {
            execution: id.clone(),
            workflow: self.workflow.clone(),
            definition,
            plan,
            input: self.input,
            seed: seed_of(&id),
            pins,
            priority: self.priority,
            parent: Some(self.parent),
            depth: self.depth,
            carry: None,
        };
        let options = ChildWorkflowOptions::builder()
            .workflow_id(id.0.clone())
            .cancellation_token(WorkflowCancellationToken::new())
            .parent_close_policy(match self.close {
                ParentClose::Abandon => ParentClosePolicy::Abandon,
                // The run has said it to the child itself; this is for a run that somebody ended in Temporal.
                ParentClose::Cancel | ParentClose::Terminate => ParentClosePolicy::RequestCancel,
            })
            .static_summary(self.workflow.clone())
            .search_attributes(attributes)
            .build();
        let started = match self.ctx.start_child_workflow(Run::run, input, options).await {
            Ok(started) => started,
            Err(error) => return Some(Err(not_started(&self.workflow, &error))),
        };
        let close = {
            let mut link = self.link.borrow_mut();
            link.phase = ChildPhase::Running;
            link.close.take()
        };
        if let Some(message) = close {
            let token = WorkflowCancellationToken::new();
            drop(started.signal(Run::control, message, detached(&token)).await);
        }
        let error = match started.result().await {
            Ok(output) => return Some(Ok(output)),
            Err(error) => error,
        };
        // The library keeps the reasons of a failure, and loses those of a cancelled run.
        let ending = match ending_of(&error) {
            Some(ending) => Some(ending),
            None => self.ctx.execute_local_activity(EndingActivity, id.clone(), local()).await.ok().flatten(),
        };
        Some(Err(child_failure(&id, &self.workflow, ending, &error)))
    }
}

/// Search attributes of a run that begins.
pub(crate) fn attributes(workflow: &str, definition: &str) -> SearchAttributes {
    SearchAttributes::new([
        ATTRIBUTE_WORKFLOW.value_set(workflow.to_owned()),
        ATTRIBUTE_DEFINITION.value_set(definition.to_owned()),
        ATTRIBUTE_STATUS.value_set("RUNNING".to_owned()),
    ])
}

/// The id of a child: the same in every replay, another one in every history.
fn child_id(parent: &ExecutionId, task: &TaskKey, first: u64) -> ExecutionId {
    crate::starter::derived_id(&["child", &parent.0, &first.to_string(), &task.0])
}

/// Chance for a run, from its id.
pub(crate) fn seed_of(id: &ExecutionId) -> u64 {
    uuid::Uuid::parse_str(&id.0).map_or(0, |id| id.as_u64_pair().1)
}

/// The failure of a task that was asked to end before its next attempt.
pub(crate) fn waited(task: &TaskKey) -> Failure {
    Failure::permanent("CANCELED", format!("task `{task}` waited for its next attempt"))
}

fn not_done(what: &str, error: &ActivityExecutionError) -> Failure {
    Failure::permanent("WORKER_FAILED", format!("{what} cannot be handled by the worker: {error}"))
}

fn not_started(workflow: &str, error: &ChildWorkflowStartError) -> Failure {
    Failure::permanent("CHILD_NOT_STARTED", format!("workflow `{workflow}` cannot be started: {error}"))
}

/// What a run is told of the end of one of its tasks' activities.
pub(crate) fn task_result(
    task: &TaskKey,
    policy: &TaskPolicy,
    result: TaskResult,
) -> (Result<Value, Failure>, Option<TaskRecord>) {
    let error = match result {
        Ok(TaskOutput { output, record }) => return (Ok(output), Some(record)),
        Err(error) => error,
    };
    if let Some(timeout) = error.as_timeout() {
        let progress: Progress = timeout.last_heartbeat_details().ok().flatten().unwrap_or_default();
        let bound = match timeout.timeout_type() {
            TimeoutType::ScheduleToStart => Timeout::ScheduleToStart,
            // Attempts that are lost are repeated until all of them together took too long.
            _ => Timeout::ScheduleToClose,
        };
        let attempts = if bound == Timeout::ScheduleToStart { 0 } else { progress.attempt };
        let failure = timed_out(&task.0, attempts, policy, bound);
        let last_failure = Some(format!("{}: {}", failure.code, failure.message));
        let record = TaskRecord { attempts, last_failure, ..TaskRecord::default() };
        return (Err(failure), Some(record));
    }
    let failed = match &error {
        ActivityExecutionError::Failed(failed) => failed,
        ActivityExecutionError::Cancelled(_) => return (Err(waited(task)), None),
        other => return (Err(not_done("the task", other)), None),
    };
    if failed.as_cancelled().is_some() {
        return (Err(waited(task)), None);
    }
    match failed.cause() {
        Some(IncomingError::Application(application)) => match application.details::<TaskFailed>() {
            Ok(Some(TaskFailed { failure, record })) => (Err(failure), Some(record)),
            _ => (Err(Failure::permanent("WORKER_FAILED", application.to_string())), None),
        },
        _ => (Err(not_done("the task", &error)), None),
    }
}

fn child_failure(
    id: &ExecutionId,
    workflow: &str,
    ending: Option<Ending>,
    error: &ChildWorkflowExecutionError,
) -> Failure {
    let (status, code, message) = match ending {
        Some(Ending { status, failure: Some(failure) }) => (status.name(), failure.code, failure.message),
        Some(Ending { status, failure: None }) => {
            (status.name(), status.name().to_owned(), "without a reason".to_owned())
        }
        None if matches!(error.cause(), Some(IncomingError::Terminated(_))) => {
            ("FAILED", "TERMINATED".to_owned(), "ended in Temporal".to_owned())
        }
        None => ("FAILED", "WORKER_FAILED".to_owned(), error.to_string()),
    };
    let details = json!({ "execution": id.0, "status": status });
    let message = format!("run {id} of workflow `{workflow}`: {message}");
    Failure { details, ..Failure::permanent(code, message) }
}

fn ending_of(error: &ChildWorkflowExecutionError) -> Option<Ending> {
    match error.cause()? {
        IncomingError::Application(application) => application.details().ok().flatten(),
        IncomingError::Cancelled(cancelled) => cancelled.details().ok().flatten(),
        _ => None,
    }
}
