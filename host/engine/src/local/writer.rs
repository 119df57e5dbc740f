//! The writer: one thread that owns the journal and decides what happens next.
//!
//! It takes whatever is there, writes it in one transaction, and only then answers callers and begins attempts. It
//! sleeps until there is something to do or the next retry is due; it never polls, and never waits to collect more.

use std::collections::{BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::attempt::{self, Launch, panic_text};
use super::checkpoint::Checkpoints;
use super::deliver::Postman;
use super::file::JournalFile;
use super::lanes::{Lane, Lanes};
use super::lock::OwnerLock;
use super::prune::Pruned;
use super::queue::{AttemptEnd, Drained, Report, Request};
use super::request::Definitions;
use super::retry;
use super::runs::{Fault, Runs};
use super::shared::{Phase, Shared, add};
use super::tx::{Effect, Tx};
use super::{control, deliver, ops, prune};
use crate::port::{ExecutionId, Signs, TaskReport, Workflows};
use crate::{EngineError, limits};
use compozy_interpreter::{BlobError, Failure};

/// A clock that jumped forward is noticed after this long at the latest.
const SLEEP_MAX: Duration = Duration::from_mins(1);
/// Waits between attempts to write what must be written, while storage refuses.
const STORAGE_RETRY: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
];

/// Those may wait for a slot until their time is over.
pub(super) const FREED_UNTIL: &str = "INSERT OR IGNORE INTO timer(run, id, fire_ms)
    SELECT run, 'slot:' || id, deadline_ms FROM task INDEXED BY task_running
    WHERE state = 'running' AND deadline_ms IS NOT NULL";
/// Takes the tasks of attempts that ran back: those of an earlier owner, or those that a stop dropped.
pub(super) const FREE_ALL: &str = "UPDATE task SET state = 'ready' WHERE state = 'running'";
pub(super) const COUNT_OPEN: &str = "SELECT COUNT(*) FROM run INDEXED BY run_open WHERE ended_at_ms IS NULL";
pub(super) const COUNT_LETTERS: &str = "SELECT COUNT(*) FROM outbox";
pub(super) const ALL_DELAYED: &str =
    "SELECT not_before_ms, id FROM task INDEXED BY task_delayed WHERE state = 'delayed'";

/// An attempt that runs.
struct Running {
    launch: Launch,
    abort: AbortHandle,
    signs: Signs,
}

pub(super) struct Writer {
    /// First, so that its connection is closed before ours, and ours before the folder is free.
    checkpoints: Checkpoints,
    shared: Arc<Shared>,
    file: JournalFile,
    conn: Connection,
    epoch: i64,
    capacity: usize,
    runs: Runs,
    running: HashMap<i64, Running>,
    /// When which task's next attempt is due.
    delayed: BTreeSet<(u64, i64)>,
    /// Tasks in the journal that wait for their turn.
    lanes: Lanes,
    /// When the next timer is due, at the earliest.
    next_timer: Option<u64>,
    /// Letters in the outbox.
    letters: u64,
    workflows: Arc<dyn Workflows>,
    definitions: Arc<Definitions>,
    /// Reports that storage did not take yet.
    retained: Vec<Report>,
    /// Commits refused in a row, and when to try again.
    refused: usize,
    blocked_until: Option<Instant>,
    _lock: OwnerLock,
}

/// What a caller is told after the commit.
enum Answer {
    Started(oneshot::Sender<Result<ExecutionId, EngineError>>, Result<ExecutionId, EngineError>),
    Pruned(oneshot::Sender<Result<Pruned, EngineError>>, Result<Pruned, EngineError>),
    Controlled(oneshot::Sender<Result<(), EngineError>>, Result<(), EngineError>),
    /// Nobody waits.
    Nobody,
}

impl Answer {
    fn send(self) {
        // A caller that does not wait any more does not want to know.
        match self {
            Self::Started(reply, answer) => drop(reply.send(answer)),
            Self::Pruned(reply, answer) => drop(reply.send(answer)),
            Self::Controlled(reply, answer) => drop(reply.send(answer)),
            Self::Nobody => {}
        }
    }
}

/// Why a whole transaction failed.
struct BatchFailed(EngineError);

