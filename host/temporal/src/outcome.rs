//! How runs end, as the server tells it.

use std::sync::Arc;

use compozy_engine::EngineError;
use compozy_engine::port::{ExecutionId, Outcome};
use compozy_interpreter::Status;
use compozy_plan::blob::has_blob_key;
use serde_json::Value;
use temporalio_client::errors::WorkflowGetResultError;
use temporalio_client::tonic::Code;
use temporalio_client::{WorkflowExecutionStatus, WorkflowGetResultOptions};
use temporalio_common::error::IncomingError;

use crate::caller::Caller;
use crate::limits::FOLLOW_EVERY;
use crate::message::Ending;

impl Caller {
    /// How a run ended; `None` when it has not.
    pub(crate) async fn ending(&self, id: &ExecutionId) -> Result<Option<Outcome>, EngineError> {
        match self.describe(id).await?.status() {
            WorkflowExecutionStatus::Running => Ok(None),
            _ => self.outcome(id).await.map(Some),
        }
    }

    /// How a run ended. Waits for it.
    pub(crate) async fn outcome(&self, id: &ExecutionId) -> Result<Outcome, EngineError> {
        let handle = self.handle(id);
        let result = loop {
            match Box::pin(handle.get_result(WorkflowGetResultOptions::default())).await {
                // The server is away for a while; the run is not.
                Err(WorkflowGetResultError::Rpc(status))
                    if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled) =>
                {
                    tokio::time::sleep(FOLLOW_EVERY).await;
                }
                other => break other,
            }
        };
        let ended = |ending: Option<Ending>, status: Status| match ending {
            Some(Ending { status, failure }) => Outcome { status, output: None, failure },
            None => Outcome { status, output: None, failure: None },
        };
        Ok(match result {
            Ok(output) => {
                Outcome { status: Status::Success, output: Some(self.whole_or_as_it_is(output).await?), failure: None }
            }
            Err(WorkflowGetResultError::Failed(error)) => match error.as_ref() {
                IncomingError::Application(failure) => ended(failure.details().ok().flatten(), Status::Failed),
                _ => ended(None, Status::Failed),
            },
            Err(WorkflowGetResultError::Cancelled { details }) => ended(details.deserialize().ok(), Status::Canceled),
            Err(WorkflowGetResultError::Terminated { .. } | WorkflowGetResultError::TimedOut) => {
                let state = self.execution(id).await?.state;
                Outcome { status: state.status, output: None, failure: state.failure }
            }
            Err(error) => return Err(self.starter.server.result(id, error)),
        })
    }

    async fn whole_or_as_it_is(&self, value: Value) -> Result<Value, EngineError> {
        if !has_blob_key(&value) {
            return Ok(value);
        }
        let vault = Arc::clone(self.vault());
        self.blocking(move || Ok(vault.whole_or_as_it_is(value))).await
    }
}
