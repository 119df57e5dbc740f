//! A host that works.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use compozy_engine::EngineError;
use compozy_engine::port::{
    Control, Engine, Execution, ExecutionId, ExecutionSummary, Filter, Notice, StartRequest, Workflows as _,
};
use compozy_interpreter::Signal;
use compozy_plan::plan::Plan;
use compozy_server::{AppState, Health, Workflows};
use serde_json::{Value, json};
use tokio::sync::{Mutex, broadcast};

use crate::builder::HostBuilder;
use crate::error::HostError;
use crate::options::HostOptions;
use crate::parts::Parts;

/// What a host is asked about.
pub(crate) struct Inner {
    pub(crate) state: AppState,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) data_dir: PathBuf,
    pub(crate) drain: Duration,
}

/// A host that works until [`Host::stop`]. Dropped without that, everything ends at once; what was not done goes on at the
/// next start.
pub struct Host {
    inner: Inner,
    parts: Mutex<Parts>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("data_dir", &self.inner.data_dir)
            .field("address", &self.inner.address)
            .finish_non_exhaustive()
    }
}

/// How one workflow took a trigger.
#[derive(Debug)]
pub struct Triggered {
    /// The workflow.
    pub workflow: String,
    /// Its new execution, or why there is none.
    pub started: Result<ExecutionId, EngineError>,
}

impl Host {
    /// Begins with the plugins that are built in, no workflows and no HTTP. The data folder is made when it is missing, and
    /// belongs to one host at a time.
    pub fn builder(data_dir: impl Into<PathBuf>) -> HostBuilder {
        HostBuilder::of(HostOptions::new(data_dir))
    }

    pub(crate) fn new(inner: Inner, parts: Parts) -> Self {
        Self { inner, parts: Mutex::new(parts) }
    }