impl Writer {
    /// Takes over a journal: a new epoch makes every older lease void at once, so recovery waits for nothing.
    pub(super) fn open(
        shared: Arc<Shared>,
        file: JournalFile,
        lock: OwnerLock,
        capacity: usize,
        workflows: Arc<dyn Workflows>,
        definitions: Arc<Definitions>,
    ) -> Result<Self, EngineError> {
        let mut conn = file.open_writer()?;
        let checkpoints = Checkpoints::begin(&file, &mut conn)?;
        let vault = Arc::clone(&shared.vault);
        let now_ms = shared.clock.now_ms();
        let take_over = || -> rusqlite::Result<_> {
            conn.execute_batch("BEGIN IMMEDIATE")?;
            conn.execute(
                "INSERT INTO owner(id, epoch, pid, started_at_ms) VALUES (1, 1, ?1, ?2)
                 ON CONFLICT(id) DO UPDATE SET epoch = epoch + 1, pid = ?1, started_at_ms = ?2",
                (std::process::id(), now_ms),
            )?;
            let epoch = conn.query_row("SELECT epoch FROM owner", [], |row| row.get(0))?;
            conn.execute(FREED_UNTIL, [])?;
            conn.execute(FREE_ALL, [])?;
            conn.execute_batch("COMMIT")?;
            let open: u64 = conn.query_row(COUNT_OPEN, [], |row| row.get(0))?;
            let mut delayed = conn.prepare(ALL_DELAYED)?;
            let delayed = delayed
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<BTreeSet<(u64, i64)>>>()?;
            let next_timer: Option<u64> = conn.query_row(ops::NEXT_TIMER, [], |row| row.get(0)).optional()?;
            let letters: u64 = conn.query_row(COUNT_LETTERS, [], |row| row.get(0))?;
            let mut lanes = Lanes::new(limits::LANES_MAX);
            ops::more_lanes(&conn, &mut lanes)?;
            Ok((epoch, open, delayed, next_timer, letters, lanes))
        };
        let (epoch, open, delayed, next_timer, letters, lanes) =
            take_over().map_err(|e| file.error("take over the journal", &e))?;
        add(&shared.counters.open_executions, open);
        Ok(Self {
            checkpoints,
            shared,
            file,
            conn,
            epoch,
            capacity,
            runs: Runs::new(Arc::clone(&vault)),
            running: HashMap::new(),
            delayed,
            lanes,
            next_timer,
            letters,
            workflows,
            definitions,
            retained: Vec::new(),
            refused: 0,
            blocked_until: None,
            _lock: lock,
        })
    }

    /// Works until it is told to end, then leaves the journal closed and the folder free.
    pub(super) fn run(mut self) {
        loop {
            let until = self.next_wake();
            let drained = self.shared.queue.drain(until);
            if drained.shutdown {
                break self.close(drained);
            }
            self.turn(drained);
            self.checkpoints.tend(&self.conn);
            self.update_phase();
        }
    }

    /// When there is something to do that nobody announces.
    fn next_wake(&self) -> Option<Instant> {
        let now = Instant::now();
        let dispatch = !self.shared.draining() && self.lanes.has_work() && self.running.len() < self.capacity;
        let first = self.delayed.first().map(|(at_ms, _)| *at_ms).into_iter().chain(self.next_timer).min();
        let due = first.filter(|_| !self.shared.draining()).map(|at_ms| {
            let wait = Duration::from_millis(at_ms.saturating_sub(self.shared.clock.now_ms()));
            now + wait.min(SLEEP_MAX)
        });
        let letters = self.letters > 0 && !self.shared.draining();
        let work = if dispatch || letters || !self.retained.is_empty() { Some(now) } else { due };
        match (work, self.blocked_until) {
            (Some(work), Some(blocked)) => Some(work.max(blocked)),
            (work, _) => work,
        }
    }

