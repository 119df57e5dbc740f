//! Pages: literal prefixes as ranges of bytes, cursors that hold whatever is written meanwhile, and pages that end before
//! they are too large to travel.

use compozy_sdk::sql::{Row, Rows, SqlError};
use compozy_sdk::store::{KeyPage, StoreError};

use compozy_sdk::store::rules::{KEY_BYTES_MAX, after_prefix, too_large};

/// Values of one page, in bytes. One value may be larger than that; it then travels alone.
pub(crate) const PAGE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How many memories or streams of a dump are looked at together. The page is shorter when they have nothing to fill it with.
pub(crate) const HEADS_MAX: u32 = 128;

/// Which call a cursor belongs to. A cursor begins with this; so no call takes one of another call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call(pub(crate) &'static str);

/// The keys of a page as a range of bytes: `lower <= key < upper`.
#[derive(Debug, PartialEq)]
pub(crate) struct Range {
    pub(crate) lower: Vec<u8>,
    pub(crate) upper: Vec<u8>,
    call: Call,
    prefix: usize,
}

impl Call {
    /// The keys that start with `prefix` and come after the cursor.
    ///
    /// A cursor names the call, the length of its prefix and the last key that was returned. Being a place and
    /// not a count, it holds whatever is written meanwhile.
    pub(crate) fn range(self, prefix: &str, cursor: Option<&str>) -> Result<Range, StoreError> {
        if prefix.len() > KEY_BYTES_MAX {
            return Err(too_large("key_bytes", prefix.len(), KEY_BYTES_MAX));
        }
        let lower = match cursor {
            None => prefix.as_bytes().to_vec(),
            Some(cursor) => {
                let own = self.places::<1>(cursor).filter(|([length], last)| {
                    *length == prefix.len() as u64 && last.starts_with(prefix) && last.len() <= KEY_BYTES_MAX
                });
                let Some((_, last)) = own else { return Err(foreign(cursor)) };
                // The next possible key: the last one and a zero byte.
                [last.as_bytes(), &[0]].concat()
            }
        };
        Ok(Range { lower, upper: after_prefix(prefix.as_bytes()), call: self, prefix: prefix.len() })
    }

    /// A cursor of these numbers and this key.
    pub(crate) fn cursor(self, numbers: &[u64], key: &str) -> String {
        let mut cursor = self.0.to_owned();
        for number in numbers {
            cursor.push_str(&number.to_string());
            cursor.push(':');
        }
        cursor.push_str(key);
        cursor
    }

    /// What `cursor` made a cursor of, if it was for this call and so many numbers.
    pub(crate) fn places<const N: usize>(self, cursor: &str) -> Option<([u64; N], &str)> {
        let mut rest = cursor.strip_prefix(self.0)?;
        let mut numbers = [0; N];
        for number in &mut numbers {
            let (digits, after) = rest.split_once(':')?;
            *number = digits.parse().ok()?;
            rest = after;
        }
        Some((numbers, rest))
    }
}

/// The error for a cursor that comes from elsewhere.
pub(crate) fn foreign(cursor: &str) -> StoreError {
    StoreError::InvalidArgument(format!("the cursor `{cursor}` is not one that this call has answered"))
}

impl Range {
    /// The cursor that continues after this key.
    pub(crate) fn after(&self, last: &str) -> String {
        self.call.cursor(&[self.prefix as u64], last)
    }

    /// A page from rows whose first column is the key. One row more than `max` was asked for, to know whether there is a next page.
    pub(crate) fn keys(&self, rows: &Rows, max: u32) -> Result<KeyPage, StoreError> {
        let max = max as usize;
        let keys: Vec<String> = rows.iter().take(max).map(|row| key(row, 0)).collect::<Result<_, _>>()?;
        let next = if rows.len() > max { keys.last().map(|last| self.after(last)) } else { None };
        Ok(KeyPage { keys, next })
    }
}

/// A key as it was stored.
pub(crate) fn key(row: Row<'_>, column: usize) -> Result<String, SqlError> {
    String::from_utf8(row.get::<Vec<u8>>(column)?)
        .map_err(|_| SqlError::Invalid("a stored key is not UTF-8; the database was changed by somebody else".into()))
}

/// What one page of a dump will hold.
pub(crate) struct PagePlan {
    /// The key of its last entry.
    pub(crate) last: String,
    /// How many entries it has.
    pub(crate) entries: u32,
    more: bool,
}

