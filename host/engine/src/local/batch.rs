//! One commit: what was reported and asked for, each operation fenced off from the others.

use std::collections::{BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use compozy_interpreter::Failure;
use rusqlite::OptionalExtension as _;

use super::deliver::Postman;
use super::file::JournalFile;
use super::lanes::Lane;
use super::prune::Pruned;
use super::queue::{AttemptEnd, Report, Request};
use super::runs::{Fault, Runs};
use super::tx::{Effect, Tx};
use super::writer::Running;
use super::{control, deliver, ops, prune};
use crate::attempt::{bounded_failure, panic_text};
use crate::port::{ExecutionId, TaskReport};
use crate::{EngineError, limits};

/// What a caller is told after the commit.
pub(super) enum Answer {
    Started(Result<ExecutionId, EngineError>),
    Pruned(Result<Pruned, EngineError>),
    Controlled(Result<(), EngineError>),
    /// Nobody waits.
    Nobody,
}

/// Why a whole transaction failed.
pub(super) enum BatchFailed {
    /// It cannot be written.
    Storage(EngineError),
    /// One of its operations failed after it had written. They must be fenced off from each other.
    Unfenced,
}

/// A transaction's operations, each fenced off from the others.
pub(super) struct Batch<'a, 'b> {
    pub(super) file: &'a JournalFile,
    pub(super) tx: &'a mut Tx<'b>,
    pub(super) runs: &'a mut Runs,
}

impl Batch<'_, '_> {
    pub(super) fn sql(&self, sql: &str) -> Result<(), BatchFailed> {
        self.tx
            .conn
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute([]))
            .map(drop)
            .map_err(|e| BatchFailed::Storage(self.file.error("write the journal", &e)))
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
            Err(Fault::Storage(error)) => return Err(BatchFailed::Storage(error)),
            Err(Fault::Unfenced) => return Err(BatchFailed::Unfenced),
            Err(fault) => self.file.fault("write the journal", fault),
        };
        let storage = matches!(error, EngineError::StorageUnavailable { .. } | EngineError::JournalCorrupt { .. });
        if storage || self.tx.conn.is_autocommit() {
            return Err(BatchFailed::Storage(error));
        }
        Ok(Err(error))
    }

    pub(super) fn report(&mut self, running: &HashMap<i64, Running>, report: &Report) -> Result<(), BatchFailed> {
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

    /// What the caller is to be told, after the commit.
    pub(super) fn request(&mut self, request: &Request) -> Result<Answer, BatchFailed> {
        Ok(match request {
            Request::Start { .. } if self.tx.draining => Answer::Started(Err(EngineError::Stopping)),
            Request::Start { start, .. } => Answer::Started(self.one(|tx, runs| ops::start(tx, runs, start))?),
            Request::Prune { over, .. } => Answer::Pruned(self.one(|tx, _| prune::prune(tx, over))?),
            Request::SweepBlobs { digests } => {
                self.tx.effects.push(Effect::ForgetBlobs(digests.clone()));
                Answer::Nobody
            }
            Request::Control { id, control, .. } => {
                Answer::Controlled(self.one(|tx, runs| control::control(tx, runs, id, control))?)
            }
        })
    }

    /// Moves the tasks whose wait is over to those that wait for a slot.
    pub(super) fn due(&mut self, delayed: &BTreeSet<(u64, i64)>) -> Result<(), BatchFailed> {
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
    pub(super) fn timers(&mut self, next: &mut Option<u64>) -> Result<(), BatchFailed> {
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
        *next = first.map_err(|e| BatchFailed::Storage(self.file.error("read the journal", &e)))?;
        Ok(())
    }

    /// Delivers what runs tell each other.
    pub(super) fn letters(&mut self, postman: &Postman<'_>) -> Result<(), BatchFailed> {
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

    /// Gives free slots to the tasks whose turn it is; answers how many those were.
    pub(super) fn fill(&mut self) -> Result<u64, BatchFailed> {
        let mut given = 0;
        if self.tx.draining {
            return Ok(given);
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
                given += 1;
                self.dispatch(&lane, &ready)?;
            }
            self.tx.lanes.put_back(lane, more);
        }
        Ok(given)
    }

    fn dispatch(&mut self, lane: &Arc<Lane>, ready: &ops::Ready) -> Result<(), BatchFailed> {
        let Err(error) = self.one(|tx, runs| ops::dispatch(tx, runs, lane, ready))? else { return Ok(()) };
        tracing::error!(task = ready.task, %error, "a task cannot begin");
        let failure = bounded_failure(Failure::permanent("TASK_UNREADABLE", error.to_string()));
        if self.one(|tx, runs| ops::fail_ready(tx, runs, ready, failure))?.is_err() {
            // Not even its run can be read. It must not stand at the head of the queue for ever.
            self.one(|tx, _| ops::set_aside(tx, ready, &error.to_string()))?.ok();
        }
        Ok(())
    }
}
