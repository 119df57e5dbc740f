//! Gives back the room of what has expired.

use compozy_sdk::sql::{self, statement};
use compozy_sdk::store::StoreError;

use super::head::oldest_expired;
use compozy_sdk::store::rules::now;

/// Removes up to `max` messages and flush flags. A memory with more messages shrinks from sweep to sweep.
///
/// In a transaction, because another call could begin an expired memory anew.
pub(super) fn sweep(max: u32) -> Result<u32, StoreError> {
    let now = now();
    // Looked at first: a sweep that finds nothing must not wait for the writers.
    let any = statement!(
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM memory WHERE expires <= ?1) OR EXISTS (SELECT 1 FROM flush WHERE expires <= ?1)"
    )?;
    if any.query((now,))?.is_empty() {
        return Ok(0);
    }
    sql::transaction(|| {
        let flags = statement!(
            "DELETE FROM flush WHERE key IN (SELECT key FROM flush WHERE expires <= ?1 ORDER BY expires LIMIT ?2)"
        )?;
        let mut left = max.saturating_sub(flags.execute((now, max))? as u32);
        while left > 0
            && let Some(mut head) = oldest_expired(now)?
        {
            let messages = u64::from(left).min(head.messages()) as u32;
            head.cut(head.first + i64::from(messages))?;
            head.store()?;
            left -= messages;
        }
        Ok(max - left)
    })
}
