//! Tables, and how they come to be.

use std::cell::Cell;

use compozy_sdk::sql::{self, statement};
use compozy_sdk::store::StoreError;

/// The version that this plugin writes. Migrations from older ones are the scripts of `MIGRATIONS` in order.
pub(crate) const VERSION: usize = MIGRATIONS.len();

/// Script N takes a database from version N to version N + 1. Never change one that was released; add the next.
///
/// `expires` is in milliseconds since 1970, NULL for a row that is kept. The partial indexes hold only rows that can expire.
/// Tables with large values keep SQLite's rowid: a tree that is ordered by key would carry the values in its inner nodes.
const MIGRATIONS: &[&str] = &[
    "
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
",
    "
CREATE TABLE lock (
    name BLOB NOT NULL PRIMARY KEY,
    token INTEGER NOT NULL,
    holder BLOB NOT NULL,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX lock_expires ON lock (expires);

-- The greatest token that was ever given to any name. One row; it outlives all locks.
CREATE TABLE fence (id INTEGER PRIMARY KEY CHECK (id = 1), token INTEGER NOT NULL) STRICT;
INSERT INTO fence (id, token) VALUES (1, 0);
-- So taking a lock is one statement, and no way of writing a lock can forget it.
CREATE TRIGGER lock_taken AFTER INSERT ON lock BEGIN
    UPDATE fence SET token = max(token, NEW.token);
END;
CREATE TRIGGER lock_taken_over AFTER UPDATE OF token ON lock BEGIN
    UPDATE fence SET token = max(token, NEW.token);
END;

-- A stream's row changes when it is trimmed or loaded, not when events are appended: the last event is found by its index.
-- Events before `floor` are trimmed, though their rows may wait to be removed. `last` and `time` are at least those of the
-- last event that was trimmed. `missing`: how many numbers from `floor` to the last one have no event.
CREATE TABLE stream (
    id INTEGER PRIMARY KEY,
    name BLOB NOT NULL UNIQUE,
    floor INTEGER NOT NULL DEFAULT 1,
    last INTEGER NOT NULL DEFAULT 0,
    time INTEGER NOT NULL DEFAULT 0,
    missing INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE event (
    stream INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    time INTEGER NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (stream, sequence)
) STRICT, WITHOUT ROWID;
",
];

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
