//! The model of the role `events`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use compozy_runtime::Role;
use compozy_runtime::stores::{EventPage, Events, Retention, Span, Stores};

use super::{Model, Moving, PAGES_MAX, Walk};
use crate::compare::{Args, Blob, Refusal, Verdict, demand, flat, mismatch, slice, succeed};
use crate::keys::{Pool, shown};
use crate::rng::Rng;
use crate::suite::Options;
use crate::time::Time;

/// A call of the role.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Append(String, Blob),
    AppendMany(String, Vec<Blob>),
    /// Spans that reach past the end of the buffer.
    BadSpan(String),
    ReadAfter {
        stream: String,
        after: u64,
        max: u32,
    },
    State(String),
    Keep(String, u64),
    KeepAge(String, u64),
    /// All pages at once.
    List(String, u32),
    /// The first page of a list that goes on with `ListNext`, with other calls between.
    ListBegin(String, u32),
    ListNext,
    ListFrom {
        prefix: String,
        cursor: String,
    },
    /// One page of a dump.
    Dump(u32),
    Health,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append(stream, payload) => write!(f, "append({}, {payload:?})", shown(stream)),
            Self::AppendMany(stream, payloads) if payloads.len() <= 6 => {
                write!(f, "append-many({}, {payloads:?})", shown(stream))
            }
            Self::AppendMany(stream, payloads) => {
                write!(f, "append-many({}, {} events)", shown(stream), payloads.len())
            }
            Self::BadSpan(stream) => write!(f, "append-many({}, a span past the end)", shown(stream)),
            Self::ReadAfter { stream, after, max } => write!(f, "read-after({}, {after}, max {max})", shown(stream)),
            Self::State(stream) => write!(f, "state({})", shown(stream)),
            Self::Keep(stream, events) => write!(f, "trim({}, keep {events} events)", shown(stream)),
            Self::KeepAge(stream, age) => write!(f, "trim({}, keep {age} ms)", shown(stream)),
            Self::List(prefix, max) => write!(f, "list({}) to its end, by {max}", shown(prefix)),
            Self::ListBegin(prefix, max) => write!(f, "list({}), first page of {max}", shown(prefix)),
            Self::ListNext => f.write_str("list, next page"),
            Self::ListFrom { prefix, cursor } => write!(f, "list({}) from the cursor {cursor:?}", shown(prefix)),
            Self::Dump(max) => write!(f, "dump, first page of {max}"),
            Self::Health => f.write_str("health()"),
        }
    }
}

#[derive(Debug, Clone)]
struct Event {
    sequence: u64,
    /// `None` until it was seen, where the backend has a clock of its own.
    time: Option<u64>,
    /// When the model appended it.
    appended: u64,
    payload: Blob,
}

#[derive(Debug, Clone, Default)]
struct Stream {
    events: Vec<Event>,
    last: u64,
}

/// The model.
#[derive(Debug, Clone)]
pub(crate) struct EventsModel {
    streams: BTreeMap<String, Stream>,
    walk: Option<Walk>,
    value_bytes_max: usize,
}

/// A page with more bytes than this may be shorter than it could be.
const PAGE_BYTES: usize = 1024 * 1024;

impl EventsModel {
    fn alive(&self) -> BTreeSet<String> {
        self.streams.keys().cloned().collect()
    }

    fn add(&mut self, stream: &str, payloads: &[Blob], time: &Time) {
        let stream = self.streams.entry(stream.to_owned()).or_default();
        for payload in payloads {
            stream.last += 1;
            let (appended, payload) = (time.now(), payload.clone());
            let time = time.exact().then_some(appended);
            stream.events.push(Event { sequence: stream.last, time, appended, payload });
        }
    }

    fn last(&self, stream: &str) -> u64 {
        self.streams.get(stream).map_or(0, |stream| stream.last)
    }

    async fn append_many(&mut self, store: &dyn Events, stream: &str, payloads: &[Blob], time: &Time) -> Verdict {
        let args = Args::default().key(stream).some(payloads.len());
        let args = payloads.iter().fold(args, |args, payload| args.value(payload.0.len(), self.value_bytes_max));
        let (spans, bytes) = flat(payloads);
        let last = self.last(stream) + payloads.len() as u64;
        args.answer(&last, store.append_many(stream, &spans, &bytes).await)?;
        if args.right() {
            self.add(stream, payloads, time);
        }
        Ok(())
    }

    async fn read(&mut self, store: &dyn Events, stream: &str, after: u64, max: u32) -> Verdict {
        let args = Args::default().key(stream).page(max);
        let Some(page) = args.accept("events", store.read_after(stream, after, max).await)? else { return Ok(()) };
        demand(page.last == self.last(stream), format!("last {}", self.last(stream)), || {
            format!("last {}", page.last)
        })?;
        let Some(known) = self.streams.get_mut(stream) else {
            return demand(page.events.is_empty(), "no events", || format!("{:?}", page.events));
        };
        let due = known.events.iter_mut().filter(|event| event.sequence > after).take(max as usize);
        Self::same(due.collect(), &page)
    }

