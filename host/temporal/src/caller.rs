//! What a caller can ask of runs and say to them, through the server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use compozy_engine::EngineError;
use compozy_engine::port::{Control, Execution, ExecutionId, JournalPage};
use compozy_engine::request::{check_control, named};
use compozy_engine::vault::{Vault, WholeError, too_much, unavailable};
use compozy_engine::{Clock as _, SystemClock};
use compozy_interpreter::{BlobError, Failure, RewindRefused, Status, can_reset, can_retry, check_signal};
use compozy_plan::blob::has_blob_key;
use compozy_plan::plan::Plan;
use serde_json::Value;
use temporalio_client::errors::{WorkflowInteractionError, WorkflowQueryError};
use temporalio_client::{
    Client, WorkflowDescribeOptions, WorkflowExecutionDescription, WorkflowExecutionStatus, WorkflowHandle,
    WorkflowIdReusePolicy, WorkflowQueryOptions, WorkflowSignalOptions,
};

use crate::limits::{JOURNAL_PAGE_MAX, PLANS_MAX};
use crate::message::{Carried, Carry, ControlMessage, JournalQuestion, JournalReply, Span, StartInput, StateReply};
use crate::packed::Packed;
use crate::starter::{Begun, Starter, packing};
use crate::workflow::Run;

/// Asks runs and says things to them.
pub(crate) struct Caller {
    pub(crate) starter: Starter,
    plans: Mutex<HashMap<String, Arc<Plan>>>,
}

type Handle = WorkflowHandle<Client, Run>;

impl Caller {
    pub(crate) fn new(starter: Starter) -> Self {
        Self { starter, plans: Mutex::default() }
    }

    pub(crate) fn vault(&self) -> &Arc<Vault> {
        &self.starter.vault
    }

    pub(crate) fn handle(&self, id: &ExecutionId) -> Handle {
        self.starter.client.get_workflow_handle::<Run>(&id.0)
    }

