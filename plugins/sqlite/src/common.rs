//! What the roles share: the clock, arguments and their limits, literal prefixes, cursors, and the pace of sweeping.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use compozy_sdk::sql::{Row, Rows, SqlError};
use compozy_sdk::store::{Exceeded, KeyPage, Lifetime, StoreError};

/// Keys and ids, in bytes (`key_bytes`).
pub(crate) const KEY_BYTES_MAX: usize = 512;
/// Values, in bytes (`value_bytes`).
pub(crate) const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Entries of one call or page (`batch_items`).
pub(crate) const BATCH_ITEMS_MAX: usize = 1_000;
/// Values of one page of a dump, in bytes. One value may be larger than that; it then travels alone.
const DUMP_PAGE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Times to live, in milliseconds: 100,000 years, so that no sum overflows.
const TTL_MS_MAX: u64 = 100_000 * 366 * 24 * 3_600_000;
/// Every how many writes of an instance expired rows are looked for.
const SWEEP_EVERY: u32 = 8;
/// How many expired rows one sweep removes: more per write than a write can add.
pub(crate) const SWEEP_ROWS: u32 = 64;

/// Now, in milliseconds since 1970, by the host's clock.
pub(crate) fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX / 2)
}

pub(crate) fn too_large(limit: &str, used: usize, allowed: usize) -> StoreError {
    StoreError::TooLarge(Exceeded { limit: limit.to_owned(), used: used as u64, allowed: allowed as u64 })
}

/// Checks a key (or an id, `what` names it).
pub(crate) fn check_key(what: &str, key: &str) -> Result<(), StoreError> {
    match key.len() {
        0 => Err(StoreError::InvalidArgument(format!("the {what} is empty; it must have 1 to {KEY_BYTES_MAX} bytes"))),
        1..=KEY_BYTES_MAX => Ok(()),
        used => Err(too_large("key_bytes", used, KEY_BYTES_MAX)),
    }
}

/// Checks the length of a value.
pub(crate) fn check_value(bytes: usize) -> Result<(), StoreError> {
    if bytes > VALUE_BYTES_MAX { Err(too_large("value_bytes", bytes, VALUE_BYTES_MAX)) } else { Ok(()) }
}

/// Checks the number of entries of a bulk call.
pub(crate) fn check_batch(items: usize) -> Result<(), StoreError> {
    if items > BATCH_ITEMS_MAX { Err(too_large("batch_items", items, BATCH_ITEMS_MAX)) } else { Ok(()) }
}

/// Checks the size of a page.
pub(crate) fn check_page(name: &str, max: u32) -> Result<(), StoreError> {
    if (1..=BATCH_ITEMS_MAX).contains(&(max as usize)) {
        return Ok(());
    }
    Err(StoreError::InvalidArgument(format!("`{name}` is {max}; it must be 1 to {BATCH_ITEMS_MAX}")))
}

/// Checks a time to live and makes it one that sums cannot overflow with.
pub(crate) fn check_ttl(ttl_ms: Option<u64>) -> Result<Option<i64>, StoreError> {
    match ttl_ms {
        Some(0) => Err(StoreError::InvalidArgument(
            "the time to live is 0 ms; it must be at least 1 ms, or `none` to keep the entry".to_owned(),
        )),
        Some(ttl) => Ok(Some(ttl.min(TTL_MS_MAX).cast_signed())),
        None => Ok(None),
    }
}

/// The moment when something that gets this time to live now expires.
pub(crate) fn expires(now: i64, ttl: Option<i64>) -> Option<i64> {
    ttl.map(|ttl| now.saturating_add(ttl))
}

/// The time left, for a dump.
pub(crate) fn remaining(now: i64, expires: Option<i64>) -> Option<u64> {
    expires.map(|at| u64::try_from(at.saturating_sub(now)).unwrap_or(0).max(1))
}

