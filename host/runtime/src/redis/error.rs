//! What the server and the connection answer, as the typed errors of the contract. Decided by codes and kinds, never by a message's text.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::{ErrorKind, ServerError};

use super::guard::ReplyTooLarge;
use crate::bindings::compozy::host::redis::RedisError;
use crate::bindings::compozy::types::stores::Exceeded;
use crate::limits::Limit;

/// Shorthand for `RedisError::Invalid`.
pub(super) fn invalid(message: impl Into<String>) -> RedisError {
    RedisError::Invalid(message.into())
}

/// Shorthand for `RedisError::TooLarge`.
pub(super) fn too_large(limit: Limit, used: u64, allowed: u64) -> RedisError {
    RedisError::TooLarge(Exceeded { limit: limit.name().to_owned(), used, allowed })
}

/// An error that the server answered, by its code.
pub(super) fn server(error: &ServerError) -> RedisError {
    let code = error.code();
    let message = match error.details() {
        Some(details) => format!("{code} {details}"),
        None => code.to_owned(),
    };
    match code {
        "NOPERM" => RedisError::Denied(message),
        "WRONGTYPE" => RedisError::WrongType(message),
        "BUSY" | "LOADING" | "TRYAGAIN" | "MASTERDOWN" | "NOSCRIPT" => RedisError::Busy(message),
        "ASK" | "CLUSTERDOWN" | "MISCONF" | "MOVED" | "NOAUTH" | "NOREPLICAS" | "OOM" | "READONLY" | "WRONGPASS" => {
            RedisError::Unavailable(message)
        }
        // ERR, CROSSSLOT, EXECABORT, UNKILLABLE, BUSYGROUP, what a script makes up, ...
        _ => RedisError::Invalid(message),
    }
}

/// An error of the crate: the transport's, or a transaction that the server refused as a whole. `first`: commands before the guest's.
pub(super) fn client(error: redis::RedisError, first: usize, endpoint: &impl fmt::Display) -> RedisError {
    if let Some(reply) = reply_too_large(&error) {
        return too_large(Limit::HostcallBytes, reply.used, reply.allowed);
    }
    if matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) {
        let text = error.to_string();
        // The cause of an aborted transaction: the first command that could not be queued.
        let cause =
            error.into_server_errors().and_then(|errors| errors.first().map(|(index, error)| (*index, server(error))));
        return match cause {
            Some((index, error)) => at_command(error, index.saturating_sub(first)),
            None => invalid(text),
        };
    }
    RedisError::Unavailable(format!(
        "the connection to Redis at {endpoint} broke ({error}); whether a write took place is unknown"
    ))
}

/// Says which command of a transaction was at fault.
fn at_command(error: RedisError, index: usize) -> RedisError {
    let with = |message: String| format!("command {index}: {message}");
    match error {
        RedisError::Denied(message) => RedisError::Denied(with(message)),
        RedisError::Invalid(message) => RedisError::Invalid(with(message)),
        RedisError::WrongType(message) => RedisError::WrongType(with(message)),
        RedisError::TooLarge(exceeded) => RedisError::TooLarge(exceeded),
        RedisError::Busy(message) => RedisError::Busy(with(message)),
        RedisError::Unavailable(message) => RedisError::Unavailable(with(message)),
    }
}

fn reply_too_large(error: &redis::RedisError) -> Option<ReplyTooLarge> {
    // The crate shares the error of the stream, so that it can be cloned.
    let shared = error.source()?.downcast_ref::<Arc<dyn Error + Send + Sync>>()?;
    let error = shared.downcast_ref::<std::io::Error>()?;
    error.get_ref()?.downcast_ref::<ReplyTooLarge>().copied()
}

/// Nobody answered in time.
pub(super) fn no_answer(endpoint: &impl fmt::Display, timeout: Duration) -> RedisError {
    let ms = timeout.as_millis();
    RedisError::Unavailable(format!(
        "Redis at {endpoint} did not answer within {ms} ms (`{}`); whether a write took place is unknown",
        Limit::RedisTimeoutMs
    ))
}

/// There was no connection in time. `tried` says what became of the attempts.
pub(super) fn no_connection(endpoint: &impl fmt::Display, timeout: Duration, tried: &str) -> RedisError {
    let ms = timeout.as_millis();
    RedisError::Unavailable(format!(
        "no connection to Redis at {endpoint} within {ms} ms (`{}`): {tried}",
        Limit::RedisTimeoutMs
    ))
}
