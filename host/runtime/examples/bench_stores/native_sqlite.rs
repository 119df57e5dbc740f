//! The native side on SQLite: the statements of the plugin `sqlite`, issued by this process itself.
//!
//! As one would write it without a sandbox: a few connections for readers, one for the writer, statements kept prepared, and the pragmas of the
//! runtime's connections. What the two do not share: the plugin's file is opened for one process alone (`unix-excl`), which a plain program
//! must ask for.
//!
//! Writes with RETURNING are run to their end, as `query_one` does and `query_row` does not: SQLite looks whether the log must be written
//! back when a statement is done. One that is let go of after its row commits, but its log would grow without end.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use rusqlite::types::ToSql;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params, params_from_iter};

use crate::work::{self, MANY, MESSAGES, PAGE, SMALL, Side, Work};

/// The plugin's tables, as far as they are measured.
const SCHEMA: &str = "
CREATE TABLE cache (key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, version INTEGER NOT NULL, expires INTEGER) STRICT;
CREATE INDEX cache_expires ON cache (expires) WHERE expires IS NOT NULL;
CREATE TABLE memory (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, first INTEGER NOT NULL, next INTEGER NOT NULL CHECK (next > first),
    tokens INTEGER NOT NULL CHECK (tokens >= 0), expires INTEGER
) STRICT;
CREATE INDEX memory_expires ON memory (expires) WHERE expires IS NOT NULL;
CREATE TABLE message (
    memory INTEGER NOT NULL, number INTEGER NOT NULL, tokens INTEGER NOT NULL, content BLOB NOT NULL, PRIMARY KEY (memory, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE lock (
    name BLOB NOT NULL PRIMARY KEY, token INTEGER NOT NULL, holder BLOB NOT NULL, expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX lock_expires ON lock (expires);
CREATE TABLE fence (id INTEGER PRIMARY KEY CHECK (id = 1), token INTEGER NOT NULL) STRICT;
INSERT INTO fence (id, token) VALUES (1, 0);
CREATE TRIGGER lock_taken AFTER INSERT ON lock BEGIN UPDATE fence SET token = max(token, NEW.token); END;
CREATE TRIGGER lock_taken_over AFTER UPDATE OF token ON lock BEGIN UPDATE fence SET token = max(token, NEW.token); END;
CREATE TABLE stream (
    id INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, floor INTEGER NOT NULL DEFAULT 1, last INTEGER NOT NULL DEFAULT 0,
    time INTEGER NOT NULL DEFAULT 0, missing INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE event (
    stream INTEGER NOT NULL, sequence INTEGER NOT NULL, time INTEGER NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (stream, sequence)
) STRICT, WITHOUT ROWID;";

const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY;
    PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -4096;
    PRAGMA mmap_size = 1073741824; PRAGMA wal_autocheckpoint = 1000; PRAGMA journal_size_limit = 67108864; PRAGMA busy_timeout = 5000;";

const GET: &str = "SELECT value, version, expires FROM cache WHERE key = ?1";
const SET: &str = "INSERT INTO cache (value, key, expires, version) VALUES (?1, ?2, ?3, random() & 9223372036854775807)
     ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version, expires = excluded.expires
     RETURNING version";
const INCREMENT: &str = "INSERT INTO cache (key, value, expires, version)
     VALUES (?1, CAST(CAST(?2 AS TEXT) AS BLOB), ?3, random() & 9223372036854775807)
     ON CONFLICT (key) DO UPDATE SET
         value = CASE WHEN cache.expires <= ?4 THEN excluded.value
             ELSE CAST(CAST(CAST(CAST(cache.value AS TEXT) AS INTEGER) + ?2 AS TEXT) AS BLOB) END,
         expires = CASE WHEN cache.expires <= ?4 THEN excluded.expires ELSE cache.expires END,
         version = excluded.version
     WHERE cache.expires <= ?4 OR (
         length(cache.value) <= 20
         AND CAST(CAST(CAST(cache.value AS TEXT) AS INTEGER) AS TEXT) = CAST(cache.value AS TEXT)
         AND typeof(CAST(CAST(cache.value AS TEXT) AS INTEGER) + ?2) = 'integer')
     RETURNING CAST(CAST(value AS TEXT) AS INTEGER)";
const GROW: &str = "INSERT INTO memory (key, first, next, tokens, expires) VALUES (?1, 0, ?2, ?3, ?4)
     ON CONFLICT (key) DO UPDATE SET
         next = memory.next + ?2, tokens = memory.tokens + ?3, expires = coalesce(?4, memory.expires)
     WHERE memory.expires IS NULL OR memory.expires > ?5
     RETURNING id, first, next, tokens, expires";
const MESSAGE: &str = "INSERT INTO message (content, memory, number, tokens) VALUES (?1, ?2, ?3, ?4)";
const TRIM: &str = "DELETE FROM message WHERE memory = ?1 AND number < ?2 RETURNING tokens";
const CLOSE: &str = "UPDATE memory SET first = ?2, next = ?3, tokens = ?4, expires = ?5 WHERE id = ?1";
const MESSAGES_OF: &str = "SELECT message.tokens, message.content, memory.next - memory.first FROM memory
     LEFT JOIN message ON message.memory = memory.id
         AND message.number >= memory.first + ?2 AND message.number < memory.first + ?2 + ?3
     WHERE memory.key = ?1 AND (memory.expires IS NULL OR memory.expires > ?4) ORDER BY message.number";
const ACQUIRE: &str =
    "INSERT INTO lock (name, token, holder, expires) VALUES (?1, (SELECT token + 1 FROM fence), ?2, ?3)
     ON CONFLICT (name) DO UPDATE SET token = excluded.token, holder = excluded.holder, expires = excluded.expires
     WHERE lock.expires <= ?4 RETURNING token";
const RELEASE: &str = "DELETE FROM lock WHERE name = ?1 AND token = ?2 RETURNING expires > ?3";
const STREAM: &str = "INSERT INTO stream (name) VALUES (?1) ON CONFLICT (name) DO NOTHING";
const APPEND: &str = "INSERT INTO event (payload, stream, sequence, time)
     SELECT ?1, stream.id, max(stream.last, coalesce(event.sequence, 0)) + 1,
         max(stream.time, coalesce(event.time, 0), ?3)
     FROM stream LEFT JOIN event ON event.stream = stream.id
         AND event.sequence = (SELECT max(sequence) FROM event WHERE stream = stream.id)
     WHERE stream.name = ?2 RETURNING sequence";
const READ: &str = "SELECT event.sequence, event.time, event.payload,
         max(stream.last, coalesce((SELECT max(sequence) FROM event WHERE stream = stream.id), 0))
     FROM stream LEFT JOIN event ON event.stream = stream.id AND event.sequence >= max(stream.floor, ?2)
     WHERE stream.name = ?1 ORDER BY event.sequence LIMIT ?3";

pub(crate) struct Native {
    /// One for each thread of the runtime.
    readers: [Mutex<Connection>; 2],
    writer: Mutex<Connection>,
    many: String,
}

#[expect(clippy::needless_pass_by_value, reason = "the form that `map_err` wants")]
fn say(error: rusqlite::Error) -> String {
    error.to_string()
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    i64::try_from(now).unwrap_or(i64::MAX)
}

fn expires() -> i64 {
    now() + 3_600_000
}

fn open(path: &Path) -> Result<Connection, String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(path, flags, VFS).map_err(say)?;
    connection.execute_batch(PRAGMAS).map_err(say)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// How SQLite works with files: as every program gets it that does not ask for something else.
const VFS: &str = "unix";

impl Native {
    /// A database with what is read.
    pub(crate) fn filled(folder: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        let path = folder.join("native.db");
        let mut writer = open(&path)?;
        writer.execute_batch(SCHEMA).map_err(say)?;
        fill(&mut writer).map_err(say)?;
        let places: Vec<String> = (0..MANY).map(|place| format!("({place}, ?{})", place + 2)).collect();
        let many = format!(
            "SELECT wanted.column1, cache.value, cache.version FROM (VALUES {}) AS wanted CROSS JOIN cache
             ON cache.key = wanted.column2 WHERE cache.expires IS NULL OR cache.expires > ?1",
            places.join(", ")
        );
        Ok(Self { readers: [Mutex::new(open(&path)?), Mutex::new(open(&path)?)], writer: Mutex::new(writer), many })
    }

    fn reader(&self, turn: usize) -> MutexGuard<'_, Connection> {
        let [first, second] = &self.readers;
        let (one, other) = if turn.is_multiple_of(2) { (first, second) } else { (second, first) };
        one.try_lock().unwrap_or_else(|_| other.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn read(&self, work: Work, turn: usize) -> rusqlite::Result<bool> {
        let connection = self.reader(turn);
        match work {
            Work::Get(size) => {
                let mut get = connection.prepare_cached(GET)?;
                let key = work::key(size, turn);
                let found = get.query_row(params![key.as_bytes()], |row| {
                    Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?, row.get::<_, Option<i64>>(2)?))
                });
                let lives = |expires: Option<i64>| expires.is_none_or(|at| at > now());
                Ok(found.optional()?.is_some_and(|(value, _, expires)| value.len() == size && lives(expires)))
            }
            Work::GetMany => {
                let keys = work::many_keys(turn);
                let mut many = connection.prepare_cached(&self.many)?;
                let now = now();
                let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
                let parameters = std::iter::once(&now as &dyn ToSql).chain(keys.iter().map(|key| key as &dyn ToSql));
                let mut rows = many.query(params_from_iter(parameters))?;
                let mut found = vec![None; MANY];
                while let Some(row) = rows.next()? {
                    found[row.get::<_, usize>(0)?] = Some((row.get::<_, Vec<u8>>(1)?, row.get::<_, i64>(2)?));
                }
                Ok(found.iter().all(Option::is_some))
            }
            Work::MemoryPage => {
                let mut page = connection.prepare_cached(MESSAGES_OF)?;
                let memory = work::memory(turn);
                let mut rows = page.query(params![memory.as_bytes(), MESSAGES - PAGE, PAGE, now()])?;
                let mut messages = Vec::with_capacity(PAGE as usize);
                while let Some(row) = rows.next()? {
                    messages.push((row.get::<_, u32>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, u64>(2)?));
                }
                Ok(messages.len() == PAGE as usize)
            }
            Work::EventRead => {
                let mut read = connection.prepare_cached(READ)?;
                let after = work::after(turn) + 1;
                let mut rows = read.query(params![work::LONG_STREAM.as_bytes(), after, PAGE])?;
                let mut events = Vec::with_capacity(PAGE as usize);
                while let Some(row) = rows.next()? {
                    events.push((row.get::<_, u64>(0)?, row.get::<_, u64>(1)?, row.get::<_, Vec<u8>>(2)?));
                }
                Ok(events.len() == PAGE as usize)
            }
            _ => unreachable!("`run` sends what writes to `write`"),
        }
    }

    fn write(&self, work: Work, turn: usize) -> rusqlite::Result<bool> {
        let mut connection = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match work {
            Work::Set => {
                let (key, value) = (work::key(SMALL, turn), [b'v'; SMALL]);
                let mut set = connection.prepare_cached(SET)?;
                set.query_one(params![value, key.as_bytes(), expires()], |row| row.get::<_, i64>(0))?;
                Ok(true)
            }
            Work::Increment => {
                let counter = work::counter(turn);
                let mut add = connection.prepare_cached(INCREMENT)?;
                let sum =
                    add.query_one(params![counter.as_bytes(), 1, expires(), now()], |row| row.get::<_, i64>(0))?;
                Ok(sum > 0)
            }
            Work::MemoryAppend => append_message(&mut connection, &work::memory(turn)),
            Work::Lock => {
                let name = work::lock(turn);
                let mut acquire = connection.prepare_cached(ACQUIRE)?;
                let now = now();
                let token: i64 =
                    acquire.query_one(params![name.as_bytes(), b"bench", now + 60_000, now], |row| row.get(0))?;
                let mut release = connection.prepare_cached(RELEASE)?;
                release.query_one(params![name.as_bytes(), token, now], |row| row.get::<_, bool>(0))
            }
            Work::EventAppend => {
                let stream = work::stream(turn);
                let append = |connection: &Connection| {
                    let mut append = connection.prepare_cached(APPEND)?;
                    let payload = [b'e'; SMALL];
                    append.query_one(params![payload, stream.as_bytes(), now()], |row| row.get::<_, u64>(0)).optional()
                };
                if append(&connection)?.is_some() {
                    return Ok(true);
                }
                connection.prepare_cached(STREAM)?.execute(params![stream.as_bytes()])?;
                Ok(append(&connection)?.is_some())
            }
            _ => unreachable!("`run` sends what reads to `read`"),
        }
    }
}

fn append_message(connection: &mut Connection, memory: &str) -> rusqlite::Result<bool> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let (id, first, next, mut tokens): (i64, i64, i64, i64) =
        transaction.prepare_cached(GROW)?.query_one(params![memory.as_bytes(), 1, 25, expires(), now()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
    transaction.prepare_cached(MESSAGE)?.execute(params![[b'm'; SMALL], id, next - 1, 25])?;
    let keep = (next - i64::from(MESSAGES)).max(first);
    if keep > first {
        let mut trim = transaction.prepare_cached(TRIM)?;
        let mut removed = trim.query(params![id, keep])?;
        while let Some(row) = removed.next()? {
            tokens -= row.get::<_, i64>(0)?;
        }
        transaction.prepare_cached(CLOSE)?.execute(params![id, keep, next, tokens, expires()])?;
    }
    transaction.commit()?;
    Ok(next - keep == i64::from(MESSAGES))
}

fn fill(writer: &mut Connection) -> rusqlite::Result<()> {
    let all = writer.transaction()?;
    for size in [SMALL, 10 * work::KIB, work::MIB] {
        for turn in 0..if size == work::MIB { work::LARGE_KEYS } else { work::KEYS } {
            let key = format!("value/{size}/{turn}");
            all.prepare_cached(SET)?.query_one(params![vec![b'v'; size], key.as_bytes(), expires()], |_| Ok(()))?;
        }
    }
    for memory in 0..64_i64 {
        let key = format!("memory/{memory}");
        all.execute(
            "INSERT INTO memory (id, key, first, next, tokens, expires) VALUES (?1, ?2, 0, ?3, ?3 * 25, ?4)",
            params![memory, key.as_bytes(), MESSAGES, expires()],
        )?;
        for number in 0..MESSAGES {
            all.prepare_cached(MESSAGE)?.execute(params![[b'm'; SMALL], memory, number, 25])?;
        }
    }
    all.prepare_cached(STREAM)?.execute(params![work::LONG_STREAM.as_bytes()])?;
    for _ in 0..work::EVENTS {
        let payload = [b'm'; SMALL];
        all.prepare_cached(APPEND)?
            .query_one(params![payload, work::LONG_STREAM.as_bytes(), now()], |row| row.get::<_, u64>(0))?;
    }
    all.commit()
}

#[async_trait]
impl Side for Native {
    async fn run(&self, work: Work, turn: usize) -> Result<(), String> {
        let done = match work {
            Work::Get(_) | Work::GetMany | Work::MemoryPage | Work::EventRead => self.read(work, turn),
            Work::Set | Work::Increment | Work::MemoryAppend | Work::Lock | Work::EventAppend => self.write(work, turn),
        };
        let done = done.map_err(say)?;
        if done { Ok(()) } else { Err(format!("{work:?} found something else than was written")) }
    }
}
