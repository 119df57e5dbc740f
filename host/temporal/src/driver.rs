//! A run without Temporal: events in, commands out. Keeps the limits of a run and its log.

use std::sync::Arc;

use compozy_engine::limits::INLINE_BYTES_MAX;
use compozy_engine::port::{ExecutionId, JournalRecord, Pins, TaskRecord};
use compozy_engine::request::json_bytes;
use compozy_engine::run_limit::{at_run_limit, run_limit_failure};
use compozy_engine::vault::Vault;
use compozy_interpreter::{
    BlobError, Command, Event, Failure, RunState, TaskKey, advance, can_reset, can_retry, check_signal, is_timely,
};
use compozy_plan::plan::Plan;

use crate::message::{Book, Carried, ControlMessage, Span, StartInput, StateReply};
use crate::packed::PackError;

/// A run.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) execution: ExecutionId,
    workflow: String,
    definition: String,
    plan: Arc<Plan>,
    pub(crate) pins: Pins,
    parent: Option<ExecutionId>,
    pub(crate) depth: u32,
    priority: Option<u8>,
    pub(crate) state: RunState,
    pub(crate) book: Book,
    /// The state at the beginning of this history.
    opened: RunState,
    /// The events of this history.
    log: Vec<JournalRecord>,
    /// The number of the first of them.
    first: u64,
    spans: Vec<Span>,
}

/// Why a run cannot go on now. The same step may work later.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DriveError {
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error(transparent)]
    Store(#[from] compozy_engine::blob_store::BlobStoreError),
    #[error("the definition of workflow `{workflow}` cannot be read: {reason}")]
    Definition { workflow: String, reason: String },
}

impl Driver {
    /// A run as its input has it; it goes on where it was carried from. Answers also what it had yet to
    /// begin, and what is to be done to it first.
    pub(crate) fn open(
        input: &StartInput,
        vault: &Vault,
    ) -> Result<(Self, Vec<Command>, Option<ControlMessage>), DriveError> {
        let plan: String = input.plan.unpack(vault)?;
        let plan = Plan::from_json(&plan)
            .map_err(|error| DriveError::Definition { workflow: input.workflow.clone(), reason: error.to_string() })?;
        let (carried, then): (Carried, _) = match &input.carry {
            Some(carry) => (carry.run.unpack(vault)?, carry.then.clone()),
            None => (Carried::default(), None),
        };
        let driver = Self {
            execution: input.execution.clone(),
            workflow: input.workflow.clone(),
            definition: input.definition.clone(),
            plan: Arc::new(plan),
            pins: input.pins.clone(),
            parent: input.parent.clone(),
            depth: input.depth,
            priority: input.priority,
            first: carried.book.seq + 1,
            opened: carried.state.clone(),
            state: carried.state,
            book: carried.book,
            log: Vec::new(),
            spans: carried.spans,
        };
        Ok((driver, carried.deferred, then))
    }

    /// The time of an event: never before the last one.
    pub(crate) fn event_time(&self, now_ms: u64) -> u64 {
        now_ms.max(self.state.now_ms)
    }

    /// The number of the first event in this history.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The priority of a task's activity.
    pub(crate) fn priority(&self, own: Option<u8>) -> u8 {
        own.or(self.priority).or(self.plan.priority).unwrap_or(compozy_plan::dispatch::PRIORITY_DEFAULT)
    }

    /// Takes the run through an event and records it. A run that needs a value which is lost ends instead. After an error
    /// the run is void.
    pub(crate) fn apply(&mut self, event: Event, vault: &Arc<Vault>) -> Result<Vec<Command>, DriveError> {
        let rewinds = matches!(event, Event::RetryRequested { .. } | Event::ResetRequested { .. });
        if self.state.status.is_terminal() && !rewinds {
            return Ok(Vec::new());
        }
        let mut event = self.within_limits(event);
        if let Some(payload) = event.payload_mut().filter(|payload| json_bytes(payload) > INLINE_BYTES_MAX) {
            vault.put_away(payload)?;
        }
        let commands = match advance(&self.plan, &mut self.state, &event, vault.as_ref()) {
            Ok(commands) => commands,
            Err(error @ BlobError::Unavailable { .. }) => return Err(error.into()),
            Err(error @ BlobError::Lost { .. }) => {
                self.state = self.as_logged(vault)?;
                let failure = Failure::permanent("BLOB_LOST", error.to_string());
                event = Event::Terminated { now_ms: event.now_ms(), failure };
                advance(&self.plan, &mut self.state, &event, vault.as_ref())?
            }
        };
        self.record(&event);
        Ok(commands)
    }

    /// The state that the log leads to.
    fn as_logged(&self, vault: &Vault) -> Result<RunState, DriveError> {
        let mut state = self.opened.clone();
        for record in &self.log {
            let event = serde_json::from_value(record.event.clone()).expect("an event that was recorded reads back");
            advance(&self.plan, &mut state, &event, vault)?;
        }
        Ok(state)
    }

    fn record(&mut self, event: &Event) {
        let value = serde_json::to_value(event).expect("an event serialises");
        self.book.seq += 1;
        self.book.bytes += json_bytes(&value) as u64;
        self.log.push(JournalRecord { seq: self.book.seq, at_ms: event.now_ms(), event: value });
    }

