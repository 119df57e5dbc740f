//! One transaction: events recorded, runs advanced, tasks scheduled. Nothing takes effect outside before the commit.

use std::collections::VecDeque;
use std::sync::Arc;

use compozy_interpreter::{BlobError, Command, Event, Failure, RunState, Status, TaskKey, advance};
use compozy_plan::blob::BlobRef;
use compozy_plan::dispatch::PRIORITY_DEFAULT;
use rusqlite::{Connection, OptionalExtension as _};
use serde_json::Value;

use super::attempt::{Call, Launch};
use super::lanes::{Lane, Lanes};
use super::outside::{Letter, waits_until};
use super::runs::{Fault, Hot, read_state};
use crate::attempt::{attempt_bound, too_large};
use crate::limits;
use crate::port::{ExecutionId, Notice, Outcome, Ran};
use crate::request::json_bytes;
use crate::run_limit::run_limit_failure;
use crate::vault::{Claim, Vault, unavailable};

/// One task of a run, if it has not ended.
pub(super) const OPEN_TASK: &str = "SELECT id, state, not_before_ms, queue FROM task
    WHERE run = ?1 AND key = ?2 AND CASE state WHEN 'ready' THEN 1 WHEN 'running' THEN 1 WHEN 'delayed' THEN 1 END";
/// The tasks of a run that have not ended.
pub(super) const OPEN_TASKS: &str = "SELECT id, state, not_before_ms, queue FROM task
    WHERE run = ?1 AND CASE state WHEN 'ready' THEN 1 WHEN 'running' THEN 1 WHEN 'delayed' THEN 1 END";
/// A timer of a run, if there is one.
pub(super) const HAS_TIMERS: &str = "SELECT 1 FROM timer WHERE run = ?1";
/// Writes a task.
pub(super) const INSERT_TASK: &str = "INSERT INTO task(run, key, queue, state, attempt, epoch, scheduled_at_ms,
    deadline_ms, started_at_ms, ended_at_ms, last_failure, call)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";

/// What happens after the commit, in order.
pub(super) enum Effect {
    /// Begin an attempt.
    Launch(Arc<Launch>),
    /// This attempt of the task is over.
    Ended(i64),
    /// The result of the task's attempt is not wanted any more.
    Abort(i64),
    /// Ask the task's attempt to end by itself.
    Ask(i64),
    /// Wait before the task's next attempt.
    Delay(u64, i64),
    /// Do not wait any more.
    Undelay(u64, i64),
    /// A run began.
    RunStarted,
    /// A run ended.
    RunEnded(ExecutionId, Outcome),
    /// Forget those of these blobs that no run refers to any more.
    ForgetBlobs(Vec<String>),
    /// A result came too late.
    Stale,
    /// The runtime that runs the attempts has ended.
    RuntimeGone,
    /// Tell those who watch.
    Notice(Notice),
}

/// A transaction that is under way.
pub(super) struct Tx<'a> {
    pub(super) conn: &'a Connection,
    pub(super) vault: &'a Arc<Vault>,
    /// Values that this transaction put away; its commit makes them somebody's.
    pub(super) claims: Vec<Claim>,
    pub(super) epoch: i64,
    pub(super) now_ms: u64,
    pub(super) effects: Vec<Effect>,
    /// Attempts that may still begin.
    pub(super) free: usize,
    /// Tasks that wait in the journal for their turn.
    pub(super) lanes: &'a mut Lanes,
    /// No attempt begins any more.
    pub(super) draining: bool,
    /// Somebody watches.
    pub(super) watched: bool,
    /// The earliest timer that was written.
    pub(super) first_timer: Option<u64>,
    /// Letters in the outbox.
    pub(super) letters: u64,
    /// Each operation has a savepoint to go back to. Without, one that fails after it has written takes the whole
    /// transaction with it, which is then done again with savepoints.
    pub(super) fenced: bool,
}

/// Where a transaction stood before an operation.
#[derive(Clone, Copy)]
struct Mark {
    effects: usize,
    free: usize,
    lanes: usize,
    letters: u64,
    changes: u64,
}

/// What an attempt says of the task that it ended.
pub(super) struct Ended {
    pub(super) task: TaskKey,
    pub(super) ran: Option<Ran>,
    pub(super) attempts: u32,
}

