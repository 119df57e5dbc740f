//! The role `config-store`.

use compozy_sdk::sql::{self, statement};
use compozy_sdk::store::{
    ConfigPage, ConfigStore, DumpedConfig, HealthStatus, KeyPage, Namespace, Statistics, StoreError, slice,
};

use crate::page::{Call, PagePlan, key};
use crate::report::{self, COUNTED_MAX};
use crate::{Sqlite, schema};
use compozy_sdk::store::rules::{check_batch, check_key, check_page, check_ttl, check_value, expires, now, remaining};

/// The number that stands for a namespace in the tables. Never change one.
fn number(namespace: Namespace) -> i64 {
    match namespace {
        Namespace::Config => 1,
        Namespace::Metadata => 2,
    }
}

/// Whose cursors are whose: a cursor of one namespace is none of the other.
const fn list_call(namespace: Namespace) -> Call {
    match namespace {
        Namespace::Config => Call("config.list:"),
        Namespace::Metadata => Call("metadata.list:"),
    }
}

const fn dump_call(namespace: Namespace) -> Call {
    match namespace {
        Namespace::Config => Call("config.dump:"),
        Namespace::Metadata => Call("metadata.dump:"),
    }
}

impl ConfigStore for Sqlite {
    fn save(namespace: Namespace, id: String, value: Vec<u8>, ttl_ms: Option<u64>) -> Result<(), StoreError> {
        check_key("id", &id)?;
        check_value(value.len())?;
        let ttl = check_ttl(ttl_ms)?;
        schema::ready()?;
        statement!(
            "INSERT INTO config (value, namespace, id, ttl, expires) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (namespace, id) DO UPDATE SET value = excluded.value, ttl = excluded.ttl, expires = excluded.expires"
        )?
        .execute((value, number(namespace), id.as_bytes(), ttl, expires(now(), ttl)))?;
        Ok(())
    }

    fn get(namespace: Namespace, id: String) -> Result<Option<Vec<u8>>, StoreError> {
        check_key("id", &id)?;
        schema::ready()?;
        let (number, now) = (number(namespace), now());
        // Most of what has no time to live is metadata, and read often: there is nothing to reset, so nothing is written.
        let kept = statement!("SELECT value FROM config WHERE namespace = ?1 AND id = ?2 AND ttl IS NULL")?;
        let rows = kept.query((number, id.as_bytes()))?;
        if !rows.is_empty() {
            return Ok(Some(rows.into_blob(0)?));
        }
        // `expires` stays NULL for an id that is kept from now on, because NULL plus anything is NULL.
        let rows = statement!(
            "UPDATE config SET expires = ?3 + ttl
             WHERE namespace = ?1 AND id = ?2 AND (expires IS NULL OR expires > ?3) RETURNING value"
        )?
        .query((number, id.as_bytes(), now))?;
        if rows.is_empty() { Ok(None) } else { Ok(Some(rows.into_blob(0)?)) }
    }

    fn peek(namespace: Namespace, id: String) -> Result<Option<Vec<u8>>, StoreError> {
        check_key("id", &id)?;
        schema::ready()?;
        let rows = statement!(
            "SELECT value FROM config WHERE namespace = ?1 AND id = ?2 AND (expires IS NULL OR expires > ?3)"
        )?
        .query((number(namespace), id.as_bytes(), now()))?;
        if rows.is_empty() { Ok(None) } else { Ok(Some(rows.into_blob(0)?)) }
    }

    fn delete(namespace: Namespace, id: String) -> Result<bool, StoreError> {
        check_key("id", &id)?;
        schema::ready()?;
        let remove = statement!(
            "DELETE FROM config WHERE namespace = ?1 AND id = ?2 RETURNING expires IS NULL OR expires > ?3"
        )?;
        Ok(remove.query_row((number(namespace), id.as_bytes(), now()), |row| row.get(0))?.unwrap_or(false))
    }

    fn list(namespace: Namespace, prefix: String, cursor: Option<String>, max: u32) -> Result<KeyPage, StoreError> {
        check_page("max", max)?;
        let range = list_call(namespace).range(&prefix, cursor.as_deref())?;
        schema::ready()?;
        let read = statement!(
            "SELECT id FROM config WHERE namespace = ?5 AND id >= ?1 AND id < ?2 AND (expires IS NULL OR expires > ?3)
             ORDER BY id LIMIT ?4"
        )?;
        range.keys(&read.query((&range.lower, &range.upper, now(), max + 1, number(namespace)))?, max)
    }

