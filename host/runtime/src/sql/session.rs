//! One connection, which belongs to one guest instance.

use std::sync::Arc;

use tokio::runtime::{Handle, RuntimeFlavor};

use super::compiled::{Compiled, Own};
use super::database::{SqlDatabase, SqlOpenError};
use super::error::{Circumstances, SqlFailure, classify, invalid, too_large};
use super::guard::{Authorizer, Watch};
use super::turn::Permit;
use super::values::{self, StepError};
use crate::bindings::compozy::host::sql::{Parameters, Rows, SqlError};
use crate::limits::{Limit, LimitHit};

/// A connection with what a guest instance has open on it.
#[derive(Debug)]
pub struct SqlSession {
    compiled: Compiled,
    database: Arc<SqlDatabase>,
    authorizer: Arc<Authorizer>,
    watch: Arc<Watch>,
    /// Held from `begin` to the end of the transaction.
    transaction: Option<Permit>,
    hand_over: bool,
}

impl SqlSession {
    /// Opens a connection to a plugin's database.
    ///
    /// `hand_over`: whether statements may run long. Statements of stores are short, and moving the other work of a thread to
    /// another one costs more than they do; what a task executor runs is anybody's guess, so there the thread is handed over.
    pub fn open(database: &Arc<SqlDatabase>, watch: Arc<Watch>, hand_over: bool) -> Result<Self, SqlOpenError> {
        let authorizer = Arc::new(Authorizer::default());
        let connection = database.connect(&authorizer, &watch)?;
        Ok(Self {
            compiled: Compiled::new(connection),
            database: Arc::clone(database),
            authorizer,
            watch,
            transaction: None,
            hand_over,
        })
    }

    /// Prepares one statement and answers its number.
    pub fn prepare(&mut self, sql: &str) -> Result<u32, SqlFailure> {
        let limit = self.database.limits().size(Limit::SqlStatements);
        let live = self.compiled.live();
        if live >= limit {
            return Err(too_large(Limit::SqlStatements, live as u64 + 1, limit as u64));
        }
        let sql = sql.trim();
        // The cache would hand out the host's own statement of this text without asking the authorizer.
        if Own::ALL.iter().any(|own| own.sql() == sql) {
            return Err(invalid("transactions are begun and ended by `begin`, `commit` and `rollback`, not by SQL"));
        }
        self.watch.begin_statement();
        match self.compiled.prepare(sql) {
            Ok(Some(number)) => Ok(number),
            Ok(None) => Err(invalid("the text contains no statement")),
            Err(error) => Err(self.failure(&error, 0)),
        }
    }

    /// Forgets a statement. Its compiled form stays in the cache until others need the place.
    pub fn close(&mut self, statement: u32) {
        self.compiled.close(statement);
    }

    /// Runs a statement that returns rows.
    pub async fn query(&mut self, statement: u32, parameters: &Parameters) -> Result<Rows, SqlFailure> {
        let allowed = self.database.limits().get(Limit::HostcallBytes);
        self.run(statement, parameters, |statement| values::collect(statement, allowed)).await
    }

    /// Runs a statement that returns no rows; answers how many rows changed.
    pub async fn execute(&mut self, statement: u32, parameters: &Parameters) -> Result<u64, SqlFailure> {
        let before = self.compiled.connection().total_changes();
        let changed = self.run(statement, parameters, |statement| Ok(statement.raw_execute()? as u64)).await?;
        // SQLite goes on answering the number of the last statement that did change rows.
        Ok(if self.compiled.connection().total_changes() == before { 0 } else { changed })
    }