    /// Runs what may wait for a disk or a blob store.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(error) if error.is_cancelled() => Err(EngineError::Stopping),
            Err(error) => Err(EngineError::Internal(format!("a thread panicked: {error}"))),
        }
    }

    /// A value with all that it refers to. Blocking.
    pub(crate) fn whole(&self, value: Value) -> Result<Value, EngineError> {
        self.vault().whole(value).map_err(|error| match error {
            WholeError::TooLarge { used } => too_much("what the input refers to", used),
            WholeError::Blob(error @ BlobError::Lost { .. }) => EngineError::BlobLost { reason: error.to_string() },
            WholeError::Blob(error @ BlobError::Unavailable { .. }) => EngineError::BackendUnavailable {
                backend: "blob store".to_owned(),
                address: String::new(),
                reason: error.to_string(),
                retry_after: std::time::Duration::from_secs(5),
            },
        })
    }

    /// Records what a value refers to, before it is handed to a run that did not have it.
    pub(crate) async fn record(&self, id: &ExecutionId, value: &Value) -> Result<(), EngineError> {
        if !has_blob_key(value) {
            return Ok(());
        }
        let (vault, value) = (self.vault().of(&id.0), value.clone());
        self.blocking(move || vault.record(&value).map_err(|error| unavailable(&error))).await
    }

    async fn patient<T, E>(
        &self,
        id: &ExecutionId,
        request: impl Future<Output = Result<T, E>>,
        error_of: impl FnOnce(&ExecutionId, E) -> EngineError,
        late: impl FnOnce() -> EngineError,
    ) -> Result<T, EngineError> {
        match tokio::time::timeout(self.starter.server.patience, request).await {
            Ok(answer) => answer.map_err(|error| error_of(id, error)),
            Err(_) => Err(late()),
        }
    }

    async fn interact<T>(
        &self,
        id: &ExecutionId,
        request: impl Future<Output = Result<T, WorkflowInteractionError>>,
    ) -> Result<T, EngineError> {
        let server = &self.starter.server;
        self.patient(id, request, |id, e| server.interaction(id, e), || server.away("the request took too long")).await
    }

    async fn query<T>(
        &self,
        id: &ExecutionId,
        request: impl Future<Output = Result<T, WorkflowQueryError>>,
    ) -> Result<T, EngineError> {
        let server = &self.starter.server;
        self.patient(id, request, |id, e| server.query(id, e), || server.no_worker()).await
    }

    async fn unpack<T: serde::de::DeserializeOwned + Send + 'static>(&self, packed: Packed) -> Result<T, EngineError> {
        let vault = Arc::clone(self.vault());
        self.blocking(move || packed.unpack(&vault).map_err(|error| packing(&error))).await
    }

    /// How a run stands, as its worker has it.
    pub(crate) async fn state(&self, id: &ExecutionId) -> Result<StateReply, EngineError> {
        let handle = self.handle(id);
        let packed = self.query(id, Box::pin(handle.query(Run::state, (), WorkflowQueryOptions::default()))).await?;
        self.unpack(packed).await
    }

    /// What the server knows of a run.
    pub(crate) async fn describe(&self, id: &ExecutionId) -> Result<WorkflowExecutionDescription, EngineError> {
        let handle = self.handle(id);
        self.interact(id, Box::pin(handle.describe(WorkflowDescribeOptions::default()))).await
    }

    /// The definition of a run.
    pub(crate) async fn plan(&self, id: &ExecutionId, digest: &str) -> Result<Arc<Plan>, EngineError> {
        let known = |plans: &Mutex<HashMap<String, Arc<Plan>>>| {
            plans.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
        };
        if let Some(plan) = known(&self.plans) {
            return Ok(plan);
        }
        let handle = self.handle(id);
        let packed =
            self.query(id, Box::pin(handle.query(Run::definition, (), WorkflowQueryOptions::default()))).await?;
        let json: String = self.unpack(packed).await?;
        let plan = Plan::from_json(&json).map_err(|e| EngineError::ExecutionUnreadable { reason: e.to_string() })?;
        let plan = Arc::new(plan);
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if plans.len() >= PLANS_MAX {
            plans.clear();
        }
        plans.insert(digest.to_owned(), Arc::clone(&plan));
        Ok(plan)
    }

    /// An execution as it stands.
    pub(crate) async fn execution(&self, id: &ExecutionId) -> Result<Execution, EngineError> {
        let reply = self.state(id).await?;
        let mut execution = Execution {
            id: id.clone(),
            workflow: reply.workflow,
            definition: reply.definition,
            pins: reply.pins,
            state: reply.state,
            attempts: reply.book.records,
            events: reply.book.seq,
            parent: reply.parent,
            children: reply.book.children,
        };
        if !execution.state.status.is_terminal() {
            let described = self.describe(id).await?;
            note_attempts(&mut execution, &described);
            note_forced_end(&mut execution, described.status());
        }
        if execution.state.output.as_ref().is_some_and(has_blob_key) {
            let vault = Arc::clone(self.vault());
            let output = execution.state.output.take().unwrap_or_default();
            let whole = self.blocking(move || Ok(vault.whole_or_as_it_is(output))).await?;
            execution.state.output = Some(whole);
        }
        Ok(execution)
    }

    /// Says something to a run; answers once that is durable and was looked at.
    pub(crate) async fn say(&self, id: &ExecutionId, control: Control) -> Result<(), EngineError> {
        let mut control = named(control);
        check_control(&control)?;
        if let Control::Signal(signal) = &mut control {
            let (vault, mut payload) = (self.vault().of(&id.0), std::mem::take(&mut signal.payload));
            // References of other runs are fine; only a caller from outside may not make them, and its server checks that.
            signal.payload = self
                .blocking(move || {
                    vault.put_away(&mut payload).map_err(|error| unavailable(&error))?;
                    Ok(payload)
                })
                .await?;
        }
        let state = self.state(id).await?;
        let over = state.state.status.is_terminal();
        self.check(id, &control, &state).await?;
        match control {
            Control::Cancel { .. } | Control::Terminate { .. } if over => Ok(()),
            Control::Retry | Control::Reset { .. } if over => self.reopen(id, control.into(), state).await,
            control => self.signal(id, control.into()).await,
        }
    }

    async fn signal(&self, id: &ExecutionId, message: ControlMessage) -> Result<(), EngineError> {
        let handle = self.handle(id);
        self.interact(id, Box::pin(handle.signal(Run::control, message, WorkflowSignalOptions::default()))).await?;
        // It is durable now; that it was looked at is an extra, which needs a worker.
        drop(self.query(id, Box::pin(handle.query(Run::progress, (), WorkflowQueryOptions::default()))).await);
        Ok(())
    }

    async fn check(&self, id: &ExecutionId, control: &Control, reply: &StateReply) -> Result<(), EngineError> {
        let state = &reply.state;
        let rewind = |reason: RewindRefused| EngineError::RewindRefused { id: id.clone(), reason };
        if matches!(control, Control::Retry | Control::Reset { .. })
            && let Some((what, used, allowed)) =
                compozy_engine::run_limit::at_run_limit(reply.book.seq, reply.book.bytes)
        {
            return Err(rewind(RewindRefused::AtLimit { what, used, allowed }));
        }
        match control {
            Control::Signal(signal) => {
                let plan = self.plan(id, &reply.definition).await?;
                let (vault, state, signal, id) = (Arc::clone(self.vault()), state.clone(), signal.clone(), id.clone());
                let check = move || {
                    let checked = check_signal(&plan, &state, &signal, vault.as_ref());
                    checked
                        .map_err(|error| EngineError::BlobLost { reason: error.to_string() })?
                        .map_err(|reason| EngineError::SignalRefused { id, reason })
                };
                self.blocking(check).await
            }
            Control::Retry => can_retry(state).map_err(rewind),
            Control::Reset { task } => {
                let plan = self.plan(id, &reply.definition).await?;
                can_reset(&plan, state, task).map_err(rewind)
            }
            Control::Pause { .. } | Control::Resume if state.status.is_terminal() => Err(EngineError::ExecutionEnded {
                id: id.clone(),
                status: state.status.name(),
                operation: control.name(),
            }),
            Control::Pause { .. } | Control::Resume | Control::Cancel { .. } | Control::Terminate { .. } => Ok(()),
        }
    }

    /// A run that has ended goes on, in a new history.
    async fn reopen(&self, id: &ExecutionId, then: ControlMessage, reply: StateReply) -> Result<(), EngineError> {
        let described = self.describe(id).await?;
        let plan = self.plan(id, &reply.definition).await?;
        let mut spans = reply.spans;
        spans.push(Span { run_id: described.run_id().to_owned(), first: reply.first });
        let carried = Carried { state: reply.state, book: reply.book, spans, deferred: Vec::new() };
        let seed = carried.state.seed;
        let vault = self.vault().of(&id.0);
        let json = plan.to_json();
        let packed = move || -> Result<(Packed, Packed), EngineError> {
            let pack = |error| packing(&error);
            Ok((Packed::pack(&carried, &vault).map_err(pack)?, Packed::pack(&json, &vault).map_err(pack)?))
        };
        let (run, plan_packed) = self.blocking(packed).await?;
        let input = StartInput {
            execution: id.clone(),
            workflow: reply.workflow,
            definition: reply.definition,
            plan: plan_packed,
            input: Value::Null,
            seed,
            pins: reply.pins,
            priority: reply.priority,
            parent: reply.parent,
            depth: reply.depth,
            carry: Some(Carry { run, then: Some(then.clone()) }),
        };
        let request: Option<String> = described.memo().get(crate::names::MEMO_REQUEST).ok().flatten();
        match self.starter.start(input, request, WorkflowIdReusePolicy::AllowDuplicate).await? {
            Begun::New => {
                let handle = self.handle(id);
                drop(self.query(id, Box::pin(handle.query(Run::progress, (), WorkflowQueryOptions::default()))).await);
                Ok(())
            }
            // Somebody else was quicker, or it has not quite ended.
            Begun::Known => self.signal(id, then).await,
        }
    }

    /// Events after `after`, at most `limit`. They may be in several histories.
    pub(crate) async fn journal_after(
        &self,
        id: &ExecutionId,
        after: u64,
        limit: usize,
    ) -> Result<JournalPage, EngineError> {
        let mut page = JournalPage { records: Vec::new(), ended: false };
        let mut after = after;
        let mut histories: Vec<Span> = Vec::new();
        let mut latest_from = 0;
        while page.records.len() < limit {
            let history = histories.iter().rev().find(|span| after + 1 < latest_from && span.first <= after + 1);
            let run_id = history.map(|span| span.run_id.clone());
            let question = JournalQuestion { after, limit: (limit - page.records.len()).min(JOURNAL_PAGE_MAX) };
            let reply = self.journal_of(id, run_id.as_deref(), question).await?;
            if run_id.is_none() {
                (histories, latest_from) = (reply.spans, reply.first);
                if after + 1 < latest_from && !histories.is_empty() {
                    continue;
                }
                page.ended = reply.ended;
            }
            let Some(last) = reply.records.last() else { break };
            after = last.seq;
            page.records.extend(reply.records);
            if page.ended {
                break;
            }
        }
        Ok(page)
    }

    async fn journal_of(
        &self,
        id: &ExecutionId,
        run_id: Option<&str>,
        question: JournalQuestion,
    ) -> Result<JournalReply, EngineError> {
        let mut handle = self.handle(id);
        if let Some(run_id) = run_id {
            let info = temporalio_client::WorkflowExecutionInfo::builder()
                .namespace(handle.info().namespace.clone())
                .workflow_id(id.0.clone())
                .run_id(run_id.to_owned())
                .build();
            handle = WorkflowHandle::new(self.starter.client.clone(), info);
        }
        let packed =
            self.query(id, Box::pin(handle.query(Run::journal, question, WorkflowQueryOptions::default()))).await?;
        self.unpack(packed).await
    }
}

