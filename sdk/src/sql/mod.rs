//! The plugin's private SQLite database (capability `sql`).
//!
//! ```no_run
//! use compozy_sdk::sql;
//!
//! # fn main() -> Result<(), sql::SqlError> {
//! sql::run_script("CREATE TABLE IF NOT EXISTS visits (city TEXT PRIMARY KEY, n INTEGER NOT NULL) STRICT")?;
//!
//! let add = sql::statement!("INSERT INTO visits VALUES (?1, 1) ON CONFLICT DO UPDATE SET n = n + 1")?;
//! let read = sql::statement!("SELECT city, n FROM visits WHERE n >= ?1")?;
//! sql::transaction(|| {
//!     add.execute(("Lisbon",))?;
//!     add.execute(("Oslo",))
//! })?;
//!
//! for row in read.query((1,))?.iter() {
//!     let (city, n): (&str, i64) = (row.get(0)?, row.get(1)?);
//!     println!("{city}: {n}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The database is in WAL mode and belongs to this plugin alone. `ATTACH`, extensions and most PRAGMAs are refused. Statements
//! are prepared once per instance by [`statement!`](crate::sql::statement); parameters are written to one buffer that is used
//! again, and values are borrowed from the answer, so that a call costs no allocation of its own.

use std::borrow::Cow;

mod params;
mod rows;
mod statement;

pub use params::{Bind, Params, ToSql};
pub use rows::{FromCell, Row, Rows};
pub use statement::Statement;

#[doc(inline)]
pub use crate::__sql_statement as statement;
use crate::bindings::imports::compozy::host::sql as host;
pub use crate::bindings::imports::compozy::host::sql::{Cell, SqlError};

impl SqlError {
    /// What was wrong and what to do.
    pub fn message(&self) -> Cow<'_, str> {
        match self {
            Self::Denied(message)
            | Self::Invalid(message)
            | Self::Constraint(message)
            | Self::Busy(message)
            | Self::Unavailable(message) => Cow::Borrowed(message),
            Self::TooLarge(limit) => Cow::Owned(crate::error::describe(limit)),
        }
    }

    /// True when trying again may help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Unavailable(_))
    }
}

/// Runs statements separated by semicolons, for schemas. Not atomic by itself: use [`transaction`].
///
/// # Errors
///
/// As [`SqlError`] tells.
pub fn run_script(sql: &str) -> Result<(), SqlError> {
    if crate::IN_HOST { host::run_script(sql) } else { Err(outside()) }
}

/// Runs `work` in one write transaction: committed when it answers `Ok`, rolled back when it answers `Err` (or traps).
/// Transactions do not nest.
///
/// # Errors
///
/// What `work` answers, or the error of beginning and committing.
pub fn transaction<T, E: From<SqlError>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    if !crate::IN_HOST {
        return Err(outside().into());
    }
    host::begin()?;
    match work() {
        Ok(value) => {
            host::commit()?;
            Ok(value)
        }
        Err(error) => {
            // The first error is the one to tell; the host rolls back by itself at the end of the call.
            let _ = host::rollback();
            Err(error)
        }
    }
}

/// A statement that is prepared when it is first used and kept for the life of the instance:
/// `statement!("SELECT ...")?` is a `&'static` [`Statement`].
///
/// A failed preparation is tried again the next time. An instance can have 256 statements.
#[doc(hidden)]
#[macro_export]
macro_rules! __sql_statement {
    ($sql:expr) => {{
        ::std::thread_local! {
            static STATEMENT: ::core::cell::OnceCell<&'static $crate::sql::Statement> =
                const { ::core::cell::OnceCell::new() };
        }
        STATEMENT.with(|cell| $crate::sql::Statement::once(cell, $sql))
    }};
}

fn outside() -> SqlError {
    SqlError::Denied(crate::outside("compozy:host/sql"))
}
