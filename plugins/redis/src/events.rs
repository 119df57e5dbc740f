//! The role `events`. A stream is a Redis stream, with the sequence in the second half of each id.
//!
//! The head, a string beside the stream, holds the last sequence and the last time, also when all events were trimmed. Redis
//! keeps the last id too, but tells it only together with the first and the last payload. It also holds the size of the largest
//! payload, so that no more events are asked for than can travel together.

use compozy_sdk::redis::{self, List, RedisError, Reply, Value};
use compozy_sdk::store::rules::{
    BATCH_ITEMS_MAX, DUMP_PAGE_BYTES_MAX, check_batch, check_key, check_page, check_some, check_value, foreign_cursor,
};
use compozy_sdk::store::{
    DumpedStream, Event, EventPage, Events, HealthStatus, KeyPage, Retention, Span, Statistics, StoreError, StreamPage,
    StreamState, append, slice,
};

use crate::index::{Index, Place};
use crate::keys::{Key, cursor, foreign, read_cursor, shard};
use crate::{Redis, lua, server, sizes};

/// Nothing of it expires, so `due` stays empty.
const INDEX: Index = Index { role: "e", entry: "v", names: "n", due: "x" };
/// How many streams a page of a dump looks for in one go.
const DUMP_STREAMS: usize = 64;
/// How many events of a stream a page of a dump takes in one go.
const DUMP_EVENTS: u32 = 256;

fn key(stream: &str) -> Key<'_> {
    INDEX.entry(stream)
}

fn head(stream: &str) -> Key<'_> {
    Key::of("e", "h", stream)
}

impl Events for Redis {
    fn append(stream: String, payload: Vec<u8>) -> Result<u64, StoreError> {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        Self::append_many(stream, vec![Span { offset: 0, length }], payload)
    }

    fn append_many(stream: String, payloads: Vec<Span>, bytes: Vec<u8>) -> Result<u64, StoreError> {
        check_key("stream", &stream)?;
        check_some("events", payloads.len())?;
        for payload in &payloads {
            check_value(slice(&bytes, *payload)?.len())?;
        }
        let reply = lua!("event_append")?.invoke(|call| {
            let bytes = call.put(bytes);
            call.key(key(&stream)).key(head(&stream)).key(INDEX.names(shard(&stream)));
            call.arg(key(&stream).len()).arg(&stream);
            for payload in payloads {
                call.arg(bytes.part(payload));
            }
        })?;
        Ok(reply.get()?)
    }

    fn read_after(stream: String, after: u64, max: u32) -> Result<EventPage, StoreError> {
        check_key("stream", &stream)?;
        check_page("max", max)?;
        let Read { reply, head, count } = read(&stream, after, max)?;
        let [_, entries] = reply.array()?;
        let entries = entries.get::<List<'_>>()?;
        let mut events = Vec::with_capacity(entries.len());
        for entry in entries.iter() {
            events.push(event(&stream, entry)?);
        }
        let last = head.last_with(events.last(), events.len() < count as usize);
        Ok(EventPage { events, last, bytes: reply.into_bytes() })
    }

    fn state(stream: String) -> Result<StreamState, StoreError> {
        check_key("stream", &stream)?;
        let reply = lua!("event_state")?.invoke(|call| {
            call.key(key(&stream)).key(head(&stream));
        })?;
        let [length, first, head] = reply.get::<List<'_>>()?.array()?;
        let first = first.get::<Option<&str>>()?.map(|id| sequence(&stream, id)).transpose()?;
        Ok(StreamState { length: length.get()?, first, last: Head::read(&stream, head)?.last })
    }

    fn trim(stream: String, keep: Retention) -> Result<u64, StoreError> {
        check_key("stream", &stream)?;
        match keep {
            Retention::Events(count) => xtrim(&stream, "MAXLEN", &count.min(i64::MAX.cast_unsigned()).to_string()),
            Retention::AgeMs(age) => match first_younger(&stream, age)? {
                Some(first) => xtrim(&stream, "MINID", &format!("0-{first}")),
                None => Ok(0),
            },
        }
    }

    fn list(prefix: String, cursor: Option<String>, max: u32) -> Result<KeyPage, StoreError> {
        // Also a stream whose events are all trimmed is there: Redis keeps the empty stream.
        INDEX.list("events-list", &prefix, cursor.as_deref(), max)
    }

    fn health() -> Result<HealthStatus, StoreError> {
        server::health()
    }

