//! The rules that every backend keeps, in one place: limits of arguments, times to live, literal prefixes, pages.
//!
//! A backend that uses these answers wrong arguments in the same words as the built-in ones.

use std::cell::Cell;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Exceeded, Lifetime, Span, StoreError, slice};

/// Keys, ids, names and streams, in bytes (`key_bytes`).
pub const KEY_BYTES_MAX: usize = 512;
/// Values, in bytes (`value_bytes`).
pub const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Entries of one call or page (`batch_items`).
pub const BATCH_ITEMS_MAX: usize = 1_000;
/// Values of one page of a dump, in bytes. One value may be larger than that; it then travels alone.
pub const DUMP_PAGE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Times to live, in milliseconds: 100,000 years, so that no sum overflows.
pub const TTL_MS_MAX: u64 = 100_000 * 366 * 24 * 3_600_000;

/// Now, in milliseconds since 1970, by the host's clock.
pub fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX / 2)
}

/// A limit that was exceeded.
pub fn too_large(limit: &str, used: usize, allowed: usize) -> StoreError {
    StoreError::TooLarge(Exceeded { limit: limit.to_owned(), used: used as u64, allowed: allowed as u64 })
}

/// Checks a key (or an id, a name, a stream: `what` names it).
pub fn check_key(what: &str, key: &str) -> Result<(), StoreError> {
    match key.len() {
        0 => Err(StoreError::InvalidArgument(format!("the {what} is empty; it must have 1 to {KEY_BYTES_MAX} bytes"))),
        1..=KEY_BYTES_MAX => Ok(()),
        used => Err(too_large("key_bytes", used, KEY_BYTES_MAX)),
    }
}

/// The keys of a bulk read, checked.
pub fn check_keys<'a>(keys: &[Span], bytes: &'a [u8]) -> Result<Vec<&'a str>, StoreError> {
    check_batch(keys.len())?;
    let key = |span: &Span| {
        let key = std::str::from_utf8(slice(bytes, *span)?)
            .map_err(|error| StoreError::InvalidArgument(format!("a key is not UTF-8: {error}")))?;
        check_key("key", key).map(|()| key)
    };
    keys.iter().map(key).collect()
}

/// Checks what may be empty but not longer than a key: a prefix, the holder of a lock.
pub fn check_short(text: &str) -> Result<(), StoreError> {
    if text.len() > KEY_BYTES_MAX { Err(too_large("key_bytes", text.len(), KEY_BYTES_MAX)) } else { Ok(()) }
}

/// Checks the length of a value.
pub fn check_value(bytes: usize) -> Result<(), StoreError> {
    if bytes > VALUE_BYTES_MAX { Err(too_large("value_bytes", bytes, VALUE_BYTES_MAX)) } else { Ok(()) }
}

/// Checks the number of entries of a bulk call that may be empty.
pub fn check_batch(items: usize) -> Result<(), StoreError> {
    if items > BATCH_ITEMS_MAX { Err(too_large("batch_items", items, BATCH_ITEMS_MAX)) } else { Ok(()) }
}

/// Checks the number of entries of a bulk call that writes; `what` names them in the plural.
pub fn check_some(what: &str, items: usize) -> Result<(), StoreError> {
    if items == 0 {
        return Err(StoreError::InvalidArgument(format!("there are no {what}; give 1 to {BATCH_ITEMS_MAX}")));
    }
    check_batch(items)
}

/// Checks the size of a page.
pub fn check_page(name: &str, max: u32) -> Result<(), StoreError> {
    if (1..=BATCH_ITEMS_MAX).contains(&(max as usize)) {
        return Ok(());
    }
    Err(StoreError::InvalidArgument(format!("`{name}` is {max}; it must be 1 to {BATCH_ITEMS_MAX}")))
}