    /// One transaction, and what follows from it.
    fn turn(&mut self, drained: Drained) {
        let mut reports = std::mem::take(&mut self.retained);
        reports.extend(drained.reports);
        let blocked = self.blocked_until.is_some_and(|until| Instant::now() < until);
        if drained.requests.is_empty() && (blocked || (reports.is_empty() && !self.has_own_work())) {
            self.retained = reports;
            return;
        }
        match self.transact(&reports, drained.requests) {
            Ok((answers, effects)) => {
                self.refused = 0;
                if self.blocked_until.take().is_some() {
                    tracing::info!("the journal can be written again");
                    self.shared.set_trouble(None);
                }
                // It is durable: now it may be seen, begun and answered. Who is answered finds it counted.
                for effect in effects {
                    self.take_effect(effect);
                }
                answers.into_iter().for_each(Answer::send);
            }
            Err((BatchFailed(error), answers)) => {
                self.storage_refused(&error);
                self.retained = reports;
                for answer in answers {
                    match answer {
                        Answer::Started(reply, _) => Answer::Started(reply, Err(error.clone())).send(),
                        Answer::Pruned(reply, _) => Answer::Pruned(reply, Err(error.clone())).send(),
                        Answer::Controlled(reply, _) => Answer::Controlled(reply, Err(error.clone())).send(),
                        Answer::Nobody => {}
                    }
                }
            }
        }
    }

    fn has_own_work(&self) -> bool {
        if self.shared.draining() {
            return false;
        }
        let now_ms = self.shared.clock.now_ms();
        (self.lanes.has_work() && self.running.len() < self.capacity)
            || self.letters > 0
            || self.next_timer.is_some_and(|at_ms| at_ms <= now_ms)
            || self.delayed.first().is_some_and(|(at_ms, _)| *at_ms <= now_ms)
    }

    fn storage_refused(&mut self, error: &EngineError) {
        add(&self.shared.counters.failed_commits, 1);
        if self.refused == 0 {
            tracing::error!(code = error.code(), %error, "the journal cannot be written");
        }
        self.shared.set_trouble(Some(error.to_string()));
        self.blocked_until = Some(Instant::now() + STORAGE_RETRY[self.refused.min(STORAGE_RETRY.len() - 1)]);
        self.refused += 1;
        // What is in memory went ahead of what is in the journal.
        self.runs.forget();
        self.lanes.look_again();
        if !self.conn.is_autocommit() && self.conn.execute_batch("ROLLBACK").is_err() {
            tracing::error!("a refused transaction could not be rolled back");
        }
    }

    /// Writes everything in one transaction. On failure nothing was written, and nobody may be told otherwise.
    #[expect(clippy::type_complexity, reason = "an answer is owed either way")]
    fn transact(
        &mut self,
        reports: &[Report],
        requests: Vec<Request>,
    ) -> Result<(Vec<Answer>, Vec<Effect>), (BatchFailed, Vec<Answer>)> {
        let Self { shared, file, conn, epoch, capacity, runs, running, delayed, lanes, next_timer, letters, .. } = self;
        let postman = Postman { workflows: self.workflows.as_ref(), definitions: &self.definitions };
        let mut tx = Tx {
            conn,
            vault: &shared.vault,
            claims: Vec::new(),
            epoch: *epoch,
            now_ms: shared.clock.now_ms(),
            effects: Vec::new(),
            free: capacity.saturating_sub(running.len()),
            lanes,
            draining: shared.draining(),
            watched: shared.watched(),
            first_timer: None,
            letters: *letters,
        };
        let mut answers = Vec::with_capacity(requests.len());
        let mut batch = Batch { file, tx: &mut tx, runs };
        let begun = batch.sql("BEGIN IMMEDIATE");
        let mut result = begun;
        for report in reports {
            result = result.and_then(|()| batch.report(running, report));
        }
        for request in requests {
            let (answer, outcome) = batch.request(request, result.is_ok());
            answers.push(answer);
            result = result.and(outcome);
        }
        let mut next = *next_timer;
        result = result
            .and_then(|()| batch.due(delayed))
            .and_then(|()| batch.timers(&mut next))
            .and_then(|()| batch.letters(&postman))
            .and_then(|()| batch.fill());
        if let Err(failed) = result.and_then(|()| batch.sql("COMMIT")) {
            return Err((failed, answers));
        }
        *next_timer = next.into_iter().chain(tx.first_timer).min();
        *letters = tx.letters;
        add(&shared.counters.commits, 1);
        add(&shared.counters.operations, (reports.len() + answers.len()) as u64);
        tx.lanes.keep();
        Ok((answers, tx.effects))
    }

