//! The role `memory-store`.
//!
//! A memory's messages are numbered without gaps, so that counts and pages need no counting. A memory without messages has
//! no row, hence no time to live either. The flush flag is a thing of its own: it outlives the messages until it expires,
//! and only `clear` takes both away.

use compozy_sdk::sql::{self, Row, SqlError, statement};
use compozy_sdk::store::{
    Counts, DumpedMemory, HealthStatus, Keep, KeyPage, Lifetime, MemoryPage, MemoryStore, Message, MessagePage,
    Messages, Statistics, StoreError, slice,
};

use crate::page::Call;
use crate::report::{self, COUNTED_MAX};
use crate::{Sqlite, schema};
use compozy_sdk::store::rules::{
    check_batch, check_key, check_page, check_some, check_ttl, check_value, expires, lifetime, now,
};

mod head;
mod moving;
mod sweep;

use head::{Content, append, discard_expired, find};

/// How long a flush flag holds: 30 minutes.
const FLUSH_PENDING_MS: i64 = 30 * 60 * 1_000;
/// Offsets beyond this are as good as this: no memory has so many messages.
const OFFSET_MAX: u64 = 1 << 53;
/// The counts of a memory that is missing.
const NONE: Counts = Counts { messages: 0, tokens: 0 };
const LIST: Call = Call("memory.list:");

impl MemoryStore for Sqlite {
    fn append(key: String, messages: Messages, ttl_ms: Option<u64>, keep: Option<Keep>) -> Result<Counts, StoreError> {
        check_key("key", &key)?;
        check_some("messages", messages.list.len())?;
        let contents = contents(&messages)?;
        let ttl = check_ttl(ttl_ms)?;
        schema::ready()?;
        let now = now();
        sql::transaction(|| {
            // What would be trimmed away at once is not written at all.
            let skipped = match keep {
                Some(Keep::Messages(messages)) => contents.len().saturating_sub(messages as usize),
                _ => 0,
            };
            let written = &contents[skipped..];
            let head = if written.is_empty() {
                find(&key, now)?
            } else {
                Some(append(&key, written, expires(now, ttl), now)?)
            };
            let Some(mut head) = head else { return Ok(NONE) };
            if let Some(keep) = keep
                && head.trim(keep)?
            {
                head.store()?;
            }
            Ok(head.counts())
        })
    }

    fn read(key: String) -> Result<Messages, StoreError> {
        check_key("key", &key)?;
        schema::ready()?;
        let rows = statement!(
            "SELECT tokens, content FROM message
             WHERE memory = (SELECT id FROM memory WHERE key = ?1 AND (expires IS NULL OR expires > ?2)) ORDER BY number"
        )?
        .query((key.as_bytes(), now()))?;
        let list = rows.iter().map(message).collect::<Result<_, _>>()?;
        Ok(Messages { list, bytes: rows.into_bytes() })
    }

    fn page(key: String, offset: u64, limit: u32) -> Result<MessagePage, StoreError> {
        check_key("key", &key)?;
        check_page("limit", limit)?;
        schema::ready()?;
        // One statement, so that slice and total are of the same moment. The first row is there even if the slice is empty.
        let rows = statement!(
            "SELECT message.tokens, message.content, memory.next - memory.first FROM memory
             LEFT JOIN message ON message.memory = memory.id
                 AND message.number >= memory.first + ?2 AND message.number < memory.first + ?2 + ?3
             WHERE memory.key = ?1 AND (memory.expires IS NULL OR memory.expires > ?4) ORDER BY message.number"
        )?
        .query((key.as_bytes(), offset.min(OFFSET_MAX), limit, now()))?;
        let total = rows.first().map_or(Ok(0), |row| row.get(2))?;
        let mut list = Vec::with_capacity(rows.len());
        for row in rows.iter() {
            if row.get::<Option<u32>>(0)?.is_some() {
                list.push(message(row)?);
            }
        }
        Ok(MessagePage { messages: Messages { list, bytes: rows.into_bytes() }, total })
    }

    fn count(key: String) -> Result<Counts, StoreError> {
        check_key("key", &key)?;
        schema::ready()?;
        let read =
            statement!("SELECT next - first, tokens FROM memory WHERE key = ?1 AND (expires IS NULL OR expires > ?2)")?;
        let counts =
            read.query_row((key.as_bytes(), now()), |row| Ok(Counts { messages: row.get(0)?, tokens: row.get(1)? }))?;
        Ok(counts.unwrap_or(NONE))
    }

    fn replace(key: String, messages: Messages, ttl_ms: Option<u64>) -> Result<Counts, StoreError> {
        check_key("key", &key)?;
        let contents = contents(&messages)?;
        let ttl = check_ttl(ttl_ms)?;
        schema::ready()?;
        let now = now();
        sql::transaction(|| {
            let Some(mut head) = find(&key, now)? else {
                discard_expired(&key, now)?;
                let empty = contents.is_empty();
                return if empty { Ok(NONE) } else { Ok(append(&key, &contents, expires(now, ttl), now)?.counts()) };
            };
            head.cut(head.next)?;
            head.push(&contents)?;
            head.expires = expires(now, ttl).or(head.expires);
            head.store()?;
            Ok(head.counts())
        })
    }

