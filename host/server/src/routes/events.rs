//! `GET /api/v0/executions/{id}/events`: what happens to an execution, as server-sent events.
//!
//! - `record`: an event of the journal, with its number as the `id`. From the first one, or from the one after
//!   `Last-Event-ID`; none is missed, whatever the speed of the reader. Data: `{"seq", "at_ms", "event"}`.
//! - `attempt`: an attempt of a task began or failed, or said that it is alive; best effort, without an `id`. Data:
//!   `{"task", "attempt", "state": "started" | "failed" | "heartbeat"}`, with `code`, `message` and `retry_in_ms`, or `detail`.
//! - `end`: the execution has ended and all its events were sent. Data: `{"status"}`. The host then closes the stream.
//!
//! An idle stream has a comment every few seconds, so that a dead connection is noticed.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use compozy_engine::EngineError;
use compozy_engine::port::{Engine, ExecutionId, JournalPage, JournalRecord, Notice};
use hyper::body::Frame;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc};

use super::engine_error::problem_of;
use super::executions::path_text;
use crate::limits::{EVENTS_BUFFER_MAX, EVENTS_PAGE_MAX, Limits};
use crate::problem::{Code, Problem};
use crate::state::{AppState, Lifecycle};

/// Places for streams.
#[derive(Clone)]
pub(super) struct Streams(Arc<Semaphore>);

impl Streams {
    pub(super) fn new(limits: &Limits) -> Self {
        Self(Arc::new(Semaphore::new(limits.streams)))
    }
}

/// Where to begin, for clients that cannot set a header.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    after: Option<u64>,
}

/// Begins a stream.
pub(super) async fn events(
    State((state, streams)): State<(AppState, Streams)>,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<EventsQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = ExecutionId(path_text(id)?);
    let Query(query) = query.map_err(|error| Problem::new(Code::InvalidRequest, error.body_text()))?;
    let after = match last_event_id(&headers)? {
        Some(after) => after,
        None => query.after.unwrap_or(0),
    };
    if state.lifecycle.is_stopping() {
        return Err(Problem::new(Code::Stopping, "the host is stopping and begins no new streams"));
    }
    let place = Arc::clone(&streams.0).try_acquire_owned().map_err(|_| {
        let allowed = state.limits.streams;
        let detail = format!("the host already serves {allowed} streams of events (limit `streams`); try again");
        Problem::new(Code::Overloaded, detail).with("limit", "streams").with("allowed", allowed)
    })?;
    // From here on no notice is missed, so the journal is read after it.
    let notices = state.engine.follow(&id);
    let first = state.engine.journal_after(&id, after, EVENTS_PAGE_MAX).await.map_err(|error| problem_of(&error))?;
    let (send, receive) = mpsc::channel(EVENTS_BUFFER_MAX);
    let feed = Feed { engine: state.engine, id, after, send, limits: state.limits, _place: place };
    tokio::spawn(feed.run(first, notices, state.lifecycle));
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // For proxies that collect answers before they pass them on.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::new(EventBody(receive))).into_response())
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| {
        let detail = "`Last-Event-ID` must be the number of an event, as the stream sent it";
        Problem::new(Code::InvalidRequest, detail)
    })
}

/// Why a stream ends before its execution.
struct Gone;

/// Writes one stream.
struct Feed {
    engine: Arc<dyn Engine>,
    id: ExecutionId,
    /// The number of the last event that was sent.
    after: u64,
    send: mpsc::Sender<Bytes>,
    limits: Arc<Limits>,
    _place: OwnedSemaphorePermit,
}

impl Feed {
    async fn run(mut self, first: JournalPage, mut notices: broadcast::Receiver<Notice>, lifecycle: Lifecycle) {
        let work = async {
            let mut ended = self.send_page(first).await? || self.send_journal().await?;
            while !ended {
                self.wait(&mut notices).await?;
                ended = self.send_journal().await?;
            }
            self.send_end().await
        };
        // A stream must not hold up the end of the host; its reader comes back with the number of its last event.
        tokio::select! {
            _done = work => {}
            () = lifecycle.stopped() => {}
        }
    }