    /// The events of a page are the first of these.
    fn same(mut due: Vec<&mut Event>, page: &EventPage) -> Verdict {
        let sequences = |events: &[&mut Event]| events.iter().map(|event| event.sequence).collect::<Vec<_>>();
        let found: Vec<u64> = page.events.iter().map(|event| event.sequence).collect();
        let bytes: usize = due.iter().map(|event| event.payload.0.len()).sum();
        let all = sequences(&due);
        let short = bytes > PAGE_BYTES && !found.is_empty() && all.starts_with(&found);
        demand(found == all || short, format!("the sequences {}", range(&all)), || {
            format!("the sequences {}", range(&found))
        })?;
        let mut before = 0;
        for (event, found) in due.iter_mut().zip(&page.events) {
            let payload = slice(&page.bytes, found.payload)?;
            demand(payload == event.payload, format!("event {}: {:?}", event.sequence, event.payload), || {
                format!("{payload:?}")
            })?;
            let time = *event.time.get_or_insert(found.time_ms);
            demand(time == found.time_ms, format!("event {} of {time} ms", event.sequence), || {
                format!("{} ms", found.time_ms)
            })?;
            demand(before <= time, "times that never go back", || format!("{time} after {before}"))?;
            before = time;
        }
        Ok(())
    }

    async fn trim(&mut self, store: &dyn Events, stream: &str, keep: Retention, now: u64) -> Verdict {
        let known = self.streams.get(stream).map_or(&[][..], |stream| &stream.events);
        let gone = match keep {
            Retention::Events(events) => known.len().saturating_sub(usize::try_from(events).unwrap_or(usize::MAX)),
            Retention::AgeMs(age) => known.iter().take_while(|event| now - event.appended > age).count(),
        };
        let args = Args::default().key(stream);
        args.answer(&(gone as u64), store.trim(stream, keep).await)?;
        if let (true, Some(stream)) = (args.right(), self.streams.get_mut(stream)) {
            stream.events.drain(..gone);
        }
        Ok(())
    }

    async fn state(&self, store: &dyn Events, stream: &str) -> Verdict {
        let none = Stream::default();
        let known = self.streams.get(stream).unwrap_or(&none);
        let expected = (known.events.len() as u64, known.events.first().map(|event| event.sequence), known.last);
        let state = store.state(stream).await.map(|state| (state.length, state.first, state.last));
        Args::default().key(stream).answer(&expected, state)
    }

    async fn list(&self, store: &dyn Events, prefix: &str, max: u32) -> Verdict {
        let mut walk = Walk::new(prefix, max, &self.alive());
        while !Self::advance(store, &mut walk).await? {}
        Ok(())
    }

    async fn advance(store: &dyn Events, walk: &mut Walk) -> Verdict<bool> {
        let page = store.list(&walk.prefix, walk.cursor.as_deref(), walk.max).await;
        let page = Args::default().page(walk.max).accept("a page", page)?;
        page.map_or(Ok(true), |page| walk.page(page))
    }

    async fn dump(&self, store: &dyn Events, max: u32) -> Verdict {
        let Some(page) = Args::default().page(max).accept("a page", store.dump(None, max).await)? else {
            return Ok(());
        };
        demand(page.events.len() <= max as usize, format!("at most {max} events"), || page.events.len().to_string())?;
        let told: u64 = page.streams.iter().map(|stream| u64::from(stream.events)).sum();
        let events = page.events.len() as u64;
        demand(told == events, format!("{events} events told by the streams"), || told.to_string())
    }
}

/// Numbers as a person can read them.
fn range(numbers: &[u64]) -> String {
    match numbers {
        [first, .., last] if last - first + 1 == numbers.len() as u64 => format!("{first} to {last}"),
        _ => crate::compare::cut(&format!("{numbers:?}")),
    }
}

#[async_trait]
impl Model for EventsModel {
    type Store = dyn Events;
    type Step = Call;
    const ROLE: Role = Role::Events;

    fn new(options: &Options) -> Self {
        Self { streams: BTreeMap::new(), walk: None, value_bytes_max: options.value_bytes_max }
    }

    fn store(stores: &Stores) -> Option<Arc<dyn Events>> {
        stores.events.clone()
    }

