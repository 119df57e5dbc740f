//! The baseline of the stores: the statements of the plugin `sqlite`, issued by this process itself.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

/// The plugin's table, and its statements for `get` and `set`.
const SCHEMA: &str = "
CREATE TABLE cache (key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, version INTEGER NOT NULL, expires INTEGER) STRICT;
CREATE INDEX cache_expires ON cache (expires) WHERE expires IS NOT NULL;";
const GET: &str = "SELECT value, version FROM cache WHERE key = ?1 AND (expires IS NULL OR expires > ?2)";
const SET: &str = "INSERT INTO cache (value, key, expires, version) VALUES (?1, ?2, ?3, random() & 9223372036854775807)
     ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version, expires = excluded.expires
     RETURNING version";

pub(crate) struct Native(Connection);

#[expect(clippy::needless_pass_by_value, reason = "the form that `map_err` wants")]
fn say(error: rusqlite::Error) -> String {
    error.to_string()
}

impl Native {
    /// `vfs`: SQLite's name of how it works with files.
    pub(crate) fn open(path: &Path, vfs: &str) -> Result<Self, String> {
        let connection = Connection::open_with_flags_and_vfs(path, OpenFlags::default(), vfs).map_err(say)?;
        let pragmas = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY;
            PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA cache_size = -4096;
            PRAGMA wal_autocheckpoint = 1000; PRAGMA journal_size_limit = 67108864;";
        connection.execute_batch(pragmas).map_err(say)?;
        connection.execute_batch(SCHEMA).map_err(say)?;
        Ok(Self(connection))
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<(Vec<u8>, u64)>, String> {
        let mut statement = self.0.prepare_cached(GET).map_err(say)?;
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis());
        statement
            .query_row(params![key.as_bytes(), now.unwrap_or(i64::MAX)], |row| {
                Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()))
            })
            .optional()
            .map_err(say)
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> Result<u64, String> {
        let mut statement = self.0.prepare_cached(SET).map_err(say)?;
        statement
            .query_row(params![value, key.as_bytes(), None::<i64>], |row| row.get::<_, i64>(0))
            .map(i64::cast_unsigned)
            .map_err(say)
    }
}