    /// The engine, for all that this type has no shorter word for.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.inner.state.engine
    }

    /// What can be started.
    pub fn workflows(&self) -> &Workflows {
        &self.inner.state.workflows
    }

    /// Where the HTTP API is, if it was asked for.
    pub fn address(&self) -> Option<SocketAddr> {
        self.inner.address
    }

    /// Where the host keeps its data.
    pub fn data_dir(&self) -> &Path {
        &self.inner.data_dir
    }

    /// Starts an execution of a workflow and answers once that is durable.
    ///
    /// # Errors
    /// There is no such workflow, the input does not fit its schema, or the engine cannot take it now.
    pub async fn start(&self, workflow: &str, input: Value) -> Result<ExecutionId, HostError> {
        let plan = self.plan(workflow)?;
        self.start_request(StartRequest { plan, input, idempotency_key: None, priority: None }).await
    }

    /// The same under a key: a second start with the same key answers the first one's execution.
    ///
    /// # Errors
    /// As [`Host::start`], or the key was used for another request.
    pub async fn start_once(&self, workflow: &str, input: Value, key: &str) -> Result<ExecutionId, HostError> {
        let plan = self.plan(workflow)?;
        let idempotency_key = Some(key.to_owned());
        self.start_request(StartRequest { plan, input, idempotency_key, priority: None }).await
    }

    /// Starts an execution of any plan.
    ///
    /// # Errors
    /// The input does not fit, or the engine cannot take it now.
    pub async fn start_request(&self, request: StartRequest) -> Result<ExecutionId, HostError> {
        if self.inner.state.lifecycle.is_stopping() {
            return Err(EngineError::Stopping.into());
        }
        Ok(self.engine().start(request).await?)
    }

    fn plan(&self, id: &str) -> Result<Arc<Plan>, HostError> {
        let known = self.workflows();
        known.get(id).cloned().ok_or_else(|| HostError::UnknownWorkflow {
            id: id.to_owned(),
            known: known.ids().map(str::to_owned).collect(),
        })
    }

    /// Starts every workflow with a trigger of this name; the payload is their input. One that refuses it holds up no other.
    ///
    /// # Errors
    /// No workflow has such a trigger.
    pub async fn trigger(&self, name: &str, payload: Value) -> Result<Vec<Triggered>, HostError> {
        let plans = self.workflows().triggered_by(name);
        if plans.is_empty() {
            let all = self.workflows().iter().flat_map(|plan| &plan.triggers);
            let mut known: Vec<String> = all.map(|trigger| trigger.name.clone()).collect();
            known.sort();
            known.dedup();
            return Err(HostError::UnknownTrigger { name: name.to_owned(), known });
        }
        let mut all = Vec::with_capacity(plans.len());
        for plan in plans {
            let workflow = plan.workflow.clone();
            all.push(Triggered { workflow, started: self.triggered(plan, name, &payload).await });
        }
        Ok(all)
    }

    async fn triggered(&self, plan: Arc<Plan>, name: &str, payload: &Value) -> Result<ExecutionId, EngineError> {
        let schemas = plan.triggers.iter().filter(|trigger| trigger.name == name).filter_map(|one| one.schema.as_ref());
        for schema in schemas {
            if let Err(violations) = schema.validate(payload) {
                return Err(EngineError::InvalidInput { workflow: plan.workflow.clone(), violations });
            }
        }
        // A trigger without a payload starts like a request without an input.
        let input = if payload.is_null() { json!({}) } else { payload.clone() };
        let request = StartRequest { plan, input, idempotency_key: None, priority: None };
        match self.start_request(request).await {
            Ok(id) => Ok(id),
            Err(HostError::Engine(error)) => Err(error),
            Err(other) => Err(EngineError::Internal(other.to_string())),
        }
    }

    /// Says something to an execution.
    ///
    /// # Errors
    /// There is no such execution, it waits for no such signal, or it has ended.
    pub async fn signal(&self, id: &ExecutionId, name: &str, payload: Value) -> Result<(), HostError> {
        let signal = Signal { id: String::new(), name: name.to_owned(), payload, source: "library".to_owned() };
        self.control(id, Control::Signal(signal)).await
    }

    /// Asks an execution to end; what runs of it has `grace` before it is ended by force.
    ///
    /// # Errors
    /// There is no such execution.
    pub async fn cancel(&self, id: &ExecutionId, reason: &str, grace: Duration) -> Result<(), HostError> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.control(id, Control::Cancel { reason: reason.to_owned(), grace_ms }).await
    }

    /// Does something else to an execution: pause, resume, retry, reset, terminate.
    ///
    /// # Errors
    /// There is no such execution, or it does not stand so that this could be done.
    pub async fn control(&self, id: &ExecutionId, control: Control) -> Result<(), HostError> {
        Ok(self.engine().control(id, control).await?)
    }

    /// Waits until an execution has ended. Cancel-safe.
    ///
    /// # Errors
    /// There is no such execution, or the host stops before it ends.
    pub async fn wait(&self, id: &ExecutionId) -> Result<Execution, HostError> {
        Ok(self.engine().wait(id).await?)
    }

    /// An execution as it stands; `None` when there is none of this id.
    ///
    /// # Errors
    /// The engine cannot be asked now.
    pub async fn execution(&self, id: &ExecutionId) -> Result<Option<Execution>, HostError> {
        Ok(self.engine().execution(id).await?)
    }

    /// Executions, the latest start first: those that the filter lets through and that started before `before`.
    ///
    /// # Errors
    /// The engine cannot be asked now.
    pub async fn list(
        &self,
        filter: &Filter,
        limit: usize,
        before: Option<&ExecutionId>,
    ) -> Result<Vec<ExecutionSummary>, HostError> {
        Ok(self.engine().search(filter, limit, before).await?)
    }

    /// Everything that happens from now on. Best effort: a slow reader misses some.
    pub fn watch(&self) -> broadcast::Receiver<Notice> {
        self.engine().watch()
    }

    /// How the host feels: the same as `GET /api/v0/health`. Does no I/O.
    pub fn health(&self) -> Health {
        Health::of(&self.inner.state)
    }

    /// Takes no more work, lets running tasks end for as long as `drain` allows, and ends everything in the reverse order of
    /// the start. Idempotent: a second call waits for the first. What was not done goes on at the next start.
    pub async fn stop(&self) {
        self.stop_within(self.inner.drain).await;
    }

    /// The same with another limit for running tasks.
    pub async fn stop_within(&self, drain: Duration) {
        self.inner.state.lifecycle.stop();
        self.parts.lock().await.stop(drain).await;
    }
}
