//! Retention: runs that ended long ago are removed, a bounded number per commit.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use compozy_interpreter::Status;
use tokio::sync::oneshot;

use super::queue::Request;
use super::runs::Fault;
use super::shared::{Phase, Shared};
use super::tx::{Effect, Tx, clamp};
use crate::{EngineError, limits};

/// Runs that ended in one way before a time, the earliest first, with the number of their events; without those that
/// have a child that goes on and would tell them of its end.
pub(super) const PRUNABLE: &str = "SELECT id, (SELECT seq FROM snapshot WHERE snapshot.run = run.id)
    FROM run INDEXED BY run_over
    WHERE status = ?1 AND ended_at_ms IS NOT NULL AND ended_at_ms < ?2
      AND NOT EXISTS (SELECT 1 FROM run child INDEXED BY run_parent
                      WHERE child.parent = run.id AND child.ended_at_ms IS NULL)
    ORDER BY ended_at_ms, id LIMIT ?3";

/// What a run is made of, in the order in which it can be removed.
pub(super) const REMOVALS: [&str; 8] = [
    "DELETE FROM outbox WHERE run = ?1",
    "DELETE FROM timer WHERE run = ?1",
    "DELETE FROM idempotency WHERE run = ?1",
    "DELETE FROM blob_use WHERE run = ?1",
    "DELETE FROM task WHERE run = ?1",
    "DELETE FROM snapshot WHERE run = ?1",
    "DELETE FROM journal WHERE run = ?1",
    "DELETE FROM run WHERE id = ?1",
];

/// The blobs that a run refers to.
pub(super) const BLOBS_OF_RUN: &str = "SELECT digest FROM blob_use INDEXED BY blob_use_run WHERE run = ?1";
/// Whether any run refers to a blob.
pub(super) const BLOB_IS_USED: &str = "SELECT 1 FROM blob_use WHERE digest = ?1 LIMIT 1";

/// The ways in which a run can end.
const ENDS: [Status; 4] = [Status::Success, Status::Failed, Status::TimedOut, Status::Canceled];

/// How long runs are kept after their end, by how they ended. `None` keeps them until somebody removes them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// Those that ended well.
    pub success: Option<Duration>,
    /// Those that failed.
    pub failed: Option<Duration>,
    /// Those that took too long.
    pub timed_out: Option<Duration>,
    /// Those that were cancelled.
    pub canceled: Option<Duration>,
}

impl Retention {
    /// The same for all.
    pub fn all(keep: Duration) -> Self {
        Self { success: Some(keep), failed: Some(keep), timed_out: Some(keep), canceled: Some(keep) }
    }

    /// What is over at this time.
    fn over(&self, now_ms: u64) -> Over {
        let before = |keep: Option<Duration>| {
            let keep_ms = u64::try_from(keep?.as_millis()).unwrap_or(u64::MAX);
            now_ms.checked_sub(keep_ms)
        };
        Over([before(self.success), before(self.failed), before(self.timed_out), before(self.canceled)])
    }
}

/// Before which time runs must have ended to be removed, by the place of their status in [`ENDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Over([Option<u64>; 4]);

impl Over {
    /// However they ended.
    pub(super) fn all(ended_before_ms: u64) -> Self {
        Self([Some(ended_before_ms); 4])
    }
}

/// What one commit removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pruned {
    pub(super) runs: usize,
    /// There is, or may be, more to remove.
    pub(super) more: bool,
}

/// Removes some runs.
pub(super) fn prune(tx: &mut Tx<'_>, over: &Over) -> Result<Pruned, Fault> {
    let senders = senders(tx)?;
    let (mut pruned, mut events) = (Pruned::default(), 0);
    for (status, before_ms) in ENDS.into_iter().zip(over.0) {
        let Some(before_ms) = before_ms else { continue };
        let left = limits::PRUNE_RUNS_MAX.saturating_sub(pruned.runs) as u64;
        let found: Vec<(i64, Option<u64>)> = tx
            .conn
            .prepare_cached(PRUNABLE)?
            // One more than may go says whether there are more.
            .query_map((status.name(), clamp(before_ms), left + 1), |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        for (run, its_events) in found {
            if senders.contains(&run) {
                // What it tells others is not delivered yet. A letter to a run that is no more hurts nobody.
                pruned.more = true;
                continue;
            }
            events += its_events.unwrap_or_default();
            let full = pruned.runs >= limits::PRUNE_RUNS_MAX || events > limits::PRUNE_EVENTS_MAX;
            if full && pruned.runs > 0 {
                pruned.more = true;
                return Ok(pruned);
            }
            let mut used = tx.conn.prepare_cached(BLOBS_OF_RUN)?;
            let digests = used.query_map([run], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
            if !digests.is_empty() {
                tx.effects.push(Effect::ForgetBlobs(digests));
            }
            for removal in REMOVALS {
                tx.conn.prepare_cached(removal)?.execute([run])?;
            }
            pruned.runs += 1;
        }
    }
    Ok(pruned)
}

/// The runs whose letters wait in the outbox.
fn senders(tx: &Tx<'_>) -> Result<BTreeSet<i64>, Fault> {
    if tx.letters == 0 {
        return Ok(BTreeSet::new());
    }
    let mut statement = tx.conn.prepare_cached("SELECT run FROM outbox")?;
    let senders = statement.query_map([], |row| row.get(0))?;
    Ok(senders.collect::<Result<_, _>>()?)
}

/// Asks the writer once.
async fn ask(shared: &Shared, over: Over) -> Result<Pruned, EngineError> {
    let (reply, answer) = oneshot::channel();
    shared.queue.submit(Request::Prune { over, reply })?;
    answer.await.map_err(|_writer_gone| EngineError::Stopping)?
}

/// Removes all runs that are over, commit by commit, with a rest between them. Answers how many.
pub(super) async fn sweep(shared: &Shared, over: Over, pause: Duration) -> Result<u64, EngineError> {
    // Letters are delivered between two commits; if they cannot be, nobody waits for ever.
    const IDLE_MAX: u32 = 100;
    let (mut removed, mut idle) = (0, 0);
    loop {
        let Pruned { runs, more } = ask(shared, over).await?;
        removed += runs as u64;
        idle = if runs == 0 { idle + 1 } else { 0 };
        if !more || idle > IDLE_MAX {
            return Ok(removed);
        }
        tokio::time::sleep(if runs == 0 { limits::RETENTION_PAUSE } else { pause }).await;
    }
}

/// Enforces retention until the engine stops.
pub(super) async fn retain(shared: Arc<Shared>, retention: Retention, every: Duration) {
    if retention == Retention::default() {
        return;
    }
    let mut phase = shared.phase.subscribe();
    loop {
        tokio::select! {
            _ = phase.wait_for(|phase| *phase == Phase::Stopped) => return,
            () = tokio::time::sleep(every) => {}
        }
        if shared.draining() {
            return;
        }
        let over = retention.over(shared.clock.now_ms());
        match sweep(&shared, over, limits::RETENTION_PAUSE).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "executions that were kept for long enough were removed"),
            Err(EngineError::Stopping) => return,
            // A full queue or a full disk: there is a next time.
            Err(error) => tracing::debug!(code = error.code(), %error, "retention waits"),
        }
    }
}
