//! Why an engine refuses.

use std::path::PathBuf;
use std::time::Duration;

use compozy_interpreter::{RewindRefused, SignalRefused};

use crate::port::ExecutionId;

/// What kind of refusal it is: who can do something about it. The text of an error is never looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is wrong; the caller must change it.
    InvalidRequest,
    /// The request is larger than a limit.
    TooLarge,
    /// There is no such thing.
    NotFound,
    /// The request contradicts an earlier one.
    Conflict,
    /// Too much at once; the same request can succeed later.
    Busy,
    /// The engine, or what it rests on, cannot take work now; the same request can succeed later.
    Unavailable,
    /// The engine does not do this.
    NotSupported,
    /// The operator must do something: the file or the folder cannot be used as it is.
    Operator,
    /// A defect of the host.
    Internal,
}

/// One place of an input that does not fit its schema.
pub use compozy_plan::schema::Violation;

/// Why an engine refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The input does not fit the workflow's schema.
    #[error("the input does not fit workflow `{workflow}`: {}", list(.violations))]
    InvalidInput {
        /// The workflow.
        workflow: String,
        /// At least one.
        violations: Vec<Violation>,
    },
    /// Something is larger than its limit.
    #[error("{what} has {used} bytes, at most {allowed} bytes are allowed")]
    PayloadTooLarge {
        /// What, for a person.
        what: String,
        /// Its size, in bytes.
        used: usize,
        /// The limit, in bytes.
        allowed: usize,
    },
    /// Something has a key that only the engine may use.
    #[error("{what} has an object with the key `{key}`, which is reserved; give the key another name")]
    PayloadReserved {
        /// What, for a person.
        what: String,
        /// The key.
        key: &'static str,
    },
    /// A value that an execution refers to is gone or damaged.
    #[error("{reason}; restore the folder `blobs` from a backup")]
    BlobLost {
        /// Which, and what is wrong with it.
        reason: String,
    },
    /// The idempotency key is empty or too long.
    #[error("the idempotency key has {used} bytes, 1 to {allowed} bytes are allowed")]
    IdempotencyKeyLength {
        /// Its size, in bytes.
        used: usize,
        /// The limit, in bytes.
        allowed: usize,
    },
    /// The idempotency key was used for another request.
    #[error(
        "the idempotency key `{key}` was used before with another workflow or input, for execution {execution}; \
         use a new key for a new request"
    )]
    IdempotencyKeyReused {
        /// The key.
        key: String,
        /// The execution that it named first.
        execution: ExecutionId,
    },
    /// There is no execution of this id.
    #[error("there is no execution `{id}`")]
    ExecutionNotFound {
        /// The id.
        id: ExecutionId,
    },
    /// The execution cannot take the signal.
    #[error("execution `{id}`: {reason}")]
    SignalRefused {
        /// The execution.
        id: ExecutionId,
        /// Why.
        reason: SignalRefused,
    },
    /// The execution cannot go back.
    #[error("execution `{id}`: {reason}")]
    RewindRefused {
        /// The execution.
        id: ExecutionId,
        /// Why.
        reason: RewindRefused,
    },
    /// The execution has ended, or is about to, so this cannot be done to it.
    #[error("execution `{id}` is {status}, so it cannot be told to {operation}")]
    ExecutionEnded {
        /// The execution.
        id: ExecutionId,
        /// How it stands.
        status: &'static str,
        /// What was asked.
        operation: &'static str,
    },
    /// Too many requests wait already.
    #[error(
        "{operations} requests with {bytes} bytes wait to be written, at most {operations_max} requests with \
         {bytes_max} bytes may; try again in {} ms", .retry_after.as_millis()
    )]
    QueueFull {
        /// Requests that wait.
        operations: usize,
        /// The limit.
        operations_max: usize,
        /// What they hold, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        bytes_max: usize,
        /// When to try again.
        retry_after: Duration,
    },
    /// The engine is about to stop, or has stopped.
    #[error("the engine is stopping and takes no more work; try again after its restart")]
    Stopping,
    /// The disk is full, read-only, or fails. Nothing was written; works again when the disk does.
    #[error("cannot {action} in `{}`: {reason}; nothing was written, try again when the disk can be written", .folder.display())]
    StorageUnavailable {
        /// The data folder.
        folder: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system says.
        reason: String,
    },
    /// No worker takes work from a queue. What was durable before goes on when one comes.
    #[error(
        "no worker has taken work from the queue `{queue}` for {} ms; start a process with the role that serves it, \
         and try again in {} ms", .waited.as_millis(), .retry_after.as_millis()
    )]
    WorkerUnavailable {
        /// The queue's name.
        queue: String,
        /// How long was waited for one.
        waited: Duration,
        /// When to try again.
        retry_after: Duration,
    },
    /// A service that the engine rests on does not answer. Whether the request had an effect is not known; works again
    /// when the service does.
    #[error(
        "the {backend} at `{address}` does not answer: {reason}; check that it runs and can be reached, and try again in {} ms",
        .retry_after.as_millis()
    )]
    BackendUnavailable {
        /// What it is, for a person: `Temporal server`, `blob store`.
        backend: String,
        /// Where it should be.
        address: String,
        /// What was met instead of an answer.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// Another host owns the data folder.
    #[error(
        "the data folder `{}` is in use by another host{}; stop it or choose another folder",
        .folder.display(), pid_text(*.pid)
    )]
    DataFolderInUse {
        /// The data folder.
        folder: PathBuf,
        /// The other host's process, if it said so.
        pid: Option<u32>,
    },
    /// The journal was written by a newer version.
    #[error(
        "the journal `{}` has format {found}, this version reads up to {supported}; use the newer compozy-host that wrote it",
        .path.display()
    )]
    JournalTooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest that this version reads.
        supported: i64,
    },
    /// The journal cannot be read.
    #[error("the journal `{}` cannot be read: {reason}; restore a backup or move the file away", .path.display())]
    JournalCorrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// One execution cannot be read or taken further; the others are fine.
    #[error("the execution cannot be read: {reason}")]
    ExecutionUnreadable {
        /// What is wrong.
        reason: String,
    },
    /// SQLite does not take a setting that durability rests on.
    #[error("the journal `{}` refuses `{setting} = {wanted}`, it has {found}: this disk or file system cannot hold a durable journal", .path.display())]
    SettingRefused {
        /// The file.
        path: PathBuf,
        /// The pragma.
        setting: &'static str,
        /// The value that was set.
        wanted: String,
        /// The value that was read back.
        found: String,
    },
    /// An option makes no sense.
    #[error("{0}")]
    InvalidOption(String),
    /// This engine does not do it.
    #[error("the {engine} engine cannot {operation}")]
    NotSupported {
        /// The engine.
        engine: &'static str,
        /// What was asked.
        operation: &'static str,
    },
    /// A defect of the host. The request had no effect.
    #[error("internal error of the engine: {0}")]
    Internal(String),
}

