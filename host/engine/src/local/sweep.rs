//! Blobs that nothing refers to: a crash came between a value and the event that refers to it.

use std::sync::Arc;

use super::queue::Request;
use super::shared::Shared;
use crate::limits;

/// Hands every blob of the store to the writer, a few at a time; it forgets those that no run refers to. Runs once, after
/// the engine was opened, beside its work.
pub(super) fn sweep(shared: &Arc<Shared>) {
    let mut hand_over = |digests: Vec<String>| {
        digests.chunks(limits::SWEEP_BLOBS_MAX).all(|some| {
            // A queue that is full has better things to do; the next start sweeps again.
            !shared.draining() && shared.queue.submit(Request::SweepBlobs { digests: some.to_vec() }).is_ok()
        })
    };
    if let Err(error) = shared.vault.list(&mut hand_over) {
        tracing::warn!(%error, "the blob store could not be tidied up");
    }
}
