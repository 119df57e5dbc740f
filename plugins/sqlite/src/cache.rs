//! The role `cache`.

use std::cell::OnceCell;
use std::fmt::Write as _;

use compozy_sdk::sql::{self, Bind, Params, SqlError, Statement, ToSql, statement};
use compozy_sdk::store::{
    Assignment, Cache, Condition, DumpPage, Dumped, Entry, Found, HealthStatus, KeyPage, Lifetime, Span, Statistics,
    StoreError, Values, slice,
};

use crate::bulk::{Bulk, Insert};
use crate::page::{Call, PagePlan, key};
use crate::report::{self, COUNTED_MAX};
use crate::{Sqlite, schema};
use compozy_sdk::store::rules::{
    BATCH_ITEMS_MAX, check_batch, check_key, check_keys, check_page, check_some, check_ttl, check_value, decimal,
    expires, lifetime, now, remaining,
};

/// How often an increment that another write overtook is tried again.
const INCREMENT_TRIES: usize = 8;
const SCAN: Call = Call("cache.scan:");
const DUMP: Call = Call("cache.dump:");

thread_local! {
    static SET_MANY: Bulk = const { Bulk::new(Insert {
        into: "INSERT INTO cache (value, key, expires, version) VALUES",
        row: "($1, $2, ?1, random() & 9223372036854775807)",
        end: "ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version, expires = excluded.expires",
        shared: 1,
        own: 2,
    }) };
    static LOAD: Bulk = const { Bulk::new(Insert {
        into: "INSERT INTO cache (value, key, expires, version) VALUES",
        row: "($1, $2, $3, $4)",
        end: "ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version, expires = excluded.expires",
        shared: 0,
        own: 4,
    }) };
}

impl Cache for Sqlite {
    fn get(key: String) -> Result<Option<Entry>, StoreError> {
        check_key("key", &key)?;
        schema::ready()?;
        // Most keys have no time to live, and need no look at the clock.
        let rows = statement!("SELECT value, version, expires FROM cache WHERE key = ?1")?.query((key.as_bytes(),))?;
        let Some(row) = rows.first() else { return Ok(None) };
        if row.get::<Option<i64>>(2)?.is_some_and(|at| at <= now()) {
            return Ok(None);
        }
        let version = row.get::<i64>(1)?.cast_unsigned();
        Ok(Some(Entry { value: rows.into_blob(0)?, version }))
    }

    fn get_many(keys: Vec<Span>, bytes: Vec<u8>) -> Result<Values, StoreError> {
        let keys = check_keys(&keys, &bytes)?;
        schema::ready()?;
        if keys.is_empty() {
            return Ok(Values { found: Vec::new(), bytes: Vec::new() });
        }
        let rows = many(keys.len())?.query(Keys { keys: &keys, now: now() })?;
        let mut found = vec![None; keys.len()];
        for row in rows.iter() {
            let entry = Found { span: row.span(1)?, version: row.get::<i64>(2)?.cast_unsigned() };
            if let Some(place) = found.get_mut(row.get::<u32>(0)? as usize) {
                *place = Some(entry);
            }
        }
        Ok(Values { found, bytes: rows.into_bytes() })
    }

    fn set(key: String, value: Vec<u8>, ttl_ms: Option<u64>, condition: Condition) -> Result<Option<u64>, StoreError> {
        check_key("key", &key)?;
        check_value(value.len())?;
        let ttl = check_ttl(ttl_ms)?;
        schema::ready()?;
        let expires = ttl.and_then(|ttl| expires(now(), Some(ttl)));
        // `random()` and not a counter: a counter would begin again after a delete, and compare-and-swap could be fooled.
        let rows = match condition {
            Condition::Always => statement!(
                "INSERT INTO cache (value, key, expires, version) VALUES (?1, ?2, ?3, random() & 9223372036854775807)
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version, expires = excluded.expires
                 RETURNING version"
            )?
            .query((value, key.as_bytes(), expires))?,
            Condition::IfAbsent => statement!(
                "INSERT INTO cache (value, key, expires, version) VALUES (?1, ?2, ?3, random() & 9223372036854775807)
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version, expires = excluded.expires
                 WHERE cache.expires <= ?4 RETURNING version"
            )?
            .query((value, key.as_bytes(), expires, now()))?,
            Condition::IfVersion(version) => statement!(
                "UPDATE cache SET value = ?1, expires = ?3, version = random() & 9223372036854775807
                 WHERE key = ?2 AND version = ?5 AND (expires IS NULL OR expires > ?4) RETURNING version"
            )?
            .query((value, key.as_bytes(), expires, now(), version.cast_signed()))?,
        };
        let version = rows.first().map(|row| row.get::<i64>(0)).transpose()?;
        Ok(version.map(i64::cast_unsigned))
    }

