//! What a failed command means to those who call.

use std::borrow::Cow;

use super::RedisError;
use crate::TaskError;
use crate::error::describe;
use crate::store::StoreError;

impl RedisError {
    /// What was wrong and what to do.
    pub fn message(&self) -> Cow<'_, str> {
        match self {
            Self::Denied(message)
            | Self::Invalid(message)
            | Self::WrongType(message)
            | Self::Busy(message)
            | Self::Unavailable(message) => Cow::Borrowed(message),
            Self::TooLarge(limit) => Cow::Owned(describe(limit)),
        }
    }

    /// True when trying again may help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Unavailable(_))
    }
}

/// A backend over `redis` hands on what its server says. A command that is refused is the backend's own defect.
impl From<RedisError> for StoreError {
    fn from(error: RedisError) -> Self {
        match error {
            RedisError::Denied(message) => Self::Denied(message),
            RedisError::Invalid(message) => Self::Internal(message),
            RedisError::WrongType(message) => Self::WrongType(message),
            RedisError::TooLarge(limit) => Self::TooLarge(limit),
            RedisError::Busy(message) => Self::Busy(message),
            RedisError::Unavailable(message) => Self::Unavailable(message),
        }
    }
}

impl From<RedisError> for TaskError {
    fn from(error: RedisError) -> Self {
        match error {
            RedisError::Denied(message) => Self::failed("REDIS_DENIED", message),
            RedisError::Invalid(message) => Self::failed("REDIS_INVALID", message),
            RedisError::WrongType(message) => Self::failed("REDIS_WRONG_TYPE", message),
            RedisError::TooLarge(limit) => Self::failed("REDIS_TOO_LARGE", describe(&limit)),
            RedisError::Busy(message) => Self::unavailable("REDIS_BUSY", message),
            RedisError::Unavailable(message) => Self::unavailable("REDIS_UNAVAILABLE", message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Exceeded;

    #[test]
    fn what_may_pass_is_retryable_in_every_form_and_the_rest_is_not() {
        let text = || String::from("why");
        let limit = Exceeded { limit: "hostcall_bytes".into(), used: 9, allowed: 8 };
        for (error, code, retryable) in [
            (RedisError::Denied(text()), "REDIS_DENIED", false),
            (RedisError::Invalid(text()), "REDIS_INVALID", false),
            (RedisError::WrongType(text()), "REDIS_WRONG_TYPE", false),
            (RedisError::TooLarge(limit), "REDIS_TOO_LARGE", false),
            (RedisError::Busy(text()), "REDIS_BUSY", true),
            (RedisError::Unavailable(text()), "REDIS_UNAVAILABLE", true),
        ] {
            assert_eq!(error.is_retryable(), retryable);
            let store = TaskError::from(StoreError::from(error.clone()));
            assert_eq!((store.is_retryable(), store.message()), (retryable, &*error.message()));
            let task = TaskError::from(error);
            assert_eq!((task.code(), task.is_retryable()), (code, retryable));
        }
    }
}