    async fn run<T>(
        &mut self,
        statement: u32,
        parameters: &Parameters,
        step: impl FnOnce(&mut rusqlite::Statement<'_>) -> Result<T, StepError>,
    ) -> Result<T, SqlFailure> {
        let readonly = self.compiled.readonly(statement).ok_or_else(|| invalid("the statement is closed"))?;
        let needs_permit = !readonly && self.transaction.is_none();
        let _permit = if needs_permit { Some(permit(&self.database, &self.watch).await?) } else { None };
        self.watch.begin_statement();
        let statement = self.compiled.statement(statement).expect("found above");
        let result = hand_over(self.hand_over, || {
            values::bind(statement, parameters)?;
            let result = step(statement);
            // Values may be large; the next execution binds all of them again.
            statement.clear_bindings();
            result
        });
        match result {
            Ok(value) => Ok(value),
            Err(error) => Err(self.failed(error, values::largest(parameters))),
        }
    }

    /// Runs statements separated by semicolons.
    pub async fn run_script(&mut self, sql: &str) -> Result<(), SqlFailure> {
        let _permit = if self.transaction.is_none() { Some(permit(&self.database, &self.watch).await?) } else { None };
        self.watch.begin_statement();
        let connection = self.compiled.connection();
        let result = hand_over(self.hand_over, || connection.execute_batch(sql));
        result.map_err(|error| self.failed(StepError::Sqlite(error), 0))
    }

    /// Begins a write transaction.
    pub async fn begin(&mut self) -> Result<(), SqlFailure> {
        if self.transaction.is_some() {
            return Err(invalid("a transaction is open already; transactions do not nest"));
        }
        let permit = permit(&self.database, &self.watch).await?;
        self.own(Own::Begin)?;
        self.transaction = Some(permit);
        Ok(())
    }

    /// Commits. After an error the transaction is rolled back.
    pub fn commit(&mut self) -> Result<(), SqlFailure> {
        if self.transaction.is_none() {
            return Err(invalid("no transaction is open"));
        }
        let result = self.own(Own::Commit);
        if result.is_err() {
            self.end();
        }
        self.transaction = None;
        result
    }

    /// Rolls back.
    pub fn rollback(&mut self) -> Result<(), SqlFailure> {
        if self.transaction.is_none() {
            return Err(invalid("no transaction is open"));
        }
        self.end();
        Ok(())
    }

    /// Called when an exported call has returned or trapped: what is still open is rolled back.
    pub fn end_call(&mut self) {
        if self.transaction.is_some() {
            self.end();
        }
    }

    /// Rolls back whatever is open and lets the next writer go.
    fn end(&mut self) {
        // The deadline may have passed; undoing must not be interrupted.
        let deadline = self.watch.suspend();
        if !self.compiled.connection().is_autocommit()
            && let Err(error) = self.own(Own::Rollback)
        {
            // SQLite rolled back by itself, or will when the connection closes.
            tracing::warn!(?error, path = %self.database.path().display(), "a plugin's transaction could not be rolled back");
        }
        self.watch.resume(deadline);
        self.transaction = None;
    }

    /// Runs one of the host's own statements.
    fn own(&mut self, own: Own) -> Result<(), SqlFailure> {
        self.watch.begin_statement();
        self.authorizer.set_host(true);
        let compiled = &mut self.compiled;
        let result = hand_over(self.hand_over, || compiled.run_own(own));
        self.authorizer.set_host(false);
        result.map_err(|error| self.failure(&error, 0))
    }

    fn failed(&mut self, error: StepError, largest_parameter: u64) -> SqlFailure {
        let failure = match error {
            StepError::Failure(failure) => failure,
            StepError::Sqlite(error) => self.failure(&error, largest_parameter),
        };
        // Some errors, like a full disk, end the transaction in SQLite.
        if self.transaction.is_some() && self.compiled.connection().is_autocommit() {
            self.transaction = None;
        }
        failure
    }

    fn failure(&self, error: &rusqlite::Error, largest_parameter: u64) -> SqlFailure {
        if let Some(limit) = self.watch.interrupted() {
            let allowed = self.database.limits().get(limit);
            let used = match limit {
                Limit::SqlMemoryBytes => self.watch.memory_used(),
                _ => allowed + self.watch.overtime_ms(),
            };
            return SqlFailure::Limit(LimitHit { limit, used: used.max(allowed), allowed });
        }
        let full = error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull);
        classify(
            error,
            Circumstances {
                limits: self.database.limits(),
                refused: self.authorizer.take_refusal(),
                largest_parameter,
                disk_has_room: full && self.database.disk_has_room(),
                file_bytes: std::fs::metadata(self.database.path()).map_or(0, |file| file.len()),
            },
        )
    }
}

/// The right to write. Takes no session, because a connection may not be shared over a wait.
async fn permit(database: &SqlDatabase, watch: &Watch) -> Result<Permit, SqlFailure> {
    database.write_permit(watch).await.ok_or_else(|| {
        let waited = database.limits().get(Limit::SqlBusyMs);
        SqlError::Busy(format!(
            "other calls of the plugin kept the write lock for {waited} ms (`sql_busy_ms`); try again"
        ))
        .into()
    })
}

/// Runs a statement; when it may take long, the other work of this thread moves to another one first.
fn hand_over<T>(wanted: bool, statement: impl FnOnce() -> T) -> T {
    let possible = || Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if wanted && possible() { tokio::task::block_in_place(statement) } else { statement() }
}
