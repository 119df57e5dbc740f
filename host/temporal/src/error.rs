//! What a server's refusal means to a caller.

use std::time::Duration;

use compozy_engine::EngineError;
use compozy_engine::port::ExecutionId;
use temporalio_client::errors::{WorkflowGetResultError, WorkflowInteractionError, WorkflowQueryError};
use temporalio_client::tonic::{Code, Status};

/// When to try again after the server could not be reached, or refused.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The Temporal server, for messages.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) address: String,
    /// Where a run's workers listen.
    pub(crate) queue: String,
    /// How long an answer may take.
    pub(crate) patience: Duration,
}

impl Server {
    /// It does not answer, or not in time.
    pub(crate) fn away(&self, reason: impl Into<String>) -> EngineError {
        EngineError::BackendUnavailable {
            backend: "Temporal server".to_owned(),
            address: self.address.clone(),
            reason: reason.into(),
            retry_after: RETRY_AFTER,
        }
    }

    /// No worker answers.
    pub(crate) fn no_worker(&self) -> EngineError {
        EngineError::WorkerUnavailable { queue: self.queue.clone(), waited: self.patience, retry_after: RETRY_AFTER }
    }

    pub(crate) fn status(&self, id: &ExecutionId, status: &Status) -> EngineError {
        match status.code() {
            Code::NotFound => EngineError::ExecutionNotFound { id: id.clone() },
            Code::InvalidArgument => EngineError::Internal(format!("Temporal refuses a request: {}", status.message())),
            Code::ResourceExhausted => self.away(format!("it is busy: {}", status.message())),
            Code::PermissionDenied | Code::Unauthenticated => {
                self.away(format!("it refuses access: {}; check `engine.temporal.api_key` and `tls`", status.message()))
            }
            _ => self.away(status.message()),
        }
    }

    pub(crate) fn interaction(&self, id: &ExecutionId, error: WorkflowInteractionError) -> EngineError {
        match error {
            WorkflowInteractionError::NotFound(_) => EngineError::ExecutionNotFound { id: id.clone() },
            WorkflowInteractionError::Rpc(status) => self.status(id, &status),
            other => EngineError::Internal(format!("Temporal: {other}")),
        }
    }

    pub(crate) fn result(&self, id: &ExecutionId, error: WorkflowGetResultError) -> EngineError {
        match error {
            WorkflowGetResultError::NotFound(_) => EngineError::ExecutionNotFound { id: id.clone() },
            WorkflowGetResultError::Rpc(status) => self.status(id, &status),
            other => EngineError::Internal(format!("Temporal: {other}")),
        }
    }

    pub(crate) fn query(&self, id: &ExecutionId, error: WorkflowQueryError) -> EngineError {
        match error {
            WorkflowQueryError::NotFound(_) => EngineError::ExecutionNotFound { id: id.clone() },
            // A server that waits for a worker in vain says one of these.
            WorkflowQueryError::Rpc(status)
                if matches!(status.code(), Code::DeadlineExceeded | Code::FailedPrecondition | Code::Cancelled) =>
            {
                self.no_worker()
            }
            WorkflowQueryError::Rpc(status) if status.code() == Code::InvalidArgument => {
                EngineError::ExecutionUnreadable { reason: status.message().to_owned() }
            }
            WorkflowQueryError::Rpc(status) => self.status(id, &status),
            other => EngineError::ExecutionUnreadable { reason: other.to_string() },
        }
    }
}
