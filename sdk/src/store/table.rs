//! The role `cache` for a backend that keeps its entries in a map: it brings the map, the rules are here.
//!
//! [`CacheTable`] asks for what a map can do. Whatever implements it is a [`Cache`], with all that the contract
//! demands: checked arguments, times to live, versions, conditions, checked sums, pages, moves. `examples/memory-cache` is one.

use super::rules::{
    DUMP_PAGE_BYTES_MAX, check_batch, check_key, check_keys, check_page, check_short, check_some, check_ttl,
    check_value, decimal, expires, foreign_cursor, lifetime, new_version, now, remaining,
};
use super::{
    Assignment, Cache, Condition, DumpPage, Dumped, Entry, Found, HealthStatus, KeyPage, Lifetime, Span, Statistics,
    StoreError, Values, append, slice,
};

type Result<T> = std::result::Result<T, StoreError>;

/// One entry of a [`CacheTable`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// What the key holds.
    pub value: Vec<u8>,
    /// As in [`Entry`]; made here.
    pub version: u64,
    /// Milliseconds since 1970, `None` for an entry that is kept until it is deleted.
    pub expires: Option<i64>,
}

/// A map from keys to entries, ordered by the bytes of the keys. It need not know what expiry is: what has expired is passed over here, and
/// removed when the host sweeps.
pub trait CacheTable: Sized + 'static {
    /// Runs one operation on the table, alone: the operations of one table follow each other.
    fn with<T>(operation: impl FnOnce(&mut Self) -> T) -> T;

    /// The entry of a key.
    fn find(&self, key: &str) -> Option<&Slot>;

    /// The entries from this key on, in the order of their keys.
    fn starting_at<'a>(&'a self, key: &str) -> impl Iterator<Item = (&'a str, &'a Slot)>;

    /// Puts an entry in the place of the one that the key had.
    fn put(&mut self, key: String, slot: Slot);

    /// Removes an entry.
    fn remove(&mut self, key: &str) -> Option<Slot>;

    /// Whether keys and values of so many bytes more may be written. Asked before anything of a call is written.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`] when there is no room now.
    fn room(&self, more: usize) -> Result<()>;

    /// One sentence for people who ask how the backend feels.
    fn describe(&self) -> String;

    /// How much there is. May count what has expired.
    fn statistics(&self) -> Statistics;
}

impl Slot {
    fn lives(&self, now: i64) -> bool {
        self.expires.is_none_or(|at| at > now)
    }
}

fn live<'a>(table: &'a impl CacheTable, key: &str) -> Option<&'a Slot> {
    table.find(key).filter(|slot| slot.lives(now()))
}

/// The live entries after the cursor of this call.
///
/// A cursor is the call's letter and the last key that was answered: a place and not a count, so it holds whatever is written meanwhile.
fn after<'a>(
    table: &'a impl CacheTable,
    call: char,
    prefix: &'a str,
    cursor: Option<&'a str>,
) -> Result<impl Iterator<Item = (&'a str, &'a Slot)>> {
    check_short(prefix)?;
    let own = |cursor: &'a str| {
        let key = cursor.strip_prefix(call).filter(|key| !key.is_empty() && key.starts_with(prefix));
        key.ok_or_else(|| foreign_cursor(cursor, prefix))
    };
    let (last, now) = (cursor.map(own).transpose()?, now());
    let inside = table.starting_at(last.unwrap_or(prefix)).take_while(move |(key, _)| key.starts_with(prefix));
    Ok(inside.filter(move |(key, slot)| slot.lives(now) && Some(*key) != last))
}

/// Checks entries that are to be written; answers their bytes.
fn checked<'a>(entries: impl Iterator<Item = (&'a str, Span)>, bytes: &[u8]) -> Result<usize> {
    let mut sum = 0_usize;
    for (key, span) in entries {
        check_key("key", key)?;
        let value = slice(bytes, span)?.len();
        check_value(value)?;
        sum = sum.saturating_add(key.len() + value);
    }
    Ok(sum)
}

impl<T: CacheTable> Cache for T {
    fn get(key: String) -> Result<Option<Entry>> {
        check_key("key", &key)?;
        let entry = |slot: &Slot| Entry { value: slot.value.clone(), version: slot.version };
        Ok(T::with(|table| live(table, &key).map(entry)))
    }

    fn get_many(keys: Vec<Span>, bytes: Vec<u8>) -> Result<Values> {
        let keys = check_keys(&keys, &bytes)?;
        T::with(|table| {
            let (mut found, mut bytes) = (Vec::with_capacity(keys.len()), Vec::new());
            for slot in keys.iter().map(|key| live(table, key)) {
                found.push(match slot {
                    Some(slot) => Some(Found { span: append(&mut bytes, &slot.value)?, version: slot.version }),
                    None => None,
                });
            }
            Ok(Values { found, bytes })
        })
    }

