//! The baseline of the stores: the statements of the plugin `sqlite`, issued by this process itself.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OpenFlags, params};

/// The plugin's table, and its statements for `get` and `set`.
const SCHEMA: &str = "
CREATE TABLE cache (key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, version INTEGER NOT NULL, expires INTEGER) STRICT;
CREATE INDEX cache_expires ON cache (expires) WHERE expires IS NOT NULL;";
const GET: &str = "SELECT value, version, expires FROM cache WHERE key = ?1";
const SET: &str = "INSERT INTO cache (value, key, expires, version) VALUES (?1, ?2, ?3, random() & 9223372036854775807)
     ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version, expires = excluded.expires
     RETURNING version";

/// The text for so many keys.
pub(crate) fn many_sql(keys: usize) -> String {
    let places: Vec<String> = (0..keys).map(|place| format!("({place}, ?{})", place + 2)).collect();
    format!(
        "SELECT wanted.column1, cache.value, cache.version FROM (VALUES {}) AS wanted CROSS JOIN cache
         ON cache.key = wanted.column2 WHERE cache.expires IS NULL OR cache.expires > ?1",
        places.join(", ")
    )
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A value and its version.
type Entry = (Vec<u8>, u64);

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
            PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -4096; PRAGMA mmap_size = 1073741824;
            PRAGMA wal_autocheckpoint = 1000; PRAGMA journal_size_limit = 67108864;";
        connection.execute_batch(pragmas).map_err(say)?;
        connection.execute_batch(SCHEMA).map_err(say)?;
        Ok(Self(connection))
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Entry>, String> {
        let mut statement = self.0.prepare_cached(GET).map_err(say)?;
        let mut rows = statement.query(params![key.as_bytes()]).map_err(say)?;
        let Some(row) = rows.next().map_err(say)? else { return Ok(None) };
        let expires: Option<i64> = row.get(2).map_err(say)?;
        if expires.is_some_and(|at| at <= now()) {
            return Ok(None);
        }
        let version: i64 = row.get(1).map_err(say)?;
        Ok(Some((row.get(0).map_err(say)?, version.cast_unsigned())))
    }

    /// The values of many keys in the plugin's statement for so many.
    pub(crate) fn get_many(&self, sql: &str, keys: &[String]) -> Result<Vec<Option<Entry>>, String> {
        let mut statement = self.0.prepare_cached(sql).map_err(say)?;
        statement.raw_bind_parameter(1, now()).map_err(say)?;
        for (index, key) in keys.iter().enumerate() {
            statement.raw_bind_parameter(index + 2, key.as_bytes()).map_err(say)?;
        }
        let mut found = vec![None; keys.len()];
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().map_err(say)? {
            let place: usize = row.get(0).map_err(say)?;
            let version: i64 = row.get(2).map_err(say)?;
            found[place] = Some((row.get(1).map_err(say)?, version.cast_unsigned()));
        }
        Ok(found)
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> Result<u64, String> {
        let mut statement = self.0.prepare_cached(SET).map_err(say)?;
        statement
            .query_row(params![value, key.as_bytes(), None::<i64>], |row| row.get::<_, i64>(0))
            .map(i64::cast_unsigned)
            .map_err(say)
    }
}