    /// Sends what is new in the journal. Answers whether the execution has ended.
    async fn send_journal(&mut self) -> Result<bool, Gone> {
        loop {
            let page = self.engine.journal_after(&self.id, self.after, EVENTS_PAGE_MAX).await;
            let page = match page {
                Ok(page) => page,
                // Removed meanwhile.
                Err(EngineError::ExecutionNotFound { .. }) => return Err(Gone),
                Err(error) => {
                    tracing::warn!(execution = %self.id, code = error.code(), %error, "a stream of events ends");
                    return Err(Gone);
                }
            };
            let full = page.records.len() >= EVENTS_PAGE_MAX;
            if self.send_page(page).await? {
                return Ok(true);
            }
            if !full {
                return Ok(false);
            }
        }
    }

    async fn send_page(&mut self, page: JournalPage) -> Result<bool, Gone> {
        for record in page.records {
            let seq = record.seq;
            self.send(record_text(&record)).await?;
            self.after = seq;
        }
        Ok(page.ended)
    }

    /// Waits until there is something new in the journal, and sends what else is told meanwhile.
    async fn wait(&self, notices: &mut broadcast::Receiver<Notice>) -> Result<(), Gone> {
        loop {
            let told = tokio::select! {
                told = notices.recv() => told,
                () = tokio::time::sleep(self.limits.stream_idle) => {
                    self.send(": idle\n\n".to_owned()).await?;
                    continue;
                }
                () = self.send.closed() => return Err(Gone),
            };
            match told {
                Ok(notice) if self.is_no_news(&notice) => {}
                // The journal also has what was missed.
                Ok(Notice::Recorded { .. } | Notice::ExecutionEnded { .. }) | Err(RecvError::Lagged(_)) => {
                    return Ok(());
                }
                Ok(notice) => {
                    if let Some(text) = attempt_text(&notice) {
                        self.send(text).await?;
                    }
                }
                // The engine has stopped.
                Err(RecvError::Closed) => return Err(Gone),
            }
        }
    }

    /// About another execution, or about an event that was sent.
    fn is_no_news(&self, notice: &Notice) -> bool {
        let sent = matches!(notice, Notice::Recorded { seq, .. } if *seq <= self.after);
        sent || *notice.execution() != self.id
    }

    async fn send_end(&self) -> Result<(), Gone> {
        let execution = self.engine.execution(&self.id).await.ok().flatten().ok_or(Gone)?;
        self.send(text("end", None, &json!({ "status": execution.state.status }))).await
    }

    /// A reader that takes nothing for too long is let go.
    async fn send(&self, text: String) -> Result<(), Gone> {
        self.send.send_timeout(Bytes::from(text), self.limits.stream_stall).await.map_err(|_| Gone)
    }
}

fn record_text(record: &JournalRecord) -> String {
    let data = json!({ "seq": record.seq, "at_ms": record.at_ms, "event": record.event });
    text("record", Some(record.seq), &data)
}

fn attempt_text(notice: &Notice) -> Option<String> {
    let data = match notice {
        Notice::AttemptStarted { task, attempt, .. } => json!({ "task": task, "attempt": attempt, "state": "started" }),
        Notice::AttemptFailed { task, attempt, failure, retry_in_ms, .. } => json!({
            "task": task, "attempt": attempt, "state": "failed",
            "code": failure.code, "message": failure.message, "retry_in_ms": retry_in_ms,
        }),
        Notice::Heartbeat { task, attempt, detail, .. } => {
            json!({ "task": task, "attempt": attempt, "state": "heartbeat", "detail": detail })
        }
        Notice::ExecutionStarted { .. }
        | Notice::TaskEnded { .. }
        | Notice::Recorded { .. }
        | Notice::ExecutionChanged { .. }
        | Notice::ExecutionEnded { .. } => return None,
    };
    Some(text("attempt", None, &data))
}

/// One event. JSON has no line break of its own, so its data is one line.
fn text(kind: &str, id: Option<u64>, data: &Value) -> String {
    let id = id.map_or_else(String::new, |id| format!("id: {id}\n"));
    format!("{id}event: {kind}\ndata: {data}\n\n")
}

/// What was sent, as the body of an answer.
struct EventBody(mpsc::Receiver<Bytes>);

impl hyper::body::Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
