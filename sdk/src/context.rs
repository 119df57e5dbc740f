//! What a task knows about the attempt that it is.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::TaskError;
use crate::bindings::task::exports::compozy::task::executor::Request;
use crate::task::parse;

/// Somebody wants the attempt to end. As a [`TaskError`] its code is `TASK_CANCELED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canceled;

impl std::fmt::Display for Canceled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the task was asked to end")
    }
}

impl std::error::Error for Canceled {}

impl From<Canceled> for TaskError {
    fn from(canceled: Canceled) -> Self {
        Self::failed("TASK_CANCELED", format!("{canceled}, and did"))
    }
}

/// One attempt of one task.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Context {
    /// The action that the workflow named.
    pub action: String,
    /// The execution that the task belongs to.
    pub execution_id: String,
    /// The task's key within the execution, for example `weather` or `activities[3]`.
    pub task: String,
    /// Equal for all attempts of this task and for no other task. Hand it to what you call, so that an attempt that is
    /// repeated after a crash has its effect once.
    pub idempotency_key: String,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// The time left, when the attempt began, before the host ends it.
    pub timeout: Duration,
    config: Vec<u8>,
}

impl Context {
    /// The tool's `config` from the workflow. A tool without one counts as `{}`.
    ///
    /// # Errors
    ///
    /// [`TaskError::InvalidInput`] that names the path, when it does not fit `T`.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, TaskError> {
        let json = if self.config.is_empty() || self.config == b"null" { b"{}" } else { self.config.as_slice() };
        parse(json).map_err(|problem| TaskError::invalid_input(format!("the tool's `config`: {problem}")))
    }

    /// Says that the attempt is alive and, in a few words, where it is, for example `row 1200 of 5000`. A task with the
    /// timeout `heartbeat` must do so at least that often; doing it more often costs nearly nothing.
    ///
    /// # Errors
    ///
    /// [`Canceled`] when the host wants the attempt to end. It has the grace of the request for that (10 s by default),
    /// and is then ended by force. So `context.heartbeat("...")?` in a loop makes a task that can be cancelled.
    ///
    /// ```
    /// # use compozy_sdk::{Context, TaskError};
    /// fn sum(numbers: Vec<u64>, context: &Context) -> Result<u64, TaskError> {
    ///     let mut sum = 0_u64;
    ///     for (at, number) in numbers.iter().enumerate() {
    ///         context.heartbeat(format_args!("number {at} of {}", numbers.len()))?;
    ///         sum = sum.wrapping_add(*number);
    ///     }
    ///     Ok(sum)
    /// }
    /// # assert_eq!(sum(vec![1, 2], &Context::for_tests()).unwrap(), 3);
    /// ```
    pub fn heartbeat(&self, detail: impl std::fmt::Display) -> Result<(), Canceled> {
        // Outside of the host nobody cancels.
        if crate::IN_HOST && crate::bindings::imports::compozy::host::progress::heartbeat(&detail.to_string()) {
            return Err(Canceled);
        }
        Ok(())
    }

    /// The first attempt of a task named `test`, to call a task's function from a test.
    pub fn for_tests() -> Self {
        Self {
            action: "test".into(),
            execution_id: "test-execution".into(),
            task: "test".into(),
            idempotency_key: "test-execution/test".into(),
            attempt: 1,
            timeout: Duration::from_mins(1),
            config: b"null".to_vec(),
        }
    }

    /// The same with this tool `config`.
    ///
    /// # Panics
    ///
    /// When `config` has no JSON form.
    #[must_use]
    pub fn with_config(mut self, config: &impl Serialize) -> Self {
        self.config = serde_json::to_vec(config).expect("a test's config has a JSON form");
        self
    }

    /// Splits the host's request into the context and the input.
    pub(crate) fn from_request(request: Request) -> (Self, Vec<u8>) {
        let Request { action, input, config, execution_id, task, idempotency_key, attempt, timeout_ms } = request;
        let timeout = Duration::from_millis(timeout_ms);
        (Self { action, execution_id, task, idempotency_key, attempt, timeout, config }, input)
    }
}
