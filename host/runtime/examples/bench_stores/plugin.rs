//! Our side: the stores of a runtime, whatever plugin keeps them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use compozy_runtime::stores::{
    Attempt, Cache, Condition, Events, Keep, Locks, MemoryStore, Message, Messages, Span, Stores,
};

use crate::work::{self, MESSAGES, PAGE, SMALL, Side, Work};

/// A time to live that no measure outlives.
const TTL: Option<Duration> = Some(Duration::from_hours(1));

pub(crate) struct Plugin {
    cache: Arc<dyn Cache>,
    locks: Arc<dyn Locks>,
    events: Arc<dyn Events>,
    memory: Arc<dyn MemoryStore>,
}

fn say(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Plugin {
    /// Over these stores, filled with what is read.
    pub(crate) async fn filled(stores: &Stores) -> Result<Self, String> {
        let unfilled = || "a role has no plugin".to_owned();
        let side = Self {
            cache: stores.cache.clone().ok_or_else(unfilled)?,
            locks: stores.locks.clone().ok_or_else(unfilled)?,
            events: stores.events.clone().ok_or_else(unfilled)?,
            memory: stores.memory.clone().ok_or_else(unfilled)?,
        };
        for size in [SMALL, 10 * work::KIB, work::MIB] {
            for turn in 0..if size == work::MIB { work::LARGE_KEYS } else { work::KEYS } {
                let key = format!("value/{size}/{turn}");
                side.cache.set(&key, &vec![b'v'; size], TTL, Condition::Always).await.map_err(say)?;
            }
        }
        for memory in 0..64 {
            let messages = messages(MESSAGES as usize);
            side.memory.replace(&format!("memory/{memory}"), &messages, TTL).await.map_err(say)?;
        }
        let state = side.events.state(work::LONG_STREAM).await.map_err(say)?;
        if state.length < work::EVENTS as u64 {
            let Messages { list, bytes } = messages(work::EVENTS);
            let spans: Vec<Span> = list.iter().map(|message| message.span).collect();
            side.events.append_many(work::LONG_STREAM, &spans, &bytes).await.map_err(say)?;
        }
        Ok(side)
    }

    async fn lock(&self, name: &str) -> Result<(), String> {
        match self.locks.acquire(name, Duration::from_mins(1), "bench").await.map_err(say)? {
            Attempt::Acquired(lease) => {
                let released = self.locks.release(name, lease.token).await.map_err(say)?;
                if released { Ok(()) } else { Err(format!("the lease of `{name}` was lost")) }
            }
            Attempt::Held(_) => Err(format!("somebody has the lock `{name}`")),
        }
    }
}

/// So many small messages in one buffer.
fn messages(count: usize) -> Messages {
    let span = |place: usize| Span { offset: (place * SMALL) as u32, length: SMALL as u32 };
    let list = (0..count).map(|place| Message { span: span(place), tokens: 25 }).collect();
    Messages { list, bytes: vec![b'm'; count * SMALL] }
}

#[async_trait]
impl Side for Plugin {
    async fn run(&self, work: Work, turn: usize) -> Result<(), String> {
        let found = match work {
            Work::Get(size) => {
                let entry = self.cache.get(&work::key(size, turn)).await.map_err(say)?;
                entry.is_some_and(|entry| entry.value.len() == size)
            }
            Work::GetMany => {
                let values = self.cache.get_many(&work::many_keys(turn)).await.map_err(say)?;
                values.found.iter().all(Option::is_some)
            }
            Work::Set => {
                let (key, value) = (work::key(SMALL, turn), [b'v'; SMALL]);
                self.cache.set(&key, &value, TTL, Condition::Always).await.map_err(say)?.is_some()
            }
            Work::Increment => self.cache.increment(&work::counter(turn), 1, TTL).await.map_err(say)? > 0,
            Work::MemoryAppend => {
                let keep = Some(Keep::Messages(MESSAGES));
                let counts = self.memory.append(&work::memory(turn), &messages(1), TTL, keep).await.map_err(say)?;
                counts.messages == u64::from(MESSAGES)
            }
            Work::MemoryPage => {
                let offset = u64::from(MESSAGES - PAGE);
                let page = self.memory.page(&work::memory(turn), offset, PAGE).await.map_err(say)?;
                page.messages.list.len() == PAGE as usize
            }
            Work::Lock => return self.lock(&work::lock(turn)).await,
            Work::EventAppend => self.events.append(&work::stream(turn), &[b'e'; SMALL]).await.map_err(say)? > 0,
            Work::EventRead => {
                let page = self.events.read_after(work::LONG_STREAM, work::after(turn), PAGE).await.map_err(say)?;
                page.events.len() == PAGE as usize
            }
        };
        if found { Ok(()) } else { Err(format!("{work:?} found something else than was written")) }
    }
}
