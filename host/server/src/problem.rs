//! Errors as problem documents (RFC 9457), with codes that stay.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::limits::RETRY_AFTER_S;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:expr, $title:literal, $retry:literal;)*) => {
        /// What can be wrong with a request. The text of a code never changes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code, in the order of their statuses.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];
            /// As in the problem's `code`.
            pub fn text(self) -> &'static str { match self { $(Self::$name => $text,)* } }
            /// The answer's status.
            pub fn status(self) -> StatusCode { match self { $(Self::$name => $status,)* } }
            /// The problem's `title`: the same words for every occurrence.
            pub fn title(self) -> &'static str { match self { $(Self::$name => $title,)* } }
            /// True when the same request may succeed later; the answer then has `Retry-After`.
            pub fn retryable(self) -> bool { match self { $(Self::$name => $retry,)* } }
        }
    };
}

codes! {
    /// The body is not JSON.
    InvalidJson = "INVALID_JSON", StatusCode::BAD_REQUEST, "The body is not JSON", false;
    /// The request breaks the API's own rules.
    InvalidRequest = "INVALID_REQUEST", StatusCode::BAD_REQUEST, "The request is not valid", false;
    /// The idempotency key is empty or too long.
    IdempotencyKeyLength = "IDEMPOTENCY_KEY_LENGTH", StatusCode::BAD_REQUEST, "The idempotency key is empty or too long", false;
    /// The input does not fit the workflow's schema.
    InvalidInput = "INVALID_INPUT", StatusCode::BAD_REQUEST, "The input does not fit the workflow's schema", false;
    /// No such workflow.
    WorkflowNotFound = "WORKFLOW_NOT_FOUND", StatusCode::NOT_FOUND, "There is no such workflow", false;
    /// No such execution.
    ExecutionNotFound = "EXECUTION_NOT_FOUND", StatusCode::NOT_FOUND, "There is no such execution", false;
    /// The execution refers to no such value.
    BlobNotFound = "BLOB_NOT_FOUND", StatusCode::NOT_FOUND, "The execution refers to no such value", false;
    /// A value that the execution refers to is lost.
    BlobLost = "BLOB_LOST", StatusCode::INTERNAL_SERVER_ERROR, "A value of the execution is lost", false;
    /// The payload has a key that is reserved.
    PayloadReserved = "PAYLOAD_RESERVED", StatusCode::BAD_REQUEST, "The payload has a reserved key", false;
    /// The execution waits for no such signal.
    SignalUnknown = "SIGNAL_UNKNOWN", StatusCode::BAD_REQUEST, "The execution waits for no such signal", false;
    /// The signal's payload does not fit.
    SignalInvalid = "SIGNAL_INVALID", StatusCode::BAD_REQUEST, "The signal's payload does not fit its schema", false;
    /// The execution has no such task.
    TaskNotFound = "TASK_NOT_FOUND", StatusCode::NOT_FOUND, "The execution has no such task", false;
    /// No such route.
    RouteNotFound = "ROUTE_NOT_FOUND", StatusCode::NOT_FOUND, "There is no such route", false;
    /// The route exists, the method does not.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", StatusCode::METHOD_NOT_ALLOWED, "The route does not take this method", false;
    /// The client was too slow.
    RequestTimeout = "REQUEST_TIMEOUT", StatusCode::REQUEST_TIMEOUT, "The request did not arrive in time", false;
    /// The idempotency key belongs to another request.
    IdempotencyKeyReused = "IDEMPOTENCY_KEY_REUSED", StatusCode::CONFLICT, "The idempotency key was used for another request", false;
    /// The execution has ended.
    ExecutionEnded = "EXECUTION_ENDED", StatusCode::CONFLICT, "The execution has ended", false;
    /// The execution has not ended badly.
    ExecutionNotFailed = "EXECUTION_NOT_FAILED", StatusCode::CONFLICT, "The execution has not failed", false;
    /// There is nothing that could be retried.
    NothingToRetry = "NOTHING_TO_RETRY", StatusCode::CONFLICT, "The execution came to no task", false;
    /// A task beside others cannot be begun again alone.
    ResetNotPossible = "RESET_NOT_POSSIBLE", StatusCode::CONFLICT, "The execution cannot go back to this task", false;
    /// The execution has used up what an execution may have.
    RunLimit = "RUN_LIMIT", StatusCode::CONFLICT, "The execution is too long to go on", false;
    /// The execution had as many signals as it may have.
    SignalLimit = "SIGNAL_LIMIT", StatusCode::CONFLICT, "The execution had too many signals", false;
    /// The execution stands otherwise.
    Conflict = "CONFLICT", StatusCode::CONFLICT, "The execution does not stand so that this could be done", false;
    /// The body, or a part of it, is larger than its limit.
    PayloadTooLarge = "PAYLOAD_TOO_LARGE", StatusCode::PAYLOAD_TOO_LARGE, "The body is too large", false;
    /// The body is not declared as JSON.
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body is not declared as JSON", false;
    /// The client asks too often.
    RateLimited = "RATE_LIMITED", StatusCode::TOO_MANY_REQUESTS, "The client asks too often", true;
    /// A defect of the host.
    Internal = "INTERNAL", StatusCode::INTERNAL_SERVER_ERROR, "The host has a defect", false;
    /// The journal on the disk is not usable; an operator must look at it.
    JournalCorrupt = "JOURNAL_CORRUPT", StatusCode::INTERNAL_SERVER_ERROR, "The journal cannot be read", false;
    /// This engine does not do it.
    NotSupported = "NOT_SUPPORTED", StatusCode::NOT_IMPLEMENTED, "The engine does not do this", false;
    /// The journal cannot be written now.
    StorageUnavailable = "STORAGE_UNAVAILABLE", StatusCode::SERVICE_UNAVAILABLE, "The journal is not available", true;
    /// Nobody takes the work of a queue.
    WorkerUnavailable = "WORKER_UNAVAILABLE", StatusCode::SERVICE_UNAVAILABLE, "No worker takes this work", true;
    /// A service that the work needs does not answer.
    BackendUnavailable = "BACKEND_UNAVAILABLE", StatusCode::SERVICE_UNAVAILABLE, "A service that the host needs does not answer", true;
    /// The engine has no place for more work.
    QueueFull = "QUEUE_FULL", StatusCode::SERVICE_UNAVAILABLE, "The engine's queue is full", true;
    /// Too many requests at once.
    Overloaded = "OVERLOADED", StatusCode::SERVICE_UNAVAILABLE, "The host works on too many requests", true;
    /// The host did not answer in time.
    AnswerTimeout = "ANSWER_TIMEOUT", StatusCode::SERVICE_UNAVAILABLE, "The host did not answer in time", true;
    /// The host is about to end.
    Stopping = "STOPPING", StatusCode::SERVICE_UNAVAILABLE, "The host is stopping", true;
}