    fn stats() -> Result<Statistics, StoreError> {
        server::statistics(Some(INDEX.count()?))
    }

    fn dump(cursor: Option<String>, max: u32) -> Result<StreamPage, StoreError> {
        check_page("max", max)?;
        let (mut place, part) = start(cursor.as_deref())?;
        let mut page = Dump::new(max);
        if let Some((stream, after)) = part
            && let Some(after) = page.add(&stream, after)?
        {
            return Ok(page.end(Some((place, after))));
        }
        loop {
            let (streams, next) = INDEX.page("", place.clone(), DUMP_STREAMS)?;
            for stream in &streams {
                if page.is_full() {
                    return Ok(page.end(Some((place, 0))));
                }
                place = Place::after(stream);
                if let Some(after) = page.add(stream, 0)? {
                    return Ok(page.end(Some((place, after))));
                }
            }
            match next {
                Some(next) => place = next,
                None => return Ok(page.end(None)),
            }
        }
    }

    fn load(streams: Vec<DumpedStream>, events: Vec<Event>, bytes: Vec<u8>) -> Result<(), StoreError> {
        let parts = parts(&streams, &events, &bytes)?;
        for (stream, events) in streams.iter().zip(parts) {
            lua!("event_load")?
                .invoke(|call| {
                    let name = &stream.stream;
                    call.key(key(name)).key(head(name)).key(INDEX.names(shard(name))).arg(name).arg(stream.last);
                    for event in events {
                        let payload = slice(&bytes, event.payload).unwrap_or_default();
                        call.arg(event.sequence).arg(event.time_ms).arg(payload);
                    }
                })?
                .check()?;
        }
        Ok(())
    }
}

/// What is known of a stream without looking at its events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Head {
    /// The last sequence.
    last: u64,
    /// Bytes of the largest payload.
    largest: u64,
}

impl Head {
    fn read(stream: &str, value: Value<'_>) -> Result<Self, StoreError> {
        let Some(text) = value.get::<Option<&str>>()? else { return Ok(Self::default()) };
        let mut numbers = text.split(';').map(|number| number.parse().ok());
        match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(Some(last)), Some(Some(_)), Some(Some(largest)), None) => Ok(Self { last, largest }),
            _ => Err(foreign("the head of the stream", stream)),
        }
    }

    /// The last sequence at the moment of events that were read right after this head, where `all` that follow were. Between the
    /// two somebody may have appended: then the events know better.
    fn last_with(self, event: Option<&Event>, all: bool) -> u64 {
        match event {
            Some(event) if all => event.sequence,
            Some(event) => self.last.max(event.sequence),
            None => self.last,
        }
    }
}

/// Events of a stream, read behind its head.
struct Read {
    /// The head, and the events.
    reply: Reply,
    head: Head,
    /// How many were asked for.
    count: u32,
}

fn look(stream: &str) -> Result<Head, StoreError> {
    let reply = redis::run(|commands| {
        commands.command("GET").arg(head(stream));
    })?;
    Head::read(stream, reply.value()?)
}

/// Up to `max` events behind a sequence; fewer are asked for when they are too large to travel together.
fn read(stream: &str, after: u64, max: u32) -> Result<Read, StoreError> {
    let known = sizes::STREAMS.with(|known| known.largest(stream));
    let largest = known.map_or_else(|| look(stream).map(|head| head.largest), Ok)?;
    let count = sizes::fitting(largest, max);
    let from = format!("(0-{after}");
    // The head first: see `Head::last_with`.
    let reply = redis::run(|commands| {
        commands.command("GET").arg(head(stream));
        commands.command("XRANGE").arg(key(stream)).arg(&from).arg("+").arg("COUNT").arg(count);
    });
    if matches!(reply, Err(RedisError::TooLarge(_))) {
        // Larger events have come since; the next call asks anew.
        sizes::STREAMS.with(|known| known.forget(stream));
        if count > 1 {
            return Err(StoreError::Busy(format!(
                "the stream `{stream}` got larger events while it was read; try again"
            )));
        }
    }
    let reply = reply?;
    let [head, _] = reply.array()?;
    let head = Head::read(stream, head)?;
    if head.last > 0 {
        sizes::STREAMS.with(|known| known.learn(stream, head.largest));
    }
    Ok(Read { reply, head, count })
}

