//! The role `events`.

use std::collections::BTreeMap;

use async_trait::async_trait;
use compozy_runtime::stores::{
    DumpedStream, Event, EventPage, Events, HealthStatus, KeyPage, Result, Retention, Span, Statistics, StreamPage,
    StreamState,
};

use super::{Fault, Native, check_key, check_page, check_write_batch, invalid, lock, push, slice};

#[derive(Debug, Clone)]
struct Stored {
    sequence: u64,
    time_ms: u64,
    payload: Vec<u8>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Stream {
    events: Vec<Stored>,
    last: u64,
}

pub(crate) type Streams = BTreeMap<String, Stream>;

impl Stream {
    fn add(&mut self, payload: &[u8], time_ms: u64) {
        self.last += 1;
        self.events.push(Stored { sequence: self.last, time_ms, payload: payload.to_vec() });
    }
}

fn event(stored: &Stored, bytes: &mut Vec<u8>) -> Event {
    Event { sequence: stored.sequence, time_ms: stored.time_ms, payload: push(bytes, &stored.payload) }
}

#[async_trait]
impl Events for Native {
    async fn append(&self, stream: &str, payload: &[u8]) -> Result<u64> {
        check_key(stream)?;
        if self.has(Fault::SequenceGap) && payload.len() > super::VALUE_BYTES_MAX {
            // Took its number before it looked.
            lock(&self.events).entry(stream.to_owned()).or_default().last += 1;
        }
        self.check_value(payload.len())?;
        if self.has(Fault::SequenceTwice) {
            let last = lock(&self.events).get(stream).map_or(0, |stream| stream.last);
            super::pause().await;
            let mut streams = lock(&self.events);
            let stream = streams.entry(stream.to_owned()).or_default();
            stream.last = last;
            stream.add(payload, self.now());
            return Ok(stream.last);
        }
        let mut streams = lock(&self.events);
        let stream = streams.entry(stream.to_owned()).or_default();
        stream.add(payload, self.now());
        Ok(stream.last)
    }

    async fn append_many(&self, stream: &str, payloads: &[Span], bytes: &[u8]) -> Result<u64> {
        check_key(stream)?;
        check_write_batch(payloads.len())?;
        if self.has(Fault::AppendManyNotAtomic) {
            for span in payloads {
                self.append(stream, slice(bytes, *span)?).await?;
                super::pause().await;
            }
            return Ok(lock(&self.events)[stream].last);
        }
        let payloads: Vec<&[u8]> = payloads.iter().map(|span| slice(bytes, *span)).collect::<Result<_>>()?;
        payloads.iter().try_for_each(|payload| self.check_value(payload.len()))?;
        let mut streams = lock(&self.events);
        let stream = streams.entry(stream.to_owned()).or_default();
        for payload in &payloads {
            stream.add(payload, self.now());
        }
        Ok(stream.last)
    }

    async fn read_after(&self, stream: &str, after: u64, max: u32) -> Result<EventPage> {
        check_key(stream)?;
        check_page(max)?;
        let streams = lock(&self.events);
        let none = Stream::default();
        let stream = streams.get(stream).unwrap_or(&none);
        let mut bytes = Vec::new();
        let from = if self.has(Fault::ReadIncludesAfter) { after } else { after.saturating_add(1) };
        let due = stream.events.iter().filter(|stored| stored.sequence >= from && after < u64::MAX).take(max as usize);
        let events = due.map(|stored| event(stored, &mut bytes)).collect();
        Ok(EventPage { events, bytes, last: stream.last })
    }

    async fn state(&self, stream: &str) -> Result<StreamState> {
        check_key(stream)?;
        let streams = lock(&self.events);
        let none = Stream::default();
        let stream = streams.get(stream).unwrap_or(&none);
        let first = stream.events.first().map(|event| event.sequence);
        Ok(StreamState { length: stream.events.len() as u64, first, last: stream.last })
    }

