//! The port, for callers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use compozy_engine::blob_store::Swept;
use compozy_engine::limits as engine_limits;
use compozy_engine::port::{
    Control, Engine, EngineHealth, Execution, ExecutionId, ExecutionSummary, Filter, JournalPage, JournalRecord,
    Notice, Outcome, StartRequest,
};
use compozy_engine::request::{check_input, check_start, fingerprint, json_bytes};
use compozy_engine::services::{ServiceHealth, WorkerHealth};
use compozy_engine::vault::Vault;
use compozy_engine::verify::{HISTORY_FORMAT, RecordedState, ScheduledTask};
use compozy_engine::{Difference, EngineError, History};
use compozy_interpreter::BEHAVIOUR_VERSION;
use compozy_plan::blob::BlobRef;
use serde_json::Value;
use temporalio_client::WorkflowFetchHistoryOptions;
use tokio::sync::broadcast;

use crate::caller::Caller;
use crate::connect::{ConnectError, connect, make_fit};
use crate::error::Server;
use crate::health::Pulse;
use crate::limits::FOLLOW_EVERY;
use crate::names::workflow_queue;
use crate::options::{Companion, Role, TemporalOptions};
use crate::starter::{Beginning, Starter, derived_id, fresh_id};
use crate::sweep::Sweeper;
use crate::worker::Workers;

/// The engine on Temporal.
pub struct TemporalEngine {
    caller: Arc<Caller>,
    workers: Workers,
    pulse: Pulse,
    sweeper: Sweeper,
    notices: broadcast::Sender<Notice>,
    running: Arc<AtomicU64>,
    companion: Option<Arc<dyn Companion>>,
}

impl TemporalEngine {
    /// Connects, makes sure that the namespace is fit, and begins the workers of this process's roles.
    pub async fn open(options: TemporalOptions) -> Result<Self, ConnectError> {
        let client = connect(&options.address).await?;
        let namespace = make_fit(&client, &options.address).await?;
        let vault = Arc::new(Vault::shared(Arc::clone(&options.blobs), &namespace));
        let server = Server {
            address: options.address.url.clone(),
            queue: workflow_queue(&options.project),
            patience: options.rpc_timeout,
        };
        let starter = Starter {
            client: client.clone(),
            server,
            project: options.project.clone(),
            vault,
            executor: Arc::clone(&options.executor),
        };
        let caller = Arc::new(Caller::new(starter));
        let notices = broadcast::Sender::new(engine_limits::WATCH_NOTICES_MAX);
        let running = Arc::new(AtomicU64::new(0));
        let workers = Workers::start(&client, &options, &caller, &notices, &running).await?;
        let pulse = Pulse::start(client, &options).await;
        let sweeper = Sweeper::new(&caller);
        if options.roles.contains(&Role::Api) {
            sweeper.start();
        }
        Ok(Self { caller, workers, pulse, sweeper, notices, running, companion: options.companion })
    }

    /// Removes large values of executions that are gone now, as it is done from time to time anyway.
    pub async fn sweep(&self) -> Result<Swept, EngineError> {
        self.sweeper.sweep().await
    }

    /// Ends everything as the death of the process would: without a word to the server. For tests.
    #[doc(hidden)]
    pub fn abandon(self) {
        self.workers.abandon();
    }

    /// The history of a run as JSON, in a form that [`crate::replay`] reads.
    pub async fn history(&self, id: &ExecutionId) -> Result<Vec<u8>, EngineError> {
        let history = self.caller.handle(id).fetch_history(WorkflowFetchHistoryOptions::default());
        history.to_json().await.map_err(|error| EngineError::ExecutionUnreadable { reason: error.to_string() })
    }

    /// A request, checked against its workflow and every limit, with what is large of its input put away.
    async fn take_in(&self, request: StartRequest) -> Result<Beginning, EngineError> {
        check_start(&request)?;
        let StartRequest { plan, mut input, idempotency_key, priority } = request;
        check_input(&plan, &input)?;
        // Of the whole input, not of what takes its place.
        let print = idempotency_key.is_some().then(|| fingerprint(&plan.workflow, &input));
        let what = format!("the input of workflow `{}`", plan.workflow);
        let id = match &idempotency_key {
            Some(key) => derived_id(&["key", &self.caller.starter.project, key]),
            None => fresh_id(),
        };
        let vault = self.caller.vault().of(&id.0);
        let large = json_bytes(&input) > engine_limits::INLINE_BYTES_MAX;
        let take_in = move || {
            let _claim = vault.take_in(|| what.clone(), &mut input)?;
            Ok(input)
        };
        let input = if large { self.caller.blocking(take_in).await? } else { take_in()? };
        Ok(Beginning { id, plan, input, priority, named: idempotency_key.zip(print) })
    }
}