impl Tx<'_> {
    /// Runs an operation so that, if it fails, it leaves nothing: not in the journal and not in the effects.
    ///
    /// A savepoint makes SQLite copy every page before it is changed, which costs more than the operation. Nearly all that
    /// fail do so before they write anything, so that there is nothing to go back to; the others are [`Fault::Unfenced`].
    pub(super) fn atomically<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        let (effects, lanes) = (self.effects.len(), self.lanes.mark());
        let mark = Mark { effects, free: self.free, lanes, letters: self.letters, changes: self.conn.total_changes() };
        if self.fenced {
            self.run("SAVEPOINT operation")?;
        }
        match work(self) {
            Ok(value) => {
                if self.fenced {
                    self.run("RELEASE operation")?;
                }
                Ok(value)
            }
            Err(fault) => {
                self.effects.truncate(mark.effects);
                (self.free, self.letters) = (mark.free, mark.letters);
                self.lanes.go_back(mark.lanes);
                if !self.fenced {
                    return Err(if self.conn.total_changes() == mark.changes { fault } else { Fault::Unfenced });
                }
                // A full disk may have ended the whole transaction already; then there is nothing to go back to.
                if !self.conn.is_autocommit() {
                    self.run("ROLLBACK TO operation")?;
                    self.run("RELEASE operation")?;
                }
                Err(fault)
            }
        }
    }

    fn run(&self, sql: &str) -> Result<(), Fault> {
        self.conn.prepare_cached(sql)?.execute([])?;
        Ok(())
    }

    pub(super) fn notice(&mut self, notice: impl FnOnce() -> Notice) {
        if self.watched {
            let notice = notice();
            self.effects.push(Effect::Notice(notice));
        }
    }

    /// Appends an event to a run's journal, takes the run through it, and writes what is to be done.
    pub(super) fn record(&mut self, hot: &mut Hot, event: Event, mut ended: Option<Ended>) -> Result<(), Fault> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let rewinds = matches!(event, Event::RetryRequested { .. } | Event::ResetRequested { .. });
            if hot.state.status.is_terminal() && !rewinds {
                break;
            }
            let mut event = within_limits(hot, event, self.now_ms);
            self.put_away(&mut event)?;
            let (before, known) = (hot.state.status, hot.state.tasks.len());
            let commands = self.advance(hot, &mut event)?;
            self.append(hot, &event)?;
            let (id, seq) = (&hot.id, hot.seq);
            self.notice(|| Notice::Recorded { id: id.clone(), seq });
            self.note_ended_tasks(hot, known, ended.take().as_ref());
            if rewinds {
                // Containers opened again.
                hot.find_open();
            }
            // It may end again at once, and it may only wait, which takes no command.
            if before.is_terminal() && (!commands.is_empty() || !hot.state.status.is_terminal()) {
                self.reopen(hot)?;
            }
            for command in commands {
                self.obey(hot, command, &mut events)?;
            }
            self.note_status(hot, before)?;
        }
        if hot.snapshot_due() {
            self.snapshot(hot)?;
        }
        Ok(())
    }

    /// What a run put together, and what others handed to it, goes to the blob store when it is too large for the
    /// journal. Most was put away before it came here.
    fn put_away(&mut self, event: &mut Event) -> Result<(), Fault> {
        let large = event.payload().is_some_and(|payload| json_bytes(payload) > limits::INLINE_BYTES_MAX);
        if let Some(payload) = event.payload_mut().filter(|_| large) {
            let claim = self.vault.put_away(payload).map_err(|error| Fault::Storage(unavailable(&error)))?;
            self.claims.push(claim);
        }
        Ok(())
    }

    /// Takes a run through an event. One that needs a value which is lost ends instead, and the event becomes that end.
    fn advance(&self, hot: &mut Hot, event: &mut Event) -> Result<Vec<Command>, Fault> {
        match advance(&hot.plan, &mut hot.state, event, self.vault.as_ref()) {
            Ok(commands) => Ok(commands),
            Err(error @ BlobError::Unavailable { .. }) => Err(error.into()),
            Err(error @ BlobError::Lost { .. }) => {
                // The state is void. Where the journal cannot tell it either, the void one must do: it ends all the same.
                let (void, seq, bytes) = (hot.state.clone(), hot.seq, hot.bytes);
                if read_state(self.conn, hot, self.vault.as_ref()).is_err() {
                    (hot.state, hot.seq, hot.bytes) = (void, seq, bytes);
                }
                let now_ms = self.event_time(hot);
                *event = Event::Terminated { now_ms, failure: Failure::permanent("BLOB_LOST", error.to_string()) };
                let commands = advance(&hot.plan, &mut hot.state, event, self.vault.as_ref())?;
                // A run that has not begun does not begin.
                if commands.is_empty() { Err(error.into()) } else { Ok(commands) }
            }
        }
    }

    /// Writes what the blobs of an event belong to.
    fn note_blobs(&self, hot: &Hot, event: &Event) -> Result<(), Fault> {
        for blob in event.payload().map(BlobRef::all).unwrap_or_default() {
            self.conn
                .prepare_cached("INSERT OR IGNORE INTO blob_use(digest, run, bytes) VALUES (?1, ?2, ?3)")?
                .execute((&blob.digest, hot.row, blob.bytes))?;
        }
        Ok(())
    }

    /// Writes what one command asks for. What cannot be done comes back as an event.
    fn obey(&mut self, hot: &mut Hot, command: Command, events: &mut VecDeque<Event>) -> Result<(), Fault> {
        match command {
            Command::ScheduleTask { task, tool, input, policy, dispatch } => {
                let pin = hot.pins.get(&tool.plugin).cloned();
                let call = Call { tool, input, policy, seed: hot.state.seed, pin };
                let priority = dispatch.priority.or(hot.priority).or(hot.plan.priority).unwrap_or(PRIORITY_DEFAULT);
                let lane = Lane::new(&hot.plan.workflow, priority, dispatch.slots);
                events.extend(self.schedule(hot, task, call, lane)?);
            }
            Command::CancelTask { task } => {
                self.cancel_tasks(hot.row, Some(&task))?;
                self.close_children(hot, Some(&task))?;
            }
            Command::AskTaskToEnd { task, grace_ms } => events.extend(self.ask_to_end(hot, task, grace_ms)?),
            Command::StartTimer { timer, fire_at_ms } => self.start_timer(hot.row, &timer.to_string(), fire_at_ms)?,
            Command::CancelTimer { timer } => self.stop_timer(hot.row, &timer.to_string())?,
            Command::StartChild { task, workflow, input, parent_close } => {
                self.post(hot.row, &Letter::StartChild { task, workflow, input, parent_close })?;
            }
            Command::SendSignal { task, to, signal } => self.post(hot.row, &Letter::Signal { task, to, signal })?,
            Command::Finish => self.finish(hot)?,
        }
        Ok(())
    }

    /// Writes how the run stands, if that changed. A run is written as running, and its end by `finish`.
    fn note_status(&mut self, hot: &Hot, before: Status) -> Result<(), Fault> {
        let status = hot.state.status;
        if status.is_terminal() || status == before || (before == Status::Pending && status == Status::Running) {
            return Ok(());
        }
        self.conn.prepare_cached("UPDATE run SET status = ?2 WHERE id = ?1")?.execute((hot.row, status.name()))?;
        let id = hot.id.clone();
        self.notice(|| Notice::ExecutionChanged { id, status });
        Ok(())
    }

    fn append(&self, hot: &mut Hot, event: &Event) -> Result<(), Fault> {
        let body = to_json(event)?;
        let (kind, at_ms) = (event.kind(), event.now_ms());
        hot.seq += 1;
        hot.bytes += body.len() as u64;
        if hot.state.has_blobs {
            self.note_blobs(hot, event)?;
        }
        self.conn
            .prepare_cached("INSERT INTO journal(run, seq, at_ms, kind, body) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute((hot.row, hot.seq, at_ms, kind, body))?;
        Ok(())
    }

    /// Compares only what was open before with what is new: a run may have thousands of tasks that ended long ago.
    fn note_ended_tasks(&mut self, hot: &mut Hot, known: usize, ended: Option<&Ended>) {
        let fresh: Vec<TaskKey> = (known..hot.state.tasks.len())
            .filter_map(|i| hot.state.tasks.get_index(i))
            .map(|(k, _)| k.clone())
            .collect();
        let tasks = &hot.state.tasks;
        let mut over = Vec::new();
        hot.open.retain(|key| {
            let open = tasks.get(key).is_some_and(|task| !task.status.is_terminal());
            if !open {
                over.push(key.clone());
            }
            open
        });
        for key in fresh {
            let list = if tasks[&key].status.is_terminal() { &mut over } else { &mut hot.open };
            list.push(key);
        }
        // Children before what they belong to, else in the order in which the run came to them.
        over.sort_by_cached_key(|key| std::cmp::Reverse(depth(&hot.state, key)));
        for key in over {
            let Some(task) = hot.state.tasks.get(&key) else { continue };
            let (ran, attempts) = match ended {
                Some(ended) if ended.task == key => (ended.ran.clone(), ended.attempts),
                _ => (None, 0),
            };
            let (id, kind, status) = (&hot.id, &task.kind, task.status);
            self.notice(|| Notice::TaskEnded {
                id: id.clone(),
                task: key.0.clone(),
                kind: kind.clone(),
                status,
                ran,
                attempts,
            });
        }
    }

    /// Writes a task, at once as running when there is a free slot and nobody waits for one: in the straight path
    /// an attempt then needs no commit of its own to begin. Answers the event of a task that cannot be scheduled.
    fn schedule(&mut self, hot: &Hot, task: TaskKey, call: Call, lane: Lane) -> Result<Option<Event>, Fault> {
        let input_bytes = json_bytes(&call.input);
        if input_bytes > limits::PAYLOAD_BYTES_MAX {
            let failure = too_large(&task.0, "input", input_bytes);
            let call = Call { input: Value::Null, ..call };
            self.insert_task(hot, &task, &call, &lane, "failed", Some(&failure), None)?;
            return Ok(Some(Event::TaskFailed { now_ms: self.event_time(hot), task, failure }));
        }
        let deadline_ms = call.policy.schedule_to_close_ms.map(|bound| clamp(self.now_ms.saturating_add(bound)));
        let bound = if self.free > 0 && !self.draining && self.lanes.is_free_for(&lane) {
            attempt_bound(&call.policy, deadline_ms, self.now_ms)
        } else {
            None
        };
        let Some((limit_ms, bound)) = bound else {
            let row = self.insert_task(hot, &task, &call, &lane, "ready", None, deadline_ms)?;
            self.lanes.add(Arc::new(lane));
            let start_ms = call.policy.schedule_to_start_ms.map(|bound| clamp(self.now_ms.saturating_add(bound)));
            if let Some(until_ms) = start_ms.into_iter().chain(deadline_ms).min() {
                self.start_timer(hot.row, &waits_until(row), until_ms)?;
            }
            return Ok(None);
        };
        let id = self.insert_task(hot, &task, &call, &lane, "running", None, deadline_ms)?;
        self.take(&lane, id);
        self.effects.push(Effect::Launch(Arc::new(Launch {
            task: id,
            run: hot.row,
            lane: Arc::new(lane),
            execution: hot.id.clone(),
            key: task.0,
            attempt: 1,
            failed: 0,
            deadline_ms,
            call,
            limit_ms,
            bound,
        })));
        Ok(None)
    }

    /// A slot for an attempt.
    pub(super) fn take(&mut self, lane: &Lane, task: i64) {
        self.free = self.free.saturating_sub(1);
        self.lanes.take(lane, task);
    }

    /// The slot of an attempt that is over.
    pub(super) fn give_back(&mut self, lane: &Lane, task: i64) {
        self.free += 1;
        self.lanes.give_back(lane, task);
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one row")]
    fn insert_task(
        &self,
        hot: &Hot,
        task: &TaskKey,
        call: &Call,
        lane: &Lane,
        state: &str,
        failure: Option<&Failure>,
        deadline_ms: Option<u64>,
    ) -> Result<i64, Fault> {
        let running = state == "running";
        self.conn.prepare_cached(INSERT_TASK)?.execute((
            hot.row,
            &task.0,
            &lane.name,
            state,
            u32::from(running),
            if running { self.epoch } else { 0 },
            self.now_ms,
            deadline_ms,
            running.then_some(self.now_ms),
            failure.map(|_| self.now_ms),
            failure.map(failure_text),
            to_json(call)?,
        ))?;
        Ok(self.conn.last_insert_rowid())
    }

    /// Ends the tasks of a run that have not ended: one, or all.
    pub(super) fn cancel_tasks(&mut self, run: i64, only: Option<&TaskKey>) -> Result<(), Fault> {
        let mut open = Vec::new();
        {
            let mut statement = self.conn.prepare_cached(if only.is_some() { OPEN_TASK } else { OPEN_TASKS })?;
            let mut rows = match only {
                Some(key) => statement.query((run, &key.0))?,
                None => statement.query([run])?,
            };
            while let Some(row) = rows.next()? {
                let (id, state, not_before_ms, lane): (i64, String, u64, String) = row.try_into()?;
                open.push((id, state, not_before_ms, lane));
            }
        }
        for (id, state, not_before_ms, lane) in open {
            self.conn
                .prepare_cached("UPDATE task SET state = 'canceled', ended_at_ms = ?2 WHERE id = ?1")?
                .execute((id, self.now_ms))?;
            match state.as_str() {
                // Its lane finds out at its turn.
                "ready" => {}
                "delayed" => self.effects.push(Effect::Undelay(not_before_ms, id)),
                _ => {
                    self.give_back(&Lane::of(lane), id);
                    self.effects.push(Effect::Abort(id));
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self, hot: &mut Hot) -> Result<(), Fault> {
        // Where every task ended well there is none to cancel.
        if hot.state.tasks.values().any(|task| task.status != Status::Success) {
            self.cancel_tasks(hot.row, None)?;
        }
        // Most runs have none, and to look costs far less than to delete nothing.
        if self.conn.prepare_cached(HAS_TIMERS)?.exists([hot.row])? {
            self.conn.prepare_cached("DELETE FROM timer WHERE run = ?1")?.execute([hot.row])?;
        }
        self.close_children(hot, None)?;
        self.tell_parent(hot)?;
        self.conn.prepare_cached("UPDATE run SET status = ?2, ended_at_ms = ?3 WHERE id = ?1")?.execute((
            hot.row,
            hot.state.status.name(),
            self.event_time(hot),
        ))?;
        // The last snapshot makes an ended run readable by itself, without its definition or the interpreter.
        self.snapshot(hot)?;
        let (id, status) = (hot.id.clone(), hot.state.status);
        let outcome = Outcome { status, output: hot.state.output.clone(), failure: hot.state.failure.clone() };
        let ended = Effect::RunEnded(id.clone(), outcome);
        self.notice(|| Notice::ExecutionEnded { id, status });
        // After the notices: who waits for the run has then been told of all its tasks.
        self.effects.push(ended);
        Ok(())
    }

    fn snapshot(&self, hot: &mut Hot) -> Result<(), Fault> {
        let state = to_json(&hot.state)?;
        self.conn
            .prepare_cached(
                "INSERT INTO snapshot(run, seq, bytes, state) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT(run) DO UPDATE SET seq = excluded.seq, bytes = excluded.bytes, state = excluded.state",
            )?
            .execute((hot.row, hot.seq, hot.bytes, &state))?;
        (hot.snapshot_seq, hot.snapshot_bytes, hot.snapshot_size) = (hot.seq, hot.bytes, state.len() as u64);
        Ok(())
    }

    /// The time of an event of a run: never before the run's last one, also when the clock jumped back.
    pub(super) fn event_time(&self, hot: &Hot) -> u64 {
        self.now_ms.max(hot.state.now_ms)
    }

    /// The row of an execution.
    pub(super) fn find_run(&self, id: &ExecutionId) -> Result<Option<i64>, Fault> {
        Ok(self
            .conn
            .prepare_cached("SELECT id FROM run WHERE execution = ?1")?
            .query_row([&id.0], |row| row.get(0))
            .optional()?)
    }
}

/// How many tasks a task is in.
fn depth(state: &RunState, key: &TaskKey) -> usize {
    let parent = |key: &TaskKey| state.tasks.get(key).and_then(|task| task.parent.clone());
    std::iter::successors(parent(key), parent).count()
}

/// A run that is at its limit ends with the next event, whatever that was.
fn within_limits(hot: &Hot, event: Event, now_ms: u64) -> Event {
    match run_limit_failure(hot.seq, hot.bytes) {
        None => event,
        Some(failure) => Event::Terminated { now_ms: now_ms.max(hot.state.now_ms), failure },
    }
}

/// A failure as one line of text.
pub(super) fn failure_text(failure: &Failure) -> String {
    format!("{}: {}", failure.code, failure.message)
}

/// The largest time that SQLite holds.
pub(super) fn clamp(at_ms: u64) -> u64 {
    at_ms.min(i64::MAX.unsigned_abs())
}

pub(super) fn to_json(value: &impl serde::Serialize) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|e| Fault::Run(format!("a value cannot be written as JSON: {e}")))
}

/// The status of a row.
pub(super) fn parse_status(text: &str) -> Result<Status, Fault> {
    serde_json::from_value(Value::String(text.to_owned())).map_err(|_| Fault::Run(format!("unknown status `{text}`")))
}