    async fn trim(&self, stream: &str, keep: Retention) -> Result<u64> {
        check_key(stream)?;
        let now = self.now();
        let mut streams = lock(&self.events);
        let Some(found) = streams.get_mut(stream) else { return Ok(0) };
        let before = found.events.len();
        match keep {
            Retention::Events(count) => {
                let gone = before.saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
                found.events.drain(..gone);
            }
            Retention::AgeMs(age) if self.has(Fault::AgeOffByOne) => {
                found.events.retain(|event| now - event.time_ms < age);
            }
            Retention::AgeMs(age) => found.events.retain(|event| now - event.time_ms <= age),
        }
        let gone = before - found.events.len();
        if self.has(Fault::TrimmedStreamForgotten) && found.events.is_empty() {
            streams.remove(stream);
        }
        Ok(gone as u64)
    }

    async fn list(&self, prefix: &str, cursor: Option<&str>, max: u32) -> Result<KeyPage> {
        self.key_page(lock(&self.events).keys(), prefix, cursor, max)
    }

    async fn health(&self) -> Result<HealthStatus> {
        Ok(HealthStatus { detail: "in memory".to_owned() })
    }

    async fn stats(&self) -> Result<Statistics> {
        Ok(Statistics { entries: Some(lock(&self.events).len() as u64), bytes: None, details: Vec::new() })
    }

    /// A cursor is `s:`, the last sequence that was dumped, `:` and its stream.
    async fn dump(&self, cursor: Option<&str>, max: u32) -> Result<StreamPage> {
        check_page(max)?;
        let place = match cursor {
            None => None,
            Some(cursor) => {
                let parts = cursor.strip_prefix("s:").and_then(|rest| rest.split_once(':'));
                let parsed = parts.and_then(|(sequence, stream)| Some((stream, sequence.parse::<u64>().ok()?)));
                Some(parsed.ok_or_else(|| invalid("the cursor is not one of a dump"))?)
            }
        };
        let streams = lock(&self.events);
        let mut page = StreamPage { streams: Vec::new(), events: Vec::new(), bytes: Vec::new(), next: None };
        for (name, stream) in streams.iter().filter(|(name, _)| place.is_none_or(|(at, _)| name.as_str() >= at)) {
            let after = place.filter(|(at, _)| at == name).map_or(0, |(_, after)| after);
            let room = (max as usize).saturating_sub(page.events.len());
            if room == 0 || page.streams.len() >= max as usize {
                page.next = page.next.or_else(|| Some(format!("s:0:{name}")));
                break;
            }
            let due: Vec<&Stored> = stream.events.iter().filter(|event| event.sequence > after).collect();
            let taken = due.len().min(room);
            page.events.extend(due[..taken].iter().map(|stored| event(stored, &mut page.bytes)));
            page.streams.push(DumpedStream { stream: name.clone(), last: stream.last, events: taken as u32 });
            if taken < due.len() {
                page.next = Some(format!("s:{}:{name}", due[taken - 1].sequence));
                break;
            }
        }
        Ok(page)
    }

    async fn load(&self, streams: &[DumpedStream], events: &[Event], bytes: &[u8]) -> Result<()> {
        let mut all = lock(&self.events);
        let mut rest = events.iter();
        for dumped in streams {
            check_key(&dumped.stream)?;
            let stream = all.entry(dumped.stream.clone()).or_default();
            for event in rest.by_ref().take(dumped.events as usize) {
                if stream.events.iter().any(|there| there.sequence == event.sequence) && !self.has(Fault::LoadDoubles) {
                    continue;
                }
                let payload = slice(bytes, event.payload)?.to_vec();
                stream.events.push(Stored { sequence: event.sequence, time_ms: event.time_ms, payload });
            }
            stream.events.sort_by_key(|event| event.sequence);
            let last = stream.events.last().map_or(0, |event| event.sequence);
            let told = if self.has(Fault::LoadForgetsSequence) { 0 } else { dumped.last };
            stream.last = stream.last.max(last).max(told);
        }
        Ok(())
    }
}