    fn set(key: String, value: Vec<u8>, ttl_ms: Option<u64>, condition: Condition) -> Result<Option<u64>> {
        check_key("key", &key)?;
        check_value(value.len())?;
        let ttl = check_ttl(ttl_ms)?;
        T::with(|table| {
            let found = live(table, &key).map(|slot| slot.version);
            let holds = match condition {
                Condition::Always => true,
                Condition::IfAbsent => found.is_none(),
                Condition::IfVersion(version) => found == Some(version),
            };
            if !holds {
                return Ok(None);
            }
            table.room(key.len() + value.len())?;
            let version = new_version();
            table.put(key, Slot { value, version, expires: expires(now(), ttl) });
            Ok(Some(version))
        })
    }

    fn set_many(entries: Vec<Assignment>, bytes: Vec<u8>, ttl_ms: Option<u64>) -> Result<()> {
        check_some("entries", entries.len())?;
        let ttl = check_ttl(ttl_ms)?;
        let more = checked(entries.iter().map(|entry| (entry.key.as_str(), entry.value)), &bytes)?;
        T::with(|table| {
            table.room(more)?;
            let expires = expires(now(), ttl);
            for Assignment { key, value } in entries {
                table.put(key, Slot { value: slice(&bytes, value)?.to_vec(), version: new_version(), expires });
            }
            Ok(())
        })
    }

    fn delete(key: String) -> Result<bool> {
        check_key("key", &key)?;
        Ok(T::with(|table| table.remove(&key)).is_some_and(|slot| slot.lives(now())))
    }

    fn exists(key: String) -> Result<bool> {
        check_key("key", &key)?;
        Ok(T::with(|table| live(table, &key).is_some()))
    }

    fn expire(key: String, ttl_ms: Option<u64>) -> Result<bool> {
        check_key("key", &key)?;
        let ttl = check_ttl(ttl_ms)?;
        Ok(T::with(|table| {
            if live(table, &key).is_none() {
                return false;
            }
            let slot = table.remove(&key).map(|slot| Slot { expires: expires(now(), ttl), ..slot });
            slot.map(|slot| table.put(key, slot)).is_some()
        }))
    }

    fn ttl(key: String) -> Result<Lifetime> {
        check_key("key", &key)?;
        Ok(T::with(|table| lifetime(now(), live(table, &key).map(|slot| slot.expires))))
    }

    fn increment(key: String, delta: i64, ttl_ms: Option<u64>) -> Result<i64> {
        check_key("key", &key)?;
        let ttl = check_ttl(ttl_ms)?;
        T::with(|table| {
            let (number, expires) = match live(table, &key) {
                None => (0, expires(now(), ttl)),
                Some(slot) => (decimal(&key, &slot.value)?, slot.expires),
            };
            let sum = number.checked_add(delta).ok_or_else(|| {
                let (sign, size) = (if delta < 0 { "-" } else { "+" }, delta.unsigned_abs());
                StoreError::Overflow(format!("{number} {sign} {size} does not fit an integer of 64 bits (key `{key}`)"))
            })?;
            let value = sum.to_string().into_bytes();
            table.room(key.len() + value.len())?;
            table.put(key, Slot { value, version: new_version(), expires });
            Ok(sum)
        })
    }

    fn scan(prefix: String, cursor: Option<String>, max: u32) -> Result<KeyPage> {
        check_page("max", max)?;
        T::with(|table| {
            let mut keys: Vec<String> = Vec::new();
            for (key, _) in after(table, 's', &prefix, cursor.as_deref())? {
                if keys.len() == max as usize {
                    return Ok(KeyPage { next: keys.last().map(|last| format!("s{last}")), keys });
                }
                keys.push(key.to_owned());
            }
            Ok(KeyPage { keys, next: None })
        })
    }

    fn health() -> Result<HealthStatus> {
        Ok(HealthStatus { detail: T::with(|table| table.describe()) })
    }

    fn stats() -> Result<Statistics> {
        Ok(T::with(|table| table.statistics()))
    }

    fn sweep(max: u32) -> Result<u32> {
        check_page("max", max)?;
        T::with(|table| {
            let now = now();
            let dead = table.starting_at("").filter(|(_, slot)| !slot.lives(now)).take(max as usize);
            let dead: Vec<String> = dead.map(|(key, _)| key.to_owned()).collect();
            Ok(dead.iter().filter_map(|key| table.remove(key)).count() as u32)
        })
    }

    fn dump(cursor: Option<String>, max: u32) -> Result<DumpPage> {
        check_page("max", max)?;
        T::with(|table| {
            let (now, mut entries, mut bytes) = (now(), Vec::<Dumped>::new(), Vec::new());
            for (key, slot) in after(table, 'd', "", cursor.as_deref())? {
                let full = (bytes.len() + slot.value.len()) as u64 > DUMP_PAGE_BYTES_MAX;
                if let Some(last) = entries.last()
                    && (entries.len() == max as usize || full)
                {
                    return Ok(DumpPage { next: Some(format!("d{}", last.key)), entries, bytes });
                }
                let (value, ttl_ms) = (append(&mut bytes, &slot.value)?, remaining(now, slot.expires));
                entries.push(Dumped { key: key.to_owned(), value, version: slot.version, ttl_ms });
            }
            Ok(DumpPage { entries, bytes, next: None })
        })
    }

