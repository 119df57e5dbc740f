//! The role `events`.
//!
//! A stream's events are rows of one table, ordered by stream and sequence, so that reading on is a range of its key and
//! appending touches one place. Sequences have no gaps because an event gets its own in the statement that writes it.
//! The stream's row remembers where it is after all its events were trimmed.

use compozy_sdk::sql::{self, Row, SqlError, ToSql, statement};
use compozy_sdk::store::{
    DumpedStream, Event, EventPage, Events, HealthStatus, KeyPage, Retention, Span, Statistics, StoreError, StreamPage,
    StreamState, slice,
};

use crate::bulk::{Bulk, Insert};
use crate::page::{Call, PAGE_BYTES_MAX, fitting};
use crate::report::{self, COUNTED_MAX};
use crate::{Sqlite, schema};
use compozy_sdk::store::rules::{check_key, check_page, check_some, check_value, now};

mod moving;
mod trim;

/// Payloads up to here are copied into the buffer of the statement's values.
const COPIED_BYTES_MAX: usize = 64 * 1024;
const LIST: Call = Call("events.list:");
/// Sequences beyond this are as good as this: no stream has so many events.
const SEQUENCE_MAX: u64 = 1 << 62;

thread_local! {
    static APPEND: Bulk = const { Bulk::new(Insert {
        into: "INSERT INTO event (stream, sequence, time, payload) VALUES",
        row: "(?1, $1, ?2, $2)",
        end: "",
        shared: 2,
        own: 2,
    }) };
}

/// Where a stream is.
struct Head {
    id: i64,
    /// The first sequence that is not trimmed.
    floor: i64,
    /// The sequence of the last event, trimmed or not.
    last: i64,
    /// When that event was appended.
    time: i64,
    /// How many sequences from `floor` to `last` have no event.
    missing: i64,
}

impl Head {
    /// Events that are there.
    fn length(&self) -> i64 {
        self.last - self.floor + 1 - self.missing
    }
}

impl Events for Sqlite {
    fn append(stream: String, payload: Vec<u8>) -> Result<u64, StoreError> {
        check_key("stream", &stream)?;
        check_value(payload.len())?;
        schema::ready()?;
        // A large payload is handed over, not copied, so there is one try.
        if payload.len() <= COPIED_BYTES_MAX
            && let Some(sequence) = append_one(&stream, payload.as_slice())?
        {
            return Ok(sequence);
        }
        sql::transaction(|| {
            create(&stream)?;
            append_one(&stream, payload)?
                .ok_or_else(|| StoreError::Internal(format!("the new stream `{stream}` takes no event")))
        })
    }

    fn append_many(stream: String, payloads: Vec<Span>, bytes: Vec<u8>) -> Result<u64, StoreError> {
        check_key("stream", &stream)?;
        check_some("events", payloads.len())?;
        let mut rows = Vec::with_capacity(payloads.len());
        for span in payloads {
            let payload = slice(&bytes, span)?;
            check_value(payload.len())?;
            rows.push((0, payload));
        }
        schema::ready()?;
        let now = now();
        sql::transaction(|| {
            let head = opened(&stream)?;
            let mut last = head.last;
            for (sequence, _) in &mut rows {
                last += 1;
                *sequence = last;
            }
            let time = head.time.max(now);
            let shared = |params: &mut sql::Params| {
                params.integer(head.id);
                params.integer(time);
            };
            APPEND.with(|bulk| {
                bulk.write(
                    &rows,
                    |(_, payload)| payload.len(),
                    shared,
                    |(sequence, payload), params| {
                        params.integer(*sequence);
                        params.blob(payload);
                    },
                )
            })?;
            Ok(last.cast_unsigned())
        })
    }

    fn read_after(stream: String, after: u64, max: u32) -> Result<EventPage, StoreError> {
        check_key("stream", &stream)?;
        check_page("max", max)?;
        schema::ready()?;
        let from = after.min(SEQUENCE_MAX) + 1;
        match read(&stream, from, max) {
            // So many large events do not travel together: fewer do.
            Err(SqlError::TooLarge(_)) if max > 1 => Ok(read(&stream, from, fewer(&stream, from, max)?)?),
            page => Ok(page?),
        }
    }

    fn state(stream: String) -> Result<StreamState, StoreError> {
        check_key("stream", &stream)?;
        schema::ready()?;
        let read = statement!(
            "SELECT stream.id, stream.floor, max(stream.last, coalesce(event.sequence, 0)), 0, stream.missing,
                 (SELECT sequence FROM event WHERE stream = stream.id AND sequence >= stream.floor ORDER BY sequence LIMIT 1)
             FROM stream LEFT JOIN event ON event.stream = stream.id
                 AND event.sequence = (SELECT max(sequence) FROM event WHERE stream = stream.id)
             WHERE stream.name = ?1"
        )?;
        let found = read.query_row((stream.as_bytes(),), |row| Ok((self::row(row)?, row.get(5)?)))?;
        let Some((head, first)) = found else { return Ok(StreamState { length: 0, first: None, last: 0 }) };
        Ok(StreamState { length: head.length().cast_unsigned(), first, last: head.last.cast_unsigned() })
    }

    fn trim(stream: String, keep: Retention) -> Result<u64, StoreError> {
        check_key("stream", &stream)?;
        schema::ready()?;
        trim::trim(&stream, keep)
    }

