//! How runs begin, whoever wants them: a caller, or a signal with a trigger's name.

use std::sync::Arc;

use compozy_engine::EngineError;
use compozy_engine::limits as engine_limits;
use compozy_engine::port::{ExecutionId, Pins, TaskExecutor};
use compozy_engine::vault::{Vault, unavailable};
use compozy_plan::plan::Plan;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use temporalio_client::errors::WorkflowStartError;
use temporalio_client::{
    Client, WorkflowDescribeOptions, WorkflowIdConflictPolicy, WorkflowIdReusePolicy, WorkflowStartOptions,
};
use temporalio_common::{MemoValues, Priority};
use uuid::Uuid;

use crate::error::Server;
use crate::message::StartInput;
use crate::names::{MEMO_PINS, MEMO_REQUEST, workflow_queue};
use crate::packed::{PackError, Packed};
use crate::start::{attributes, seed_of};
use crate::workflow::Run;

/// Starts runs.
pub(crate) struct Starter {
    pub(crate) client: Client,
    pub(crate) server: Server,
    pub(crate) project: String,
    pub(crate) vault: Arc<Vault>,
    pub(crate) executor: Arc<dyn TaskExecutor>,
}

/// A definition as a run gets it.
pub(crate) struct Definition {
    pub(crate) digest: String,
    pub(crate) plan: Packed,
    pub(crate) pins: Pins,
}

/// A run to begin. What is large of its input was put away.
pub(crate) struct Beginning {
    pub(crate) id: ExecutionId,
    pub(crate) plan: Arc<Plan>,
    pub(crate) input: Value,
    pub(crate) priority: Option<u8>,
    /// The idempotency key of the request, if it has one, and the request's digest.
    pub(crate) named: Option<(String, String)>,
}

impl Starter {
    /// A definition, ready to be sent to a run. Blocking when it is large.
    pub(crate) fn define(&self, plan: &Plan, run: &ExecutionId) -> Result<Definition, EngineError> {
        let json = plan.to_json();
        if json.len() > engine_limits::DEFINITION_BYTES_MAX {
            return Err(EngineError::PayloadTooLarge {
                what: format!("the definition of workflow `{}`", plan.workflow),
                used: json.len(),
                allowed: engine_limits::DEFINITION_BYTES_MAX,
            });
        }
        let digest = hex::encode(Sha256::digest(json.as_bytes()));
        let plan_packed = Packed::pack(&json, &self.vault.of(&run.0)).map_err(|error| packing(&error))?;
        Ok(Definition { digest, plan: plan_packed, pins: self.executor.pins(plan) })
    }

    /// Begins a run. The same id twice begins one run.
    pub(crate) async fn begin(&self, beginning: Beginning) -> Result<ExecutionId, EngineError> {
        let Beginning { id, plan, input, priority, named } = beginning;
        let (key, request) = named.unzip();
        let definition = self.define(&plan, &id)?;
        let start = StartInput {
            execution: id.clone(),
            workflow: plan.workflow.clone(),
            definition: definition.digest,
            plan: definition.plan,
            input,
            seed: seed_of(&id),
            pins: definition.pins,
            priority,
            parent: None,
            depth: 0,
            carry: None,
        };
        match self.start(start, request.clone(), WorkflowIdReusePolicy::RejectDuplicate).await? {
            Begun::New => Ok(id),
            Begun::Known => self.known(id, key, request).await,
        }
    }

    /// Begins a history of a run.
    pub(crate) async fn start(
        &self,
        input: StartInput,
        request: Option<String>,
        reuse: WorkflowIdReusePolicy,
    ) -> Result<Begun, EngineError> {
        let id = input.execution.clone();
        let mut memo = MemoValues::new();
        if let Some(request) = request {
            memo.insert(MEMO_REQUEST, request);
        }
        if !input.pins.is_empty() {
            memo.insert(MEMO_PINS, input.pins.clone());
        }
        let priority = Priority::builder()
            .maybe_priority_key(input.priority.map(u32::from))
            .fairness_key(input.workflow.clone())
            .build();
        let options = WorkflowStartOptions::new(workflow_queue(&self.project), id.0.clone())
            .id_reuse_policy(reuse)
            .id_conflict_policy(WorkflowIdConflictPolicy::Fail)
            .search_attributes(attributes(&input.workflow, &input.definition))
            .static_summary(input.workflow.clone())
            .priority(priority)
            .enable_eager_workflow_start(true)
            .memo(memo)
            .build();
        let started =
            tokio::time::timeout(self.server.patience, Box::pin(self.client.start_workflow(Run::run, input, options)));
        match started.await {
            Ok(Ok(_)) => Ok(Begun::New),
            Ok(Err(WorkflowStartError::AlreadyStarted { .. })) => Ok(Begun::Known),
            Ok(Err(WorkflowStartError::Rpc(status))) => Err(self.server.status(&id, &status)),
            Ok(Err(other)) => Err(EngineError::Internal(format!("Temporal: {other}"))),
            Err(_) => Err(self.server.away("the request took too long")),
        }
    }

    /// The run of this id was begun before: by the same request?
    async fn known(
        &self,
        id: ExecutionId,
        key: Option<String>,
        request: Option<String>,
    ) -> Result<ExecutionId, EngineError> {
        let handle = self.client.get_workflow_handle::<Run>(&id.0);
        let described = Box::pin(handle.describe(WorkflowDescribeOptions::default())).await;
        let described = described.map_err(|error| self.server.interaction(&id, error))?;
        let before: Option<String> = described.memo().get(MEMO_REQUEST).ok().flatten();
        if before == request {
            Ok(id)
        } else {
            Err(EngineError::IdempotencyKeyReused { key: key.unwrap_or_default(), execution: id })
        }
    }
}

/// Whether a run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begun {
    /// It did.
    New,
    /// It was there already.
    Known,
}

/// An id that follows from what it is made of.
pub(crate) fn derived_id(parts: &[&str]) -> ExecutionId {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    ExecutionId(uuid::Builder::from_random_bytes(bytes).into_uuid().to_string())
}

/// An id that sorts by its time.
pub(crate) fn fresh_id() -> ExecutionId {
    ExecutionId(Uuid::now_v7().to_string())
}

pub(crate) fn packing(error: &PackError) -> EngineError {
    match error {
        PackError::Store(error) => unavailable(error),
        PackError::Blob(error) => EngineError::BlobLost { reason: error.to_string() },
        PackError::Damaged(reason) => EngineError::Internal(reason.clone()),
    }
}
