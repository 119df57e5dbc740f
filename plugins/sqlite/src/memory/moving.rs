//! Dump and load. A page holds parts of several memories; its cursor names a memory and the messages of it that were
//! returned, so that also one large memory comes in pages.

use compozy_sdk::sql::{self, Row, Rows, SqlError, statement};
use compozy_sdk::store::{DumpedMemory, MemoryPage, Message, Messages, StoreError};

use super::head::{Content, Head, append, discard_expired, find};
use super::{contents, message};
use crate::page::{Call, HEADS_MAX, PAGE_BYTES_MAX, fitting, foreign, key};
use crate::schema;
use compozy_sdk::store::rules::{KEY_BYTES_MAX, check_batch, check_key, check_ttl, expires, now, remaining};

/// A cursor is: the memory's row, or 0 for the memory that comes after it; the number of its next message; and how many
/// of its messages were returned.
const DUMP: Call = Call("memory.dump:");

/// What a dump needs of a memory, or of a flush flag without messages.
struct Found {
    key: String,
    id: Option<i64>,
    first: i64,
    next: i64,
    ttl_ms: Option<u64>,
    flush_pending_ms: Option<u64>,
}

pub(super) fn dump(cursor: Option<&str>, max: u32) -> Result<MemoryPage, StoreError> {
    let (resumed, lower) = match cursor {
        None => ([0; 3], Vec::new()),
        Some(cursor) => match DUMP.places::<3>(cursor) {
            Some((place, key)) if key.len() <= KEY_BYTES_MAX => (place, after(place, key)),
            _ => return Err(foreign(cursor)),
        },
    };
    schema::ready()?;
    let found = memories(&lower)?;
    let mut page =
        MemoryPage { memories: Vec::new(), messages: Messages { list: Vec::new(), bytes: Vec::new() }, next: None };
    for found in &found {
        let resumed = if found.key.as_bytes() == lower { resumed } else { [0; 3] };
        let (number, offset) = begin(found, resumed);
        let Part { messages, next } = part(&mut page.messages, found, number, max)?;
        if messages == 0 && next.is_some() && !page.memories.is_empty() {
            page.next = page.memories.last().map(|memory| DUMP.cursor(&[0; 3], &memory.key));
            return Ok(page);
        }
        let id = found.id.unwrap_or(0).unsigned_abs();
        page.next = next.map(|next| DUMP.cursor(&[id, next.unsigned_abs(), offset + u64::from(messages)], &found.key));
        let Found { key, ttl_ms, flush_pending_ms, .. } = found;
        page.memories.push(DumpedMemory {
            key: key.clone(),
            ttl_ms: *ttl_ms,
            flush_pending_ms: *flush_pending_ms,
            offset,
            messages,
        });
        if page.next.is_some() {
            return Ok(page);
        }
    }
    if found.len() == HEADS_MAX as usize {
        page.next = page.memories.last().map(|memory| DUMP.cursor(&[0; 3], &memory.key));
    }
    Ok(page)
}

/// The least key that a page after this cursor can have.
fn after([id, ..]: [u64; 3], key: &str) -> Vec<u8> {
    let end: &[u8] = if id == 0 { &[0] } else { &[] };
    [key.as_bytes(), end].concat()
}

/// Memories and flush flags from a key on. Both tables are read in the order of their keys and merged.
fn memories(lower: &[u8]) -> Result<Vec<Found>, SqlError> {
    let now = now();
    let rows = statement!(
        "SELECT both.key, memory.id, memory.first, memory.next, memory.expires, flush.expires FROM (
             SELECT key FROM memory WHERE key >= ?1 AND (expires IS NULL OR expires > ?2)
             UNION SELECT key FROM flush WHERE key >= ?1 AND expires > ?2
             ORDER BY key LIMIT ?3) AS both
         LEFT JOIN memory ON memory.key = both.key AND (memory.expires IS NULL OR memory.expires > ?2)
         LEFT JOIN flush ON flush.key = both.key AND flush.expires > ?2
         ORDER BY both.key"
    )?
    .query((lower, now, HEADS_MAX))?;
    let found = |row: Row<'_>| {
        Ok(Found {
            key: key(row, 0)?,
            id: row.get(1)?,
            first: row.get::<Option<i64>>(2)?.unwrap_or(0),
            next: row.get::<Option<i64>>(3)?.unwrap_or(0),
            ttl_ms: remaining(now, row.get(4)?),
            flush_pending_ms: remaining(now, row.get(5)?),
        })
    };
    rows.iter().map(found).collect()
}

