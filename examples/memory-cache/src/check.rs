//! The contract's limits on arguments.

use compozy_sdk::store::{Exceeded, StoreError};

type Result<T> = std::result::Result<T, StoreError>;

const KEY_BYTES_MAX: usize = 512;
const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;
const BATCH_ITEMS_MAX: usize = 1_000;

fn at_most(limit: &str, used: usize, allowed: usize) -> Result<()> {
    if used <= allowed {
        return Ok(());
    }
    Err(StoreError::TooLarge(Exceeded { limit: limit.to_owned(), used: used as u64, allowed: allowed as u64 }))
}

fn invalid<T>(why: String) -> Result<T> {
    Err(StoreError::InvalidArgument(why))
}

pub fn key_bytes(key: &str) -> Result<()> {
    if key.is_empty() { invalid("the key is empty".to_owned()) } else { at_most("key_bytes", key.len(), KEY_BYTES_MAX) }
}

pub fn value_bytes(bytes: usize) -> Result<()> {
    at_most("value_bytes", bytes, VALUE_BYTES_MAX)
}

pub fn batch(items: usize, least: usize) -> Result<()> {
    if items < least {
        invalid("there are no entries".to_owned())
    } else {
        at_most("batch_items", items, BATCH_ITEMS_MAX)
    }
}

pub fn page_size(max: u32) -> Result<usize> {
    let size = max as usize;
    if (1..=BATCH_ITEMS_MAX).contains(&size) {
        Ok(size)
    } else {
        invalid(format!("`max` is {max}; it must be 1 to {BATCH_ITEMS_MAX}"))
    }
}

pub fn not_zero(ttl_ms: Option<u64>) -> Result<()> {
    if ttl_ms == Some(0) { invalid("a time to live is at least 1 ms".to_owned()) } else { Ok(()) }
}

/// The key in a cursor of this call. What comes from elsewhere is refused.
pub fn cursor<'a>(call: char, prefix: &str, cursor: Option<&'a str>) -> Result<Option<&'a str>> {
    at_most("key_bytes", prefix.len(), KEY_BYTES_MAX)?;
    let Some(cursor) = cursor else { return Ok(None) };
    match cursor.strip_prefix(call).filter(|key| !key.is_empty() && key.starts_with(prefix)) {
        Some(key) => Ok(Some(key)),
        None => invalid(format!("the cursor `{cursor}` is not one that this call has answered")),
    }
}

/// A number as `increment` writes it.
pub fn decimal(key: &str, value: &[u8]) -> Result<i64> {
    let text = str::from_utf8(value).unwrap_or_default();
    let number = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
    number.ok_or_else(|| {
        StoreError::WrongType(format!("the value of the key `{key}` is not a decimal integer of 64 bits"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_belongs_to_its_call_and_prefix() {
        assert!(matches!(cursor('s', "a", None), Ok(None)));
        assert!(matches!(cursor('s', "a", Some("sab")), Ok(Some("ab"))));
        for foreign in ["", "s", "ab", "dab", "sb"] {
            assert!(matches!(cursor('s', "a", Some(foreign)), Err(StoreError::InvalidArgument(_))), "{foreign:?}");
        }
    }

    #[test]
    fn a_number_has_one_spelling() {
        assert!(matches!(decimal("k", b"-12"), Ok(-12)));
        for text in ["", "+1", "01", "-0", " 1", "1.0", "9223372036854775808"] {
            assert!(matches!(decimal("k", text.as_bytes()), Err(StoreError::WrongType(_))), "{text:?}");
        }
    }
}