    fn load(entries: Vec<Dumped>, bytes: Vec<u8>) -> Result<()> {
        check_batch(entries.len())?;
        let more = checked(entries.iter().map(|entry| (entry.key.as_str(), entry.value)), &bytes)?;
        let lifetimes = entries.iter().map(|entry| check_ttl(entry.ttl_ms)).collect::<Result<Vec<_>>>()?;
        T::with(|table| {
            table.room(more)?;
            let now = now();
            for (Dumped { key, value, version, .. }, ttl) in entries.into_iter().zip(lifetimes) {
                table.put(key, Slot { value: slice(&bytes, value)?.to_vec(), version, expires: expires(now, ttl) });
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Default)]
    struct Table(BTreeMap<String, Slot>);

    thread_local! {
        static TABLE: RefCell<Table> = RefCell::default();
    }

    impl CacheTable for Table {
        fn with<T>(operation: impl FnOnce(&mut Self) -> T) -> T {
            TABLE.with_borrow_mut(operation)
        }
        fn find(&self, key: &str) -> Option<&Slot> {
            self.0.get(key)
        }
        fn starting_at<'a>(&'a self, key: &str) -> impl Iterator<Item = (&'a str, &'a Slot)> {
            self.0.range(key.to_owned()..).map(|(key, slot)| (key.as_str(), slot))
        }
        fn put(&mut self, key: String, slot: Slot) {
            self.0.insert(key, slot);
        }
        fn remove(&mut self, key: &str) -> Option<Slot> {
            self.0.remove(key)
        }
        fn room(&self, more: usize) -> Result<()> {
            if more > 1_000 { Err(StoreError::Busy(format!("{more} bytes are too many"))) } else { Ok(()) }
        }
        fn describe(&self) -> String {
            "well".to_owned()
        }
        fn statistics(&self) -> Statistics {
            Statistics { entries: Some(self.0.len() as u64), bytes: None, details: Vec::new() }
        }
    }

    fn set(key: &str, value: &[u8]) -> Result<Option<u64>> {
        Table::set(key.to_owned(), value.to_vec(), None, Condition::Always)
    }

    #[test]
    fn a_table_keeps_the_rules_of_a_cache() {
        let first = set("k", b"7").unwrap().unwrap();
        let swap = |version| Table::set("k".to_owned(), b"8".to_vec(), None, Condition::IfVersion(version)).unwrap();
        assert!(swap(first + 1).is_none());
        assert!(swap(first).is_some_and(|second| second != first));
        assert_eq!(Table::increment("k".to_owned(), 2, None).unwrap(), 10);
        assert!(matches!(Table::increment("k".to_owned(), i64::MAX, None), Err(StoreError::Overflow(_))));
        set("text", b"x").unwrap();
        assert!(matches!(Table::increment("text".to_owned(), 1, None), Err(StoreError::WrongType(_))));
        assert!(matches!(
            Table::set("k".to_owned(), vec![], Some(0), Condition::Always),
            Err(StoreError::InvalidArgument(_))
        ));
        assert!(matches!(set("k", &[0; 2_000]), Err(StoreError::Busy(_))));
        assert_eq!(Table::get("k".to_owned()).unwrap().unwrap().value, b"10", "nothing was written");
    }

    #[test]
    fn what_has_expired_is_gone_before_it_is_swept() {
        let slot = Slot { value: b"v".to_vec(), version: 1, expires: Some(now() - 1) };
        TABLE.with_borrow_mut(|table| table.put("dead".to_owned(), slot));
        set("alive", b"v").unwrap();
        assert!(Table::get("dead".to_owned()).unwrap().is_none() && !Table::exists("dead".to_owned()).unwrap());
        assert!(!Table::expire("dead".to_owned(), None).unwrap());
        assert_eq!(Table::scan(String::new(), None, 10).unwrap().keys, ["alive"]);
        assert_eq!((Table::sweep(10).unwrap(), Table::sweep(10).unwrap()), (1, 0));
    }

    #[test]
    fn a_cursor_belongs_to_its_call_and_prefix() {
        for key in ["a", "ab", "ac", "b"] {
            set(key, b"v").unwrap();
        }
        let page = Table::scan("a".to_owned(), None, 2).unwrap();
        assert_eq!((page.keys, page.next.as_deref()), (vec!["a".to_owned(), "ab".to_owned()], Some("sab")));
        assert_eq!(Table::scan("a".to_owned(), Some("sab".to_owned()), 2).unwrap().keys, ["ac"]);
        for foreign in ["", "s", "ab", "dab", "sb"] {
            let scanned = Table::scan("a".to_owned(), Some(foreign.to_owned()), 2);
            assert!(matches!(scanned, Err(StoreError::InvalidArgument(_))), "{foreign:?}");
        }
    }
}
