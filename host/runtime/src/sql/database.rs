//! The database file of one plugin: where it is, how it is opened, and the queue of its writers.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit as SqliteLimit;
use rusqlite::{Connection, OpenFlags};

use super::guard::{Authorizer, Watch};
use super::turn::{Permit, Turn};
use crate::limits::{Limit, Limits};

/// The file's name in the plugin's folder.
const FILE: &str = "store.db";
/// The file belongs to this process alone, as the host owns its data folder. This file system of SQLite's takes one lock when the
/// file is opened and keeps the index of the write-ahead log in memory that the process's connections share: a
/// read then needs no system call, where the default makes four `fcntl` for each.
const VFS: &str = "unix-excl";
/// SQLite's default page, which is also the file system's.
const PAGE_BYTES: u64 = 4096;
/// How much of the file is read where the system keeps it in memory, without a call and a copy for each page: the most that SQLite
/// maps. What is written goes the usual way. Without `cell_size_check`, which would read a mapped page through at each visit; it is
/// for files that somebody else may have written.
const MAPPED_BYTES_MAX: u64 = 0x7fff_0000;
/// How often SQLite asks whether a statement must stop, in steps of its virtual machine: about every 10 us.
const PROGRESS_STEPS: i32 = 500;
/// How long a lock that somebody outside of this process holds is waited for. Writers of this process queue before SQLite.
const FOREIGN_LOCK_TRIES: i32 = 250;
/// Below this much room on the volume, SQLITE_FULL means the disk and not `sql_bytes`.
const DISK_ROOM_BYTES: u64 = 64 * 1024 * 1024;

/// Why a plugin's database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SqlOpenError {
    /// The folder cannot be made.
    #[error("cannot make the folder `{path}` for the plugin's database: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// SQLite cannot open or prepare the file.
    #[error("cannot open the plugin's database `{path}`: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A pragma did not take effect.
    #[error("the plugin's database `{path}` answers `{found}` for PRAGMA {pragma} instead of `{expected}`")]
    Pragma {
        /// The file.
        path: PathBuf,
        /// The pragma.
        pragma: &'static str,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
}

/// The database of one plugin, shared by all of its instances.
#[derive(Debug)]
pub struct SqlDatabase {
    path: PathBuf,
    limits: Limits,
    writer: Arc<Turn>,
    /// Never used, only open: the last connection to close would empty the log, while the next one is opening.
    anchor: Mutex<Option<Connection>>,
}

impl SqlDatabase {
    /// The database in this folder, which is made when it is missing and which no other plugin may share.
    pub fn new(folder: &Path, limits: Limits) -> Result<Arc<Self>, SqlOpenError> {
        std::fs::create_dir_all(folder).map_err(|source| SqlOpenError::Folder { path: folder.to_owned(), source })?;
        Ok(Arc::new(Self { path: folder.join(FILE), limits, writer: Arc::default(), anchor: Mutex::new(None) }))
    }

    /// The limits of each session.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the right to write; `None` when the wait ran out.
    ///
    /// SQLite has one writer. Were its own lock the queue, a waiting instance would block its thread and poll.
    pub(super) async fn write_permit(&self, watch: &Watch) -> Option<Permit> {
        if let Some(permit) = self.writer.try_take() {
            return Some(permit);
        }
        let began = Instant::now();
        let taken = tokio::time::timeout(self.limits.duration(Limit::SqlBusyMs), self.writer.take()).await;
        watch.waited(began.elapsed());
        taken.ok()
    }

    /// Whether the volume has room, which tells the two reasons of SQLITE_FULL apart.
    pub(super) fn disk_has_room(&self) -> bool {
        rustix::fs::statvfs(&self.path)
            .is_ok_and(|volume| volume.f_bavail.saturating_mul(volume.f_frsize) > DISK_ROOM_BYTES)
    }

    /// Opens a connection whose pragmas and limits are set and read back, and which guest SQL may use.
    pub(super) fn connect(&self, authorizer: &Arc<Authorizer>, watch: &Arc<Watch>) -> Result<Connection, SqlOpenError> {
        // One at a time: SQLite does not wait for another connection that is just making the file or its log.
        let mut anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        if anchor.is_none() {
            *anchor = Some(self.open()?);
        }
        let mut connection = self.open()?;
        self.harden(&mut connection, authorizer, watch).map_err(|source| self.open_error(source))?;
        Ok(connection)
    }

