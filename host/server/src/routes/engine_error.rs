//! What an engine's refusal is over HTTP.

use compozy_engine::{EngineError, ErrorKind};
use serde_json::{Value, json};

use crate::limits::VIOLATIONS_MAX;
use crate::problem::{Code, Problem};

/// The problem that tells a client of an engine's refusal.
pub(super) fn problem_of(error: &EngineError) -> Problem {
    let code = code_of(error);
    if code.status().is_server_error() {
        tracing::warn!(code = error.code(), %error, "engine refused");
    }
    // A defect's text is for the log: it may name what a client has no business with.
    let detail = if code == Code::Internal {
        "the engine met a defect; the host's log has the details".to_owned()
    } else {
        error.to_string()
    };
    let mut problem = Problem::new(code, detail);
    if let Some(wait) = error.retry_after() {
        problem = problem.retry_after(wait);
    }
    match error {
        EngineError::InvalidInput { violations, .. } => {
            let listed: Vec<Value> = violations
                .iter()
                .take(VIOLATIONS_MAX)
                .map(|violation| json!({ "path": format!("/input{}", violation.path), "message": violation.message }))
                .collect();
            let hidden = violations.len().saturating_sub(VIOLATIONS_MAX);
            let problem = problem.with("violations", listed);
            if hidden > 0 { problem.with("violations_not_listed", hidden) } else { problem }
        }
        EngineError::PayloadTooLarge { used, allowed, .. } => {
            problem.with("limit", "payload_bytes").with("used", *used).with("allowed", *allowed)
        }
        EngineError::IdempotencyKeyReused { execution, .. } => problem.with("exec_id", execution.0.clone()),
        EngineError::WorkerUnavailable { queue, .. } => problem.with("queue", queue.clone()),
        EngineError::BackendUnavailable { backend, .. } => problem.with("backend", backend.clone()),
        _ => problem,
    }
}

fn code_of(error: &EngineError) -> Code {
    match error {
        EngineError::InvalidInput { .. } => Code::InvalidInput,
        EngineError::IdempotencyKeyLength { .. } => Code::IdempotencyKeyLength,
        EngineError::QueueFull { .. } => Code::QueueFull,
        EngineError::WorkerUnavailable { .. } => Code::WorkerUnavailable,
        EngineError::BackendUnavailable { .. } => Code::BackendUnavailable,
        EngineError::Stopping => Code::Stopping,
        EngineError::ExecutionNotFound { .. } => Code::ExecutionNotFound,
        EngineError::JournalCorrupt { .. } => Code::JournalCorrupt,
        EngineError::BlobLost { .. } => Code::BlobLost,
        // Else the code says it, and what an engine adds later finds its status by its kind.
        other => by_text(other).unwrap_or_else(|| match other.kind() {
            ErrorKind::InvalidRequest => Code::InvalidRequest,
            ErrorKind::TooLarge => Code::PayloadTooLarge,
            ErrorKind::NotFound => Code::ExecutionNotFound,
            ErrorKind::Conflict => Code::Conflict,
            ErrorKind::Busy => Code::QueueFull,
            ErrorKind::Unavailable => Code::StorageUnavailable,
            ErrorKind::NotSupported => Code::NotSupported,
            _ => Code::Internal,
        }),
    }
}

/// The code of the same text, unless the engine's error is nothing that a client can do something about.
fn by_text(error: &EngineError) -> Option<Code> {
    let hidden = matches!(error.kind(), ErrorKind::Operator | ErrorKind::Internal);
    Code::ALL.iter().copied().find(|code| !hidden && code.text() == error.code())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use compozy_engine::Violation;
    use compozy_engine::port::ExecutionId;
    use compozy_interpreter::{RewindRefused, SignalRefused};

    use super::*;

    /// The code of the engine's error and of its problem are one and the same, wherever the table has it.
    #[test]
    fn codes_agree_with_the_engines() {
        let execution = ExecutionId("x".into());
        for error in [
            EngineError::InvalidInput { workflow: "w".into(), violations: vec![] },
            EngineError::PayloadTooLarge { what: "the input".into(), used: 2, allowed: 1 },
            EngineError::IdempotencyKeyLength { used: 0, allowed: 255 },
            EngineError::IdempotencyKeyReused { key: "k".into(), execution: execution.clone() },
            EngineError::ExecutionNotFound { id: execution },
            EngineError::QueueFull {
                operations: 1,
                operations_max: 1,
                bytes: 1,
                bytes_max: 1,
                retry_after: Duration::from_millis(1_500),
            },
            EngineError::Stopping,
            EngineError::StorageUnavailable { folder: "/d".into(), action: "write", reason: "disk full".into() },
            EngineError::WorkerUnavailable {
                queue: "q".into(),
                waited: Duration::from_mins(1),
                retry_after: Duration::from_secs(5),
            },
            EngineError::BackendUnavailable {
                backend: "Temporal server".into(),
                address: "127.0.0.1:7233".into(),
                reason: "connection refused".into(),
                retry_after: Duration::from_secs(5),
            },
            EngineError::JournalCorrupt { path: "/d".into(), reason: "r".into() },
            EngineError::BlobLost { reason: "gone".into() },
            EngineError::PayloadReserved { what: "the input".into(), key: "k" },
            EngineError::NotSupported { engine: "e", operation: "o" },
            EngineError::SignalRefused { id: ExecutionId("x".into()), reason: SignalRefused::Over },
            EngineError::SignalRefused {
                id: ExecutionId("x".into()),
                reason: SignalRefused::Unknown { name: "go".into(), known: "nothing".into() },
            },
            EngineError::SignalRefused {
                id: ExecutionId("x".into()),
                reason: SignalRefused::Invalid { name: "go".into(), violations: vec![] },
            },
            EngineError::SignalRefused { id: ExecutionId("x".into()), reason: SignalRefused::TooMany { allowed: 1 } },
            EngineError::RewindRefused { id: ExecutionId("x".into()), reason: RewindRefused::NothingBegun },
            EngineError::RewindRefused {
                id: ExecutionId("x".into()),
                reason: RewindRefused::NotFailed { status: "RUNNING" },
            },
            EngineError::RewindRefused {
                id: ExecutionId("x".into()),
                reason: RewindRefused::AtLimit { what: "events", used: 5, allowed: 5 },
            },
            EngineError::ExecutionEnded { id: ExecutionId("x".into()), status: "FAILED", operation: "pause" },
            EngineError::Internal("secret".into()),
        ] {
            let problem = problem_of(&error);
            assert_eq!(problem.code().text(), error.code());
            assert_eq!(problem.code().retryable(), error.retryable(), "{error}");
        }
    }

    #[test]
    fn violations_name_the_path_in_the_body_and_are_bounded() {
        let violation = |path: &str| Violation { path: path.into(), message: "is missing".into() };
        let violations = std::iter::repeat_n(violation("/city"), VIOLATIONS_MAX + 3).collect();
        let document = problem_of(&EngineError::InvalidInput { workflow: "w".into(), violations }).document("/i");
        assert_eq!(document["violations"][0], json!({ "path": "/input/city", "message": "is missing" }));
        assert_eq!(document["violations"].as_array().map(Vec::len), Some(VIOLATIONS_MAX));
        assert_eq!(document["violations_not_listed"], 3);
    }

    #[test]
    fn a_defect_keeps_its_text_to_the_log() {
        let document = problem_of(&EngineError::Internal("secret".into())).document("/i");
        assert!(!document.to_string().contains("secret"), "{document}");
    }
}