    fn take_effect(&mut self, effect: Effect) {
        let counters = &self.shared.counters;
        match effect {
            Effect::Launch(launch) => {
                let (abort, signs) = attempt::spawn(&self.shared, &launch);
                self.running.insert(launch.task, Running { launch, abort, signs });
            }
            Effect::Ended(task) => drop(self.running.remove(&task)),
            Effect::Abort(task) => {
                if let Some(running) = self.running.remove(&task) {
                    running.abort.abort();
                }
            }
            Effect::Ask(task) => {
                if let Some(running) = self.running.get(&task) {
                    running.signs.ask_to_end();
                }
            }
            Effect::Delay(at_ms, task) => drop(self.delayed.insert((at_ms, task))),
            Effect::Undelay(at_ms, task) => drop(self.delayed.remove(&(at_ms, task))),
            Effect::RunStarted => add(&counters.open_executions, 1),
            Effect::RunEnded(id, outcome) => {
                counters.open_executions.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
                self.shared.wake_waiters(&id, outcome);
            }
            Effect::ForgetBlobs(digests) => self.forget_blobs(&digests),
            Effect::Stale => add(&counters.stale_results, 1),
            Effect::RuntimeGone => {
                self.shared.draining.store(true, std::sync::atomic::Ordering::Release);
                self.shared.set_trouble(Some("the runtime that runs the tasks has ended".to_owned()));
            }
            Effect::Notice(notice) => self.shared.tell(notice),
        }
    }

    /// Asks again, after the commit, whether nobody refers to them: a later operation of the same batch may have begun to.
    fn forget_blobs(&self, digests: &[String]) {
        for digest in digests {
            let used = self.conn.prepare_cached(prune::BLOB_IS_USED).and_then(|mut used| used.exists([digest]));
            let forgotten = match used {
                Ok(true) => continue,
                Ok(false) => self.shared.vault.forget(digest).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = forgotten {
                // The next start sweeps it up.
                tracing::warn!(digest, error, "a blob that nothing refers to stays");
            }
        }
    }

    fn update_phase(&self) {
        let running = self.running.len() as u64;
        self.shared.counters.running_tasks.store(running, std::sync::atomic::Ordering::Relaxed);
        if self.shared.draining() && self.running.is_empty() && self.retained.is_empty() {
            self.shared.phase.send_if_modified(|phase| {
                let changed = *phase == Phase::Running;
                *phase = (*phase).max(Phase::Drained);
                changed
            });
        }
    }

    /// Records what was reported, ends what still runs, and frees the tasks for the next owner.
    fn close(mut self, mut drained: Drained) {
        // The last chance for results that storage refused so far.
        self.blocked_until = None;
        loop {
            for request in drained.requests.drain(..) {
                request.refuse(EngineError::Stopping);
            }
            let last = drained.reports.is_empty();
            self.turn(drained);
            if last {
                break;
            }
            drained = self.shared.queue.drain(Some(Instant::now()));
        }
        for (_, running) in self.running.drain() {
            running.abort.abort();
        }
        self.shared.counters.running_tasks.store(0, std::sync::atomic::Ordering::Relaxed);
        let free = self.conn.execute(FREE_ALL, []);
        let checkpoint = self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        if let Err(error) = free.and(checkpoint) {
            // Nothing is lost: the next owner frees the tasks and reads the log.
            tracing::warn!(%error, "the journal could not be tidied up while closing");
        }
    }
}

/// A transaction's operations, each fenced off from the others.
struct Batch<'a, 'b> {
    file: &'a JournalFile,
    tx: &'a mut Tx<'b>,
    runs: &'a mut Runs,
}

impl Batch<'_, '_> {
    fn sql(&self, sql: &str) -> Result<(), BatchFailed> {
        self.tx
            .conn
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute([]))
            .map(drop)
            .map_err(|e| BatchFailed(self.file.error("write the journal", &e)))
    }

