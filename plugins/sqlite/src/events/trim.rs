//! Trimming: the stream's floor rises in one step, then the rows below it go in many small ones.

use compozy_sdk::sql::{self, SqlError, statement};
use compozy_sdk::store::{Retention, StoreError};

use super::{Head, head, store};
use compozy_sdk::store::rules::now;

/// How many rows one statement removes, so that other writers wait for a moment only.
const STEP_ROWS: u32 = 1_000;
/// How many such steps one call makes. What is left below the floor is seen by nobody; the next call goes on with it.
const STEPS_MAX: u32 = 200;

/// Removes old events; answers how many.
pub(super) fn trim(stream: &str, keep: Retention) -> Result<u64, StoreError> {
    // Looked at first: most calls find nothing to do, and need not wait for the writers.
    let Some(seen) = head(stream)? else { return Ok(0) };
    let mut removed = 0;
    if floor(&seen, keep)? > seen.floor {
        removed = sql::transaction(|| raise(stream, keep))?;
    }
    remove_rows(seen.id)?;
    Ok(removed)
}

/// Raises the floor; answers how many events are below it now.
fn raise(stream: &str, keep: Retention) -> Result<u64, StoreError> {
    let Some(head) = head(stream)? else { return Ok(0) };
    let before = head.length();
    let floor = floor(&head, keep)?;
    if floor <= head.floor {
        return Ok(0);
    }
    let kept = if head.missing == 0 { head.last - floor + 1 } else { count(&head, floor)? };
    let missing = head.last - floor + 1 - kept;
    store(&Head { floor, missing, ..head })?;
    Ok((before - kept).unsigned_abs())
}

/// The first sequence to keep.
fn floor(head: &Head, keep: Retention) -> Result<i64, SqlError> {
    match keep {
        Retention::Events(events) => {
            let excess = head.length().saturating_sub_unsigned(events);
            if excess <= 0 {
                return Ok(head.floor);
            }
            if events == 0 {
                return Ok(head.last + 1);
            }
            if head.missing == 0 {
                return Ok(head.floor + excess);
            }
            let read = statement!(
                "SELECT sequence FROM event WHERE stream = ?1 AND sequence >= ?2 ORDER BY sequence LIMIT 1 OFFSET ?3"
            )?;
            Ok(read.query_row((head.id, head.floor, excess), |row| row.get(0))?.unwrap_or(head.last + 1))
        }
        Retention::AgeMs(age) => {
            let oldest = now().saturating_sub_unsigned(age);
            let read = statement!(
                "SELECT sequence FROM event WHERE stream = ?1 AND sequence >= ?2 AND time >= ?3 ORDER BY sequence LIMIT 1"
            )?;
            Ok(read.query_row((head.id, head.floor, oldest), |row| row.get(0))?.unwrap_or(head.last + 1))
        }
    }
}

fn count(head: &Head, floor: i64) -> Result<i64, SqlError> {
    let read = statement!("SELECT count(*) FROM event WHERE stream = ?1 AND sequence >= ?2")?;
    Ok(read.query_row((head.id, floor), |row| row.get(0))?.unwrap_or(0))
}

/// Removes rows below the floor. Each statement asks for the floor anew, because loading can lower it.
fn remove_rows(id: i64) -> Result<(), SqlError> {
    let any = statement!(
        "SELECT 1 FROM event WHERE stream = ?1 AND sequence < (SELECT floor FROM stream WHERE id = ?1) LIMIT 1"
    )?;
    if any.query((id,))?.is_empty() {
        return Ok(());
    }
    let remove = statement!(
        "DELETE FROM event WHERE stream = ?1 AND sequence < min(
             (SELECT floor FROM stream WHERE id = ?1), (SELECT min(sequence) FROM event WHERE stream = ?1) + ?2)"
    )?;
    for _ in 0..STEPS_MAX {
        if remove.execute((id, STEP_ROWS))? == 0 {
            break;
        }
    }
    Ok(())
}
