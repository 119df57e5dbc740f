//! Answers to those who ask how things stand: connections of their own that cannot write.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use compozy_interpreter::{Blobs, RunState};
use compozy_plan::blob::{BlobRef, has_blob_key};
use indexmap::IndexMap;
use rusqlite::{Connection, OptionalExtension as _};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::backup;
use super::file::JournalFile;
use super::history;
use super::runs::{Fault, Plans, load};
use super::tx::{clamp, parse_status};
use crate::port::{Execution, ExecutionId, ExecutionSummary, Filter, JournalPage, JournalRecord, Pins, TaskRecord};
use crate::vault::Vault;
use crate::{Difference, EngineError, History, limits};

const CONNECTIONS: usize = 2;

/// What a list shows, from the index that fits the filter: nothing is sorted.
pub(super) const LISTS: [&str; 3] = [
    "SELECT execution, workflow, status, started_at_ms, ended_at_ms FROM run
     WHERE id < ?1 AND started_at_ms >= ?3 AND started_at_ms < ?4 AND ?5 IS NULL AND ?6 IS NULL
     ORDER BY id DESC LIMIT ?2",
    "SELECT execution, workflow, status, started_at_ms, ended_at_ms FROM run INDEXED BY run_status
     WHERE status = ?5 AND id < ?1 AND started_at_ms >= ?3 AND started_at_ms < ?4 AND (?6 IS NULL OR workflow = ?6)
     ORDER BY id DESC LIMIT ?2",
    "SELECT execution, workflow, status, started_at_ms, ended_at_ms FROM run INDEXED BY run_workflow
     WHERE workflow = ?6 AND id < ?1 AND started_at_ms >= ?3 AND started_at_ms < ?4 AND ?5 IS NULL
     ORDER BY id DESC LIMIT ?2",
];
/// What runs that have not ended are bound to. Reads each of them once; nobody waits for it.
pub(super) const OPEN_PINS: &str = "SELECT body FROM pins WHERE id IN
    (SELECT pins FROM run INDEXED BY run_open WHERE ended_at_ms IS NULL)";
pub(super) const CHILDREN: &str =
    "SELECT parent_task, execution FROM run INDEXED BY run_parent WHERE parent = ?1 ORDER BY parent_task, id";
pub(super) const EVENTS: &str =
    "SELECT seq, at_ms, body FROM journal WHERE run = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
pub(super) const TASKS: &str =
    "SELECT key, attempt, ran, started_at_ms, ended_at_ms, state, not_before_ms, last_failure
    FROM task WHERE run = ?1 ORDER BY id";

/// One connection and the plans that it read.
struct Reader {
    conn: Connection,
    plans: Plans,
}

/// The connections, and who may use one.
pub(super) struct Readers {
    file: JournalFile,
    runtime: Handle,
    vault: Arc<Vault>,
    free: Mutex<Option<Vec<Reader>>>,
    permits: Semaphore,
}

impl Readers {
    pub(super) fn open(file: JournalFile, runtime: Handle, vault: Arc<Vault>) -> Result<Arc<Self>, EngineError> {
        let open = || Ok(Reader { conn: file.open_reader()?, plans: Plans::new() });
        let free = (0..CONNECTIONS).map(|_| open()).collect::<Result<Vec<_>, EngineError>>()?;
        Ok(Arc::new(Self { file, runtime, vault, free: Mutex::new(Some(free)), permits: Semaphore::new(CONNECTIONS) }))
    }

    /// Closes the connections; one that is in use is closed after its use.
    pub(super) fn close(&self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.permits.close();
    }

