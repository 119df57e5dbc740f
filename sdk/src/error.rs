//! Why a task fails.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::bindings::imports::compozy::host::sql::SqlError;
use crate::bindings::imports::compozy::types::stores::{Exceeded, StoreError};
use crate::bindings::task::exports::compozy::task::executor as wit;

/// Why a task failed. The case says whether the host may try again.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum TaskError {
    /// The input does not fit the action. Never repeated.
    InvalidInput(String),
    /// The task failed for good. Never repeated.
    Failed(Box<Failure>),
    /// Something that the task needs does not answer now. Repeated as the task's retry policy says.
    Unavailable {
        /// What happened.
        failure: Box<Failure>,
        /// Not before this time; `None` leaves it to the retry policy.
        retry_after: Option<Duration>,
    },
}

/// A failure with a code that workflows and retry policies can name.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Failure {
    /// Upper-case letters, digits and `_`; at most 64 bytes; for example `CITY_UNKNOWN`.
    pub code: String,
    /// What was wrong and what to do, for a person. At most 4 KiB, cut beyond that.
    pub message: String,
    /// More facts, for programs.
    pub details: Option<serde_json::Value>,
}

impl Failure {
    fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), details: None }
    }
}

impl TaskError {
    /// The input does not fit: say what is wrong with which value.
    pub fn invalid_input(message: impl Into<String>) -> Self {
        Self::InvalidInput(message.into())
    }

    /// The task failed for good.
    pub fn failed(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Failed(Box::new(Failure::new(code, message)))
    }

    /// Something that the task needs does not answer now; trying again may help.
    pub fn unavailable(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Unavailable { failure: Box::new(Failure::new(code, message)), retry_after: None }
    }

    /// Adds facts for programs. An invalid input has no room for them and stays as it is.
    #[must_use]
    pub fn with_details(mut self, details: impl Serialize) -> Self {
        let details = serde_json::to_value(details).ok();
        match &mut self {
            Self::InvalidInput(_) => {}
            Self::Failed(failure) | Self::Unavailable { failure, .. } => failure.details = details,
        }
        self
    }

    /// Asks the host to wait this long before the next attempt. Only an unavailable error is repeated; others stay as they are.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        if let Self::Unavailable { retry_after, .. } = &mut self {
            *retry_after = Some(wait);
        }
        self
    }

    /// The code that the host will record.
    pub fn code(&self) -> &str {
        match self {
            Self::InvalidInput(_) => "INVALID_INPUT",
            Self::Failed(failure) | Self::Unavailable { failure, .. } => &failure.code,
        }
    }

    /// What was wrong and what to do.
    pub fn message(&self) -> &str {
        match self {
            Self::InvalidInput(message) => message,
            Self::Failed(failure) | Self::Unavailable { failure, .. } => &failure.message,
        }
    }

    /// True when trying again may help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.message())
    }
}

impl std::error::Error for TaskError {}

/// A limit that was exceeded, for a person.
pub(crate) fn describe(Exceeded { limit, used, allowed }: &Exceeded) -> String {
    format!("the limit `{limit}` was exceeded: {used} were asked for, {allowed} are allowed")
}

impl From<SqlError> for TaskError {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::Denied(message) => Self::failed("SQL_DENIED", message),
            SqlError::Invalid(message) => Self::failed("SQL_INVALID", message),
            SqlError::Constraint(message) => Self::failed("SQL_CONSTRAINT", message),
            SqlError::TooLarge(limit) => Self::failed("SQL_TOO_LARGE", describe(&limit)),
            SqlError::Busy(message) => Self::unavailable("SQL_BUSY", message),
            SqlError::Unavailable(message) => Self::unavailable("SQL_UNAVAILABLE", message),
        }
    }
}