    fn health() -> Result<HealthStatus, StoreError> {
        report::health()
    }

    fn stats() -> Result<Statistics, StoreError> {
        schema::ready()?;
        let count = statement!("SELECT count(*) FROM (SELECT 1 FROM config LIMIT ?1)")?;
        report::statistics(count.query_row((COUNTED_MAX + 1,), report::counted)?.flatten(), Vec::new())
    }

    fn sweep(max: u32) -> Result<u32, StoreError> {
        check_page("max", max)?;
        schema::ready()?;
        let now = now();
        // Looked at first: a sweep that finds nothing must not wait for the writers.
        if statement!("SELECT 1 FROM config WHERE expires <= ?1 LIMIT 1")?.query((now,))?.is_empty() {
            return Ok(0);
        }
        let remove = statement!(
            "DELETE FROM config WHERE rowid IN (SELECT rowid FROM config WHERE expires <= ?1 ORDER BY expires LIMIT ?2)"
        )?;
        Ok(remove.execute((now, max))? as u32)
    }

    fn dump(namespace: Namespace, cursor: Option<String>, max: u32) -> Result<ConfigPage, StoreError> {
        check_page("max", max)?;
        let range = dump_call(namespace).range("", cursor.as_deref())?;
        schema::ready()?;
        let now = now();
        let sizes = statement!(
            "SELECT id, length(value) FROM config
             WHERE namespace = ?5 AND id >= ?1 AND id < ?2 AND (expires IS NULL OR expires > ?3) ORDER BY id LIMIT ?4"
        )?
        .query((&range.lower, &range.upper, now, max + 1, number(namespace)))?;
        let Some(page) = PagePlan::new(&sizes, max)? else {
            return Ok(ConfigPage { entries: Vec::new(), bytes: Vec::new(), next: None });
        };
        let rows = statement!(
            "SELECT id, value, ttl, expires FROM config
             WHERE namespace = ?5 AND id >= ?1 AND id <= ?2 AND (expires IS NULL OR expires > ?3) ORDER BY id LIMIT ?4"
        )?
        .query((&range.lower, page.last.as_bytes(), now, page.entries, number(namespace)))?;
        let mut entries = Vec::with_capacity(rows.len());
        for row in rows.iter() {
            let (ttl_ms, remaining_ms) = (row.get(2)?, remaining(now, row.get(3)?));
            entries.push(DumpedConfig { id: key(row, 0)?, value: row.span(1)?, ttl_ms, remaining_ms });
        }
        let next = page.next(&range, entries.len(), entries.last().map(|entry| entry.id.as_str()));
        Ok(ConfigPage { entries, bytes: rows.into_bytes(), next })
    }

    fn load(namespace: Namespace, entries: Vec<DumpedConfig>, bytes: Vec<u8>) -> Result<(), StoreError> {
        check_batch(entries.len())?;
        let mut rows = Vec::with_capacity(entries.len());
        for entry in &entries {
            check_key("id", &entry.id)?;
            let value = slice(&bytes, entry.value)?;
            check_value(value.len())?;
            let (ttl, left) = (check_ttl(entry.ttl_ms)?, check_ttl(entry.remaining_ms)?);
            if ttl.is_some() != left.is_some() {
                return Err(StoreError::InvalidArgument(format!(
                    "the id `{}` has a time to live of {:?} ms with {:?} ms left; give both or none",
                    entry.id, entry.ttl_ms, entry.remaining_ms
                )));
            }
            // More can be left than there is in full where a clock was turned back.
            rows.push((value, entry.id.as_bytes(), ttl, left.min(ttl)));
        }
        schema::ready()?;
        let now = now();
        let write = statement!(
            "INSERT INTO config (value, namespace, id, ttl, expires) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (namespace, id) DO UPDATE SET value = excluded.value, ttl = excluded.ttl, expires = excluded.expires"
        )?;
        sql::transaction(|| {
            for (value, id, ttl, left) in rows {
                write.execute((value, number(namespace), id, ttl, expires(now, left)))?;
            }
            Ok(())
        })
    }
}