    /// One operation. If it fails by itself, its neighbours do not notice; if storage fails, all do.
    fn one<T>(
        &mut self,
        work: impl FnOnce(&mut Tx<'_>, &mut Runs) -> Result<T, Fault>,
    ) -> Result<Result<T, EngineError>, BatchFailed> {
        let runs = &mut *self.runs;
        let outcome = self.tx.atomically(|tx| {
            // The interpreter is total. Should it ever not be, one run stands still and not the engine.
            std::panic::catch_unwind(AssertUnwindSafe(|| work(tx, runs)))
                .unwrap_or_else(|panic| Err(Fault::Refused(EngineError::Internal(panic_text(panic.as_ref())))))
        });
        let error = match outcome {
            Ok(value) => return Ok(Ok(value)),
            Err(Fault::Refused(error)) => return Ok(Err(error)),
            Err(Fault::Run(reason)) => EngineError::ExecutionUnreadable { reason },
            Err(Fault::Blob(error @ BlobError::Lost { .. })) => EngineError::BlobLost { reason: error.to_string() },
            Err(Fault::Blob(error @ BlobError::Unavailable { .. })) => {
                return Err(BatchFailed(self.file.unavailable("read a value that is kept apart", &error)));
            }
            Err(Fault::Storage(error)) => return Err(BatchFailed(error)),
            Err(Fault::Sql(error)) => match self.file.error("write the journal", &error) {
                storage @ (EngineError::StorageUnavailable { .. } | EngineError::JournalCorrupt { .. }) => {
                    return Err(BatchFailed(storage));
                }
                other => other,
            },
        };
        if self.tx.conn.is_autocommit() {
            return Err(BatchFailed(error));
        }
        Ok(Err(error))
    }

    fn report(&mut self, running: &HashMap<i64, Running>, report: &Report) -> Result<(), BatchFailed> {
        let current = running.get(&report.task).filter(|running| running.launch.attempt == report.attempt);
        let Some(Running { launch, .. }) = current else {
            // Canceled meanwhile; only an answer is worth counting.
            if matches!(report.end, AttemptEnd::Answered(_)) {
                self.tx.effects.push(Effect::Stale);
            }
            return Ok(());
        };
        let outcome = match &report.end {
            AttemptEnd::Answered(report) => {
                self.one(|tx, runs| ops::attempt_ended(tx, runs, launch, TaskReport::clone(report)))?
            }
            AttemptEnd::Lost => self.one(|tx, _| ops::attempt_lost(tx, launch))?,
        };
        if let Err(error) = outcome {
            tracing::error!(execution = %launch.execution, task = launch.key, %error, "the end of a task cannot be recorded");
            self.tx.effects.push(Effect::Ended(launch.task));
            self.tx.give_back(&launch.lane, launch.task);
        }
        Ok(())
    }

    /// Answers the caller with what came out; the answer is kept back until the commit.
    fn request(&mut self, request: Request, alive: bool) -> (Answer, Result<(), BatchFailed>) {
        fn split<T>(
            outcome: Result<Result<T, EngineError>, BatchFailed>,
        ) -> (Result<T, EngineError>, Result<(), BatchFailed>) {
            match outcome {
                Ok(answer) => (answer, Ok(())),
                Err(BatchFailed(error)) => (Err(error.clone()), Err(BatchFailed(error))),
            }
        }
        match request {
            Request::Start { start, reply } => {
                let draining = self.tx.draining;
                let (answer, outcome) = if draining || !alive {
                    (Err(EngineError::Stopping), Ok(()))
                } else {
                    split(self.one(|tx, runs| ops::start(tx, runs, &start)))
                };
                (Answer::Started(reply, answer), outcome)
            }
            Request::Prune { over, reply } => {
                let (answer, outcome) = if alive {
                    split(self.one(|tx, _| prune::prune(tx, &over)))
                } else {
                    (Err(EngineError::Stopping), Ok(()))
                };
                (Answer::Pruned(reply, answer), outcome)
            }
            Request::SweepBlobs { digests } => {
                self.tx.effects.push(Effect::ForgetBlobs(digests));
                (Answer::Nobody, Ok(()))
            }
            Request::Control { id, control, reply, .. } => {
                let (answer, outcome) = if alive {
                    split(self.one(|tx, runs| control::control(tx, runs, &id, &control)))
                } else {
                    (Err(EngineError::Stopping), Ok(()))
                };
                (Answer::Controlled(reply, answer), outcome)
            }
        }
    }

    /// Moves the tasks whose wait is over to those that wait for a slot.
    fn due(&mut self, delayed: &BTreeSet<(u64, i64)>) -> Result<(), BatchFailed> {
        if self.tx.draining {
            return Ok(());
        }
        let now_ms = self.tx.now_ms;
        let over = delayed.iter().take_while(|(at_ms, _)| *at_ms <= now_ms).take(limits::BATCH_OPS_MAX);
        for &(at_ms, task) in over {
            if let Err(error) = self.one(|tx, _| ops::due(tx, at_ms, task))? {
                tracing::error!(task, %error, "a retry cannot be made ready");
            }
        }
        Ok(())
    }

    /// Fires the timers whose time has come, and finds out when the next one is due.
    fn timers(&mut self, next: &mut Option<u64>) -> Result<(), BatchFailed> {
        if self.tx.draining || next.is_none_or(|at_ms| at_ms > self.tx.now_ms) {
            return Ok(());
        }
        let due = match self.one(|tx, _| ops::due_timers(tx, limits::BATCH_OPS_MAX))? {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(%error, "the timers that are due cannot be read");
                Vec::new()
            }
        };
        for due in due {
            if let Err(error) = self.one(|tx, runs| ops::timer_fired(tx, runs, &due))? {
                tracing::error!(run = due.run, timer = due.timer, %error, "a timer cannot fire");
                // It must not fire for ever into a run that cannot be read.
                self.one(|tx, _| tx.stop_timer(due.run, &due.timer))?.ok();
            }
        }
        let first = self.tx.conn.prepare_cached(ops::NEXT_TIMER);
        let first = first.and_then(|mut first| first.query_row([], |row| row.get(0)).optional());
        *next = first.map_err(|e| BatchFailed(self.file.error("read the journal", &e)))?;
        Ok(())
    }

