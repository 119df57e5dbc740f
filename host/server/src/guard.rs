//! The layers around every route: bounded concurrency, bounded time, panics and problems as documents.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response, header};
use axum::middleware::Next;
use axum::response::IntoResponse;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::limits::Limits;
use crate::problem::{Code, Problem};

/// The outermost layer: turns problems into documents that name the path, and a panic into a problem.
pub(crate) async fn document_problems(request: Request, next: Next) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let begun = Instant::now();
    let mut response = match catch_panic(next.run(request)).await {
        Ok(response) => response,
        Err(message) => {
            tracing::error!(%method, path, code = Code::Internal.text(), panic = message, "request handler panicked");
            let detail = "the request met a defect of the host; its log has the details";
            Problem::new(Code::Internal, detail).into_response()
        }
    };
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        // The rendered answer keeps headers that a layer below has set, for example `Allow`.
        let mut rendered = problem.respond(&path);
        for (name, value) in response.headers() {
            if *name != axum::http::header::CONTENT_LENGTH {
                rendered.headers_mut().entry(name).or_insert_with(|| value.clone());
            }
        }
        response = rendered;
    }
    let wall_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    tracing::debug!(%method, path, status = response.status().as_u16(), wall_us, "request answered");
    response
}

/// What requests share: how many may be worked on, and for how long.
#[derive(Clone)]
pub(crate) struct Bounds {
    places: Arc<Semaphore>,
    /// One permit for each KiB of the bodies of requests.
    room: Arc<Semaphore>,
    limits: Arc<Limits>,
}

impl Bounds {
    pub(crate) fn new(limits: Arc<Limits>) -> Self {
        let room = Semaphore::new(limits.bodies_bytes / KIB);
        Self { places: Arc::new(Semaphore::new(limits.requests)), room: Arc::new(room), limits }
    }

    /// Room for a request's body, as large as it says that it is.
    fn room_for(&self, headers: &HeaderMap) -> Result<SemaphorePermit<'_>, Problem> {
        let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let bytes: usize = match declared {
            Some(bytes) => bytes,
            // Sent in chunks: it may become as large as a body may be.
            None if headers.contains_key(header::TRANSFER_ENCODING) => self.limits.body_bytes,
            None => 0,
        };
        // One that is too large is refused further in, and never read.
        let kib = u32::try_from(bytes.min(self.limits.body_bytes).div_ceil(KIB)).unwrap_or(u32::MAX);
        if let Ok(room) = self.room.try_acquire_many(kib) {
            return Ok(room);
        }
        let allowed = self.limits.bodies_bytes;
        let detail = format!(
            "the host works on requests whose bodies have nearly {allowed} bytes together (limit `bodies_bytes`); try again"
        );
        Err(Problem::new(Code::Overloaded, detail).with("limit", "bodies_bytes").with("allowed", allowed))
    }
}

const KIB: usize = 1024;

/// Refuses at once when too many requests are worked on, and ends one that takes too long.
pub(crate) async fn bound(State(bounds): State<Bounds>, request: Request, next: Next) -> Response<Body> {
    let Ok(_place) = bounds.places.try_acquire() else {
        let allowed = bounds.limits.requests;
        let detail = format!("the host already works on {allowed} requests (limit `requests`); try again");
        return Problem::new(Code::Overloaded, detail)
            .with("limit", "requests")
            .with("allowed", allowed)
            .into_response();
    };
    let _room = match bounds.room_for(request.headers()) {
        Ok(room) => room,
        Err(problem) => return problem.into_response(),
    };
    let answered = tokio::time::timeout(bounds.limits.request, next.run(request)).await;
    answered.unwrap_or_else(|_| {
        let seconds = bounds.limits.request.as_secs_f64();
        let detail =
            format!("no answer within {seconds} s (limit `request`); repeat it with the same `Idempotency-Key`");
        Problem::new(Code::AnswerTimeout, detail).into_response()
    })
}

async fn catch_panic<F: Future>(future: F) -> Result<F::Output, String> {
    let mut future = Box::pin(future);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Poll::Ready(Err(text.unwrap_or_else(|| "not a text".to_owned())))
        }
    })
    .await
}