    fn set_many(entries: Vec<Assignment>, bytes: Vec<u8>, ttl_ms: Option<u64>) -> Result<(), StoreError> {
        check_some("entries", entries.len())?;
        let mut rows = Vec::with_capacity(entries.len());
        for entry in &entries {
            check_key("key", &entry.key)?;
            let value = slice(&bytes, entry.value)?;
            check_value(value.len())?;
            rows.push((value, entry.key.as_bytes()));
        }
        let ttl = check_ttl(ttl_ms)?;
        schema::ready()?;
        let expires = expires(now(), ttl);
        let length = |(value, key): &(&[u8], &[u8])| value.len() + key.len();
        let write = || {
            SET_MANY.with(|bulk| {
                bulk.write(
                    &rows,
                    length,
                    |params| expires.add_to(params),
                    |(value, key), params| {
                        params.blob(value);
                        params.blob(key);
                    },
                )
            })
        };
        // One statement is atomic by itself.
        if Bulk::statements(&rows, length) == 1 {
            write()?
        } else {
            sql::transaction(write)?
        };
        Ok(())
    }

    fn delete(key: String) -> Result<bool, StoreError> {
        check_key("key", &key)?;
        schema::ready()?;
        let remove = statement!("DELETE FROM cache WHERE key = ?1 RETURNING expires IS NULL OR expires > ?2")?;
        Ok(remove.query_row((key.as_bytes(), now()), |row| row.get(0))?.unwrap_or(false))
    }

    fn exists(key: String) -> Result<bool, StoreError> {
        check_key("key", &key)?;
        schema::ready()?;
        let read = statement!("SELECT 1 FROM cache WHERE key = ?1 AND (expires IS NULL OR expires > ?2)")?;
        Ok(!read.query((key.as_bytes(), now()))?.is_empty())
    }

    fn expire(key: String, ttl_ms: Option<u64>) -> Result<bool, StoreError> {
        check_key("key", &key)?;
        let ttl = check_ttl(ttl_ms)?;
        schema::ready()?;
        let now = now();
        let write = statement!("UPDATE cache SET expires = ?2 WHERE key = ?1 AND (expires IS NULL OR expires > ?3)")?;
        Ok(write.execute((key.as_bytes(), expires(now, ttl), now))? > 0)
    }

    fn ttl(key: String) -> Result<Lifetime, StoreError> {
        check_key("key", &key)?;
        schema::ready()?;
        let now = now();
        let read = statement!("SELECT expires FROM cache WHERE key = ?1 AND (expires IS NULL OR expires > ?2)")?;
        Ok(lifetime(now, read.query_row((key.as_bytes(), now), |row| row.get(0))?))
    }

    fn increment(key: String, delta: i64, ttl_ms: Option<u64>) -> Result<i64, StoreError> {
        check_key("key", &key)?;
        let ttl = check_ttl(ttl_ms)?;
        schema::ready()?;
        for _ in 0..INCREMENT_TRIES {
            let now = now();
            if let Some(sum) = add(&key, delta, expires(now, ttl), now)? {
                return Ok(sum);
            }
            explain(&key, delta, now)?;
        }
        Err(StoreError::Busy(format!(
            "other writes of the key `{key}` overtook the increment {INCREMENT_TRIES} times; try again"
        )))
    }

    fn scan(prefix: String, cursor: Option<String>, max: u32) -> Result<KeyPage, StoreError> {
        check_page("max", max)?;
        let range = SCAN.range(&prefix, cursor.as_deref())?;
        schema::ready()?;
        let read = statement!(
            "SELECT key FROM cache WHERE key >= ?1 AND key < ?2 AND (expires IS NULL OR expires > ?3) ORDER BY key LIMIT ?4"
        )?;
        range.keys(&read.query((&range.lower, &range.upper, now(), max + 1))?, max)
    }

