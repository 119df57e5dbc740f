//! Dump and load. A page holds parts of several streams; its cursor names a stream and a sequence, so that also one large
//! stream comes in pages.

use compozy_sdk::sql::{self, Rows, SqlError, statement};
use compozy_sdk::store::{DumpedStream, Event, StoreError, StreamPage, slice};

use super::{Head, SEQUENCE_MAX, opened, store};
use crate::bulk::{Bulk, Insert};
use crate::page::{Call, HEADS_MAX, PAGE_BYTES_MAX, fitting, foreign, key};
use crate::schema;
use compozy_sdk::store::rules::{KEY_BYTES_MAX, check_batch, check_key, check_value};

/// A cursor is the sequence after which the stream goes on, or 0 for the stream that comes after it.
const DUMP: Call = Call("events.dump:");

thread_local! {
    static LOAD: Bulk = const { Bulk::new(Insert {
        into: "INSERT INTO event (stream, sequence, time, payload) VALUES",
        row: "(?1, $1, $2, $3)",
        end: "ON CONFLICT (stream, sequence) DO NOTHING",
        shared: 1,
        own: 3,
    }) };
}

pub(super) fn dump(cursor: Option<&str>, max: u32) -> Result<StreamPage, StoreError> {
    let (from, lower) = match cursor {
        None => (0, Vec::new()),
        Some(cursor) => match DUMP.places::<1>(cursor) {
            Some(([from], name)) if name.len() <= KEY_BYTES_MAX && from <= SEQUENCE_MAX => (from, after(from, name)),
            _ => return Err(foreign(cursor)),
        },
    };
    schema::ready()?;
    let streams = statement!(
        "SELECT id, name, floor, max(last, coalesce((SELECT max(sequence) FROM event WHERE stream = stream.id), 0))
         FROM stream WHERE name >= ?1 ORDER BY name LIMIT ?2"
    )?
    .query((&lower, HEADS_MAX))?;
    let mut page = StreamPage { streams: Vec::new(), events: Vec::new(), bytes: Vec::new(), next: None };
    for row in streams.iter() {
        let (id, name) = (row.get::<i64>(0)?, key(row, 1)?);
        // Only the stream that the cursor names goes on in its middle.
        let start = (if name.as_bytes() == lower { from } else { 0 }).max(row.get(2)?);
        let Part { events, next } = part(&mut page, id, start, max)?;
        if events == 0 && next.is_some() && !page.streams.is_empty() {
            page.next = page.streams.last().map(|stream| DUMP.cursor(&[0], &stream.stream));
            return Ok(page);
        }
        let newest = page.events.last().filter(|_| events > 0).map_or(0, |event| event.sequence);
        page.next = next.map(|next| DUMP.cursor(&[next], &name));
        page.streams.push(DumpedStream { stream: name, last: row.get::<u64>(3)?.max(newest), events });
        if page.next.is_some() {
            return Ok(page);
        }
    }
    if streams.len() == HEADS_MAX as usize {
        page.next = page.streams.last().map(|stream| DUMP.cursor(&[0], &stream.stream));
    }
    Ok(page)
}

/// The least name that a page after this cursor can have.
fn after(from: u64, name: &str) -> Vec<u8> {
    let end: &[u8] = if from == 0 { &[0] } else { &[] };
    [name.as_bytes(), end].concat()
}

/// What a page took of one stream.
struct Part {
    events: u32,
    /// Where the stream goes on, if it was not taken to its end.
    next: Option<u64>,
}

/// Adds events of one stream to the page, as many as there is room for.
fn part(page: &mut StreamPage, id: i64, start: u64, max: u32) -> Result<Part, SqlError> {
    let places = max.saturating_sub(page.events.len() as u32);
    let lengths = statement!(
        "SELECT length(payload) FROM event WHERE stream = ?1 AND sequence >= ?2 ORDER BY sequence LIMIT ?3"
    )?
    .query((id, start, places + 1))?;
    let room = PAGE_BYTES_MAX.saturating_sub(page.bytes.len() as u64);
    let mut count = fitting(lengths.iter().take(places as usize).map(|row| row.get(0)), room)?;
    if count == 1 && !page.events.is_empty() && lengths.first().map_or(Ok(0), |row| row.get::<u64>(0))? > room {
        // It travels alone, with the next page.
        count = 0;
    }
    if count == 0 {
        return Ok(Part { events: 0, next: (!lengths.is_empty()).then_some(start) });
    }
    let rows = statement!(
        "SELECT sequence, time, payload FROM event WHERE stream = ?1 AND sequence >= ?2 ORDER BY sequence LIMIT ?3"
    )?
    .query((id, start, count as u32))?;
    let (events, more) = (rows.len() as u32, lengths.len() > count);
    take(page, rows)?;
    let next = page.events.last().filter(|_| events > 0).map_or(start, |event| event.sequence + 1);
    Ok(Part { events, next: more.then_some(next) })
}

