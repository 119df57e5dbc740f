//! Walks over keys by `SCAN`, for what has no index.
//!
//! Redis answers about as many keys as it is asked for; what a page has no room for travels in its cursor, because another
//! look from the same place need not show the same keys.

use compozy_sdk::redis::{self, RedisError};
use compozy_sdk::store::StoreError;
use compozy_sdk::store::rules::foreign_cursor;

use crate::keys::{cursor, hash, read_cursor};

/// How often one call looks on when it finds nothing: most keys on the server may be somebody else's.
const LOOKS_MAX: usize = 64;

/// Keys that were found and not yet given out, and where to look on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Walk<'a> {
    call: &'a str,
    prefix: &'a str,
    pub(crate) keys: Vec<String>,
    next: Option<String>,
}

impl<'a> Walk<'a> {
    /// Goes on from a cursor of the same call and prefix. Keys start with `tag`, which is taken off, and then with `prefix`.
    pub(crate) fn new(
        call: &'a str,
        tag: &str,
        prefix: &'a str,
        from: Option<&str>,
        count: u32,
    ) -> Result<Self, StoreError> {
        let mut walk = Self { call, prefix, keys: Vec::new(), next: None };
        if let Some(text) = from {
            walk.read(text).ok_or_else(|| foreign_cursor(text, prefix))?;
            if !walk.keys.is_empty() {
                return Ok(walk);
            }
        }
        let whole = [tag, prefix].concat();
        for look in 0..LOOKS_MAX {
            let found = redis::scan(&whole, walk.next.as_deref(), count).map_err(|error| match (error, from) {
                // The part of the cursor that only the host can read.
                (RedisError::Invalid(_), Some(text)) if look == 0 => foreign_cursor(text, prefix),
                (error, _) => error.into(),
            })?;
            walk.keys = found.keys.into_iter().filter_map(|key| key.strip_prefix(tag).map(str::to_owned)).collect();
            walk.next = found.next;
            if !walk.keys.is_empty() || walk.next.is_none() {
                break;
            }
        }
        Ok(walk)
    }

    /// The cursor behind the first `taken` keys.
    pub(crate) fn cursor(&self, taken: usize) -> Option<String> {
        let left = &self.keys[taken.min(self.keys.len())..];
        if left.is_empty() && self.next.is_none() {
            return None;
        }
        let mut text = String::new();
        for part in self.next.iter().chain(left) {
            text.push_str(&part.len().to_string());
            text.push(':');
            text.push_str(part);
        }
        Some(cursor(self.call, &[hash(self.prefix), self.next.is_some().into()], &text))
    }

    fn read(&mut self, text: &str) -> Option<()> {
        let ([of, more], parts) = read_cursor::<2>(self.call, text)?;
        let mut parts = split(parts)?.into_iter();
        self.next = match more {
            0 => None,
            1 => Some(parts.next()?),
            _ => return None,
        };
        self.keys = parts.collect();
        let own = of == hash(self.prefix) && self.keys.iter().all(|key| key.starts_with(self.prefix));
        (own && (self.next.is_some() || !self.keys.is_empty())).then_some(())
    }
}

/// Texts that were written as length, `:` and text.
fn split(mut text: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    while !text.is_empty() {
        let (length, rest) = text.split_once(':')?;
        let (part, rest) = rest.split_at_checked(length.parse().ok()?)?;
        parts.push(part.to_owned());
        text = rest;
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(keys: &[&str], next: Option<&str>) -> Walk<'static> {
        Walk {
            call: "scan",
            prefix: "a",
            keys: keys.iter().map(ToString::to_string).collect(),
            next: next.map(str::to_owned),
        }
    }

    #[test]
    fn what_was_not_given_out_travels_in_the_cursor() {
        for (keys, next, taken, left) in [
            (vec!["a1", "a:2\0", "aé"], Some("17"), 1, vec!["a:2\0", "aé"]),
            (vec!["a1", "a2"], None, 1, vec!["a2"]),
            (vec!["a1"], Some(""), 1, vec![]),
        ] {
            let text = walk(&keys, next).cursor(taken).unwrap();
            let mut again = walk(&[], None);
            again.read(&text).unwrap();
            assert_eq!(again, walk(&left, next));
        }
        assert_eq!(walk(&["a1"], None).cursor(1), None);
    }

    #[test]
    fn a_cursor_of_another_call_or_prefix_is_refused() {
        let text = walk(&["a1", "a2"], Some("17")).cursor(1).unwrap();
        assert_eq!(Walk { call: "dump", ..walk(&[], None) }.read(&text), None);
        assert_eq!(Walk { prefix: "b", ..walk(&[], None) }.read(&text), None);
        for bad in
            [text.replace("2:a2", "9:a2"), text.replace(":17", ":17x"), text.replace(".1.", ".2."), String::new()]
        {
            assert_eq!(walk(&[], None).read(&bad), None, "{bad:?}");
        }
    }
}