    fn health() -> Result<HealthStatus, StoreError> {
        report::health()
    }

    fn stats() -> Result<Statistics, StoreError> {
        schema::ready()?;
        let count = statement!("SELECT count(*) FROM (SELECT 1 FROM cache LIMIT ?1)")?;
        report::statistics(count.query_row((COUNTED_MAX + 1,), report::counted)?.flatten(), Vec::new())
    }

    fn sweep(max: u32) -> Result<u32, StoreError> {
        check_page("max", max)?;
        schema::ready()?;
        let now = now();
        // Looked at first: a sweep that finds nothing must not wait for the writers.
        if statement!("SELECT 1 FROM cache WHERE expires <= ?1 LIMIT 1")?.query((now,))?.is_empty() {
            return Ok(0);
        }
        let remove = statement!(
            "DELETE FROM cache WHERE rowid IN (SELECT rowid FROM cache WHERE expires <= ?1 ORDER BY expires LIMIT ?2)"
        )?;
        Ok(remove.execute((now, max))? as u32)
    }

    fn dump(cursor: Option<String>, max: u32) -> Result<DumpPage, StoreError> {
        check_page("max", max)?;
        let range = DUMP.range("", cursor.as_deref())?;
        schema::ready()?;
        let now = now();
        let sizes = statement!(
            "SELECT key, length(value) FROM cache
             WHERE key >= ?1 AND key < ?2 AND (expires IS NULL OR expires > ?3) ORDER BY key LIMIT ?4"
        )?
        .query((&range.lower, &range.upper, now, max + 1))?;
        let Some(page) = PagePlan::new(&sizes, max)? else {
            return Ok(DumpPage { entries: Vec::new(), bytes: Vec::new(), next: None });
        };
        let rows = statement!(
            "SELECT key, value, version, expires FROM cache
             WHERE key >= ?1 AND key <= ?2 AND (expires IS NULL OR expires > ?3) ORDER BY key LIMIT ?4"
        )?
        .query((&range.lower, page.last.as_bytes(), now, page.entries))?;
        let mut entries = Vec::with_capacity(rows.len());
        for row in rows.iter() {
            let version = row.get::<i64>(2)?.cast_unsigned();
            let ttl_ms = remaining(now, row.get(3)?);
            entries.push(Dumped { key: key(row, 0)?, value: row.span(1)?, version, ttl_ms });
        }
        let next = page.next(&range, entries.len(), entries.last().map(|entry| entry.key.as_str()));
        Ok(DumpPage { entries, bytes: rows.into_bytes(), next })
    }

    fn load(entries: Vec<Dumped>, bytes: Vec<u8>) -> Result<(), StoreError> {
        check_batch(entries.len())?;
        let mut rows = Vec::with_capacity(entries.len());
        for entry in &entries {
            check_key("key", &entry.key)?;
            let value = slice(&bytes, entry.value)?;
            check_value(value.len())?;
            rows.push((value, entry.key.as_bytes(), check_ttl(entry.ttl_ms)?, entry.version.cast_signed()));
        }
        schema::ready()?;
        let now = now();
        let write = || {
            LOAD.with(|bulk| {
                bulk.write(
                    &rows,
                    |(value, key, ..)| value.len() + key.len(),
                    |_| (),
                    |(value, key, ttl, version), params| {
                        params.blob(value);
                        params.blob(key);
                        expires(now, *ttl).add_to(params);
                        params.integer(*version);
                    },
                )
            })
        };
        if rows.is_empty() { Ok(()) } else { sql::transaction(write).map(drop).map_err(StoreError::from) }
    }
}

