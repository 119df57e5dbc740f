//! The operations of a transaction: what callers ask, what attempts report, what is due, and who is next.

use std::sync::Arc;

use compozy_interpreter::{Event, Failure, Status, TaskKey, Timeout};
use rusqlite::{Connection, OptionalExtension as _};
use serde_json::Value;

use super::attempt::{Call, Launch};
use super::lanes::{Lane, Lanes};
use super::outside::{waiting_task, waits_until};
use super::request::{Definition, Start};
use super::runs::{Fault, Hot, Rows, Runs};
use super::tx::{Effect, Ended, Tx, clamp, failure_text, to_json};
use crate::attempt::{Verdict, attempt_bound, judge, timed_out};
use crate::port::{ExecutionId, Notice, Ran, TaskReport};
use crate::{EngineError, limits};

/// Writes a run and its first event. The same key answers the first run.
pub(super) fn start(tx: &mut Tx<'_>, runs: &mut Runs, start: &Start) -> Result<ExecutionId, Fault> {
    if let Some(known) = known_start(tx, start)? {
        return Ok(known);
    }
    let rows = rows_of(tx, runs, &start.definition)?;
    let Event::Started { now_ms, .. } = &start.event else { unreachable!("a start carries the event of a start") };
    let plan = &start.definition.plan;
    let mut hot = Hot::new(0, start.id.clone(), Arc::clone(plan));
    hot.priority = start.priority;
    hot.pins = Arc::clone(&start.definition.pins);
    if let Some(parent) = &start.parent {
        hot.parent = Some((parent.run, parent.task.clone()));
        hot.depth = parent.depth;
    }
    let close = start.parent.as_ref().map(|parent| serde_json::to_value(parent.close).unwrap_or_default());
    tx.conn
        .prepare_cached(
            "INSERT INTO run(execution, definition, workflow, behaviour, status, started_at_ms, parent, parent_task,
                             parent_close, depth, priority, pins)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute((
            &start.id.0,
            rows.definition,
            &plan.workflow,
            hot.state.behaviour,
            Status::Running.name(),
            *now_ms,
            start.parent.as_ref().map(|parent| parent.run),
            start.parent.as_ref().map(|parent| &parent.task.0),
            close.as_ref().and_then(Value::as_str),
            hot.depth,
            hot.priority.unwrap_or(0),
            rows.pins,
        ))?;
    hot.row = tx.conn.last_insert_rowid();
    if let Some(idempotency) = &start.idempotency {
        tx.conn.prepare_cached("INSERT INTO idempotency(key, request, run) VALUES (?1, ?2, ?3)")?.execute((
            &idempotency.key,
            &idempotency.request,
            hot.row,
        ))?;
    }
    tx.effects.push(Effect::RunStarted);
    tx.notice(|| Notice::ExecutionStarted { id: start.id.clone(), workflow: plan.workflow.clone() });
    tx.record(&mut hot, start.event.clone(), None)?;
    runs.put(hot);
    Ok(start.id.clone())
}

