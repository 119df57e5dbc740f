//! The journal file: opened in one way only, with every setting read back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use compozy_interpreter::BlobError;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::runs::Fault;
use super::schema::MIGRATIONS;
use crate::{EngineError, limits};

/// Marks the file as a journal of ours (`CPZJ`).
const APPLICATION_ID: i64 = 0x4350_5a4a;
/// The journal is one file in the data folder (and SQLite's `-wal` and `-shm` beside it).
const FILE_NAME: &str = "journal.db";

/// Where a journal is, for opening it and for naming it in errors.
#[derive(Debug, Clone)]
pub(super) struct JournalFile {
    folder: PathBuf,
    path: PathBuf,
}

impl JournalFile {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf(), path: folder.join(FILE_NAME) }
    }

    /// The connection of the writer: creates the file when there is none and brings it to the newest format.
    pub(super) fn open_writer(&self) -> Result<Connection, EngineError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut conn =
            Connection::open_with_flags(&self.path, flags).map_err(|e| self.error("open the journal", &e))?;
        self.refuse_foreign(&conn)?;
        self.configure(&conn, "OFF")?;
        self.migrate(&mut conn)?;
        Ok(conn)
    }

    /// A connection that cannot write.
    pub(super) fn open_reader(&self) -> Result<Connection, EngineError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(&self.path, flags).map_err(|e| self.error("open the journal", &e))?;
        self.refuse_foreign(&conn)?;
        self.refuse_older(&conn)?;
        self.configure(&conn, "ON")?;
        Ok(conn)
    }

    /// Copies the journal, as it is at one moment, to a file that does not exist, and makes sure that the copy is sound
    /// and on the disk. The writer goes on meanwhile.
    pub(super) fn backup(&self, to: &Path) -> Result<(), EngineError> {
        let refused = |reason: String| {
            EngineError::InvalidOption(format!("cannot write a backup to `{}`: {reason}", to.display()))
        };
        if to.exists() {
            return Err(refused("it exists already; name a new file".to_owned()));
        }
        let name = to.to_str().ok_or_else(|| refused("its name is not UTF-8".to_owned()))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(&self.path, flags).map_err(|e| self.error("open the journal", &e))?;
        conn.busy_timeout(Duration::from_secs(10)).map_err(|e| self.error("open the journal", &e))?;
        conn.execute("VACUUM INTO ?1", [name]).map_err(|e| refused(e.to_string()))?;
        let copy = Connection::open_with_flags(to, flags).map_err(|e| refused(e.to_string()))?;
        let sound = read_pragma(&copy, "quick_check").map_err(|e| refused(e.to_string()))?;
        if sound != "ok" {
            return Err(refused(format!("the copy is damaged: {sound}")));
        }
        std::fs::File::open(to).and_then(|file| file.sync_all()).map_err(|e| refused(e.to_string()))
    }

    /// Before any setting is changed: is this file ours, and not newer than we are?
    fn refuse_foreign(&self, conn: &Connection) -> Result<(), EngineError> {
        let read = |sql: &str| {
            conn.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(|e| self.error("read the journal", &e))
        };
        let application = read("PRAGMA application_id")?;
        let tables = read("SELECT COUNT(*) FROM sqlite_schema")?;
        let version = read("PRAGMA user_version")?;
        if application != APPLICATION_ID && (tables > 0 || application != 0) {
            return Err(self.corrupt("it is a SQLite file of another program".to_owned()));
        }
        let supported = i64::try_from(MIGRATIONS.len()).expect("few migrations");
        if version > supported {
            return Err(EngineError::JournalTooNew { path: self.path.clone(), found: version, supported });
        }
        Ok(())
    }

    /// Whoever cannot write cannot bring the file to this version's format either.
    fn refuse_older(&self, conn: &Connection) -> Result<(), EngineError> {
        let found: usize = conn
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(|e| self.error("read the journal", &e))?;
        let supported = MIGRATIONS.len();
        if found == supported {
            return Ok(());
        }
        Err(EngineError::InvalidOption(format!(
            "the journal `{}` has format {found}, this version reads {supported}; start a host of this version on the \
             data folder once, which brings it to that format",
            self.path.display()
        )))
    }

    /// Sets what durability rests on, and reads it back: SQLite ignores a value that it does not know.
    fn configure(&self, conn: &Connection, query_only: &str) -> Result<(), EngineError> {
        conn.busy_timeout(Duration::from_secs(10)).map_err(|e| self.error("open the journal", &e))?;
        conn.set_prepared_statement_cache_capacity(64);
        // In KiB when it is negative. Two MiB, as SQLite has it, are enough to read.
        let cache = format!("-{}", if query_only == "ON" { 2_000 } else { limits::WRITER_CACHE_KIB });
        let wal_bytes = limits::WAL_BYTES_MAX.to_string();
        let flag = if query_only == "ON" { "1" } else { "0" };
        let settings: [(&'static str, &str, &str); 11] = [
            ("journal_mode", "WAL", "wal"),
            // A commit returns after the fsync. NORMAL would lose the last commits on a power cut.
            ("synchronous", "FULL", "2"),
            ("fullfsync", "ON", "1"),
            ("foreign_keys", "ON", "1"),
            ("trusted_schema", "OFF", "0"),
            ("cell_size_check", "ON", "1"),
            ("temp_store", "MEMORY", "2"),
            // See `checkpoint`.
            ("wal_autocheckpoint", "0", "0"),
            ("cache_size", &cache, &cache),
            ("journal_size_limit", &wal_bytes, &wal_bytes),
            ("query_only", query_only, flag),
        ];
        for (setting, value, expected) in settings {
            // Some pragmas answer a row when they are set and some do not.
            conn.pragma_update(None, setting, value).map_err(|e| self.error("configure the journal", &e))?;
            let found = read_pragma(conn, setting).map_err(|e| self.error("configure the journal", &e))?;
            if !found.eq_ignore_ascii_case(expected) {
                return Err(EngineError::SettingRefused {
                    path: self.path.clone(),
                    setting,
                    wanted: value.to_owned(),
                    found,
                });
            }
        }
        Ok(())
    }

    /// Forward only, each step in its own transaction; a failed step leaves the format before it.
    fn migrate(&self, conn: &mut Connection) -> Result<(), EngineError> {
        let error = |e: rusqlite::Error| self.error("bring the journal to this version's format", &e);
        let version: usize = conn.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(error)?;
        for (index, sql) in MIGRATIONS.iter().enumerate().skip(version) {
            let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(error)?;
            tx.execute_batch(sql).map_err(error)?;
            tx.pragma_update(None, "application_id", APPLICATION_ID).map_err(error)?;
            tx.pragma_update(None, "user_version", index + 1).map_err(error)?;
            tx.commit().map_err(error)?;
        }
        Ok(())
    }

    /// Says what a fault means for us.
    pub(super) fn fault(&self, action: &'static str, fault: Fault) -> EngineError {
        match fault {
            Fault::Sql(error) => self.error(action, &error),
            Fault::Run(reason) => EngineError::ExecutionUnreadable { reason },
            Fault::Refused(error) | Fault::Storage(error) => error,
            Fault::Unfenced => EngineError::Internal("an operation that was not fenced off failed".to_owned()),
            Fault::Blob(error @ BlobError::Lost { .. }) => EngineError::BlobLost { reason: error.to_string() },
            Fault::Blob(error @ BlobError::Unavailable { .. }) => EngineError::StorageUnavailable {
                folder: self.folder.clone(),
                action: "read a value that is kept apart",
                reason: error.to_string(),
            },
        }
    }

    /// Says what an error of SQLite means for us. By its code, never by its text.
    pub(super) fn error(&self, action: &'static str, error: &rusqlite::Error) -> EngineError {
        match error.sqlite_error_code() {
            Some(
                ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::OutOfMemory,
            ) => EngineError::StorageUnavailable { folder: self.folder.clone(), action, reason: error.to_string() },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => self.corrupt(error.to_string()),
            _ => EngineError::Internal(format!("cannot {action}: {error}")),
        }
    }

    pub(super) fn corrupt(&self, reason: String) -> EngineError {
        EngineError::JournalCorrupt { path: self.path.clone(), reason }
    }
}

