//! Retention: runs that ended long ago are removed, a bounded number per commit.

use super::runs::Fault;
use super::tx::{Effect, Tx, clamp};
use crate::limits;

/// Runs that ended before a time, the earliest first, without a child that goes on and would tell them of its end.
pub(super) const PRUNABLE: &str = "SELECT id FROM run INDEXED BY run_ended
    WHERE ended_at_ms IS NOT NULL AND ended_at_ms < ?1
      AND NOT EXISTS (SELECT 1 FROM run child INDEXED BY run_parent
                      WHERE child.parent = run.id AND child.ended_at_ms IS NULL)
    ORDER BY ended_at_ms, id LIMIT ?2";

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

/// Removes some runs that ended before a time. Answers how many.
pub(super) fn prune(tx: &mut Tx<'_>, ended_before_ms: u64) -> Result<usize, Fault> {
    // Letters that wait may be for any of them.
    if tx.letters > 0 {
        return Ok(0);
    }
    let runs: Vec<i64> = tx
        .conn
        .prepare_cached(PRUNABLE)?
        .query_map((clamp(ended_before_ms), limits::PRUNE_RUNS_MAX as u64), |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for run in &runs {
        let mut used = tx.conn.prepare_cached(BLOBS_OF_RUN)?;
        let digests = used.query_map([run], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        if !digests.is_empty() {
            tx.effects.push(Effect::ForgetBlobs(digests));
        }
        for removal in REMOVALS {
            tx.conn.prepare_cached(removal)?.execute([run])?;
        }
    }
    Ok(runs.len())
}