    fn random(rng: &mut Rng, pool: &Pool) -> Call {
        let stream = pool.key(rng);
        let number = *rng.pick(&[0, 1, 2, 3, 5, 8, 13, 30, u64::MAX]);
        match rng.below(30) {
            0..=7 => Call::Append(stream, Pool::value(rng)),
            8..=10 => Call::AppendMany(stream, (0..rng.below(6)).map(|_| Pool::value(rng)).collect()),
            11..=15 => Call::ReadAfter { stream, after: number, max: Pool::page(rng) },
            16..=18 => Call::State(stream),
            19..=20 => Call::Keep(stream, number),
            21..=22 => Call::KeepAge(stream, pool.age(rng)),
            23 => Call::List(pool.prefix(rng), Pool::page(rng)),
            24 => Call::ListBegin(pool.prefix(rng), 1 + rng.below(2) as u32),
            25..=27 => Call::ListNext,
            28 => Call::Dump(Pool::page(rng)),
            _ => Call::Health,
        }
    }

    async fn apply(&mut self, store: &Self::Store, step: &Call, time: &Time) -> Verdict {
        match step {
            Call::Append(stream, payload) => {
                let args = Args::default().key(stream).value(payload.0.len(), self.value_bytes_max);
                args.answer(&(self.last(stream) + 1), store.append(stream, &payload.0).await)?;
                if args.right() {
                    self.add(stream, std::slice::from_ref(payload), time);
                }
            }
            Call::AppendMany(stream, payloads) => self.append_many(store, stream, payloads, time).await?,
            Call::BadSpan(stream) => {
                let args = Args::default().not(true, Refusal::Invalid("a span reaches past the end of the buffer"));
                let spans = [Span { offset: 0, length: 2 }, Span { offset: 2, length: 2 }];
                args.accept("", store.append_many(stream, &spans, b"abc").await)?;
            }
            Call::ReadAfter { stream, after, max } => self.read(store, stream, *after, *max).await?,
            Call::State(stream) => self.state(store, stream).await?,
            Call::Keep(stream, events) => self.trim(store, stream, Retention::Events(*events), time.now()).await?,
            Call::KeepAge(stream, age) => self.trim(store, stream, Retention::AgeMs(*age), time.now()).await?,
            Call::List(prefix, max) => self.list(store, prefix, *max).await?,
            Call::ListBegin(prefix, max) => {
                let mut walk = Walk::new(prefix, *max, &self.alive());
                self.walk = if Self::advance(store, &mut walk).await? { None } else { Some(walk) };
            }
            Call::ListNext => {
                if let Some(mut walk) = self.walk.take() {
                    self.walk = if Self::advance(store, &mut walk).await? { None } else { Some(walk) };
                }
            }
            Call::ListFrom { prefix, cursor } => {
                let args = Args::default().not(true, Refusal::Invalid("no list of this prefix answered the cursor"));
                args.accept("", store.list(prefix, Some(cursor), 10).await)?;
            }
            Call::Dump(max) => self.dump(store, *max).await?,
            Call::Health => {
                let health = succeed("health", store.health().await)?;
                demand(!health.detail.is_empty(), "a sentence", || "nothing".to_owned())?;
            }
        }
        if let Some(walk) = &mut self.walk {
            walk.observe(&self.streams.keys().cloned().collect());
        }
        Ok(())
    }

    async fn audit(&mut self, store: &Self::Store, _: &Time) -> Verdict {
        self.list(store, "", 100).await?;
        for stream in self.alive() {
            self.state(store, &stream).await?;
            let (mut after, last) = (0, self.last(&stream));
            while after < last {
                self.read(store, &stream, after, 1_000).await?;
                let page = succeed("read-after", store.read_after(&stream, after, 1_000).await)?;
                after = page.events.last().map_or(last, |event| event.sequence);
            }
        }
        let stats = succeed("stats", store.stats().await)?;
        let enough = stats.entries.is_none_or(|entries| entries >= self.streams.len() as u64);
        demand(enough, format!("statistics of at least {} streams", self.streams.len()), || {
            format!("{:?}", stats.entries)
        })
    }

    async fn relocate(&self, from: &Self::Store, to: &Self::Store, moving: Moving, _: &Time) -> Verdict {
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            for _ in 0..u32::from(moving.again) {
                let page = succeed("dump", from.dump(cursor.as_deref(), moving.max).await)?;
                if !page.streams.is_empty() {
                    succeed("load", to.load(&page.streams, &page.events, &page.bytes).await)?;
                }
            }
            let page = succeed("dump", from.dump(cursor.as_deref(), moving.max).await)?;
            if !page.streams.is_empty() {
                succeed("load", to.load(&page.streams, &page.events, &page.bytes).await)?;
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(()),
            }
        }
        mismatch("a dump that ends", format!("{PAGES_MAX} pages and no end"))
    }

    fn reopened(&mut self, _: bool) {
        self.walk = None;
    }
}