/// Checks a time to live and makes it one that sums cannot overflow with.
pub fn check_ttl(ttl_ms: Option<u64>) -> Result<Option<i64>, StoreError> {
    match ttl_ms {
        Some(0) => Err(StoreError::InvalidArgument(
            "the time to live is 0 ms; it must be at least 1 ms, or `none` to keep the entry".to_owned(),
        )),
        Some(ttl) => Ok(Some(ttl.min(TTL_MS_MAX).cast_signed())),
        None => Ok(None),
    }
}

/// The moment when something that gets this time to live now expires.
pub fn expires(now: i64, ttl: Option<i64>) -> Option<i64> {
    ttl.map(|ttl| now.saturating_add(ttl))
}

/// The time left until a moment, at least 1 ms.
pub fn left(now: i64, at: i64) -> u64 {
    u64::try_from(at.saturating_sub(now)).unwrap_or(0).max(1)
}

/// The time left, for a dump.
pub fn remaining(now: i64, expires: Option<i64>) -> Option<u64> {
    expires.map(|at| left(now, at))
}

/// What `ttl` answers for the `expires` of a live row, or for none.
pub fn lifetime(now: i64, row: Option<Option<i64>>) -> Lifetime {
    match row {
        None => Lifetime::Missing,
        Some(None) => Lifetime::Unlimited,
        Some(Some(at)) => Lifetime::RemainingMs(left(now, at)),
    }
}

/// A version that no key had before. Random and not counted: a count would begin again after a delete or a restart, and compare-and-swap
/// could be fooled.
pub fn new_version() -> u64 {
    thread_local! {
        static RANDOM: RandomState = RandomState::new();
        static COUNT: Cell<u64> = const { Cell::new(0) };
    }
    let count = COUNT.get();
    COUNT.set(count.wrapping_add(1));
    // A keyed hash, whose key is random for each instance. 63 bits, which every database can hold.
    RANDOM.with(|random| random.hash_one(count)) & i64::MAX.cast_unsigned()
}

/// The number that `increment` adds to: a decimal integer in its only spelling, with no sign but `-`, no leading zero, no blank.
pub fn decimal(key: &str, value: &[u8]) -> Result<i64, StoreError> {
    let number = std::str::from_utf8(value).ok().and_then(|text| {
        let number: i64 = text.parse().ok()?;
        (number.to_string() == text).then_some(number)
    });
    number.ok_or_else(|| {
        StoreError::WrongType(format!("the value of the key `{key}` is not a decimal integer of 64 bits"))
    })
}

/// A cursor that this call did not answer for this prefix.
pub fn foreign_cursor(cursor: &str, prefix: &str) -> StoreError {
    StoreError::InvalidArgument(format!(
        "the cursor `{cursor}` is not one that a scan of the prefix `{prefix}` answered"
    ))
}

