//! What became of one call: wasmtime's errors in our words.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::ResourceTableError;
use wasmtime::{Trap, WasmBacktrace};

use crate::error::{CallError, Retry, TaskFailure};
use crate::identity::Identity;
use crate::limits::{Limit, LimitHit, Limits};

pub use crate::budget::CallTimer;

/// Functions of a backtrace that are told.
const BACKTRACE_FRAMES: usize = 8;
/// Bytes of a guest's message that are kept.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a guest's own code that are kept.
const CODE_BYTES_MAX: usize = 64;

/// Why a call of a plugin ended without an answer.
pub(crate) fn classify(error: &wasmtime::Error, plugin: &Arc<Identity>, limits: &Limits) -> CallError {
    let plugin = Arc::clone(plugin);
    if let Some(hit) = error.downcast_ref::<LimitHit>() {
        return CallError::Limit { plugin, hit: *hit };
    }
    if error.downcast_ref::<wasmtime::PoolConcurrencyLimitError>().is_some() {
        let allowed = u64::from(crate::engine::INSTANCES_MAX);
        return CallError::Busy { plugin, hit: LimitHit { limit: Limit::Concurrency, used: allowed, allowed } };
    }
    if let Some(limit) = native_limit(error) {
        let allowed = limits.get(limit);
        // wasmtime does not say how much was asked for, only that it was more than this.
        return CallError::Limit { plugin, hit: LimitHit { limit, used: allowed.saturating_add(1), allowed } };
    }
    CallError::Trap { plugin, trap: sentence(error), backtrace: backtrace(error) }
}

/// Limits of wasmtime's that have no type that one could ask for. A test fires each, so that an upgrade that changes the words
/// is noticed.
const WORDS: [(&str, Limit); 4] = [
    ("fuel allocated for hostcalls has been exhausted", Limit::HostcallBytes),
    ("store handle limit exceeded", Limit::Handles),
    ("requested len", Limit::RandomBytes),
    ("instance count too high", Limit::Instances),
];

/// Limits that wasmtime enforces by itself.
fn native_limit(error: &wasmtime::Error) -> Option<Limit> {
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return match trap {
            Trap::OutOfFuel => Some(Limit::Fuel),
            Trap::StackOverflow => Some(Limit::StackBytes),
            _ => None,
        };
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref::<ResourceTableError>() {
        return Some(Limit::Handles);
    }
    let text = error.root_cause().to_string();
    WORDS.into_iter().find(|(words, _)| text.contains(words)).map(|(_, limit)| limit)
}

fn sentence(error: &wasmtime::Error) -> String {
    if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
        return format!("it ended itself with exit code {}", exit.0);
    }
    let text = error.root_cause().to_string();
    cut(text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned(), MESSAGE_BYTES_MAX)
}

fn backtrace(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let name = |frame: &wasmtime::FrameInfo| match frame.func_name() {
        Some(name) => cut(name.to_owned(), 200),
        None => format!("function {}", frame.func_index()),
    };
    backtrace.frames().iter().take(BACKTRACE_FRAMES).map(name).collect()
}

/// Cuts a text at a character's border.
pub(crate) fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// What an executor answered in the place of an output, checked: codes and messages of guests are input like any other.
pub(crate) fn task_failure(error: crate::bindings::task::exports::compozy::task::executor::TaskError) -> TaskFailure {
    use crate::bindings::task::exports::compozy::task::executor::{Failure, TaskError};
    let plain = |code: &str, message: String| TaskFailure {
        code: code.to_owned(),
        message: cut(message, MESSAGE_BYTES_MAX),
        details: None,
        retry: Retry::Never,
    };
    let with_code = |failure: Failure, retry: Retry| TaskFailure {
        code: if valid_code(&failure.code) { failure.code } else { "TASK_FAILED".to_owned() },
        message: cut(failure.message, MESSAGE_BYTES_MAX),
        details: failure.details.and_then(|details| serde_json::from_slice(&details).ok()),
        retry,
    };
    match error {
        TaskError::InvalidInput(message) => plain("TASK_INVALID_INPUT", message),
        TaskError::UnknownAction(message) => plain("ACTION_UNKNOWN", message),
        TaskError::Failed(failure) => with_code(failure, Retry::Never),
        TaskError::Unavailable(transient) => {
            let after = transient.retry_after_ms.map(Duration::from_millis);
            with_code(transient.failure, Retry::Later { after })
        }
    }
}

fn valid_code(code: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=CODE_BYTES_MAX).contains(&code.len()) && code.bytes().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::task::exports::compozy::task::executor::{Failure, TaskError, TransientFailure};

    #[test]
    fn failures_of_guests_are_checked_and_cut() {
        let failure = |code: &str| Failure {
            code: code.into(),
            message: "ü".repeat(3_000),
            details: Some(b"{\"a\":1}".to_vec()),
        };
        let known = task_failure(TaskError::Failed(failure("CITY_UNKNOWN")));
        assert_eq!((known.code.as_str(), known.retry), ("CITY_UNKNOWN", Retry::Never));
        assert_eq!(known.details, Some(serde_json::json!({"a": 1})));
        assert_eq!(known.message.len(), MESSAGE_BYTES_MAX + 3);

        let transient = TransientFailure { failure: failure("not a code"), retry_after_ms: Some(5) };
        let odd = task_failure(TaskError::Unavailable(transient));
        assert_eq!(odd.code, "TASK_FAILED");
        assert_eq!(odd.retry, Retry::Later { after: Some(Duration::from_millis(5)) });
    }
}
