//! Every limit of the HTTP side, with its unit.

use std::time::Duration;

/// A request's body, in bytes: the largest payload, and what is around it.
pub const BODY_BYTES_MAX: usize = compozy_engine::limits::PAYLOAD_BYTES_MAX + 64 * 1024;
/// Bodies that are read and worked on at once, together, in bytes; further ones are refused with `OVERLOADED`.
pub const BODIES_BYTES_MAX: usize = 128 * 1024 * 1024;
/// A request's line and headers together, in bytes.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Headers of one request.
pub const HEADERS_MAX: usize = 100;
/// Connections that are open at once; further ones wait in the system's queue.
pub const CONNECTIONS_MAX: usize = 1024;
/// Requests that are worked on at once; further ones are refused with `OVERLOADED`.
pub const REQUESTS_MAX: usize = 256;
/// A client has this long to send a request's headers; an idle connection is closed after it.
pub const HEAD_READ_TIMEOUT: Duration = Duration::from_secs(15);
/// A client has this long to send a request's body.
pub const BODY_READ_TIMEOUT: Duration = Duration::from_secs(15);
/// The host has this long to answer a request whose body has arrived.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest that a client may wait for the end of an execution that it starts, with `Prefer: wait=SECONDS`.
pub const RESULT_WAIT_MAX: Duration = Duration::from_secs(20);
/// After the stop signal, requests in flight have this long to end.
pub const CONNECTION_DRAIN: Duration = Duration::from_secs(3);
/// Streams of events that are served at once; further ones are refused with `OVERLOADED`.
pub const STREAMS_MAX: usize = 256;
/// An idle stream has a comment this often.
pub const STREAM_IDLE: Duration = Duration::from_secs(15);
/// A reader of a stream that takes nothing for this long is let go.
pub const STREAM_STALL: Duration = Duration::from_secs(30);
/// Events that wait for a reader of a stream, beside what its connection holds.
pub const EVENTS_BUFFER_MAX: usize = 16;
/// Events of a journal that are read at once for a stream.
pub const EVENTS_PAGE_MAX: usize = 256;
/// Clients whose rates are remembered at once; when there are more, all are forgotten.
pub const RATED_CLIENTS_MAX: usize = 100_000;
/// Executions that one answer lists when the client does not say how many.
pub const LIST_DEFAULT: usize = 50;
/// Input violations that one answer lists; further ones are counted.
pub const VIOLATIONS_MAX: usize = 50;
/// `Retry-After` of an answer that another attempt may cure, in seconds.
pub const RETRY_AFTER_S: u64 = 1;

const _: () = assert!(HEAD_BYTES_MAX >= 8 * 1024, "the HTTP library refuses a smaller buffer");
const _: () = assert!(compozy_engine::limits::IDEMPOTENCY_KEY_BYTES_MAX < HEAD_BYTES_MAX);
const _: () = assert!(BODY_BYTES_MAX <= BODIES_BYTES_MAX);
const _: () = assert!(STREAMS_MAX < CONNECTIONS_MAX, "streams leave room for requests");
const _: () = assert!(BODY_READ_TIMEOUT.as_secs() < REQUEST_TIMEOUT.as_secs());
const _: () = assert!(RESULT_WAIT_MAX.as_secs() < REQUEST_TIMEOUT.as_secs());

/// The limits that tests make small.
#[derive(Debug, Clone)]
pub struct Limits {
    /// See [`BODY_BYTES_MAX`].
    pub body_bytes: usize,
    /// See [`BODIES_BYTES_MAX`].
    pub bodies_bytes: usize,
    /// See [`CONNECTIONS_MAX`].
    pub connections: usize,
    /// See [`REQUESTS_MAX`].
    pub requests: usize,
    /// See [`HEAD_READ_TIMEOUT`].
    pub head_read: Duration,
    /// See [`BODY_READ_TIMEOUT`].
    pub body_read: Duration,
    /// See [`REQUEST_TIMEOUT`].
    pub request: Duration,
    /// See [`CONNECTION_DRAIN`].
    pub connection_drain: Duration,
    /// See [`STREAMS_MAX`].
    pub streams: usize,
    /// See [`STREAM_IDLE`].
    pub stream_idle: Duration,
    /// See [`STREAM_STALL`].
    pub stream_stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: BODY_BYTES_MAX,
            bodies_bytes: BODIES_BYTES_MAX,
            connections: CONNECTIONS_MAX,
            requests: REQUESTS_MAX,
            head_read: HEAD_READ_TIMEOUT,
            body_read: BODY_READ_TIMEOUT,
            request: REQUEST_TIMEOUT,
            connection_drain: CONNECTION_DRAIN,
            streams: STREAMS_MAX,
            stream_idle: STREAM_IDLE,
            stream_stall: STREAM_STALL,
        }
    }
}