    /// Delivers what runs tell each other.
    fn letters(&mut self, postman: &Postman<'_>) -> Result<(), BatchFailed> {
        let mut taken = 0;
        while !self.tx.draining && self.tx.letters > 0 && taken < limits::BATCH_OPS_MAX {
            let next = match self.one(|tx, _| deliver::next_letters(tx, limits::BATCH_OPS_MAX))? {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(%error, "the outbox cannot be read");
                    break;
                }
            };
            if next.is_empty() {
                // The count was wrong; the table is right.
                self.tx.letters = 0;
            }
            for posted in next {
                taken += 1;
                if let Err(error) = self.one(|tx, runs| postman.deliver(tx, runs, &posted))? {
                    tracing::error!(letter = posted.id, %error, "what one run tells another cannot be delivered");
                    self.one(|tx, _| deliver::remove(tx, &posted))?.ok();
                }
            }
        }
        Ok(())
    }

    /// Gives free slots to the tasks whose turn it is.
    fn fill(&mut self) -> Result<(), BatchFailed> {
        if self.tx.draining {
            return Ok(());
        }
        if self.tx.lanes.wants_more()
            && let Err(error) = self.one(|tx, _| Ok(ops::more_lanes(tx.conn, tx.lanes)?))?
        {
            tracing::error!(%error, "the tasks that wait cannot be read");
        }
        let mut begun = 0;
        while self.tx.free > 0 && begun < limits::BATCH_OPS_MAX {
            let Some((lane, take)) = self.tx.lanes.next(self.tx.free) else { break };
            // One more than is taken tells whether there are more.
            let next = match self.one(|tx, _| ops::next_ready(tx, &lane, take + 1))? {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(%error, "the tasks that wait cannot be read");
                    self.tx.lanes.put_back(lane, true);
                    break;
                }
            };
            begun += 1;
            let more = next.len() > take;
            for ready in next.into_iter().take(take) {
                begun += 1;
                self.dispatch(&lane, &ready)?;
            }
            self.tx.lanes.put_back(lane, more);
        }
        Ok(())
    }

    fn dispatch(&mut self, lane: &Arc<Lane>, ready: &ops::Ready) -> Result<(), BatchFailed> {
        let Err(error) = self.one(|tx, runs| ops::dispatch(tx, runs, lane, ready))? else { return Ok(()) };
        tracing::error!(task = ready.task, %error, "a task cannot begin");
        let failure = retry::bounded(Failure::permanent("TASK_UNREADABLE", error.to_string()));
        if self.one(|tx, runs| ops::fail_ready(tx, runs, ready, failure))?.is_err() {
            // Not even its run can be read. It must not stand at the head of the queue for ever.
            self.one(|tx, _| ops::set_aside(tx, ready, &error.to_string()))?.ok();
        }
        Ok(())
    }
}