/// What `ttl` answers for the `expires` of a live row, or for none.
#[expect(clippy::option_option, reason = "the row may be missing, and its `expires` may be NULL")]
pub(crate) fn lifetime(now: i64, row: Option<Option<i64>>) -> Lifetime {
    match row {
        None => Lifetime::Missing,
        Some(None) => Lifetime::Unlimited,
        Some(expires) => Lifetime::RemainingMs(remaining(now, expires).unwrap_or(1)),
    }
}

/// The keys of a scan as a range of bytes: `lower <= key < upper`.
#[derive(Debug, PartialEq)]
pub(crate) struct Range {
    pub(crate) lower: Vec<u8>,
    pub(crate) upper: Vec<u8>,
}

/// A cursor is this letter and the last key that was returned. Being a place and not a count, it holds whatever is written meanwhile.
const CURSOR: char = 'k';

impl Range {
    /// The keys that start with `prefix` and come after the cursor.
    pub(crate) fn new(prefix: &str, cursor: Option<&str>) -> Result<Self, StoreError> {
        if prefix.len() > KEY_BYTES_MAX {
            return Err(too_large("key_bytes", prefix.len(), KEY_BYTES_MAX));
        }
        let lower = match cursor {
            None => prefix.as_bytes().to_vec(),
            Some(cursor) => match cursor.strip_prefix(CURSOR) {
                Some(last) if last.starts_with(prefix) && last.len() <= KEY_BYTES_MAX => {
                    // The next possible key: the last one and a zero byte.
                    [last.as_bytes(), &[0]].concat()
                }
                _ => {
                    return Err(StoreError::InvalidArgument(format!(
                        "the cursor `{cursor}` is not one that a scan of the prefix `{prefix}` answered"
                    )));
                }
            },
        };
        Ok(Self { lower, upper: after_prefix(prefix.as_bytes()) })
    }
}

/// The first byte string that is greater than all that start with the prefix.
fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    // UTF-8 has no byte 0xFF, so that one more always exists; and 0xFF alone is greater than every key.
    match prefix.split_last() {
        None => vec![0xFF],
        Some((last, rest)) => [rest, &[last + 1]].concat(),
    }
}

/// The cursor that continues after this key.
pub(crate) fn cursor(last: &str) -> String {
    format!("{CURSOR}{last}")
}

/// A key as it was stored.
pub(crate) fn key(row: Row<'_>, column: usize) -> Result<String, SqlError> {
    String::from_utf8(row.get::<Vec<u8>>(column)?)
        .map_err(|_| SqlError::Invalid("a stored key is not UTF-8; the database was changed by somebody else".into()))
}

/// A page from rows whose first column is the key. One row more than `max` was asked for, to know whether there is a next page.
pub(crate) fn key_page(rows: &Rows, max: u32) -> Result<KeyPage, StoreError> {
    let max = max as usize;
    let keys: Vec<String> = rows.iter().take(max).map(|row| key(row, 0)).collect::<Result<_, _>>()?;
    let next = if rows.len() > max { keys.last().map(|last| cursor(last)) } else { None };
    Ok(KeyPage { keys, next })
}

/// What one page of a dump will hold.
pub(crate) struct PagePlan {
    /// The key of its last entry.
    pub(crate) last: String,
    /// How many entries it has.
    pub(crate) entries: u32,
    more: bool,
}

/// Plans a page of a dump from rows of key and length, of which one more than `max` was asked for.
/// Lengths cost no reading of values; so a page can end before it is too large to travel.
pub(crate) fn plan_page(sizes: &Rows, max: u32) -> Result<Option<PagePlan>, StoreError> {
    let mut plan: Option<PagePlan> = None;
    let mut bytes = 0_u64;
    for row in sizes.iter().take(max as usize) {
        bytes += row.get::<u64>(1)?;
        let entries = plan.as_ref().map_or(0, |plan| plan.entries);
        if entries > 0 && bytes > DUMP_PAGE_BYTES_MAX {
            break;
        }
        plan = Some(PagePlan { last: key(row, 0)?, entries: entries + 1, more: sizes.len() > entries as usize + 1 });
    }
    Ok(plan)
}

