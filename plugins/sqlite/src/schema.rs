//! Tables, and how they come to be.

use std::cell::Cell;

use compozy_sdk::sql::{self, SqlError, statement};
use compozy_sdk::store::{HealthStatus, StoreError};

/// The version that this plugin writes. Migrations from older ones are the scripts of `MIGRATIONS` in order.
const VERSION: usize = MIGRATIONS.len();

/// Script N takes a database from version N to version N + 1. Never change one that was released; add the next.
///
/// `expires` is in milliseconds since 1970, NULL for a row that is kept. The partial indexes hold only rows that can expire.
/// Tables with large values keep SQLite's rowid: a tree that is ordered by key would carry the values in its inner nodes.
const MIGRATIONS: &[&str] = &["
CREATE TABLE cache (
    key BLOB NOT NULL UNIQUE,
    value BLOB NOT NULL,
    version INTEGER NOT NULL,
    expires INTEGER
) STRICT;
CREATE INDEX cache_expires ON cache (expires) WHERE expires IS NOT NULL;

CREATE TABLE config (
    namespace INTEGER NOT NULL,
    id BLOB NOT NULL,
    value BLOB NOT NULL,
    ttl INTEGER,
    expires INTEGER,
    UNIQUE (namespace, id)
) STRICT;
CREATE INDEX config_expires ON config (expires) WHERE expires IS NOT NULL;

-- A memory's messages are numbered first .. next without gaps, so that a count is a difference and a page is a range.
CREATE TABLE memory (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    first INTEGER NOT NULL,
    next INTEGER NOT NULL CHECK (next > first),
    tokens INTEGER NOT NULL CHECK (tokens >= 0),
    expires INTEGER
) STRICT;
CREATE INDEX memory_expires ON memory (expires) WHERE expires IS NOT NULL;

CREATE TABLE message (
    memory INTEGER NOT NULL,
    number INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (memory, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE flush (
    key BLOB NOT NULL PRIMARY KEY,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX flush_expires ON flush (expires);
"];

thread_local! {
    static READY: Cell<bool> = const { Cell::new(false) };
}

/// Makes sure, once per instance, that the tables are those of this version.
pub(crate) fn ready() -> Result<(), StoreError> {
    if READY.get() {
        return Ok(());
    }
    if current()? != VERSION {
        sql::transaction(migrate)?;
    }
    READY.set(true);
    Ok(())
}

/// Runs in a transaction: instances that start at the same time do it one after the other, and only the first has work.
fn migrate() -> Result<(), StoreError> {
    let found = current()?;
    let Some(missing) = MIGRATIONS.get(found..) else {
        return Err(StoreError::Unavailable(format!(
            "the database has version {found}, but this plugin knows versions up to {VERSION}; use the plugin that wrote it"
        )));
    };
    for script in missing {
        sql::run_script(script)?;
    }
    sql::run_script(&format!("PRAGMA user_version = {VERSION}"))?;
    Ok(())
}

fn current() -> Result<usize, StoreError> {
    let version = statement!("PRAGMA user_version")?.query_row((), |row| row.get::<u32>(0))?;
    Ok(version.unwrap_or(0) as usize)
}

/// Answers when the database can be read.
pub(crate) fn health() -> Result<HealthStatus, StoreError> {
    ready()?;
    let read = statement!("SELECT sqlite_version(), (SELECT count(*) FROM sqlite_schema)")?;
    let version = read.query_row((), |row| row.get::<String>(0))?;
    let version = version.ok_or_else(|| SqlError::Invalid("SQLite does not tell its version".into()))?;
    Ok(HealthStatus { detail: format!("SQLite {version}, WAL, schema version {VERSION}") })
}