impl From<StoreError> for TaskError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::InvalidArgument(message) => Self::failed("STORE_INVALID_ARGUMENT", message),
            StoreError::TooLarge(limit) => Self::failed("STORE_TOO_LARGE", describe(&limit)),
            StoreError::WrongType(message) => Self::failed("STORE_WRONG_TYPE", message),
            StoreError::Overflow(message) => Self::failed("STORE_OVERFLOW", message),
            StoreError::Denied(message) => Self::failed("STORE_DENIED", message),
            StoreError::Internal(message) => Self::failed("STORE_INTERNAL", message),
            StoreError::Busy(message) => Self::unavailable("STORE_BUSY", message),
            StoreError::Unavailable(message) => Self::unavailable("STORE_UNAVAILABLE", message),
        }
    }
}

/// A backend over `sql` hands on what its database says. A broken statement is the backend's own defect.
impl From<SqlError> for StoreError {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::Denied(message) => Self::Denied(message),
            SqlError::Invalid(message) | SqlError::Constraint(message) => Self::Internal(message),
            SqlError::TooLarge(limit) => Self::TooLarge(limit),
            SqlError::Busy(message) => Self::Busy(message),
            SqlError::Unavailable(message) => Self::Unavailable(message),
        }
    }
}

impl From<Failure> for wit::Failure {
    fn from(failure: Failure) -> Self {
        let details = failure.details.map(|details| details.to_string().into_bytes());
        Self { code: failure.code, message: failure.message, details }
    }
}

impl From<TaskError> for wit::TaskError {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::InvalidInput(message) => Self::InvalidInput(message),
            TaskError::Failed(failure) => Self::Failed((*failure).into()),
            TaskError::Unavailable { failure, retry_after } => Self::Unavailable(wit::TransientFailure {
                failure: (*failure).into(),
                retry_after_ms: retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_retryable_and_the_rest_is_not() {
        let text = || String::from("why");
        let limit = || Exceeded { limit: "value_bytes".into(), used: 9, allowed: 8 };
        for (error, code, retryable) in [
            (TaskError::from(StoreError::InvalidArgument(text())), "STORE_INVALID_ARGUMENT", false),
            (StoreError::TooLarge(limit()).into(), "STORE_TOO_LARGE", false),
            (StoreError::WrongType(text()).into(), "STORE_WRONG_TYPE", false),
            (StoreError::Overflow(text()).into(), "STORE_OVERFLOW", false),
            (StoreError::Denied(text()).into(), "STORE_DENIED", false),
            (StoreError::Busy(text()).into(), "STORE_BUSY", true),
            (StoreError::Unavailable(text()).into(), "STORE_UNAVAILABLE", true),
            (StoreError::Internal(text()).into(), "STORE_INTERNAL", false),
            (SqlError::Denied(text()).into(), "SQL_DENIED", false),
            (SqlError::Invalid(text()).into(), "SQL_INVALID", false),
            (SqlError::Constraint(text()).into(), "SQL_CONSTRAINT", false),
            (SqlError::TooLarge(limit()).into(), "SQL_TOO_LARGE", false),
            (SqlError::Busy(text()).into(), "SQL_BUSY", true),
            (SqlError::Unavailable(text()).into(), "SQL_UNAVAILABLE", true),
        ] {
            assert_eq!((error.code(), error.is_retryable()), (code, retryable));
            assert!(matches!(wit::TaskError::from(error), wit::TaskError::Unavailable(_)) == retryable);
        }
    }

    #[test]
    fn an_exceeded_limit_is_told_with_its_numbers() {
        let error =
            TaskError::from(StoreError::TooLarge(Exceeded { limit: "value_bytes".into(), used: 9, allowed: 8 }));
        assert_eq!(error.message(), "the limit `value_bytes` was exceeded: 9 were asked for, 8 are allowed");
    }

    #[test]
    fn the_wait_before_the_next_attempt_travels_in_milliseconds() {
        let error = TaskError::unavailable("BUSY", "later").retry_after(Duration::from_secs(2));
        let wit::TaskError::Unavailable(transient) = wit::TaskError::from(error) else { panic!() };
        assert_eq!(transient.retry_after_ms, Some(2_000));
        assert!(!TaskError::failed("NEVER", "no").retry_after(Duration::from_secs(2)).is_retryable());
    }
}
