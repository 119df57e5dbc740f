//! SQLite's result codes as the typed errors of the contract. Nothing here looks at the text of a message.

use rusqlite::ffi;

use crate::bindings::compozy::host::sql::SqlError;
use crate::bindings::compozy::types::stores::Exceeded;
use crate::limits::{Limit, LimitHit, Limits};

/// Why a statement did not end well: an error that the guest sees, or a limit that ends its call.
#[derive(Debug)]
pub enum SqlFailure {
    /// Handed to the guest.
    Guest(SqlError),
    /// Ends the call: `wall_ms` when a statement ran too long, `sql_memory_bytes` when it took too much memory.
    Limit(LimitHit),
}

impl From<SqlError> for SqlFailure {
    fn from(error: SqlError) -> Self {
        Self::Guest(error)
    }
}

/// Shorthand for `SqlError::Invalid`.
pub(super) fn invalid(message: impl Into<String>) -> SqlFailure {
    SqlFailure::Guest(SqlError::Invalid(message.into()))
}

/// Shorthand for `SqlError::TooLarge`.
pub(super) fn too_large(limit: Limit, used: u64, allowed: u64) -> SqlFailure {
    SqlFailure::Guest(SqlError::TooLarge(Exceeded { limit: limit.name().to_owned(), used, allowed }))
}

/// What `classify` needs to know beside the error itself.
pub(super) struct Circumstances<'a> {
    /// The limits of the session.
    pub(super) limits: &'a Limits,
    /// What the authorizer refused last, if it did.
    pub(super) refused: Option<String>,
    /// The largest value among the parameters.
    pub(super) largest_parameter: u64,
    /// Whether the volume that holds the file still has room.
    pub(super) disk_has_room: bool,
    /// The size of the database file in bytes.
    pub(super) file_bytes: u64,
}

/// Turns an error of rusqlite into one of the contract.
///
/// An interrupted statement is no case of this function: only the watch knows why it interrupted.
pub(super) fn classify(error: &rusqlite::Error, facts: Circumstances<'_>) -> SqlFailure {
    // What the authorizer refuses comes back under more than one code.
    if let Some(why) = facts.refused {
        return invalid(why);
    }
    let (code, message) = match error {
        rusqlite::Error::SqliteFailure(code, text) => {
            (code, text.clone().unwrap_or_else(|| ffi::code_to_str(code.extended_code).to_owned()))
        }
        rusqlite::Error::SqlInputError { error, msg, offset, .. } => {
            (error, format!("{msg} (at byte {offset} of the statement)"))
        }
        rusqlite::Error::MultipleStatement => {
            return invalid("more than one statement; prepare them one by one, or use `run-script`");
        }
        rusqlite::Error::ExecuteReturnedResults => return invalid("the statement returns rows; use `query`"),
        other => return invalid(other.to_string()),
    };
    match code.extended_code & 0xff {
        ffi::SQLITE_CONSTRAINT => SqlError::Constraint(message).into(),
        ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => SqlError::Busy(message).into(),
        ffi::SQLITE_TOOBIG => {
            let allowed = facts.limits.get(Limit::SqlValueBytes);
            too_large(Limit::SqlValueBytes, facts.largest_parameter.max(allowed + 1), allowed)
        }
        // SQLite has one code for "the disk is full" and for "max_page_count is reached".
        ffi::SQLITE_FULL if facts.disk_has_room => {
            let allowed = facts.limits.get(Limit::SqlBytes);
            let used = facts.file_bytes.saturating_add(facts.largest_parameter).max(allowed + 1);
            too_large(Limit::SqlBytes, used, allowed)
        }
        ffi::SQLITE_FULL => {
            SqlError::Unavailable("the disk that holds the plugin's database is full".to_owned()).into()
        }
        ffi::SQLITE_READONLY
        | ffi::SQLITE_IOERR
        | ffi::SQLITE_CANTOPEN
        | ffi::SQLITE_CORRUPT
        | ffi::SQLITE_NOTADB
        | ffi::SQLITE_NOMEM
        | ffi::SQLITE_PERM
        | ffi::SQLITE_PROTOCOL => SqlError::Unavailable(message).into(),
        _ => invalid(message),
    }
}