    /// Reads in one transaction: everything that is read belongs to one moment.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Connection, &mut Plans) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, EngineError> {
        let _permit = self.permits.acquire().await.map_err(|_closed| EngineError::Stopping)?;
        let this = Arc::clone(self);
        let read = self.runtime.spawn_blocking(move || {
            let taken = this.free.lock().unwrap_or_else(PoisonError::into_inner).as_mut().and_then(Vec::pop);
            let Some(mut reader) = taken else { return Err(EngineError::Stopping) };
            let result = in_transaction(&mut reader, work);
            if let Some(free) = this.free.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                free.push(reader);
            }
            result.map_err(|fault| this.file.fault("read the journal", fault))
        });
        read.await.map_err(|e| EngineError::Internal(format!("reading the journal: {e}")))?
    }

    /// A value that a run refers to, as JSON.
    pub(super) async fn blob(self: &Arc<Self>, id: &ExecutionId, digest: &str) -> Result<Option<Vec<u8>>, EngineError> {
        let (id, digest, vault) = (id.clone(), digest.to_owned(), Arc::clone(&self.vault));
        self.read(move |conn, _| {
            let row = find(conn, &id)?.ok_or(Fault::Refused(EngineError::ExecutionNotFound { id }))?;
            let mut statement = conn.prepare_cached("SELECT bytes FROM blob_use WHERE digest = ?1 AND run = ?2")?;
            let bytes: Option<u64> = statement.query_row((&digest, row), |row| row.get(0)).optional()?;
            Ok(bytes.map(|bytes| vault.bytes(&BlobRef { digest, bytes })).transpose()?)
        })
        .await
    }

    pub(super) async fn execution(self: &Arc<Self>, id: &ExecutionId) -> Result<Option<Execution>, EngineError> {
        let id = id.clone();
        let vault = Arc::clone(&self.vault);
        self.read(move |conn, plans| {
            let mut execution = read_execution(conn, plans, vault.as_ref(), id)?;
            if let Some(output) = execution.as_mut().and_then(|execution| execution.state.output.as_mut())
                && has_blob_key(output)
            {
                *output = vault.whole_or_as_it_is(std::mem::take(output));
            }
            Ok(execution)
        })
        .await
    }

    /// Whether a run has ended. An error when there is none of this id.
    pub(super) async fn has_ended(self: &Arc<Self>, id: &ExecutionId) -> Result<bool, EngineError> {
        let id = id.clone();
        self.read(move |conn, _| {
            conn.prepare_cached("SELECT ended_at_ms IS NOT NULL FROM run WHERE execution = ?1")?
                .query_row([&id.0], |row| row.get(0))
                .optional()?
                .ok_or(Fault::Refused(EngineError::ExecutionNotFound { id }))
        })
        .await
    }

    pub(super) async fn journal(self: &Arc<Self>, id: &ExecutionId) -> Result<Vec<JournalRecord>, EngineError> {
        let id = id.clone();
        self.read(move |conn, _| {
            let row = find(conn, &id)?.ok_or(Fault::Refused(EngineError::ExecutionNotFound { id }))?;
            read_journal(conn, row, 0, usize::MAX)
        })
        .await
    }

    pub(super) async fn list(
        self: &Arc<Self>,
        filter: &Filter,
        limit: usize,
        before: Option<&ExecutionId>,
    ) -> Result<Vec<ExecutionSummary>, EngineError> {
        let (before, filter) = (before.cloned(), filter.clone());
        self.read(move |conn, _| {
            let before = match before {
                None => i64::MAX,
                Some(id) => find(conn, &id)?.ok_or(Fault::Refused(EngineError::ExecutionNotFound { id }))?,
            };
            read_list(conn, &filter, limit.min(limits::LIST_MAX), before)
        })
        .await
    }

    /// Copies the journal, as it is at one moment, to a new file.
    pub(super) async fn backup(self: &Arc<Self>, to: &Path) -> Result<(), EngineError> {
        let _permit = self.permits.acquire().await.map_err(|_closed| EngineError::Stopping)?;
        let (file, to, vault) = (self.file.clone(), to.to_path_buf(), Arc::clone(&self.vault));
        let copied = self.runtime.spawn_blocking(move || {
            // What the copy refers to must still be there when it is copied.
            let _kept = vault.keep_all();
            file.backup(&to)?;
            backup::blobs(&vault, &to)
        });
        copied.await.map_err(|e| EngineError::Internal(format!("copying the journal: {e}")))?
    }

    /// All that is recorded of a run, with the values that it refers to.
    pub(super) async fn export(self: &Arc<Self>, id: &ExecutionId) -> Result<History, EngineError> {
        let mut history = self.history(id).await?;
        let (found, vault) = (id.clone(), Arc::clone(&self.vault));
        history.blobs = self
            .read(move |conn, _| {
                let row = find(conn, &found)?.ok_or(Fault::Refused(EngineError::ExecutionNotFound { id: found }))?;
                history::blobs(conn, &vault, row)
            })
            .await?;
        Ok(history)
    }

    async fn history(self: &Arc<Self>, id: &ExecutionId) -> Result<History, EngineError> {
        let id = id.clone();
        self.read(move |conn, plans| {
            let row = find(conn, &id)?.ok_or(Fault::Refused(EngineError::ExecutionNotFound { id: id.clone() }))?;
            history::read(conn, plans, row, id)
        })
        .await
    }

    pub(super) async fn verify(self: &Arc<Self>, id: &ExecutionId) -> Result<Option<Difference>, EngineError> {
        let history = self.history(id).await?;
        let vault = Arc::clone(&self.vault);
        let verified = self.runtime.spawn_blocking(move || history.verify_with(vault.as_ref()));
        let verified = verified.await.map_err(|e| EngineError::Internal(format!("verifying an execution: {e}")))?;
        verified.map_err(|error| EngineError::ExecutionUnreadable { reason: format!("run {id}: {error}") })
    }

    /// Events after one of them, and whether that is all there will be.
    pub(super) async fn journal_after(
        self: &Arc<Self>,
        id: &ExecutionId,
        after: u64,
        limit: usize,
    ) -> Result<JournalPage, EngineError> {
        let id = id.clone();
        self.read(move |conn, _| {
            let row = find(conn, &id)?.ok_or(Fault::Refused(EngineError::ExecutionNotFound { id }))?;
            let mut records = read_journal(conn, row, after, limit.saturating_add(1))?;
            let more = records.len() > limit;
            records.truncate(limit);
            let ended: bool = conn
                .prepare_cached("SELECT ended_at_ms IS NOT NULL FROM run WHERE id = ?1")?
                .query_row([row], |row| row.get(0))?;
            Ok(JournalPage { records, ended: ended && !more })
        })
        .await
    }

    /// The plugins that open runs are bound to.
    pub(super) async fn pins(self: &Arc<Self>) -> Result<BTreeSet<(String, String)>, EngineError> {
        self.read(|conn, _| {
            let mut statement = conn.prepare_cached(OPEN_PINS)?;
            let mut rows = statement.query([])?;
            let mut pins = BTreeSet::new();
            while let Some(row) = rows.next()? {
                let body = row.get_ref(0)?.as_str().map_err(|e| Fault::Run(e.to_string()))?;
                let body: Pins = serde_json::from_str(body).map_err(|e| Fault::Run(format!("pins: {e}")))?;
                pins.extend(body);
            }
            Ok(pins)
        })
        .await
    }
}

