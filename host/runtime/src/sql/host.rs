//! The functions that guests import.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::Resource;

use super::{SqlDatabase, SqlFailure, SqlSession, Watch};
use crate::bindings::compozy::host::sql::{Host, HostStatement, Parameters, Rows, SqlError};
use crate::limits::Limit;

/// A prepared statement, as a guest's handle names it. The handle's number is that of the statement in its session.
#[derive(Debug)]
pub struct Statement;

/// The part of a guest's state that serves `compozy:host/sql`.
#[derive(Debug)]
pub struct SqlAccess(Access);

#[derive(Debug)]
enum Access {
    /// Each function answers this sentence.
    Denied(String),
    Granted(Box<Granted>),
}

#[derive(Debug)]
struct Granted {
    database: Arc<SqlDatabase>,
    watch: Arc<Watch>,
    hand_over: bool,
    /// Opened at the first use: most instances never ask.
    session: Option<SqlSession>,
}

impl SqlAccess {
    /// No access; `why` tells the plugin's author and the operator what to do.
    pub fn denied(why: impl Into<String>) -> Self {
        Self(Access::Denied(why.into()))
    }

    /// Access to a plugin's database. `hand_over` as in [`SqlSession::open`].
    pub fn granted(database: Arc<SqlDatabase>, hand_over: bool) -> Self {
        let watch = Watch::new(database.limits().get(Limit::SqlMemoryBytes));
        Self(Access::Granted(Box::new(Granted { database, watch, hand_over, session: None })))
    }

    /// An exported call begins: its statements end at this moment, after `wall_ms`.
    pub fn begin_call(&mut self, deadline: Option<Instant>) {
        if let Access::Granted(granted) = &self.0 {
            granted.watch.begin_call(deadline);
        }
    }

    /// Rolls back what is open. Call it when an exported call has returned, trapped or been given up.
    pub fn end_call(&mut self) {
        if let Access::Granted(granted) = &mut self.0
            && let Some(session) = &mut granted.session
        {
            session.end_call();
        }
    }

    fn session(&mut self) -> Result<&mut SqlSession, SqlFailure> {
        let granted = match &mut self.0 {
            Access::Denied(why) => return Err(SqlError::Denied(why.clone()).into()),
            Access::Granted(granted) => granted,
        };
        if granted.session.is_none() {
            let session = SqlSession::open(&granted.database, Arc::clone(&granted.watch), granted.hand_over)
                .map_err(|error| SqlError::Unavailable(error.to_string()))?;
            granted.session = Some(session);
        }
        Ok(granted.session.as_mut().expect("opened above"))
    }
}

/// What goes to the guest is the answer of the function; what ends the call is a trap.
fn answer<T>(result: Result<T, SqlFailure>) -> wasmtime::Result<Result<T, SqlError>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(SqlFailure::Guest(error)) => Ok(Err(error)),
        Err(SqlFailure::Limit(limit)) => Err(limit.into()),
    }
}

impl Host for SqlAccess {
    fn prepare(&mut self, sql: String) -> wasmtime::Result<Result<Resource<Statement>, SqlError>> {
        let prepared = self.session().and_then(|session| session.prepare(&sql));
        answer(prepared.map(Resource::new_own))
    }

    async fn run_script(&mut self, sql: String) -> wasmtime::Result<Result<(), SqlError>> {
        answer(match self.session() {
            Ok(session) => session.run_script(&sql).await,
            Err(failure) => Err(failure),
        })
    }

    async fn begin(&mut self) -> wasmtime::Result<Result<(), SqlError>> {
        answer(match self.session() {
            Ok(session) => session.begin().await,
            Err(failure) => Err(failure),
        })
    }

    fn commit(&mut self) -> wasmtime::Result<Result<(), SqlError>> {
        answer(self.session().and_then(SqlSession::commit))
    }

    fn rollback(&mut self) -> wasmtime::Result<Result<(), SqlError>> {
        answer(self.session().and_then(SqlSession::rollback))
    }
}

impl HostStatement for SqlAccess {
    async fn query(
        &mut self,
        statement: Resource<Statement>,
        parameters: Parameters,
    ) -> wasmtime::Result<Result<Rows, SqlError>> {
        answer(match self.session() {
            Ok(session) => session.query(statement.rep(), &parameters).await,
            Err(failure) => Err(failure),
        })
    }

    async fn execute(
        &mut self,
        statement: Resource<Statement>,
        parameters: Parameters,
    ) -> wasmtime::Result<Result<u64, SqlError>> {
        answer(match self.session() {
            Ok(session) => session.execute(statement.rep(), &parameters).await,
            Err(failure) => Err(failure),
        })
    }

    fn drop(&mut self, statement: Resource<Statement>) -> wasmtime::Result<()> {
        if let Ok(session) = self.session() {
            session.close(statement.rep());
        }
        Ok(())
    }
}