/// An entry of a stream.
fn event(stream: &str, entry: Value<'_>) -> Result<Event, StoreError> {
    let [id, fields] = entry.get::<List<'_>>()?.array()?;
    let [time, payload] = fields.get::<List<'_>>()?.array()?;
    Ok(Event { sequence: sequence(stream, id.get()?)?, time_ms: time.get()?, payload: payload.span()? })
}

/// The sequence in an id.
fn sequence(stream: &str, id: &str) -> Result<u64, StoreError> {
    id.strip_prefix("0-").and_then(|sequence| sequence.parse().ok()).ok_or_else(|| foreign("the stream", stream))
}

/// Removes events up to a threshold; answers how many.
fn xtrim(stream: &str, strategy: &str, threshold: &str) -> Result<u64, StoreError> {
    let reply = redis::run(|commands| {
        commands.command("XTRIM").arg(key(stream)).arg(strategy).arg("=").arg(threshold);
    })?;
    Ok(reply.get()?)
}

/// The first sequence from which on all events are at most so old; `None` when all are. Times grow with the sequence, and no
/// event changes, so that what happens meanwhile does not matter.
fn first_younger(stream: &str, age_ms: u64) -> Result<Option<u64>, StoreError> {
    let (now, Some((first, time))) = probe(stream, "-")? else { return Ok(None) };
    let oldest = now.saturating_sub(age_ms);
    if time >= oldest {
        return Ok(None);
    }
    // Too old up to `old`, young enough from `young` on.
    let (mut old, mut young) = (first, look(stream)?.last.saturating_add(1));
    while young - old > 1 {
        let middle = old + (young - old) / 2;
        match probe(stream, &format!("0-{middle}"))?.1 {
            Some((sequence, time)) if time < oldest => old = sequence,
            _ => young = middle,
        }
    }
    Ok(Some(young))
}

/// The server's time, and sequence and time of the first event from an id on.
fn probe(stream: &str, id: &str) -> Result<(u64, Option<(u64, u64)>), StoreError> {
    let reply = lua!("event_probe")?.invoke(|call| {
        call.key(key(stream)).arg(id);
    })?;
    let mut values = reply.get::<List<'_>>()?.iter();
    let now = values.next().ok_or_else(|| foreign("the stream", stream))?.get()?;
    let (Some(id), Some(time)) = (values.next(), values.next()) else { return Ok((now, None)) };
    Ok((now, Some((sequence(stream, id.get()?)?, time.get()?))))
}

/// Where a dump goes on: behind a place, and before that with the events of one stream behind a sequence.
type Start = (Place, Option<(String, u64)>);

fn start(cursor: Option<&str>) -> Result<Start, StoreError> {
    let Some(text) = cursor else { return Ok((Place::default(), None)) };
    let ([shard, after], stream) = read_cursor::<2>("events-dump", text).ok_or_else(|| foreign_cursor(text, ""))?;
    let place = Place::read(shard, stream).filter(|_| after == 0 || !stream.is_empty());
    Ok((place.ok_or_else(|| foreign_cursor(text, ""))?, (after > 0).then(|| (stream.to_owned(), after))))
}

/// A page of a dump that grows.
struct Dump {
    max: usize,
    streams: Vec<DumpedStream>,
    events: Vec<Event>,
    bytes: Vec<u8>,
}

impl Dump {
    fn new(max: u32) -> Self {
        Self { max: max as usize, streams: Vec::new(), events: Vec::new(), bytes: Vec::new() }
    }

    fn is_full(&self) -> bool {
        self.events.len() >= self.max
            || self.streams.len() >= BATCH_ITEMS_MAX
            || self.bytes.len() as u64 >= DUMP_PAGE_BYTES_MAX
    }

    /// Adds what a stream has behind a sequence; answers the last sequence added when the page is full before the stream ends.
    fn add(&mut self, stream: &str, begin: u64) -> Result<Option<u64>, StoreError> {
        let (before, mut after) = (self.events.len(), begin);
        let (last, more) = loop {
            let room = u32::try_from(self.max - self.events.len()).unwrap_or(u32::MAX);
            let Read { reply, head, count } = read(stream, after, room.min(DUMP_EVENTS))?;
            let [_, entries] = reply.array()?;
            let entries = entries.get::<List<'_>>()?;
            for entry in entries.iter() {
                let event = event(stream, entry)?;
                let [_, fields] = entry.get::<List<'_>>()?.array()?;
                let [_, payload] = fields.get::<List<'_>>()?.array()?;
                let payload = append(&mut self.bytes, payload.get()?)?;
                after = event.sequence;
                self.events.push(Event { payload, ..event });
            }
            let more = entries.len() == count as usize;
            if !more || self.is_full() {
                break (head.last_with(self.events[before..].last(), !more), more);
            }
        };
        let events = (self.events.len() - before) as u32;
        if events > 0 || begin == 0 {
            self.streams.push(DumpedStream { stream: stream.to_owned(), last, events });
        }
        Ok(more.then_some(after))
    }