    fn trim(key: String, keep: Keep) -> Result<Counts, StoreError> {
        check_key("key", &key)?;
        schema::ready()?;
        let now = now();
        sql::transaction(|| {
            let Some(mut head) = find(&key, now)? else { return Ok(NONE) };
            if head.trim(keep)? {
                head.store()?;
            }
            Ok(head.counts())
        })
    }

    fn clear(key: String) -> Result<bool, StoreError> {
        check_key("key", &key)?;
        schema::ready()?;
        let now = now();
        sql::transaction(|| {
            statement!("DELETE FROM flush WHERE key = ?1")?.execute((key.as_bytes(),))?;
            let Some(mut head) = find(&key, now)? else { return Ok(false) };
            head.cut(head.next)?;
            head.store()?;
            Ok(true)
        })
    }

    fn expire(key: String, ttl_ms: Option<u64>) -> Result<bool, StoreError> {
        check_key("key", &key)?;
        let ttl = check_ttl(ttl_ms)?;
        schema::ready()?;
        let now = now();
        let write = statement!("UPDATE memory SET expires = ?2 WHERE key = ?1 AND (expires IS NULL OR expires > ?3)")?;
        Ok(write.execute((key.as_bytes(), expires(now, ttl), now))? > 0)
    }

    fn ttl(key: String) -> Result<Lifetime, StoreError> {
        check_key("key", &key)?;
        schema::ready()?;
        let now = now();
        let read = statement!("SELECT expires FROM memory WHERE key = ?1 AND (expires IS NULL OR expires > ?2)")?;
        Ok(lifetime(now, read.query_row((key.as_bytes(), now), |row| row.get(0))?))
    }

    fn mark_flush_pending(key: String) -> Result<bool, StoreError> {
        check_key("key", &key)?;
        schema::ready()?;
        let now = now();
        let write = statement!(
            "INSERT INTO flush (key, expires) VALUES (?1, ?2)
             ON CONFLICT (key) DO UPDATE SET expires = excluded.expires WHERE flush.expires <= ?3"
        )?;
        Ok(write.execute((key.as_bytes(), now + FLUSH_PENDING_MS, now))? > 0)
    }

    fn is_flush_pending(key: String) -> Result<bool, StoreError> {
        check_key("key", &key)?;
        schema::ready()?;
        let read = statement!("SELECT 1 FROM flush WHERE key = ?1 AND expires > ?2")?;
        Ok(!read.query((key.as_bytes(), now()))?.is_empty())
    }

    fn clear_flush_pending(key: String) -> Result<bool, StoreError> {
        check_key("key", &key)?;
        schema::ready()?;
        let remove = statement!("DELETE FROM flush WHERE key = ?1 RETURNING expires > ?2")?;
        Ok(remove.query_row((key.as_bytes(), now()), |row| row.get(0))?.unwrap_or(false))
    }

    fn list(prefix: String, cursor: Option<String>, max: u32) -> Result<KeyPage, StoreError> {
        check_page("max", max)?;
        let range = LIST.range(&prefix, cursor.as_deref())?;
        schema::ready()?;
        let read = statement!(
            "SELECT key FROM memory WHERE key >= ?1 AND key < ?2 AND (expires IS NULL OR expires > ?3) ORDER BY key LIMIT ?4"
        )?;
        range.keys(&read.query((&range.lower, &range.upper, now(), max + 1))?, max)
    }

    fn health() -> Result<HealthStatus, StoreError> {
        report::health()
    }

    fn stats() -> Result<Statistics, StoreError> {
        schema::ready()?;
        let count = statement!(
            "SELECT count(*), coalesce(sum(messages), 0) FROM (SELECT next - first AS messages FROM memory LIMIT ?1)"
        )?;
        let found = count.query_row((COUNTED_MAX + 1,), |row| Ok((report::counted(row)?, row.get::<u64>(1)?)))?;
        let (entries, messages) = found.unwrap_or_default();
        let messages = if entries.is_some() { messages.to_string() } else { format!("more than {messages}") };
        report::statistics(entries, vec![("messages".to_owned(), messages)])
    }

    fn sweep(max: u32) -> Result<u32, StoreError> {
        check_page("max", max)?;
        schema::ready()?;
        sweep::sweep(max)
    }

    fn dump(cursor: Option<String>, max: u32) -> Result<MemoryPage, StoreError> {
        check_page("max", max)?;
        moving::dump(cursor.as_deref(), max)
    }

    fn load(memories: Vec<DumpedMemory>, messages: Messages) -> Result<(), StoreError> {
        moving::load(&memories, &messages)
    }
}

/// The messages' contents and costs, each checked.
fn contents(messages: &Messages) -> Result<Vec<Content<'_>>, StoreError> {
    check_batch(messages.list.len())?;
    let checked = messages.list.iter().map(|message| {
        let content = slice(&messages.bytes, message.span)?;
        check_value(content.len())?;
        Ok((content, message.tokens))
    });
    checked.collect()
}

/// A message from a row of tokens and content.
fn message(row: Row<'_>) -> Result<Message, SqlError> {
    Ok(Message { tokens: row.get(0)?, span: row.span(1)? })
}
