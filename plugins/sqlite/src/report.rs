//! What people ask: whether the database can be read, and how much there is.

use compozy_sdk::sql::{Row, SqlError, statement};
use compozy_sdk::store::{HealthStatus, Statistics, StoreError};

use crate::schema::{self, VERSION};

/// Entries are counted up to here: more would take longer than a person waits.
pub(crate) const COUNTED_MAX: u32 = 1_000_000;
/// SQLite's default page.
const PAGE_BYTES: u64 = 4096;

/// Answers when the database can be read.
pub(crate) fn health() -> Result<HealthStatus, StoreError> {
    schema::ready()?;
    let read = statement!("SELECT sqlite_version(), (SELECT count(*) FROM sqlite_schema)")?;
    let version = read.query_row((), |row| row.get::<String>(0))?;
    let version = version.ok_or_else(|| SqlError::Invalid("SQLite does not tell its version".into()))?;
    Ok(HealthStatus { detail: format!("SQLite {version}, WAL, schema version {VERSION}") })
}

/// The first column as the count of a query that counts one more than [`COUNTED_MAX`] at most; `None` beyond.
pub(crate) fn counted(row: Row<'_>) -> Result<Option<u64>, SqlError> {
    Ok(Some(row.get::<u64>(0)?).filter(|count| *count <= u64::from(COUNTED_MAX)))
}

/// The statistics of a role with so many entries.
pub(crate) fn statistics(entries: Option<u64>, mut details: Vec<(String, String)>) -> Result<Statistics, StoreError> {
    let pages = statement!("SELECT page_count, freelist_count FROM pragma_page_count, pragma_freelist_count")?;
    let pages = pages.query_row((), |row| Ok((row.get::<u64>(0)?, row.get::<u64>(1)?)))?;
    let (all, free) = pages.ok_or_else(|| SqlError::Invalid("SQLite does not tell its size".into()))?;
    let mut detail = |name: &str, value: String| details.push((name.to_owned(), value));
    detail("bytes", "of the file that all roles share, without what still is in its write-ahead log".to_owned());
    detail("free_bytes", (free * PAGE_BYTES).to_string());
    detail("schema_version", VERSION.to_string());
    Ok(Statistics { entries, bytes: Some(all * PAGE_BYTES), details })
}
