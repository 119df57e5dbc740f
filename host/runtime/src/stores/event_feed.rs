//! Streams of events for those who wait: bounded waits, and subscriptions that miss nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::changes::{Changes, stream_topic};
use super::{Event, EventPage, Events, Result, StoreError};

/// How long a read may wait.
pub const EVENT_WAIT_MAX: Duration = Duration::from_hours(1);
/// When a waiting reader looks though nobody told it of news, because other hosts may write and their news can be lost. Each look
/// in vain doubles the pause, so that streams that stay idle cost next to nothing.
const LOOK_MIN: Duration = Duration::from_millis(500);
const LOOK_MAX: Duration = Duration::from_secs(30);
/// Events that a subscription fetches at once.
const PAGE_EVENTS: u32 = 256;

/// Reads streams, and waits for what comes.
#[derive(Clone)]
pub struct EventFeed {
    events: Arc<dyn Events>,
    changes: Arc<Changes>,
}

impl std::fmt::Debug for EventFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventFeed").finish_non_exhaustive()
    }
}

impl EventFeed {
    /// Over this backend; `changes` is where its appends are announced.
    pub(super) fn new(events: Arc<dyn Events>, changes: Arc<Changes>) -> Self {
        Self { events, changes }
    }

    /// Events whose sequence is greater than `after`, up to `max` (1 to 1,000). When there is none, waits up to `wait` (at most
    /// [`EVENT_WAIT_MAX`]) for the first. Cancel safe.
    ///
    /// # Errors
    ///
    /// As the backend answers; `InvalidArgument` for a longer wait.
    pub async fn read_after(&self, stream: &str, after: u64, max: u32, wait: Duration) -> Result<EventPage> {
        if wait > EVENT_WAIT_MAX {
            return Err(StoreError::InvalidArgument(format!(
                "the wait is {} ms; at most {} ms are allowed",
                wait.as_millis(),
                EVENT_WAIT_MAX.as_millis()
            )));
        }
        let deadline = Instant::now() + wait;
        // Listens before it looks, so that no append falls between.
        let mut listener = None;
        let mut look = LOOK_MIN;
        loop {
            let page = self.events.read_after(stream, after, max).await?;
            let left = deadline.saturating_duration_since(Instant::now());
            if !page.events.is_empty() || left.is_zero() {
                return Ok(page);
            }
            match &mut listener {
                None => listener = Some(self.changes.listen(stream_topic(stream))),
                Some(listener) => match tokio::time::timeout(left.min(look), listener.changed()).await {
                    Ok(()) => look = LOOK_MIN,
                    Err(_) => look = (look * 2).min(LOOK_MAX),
                },
            }
        }
    }

    /// Follows a stream from the event after `after` (0: from the beginning). Costs the backend nothing until it is asked, and holds up nobody:
    /// a subscriber that is slow reads later.
    pub fn subscribe(&self, stream: impl Into<String>, after: u64) -> Subscription {
        Subscription { feed: self.clone(), stream: stream.into(), after, page: None }
    }
}

/// One reader of one stream.
#[derive(Debug)]
pub struct Subscription {
    feed: EventFeed,
    stream: String,
    /// The last sequence that was handed out.
    after: u64,
    page: Option<(EventPage, usize)>,
}

/// An event as a subscription hands it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Its sequence.
    pub sequence: u64,
    /// When it was appended, in milliseconds since 1970.
    pub time_ms: u64,
    /// What it says.
    pub payload: Vec<u8>,
    /// How many events before it were trimmed before this reader saw them.
    pub missed: u64,
}

impl Subscription {
    /// The sequence of the last event that was handed out: where to go on with [`EventFeed::subscribe`].
    pub fn position(&self) -> u64 {
        self.after
    }

    /// The next event, waiting for it if need be, for ever. Cancel safe: an event is handed out once or comes again.
    ///
    /// # Errors
    ///
    /// As the backend answers; the next call goes on where this one failed.
    pub async fn next(&mut self) -> Result<Received> {
        loop {
            if let Some(received) = self.buffered()? {
                return Ok(received);
            }
            let page = self.feed.read_after(&self.stream, self.after, PAGE_EVENTS, EVENT_WAIT_MAX).await?;
            self.page = Some((page, 0));
        }
    }

    fn buffered(&mut self) -> Result<Option<Received>> {
        let Some((page, at)) = &mut self.page else { return Ok(None) };
        let Some(Event { sequence, time_ms, payload }) = page.events.get(*at).copied() else {
            self.page = None;
            return Ok(None);
        };
        *at += 1;
        let start = payload.offset as usize;
        let bytes = start.checked_add(payload.length as usize).and_then(|end| page.bytes.get(start..end));
        let (Some(bytes), true) = (bytes, sequence > self.after) else {
            let after = self.after;
            self.page = None;
            return Err(StoreError::Internal(format!(
                "the backend answered event {sequence} of the stream `{}` after {after} with a payload outside of its buffer or out of order",
                self.stream
            )));
        };
        let received = Received { sequence, time_ms, payload: bytes.to_vec(), missed: sequence - self.after - 1 };
        self.after = sequence;
        Ok(Some(received))
    }
}
