//! The role `memory-store`.
//!
//! A memory's messages are numbered without gaps, so that counts and pages need no counting. A memory without messages has
//! no row, hence no time to live either. The flush flag is a thing of its own: it outlives the messages until it expires,
//! and only `clear` takes both away.

use compozy_sdk::sql::{self, Row, SqlError, statement};
use compozy_sdk::store::{
    Counts, HealthStatus, KeyPage, Lifetime, MemoryStore, Message, MessagePage, Messages, StoreError, slice,
};

use crate::common::{
    BATCH_ITEMS_MAX, Range, SWEEP_ROWS, check_batch, check_key, check_page, check_ttl, check_value, expires, key_page,
    lifetime, now, sweep_now,
};
use crate::{Sqlite, schema};

/// How long a flush flag holds: 30 minutes.
const FLUSH_PENDING_MS: i64 = 30 * 60 * 1_000;
/// How many messages of an expired memory one sweep removes.
const SWEEP_MESSAGES: u32 = 256;
/// Offsets beyond this are as good as this: no memory has so many messages.
const OFFSET_MAX: u64 = 1 << 53;

/// The row of a memory.
#[derive(Clone, Copy)]
struct Head {
    id: i64,
    /// The number of the oldest message.
    first: i64,
    /// The number that the next message will get.
    next: i64,
    tokens: u64,
    expires: Option<i64>,
}

impl Head {
    fn counts(self) -> Counts {
        Counts { messages: self.next.abs_diff(self.first), tokens: self.tokens }
    }
}

