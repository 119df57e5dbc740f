//! A connection with the statements that are compiled on it.
//!
//! rusqlite's statements borrow their connection, so that no struct can safely hold both. Looking a statement up by its text
//! for each execution, as rusqlite's cache does, costs a quarter of a small read; hence the care that is taken here.

use std::ptr::NonNull;

use rusqlite::{CachedStatement, Connection, Statement};

/// The host's own statements.
#[derive(Debug, Clone, Copy)]
pub(super) enum Own {
    Begin,
    Commit,
    Rollback,
}

impl Own {
    pub(super) const ALL: [Self; 3] = [Self::Begin, Self::Commit, Self::Rollback];

    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Begin => "BEGIN IMMEDIATE",
            Self::Commit => "COMMIT",
            Self::Rollback => "ROLLBACK",
        }
    }
}

/// A statement that the guest holds. It goes back to the connection's cache, under its text, when it is dropped.
struct Held {
    statement: CachedStatement<'static>,
    readonly: bool,
}

/// A connection and its statements.
pub(super) struct Compiled {
    statements: Vec<Option<Held>>,
    free: Vec<u32>,
    own: [Option<CachedStatement<'static>>; Own::ALL.len()],
    /// Made by `Box::leak`, owned by this struct alone, and closed after the statements.
    connection: NonNull<Connection>,
}

// SAFETY: SQLite lets one thread at a time use a connection and its statements, whichever thread it is (SQLITE_OPEN_NO_MUTEX).
// All of them move together in this struct, which is not `Sync`.
#[expect(unsafe_code, reason = "statements are not `Send` because they could move without their connection")]
unsafe impl Send for Compiled {}

impl Compiled {
    pub(super) fn new(connection: Connection) -> Self {
        let connection = NonNull::from(Box::leak(Box::new(connection)));
        Self { statements: Vec::new(), free: Vec::new(), own: [const { None }; Own::ALL.len()], connection }
    }

    pub(super) fn connection(&self) -> &Connection {
        self.borrowed()
    }

    /// The connection as the statements of this struct borrow it. Goes nowhere else: it lives no longer than `self`.
    #[expect(unsafe_code, reason = "no lifetime can say that the connection lives as long as `self`")]
    fn borrowed(&self) -> &'static Connection {
        // SAFETY: the pointer is that of a leaked box, which only `drop` takes back, and there is never a `&mut` to it.
        unsafe { self.connection.as_ref() }
    }

    /// Compiles a statement, or takes it from the cache, and holds it. Answers its number, `None` when the text is none.
    pub(super) fn prepare(&mut self, sql: &str) -> rusqlite::Result<Option<u32>> {
        let statement = self.borrowed().prepare_cached(sql)?;
        // Comments and blanks compile to nothing.
        if statement.expanded_sql().is_none_or(|text| text.trim().is_empty()) {
            return Ok(None);
        }
        let held = Some(Held { readonly: statement.readonly(), statement });
        if let Some(number) = self.free.pop() {
            self.statements[number as usize] = held;
            return Ok(Some(number));
        }
        self.statements.push(held);
        Ok(Some(self.statements.len() as u32 - 1))
    }

    /// How many statements the guest holds.
    pub(super) fn live(&self) -> usize {
        self.statements.len() - self.free.len()
    }

    /// Whether a statement only reads; `None` when there is no such statement.
    pub(super) fn readonly(&self, number: u32) -> Option<bool> {
        self.statements.get(number as usize)?.as_ref().map(|held| held.readonly)
    }

    /// A statement, to be run in place.
    pub(super) fn statement(&mut self, number: u32) -> Option<&mut Statement<'static>> {
        self.statements.get_mut(number as usize)?.as_mut().map(|held| &mut *held.statement)
    }

    /// Lets a statement go.
    pub(super) fn close(&mut self, number: u32) {
        if let Some(place) = self.statements.get_mut(number as usize)
            && place.take().is_some()
        {
            self.free.push(number);
        }
    }

    /// Runs one of the host's own statements.
    pub(super) fn run_own(&mut self, own: Own) -> rusqlite::Result<()> {
        let connection = self.borrowed();
        let place = &mut self.own[own as usize];
        let statement = match place {
            Some(statement) => statement,
            None => place.insert(connection.prepare_cached(own.sql())?),
        };
        statement.raw_execute().map(drop)
    }
}

impl Drop for Compiled {
    #[expect(unsafe_code, reason = "takes the box back that `new` leaked")]
    fn drop(&mut self) {
        self.statements.clear();
        self.own = [const { None }; Own::ALL.len()];
        // SAFETY: made by `Box::leak`, taken back once, and the statements that borrowed it are gone.
        drop(unsafe { Box::from_raw(self.connection.as_ptr()) });
    }
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiled").field("statements", &self.live()).finish_non_exhaustive()
    }
}