    /// The event, or the end of a run that has had too many.
    fn within_limits(&self, event: Event) -> Event {
        match run_limit_failure(self.book.seq, self.book.bytes) {
            None => event,
            Some(failure) => Event::Terminated { now_ms: event.now_ms(), failure },
        }
    }

    fn is_at_limit(&self) -> bool {
        at_run_limit(self.book.seq, self.book.bytes).is_some()
    }

    /// The event of something that is said to the run; `None` when it would change nothing or cannot be done.
    pub(crate) fn event_of(
        &self,
        message: ControlMessage,
        now_ms: u64,
        vault: &Vault,
    ) -> Result<Option<Event>, DriveError> {
        let now_ms = self.event_time(now_ms);
        let (event, possible) = match message {
            ControlMessage::Signal(signal) => {
                let possible = check_signal(&self.plan, &self.state, &signal, vault)?.is_ok();
                (Event::SignalReceived { now_ms, signal }, possible)
            }
            ControlMessage::Pause { reason } => (Event::PauseRequested { now_ms, reason }, true),
            ControlMessage::Resume => (Event::ResumeRequested { now_ms }, true),
            ControlMessage::Cancel { reason, grace_ms } => (Event::CancelRequested { now_ms, reason, grace_ms }, true),
            ControlMessage::Terminate { reason } => {
                (Event::Terminated { now_ms, failure: Failure::permanent("TERMINATED", reason) }, true)
            }
            ControlMessage::Retry => {
                let possible = !self.is_at_limit() && can_retry(&self.state).is_ok();
                (Event::RetryRequested { now_ms }, possible)
            }
            ControlMessage::Reset { task } => {
                let possible = !self.is_at_limit() && can_reset(&self.plan, &self.state, &task).is_ok();
                (Event::ResetRequested { now_ms, task }, possible)
            }
        };
        let timely = possible && is_timely(&self.plan, &self.state, &event, vault)?;
        Ok(timely.then_some(event))
    }

    /// The event of a task's end; `None` when the run does not want to know any more.
    pub(crate) fn task_ended(
        &mut self,
        task: TaskKey,
        result: Result<serde_json::Value, Failure>,
        record: Option<TaskRecord>,
        now_ms: u64,
    ) -> Option<Event> {
        if let Some(record) = record {
            self.book.records.insert(task.0.clone(), record);
        }
        if !self.state.tasks.get(&task).is_some_and(compozy_interpreter::TaskState::is_scheduled) {
            return None;
        }
        let now_ms = self.event_time(now_ms);
        Some(match result {
            Ok(output) => Event::TaskCompleted { now_ms, task, output },
            Err(failure) => {
                Event::TaskFailed { now_ms, task, failure: compozy_engine::attempt::bounded_failure(failure) }
            }
        })
    }

    /// Notes that a task was given to an executor.
    pub(crate) fn scheduled(&mut self, task: &TaskKey) {
        self.book.records.insert(task.0.clone(), TaskRecord::default());
    }

    /// The run for its next history. `run_id` names the one that ends.
    pub(crate) fn carry(&self, run_id: &str, deferred: Vec<Command>) -> Carried {
        let mut spans = self.spans.clone();
        spans.push(Span { run_id: run_id.to_owned(), first: self.first });
        Carried { state: self.state.clone(), book: self.book.clone(), spans, deferred }
    }

    /// The definition's JSON.
    pub(crate) fn plan_json(&self) -> String {
        self.plan.to_json()
    }

    /// The answer to who asks how it stands.
    pub(crate) fn reply(&self) -> StateReply {
        StateReply {
            workflow: self.workflow.clone(),
            definition: self.definition.clone(),
            pins: self.pins.clone(),
            parent: self.parent.clone(),
            depth: self.depth,
            priority: self.priority,
            state: self.state.clone(),
            book: self.book.clone(),
            spans: self.spans.clone(),
            first: self.first,
        }
    }

    /// The events after `after` that are in this history.
    pub(crate) fn journal(&self, after: u64, limit: usize, bytes_max: usize) -> crate::message::JournalReply {
        let skip = usize::try_from(after.saturating_add(1).saturating_sub(self.first)).unwrap_or(usize::MAX);
        let mut bytes = 0_usize;
        let mut records = Vec::new();
        for record in self.log.iter().skip(skip).take(limit) {
            bytes += json_bytes(&record.event);
            if bytes > bytes_max && !records.is_empty() {
                break;
            }
            records.push(record.clone());
        }
        let last = records.last().map_or(after, |record| record.seq);
        let ended = self.state.status.is_terminal() && last >= self.book.seq;
        crate::message::JournalReply { records, spans: self.spans.clone(), first: self.first, ended }
    }

    /// How it stands, for Temporal's own pages: the tasks that are open.
    pub(crate) fn details(&self, tasks_max: usize) -> String {
        let open = self.state.tasks.iter().filter(|(_, task)| !task.status.is_terminal());
        let mut lines: Vec<String> = open
            .take(tasks_max + 1)
            .map(|(key, task)| format!("- `{key}` {} ({})", task.status.name(), task.kind))
            .collect();
        if lines.len() > tasks_max {
            lines.truncate(tasks_max);
            lines.push("- and more".to_owned());
        }
        format!("{}\n\n{}", self.state.status.name(), lines.join("\n"))
    }
}
