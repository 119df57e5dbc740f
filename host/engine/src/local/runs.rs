//! Runs in memory: read from snapshot and tail, kept between their events.

use std::sync::Arc;

use compozy_interpreter::{
    BEHAVIOUR_VERSION, BlobError, Blobs, Event, RunState, TaskKey, advance, behaviour_supported,
};
use compozy_plan::plan::{PLAN_FORMAT, Plan};
use rusqlite::{Connection, OptionalExtension as _};

use super::request::Definition;
use crate::cache::Cache;
use crate::limits;
use crate::port::{ExecutionId, Pins};
use crate::vault::Vault;

/// The events of a run after one of them.
pub(super) const TAIL: &str = "SELECT seq, body FROM journal WHERE run = ?1 AND seq > ?2 ORDER BY seq";

/// Why something could not be done.
#[derive(Debug)]
pub(super) enum Fault {
    /// SQLite says so.
    Sql(rusqlite::Error),
    /// The rows of one run say so; the rest of the journal is fine.
    Run(String),
    /// It must not be done.
    Refused(crate::EngineError),
    /// A value that is kept apart says so.
    Blob(BlobError),
    /// The blob store says so.
    Storage(crate::EngineError),
    /// It failed after it had written, and nothing fences it off from the rest of its transaction.
    Unfenced,
}

impl From<BlobError> for Fault {
    fn from(error: BlobError) -> Self {
        Self::Blob(error)
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// A run between two events.
pub(super) struct Hot {
    pub(super) row: i64,
    pub(super) id: ExecutionId,
    pub(super) plan: Arc<Plan>,
    /// The plugins that it is bound to.
    pub(super) pins: Arc<Pins>,
    pub(super) state: RunState,
    /// Events in the journal.
    pub(super) seq: u64,
    /// Those events together, as JSON, in bytes.
    pub(super) bytes: u64,
    pub(super) snapshot_seq: u64,
    pub(super) snapshot_bytes: u64,
    /// The size of the last snapshot, in bytes.
    pub(super) snapshot_size: u64,
    /// Tasks that have not ended.
    pub(super) open: Vec<TaskKey>,
    /// The run that started it, and the task that it is there.
    pub(super) parent: Option<(i64, TaskKey)>,
    /// How many runs it is inside of.
    pub(super) depth: u32,
    /// The priority that its start asked for.
    pub(super) priority: Option<u8>,
}

impl Hot {
    pub(super) fn new(row: i64, id: ExecutionId, plan: Arc<Plan>) -> Self {
        Self {
            row,
            id,
            plan,
            pins: Arc::default(),
            state: RunState::new(),
            seq: 0,
            bytes: 0,
            snapshot_seq: 0,
            snapshot_bytes: 0,
            snapshot_size: 0,
            open: Vec::new(),
            parent: None,
            depth: 0,
            priority: None,
        }
    }

    /// Finds the tasks that have not ended.
    pub(super) fn find_open(&mut self) {
        let open = self.state.tasks.iter().filter(|(_, task)| !task.status.is_terminal());
        self.open = open.map(|(key, _)| key.clone()).collect();
    }

    /// What of a run is used up, how much of it there is, and how much there may be.
    pub(super) fn at_limit(&self) -> Option<(&'static str, u64, u64)> {
        crate::run_limit::at_run_limit(self.seq, self.bytes)
    }

    /// A snapshot saves reading the tail. It costs as much as the state is large, so a large state is written again
    /// only after a share of itself has come, and recovery stays bounded by [`limits::SNAPSHOT_EVENTS_MAX`].
    pub(super) fn snapshot_due(&self) -> bool {
        let events = self.seq - self.snapshot_seq;
        let bytes = self.bytes - self.snapshot_bytes;
        let due = events >= limits::SNAPSHOT_EVENTS || bytes >= limits::SNAPSHOT_BYTES;
        due && (bytes >= self.snapshot_size / 4 || events >= limits::SNAPSHOT_EVENTS_MAX)
    }

    /// An estimate of its size in memory, in bytes.
    fn weight(&self) -> u64 {
        1024 + self.bytes
    }
}

/// Plans by the row of their definition, and pins by theirs.
pub(super) struct Plans {
    by_row: Cache<i64, Arc<Plan>>,
    pins: Cache<i64, Arc<Pins>>,
    /// By the address of the definition, which keeps it.
    rows: Cache<usize, (Arc<Definition>, Rows)>,
}

/// Where the journal has a definition and what its runs are bound to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub(super) definition: i64,
    pub(super) pins: Option<i64>,
}

impl Plans {
    pub(super) fn new() -> Self {
        let cached = limits::CACHED_DEFINITIONS_MAX;
        let (by_row, pins) = (Cache::new(cached, u64::MAX), Cache::new(cached, u64::MAX));
        Self { by_row, pins, rows: Cache::new(cached, u64::MAX) }
    }

    pub(super) fn pins(&mut self, conn: &Connection, row: Option<i64>) -> Result<Arc<Pins>, Fault> {
        let Some(row) = row else { return Ok(Arc::default()) };
        if let Some(known) = self.pins.get(row) {
            return Ok(known);
        }
        let body: String =
            conn.prepare_cached("SELECT body FROM pins WHERE id = ?1")?.query_row([row], |row| row.get(0))?;
        let pins: Pins = serde_json::from_str(&body)
            .map_err(|e| Fault::Run(format!("the plugins that the run is bound to cannot be read: {e}")))?;
        let pins = Arc::new(pins);
        self.pins.put(row, Arc::clone(&pins), 1);
        Ok(pins)
    }

