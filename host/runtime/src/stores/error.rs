//! Why a store operation failed.

use std::time::Duration;

use crate::bindings::compozy::types::stores::{Exceeded, StoreError as WitError};
use crate::error::{CallError, Retry};

/// Why a store operation failed. [`StoreError::retryable`] says whether trying again can help.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// An argument breaks the contract.
    #[error("{0}")]
    InvalidArgument(String),
    /// A key, value or list is larger than its limit.
    #[error("limit `{limit}` exceeded: {used} were asked for, {allowed} are allowed")]
    TooLarge {
        /// The limit's name.
        limit: String,
        /// How much was asked for, in the limit's unit.
        used: u64,
        /// How much is allowed, in the limit's unit.
        allowed: u64,
    },
    /// The stored value is not what the operation needs.
    #[error("{0}")]
    WrongType(String),
    /// A sum would leave the range of 64 bits; nothing was changed.
    #[error("{0}")]
    Overflow(String),
    /// The caller may not use this store.
    #[error("{0}")]
    Denied(String),
    /// The backend could not take the call now.
    #[error("{0}")]
    Busy(String),
    /// The backend cannot be reached or cannot write.
    #[error("{0}")]
    Unavailable(String),
    /// The backend failed several times in a row, so the host does not ask it for a while.
    #[error("the backend of `{role}` does not answer; the next call is let through in {} ms", retry_after.as_millis())]
    CircuitOpen {
        /// The role's name.
        role: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
    /// The backend broke its own rules.
    #[error("{0}")]
    Internal(String),
    /// The backend's plugin gave no answer.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl StoreError {
    /// True when the same operation may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Busy(_) | Self::Unavailable(_) | Self::CircuitOpen { .. } => true,
            Self::Call(error) => matches!(error.retry(), Retry::Later { .. }),
            Self::InvalidArgument(_)
            | Self::TooLarge { .. }
            | Self::WrongType(_)
            | Self::Overflow(_)
            | Self::Denied(_)
            | Self::Internal(_) => false,
        }
    }

    /// A stable code for machines.
    pub fn code(&self) -> &str {
        match self {
            Self::InvalidArgument(_) => "STORE_INVALID_ARGUMENT",
            Self::TooLarge { .. } => "STORE_TOO_LARGE",
            Self::WrongType(_) => "STORE_WRONG_TYPE",
            Self::Overflow(_) => "STORE_OVERFLOW",
            Self::Denied(_) => "STORE_DENIED",
            Self::Busy(_) => "STORE_BUSY",
            Self::Unavailable(_) => "STORE_UNAVAILABLE",
            Self::CircuitOpen { .. } => "STORE_CIRCUIT_OPEN",
            Self::Internal(_) => "STORE_INTERNAL",
            Self::Call(error) => error.code(),
        }
    }
}

impl From<WitError> for StoreError {
    fn from(error: WitError) -> Self {
        match error {
            WitError::InvalidArgument(message) => Self::InvalidArgument(message),
            WitError::TooLarge(Exceeded { limit, used, allowed }) => Self::TooLarge { limit, used, allowed },
            WitError::WrongType(message) => Self::WrongType(message),
            WitError::Overflow(message) => Self::Overflow(message),
            WitError::Denied(message) => Self::Denied(message),
            WitError::Busy(message) => Self::Busy(message),
            WitError::Unavailable(message) => Self::Unavailable(message),
            WitError::Internal(message) => Self::Internal(message),
        }
    }
}

/// What a task hears of it. A backend that broke off is, to a task, one that cannot be reached or one with a defect.
impl From<StoreError> for WitError {
    fn from(error: StoreError) -> Self {
        let retryable = error.retryable();
        match error {
            StoreError::InvalidArgument(message) => Self::InvalidArgument(message),
            StoreError::TooLarge { limit, used, allowed } => Self::TooLarge(Exceeded { limit, used, allowed }),
            StoreError::WrongType(message) => Self::WrongType(message),
            StoreError::Overflow(message) => Self::Overflow(message),
            StoreError::Denied(message) => Self::Denied(message),
            StoreError::Busy(message) => Self::Busy(message),
            StoreError::Unavailable(message) => Self::Unavailable(message),
            StoreError::Internal(message) => Self::Internal(message),
            StoreError::CircuitOpen { .. } => Self::Unavailable(error.to_string()),
            StoreError::Call(error @ CallError::Busy { .. }) => Self::Busy(error.to_string()),
            StoreError::Call(error) if retryable => Self::Unavailable(error.to_string()),
            StoreError::Call(error) => Self::Internal(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_to_try_again_survives_the_way_through_the_contract() {
        let errors = [
            StoreError::InvalidArgument("a".to_owned()),
            StoreError::TooLarge { limit: "key_bytes".to_owned(), used: 513, allowed: 512 },
            StoreError::WrongType("b".to_owned()),
            StoreError::Overflow("c".to_owned()),
            StoreError::Denied("d".to_owned()),
            StoreError::Busy("e".to_owned()),
            StoreError::Unavailable("f".to_owned()),
            StoreError::CircuitOpen { role: "cache", retry_after: Duration::from_secs(1) },
            StoreError::Internal("g".to_owned()),
            StoreError::Call(CallError::Stopping),
        ];
        for error in errors {
            let back = StoreError::from(WitError::from(error.clone()));
            assert_eq!(back.retryable(), error.retryable(), "{error:?}");
        }
    }
}