fn known_start(tx: &Tx<'_>, start: &Start) -> Result<Option<ExecutionId>, Fault> {
    let Some(idempotency) = &start.idempotency else { return Ok(None) };
    let known: Option<(String, String)> = tx
        .conn
        .prepare_cached("SELECT i.request, r.execution FROM idempotency i JOIN run r ON r.id = i.run WHERE i.key = ?1")?
        .query_row([&idempotency.key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match known {
        None => Ok(None),
        Some((request, execution)) if request == idempotency.request => Ok(Some(ExecutionId(execution))),
        Some((_, execution)) => Err(Fault::Refused(EngineError::IdempotencyKeyReused {
            key: idempotency.key.clone(),
            execution: ExecutionId(execution),
        })),
    }
}

/// The rows of a definition and of what its runs are bound to, which are written when there are none.
fn rows_of(tx: &Tx<'_>, runs: &mut Runs, definition: &Arc<Definition>) -> Result<Rows, Fault> {
    if let Some(rows) = runs.rows(definition) {
        return Ok(rows);
    }
    let known = definition_row(tx, definition)?;
    let body = if definition.pins.is_empty() { None } else { Some(to_json(definition.pins.as_ref())?) };
    let known_pins = body.as_ref().map(|body| pins_row(tx, body)).transpose()?.flatten();
    if let Some(row) = known
        && known_pins.is_some() == body.is_some()
    {
        // Not what this operation writes: it may still come to nothing.
        let rows = Rows { definition: row, pins: known_pins };
        runs.know(definition, rows);
        return Ok(rows);
    }
    Ok(Rows {
        definition: known.map_or_else(|| insert_definition(tx, definition), Ok)?,
        pins: match (known_pins, body) {
            (Some(row), _) => Some(row),
            (None, Some(body)) => Some(insert_pins(tx, &body)?),
            (None, None) => None,
        },
    })
}

fn definition_row(tx: &Tx<'_>, definition: &Definition) -> Result<Option<i64>, Fault> {
    let mut select = tx.conn.prepare_cached("SELECT id FROM definition WHERE digest = ?1")?;
    Ok(select.query_row([&definition.digest], |row| row.get(0)).optional()?)
}

fn insert_definition(tx: &Tx<'_>, definition: &Definition) -> Result<i64, Fault> {
    tx.conn.prepare_cached("INSERT INTO definition(digest, first_used_at_ms, body) VALUES (?1, ?2, ?3)")?.execute((
        &definition.digest,
        tx.now_ms,
        &definition.body,
    ))?;
    Ok(tx.conn.last_insert_rowid())
}

/// Most runs share theirs.
fn pins_row(tx: &Tx<'_>, body: &str) -> Result<Option<i64>, Fault> {
    let mut select = tx.conn.prepare_cached("SELECT id FROM pins WHERE body = ?1")?;
    Ok(select.query_row([body], |row| row.get(0)).optional()?)
}

fn insert_pins(tx: &Tx<'_>, body: &str) -> Result<i64, Fault> {
    tx.conn.prepare_cached("INSERT INTO pins(body) VALUES (?1)")?.execute([body])?;
    Ok(tx.conn.last_insert_rowid())
}

/// Records the end of an attempt, if it is still the task's current one.
pub(super) fn attempt_ended(
    tx: &mut Tx<'_>,
    runs: &mut Runs,
    launch: &Launch,
    report: TaskReport,
) -> Result<(), Fault> {
    let TaskReport { result, ran } = report;
    let mut verdict =
        judge(&launch.key, &launch.call.policy, launch.call.seed, launch.failed, launch.deadline_ms, tx.now_ms, result);
    if let Verdict::Retry { failure, .. } = &verdict {
        let hot = runs.take(tx.conn, launch.run)?;
        let canceling = hot.state.canceling.is_some();
        runs.put(hot);
        if canceling {
            verdict = Verdict::Failed(failure.clone());
        }
    }
    if !close_attempt(tx, launch, &verdict, ran.as_ref())? {
        tx.effects.push(Effect::Stale);
        return Ok(());
    }
    tx.effects.push(Effect::Ended(launch.task));
    tx.give_back(&launch.lane, launch.task);
    let ended = Ended { task: TaskKey(launch.key.clone()), ran, attempts: launch.attempt };
    match verdict {
        Verdict::Retry { failure, wait_ms } => {
            tx.effects.push(Effect::Delay(clamp(tx.now_ms.saturating_add(wait_ms)), launch.task));
            tx.notice(|| Notice::AttemptFailed {
                id: launch.execution.clone(),
                task: launch.key.clone(),
                attempt: launch.attempt,
                failure,
                retry_in_ms: wait_ms,
            });
            Ok(())
        }
        Verdict::Completed(output) => {
            let task = TaskKey(launch.key.clone());
            with_run(tx, runs, launch.run, |now_ms| Event::TaskCompleted { now_ms, task, output }, ended)
        }
        Verdict::Failed(failure) => {
            let task = TaskKey(launch.key.clone());
            with_run(tx, runs, launch.run, |now_ms| Event::TaskFailed { now_ms, task, failure }, ended)
        }
    }
}

pub(super) fn with_run(
    tx: &mut Tx<'_>,
    runs: &mut Runs,
    row: i64,
    event: impl FnOnce(u64) -> Event,
    ended: Ended,
) -> Result<(), Fault> {
    let mut hot = runs.take(tx.conn, row)?;
    let event = event(tx.event_time(&hot));
    tx.record(&mut hot, event, Some(ended))?;
    runs.put(hot);
    Ok(())
}

/// Ends an attempt that holds its task.
pub(super) const CLOSE_ATTEMPT: &str = "
    UPDATE task SET state = ?4, failed = failed + ?5, not_before_ms = ?6, ended_at_ms = ?7, ran = ?8,
                    last_failure = COALESCE(?9, last_failure)
    WHERE id = ?1 AND attempt = ?2 AND epoch = ?3 AND state = 'running'";

/// The fence: only the attempt that holds the task may end it. Answers whether it did.
fn close_attempt(tx: &Tx<'_>, launch: &Launch, verdict: &Verdict, ran: Option<&Ran>) -> Result<bool, Fault> {
    let (state, failure, not_before_ms) = match verdict {
        Verdict::Completed(_) => ("done", None, 0),
        Verdict::Failed(failure) => ("failed", Some(failure), 0),
        Verdict::Retry { failure, wait_ms } => ("delayed", Some(failure), clamp(tx.now_ms.saturating_add(*wait_ms))),
    };
    let rows = tx.conn.prepare_cached(CLOSE_ATTEMPT)?.execute((
        launch.task,
        launch.attempt,
        tx.epoch,
        state,
        u32::from(failure.is_some()),
        not_before_ms,
        tx.now_ms,
        ran.map(to_json).transpose()?,
        failure.map(failure_text),
    ))?;
    Ok(rows == 1)
}

/// An attempt vanished without an answer, because the runtime ends: the task waits for its next one. It does not
/// count as failed.
pub(super) fn attempt_lost(tx: &mut Tx<'_>, launch: &Launch) -> Result<(), Fault> {
    let rows = tx
        .conn
        .prepare_cached(
            "UPDATE task SET state = 'ready' WHERE id = ?1 AND attempt = ?2 AND epoch = ?3 AND state = 'running'",
        )?
        .execute((launch.task, launch.attempt, tx.epoch))?;
    if rows == 1 {
        tx.effects.push(Effect::Ended(launch.task));
        tx.effects.push(Effect::RuntimeGone);
        tx.give_back(&launch.lane, launch.task);
        tx.lanes.add(Arc::clone(&launch.lane));
    }
    // Another attempt would vanish as this one did.
    tx.draining = true;
    Ok(())
}

/// The time of a task's next attempt has come: it waits for a slot like any other.
pub(super) fn due(tx: &mut Tx<'_>, not_before_ms: u64, task: i64) -> Result<(), Fault> {
    let row: Option<(i64, Option<u64>, String)> =
        tx.conn.prepare_cached(DUE)?.query_row([task], |row| row.try_into()).optional()?;
    tx.effects.push(Effect::Undelay(not_before_ms, task));
    let Some((run, deadline_ms, lane)) = row else { return Ok(()) };
    tx.lanes.add(Arc::new(Lane::of(lane)));
    if let Some(deadline_ms) = deadline_ms {
        tx.start_timer(run, &waits_until(task), deadline_ms)?;
    }
    Ok(())
}

/// Makes a task ready for its next attempt.
pub(super) const DUE: &str =
    "UPDATE task SET state = 'ready' WHERE id = ?1 AND state = 'delayed' RETURNING run, deadline_ms, queue";

/// A timer of a run.
pub(super) struct Due {
    pub(super) run: i64,
    pub(super) timer: String,
}

/// The timers whose time has come, the earliest first.
pub(super) const DUE_TIMERS: &str = "SELECT run, id FROM timer INDEXED BY timer_due
    WHERE fire_ms <= ?1 ORDER BY fire_ms, run, id LIMIT ?2";
/// When the next timer is due.
pub(super) const NEXT_TIMER: &str = "SELECT fire_ms FROM timer INDEXED BY timer_due ORDER BY fire_ms LIMIT 1";

pub(super) fn due_timers(tx: &Tx<'_>, limit: usize) -> Result<Vec<Due>, Fault> {
    let mut statement = tx.conn.prepare_cached(DUE_TIMERS)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows =
        statement.query_map((clamp(tx.now_ms), limit), |row| Ok(Due { run: row.get(0)?, timer: row.get(1)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A timer's time has come.
pub(super) fn timer_fired(tx: &mut Tx<'_>, runs: &mut Runs, due: &Due) -> Result<(), Fault> {
    tx.stop_timer(due.run, &due.timer)?;
    if let Some(task) = waiting_task(&due.timer) {
        return waited_too_long(tx, runs, task);
    }
    let timer = due.timer.parse().map_err(Fault::Run)?;
    let mut hot = runs.take(tx.conn, due.run)?;
    let event = Event::TimerFired { now_ms: tx.event_time(&hot), timer };
    if compozy_interpreter::is_timely(&hot.plan, &hot.state, &event, tx.vault.as_ref())? {
        tx.record(&mut hot, event, None)?;
    }
    runs.put(hot);
    Ok(())
}

/// A task's time is over while it waits for a slot.
fn waited_too_long(tx: &mut Tx<'_>, runs: &mut Runs, task: i64) -> Result<(), Fault> {
    let Some(ready) = one_ready(tx, task)? else { return Ok(()) };
    let call = read_call(&ready)?;
    let bound = match call.policy.schedule_to_start_ms {
        Some(_) if ready.attempt == 0 && ready.deadline_ms.is_none_or(|deadline_ms| tx.now_ms < deadline_ms) => {
            Timeout::ScheduleToStart
        }
        _ => Timeout::ScheduleToClose,
    };
    let failure = timed_out(&ready.key, ready.attempt, &call.policy, bound);
    fail_ready(tx, runs, &ready, failure)
}

/// A task that waits for a slot.
pub(super) struct Ready {
    pub(super) task: i64,
    run: i64,
    execution: ExecutionId,
    key: String,
    attempt: u32,
    failed: u32,
    deadline_ms: Option<u64>,
    call: String,
}

/// Reads the next tasks from the index: the work does not grow with the backlog. A test asserts the query plan.
pub(super) const NEXT_READY: &str = "
    SELECT t.id, t.run, r.execution, t.key, t.attempt, t.failed, t.deadline_ms, t.call
    FROM task t INDEXED BY task_ready CROSS JOIN run r ON r.id = t.run
    WHERE t.state = 'ready' AND t.queue = ?1 ORDER BY t.id LIMIT ?2";
/// The next lane that has tasks: jumps over the tasks of each.
pub(super) const NEXT_LANE: &str = "SELECT queue FROM task INDEXED BY task_ready
    WHERE state = 'ready' AND queue > ?1 ORDER BY queue LIMIT 1";

/// One task, if it waits for a slot.
pub(super) const ONE_READY: &str = "
    SELECT t.id, t.run, r.execution, t.key, t.attempt, t.failed, t.deadline_ms, t.call
    FROM task t JOIN run r ON r.id = t.run WHERE t.id = ?1 AND t.state = 'ready'";

fn one_ready(tx: &Tx<'_>, task: i64) -> Result<Option<Ready>, Fault> {
    Ok(tx.conn.prepare_cached(ONE_READY)?.query_row([task], Ready::of).optional()?)
}

impl Ready {
    fn of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            task: row.get(0)?,
            run: row.get(1)?,
            execution: ExecutionId(row.get(2)?),
            key: row.get(3)?,
            attempt: row.get(4)?,
            failed: row.get(5)?,
            deadline_ms: row.get(6)?,
            call: row.get(7)?,
        })
    }
}

fn read_call(ready: &Ready) -> Result<Call, Fault> {
    serde_json::from_str(&ready.call)
        .map_err(|e| Fault::Run(format!("the call of task `{}` cannot be read: {e}", ready.key)))
}

/// The next tasks of a lane, the oldest first.
pub(super) fn next_ready(tx: &Tx<'_>, lane: &Lane, limit: usize) -> Result<Vec<Ready>, Fault> {
    let mut statement = tx.conn.prepare_cached(NEXT_READY)?;
    let rows = statement.query_map((&lane.name, i64::try_from(limit).unwrap_or(i64::MAX)), Ready::of)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Reads lanes that are not in memory, a bounded number.
pub(super) fn more_lanes(conn: &Connection, lanes: &mut Lanes) -> rusqlite::Result<()> {
    let mut statement = conn.prepare_cached(NEXT_LANE)?;
    for _ in 0..limits::LANES_READ_MAX {
        let Some(cursor) = lanes.cursor() else { break };
        let name: Option<String> = statement.query_row([cursor], |row| row.get(0)).optional()?;
        let end = name.is_none();
        lanes.found(name.map(Lane::of));
        if end {
            break;
        }
    }
    Ok(())
}

/// Begins an attempt of a task.
pub(super) const BEGIN_ATTEMPT: &str = "
    UPDATE task SET state = 'running', attempt = ?2, epoch = ?3, started_at_ms = ?4, ended_at_ms = NULL
    WHERE id = ?1 AND state = 'ready'";

/// Gives a slot to a task. One whose time is over meanwhile fails instead.
pub(super) fn dispatch(tx: &mut Tx<'_>, runs: &mut Runs, lane: &Arc<Lane>, ready: &Ready) -> Result<(), Fault> {
    let call = read_call(ready)?;
    let Some((limit_ms, bound)) = attempt_bound(&call.policy, ready.deadline_ms, tx.now_ms) else {
        if one_ready(tx, ready.task)?.is_none() {
            return Ok(());
        }
        let failure = timed_out(&ready.key, ready.attempt, &call.policy, Timeout::ScheduleToClose);
        return fail_ready(tx, runs, ready, failure);
    };
    let begin = (ready.task, ready.attempt + 1, tx.epoch, tx.now_ms);
    if tx.conn.prepare_cached(BEGIN_ATTEMPT)?.execute(begin)? == 0 {
        // An earlier task of the same round has ended the run.
        return Ok(());
    }
    tx.take(lane, ready.task);
    tx.effects.push(Effect::Launch(Arc::new(Launch {
        task: ready.task,
        run: ready.run,
        lane: Arc::clone(lane),
        execution: ready.execution.clone(),
        key: ready.key.clone(),
        attempt: ready.attempt + 1,
        failed: ready.failed,
        deadline_ms: ready.deadline_ms,
        call,
        limit_ms,
        bound,
    })));
    Ok(())
}

/// Ends a task that waits for a slot.
pub(super) fn fail_ready(tx: &mut Tx<'_>, runs: &mut Runs, ready: &Ready, failure: Failure) -> Result<(), Fault> {
    set_aside(tx, ready, &failure_text(&failure))?;
    let task = TaskKey(ready.key.clone());
    let ended = Ended { task: task.clone(), ran: None, attempts: ready.attempt };
    with_run(tx, runs, ready.run, |now_ms| Event::TaskFailed { now_ms, task, failure }, ended)
}

/// Takes a task from the queue without telling its run: for a run that cannot be read.
pub(super) fn set_aside(tx: &mut Tx<'_>, ready: &Ready, why: &str) -> Result<(), Fault> {
    tx.conn
        .prepare_cached(
            "UPDATE task SET state = 'failed', ended_at_ms = ?2, last_failure = ?3 WHERE id = ?1 AND state = 'ready'",
        )?
        .execute((ready.task, tx.now_ms, why))?;
    Ok(())
}