    fn get(&mut self, conn: &Connection, row: i64) -> Result<Arc<Plan>, Fault> {
        if let Some(known) = self.by_row.get(row) {
            return Ok(known);
        }
        let (digest, body): (String, String) = conn
            .prepare_cached("SELECT digest, body FROM definition WHERE id = ?1")?
            .query_row([row], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let plan: Plan = serde_json::from_str(&body)
            .map_err(|e| Fault::Run(format!("the definition {digest} of the run cannot be read: {e}")))?;
        if plan.format != PLAN_FORMAT {
            return Err(Fault::Run(format!(
                "the definition {digest} of the run has format {}, this version reads {PLAN_FORMAT}",
                plan.format
            )));
        }
        let plan = Arc::new(plan);
        self.by_row.put(row, Arc::clone(&plan), 1);
        Ok(plan)
    }
}

/// The writer's runs. One is taken out while it is worked on, so that it is forgotten when that fails.
pub(super) struct Runs {
    hot: Cache<i64, Hot>,
    plans: Plans,
    pub(super) vault: Arc<Vault>,
}

impl Runs {
    pub(super) fn new(vault: Arc<Vault>) -> Self {
        Self { hot: Cache::new(limits::CACHED_RUNS_MAX, limits::CACHED_BYTES_MAX), plans: Plans::new(), vault }
    }

    /// Takes a run, from memory or from the journal.
    pub(super) fn take(&mut self, conn: &Connection, row: i64) -> Result<Hot, Fault> {
        if let Some(hot) = self.hot.take(row) {
            return Ok(hot);
        }
        load(conn, &mut self.plans, self.vault.as_ref(), row)
    }

    /// Keeps a run for its next event.
    pub(super) fn put(&mut self, hot: Hot) {
        if !hot.state.status.is_terminal() {
            let weight = hot.weight();
            self.hot.put(hot.row, hot, weight);
        }
    }

    /// The rows of a definition, if they are known.
    pub(super) fn rows(&mut self, definition: &Arc<Definition>) -> Option<Rows> {
        self.plans.rows.get(Arc::as_ptr(definition) as usize).map(|(_, rows)| rows)
    }

    /// Keeps the rows of a definition that an earlier operation wrote.
    pub(super) fn know(&mut self, definition: &Arc<Definition>, rows: Rows) {
        self.plans.rows.put(Arc::as_ptr(definition) as usize, (Arc::clone(definition), rows), 1);
    }

    /// Forgets everything that a transaction, which is no more, may have changed.
    pub(super) fn forget(&mut self) {
        self.hot.clear();
        self.plans = Plans::new();
    }
}

/// Reads a run.
pub(super) fn load(conn: &Connection, plans: &mut Plans, blobs: &dyn Blobs, row: i64) -> Result<Hot, Fault> {
    type Row = (String, i64, u32, Option<i64>, Option<String>, u32, u8, Option<i64>);
    let (execution, definition, behaviour, parent, parent_task, depth, priority, pins): Row = conn
        .prepare_cached(
            "SELECT execution, definition, behaviour, parent, parent_task, depth, priority, pins FROM run WHERE id = ?1",
        )?
        .query_row([row], |row| row.try_into())?;
    if !behaviour_supported(behaviour) {
        return Err(Fault::Run(format!(
            "run {execution} began with behaviour {behaviour}, this version has {BEHAVIOUR_VERSION}"
        )));
    }
    let plan = plans.get(conn, definition)?;
    let mut hot = Hot::new(row, ExecutionId(execution), plan);
    hot.parent = parent.zip(parent_task.map(TaskKey));
    hot.depth = depth;
    hot.priority = (priority > 0).then_some(priority);
    hot.pins = plans.pins(conn, pins)?;
    read_state(conn, &mut hot, blobs)?;
    Ok(hot)
}

/// Reads how a run stands: its snapshot, and every event after it through the interpreter.
pub(super) fn read_state(conn: &Connection, hot: &mut Hot, blobs: &dyn Blobs) -> Result<(), Fault> {
    (hot.state, hot.seq, hot.bytes) = (RunState::new(), 0, 0);
    let snapshot: Option<(u64, u64, String)> = conn
        .prepare_cached("SELECT seq, bytes, state FROM snapshot WHERE run = ?1")?
        .query_row([hot.row], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    if let Some((seq, bytes, state)) = snapshot {
        hot.state = serde_json::from_str(&state)
            .map_err(|e| Fault::Run(format!("the snapshot of run {} cannot be read: {e}", hot.id)))?;
        (hot.seq, hot.bytes) = (seq, bytes);
        (hot.snapshot_seq, hot.snapshot_bytes, hot.snapshot_size) = (seq, bytes, state.len() as u64);
    }
    replay(conn, hot, blobs)?;
    hot.find_open();
    Ok(())
}

/// Takes a run through the events that follow what it knows.
fn replay(conn: &Connection, hot: &mut Hot, blobs: &dyn Blobs) -> Result<(), Fault> {
    let mut tail = conn.prepare_cached(TAIL)?;
    let mut rows = tail.query((hot.row, hot.seq))?;
    while let Some(row) = rows.next()? {
        let seq: u64 = row.get(0)?;
        let body = row.get_ref(1)?.as_str().map_err(|e| Fault::Run(e.to_string()))?;
        if seq != hot.seq + 1 {
            return Err(Fault::Run(format!("the journal of run {} has no event {}", hot.id, hot.seq + 1)));
        }
        let event: Event = serde_json::from_str(body)
            .map_err(|e| Fault::Run(format!("event {seq} of run {} cannot be read: {e}", hot.id)))?;
        hot.seq = seq;
        hot.bytes += body.len() as u64;
        // What is to be done was done when the event was recorded: the task rows have it.
        let _commands = advance(&hot.plan, &mut hot.state, &event, blobs)?;
    }
    Ok(())
}