    /// The page, with a cursor behind a place and a sequence in its stream.
    fn end(self, next: Option<(Place, u64)>) -> StreamPage {
        let next = next.map(|(place, after)| cursor("events-dump", &[place.shard.into(), after], &place.after));
        StreamPage { streams: self.streams, events: self.events, bytes: self.bytes, next }
    }
}

/// The events of each stream, after all were checked.
fn parts<'a>(streams: &[DumpedStream], mut events: &'a [Event], bytes: &[u8]) -> Result<Vec<&'a [Event]>, StoreError> {
    check_batch(streams.len())?;
    check_batch(events.len())?;
    let given = events.len();
    let mut parts = Vec::with_capacity(streams.len());
    for stream in streams {
        check_key("stream", &stream.stream)?;
        let Some((own, others)) = events.split_at_checked(stream.events as usize) else {
            return Err(StoreError::InvalidArgument(format!(
                "the stream `{}` has {} events on this page, but only {} of the page's {given} are left for it",
                stream.stream,
                stream.events,
                events.len()
            )));
        };
        let mut before = 0;
        for event in own {
            check_value(slice(bytes, event.payload)?.len())?;
            if event.sequence <= before {
                return Err(StoreError::InvalidArgument(format!(
                    "the event {} of the stream `{}` comes after the event {before}; sequences begin at 1 and grow",
                    event.sequence, stream.stream
                )));
            }
            before = event.sequence;
        }
        parts.push(own);
        events = others;
    }
    if events.is_empty() {
        return Ok(parts);
    }
    Err(StoreError::InvalidArgument(format!(
        "{} of the page's {given} events are of no stream of the page",
        events.len()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_goes_on_where_it_stopped() {
        let page = Dump::new(1).end(Some((Place::after("a.b"), 7)));
        let (place, part) = start(page.next.as_deref()).unwrap();
        assert_eq!((place, part), (Place::after("a.b"), Some(("a.b".to_owned(), 7))));
        let page = Dump::new(1).end(Some((Place { shard: 3, after: String::new() }, 0)));
        assert_eq!(start(page.next.as_deref()).unwrap(), (Place { shard: 3, after: String::new() }, None));
        for bad in ["", "events-dump.3.7.", "events-list.3.0.", "events-dump.16.0.", "events-dump.3.x."] {
            assert!(matches!(start(Some(bad)), Err(StoreError::InvalidArgument(_))), "{bad}");
        }
    }

    #[test]
    fn the_last_sequence_is_that_of_the_events_moment() {
        let head = Head { last: 5, largest: 1 };
        let event = |sequence| Event { sequence, time_ms: 1, payload: Span { offset: 0, length: 0 } };
        // Nothing more, and one that came between head and events.
        assert_eq!((head.last_with(None, true), head.last_with(Some(&event(6)), true)), (5, 6));
        // A full page in the middle, and one that came between.
        assert_eq!((head.last_with(Some(&event(3)), false), head.last_with(Some(&event(6)), false)), (5, 6));
    }

    #[test]
    fn a_page_to_load_must_add_up() {
        let stream = |events| DumpedStream { stream: "s".into(), last: 9, events };
        let event = |sequence| Event { sequence, time_ms: 1, payload: Span { offset: 0, length: 1 } };
        let check = |streams: &[DumpedStream], events: &[Event]| parts(streams, events, b"x").map(|parts| parts.len());
        assert_eq!(check(&[stream(1), stream(0), stream(2)], &[event(5), event(1), event(2)]).unwrap(), 3);
        for (streams, events) in [
            (vec![stream(2)], vec![event(1)]),
            (vec![stream(1)], vec![event(1), event(2)]),
            (vec![stream(2)], vec![event(2), event(2)]),
            (vec![stream(1)], vec![event(0)]),
            (vec![stream(1)], vec![Event { payload: Span { offset: 1, length: 1 }, ..event(1) }]),
        ] {
            assert!(matches!(check(&streams, &events), Err(StoreError::InvalidArgument(_))));
        }
    }
}
