//! The writer: one thread that owns the journal and decides what happens next.
//!
//! It takes whatever is there, writes it in one transaction, and only then answers callers and begins attempts. It
//! sleeps until there is something to do or the next retry is due; it never polls, and never waits to collect more.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _};
use tokio::task::AbortHandle;

use super::attempt::{self, Launch};
use super::batch::{Answer, Batch, BatchFailed};
use super::checkpoint::Checkpoints;
use super::deliver::Postman;
use super::file::JournalFile;
use super::lanes::Lanes;
use super::lock::OwnerLock;
use super::queue::{Drained, Report, Request};
use super::request::Definitions;
use super::runs::Runs;
use super::shared::{Phase, Shared, add};
use super::tx::{Effect, Tx};
use super::{ops, prune};
use crate::port::{Signs, Workflows};
use crate::{EngineError, limits};

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
pub(super) struct Running {
    pub(super) launch: Arc<Launch>,
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
        match self.commit(&reports, &drained.requests) {
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
                drained.requests.into_iter().zip(answers).for_each(|(request, answer)| request.answer(answer));
            }
            Err(error) => {
                self.storage_refused(&error);
                self.retained = reports;
                for request in drained.requests {
                    request.refuse(error.clone());
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
        self.roll_back();
    }

    /// Goes back to what is durable.
    fn roll_back(&mut self) {
        // What is in memory went ahead of what is in the journal.
        self.runs.forget();
        self.lanes.look_again();
        if !self.conn.is_autocommit() && self.conn.execute_batch("ROLLBACK").is_err() {
            tracing::error!("a refused transaction could not be rolled back");
        }
    }

    /// Writes everything in one transaction. On failure nothing was written, and nobody may be told otherwise.
    fn commit(&mut self, reports: &[Report], requests: &[Request]) -> Result<(Vec<Answer>, Vec<Effect>), EngineError> {
        let mut done = self.transact(reports, requests, false);
        if matches!(done, Err(BatchFailed::Unfenced)) {
            tracing::debug!("an operation failed after it had written: all are done again, each with a savepoint");
            self.roll_back();
            done = self.transact(reports, requests, true);
        }
        done.map_err(|failed| match failed {
            BatchFailed::Storage(error) => error,
            BatchFailed::Unfenced => EngineError::Internal("a savepoint did not hold".to_owned()),
        })
    }

    /// `fenced`: with a savepoint for each operation.
    fn transact(
        &mut self,
        reports: &[Report],
        requests: &[Request],
        fenced: bool,
    ) -> Result<(Vec<Answer>, Vec<Effect>), BatchFailed> {
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
            fenced,
        };
        let mut batch = Batch { file, tx: &mut tx, runs };
        batch.sql("BEGIN IMMEDIATE")?;
        for report in reports {
            batch.report(running, report)?;
        }
        let answers = requests.iter().map(|request| batch.request(request)).collect::<Result<Vec<_>, _>>()?;
        let mut next = *next_timer;
        batch.due(delayed)?;
        batch.timers(&mut next)?;
        batch.letters(&postman)?;
        let filling = Instant::now();
        let given = batch.fill()?;
        let filling = filling.elapsed();
        batch.sql("COMMIT")?;
        if given > 0 {
            add(&shared.counters.dispatched, given);
            add(&shared.counters.dispatch_ns, u64::try_from(filling.as_nanos()).unwrap_or(u64::MAX));
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