#[async_trait::async_trait]
impl Engine for TemporalEngine {
    async fn start(&self, request: StartRequest) -> Result<ExecutionId, EngineError> {
        let beginning = self.take_in(request).await?;
        let (id, workflow) = (beginning.id.clone(), beginning.plan.workflow.clone());
        let begun = self.caller.starter.begin(beginning).await?;
        drop(self.notices.send(Notice::ExecutionStarted { id, workflow }));
        Ok(begun)
    }

    async fn run(
        &self,
        request: StartRequest,
        patience: Duration,
    ) -> Result<(ExecutionId, Option<Arc<Outcome>>), EngineError> {
        let id = self.start(request).await?;
        match tokio::time::timeout(patience, self.caller.outcome(&id)).await {
            Ok(ended) => Ok((id, Some(Arc::new(ended?)))),
            Err(_) => Ok((id, None)),
        }
    }

    async fn execution(&self, id: &ExecutionId) -> Result<Option<Execution>, EngineError> {
        match self.caller.execution(id).await {
            Ok(execution) => Ok(Some(execution)),
            Err(EngineError::ExecutionNotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn journal(&self, id: &ExecutionId) -> Result<Vec<JournalRecord>, EngineError> {
        Ok(self.caller.journal_after(id, 0, usize::MAX).await?.records)
    }

    async fn journal_after(&self, id: &ExecutionId, after: u64, limit: usize) -> Result<JournalPage, EngineError> {
        self.caller.journal_after(id, after, limit).await
    }

    async fn export(&self, id: &ExecutionId) -> Result<History, EngineError> {
        let reply = self.caller.state(id).await?;
        let plan = self.caller.plan(id, &reply.definition).await?;
        let mut events = self.caller.journal_after(id, 0, usize::MAX).await?.records;
        // It may have gone on meanwhile.
        events.truncate(usize::try_from(reply.book.seq).unwrap_or(usize::MAX));
        let unreadable = |error: serde_json::Error| EngineError::ExecutionUnreadable { reason: error.to_string() };
        let state = serde_json::to_value(&reply.state).map_err(unreadable)?;
        let mut referred: BTreeSet<BlobRef> = BlobRef::all(&state).into_iter().collect();
        referred.extend(events.iter().flat_map(|record| BlobRef::all(&record.event)));
        let caller = Arc::clone(&self.caller);
        let blobs = self.caller.blocking(move || {
            let mut blobs = indexmap::IndexMap::new();
            for blob in referred {
                let value = compozy_interpreter::Blobs::load(caller.vault().as_ref(), &blob)
                    .map_err(|error| EngineError::BlobLost { reason: error.to_string() })?;
                blobs.insert(blob.digest, Value::clone(&value));
            }
            Ok(blobs)
        });
        let blobs = blobs.await?;
        let scheduled = |(key, record)| (key, ScheduledTask { call: None, record });
        Ok(History {
            format: HISTORY_FORMAT,
            execution: id.clone(),
            workflow: reply.workflow,
            behaviour: reply.state.behaviour,
            definition: reply.definition,
            plan: serde_json::from_str(&plan.to_json()).map_err(unreadable)?,
            pins: reply.pins,
            parent: reply.parent,
            children: reply.book.children,
            events,
            state: Some(RecordedState { seq: reply.book.seq, state }),
            tasks: reply.book.records.into_iter().map(scheduled).collect(),
            blobs,
        })
    }

    async fn pins(&self) -> Result<BTreeSet<(String, String)>, EngineError> {
        self.caller.open_pins().await
    }

    async fn search(
        &self,
        filter: &Filter,
        limit: usize,
        before: Option<&ExecutionId>,
    ) -> Result<Vec<ExecutionSummary>, EngineError> {
        self.caller.search(filter, limit.min(engine_limits::LIST_MAX), before).await
    }

    async fn control(&self, id: &ExecutionId, mut control: Control) -> Result<(), EngineError> {
        if let Control::Signal(signal) = &mut control {
            let (vault, mut payload) = (self.caller.vault().of(&id.0), std::mem::take(&mut signal.payload));
            let take_in = move || {
                let _claim = vault.take_in(|| "the payload of the signal".to_owned(), &mut payload)?;
                Ok(payload)
            };
            signal.payload = self.caller.blocking(take_in).await?;
        }
        self.caller.say(id, control).await
    }

    async fn prune(&self, ended_before_ms: u64) -> Result<u64, EngineError> {
        self.caller.prune(ended_before_ms).await
    }

    async fn blob(&self, id: &ExecutionId, digest: &str) -> Result<Option<Vec<u8>>, EngineError> {
        let reply = self.caller.state(id).await?;
        let state = serde_json::to_value(&reply.state).unwrap_or_default();
        let mut found = BlobRef::all(&state).into_iter().find(|blob| blob.digest == digest);
        if found.is_none() {
            let events = self.caller.journal_after(id, 0, usize::MAX).await?.records;
            let mut blobs = events.iter().flat_map(|record| BlobRef::all(&record.event));
            found = blobs.find(|blob| blob.digest == digest);
        }
        let Some(blob) = found else { return Ok(None) };
        let caller = Arc::clone(&self.caller);
        let read = self.caller.blocking(move || {
            let bytes = caller.vault().bytes(&blob);
            bytes.map_err(|error| EngineError::BlobLost { reason: error.to_string() })
        });
        read.await.map(Some)
    }

    async fn verify(&self, id: &ExecutionId) -> Result<Option<Difference>, EngineError> {
        let history = self.export(id).await?;
        let verified = self.caller.blocking(move || {
            history.verify().map_err(|error| EngineError::ExecutionUnreadable { reason: error.to_string() })
        });
        verified.await
    }

    async fn wait(&self, id: &ExecutionId) -> Result<Execution, EngineError> {
        self.caller.outcome(id).await?;
        self.caller.execution(id).await
    }

    fn watch(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    fn follow(&self, id: &ExecutionId) -> broadcast::Receiver<Notice> {
        let (send, receive) = broadcast::channel(engine_limits::FOLLOW_NOTICES_MAX);
        tokio::spawn(follow(Arc::clone(&self.caller), id.clone(), self.notices.subscribe(), send));
        receive
    }

    fn health(&self) -> EngineHealth {
        let trouble = self.pulse.trouble().or_else(|| self.workers.trouble());
        EngineHealth {
            engine: "temporal",
            writable: trouble.is_none(),
            detail: trouble.unwrap_or_else(|| {
                format!("Temporal at {}, behaviour {BEHAVIOUR_VERSION}", self.pulse.service().address)
            }),
            open_executions: self.pulse.open_executions(),
            running_tasks: self.running.load(Ordering::Relaxed),
            commits: 0,
        }
    }

    fn services(&self) -> Vec<ServiceHealth> {
        vec![self.pulse.service()]
    }

    fn workers(&self) -> Vec<WorkerHealth> {
        self.pulse.workers()
    }

    async fn stop(&self, drain: Duration) {
        self.sweeper.stop().await;
        self.workers.stop(drain).await;
        self.pulse.stop().await;
        if let Some(companion) = &self.companion {
            companion.stop().await;
        }
    }
}

/// Tells a follower whenever a run has gone on, and what this process sees of its attempts.
async fn follow(
    caller: Arc<Caller>,
    id: ExecutionId,
    mut seen: broadcast::Receiver<Notice>,
    send: broadcast::Sender<Notice>,
) {
    let mut known = (0, None);
    let mut look = tokio::time::interval(FOLLOW_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            notice = seen.recv() => match notice {
                Ok(notice) if *notice.execution() == id => {
                    if send.send(notice).is_err() { return }
                }
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            },
            _ = look.tick() => {
                if send.receiver_count() == 0 { return }
                let Ok(described) = caller.describe(&id).await else { continue };
                let now = (described.history_length(), Some(described.status()));
                if now != known {
                    known = now;
                    // Which number it has only the journal says.
                    drop(send.send(Notice::Recorded { id: id.clone(), seq: u64::MAX }));
                }
            }
        }
    }
}