/// An error on its way to a client.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    detail: String,
    retry_after_s: u64,
    more: Map<String, Value>,
}

impl Problem {
    /// A problem with one sentence of detail for a person.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry_after_s: RETRY_AFTER_S, more: Map::new() }
    }

    /// When to try again, for a code that is retryable; rounded up to seconds.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after_s = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self
    }

    /// Adds a fact for machines.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.more.insert(key.to_owned(), value.into());
        self
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The sentence for a person.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The document; `instance` is the path of the request.
    pub fn document(&self, instance: &str) -> Value {
        let mut document = json!({
            "type": format!("urn:compozy:problem:{}", self.code.text().to_ascii_lowercase().replace('_', "-")),
            "title": self.code.title(),
            "status": self.code.status().as_u16(),
            "code": self.code.text(),
            "detail": self.detail,
            "instance": instance,
        });
        if let Value::Object(map) = &mut document {
            map.extend(self.more.clone());
        }
        document
    }

    /// The answer to the request for `instance`.
    pub fn respond(&self, instance: &str) -> Response {
        let mut response = (self.code.status(), self.document(instance).to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.code.retryable() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after_s));
        }
        response
    }
}

/// Handlers do not know the path of their request, so the problem travels in the response's extensions
/// and the outermost layer renders it.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// `; did you mean ...?` when a known name is near, else the known names when they are few.
pub(crate) fn suggest<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    const FEW: usize = 8;
    let nearest = known.clone().map(|k| (strsim::jaro_winkler(name, k), k)).max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((score, near)) if score > 0.8 => format!("; did you mean `{near}`?"),
        Some(_) if known.clone().count() <= FEW => {
            let names: Vec<String> = known.map(|k| format!("`{k}`")).collect();
            format!("; known: {}", names.join(", "))
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_have_error_statuses() {
        let mut texts: Vec<_> = Code::ALL.iter().map(|c| c.text()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(code.status().is_client_error() || code.status().is_server_error(), "{code:?}");
            let later = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&code.status());
            assert_eq!(code.retryable(), later, "{code:?}");
            assert!(!code.title().ends_with('.'), "{code:?}");
        }
    }

    #[test]
    fn a_document_has_every_member() {
        let problem = Problem::new(Code::PayloadTooLarge, "too much").with("limit_bytes", 5);
        assert_eq!(
            problem.document("/x"),
            json!({
                "type": "urn:compozy:problem:payload-too-large", "title": "The body is too large", "status": 413,
                "code": "PAYLOAD_TOO_LARGE", "detail": "too much", "instance": "/x", "limit_bytes": 5,
            })
        );
    }

    #[test]
    fn suggestions_are_near_or_few() {
        for (name, known, expected) in [
            ("wether", vec!["weather", "files"], "; did you mean `weather`?"),
            ("zzz", vec!["weather"], "; known: `weather`"),
            ("zzz", vec![], ""),
            ("zzz", vec!["a", "b", "c", "d", "e", "f", "g", "h", "i"], ""),
        ] {
            assert_eq!(suggest(name, known.into_iter()), expected, "{name}");
        }
    }
}