fn in_transaction<T>(
    reader: &mut Reader,
    work: impl FnOnce(&Connection, &mut Plans) -> Result<T, Fault>,
) -> Result<T, Fault> {
    // Only reads: rolled back when dropped, on every path.
    let tx = reader.conn.unchecked_transaction()?;
    work(&tx, &mut reader.plans)
}

fn find(conn: &Connection, id: &ExecutionId) -> Result<Option<i64>, Fault> {
    let mut statement = conn.prepare_cached("SELECT id FROM run WHERE execution = ?1")?;
    Ok(statement.query_row([&id.0], |row| row.get(0)).optional()?)
}

fn read_execution(
    conn: &Connection,
    plans: &mut Plans,
    blobs: &dyn Blobs,
    id: ExecutionId,
) -> Result<Option<Execution>, Fault> {
    let Some(row) = find(conn, &id)? else { return Ok(None) };
    let (workflow, definition, ended, pins): (String, String, bool, Option<i64>) = conn
        .prepare_cached(
            "SELECT r.workflow, d.digest, r.ended_at_ms IS NOT NULL, r.pins
             FROM run r JOIN definition d ON d.id = r.definition WHERE r.id = ?1",
        )?
        .query_row([row], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    let pins = Pins::clone(plans.pins(conn, pins)?.as_ref());
    let (state, events) = if ended {
        read_ended(conn, row)?
    } else {
        let hot = load(conn, plans, blobs, row)?;
        (hot.state, hot.seq)
    };
    let attempts = read_tasks(conn, row)?;
    let parent = read_parent(conn, row)?;
    let children = read_children(conn, row)?;
    Ok(Some(Execution { id, workflow, definition, pins, state, attempts, events, parent, children }))
}

pub(super) fn read_parent(conn: &Connection, run: i64) -> Result<Option<ExecutionId>, Fault> {
    let parent: Option<String> = conn
        .prepare_cached("SELECT p.execution FROM run r JOIN run p ON p.id = r.parent WHERE r.id = ?1")?
        .query_row([run], |row| row.get(0))
        .optional()?;
    Ok(parent.map(ExecutionId))
}

/// An ended run is read as it ended, without the interpreter.
fn read_ended(conn: &Connection, row: i64) -> Result<(RunState, u64), Fault> {
    let (events, state): (u64, String) = conn
        .prepare_cached("SELECT seq, state FROM snapshot WHERE run = ?1")?
        .query_row([row], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let state = serde_json::from_str(&state).map_err(|e| Fault::Run(format!("a snapshot cannot be read: {e}")))?;
    Ok((state, events))
}

pub(super) fn read_tasks(conn: &Connection, run: i64) -> Result<IndexMap<String, TaskRecord>, Fault> {
    let mut statement = conn.prepare_cached(TASKS)?;
    let mut rows = statement.query([run])?;
    let mut tasks = IndexMap::new();
    while let Some(row) = rows.next()? {
        let ran: Option<String> = row.get(2)?;
        let delayed = row.get_ref(5)?.as_str().is_ok_and(|state| state == "delayed");
        let record = TaskRecord {
            attempts: row.get(1)?,
            ran: ran.and_then(|ran| serde_json::from_str(&ran).ok()),
            started_at_ms: row.get(3)?,
            ended_at_ms: row.get(4)?,
            next_attempt_at_ms: if delayed { Some(row.get(6)?) } else { None },
            last_failure: row.get(7)?,
        };
        tasks.insert(row.get(0)?, record);
    }
    Ok(tasks)
}

pub(super) fn read_children(conn: &Connection, run: i64) -> Result<IndexMap<String, ExecutionId>, Fault> {
    let mut statement = conn.prepare_cached(CHILDREN)?;
    let rows = statement.query_map([run], |row| Ok((row.get(0)?, ExecutionId(row.get(1)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn read_journal(conn: &Connection, run: i64, after: u64, limit: usize) -> Result<Vec<JournalRecord>, Fault> {
    let mut statement = conn.prepare_cached(EVENTS)?;
    let mut rows = statement.query((run, clamp(after), i64::try_from(limit).unwrap_or(i64::MAX)))?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        let body = row.get_ref(2)?.as_str().map_err(|e| Fault::Run(e.to_string()))?;
        let event = serde_json::from_str(body).map_err(|e| Fault::Run(format!("an event cannot be read: {e}")))?;
        records.push(JournalRecord { seq: row.get(0)?, at_ms: row.get(1)?, event });
    }
    Ok(records)
}

fn read_list(conn: &Connection, filter: &Filter, limit: usize, before: i64) -> Result<Vec<ExecutionSummary>, Fault> {
    let list = match (filter.status, &filter.workflow) {
        (None, None) => LISTS[0],
        (Some(_), _) => LISTS[1],
        (None, Some(_)) => LISTS[2],
    };
    let mut statement = conn.prepare_cached(list)?;
    let mut rows = statement.query((
        before,
        i64::try_from(limit).unwrap_or(i64::MAX),
        clamp(filter.started_from_ms.unwrap_or(0)),
        clamp(filter.started_before_ms.unwrap_or(u64::MAX)),
        filter.status.map(compozy_interpreter::Status::name),
        &filter.workflow,
    ))?;
    let mut list = Vec::new();
    while let Some(row) = rows.next()? {
        list.push(ExecutionSummary {
            id: ExecutionId(row.get(0)?),
            workflow: row.get(1)?,
            status: parse_status(row.get_ref(2)?.as_str().map_err(|e| Fault::Run(e.to_string()))?)?,
            started_at_ms: row.get(3)?,
            ended_at_ms: row.get(4)?,
        });
    }
    Ok(list)
}