    fn list(prefix: String, cursor: Option<String>, max: u32) -> Result<KeyPage, StoreError> {
        check_page("max", max)?;
        let range = LIST.range(&prefix, cursor.as_deref())?;
        schema::ready()?;
        let read = statement!("SELECT name FROM stream WHERE name >= ?1 AND name < ?2 ORDER BY name LIMIT ?3")?;
        range.keys(&read.query((&range.lower, &range.upper, max + 1))?, max)
    }

    fn health() -> Result<HealthStatus, StoreError> {
        report::health()
    }

    fn stats() -> Result<Statistics, StoreError> {
        schema::ready()?;
        let streams = statement!("SELECT count(*) FROM (SELECT 1 FROM stream LIMIT ?1)")?;
        let events = statement!("SELECT count(*) FROM (SELECT 1 FROM event LIMIT ?1)")?;
        let events = events.query_row((COUNTED_MAX + 1,), report::counted)?.flatten();
        let events = events.map_or_else(|| format!("more than {COUNTED_MAX}"), |count| count.to_string());
        let streams = streams.query_row((COUNTED_MAX + 1,), report::counted)?.flatten();
        report::statistics(streams, vec![("events".to_owned(), events)])
    }

    fn dump(cursor: Option<String>, max: u32) -> Result<StreamPage, StoreError> {
        check_page("max", max)?;
        moving::dump(cursor.as_deref(), max)
    }

    fn load(streams: Vec<DumpedStream>, events: Vec<Event>, bytes: Vec<u8>) -> Result<(), StoreError> {
        moving::load(&streams, &events, &bytes)
    }
}

/// Appends in one statement; `None` when there is no such stream yet.
fn append_one(stream: &str, payload: impl ToSql) -> Result<Option<u64>, SqlError> {
    let write = statement!(
        "INSERT INTO event (payload, stream, sequence, time)
         SELECT ?1, stream.id, max(stream.last, coalesce(event.sequence, 0)) + 1,
             max(stream.time, coalesce(event.time, 0), ?3)
         FROM stream LEFT JOIN event ON event.stream = stream.id
             AND event.sequence = (SELECT max(sequence) FROM event WHERE stream = stream.id)
         WHERE stream.name = ?2 RETURNING sequence"
    )?;
    write.query_row((payload, stream.as_bytes(), now()), |row| row.get(0))
}

fn create(stream: &str) -> Result<(), SqlError> {
    statement!("INSERT INTO stream (name) VALUES (?1) ON CONFLICT (name) DO NOTHING")?
        .execute((stream.as_bytes(),))
        .map(drop)
}

/// Where the stream is, to be written to; a missing one comes to be.
fn opened(stream: &str) -> Result<Head, StoreError> {
    if let Some(head) = head(stream)? {
        return Ok(head);
    }
    create(stream)?;
    head(stream)?.ok_or_else(|| StoreError::Internal(format!("the new stream `{stream}` is not there")))
}

/// Where the stream is; `None` when it never had an event.
fn head(stream: &str) -> Result<Option<Head>, SqlError> {
    let read = statement!(
        "SELECT stream.id, stream.floor, max(stream.last, coalesce(event.sequence, 0)),
             max(stream.time, coalesce(event.time, 0)), stream.missing
         FROM stream LEFT JOIN event ON event.stream = stream.id
             AND event.sequence = (SELECT max(sequence) FROM event WHERE stream = stream.id)
         WHERE stream.name = ?1"
    )?;
    read.query_row((stream.as_bytes(),), row)
}

fn row(row: Row<'_>) -> Result<Head, SqlError> {
    Ok(Head { id: row.get(0)?, floor: row.get(1)?, last: row.get(2)?, time: row.get(3)?, missing: row.get(4)? })
}

/// Writes where the stream is after its events were changed otherwise than by appending.
fn store(head: &Head) -> Result<(), SqlError> {
    statement!("UPDATE stream SET floor = ?2, last = ?3, time = ?4, missing = ?5 WHERE id = ?1")?
        .execute((head.id, head.floor, head.last, head.time, head.missing))
        .map(drop)
}

/// Events from a sequence on and the stream's last sequence, at one moment.
fn read(stream: &str, from: u64, max: u32) -> Result<EventPage, SqlError> {
    let rows = statement!(
        "SELECT event.sequence, event.time, event.payload,
             max(stream.last, coalesce((SELECT max(sequence) FROM event WHERE stream = stream.id), 0))
         FROM stream LEFT JOIN event ON event.stream = stream.id AND event.sequence >= max(stream.floor, ?2)
         WHERE stream.name = ?1 ORDER BY event.sequence LIMIT ?3"
    )?
    .query((stream.as_bytes(), from, max))?;
    let last = rows.first().map_or(Ok(0), |row| row.get(3))?;
    let mut events = Vec::with_capacity(rows.len());
    for row in rows.iter() {
        // A stream without such events is a row of its own.
        if let Some(sequence) = row.get(0)? {
            events.push(Event { sequence, time_ms: row.get(1)?, payload: row.span(2)? });
        }
    }
    Ok(EventPage { events, bytes: rows.into_bytes(), last })
}

/// How many of the events from a sequence on fit into one page.
fn fewer(stream: &str, from: u64, max: u32) -> Result<u32, SqlError> {
    let lengths = statement!(
        "SELECT length(event.payload) FROM stream JOIN event ON event.stream = stream.id
             AND event.sequence >= max(stream.floor, ?2)
         WHERE stream.name = ?1 ORDER BY event.sequence LIMIT ?3"
    )?
    .query((stream.as_bytes(), from, max))?;
    Ok(fitting(lengths.iter().map(|row| row.get(0)), PAGE_BYTES_MAX)?.max(1) as u32)
}