    fn open(&self) -> Result<Connection, SqlOpenError> {
        // No SQLITE_OPEN_URI: the path is a path. No mutex: a connection belongs to one instance, which one thread runs at a time.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags_and_vfs(&self.path, flags, VFS).map_err(|source| self.open_error(source))?;
        self.set_pragmas(&connection)?;
        Ok(connection)
    }

    fn open_error(&self, source: rusqlite::Error) -> SqlOpenError {
        SqlOpenError::Open { path: self.path.clone(), source }
    }

    fn set_pragmas(&self, connection: &Connection) -> Result<(), SqlOpenError> {
        let pages = (self.limits.get(Limit::SqlBytes) / PAGE_BYTES).max(1).to_string();
        let mapped = self.limits.get(Limit::SqlBytes).min(MAPPED_BYTES_MAX).to_string();
        let pragmas: [(&'static str, &str, &str); 10] = [
            ("journal_mode", "WAL", "wal"),
            ("synchronous", "NORMAL", "1"),
            ("temp_store", "MEMORY", "2"),
            ("foreign_keys", "ON", "1"),
            ("trusted_schema", "OFF", "0"),
            ("cache_size", "-4096", "-4096"),
            ("mmap_size", &mapped, &mapped),
            ("wal_autocheckpoint", "1000", "1000"),
            ("journal_size_limit", "67108864", "67108864"),
            ("max_page_count", &pages, &pages),
        ];
        for (pragma, value, expected) in pragmas {
            connection
                .execute_batch(&format!("PRAGMA {pragma} = {value}"))
                .map_err(|source| self.open_error(source))?;
            let found = connection
                .pragma_query_value(None, pragma, |row| row.get_ref(0).map(text))
                .map_err(|source| self.open_error(source))?;
            if found != expected {
                return Err(SqlOpenError::Pragma {
                    path: self.path.clone(),
                    pragma,
                    expected: expected.to_owned(),
                    found,
                });
            }
        }
        Ok(())
    }

    fn harden(
        &self,
        connection: &mut Connection,
        authorizer: &Arc<Authorizer>,
        watch: &Arc<Watch>,
    ) -> rusqlite::Result<()> {
        for (config, on) in [
            (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
            (DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, false),
            (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_CREATE, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE, false),
            (DbConfig::SQLITE_DBCONFIG_DQS_DDL, false),
            (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
        ] {
            connection.set_db_config(config, on)?;
        }
        for (limit, value) in [
            (
                SqliteLimit::SQLITE_LIMIT_LENGTH,
                i32::try_from(self.limits.get(Limit::SqlValueBytes)).unwrap_or(i32::MAX),
            ),
            (SqliteLimit::SQLITE_LIMIT_SQL_LENGTH, 256 * 1024),
            (SqliteLimit::SQLITE_LIMIT_COLUMN, 200),
            (SqliteLimit::SQLITE_LIMIT_EXPR_DEPTH, 100),
            (SqliteLimit::SQLITE_LIMIT_COMPOUND_SELECT, 50),
            (SqliteLimit::SQLITE_LIMIT_VDBE_OP, 250_000),
            (SqliteLimit::SQLITE_LIMIT_FUNCTION_ARG, 32),
            (SqliteLimit::SQLITE_LIMIT_ATTACHED, 0),
            (SqliteLimit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 100),
            (SqliteLimit::SQLITE_LIMIT_VARIABLE_NUMBER, 4096),
            (SqliteLimit::SQLITE_LIMIT_TRIGGER_DEPTH, 10),
            (SqliteLimit::SQLITE_LIMIT_WORKER_THREADS, 0),
        ] {
            connection.set_limit(limit, value)?;
        }
        let tries = Arc::clone(watch);
        connection.busy_handler(Some(move |count| {
            std::thread::sleep(Duration::from_millis(1));
            count < FOREIGN_LOCK_TRIES && !tries.must_stop()
        }))?;
        let progress = Arc::clone(watch);
        connection.progress_handler(PROGRESS_STEPS, Some(move || progress.must_stop()))?;
        let decide = Arc::clone(authorizer);
        connection.authorizer(Some(move |context: rusqlite::hooks::AuthContext<'_>| decide.decide(context)))?;
        // One more than the guest may keep: a statement is out of the cache while it runs.
        connection.set_prepared_statement_cache_capacity(self.limits.size(Limit::SqlStatements) + 4);
        Ok(())
    }
}

fn text(value: rusqlite::types::ValueRef<'_>) -> String {
    use rusqlite::types::ValueRef;
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}