impl EngineError {
    /// Stable, upper case: the same in HTTP, in the command line and in logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidInput { .. } => "INVALID_INPUT",
            Self::PayloadTooLarge { .. } => "PAYLOAD_TOO_LARGE",
            Self::PayloadReserved { .. } => "PAYLOAD_RESERVED",
            Self::BlobLost { .. } => "BLOB_LOST",
            Self::IdempotencyKeyLength { .. } => "IDEMPOTENCY_KEY_LENGTH",
            Self::IdempotencyKeyReused { .. } => "IDEMPOTENCY_KEY_REUSED",
            Self::ExecutionNotFound { .. } => "EXECUTION_NOT_FOUND",
            Self::SignalRefused { reason, .. } => reason.code(),
            Self::RewindRefused { reason, .. } => reason.code(),
            Self::ExecutionEnded { .. } => "EXECUTION_ENDED",
            Self::QueueFull { .. } => "QUEUE_FULL",
            Self::Stopping => "STOPPING",
            Self::StorageUnavailable { .. } => "STORAGE_UNAVAILABLE",
            Self::WorkerUnavailable { .. } => "WORKER_UNAVAILABLE",
            Self::BackendUnavailable { .. } => "BACKEND_UNAVAILABLE",
            Self::DataFolderInUse { .. } => "DATA_FOLDER_IN_USE",
            Self::JournalTooNew { .. } => "JOURNAL_TOO_NEW",
            Self::JournalCorrupt { .. } => "JOURNAL_CORRUPT",
            Self::ExecutionUnreadable { .. } => "EXECUTION_UNREADABLE",
            Self::SettingRefused { .. } => "JOURNAL_SETTING_REFUSED",
            Self::InvalidOption(_) => "INVALID_OPTION",
            Self::NotSupported { .. } => "NOT_SUPPORTED",
            Self::Internal(_) => "INTERNAL",
        }
    }

    /// Who can do something about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidInput { .. } | Self::PayloadReserved { .. } | Self::IdempotencyKeyLength { .. } => {
                ErrorKind::InvalidRequest
            }
            Self::SignalRefused { reason, .. } => match reason {
                SignalRefused::Over | SignalRefused::TooMany { .. } => ErrorKind::Conflict,
                SignalRefused::TooLarge { .. } => ErrorKind::TooLarge,
                _ => ErrorKind::InvalidRequest,
            },
            Self::ExecutionNotFound { .. } | Self::RewindRefused { reason: RewindRefused::UnknownTask { .. }, .. } => {
                ErrorKind::NotFound
            }
            Self::RewindRefused { .. } | Self::ExecutionEnded { .. } | Self::IdempotencyKeyReused { .. } => {
                ErrorKind::Conflict
            }
            Self::PayloadTooLarge { .. } => ErrorKind::TooLarge,
            Self::QueueFull { .. } => ErrorKind::Busy,
            Self::Stopping
            | Self::StorageUnavailable { .. }
            | Self::WorkerUnavailable { .. }
            | Self::BackendUnavailable { .. } => ErrorKind::Unavailable,
            Self::DataFolderInUse { .. }
            | Self::JournalTooNew { .. }
            | Self::JournalCorrupt { .. }
            | Self::ExecutionUnreadable { .. }
            | Self::BlobLost { .. }
            | Self::SettingRefused { .. }
            | Self::InvalidOption(_) => ErrorKind::Operator,
            Self::NotSupported { .. } => ErrorKind::NotSupported,
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// True when the same request can succeed later without anybody changing it.
    pub fn retryable(&self) -> bool {
        matches!(self.kind(), ErrorKind::Busy | ErrorKind::Unavailable)
    }

    /// When to try again, for a retryable error.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::QueueFull { retry_after, .. }
            | Self::WorkerUnavailable { retry_after, .. }
            | Self::BackendUnavailable { retry_after, .. } => Some(*retry_after),
            Self::Stopping | Self::StorageUnavailable { .. } => Some(Duration::from_secs(5)),
            _ => None,
        }
    }
}

