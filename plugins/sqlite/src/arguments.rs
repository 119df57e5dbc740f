//! What the roles share: the clock, arguments and their limits, times to live.

use std::time::{SystemTime, UNIX_EPOCH};

use compozy_sdk::store::{Exceeded, Lifetime, StoreError};

/// Keys and ids, in bytes (`key_bytes`).
pub(crate) const KEY_BYTES_MAX: usize = 512;
/// Values, in bytes (`value_bytes`).
pub(crate) const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Entries of one call or page (`batch_items`).
pub(crate) const BATCH_ITEMS_MAX: usize = 1_000;
/// Times to live, in milliseconds: 100,000 years, so that no sum overflows.
const TTL_MS_MAX: u64 = 100_000 * 366 * 24 * 3_600_000;

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

/// Checks the number of entries of a bulk call that reads, or of a page that is loaded.
pub(crate) fn check_batch(items: usize) -> Result<(), StoreError> {
    if items > BATCH_ITEMS_MAX { Err(too_large("batch_items", items, BATCH_ITEMS_MAX)) } else { Ok(()) }
}

/// Checks the number of entries (`what` names them) of a bulk call that writes.
pub(crate) fn check_written(what: &str, items: usize) -> Result<(), StoreError> {
    if items == 0 {
        return Err(StoreError::InvalidArgument(format!("there are no {what} to write; give 1 to {BATCH_ITEMS_MAX}")));
    }
    check_batch(items)
}

/// Checks the size of a page, or of a sweep.
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

/// The time left until a moment, at least 1 ms.
pub(crate) fn left(now: i64, at: i64) -> u64 {
    u64::try_from(at.saturating_sub(now)).unwrap_or(0).max(1)
}

/// The time left, for a dump.
pub(crate) fn remaining(now: i64, expires: Option<i64>) -> Option<u64> {
    expires.map(|at| left(now, at))
}

/// What `ttl` answers for the `expires` of a live row, or for none.
#[expect(clippy::option_option, reason = "the row may be missing, and its `expires` may be NULL")]
pub(crate) fn lifetime(now: i64, row: Option<Option<i64>>) -> Lifetime {
    match row {
        None => Lifetime::Missing,
        Some(None) => Lifetime::Unlimited,
        Some(Some(at)) => Lifetime::RemainingMs(left(now, at)),
    }
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
    fn arguments_are_checked_at_their_limits() {
        assert!(check_key("key", &"k".repeat(512)).is_ok());
        assert_eq!(exceeded(check_key("key", &"k".repeat(513))), ("key_bytes".to_owned(), 513, 512));
        assert!(matches!(check_key("id", ""), Err(StoreError::InvalidArgument(text)) if text.contains("id")));
        assert!(check_value(VALUE_BYTES_MAX).is_ok());
        let limit = VALUE_BYTES_MAX as u64;
        assert_eq!(exceeded(check_value(VALUE_BYTES_MAX + 1)), ("value_bytes".to_owned(), limit + 1, limit));
        assert!(check_page("max", 1).is_ok() && check_page("max", 1_000).is_ok());
        assert!(check_page("max", 0).is_err() && check_page("max", 1_001).is_err());
        assert!(check_batch(0).is_ok() && check_batch(1_000).is_ok());
        assert_eq!(exceeded(check_batch(1_001)), ("batch_items".to_owned(), 1_001, 1_000));
        assert!(
            matches!(check_written("events", 0), Err(StoreError::InvalidArgument(text)) if text.contains("events"))
        );
        assert_eq!(exceeded(check_written("events", 1_001)), ("batch_items".to_owned(), 1_001, 1_000));
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