impl PagePlan {
    /// Plans a page of a dump from rows of key and length, of which one more than `max` was asked for.
    /// Lengths cost no reading of values; so a page can end before it is too large to travel.
    pub(crate) fn new(sizes: &Rows, max: u32) -> Result<Option<Self>, StoreError> {
        let entries = fitting(sizes.iter().take(max as usize).map(|row| row.get(1)), PAGE_BYTES_MAX)?;
        let Some(last) = entries.checked_sub(1).and_then(|last| sizes.iter().nth(last)) else { return Ok(None) };
        let more = sizes.len() > entries;
        Ok(Some(Self { last: key(last, 0)?, entries: entries as u32, more }))
    }

    /// The cursor after a page that got these entries. A key that was written after the plan was made may have
    /// taken the place of the last one, which then comes with the next page.
    pub(crate) fn next(&self, range: &Range, entries: usize, last: Option<&str>) -> Option<String> {
        match last {
            Some(last) if entries == self.entries as usize && last != self.last => Some(range.after(last)),
            _ => self.more.then(|| range.after(&self.last)),
        }
    }
}

/// How many values of these lengths fit into so many bytes: at least one, if there are any.
pub(crate) fn fitting(lengths: impl Iterator<Item = Result<u64, SqlError>>, bytes_max: u64) -> Result<usize, SqlError> {
    let (mut bytes, mut count) = (0_u64, 0);
    for length in lengths {
        bytes = bytes.saturating_add(length?);
        if count > 0 && bytes > bytes_max {
            break;
        }
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Call = Call("x");

    #[test]
    fn a_prefix_is_a_range_without_special_characters() {
        let bounds = |prefix| {
            let range = CALL.range(prefix, None).unwrap();
            (range.lower, range.upper)
        };
        assert_eq!(bounds(""), (vec![], vec![0xFF]));
        assert_eq!(bounds("a%"), (b"a%".to_vec(), b"a&".to_vec()));
        assert_eq!(bounds("a\u{10FFFF}").1, [b'a', 0xF4, 0x8F, 0xBF, 0xC0]);
        for (prefix, inside, outside) in
            [("user:", "user:\u{10FFFF}", "user;"), ("a\0", "a\0\0", "a\u{1}"), ("é", "éa", "ê")]
        {
            let (lower, upper) = bounds(prefix);
            let holds = |key: &str| lower.as_slice() <= key.as_bytes() && key.as_bytes() < upper.as_slice();
            assert!(holds(prefix) && holds(inside) && !holds(outside), "prefix {prefix:?}");
        }
    }

    #[test]
    fn a_cursor_continues_right_after_its_key() {
        let cursor = CALL.range("a", None).unwrap().after("a:b");
        let range = CALL.range("a", Some(&cursor)).unwrap();
        assert!(range.lower.as_slice() > b"a:b".as_slice());
        assert!(range.lower.as_slice() <= b"a:b\0".as_slice());
    }

    #[test]
    fn a_cursor_of_another_call_or_prefix_is_refused() {
        let other = Call("y").range("a", None).unwrap().after("ab");
        let longer = CALL.range("ab", None).unwrap().after("abc");
        for bad in ["", "ab", "x", "x1:", "x1:b", "x:ab", "x1ab", "x-1:ab", &other, &longer] {
            assert!(matches!(CALL.range("a", Some(bad)), Err(StoreError::InvalidArgument(_))), "cursor {bad:?}");
        }
    }

    #[test]
    fn a_cursor_gives_its_numbers_back() {
        let cursor = CALL.cursor(&[7, u64::MAX], "a:b");
        assert_eq!(CALL.places(&cursor), Some(([7, u64::MAX], "a:b")));
        assert_eq!(CALL.places::<3>(&CALL.cursor(&[1, 2], "b")), None);
    }

    #[test]
    fn a_page_has_at_least_one_value() {
        let fitting = |lengths: &[u64]| super::fitting(lengths.iter().map(|length| Ok(*length)), 10).unwrap();
        for (lengths, count) in
            [(&[][..], 0), (&[11], 1), (&[u64::MAX, 1], 1), (&[5, 5, 1], 2), (&[0, 11], 1), (&[10, 0], 2)]
        {
            assert_eq!(fitting(lengths), count, "{lengths:?}");
        }
    }
}
