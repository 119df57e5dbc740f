//! A prepared statement.

use std::cell::OnceCell;

use super::{Bind, Params, Row, Rows, SqlError, host, outside};

/// A prepared statement. Prepare it once, by [`statement!`](crate::sql::statement), and run it many times.
#[derive(Debug)]
pub struct Statement {
    inner: host::Statement,
}

impl Statement {
    /// Prepares one statement. An instance can have 256 at once; a statement that is dropped makes room.
    ///
    /// # Errors
    ///
    /// [`SqlError::Invalid`] when it is malformed or not allowed.
    pub fn prepare(sql: &str) -> Result<Self, SqlError> {
        if crate::IN_HOST { host::prepare(sql).map(|inner| Self { inner }) } else { Err(outside()) }
    }

    /// Prepares what `cell` does not hold yet. The statement lives as long as the instance, so it is never freed.
    #[doc(hidden)]
    pub fn once(cell: &OnceCell<&'static Self>, sql: &str) -> Result<&'static Self, SqlError> {
        if let Some(statement) = cell.get() {
            return Ok(statement);
        }
        let statement = Self::prepare(sql)?;
        Ok(cell.get_or_init(|| Box::leak(Box::new(statement))))
    }

    /// Runs a statement that returns rows.
    ///
    /// # Errors
    ///
    /// As [`SqlError`] tells.
    pub fn query(&self, values: impl Bind) -> Result<Rows, SqlError> {
        Params::with(values, |parameters| self.inner.query(parameters).map(Rows::new))
    }

    /// Runs a statement that returns rows and reads the first one; `None` when there is none.
    ///
    /// # Errors
    ///
    /// As [`SqlError`] tells, or what `read` answers.
    pub fn query_row<T>(
        &self,
        values: impl Bind,
        read: impl FnOnce(Row<'_>) -> Result<T, SqlError>,
    ) -> Result<Option<T>, SqlError> {
        self.query(values)?.first().map(read).transpose()
    }

    /// Runs a statement that returns no rows; answers the number of rows changed.
    ///
    /// # Errors
    ///
    /// As [`SqlError`] tells.
    pub fn execute(&self, values: impl Bind) -> Result<u64, SqlError> {
        Params::with(values, |parameters| self.inner.execute(parameters))
    }
}