/// What the server knows of attempts that are under way.
fn note_attempts(execution: &mut Execution, described: &WorkflowExecutionDescription) {
    for pending in &described.raw().pending_activities {
        let Some(record) = execution.attempts.get_mut(&pending.activity_id) else { continue };
        let started = pending.last_started_time.is_some();
        // The number is that of the attempt that runs or is to come.
        let attempt = u32::try_from(pending.attempt).unwrap_or(0);
        let running = pending.state == PENDING_STARTED;
        record.attempts = if running { attempt } else { attempt.saturating_sub(1) };
        if started {
            record.started_at_ms = at(pending.last_started_time.as_ref().map(|time| (time.seconds, time.nanos)));
        }
        if let Some(failure) = &pending.last_failure {
            record.last_failure = Some(failure.message.clone());
            if !running {
                let next = pending.next_attempt_schedule_time.as_ref().map(|time| (time.seconds, time.nanos));
                record.next_attempt_at_ms = at(next);
            }
        }
    }
}

/// Milliseconds since 1970 of a protobuf timestamp's seconds and nanoseconds.
fn at(time: Option<(i64, i32)>) -> Option<u64> {
    let (seconds, nanos) = time?;
    u64::try_from(seconds.saturating_mul(1_000) + i64::from(nanos) / 1_000_000).ok()
}

/// `PENDING_ACTIVITY_STATE_STARTED`.
const PENDING_STARTED: i32 = 2;

/// Somebody ended it in Temporal itself, so that its worker never knew.
fn note_forced_end(execution: &mut Execution, status: WorkflowExecutionStatus) {
    let failure = match status {
        WorkflowExecutionStatus::Terminated => Failure::permanent("TERMINATED", "ended in Temporal"),
        WorkflowExecutionStatus::TimedOut => Failure::permanent("WORKFLOW_TIMEOUT", "ended by a timeout of Temporal"),
        _ => return,
    };
    execution.state.status =
        if status == WorkflowExecutionStatus::TimedOut { Status::TimedOut } else { Status::Failed };
    execution.state.failure = Some(failure);
    execution.state.now_ms = execution.state.now_ms.max(SystemClock.now_ms());
}
