//! All that is recorded of one run, as one value: for exports, and to verify it.

use compozy_interpreter::Blobs as _;
use compozy_plan::blob::BlobRef;
use indexmap::IndexMap;
use rusqlite::{Connection, OptionalExtension as _};
use serde_json::Value;

use super::attempt::Call;
use super::reader::{read_children, read_journal, read_parent, read_tasks};
use super::runs::{Fault, Plans};
use crate::limits;
use crate::port::{ExecutionId, Pins};
use crate::vault::{Vault, too_much};
use crate::verify::{HISTORY_FORMAT, History, RecordedState, ScheduledCall, ScheduledTask};

/// The calls of a run's tasks, and whether each was ever made.
const CALLS: &str = "SELECT key, call, attempt FROM task WHERE run = ?1 ORDER BY id";

const BLOBS: &str = "SELECT digest, bytes FROM blob_use INDEXED BY blob_use_run WHERE run = ?1 ORDER BY digest";

pub(super) fn read(conn: &Connection, plans: &mut Plans, row: i64, execution: ExecutionId) -> Result<History, Fault> {
    type Row = (String, u32, Option<i64>, String, String);
    let (workflow, behaviour, pins, definition, plan): Row = conn
        .prepare_cached(
            "SELECT r.workflow, r.behaviour, r.pins, d.digest, d.body
             FROM run r JOIN definition d ON d.id = r.definition WHERE r.id = ?1",
        )?
        .query_row([row], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?;
    Ok(History {
        format: HISTORY_FORMAT,
        execution,
        workflow,
        behaviour,
        definition,
        plan: parse("the definition", &plan)?,
        pins: Pins::clone(plans.pins(conn, pins)?.as_ref()),
        parent: read_parent(conn, row)?,
        children: read_children(conn, row)?,
        events: read_journal(conn, row, 0, usize::MAX)?,
        state: recorded_state(conn, row)?,
        tasks: scheduled(conn, row)?,
        blobs: IndexMap::new(),
    })
}

/// The large values that a run refers to.
pub(super) fn blobs(conn: &Connection, vault: &Vault, row: i64) -> Result<IndexMap<String, Value>, Fault> {
    let mut statement = conn.prepare_cached(BLOBS)?;
    let mut rows = statement.query([row])?;
    let (mut blobs, mut used) = (IndexMap::new(), 0_u64);
    while let Some(row) = rows.next()? {
        let blob = BlobRef { digest: row.get(0)?, bytes: row.get(1)? };
        used += blob.bytes;
        if used > limits::READ_BYTES_MAX {
            return Err(Fault::Refused(too_much("what the execution refers to", used)));
        }
        let value = Value::clone(vault.load(&blob)?.as_ref());
        blobs.insert(blob.digest, value);
    }
    Ok(blobs)
}

fn recorded_state(conn: &Connection, row: i64) -> Result<Option<RecordedState>, Fault> {
    let snapshot: Option<(u64, String)> = conn
        .prepare_cached("SELECT seq, state FROM snapshot WHERE run = ?1")?
        .query_row([row], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((seq, state)) = snapshot else { return Ok(None) };
    Ok(Some(RecordedState { seq, state: parse("a snapshot", &state)? }))
}

fn scheduled(conn: &Connection, row: i64) -> Result<IndexMap<String, ScheduledTask>, Fault> {
    let mut records = read_tasks(conn, row)?;
    let mut statement = conn.prepare_cached(CALLS)?;
    let mut rows = statement.query([row])?;
    let mut tasks = IndexMap::new();
    while let Some(row) = rows.next()? {
        let (key, attempt): (String, u32) = (row.get(0)?, row.get(2)?);
        let body = row.get_ref(1)?.as_str().map_err(|e| Fault::Run(e.to_string()))?;
        let call: Call = serde_json::from_str(body)
            .map_err(|e| Fault::Run(format!("the call of task `{key}` cannot be read: {e}")))?;
        let record = records.swap_remove(&key).unwrap_or_default();
        // Arguments that are too large are not kept: such a task fails before its first attempt.
        let kept = attempt > 0 || !call.input.is_null();
        let call = kept.then_some(ScheduledCall { tool: call.tool, input: call.input });
        tasks.insert(key, ScheduledTask { call, record });
    }
    Ok(tasks)
}

fn parse(what: &str, text: &str) -> Result<Value, Fault> {
    serde_json::from_str(text).map_err(|e| Fault::Run(format!("{what} cannot be read: {e}")))
}