impl MemoryStore for Sqlite {
    fn append(
        key: String,
        messages: Messages,
        ttl_ms: Option<u64>,
        keep_last: Option<u32>,
    ) -> Result<Counts, StoreError> {
        check_key("key", &key)?;
        if messages.list.is_empty() {
            return Err(StoreError::InvalidArgument(format!(
                "there are no messages to append; give 1 to {BATCH_ITEMS_MAX}"
            )));
        }
        let contents = contents(&messages)?;
        let ttl = check_ttl(ttl_ms)?;
        schema::ready()?;
        let now = now();
        sql::transaction(|| {
            let mut head = open(&key, now)?;
            // What would be trimmed away at once is not written at all.
            let skipped = contents.len().saturating_sub(keep_last.map_or(usize::MAX, |keep| keep as usize));
            write(&mut head, &contents[skipped..])?;
            if let Some(keep) = keep_last {
                trim(&mut head, keep)?;
            }
            if ttl.is_some() {
                head.expires = expires(now, ttl);
            }
            close(head)?;
            sweep(now)?;
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
        Ok(counts.unwrap_or(Counts { messages: 0, tokens: 0 }))
    }

    fn replace(key: String, messages: Messages, ttl_ms: Option<u64>) -> Result<Counts, StoreError> {
        check_key("key", &key)?;
        let contents = contents(&messages)?;
        let ttl = check_ttl(ttl_ms)?;
        schema::ready()?;
        let now = now();
        sql::transaction(|| {
            let mut head = open(&key, now)?;
            trim(&mut head, 0)?;
            write(&mut head, &contents)?;
            if ttl.is_some() {
                head.expires = expires(now, ttl);
            }
            close(head)?;
            sweep(now)?;
            Ok(head.counts())
        })
    }

    fn trim(key: String, keep_last: u32) -> Result<Counts, StoreError> {
        check_key("key", &key)?;
        schema::ready()?;
        let now = now();
        sql::transaction(|| {
            let Some(mut head) = find(&key, now)? else { return Ok(Counts { messages: 0, tokens: 0 }) };
            trim(&mut head, keep_last)?;
            close(head)?;
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
            trim(&mut head, 0)?;
            close(head)?;
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
        let range = Range::new(&prefix, cursor.as_deref())?;
        schema::ready()?;
        let read = statement!(
            "SELECT key FROM memory WHERE key >= ?1 AND key < ?2 AND (expires IS NULL OR expires > ?3) ORDER BY key LIMIT ?4"
        )?;
        key_page(&read.query((&range.lower, &range.upper, now(), max + 1))?, max)
    }

    fn health() -> Result<HealthStatus, StoreError> {
        schema::health()
    }
}

/// The messages' contents and costs, each checked.
fn contents(messages: &Messages) -> Result<Vec<(&[u8], u32)>, StoreError> {
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

/// The memory of this key, unless it is missing or expired.
fn find(key: &str, now: i64) -> Result<Option<Head>, StoreError> {
    let head = stored(key)?;
    Ok(head.filter(|head| head.expires.is_none_or(|at| at > now)))
}

fn stored(key: &str) -> Result<Option<Head>, StoreError> {
    let read = statement!("SELECT id, first, next, tokens, expires FROM memory WHERE key = ?1")?;
    Ok(read.query_row((key.as_bytes(),), |row| {
        Ok(Head { id: row.get(0)?, first: row.get(1)?, next: row.get(2)?, tokens: row.get(3)?, expires: row.get(4)? })
    })?)
}

/// The memory of this key, to be written. An expired one begins again with nothing; a missing one gets its row.
fn open(key: &str, now: i64) -> Result<Head, StoreError> {
    if let Some(mut head) = stored(key)? {
        if head.expires.is_some_and(|at| at <= now) {
            trim(&mut head, 0)?;
            head.expires = None;
        }
        return Ok(head);
    }
    let write = statement!("INSERT INTO memory (key, first, next, tokens) VALUES (?1, 0, 1, 0) RETURNING id")?;
    let id = write.query_row((key.as_bytes(),), |row| row.get(0))?;
    let id = id.ok_or_else(|| StoreError::Internal("a new memory got no id".to_owned()))?;
    Ok(Head { id, first: 0, next: 0, tokens: 0, expires: None })
}

/// Writes the memory's row; one without messages goes.
fn close(head: Head) -> Result<(), StoreError> {
    if head.first == head.next {
        statement!("DELETE FROM memory WHERE id = ?1")?.execute((head.id,))?;
    } else {
        statement!("UPDATE memory SET first = ?2, next = ?3, tokens = ?4, expires = ?5 WHERE id = ?1")?.execute((
            head.id,
            head.first,
            head.next,
            head.tokens,
            head.expires,
        ))?;
    }
    Ok(())
}

/// Adds messages at the end.
fn write(head: &mut Head, contents: &[(&[u8], u32)]) -> Result<(), StoreError> {
    let insert = statement!("INSERT INTO message (content, memory, number, tokens) VALUES (?1, ?2, ?3, ?4)")?;
    for (content, tokens) in contents {
        insert.execute((*content, head.id, head.next, *tokens))?;
        head.next += 1;
        head.tokens += u64::from(*tokens);
    }
    Ok(())
}

/// Keeps the last messages. What goes takes its tokens with it.
fn trim(head: &mut Head, keep_last: u32) -> Result<(), StoreError> {
    let first = head.first.max(head.next - i64::from(keep_last));
    if first == head.first {
        return Ok(());
    }
    let sum = statement!("SELECT sum(tokens) FROM message WHERE memory = ?1 AND number < ?2")?;
    let removed = sum.query_row((head.id, first), |row| row.get::<Option<u64>>(0))?.flatten().unwrap_or(0);
    statement!("DELETE FROM message WHERE memory = ?1 AND number < ?2")?.execute((head.id, first))?;
    head.tokens = head.tokens.checked_sub(removed).ok_or_else(|| {
        StoreError::Internal(format!("a memory of {} tokens lost {removed} of them by trimming", head.tokens))
    })?;
    head.first = first;
    Ok(())
}

/// Gives back the room of what has expired, now and then and in small steps. Runs in the transaction of a write, because
/// another instance could begin an expired memory anew.
fn sweep(now: i64) -> Result<(), StoreError> {
    if !sweep_now() {
        return Ok(());
    }
    statement!("DELETE FROM flush WHERE key IN (SELECT key FROM flush WHERE expires <= ?1 ORDER BY expires LIMIT ?2)")?
        .execute((now, SWEEP_ROWS))?;
    let oldest = statement!("SELECT id FROM memory WHERE expires <= ?1 ORDER BY expires LIMIT 1")?;
    let Some(id) = oldest.query_row((now,), |row| row.get::<i64>(0))? else { return Ok(()) };
    let removed = statement!(
        "DELETE FROM message WHERE memory = ?1
         AND number < (SELECT min(number) FROM message WHERE memory = ?1) + ?2"
    )?
    .execute((id, SWEEP_MESSAGES))?;
    if removed < u64::from(SWEEP_MESSAGES) {
        statement!("DELETE FROM memory WHERE id = ?1")?.execute((id,))?;
    }
    Ok(())
}