fn take(page: &mut StreamPage, rows: Rows) -> Result<(), SqlError> {
    let base = page.bytes.len() as u32;
    for row in rows.iter() {
        let mut payload = row.span(2)?;
        payload.offset += base;
        page.events.push(Event { sequence: row.get(0)?, time_ms: row.get(1)?, payload });
    }
    let bytes = rows.into_bytes();
    if page.bytes.is_empty() {
        page.bytes = bytes;
    } else {
        page.bytes.extend_from_slice(&bytes);
    }
    Ok(())
}

pub(super) fn load(streams: &[DumpedStream], events: &[Event], bytes: &[u8]) -> Result<(), StoreError> {
    check_batch(streams.len())?;
    check_batch(events.len())?;
    let expected: u64 = streams.iter().map(|stream| u64::from(stream.events)).sum();
    if expected != events.len() as u64 {
        let given = events.len();
        return Err(StoreError::InvalidArgument(format!(
            "the streams of the page have {expected} events, but {given} were given"
        )));
    }
    let (mut rows, mut rest) = (Vec::with_capacity(streams.len()), events);
    for stream in streams {
        let (own, after) = rest.split_at(stream.events as usize);
        rows.push(checked(stream, own, bytes)?);
        rest = after;
    }
    schema::ready()?;
    sql::transaction(|| streams.iter().zip(&rows).try_for_each(|(stream, rows)| load_one(stream, rows)))
}

/// Sequence, time and payload.
type EventRow<'a> = (i64, i64, &'a [u8]);

fn checked<'a>(stream: &DumpedStream, events: &[Event], bytes: &'a [u8]) -> Result<Vec<EventRow<'a>>, StoreError> {
    let name = &stream.stream;
    check_key("stream", name)?;
    let mut rows = Vec::with_capacity(events.len());
    let mut before = 0;
    for event in events {
        let sequence = event.sequence;
        if sequence <= before {
            return Err(StoreError::InvalidArgument(format!(
                "the stream `{name}` has the sequence {sequence} after {before}; sequences begin with 1 and grow"
            )));
        }
        before = sequence;
        let payload = slice(bytes, event.payload)?;
        check_value(payload.len())?;
        rows.push((sequence.cast_signed(), event.time_ms.min(SEQUENCE_MAX).cast_signed(), payload));
    }
    let greatest = before.max(stream.last);
    if greatest > SEQUENCE_MAX {
        return Err(StoreError::InvalidArgument(format!(
            "the stream `{name}` has the sequence {greatest}, but {SEQUENCE_MAX} is the greatest that can be loaded"
        )));
    }
    Ok(rows)
}

fn load_one(stream: &DumpedStream, rows: &[EventRow<'_>]) -> Result<(), StoreError> {
    if stream.last == 0 && rows.is_empty() {
        return Ok(());
    }
    let head = opened(&stream.stream)?;
    let first = rows.first().map(|(sequence, ..)| *sequence);
    if first.is_some_and(|first| first < head.floor) {
        // What was trimmed, but still waits to be removed, must not come back with a floor that sinks.
        statement!("DELETE FROM event WHERE stream = ?1 AND sequence < ?2")?.execute((head.id, head.floor))?;
    }
    let written = LOAD.with(|bulk| {
        bulk.write(
            rows,
            |(.., payload)| payload.len(),
            |params| params.integer(head.id),
            |(sequence, time, payload), params| {
                params.integer(*sequence);
                params.integer(*time);
                params.blob(payload);
            },
        )
    })?;
    let newest = rows.last().map_or((0, 0), |(sequence, time, _)| (*sequence, *time));
    let last = head.last.max(stream.last.cast_signed()).max(newest.0);
    let floor = match (head.length(), first) {
        (0, first) => first.unwrap_or(last + 1),
        (_, first) => first.map_or(head.floor, |first| first.min(head.floor)),
    };
    let missing = last - floor + 1 - head.length() - written.cast_signed();
    store(&Head { last, floor, missing, time: head.time.max(newest.1), ..head })?;
    Ok(())
}