/// Adds in one statement, so that no increment is lost. `None` when the stored value is no integer or the sum would overflow.
fn add(key: &str, delta: i64, expires: Option<i64>, now: i64) -> Result<Option<i64>, StoreError> {
    // SQLite answers a float when an integer sum overflows, and CAST takes the digits that it finds:
    // hence the checks of `typeof` and of the text that the number would have.
    let write = statement!(
        "INSERT INTO cache (key, value, expires, version)
         VALUES (?1, CAST(CAST(?2 AS TEXT) AS BLOB), ?3, random() & 9223372036854775807)
         ON CONFLICT (key) DO UPDATE SET
             value = CASE WHEN cache.expires <= ?4 THEN excluded.value
                 ELSE CAST(CAST(CAST(CAST(cache.value AS TEXT) AS INTEGER) + ?2 AS TEXT) AS BLOB) END,
             expires = CASE WHEN cache.expires <= ?4 THEN excluded.expires ELSE cache.expires END,
             version = excluded.version
         WHERE cache.expires <= ?4 OR (
             length(cache.value) <= 20
             AND CAST(CAST(CAST(cache.value AS TEXT) AS INTEGER) AS TEXT) = CAST(cache.value AS TEXT)
             AND typeof(CAST(CAST(cache.value AS TEXT) AS INTEGER) + ?2) = 'integer')
         RETURNING CAST(CAST(value AS TEXT) AS INTEGER)"
    )?;
    Ok(write.query_row((key.as_bytes(), delta, expires, now), |row| row.get(0))?)
}

/// Why `add` did nothing; `Ok` when another write has changed the value meanwhile and it may work now.
fn explain(key: &str, delta: i64, now: i64) -> Result<(), StoreError> {
    let read = statement!(
        "SELECT CASE WHEN length(value) <= 20 THEN value END FROM cache WHERE key = ?1 AND (expires IS NULL OR expires > ?2)"
    )?;
    let Some(value) = read.query_row((key.as_bytes(), now), |row| row.get::<Option<Vec<u8>>>(0))? else {
        return Ok(());
    };
    // NULL stands for a value that is longer than any number.
    let number = decimal(key, value.as_deref().unwrap_or_default())?;
    match number.checked_add(delta) {
        None => {
            Err(StoreError::Overflow(format!("{number} + {delta} does not fit an integer of 64 bits (key `{key}`)")))
        }
        Some(_) => Ok(()),
    }
}

/// The parameters of `many`: the time, the keys, and NULL for the places that are left.
struct Keys<'a> {
    keys: &'a [&'a str],
    now: i64,
}

impl Bind for Keys<'_> {
    fn bind(self, params: &mut Params) {
        params.integer(self.now);
        for key in self.keys {
            params.blob(key.as_bytes());
        }
        for _ in self.keys.len()..places(self.keys.len()).1 {
            params.null();
        }
    }
}

/// Statements for many keys come in a few sizes, each prepared once.
const SIZES: [usize; 6] = [8, 32, 100, 256, 512, BATCH_ITEMS_MAX];

fn places(keys: usize) -> (usize, usize) {
    let index = SIZES.iter().position(|size| keys <= *size).unwrap_or(SIZES.len() - 1);
    (index, SIZES[index])
}

/// One statement sees one moment; so many keys are one statement.
fn many(keys: usize) -> Result<&'static Statement, SqlError> {
    thread_local! {
        static STATEMENTS: [OnceCell<&'static Statement>; SIZES.len()] =
            const { [const { OnceCell::new() }; SIZES.len()] };
    }
    let (index, size) = places(keys);
    STATEMENTS.with(|statements| {
        if let Some(statement) = statements[index].get() {
            return Ok(*statement);
        }
        let statement = Statement::prepare(&many_sql(size))?;
        Ok(*statements[index].get_or_init(|| Box::leak(Box::new(statement))))
    })
}

/// Joined with the keys as they were given, so that each row tells its place and no key travels back.
fn many_sql(size: usize) -> String {
    let mut sql = "SELECT wanted.column1, cache.value, cache.version FROM (VALUES".to_owned();
    for place in 0..size {
        let comma = if place == 0 { "" } else { "," };
        let _ = write!(sql, "{comma} ({place}, ?{})", place + 2);
    }
    sql.push_str(
        ") AS wanted CROSS JOIN cache ON cache.key = wanted.column2 WHERE cache.expires IS NULL OR cache.expires > ?1",
    );
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_for_many_keys_has_a_place_for_each() {
        for (keys, size) in [(1, 8), (8, 8), (9, 32), (257, 512), (1_000, 1_000)] {
            assert_eq!(places(keys).1, size);
        }
        assert!(many_sql(2).contains("(VALUES (0, ?2), (1, ?3)) AS wanted"));
    }
}