impl PagePlan {
    /// The cursor after a page that got these entries. A key that was written after the plan was made may have
    /// taken the place of the last one, which then comes with the next page.
    pub(crate) fn next(&self, entries: usize, last: Option<&str>) -> Option<String> {
        match last {
            Some(last) if entries == self.entries as usize && last != self.last => Some(cursor(last)),
            _ => self.more.then(|| cursor(&self.last)),
        }
    }
}

/// True when it is time to sweep: at an instance's first write and then at every eighth.
pub(crate) fn sweep_now() -> bool {
    thread_local! {
        static WRITES: Cell<u32> = const { Cell::new(0) };
    }
    let writes = WRITES.get();
    WRITES.set(writes.wrapping_add(1));
    writes.is_multiple_of(SWEEP_EVERY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exceeded(result: Result<(), StoreError>) -> (String, u64, u64) {
        match result {
            Err(StoreError::TooLarge(Exceeded { limit, used, allowed })) => (limit, used, allowed),
            other => panic!("not too large: {other:?}"),
        }
    }

    #[test]
    fn a_prefix_is_a_range_without_special_characters() {
        let range = |prefix| Range::new(prefix, None).unwrap();
        assert_eq!(range(""), Range { lower: vec![], upper: vec![0xFF] });
        assert_eq!(range("a%"), Range { lower: b"a%".to_vec(), upper: b"a&".to_vec() });
        assert_eq!(range("a\u{10FFFF}").upper, [b'a', 0xF4, 0x8F, 0xBF, 0xC0]);
        for (prefix, inside, outside) in
            [("user:", "user:\u{10FFFF}", "user;"), ("a\0", "a\0\0", "a\u{1}"), ("é", "éa", "ê")]
        {
            let Range { lower, upper } = range(prefix);
            let holds = |key: &str| lower.as_slice() <= key.as_bytes() && key.as_bytes() < upper.as_slice();
            assert!(holds(prefix) && holds(inside) && !holds(outside), "prefix {prefix:?}");
        }
    }

    #[test]
    fn a_cursor_continues_right_after_its_key() {
        let range = Range::new("a", Some(&cursor("ab"))).unwrap();
        assert!(range.lower.as_slice() > b"ab".as_slice());
        assert!(range.lower.as_slice() <= b"ab\0".as_slice());
    }

    #[test]
    fn a_cursor_of_another_scan_is_refused() {
        for bad in ["", "ab", "kb", "k"] {
            assert!(matches!(Range::new("a", Some(bad)), Err(StoreError::InvalidArgument(_))), "cursor {bad:?}");
        }
    }

    #[test]
    fn arguments_are_checked_at_their_limits() {
        assert!(check_key("key", &"k".repeat(512)).is_ok());
        assert_eq!(exceeded(check_key("key", &"k".repeat(513))), ("key_bytes".to_owned(), 513, 512));
        assert!(matches!(check_key("id", ""), Err(StoreError::InvalidArgument(text)) if text.contains("id")));
        assert!(check_value(VALUE_BYTES_MAX).is_ok());
        let limit = VALUE_BYTES_MAX as u64;
        assert_eq!(exceeded(check_value(VALUE_BYTES_MAX + 1)), ("value_bytes".to_owned(), limit + 1, limit));
        assert!(check_page("max", 1).is_ok() && check_page("max", 1_000).is_ok());
        assert!(check_page("max", 0).is_err() && check_page("max", 1_001).is_err());
    }

    #[test]
    fn a_time_to_live_never_overflows() {
        assert!(matches!(check_ttl(Some(0)), Err(StoreError::InvalidArgument(_))));
        let ttl = check_ttl(Some(u64::MAX)).unwrap();
        assert!(expires(now(), ttl).unwrap() > now());
        assert_eq!(expires(5, check_ttl(None).unwrap()), None);
    }

    #[test]
    fn a_lifetime_that_is_left_is_at_least_one_millisecond() {
        assert!(matches!(lifetime(10, None), Lifetime::Missing));
        assert!(matches!(lifetime(10, Some(None)), Lifetime::Unlimited));
        assert!(matches!(lifetime(10, Some(Some(11))), Lifetime::RemainingMs(1)));
    }
}