fn list(violations: &[Violation]) -> String {
    violations.iter().map(Violation::to_string).collect::<Vec<_>>().join("; ")
}

fn pid_text(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_value_limit_and_remedy() {
        let full = EngineError::QueueFull {
            operations: 3,
            operations_max: 2,
            bytes: 10,
            bytes_max: 100,
            retry_after: Duration::from_millis(1500),
        };
        assert_eq!(
            full.to_string(),
            "3 requests with 10 bytes wait to be written, at most 2 requests with 100 bytes may; try again in 1500 ms"
        );
        assert!(full.retryable());
        let used = EngineError::DataFolderInUse { folder: "/data".into(), pid: Some(7) };
        assert_eq!(
            used.to_string(),
            "the data folder `/data` is in use by another host (process 7); stop it or choose another folder"
        );
        assert!(!used.retryable());
        let (second, minute) = (Duration::from_secs(1), Duration::from_mins(1));
        let worker = EngineError::WorkerUnavailable { queue: "p-tools".into(), waited: minute, retry_after: second };
        assert_eq!(
            worker.to_string(),
            "no worker has taken work from the queue `p-tools` for 60000 ms; start a process with the role that serves \
             it, and try again in 1000 ms"
        );
        let backend = EngineError::BackendUnavailable {
            backend: "Temporal server".into(),
            address: "127.0.0.1:7233".into(),
            reason: "connection refused".into(),
            retry_after: second,
        };
        assert_eq!(
            backend.to_string(),
            "the Temporal server at `127.0.0.1:7233` does not answer: connection refused; check that it runs and can be \
             reached, and try again in 1000 ms"
        );
        for away in [worker, backend] {
            assert_eq!((away.kind(), away.retryable()), (ErrorKind::Unavailable, true), "{away}");
            assert_eq!(away.retry_after(), Some(second), "{away}");
        }
        let input = EngineError::InvalidInput {
            workflow: "w".into(),
            violations: vec![
                Violation { path: "/city".into(), message: "is missing".into() },
                Violation { path: String::new(), message: "has too many keys".into() },
            ],
        };
        assert_eq!(input.to_string(), "the input does not fit workflow `w`: at `/city`: is missing; has too many keys");
    }
}