/// The number of the first message to return, and how many were returned before. A memory that has lost all of those, or is another one
/// by now, begins again: loading that replaces what came before.
fn begin(found: &Found, [id, number, offset]: [u64; 3]) -> (i64, u64) {
    let number = number.cast_signed();
    let same = found.id == Some(id.cast_signed());
    if same && (found.first + 1..=found.next).contains(&number) { (number, offset) } else { (found.first, 0) }
}

/// What a page took of one memory.
struct Part {
    messages: u32,
    /// The number with which the memory goes on, if it was not taken to its end.
    next: Option<i64>,
}

/// Adds messages of one memory to the page, as many as there is room for.
fn part(page: &mut Messages, found: &Found, number: i64, max: u32) -> Result<Part, SqlError> {
    let Some(id) = found.id else { return Ok(Part { messages: 0, next: None }) };
    let places = max.saturating_sub(page.list.len() as u32);
    let lengths =
        statement!("SELECT length(content) FROM message WHERE memory = ?1 AND number >= ?2 ORDER BY number LIMIT ?3")?
            .query((id, number, places + 1))?;
    let room = PAGE_BYTES_MAX.saturating_sub(page.bytes.len() as u64);
    let mut count = fitting(lengths.iter().take(places as usize).map(|row| row.get(0)), room)?;
    if count == 1 && !page.list.is_empty() && lengths.first().map_or(Ok(0), |row| row.get::<u64>(0))? > room {
        // It travels alone, with the next page.
        count = 0;
    }
    if count == 0 {
        return Ok(Part { messages: 0, next: (!lengths.is_empty()).then_some(number) });
    }
    let rows = statement!(
        "SELECT tokens, content, number FROM message WHERE memory = ?1 AND number >= ?2 ORDER BY number LIMIT ?3"
    )?
    .query((id, number, count as u32))?;
    let (messages, more) = (rows.len() as u32, lengths.len() > count);
    let next = rows.iter().last().map_or(Ok(number), |row| row.get::<i64>(2).map(|last| last + 1))?;
    take(page, rows)?;
    Ok(Part { messages, next: more.then_some(next) })
}

fn take(page: &mut Messages, rows: Rows) -> Result<(), SqlError> {
    let base = page.bytes.len() as u32;
    for row in rows.iter() {
        let Message { mut span, tokens } = message(row)?;
        span.offset += base;
        page.list.push(Message { span, tokens });
    }
    let bytes = rows.into_bytes();
    if page.bytes.is_empty() {
        page.bytes = bytes;
    } else {
        page.bytes.extend_from_slice(&bytes);
    }
    Ok(())
}

pub(super) fn load(memories: &[DumpedMemory], messages: &Messages) -> Result<(), StoreError> {
    check_batch(memories.len())?;
    let contents = contents(messages)?;
    let expected: u64 = memories.iter().map(|memory| u64::from(memory.messages)).sum();
    if expected != contents.len() as u64 {
        let given = contents.len();
        return Err(StoreError::InvalidArgument(format!(
            "the memories of the page have {expected} messages, but {given} were given"
        )));
    }
    for memory in memories {
        check_key("key", &memory.key)?;
        check_ttl(memory.ttl_ms)?;
        check_ttl(memory.flush_pending_ms)?;
    }
    schema::ready()?;
    let now = now();
    sql::transaction(|| {
        let mut rest = contents.as_slice();
        for memory in memories {
            let (own, after) = rest.split_at(memory.messages as usize);
            load_one(memory, own, now)?;
            rest = after;
        }
        Ok(())
    })
}

fn load_one(memory: &DumpedMemory, contents: &[Content<'_>], now: i64) -> Result<(), StoreError> {
    let key = &memory.key;
    match expires(now, check_ttl(memory.flush_pending_ms)?) {
        Some(at) => statement!(
            "INSERT INTO flush (key, expires) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET expires = excluded.expires"
        )?
        .execute((key.as_bytes(), at))?,
        None => statement!("DELETE FROM flush WHERE key = ?1")?.execute((key.as_bytes(),))?,
    };
    let expires = expires(now, check_ttl(memory.ttl_ms)?);
    let head = find(key, now)?;
    let there = head.map_or(0, Head::messages);
    if memory.offset > there {
        return Err(StoreError::InvalidArgument(format!(
            "the page goes on after {} messages of the memory `{key}`, of which there are {there}; load the pages in order",
            memory.offset
        )));
    }
    let Some(mut head) = head else {
        discard_expired(key, now)?;
        return if contents.is_empty() { Ok(()) } else { append(key, contents, expires, now).map(drop) };
    };
    head.cut_end(head.first.saturating_add_unsigned(memory.offset))?;
    head.push(contents)?;
    head.expires = expires;
    Ok(head.store()?)
}