/// A pragma's value as text.
pub(super) fn read_pragma(conn: &Connection, name: &str) -> rusqlite::Result<String> {
    conn.pragma_query_value(None, name, |row| {
        Ok(match row.get_ref(0)? {
            rusqlite::types::ValueRef::Integer(value) => value.to_string(),
            rusqlite::types::ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
            other => format!("{other:?}"),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> (tempfile::TempDir, JournalFile, Connection) {
        let dir = tempfile::tempdir().unwrap();
        let file = JournalFile::new(dir.path());
        let conn = file.open_writer().unwrap();
        (dir, file, conn)
    }

    #[test]
    fn every_commit_is_synced_and_readers_cannot_write() {
        let (_dir, file, conn) = opened();
        assert_eq!(read_pragma(&conn, "synchronous").unwrap(), "2");
        assert_eq!(read_pragma(&conn, "journal_mode").unwrap(), "wal");
        let reader = file.open_reader().unwrap();
        let refused = reader.execute("DELETE FROM meta", []).unwrap_err();
        assert_eq!(refused.sqlite_error_code(), Some(ErrorCode::ReadOnly));
    }

    #[test]
    fn a_setting_that_does_not_hold_is_refused() {
        // A database in memory cannot have a write-ahead log, as on a file system without shared memory.
        let file = JournalFile::new(Path::new("/nowhere"));
        let conn = Connection::open_in_memory().unwrap();
        let refused = file.configure(&conn, "OFF").unwrap_err();
        assert_eq!(refused.code(), "JOURNAL_SETTING_REFUSED");
        assert!(refused.to_string().contains("refuses `journal_mode = WAL`, it has memory"), "{refused}");
    }

    #[test]
    fn a_full_disk_is_storage_that_is_unavailable() {
        let (_dir, file, conn) = opened();
        let pages = read_pragma(&conn, "page_count").unwrap();
        conn.pragma_update(None, "max_page_count", pages).unwrap();
        let large = "x".repeat(1024 * 1024);
        let full = conn.execute("INSERT INTO meta(key, value) VALUES ('large', ?1)", [large]).unwrap_err();
        let error = file.error("write the journal", &full);
        assert_eq!((error.code(), error.retryable()), ("STORAGE_UNAVAILABLE", true));
        assert!(error.to_string().contains("disk is full; nothing was written, try again"), "{error}");
    }

    #[test]
    fn a_newer_journal_is_refused_and_left_alone() {
        let (_dir, file, conn) = opened();
        conn.pragma_update(None, "user_version", 99).unwrap();
        drop(conn);
        let refused = file.open_writer().unwrap_err();
        assert_eq!(refused.code(), "JOURNAL_TOO_NEW");
        let message = refused.to_string();
        let newest = MIGRATIONS.len();
        assert!(message.contains(&format!("has format 99, this version reads up to {newest}")), "{message}");
        let conn = Connection::open(&file.path).unwrap();
        assert_eq!(read_pragma(&conn, "user_version").unwrap(), "99");
    }

    #[test]
    fn who_only_reads_refuses_another_format() {
        for (version, code) in [(1, "INVALID_OPTION"), (99, "JOURNAL_TOO_NEW")] {
            let (_dir, file, conn) = opened();
            conn.pragma_update(None, "user_version", version).unwrap();
            let refused = file.open_reader().unwrap_err();
            assert_eq!(refused.code(), code, "{refused}");
            assert!(refused.to_string().contains(&format!("has format {version}, this version reads")), "{refused}");
        }
    }

    #[test]
    fn a_journal_of_the_first_format_becomes_one_of_this() {
        let dir = tempfile::tempdir().unwrap();
        let file = JournalFile::new(dir.path());
        let conn = Connection::open(&file.path).unwrap();
        conn.execute_batch(super::super::schema::MIGRATIONS[0]).unwrap();
        conn.execute_batch(
            "INSERT INTO definition VALUES (1, 'd', 0, '{}');
             INSERT INTO run VALUES (1, 'old', 1, 'w', 1, 0, 'RUNNING', 5, NULL);",
        )
        .unwrap();
        conn.pragma_update(None, "application_id", read_pragma(&opened().2, "application_id").unwrap()).unwrap();
        conn.pragma_update(None, "user_version", 1).unwrap();
        drop(conn);
        let conn = file.open_writer().unwrap();
        assert_eq!(read_pragma(&conn, "user_version").unwrap(), MIGRATIONS.len().to_string());
        let kept: (String, Option<i64>, u32) = conn
            .query_row("SELECT execution, parent, depth FROM run", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .unwrap();
        assert_eq!(kept, ("old".to_owned(), None, 0));
        assert_eq!(conn.query_row("SELECT COUNT(*) FROM timer", [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    }

    #[test]
    fn a_file_that_is_no_journal_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = JournalFile::new(dir.path());
        let garbage = "this is not a database, but it is long enough to be looked at. ".repeat(100);
        std::fs::write(&file.path, &garbage).unwrap();
        assert_eq!(file.open_writer().unwrap_err().code(), "JOURNAL_CORRUPT");
        assert_eq!(std::fs::read_to_string(&file.path).unwrap(), garbage);

        std::fs::remove_file(&file.path).unwrap();
        Connection::open(&file.path).unwrap().execute_batch("CREATE TABLE theirs(x)").unwrap();
        let refused = file.open_writer().unwrap_err();
        assert_eq!(refused.code(), "JOURNAL_CORRUPT");
        assert!(refused.to_string().contains("another program"), "{refused}");
    }

    #[test]
    fn a_journal_opens_again_and_migrates_once() {
        let (_dir, file, conn) = opened();
        conn.execute("INSERT INTO meta(key, value) VALUES ('a', 'b')", []).unwrap();
        drop(conn);
        let conn = file.open_writer().unwrap();
        let kept: String = conn.query_row("SELECT value FROM meta WHERE key = 'a'", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, "b");
    }
}