/// The first byte string that is greater than all that start with the prefix.
pub fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    // UTF-8 has no byte 0xFF, so that one more always exists; and 0xFF alone is greater than every key.
    match prefix.split_last() {
        None => vec![0xFF],
        Some((last, rest)) => [rest, &[last + 1]].concat(),
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
    fn a_prefix_is_a_range_without_special_characters() {
        assert_eq!(after_prefix(b""), [0xFF]);
        assert_eq!(after_prefix(b"a%"), b"a&");
        assert_eq!(after_prefix("a\u{10FFFF}".as_bytes()), [b'a', 0xF4, 0x8F, 0xBF, 0xC0]);
        for (prefix, inside, outside) in
            [("user:", "user:\u{10FFFF}", "user;"), ("a\0", "a\0\0", "a\u{1}"), ("é", "éa", "ê")]
        {
            let upper = after_prefix(prefix.as_bytes());
            let holds = |key: &str| prefix.as_bytes() <= key.as_bytes() && key.as_bytes() < upper.as_slice();
            assert!(holds(prefix) && holds(inside) && !holds(outside), "prefix {prefix:?}");
        }
    }

    #[test]
    fn arguments_are_checked_at_their_limits() {
        assert!(check_key("key", &"k".repeat(512)).is_ok());
        assert_eq!(exceeded(check_key("key", &"k".repeat(513))), ("key_bytes".to_owned(), 513, 512));
        assert!(matches!(check_key("id", ""), Err(StoreError::InvalidArgument(text)) if text.contains("id")));
        assert!(check_short("").is_ok() && check_short(&"k".repeat(512)).is_ok());
        assert_eq!(exceeded(check_short(&"k".repeat(513))), ("key_bytes".to_owned(), 513, 512));
        assert!(check_value(VALUE_BYTES_MAX).is_ok());
        let limit = VALUE_BYTES_MAX as u64;
        assert_eq!(exceeded(check_value(VALUE_BYTES_MAX + 1)), ("value_bytes".to_owned(), limit + 1, limit));
        assert!(check_page("max", 1).is_ok() && check_page("max", 1_000).is_ok());
        assert!(check_page("max", 0).is_err() && check_page("max", 1_001).is_err());
        assert!(check_batch(0).is_ok() && check_some("events", 1_000).is_ok());
        assert_eq!(exceeded(check_some("events", 1_001)), ("batch_items".to_owned(), 1_001, 1_000));
        assert!(
            matches!(check_some("events", 0), Err(StoreError::InvalidArgument(text)) if text == "there are no events; give 1 to 1000")
        );
    }

    #[test]
    fn keys_of_a_bulk_read_are_checked_one_by_one() {
        let span = |offset, length| Span { offset, length };
        assert_eq!(check_keys(&[span(2, 1), span(0, 2)], b"abc").unwrap(), ["c", "ab"]);
        assert!(check_keys(&[], b"").unwrap().is_empty());
        for bad in [span(0, 0), span(2, 2), span(3, 1)] {
            assert!(matches!(check_keys(&[bad], b"abc\xFF"), Err(StoreError::InvalidArgument(_))), "{bad:?}");
        }
        assert!(matches!(check_keys(&[span(0, 513)], &[b'k'; 513]), Err(StoreError::TooLarge(_))));
        assert!(matches!(check_keys(&[span(0, 1); 1_001], b"k"), Err(StoreError::TooLarge(_))));
    }

    #[test]
    fn only_one_spelling_of_a_number_counts() {
        for number in [0, -1, i64::MAX, i64::MIN] {
            assert!(matches!(decimal("k", number.to_string().as_bytes()), Ok(found) if found == number));
        }
        for text in ["", " 1", "1 ", "+1", "01", "-0", "1.0", "1e3", "9223372036854775808", "1\0", "x"] {
            assert!(matches!(decimal("k", text.as_bytes()), Err(StoreError::WrongType(_))), "{text:?}");
        }
    }

    #[test]
    fn versions_do_not_come_twice() {
        let versions: std::collections::HashSet<u64> = (0..100_000).map(|_| new_version()).collect();
        assert_eq!(versions.len(), 100_000);
        assert!(versions.iter().all(|version| *version <= i64::MAX.cast_unsigned()));
    }

    #[test]
    fn a_time_to_live_never_overflows() {
        assert!(matches!(check_ttl(Some(0)), Err(StoreError::InvalidArgument(_))));
        let ttl = check_ttl(Some(u64::MAX)).unwrap();
        assert!(expires(now(), ttl).unwrap() > now());
        assert_eq!(expires(5, check_ttl(None).unwrap()), None);
    }

    #[test]
    fn what_is_left_is_at_least_a_millisecond() {
        assert_eq!(remaining(10, Some(10)), Some(1));
        assert_eq!(remaining(10, Some(25)), Some(15));
        assert_eq!(remaining(10, None), None);
        assert!(matches!(lifetime(10, Some(Some(12))), Lifetime::RemainingMs(2)));
        assert!(matches!(lifetime(10, Some(None)), Lifetime::Unlimited));
        assert!(matches!(lifetime(10, None), Lifetime::Missing));
    }
}
