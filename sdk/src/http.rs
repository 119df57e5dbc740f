//! Outgoing HTTP (feature `http`, capability `http`).
//!
//! ```no_run
//! use compozy_sdk::http;
//!
//! # fn main() -> Result<(), compozy_sdk::TaskError> {
//! let response = http::get("https://api.example.com/v1/forecast?city=Lisbon")?;
//! if response.status == 200 {
//!     let forecast: serde_json::Value = response.json()?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The host lets a request through only to an origin that `plugin.toml` asks for and the operator granted. A request waits at most
//! [`TIMEOUT_DEFAULT`] in all and reads at most [`BODY_BYTES_DEFAULT`] of body, unless told otherwise; the attempt's own
//! wall time goes on meanwhile. Redirects are not followed. A status such as 404 is an answer, not an error.

use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
};
use wasip2::io::poll::{Pollable, poll};
use wasip2::io::streams::StreamError;

use crate::TaskError;

/// How long a request may take in all.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// How many bytes of body an answer may have.
pub const BODY_BYTES_DEFAULT: usize = 1024 * 1024;
/// The most that WASI takes in one blocking write.
const WRITE_BYTES_MAX: usize = 4096;
const READ_BYTES_MAX: u64 = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpError {
    /// The request itself is wrong, for example its URL. Not retryable.
    InvalidRequest(String),
    /// The host does not let the plugin talk to this origin. Not retryable.
    Denied(String),
    /// Nobody answers there now. Retryable.
    Unreachable(String),
    /// The answer did not come in time. Retryable.
    Timeout {
        /// The URL that was asked.
        url: String,
        /// The time that was allowed.
        allowed: Duration,
    },
    /// The answer's body is larger than the request allows. Not retryable.
    TooLarge {
        /// The URL that was asked.
        url: String,
        /// The bytes that are allowed.
        allowed: usize,
    },
    /// The answer is not HTTP or not what it says it is. Not retryable.
    Protocol(String),
}

impl HttpError {
    /// True when trying again may help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Timeout { .. })
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidRequest(message)
            | Self::Denied(message)
            | Self::Unreachable(message)
            | Self::Protocol(message) => f.write_str(message),
            Self::Timeout { url, allowed } => write!(f, "{url} did not answer within {} ms", allowed.as_millis()),
            Self::TooLarge { url, allowed } => {
                write!(f, "{url} answered more than {allowed} bytes; ask for less, or raise `body_limit`")
            }
        }
    }
}

impl std::error::Error for HttpError {}

impl From<HttpError> for TaskError {
    fn from(error: HttpError) -> Self {
        let message = error.to_string();
        match error {
            HttpError::InvalidRequest(_) => Self::failed("HTTP_INVALID_REQUEST", message),
            HttpError::Denied(_) => Self::failed("HTTP_DENIED", message),
            HttpError::TooLarge { .. } => Self::failed("HTTP_TOO_LARGE", message),
            HttpError::Protocol(_) => Self::failed("HTTP_PROTOCOL", message),
            HttpError::Unreachable(_) => Self::unavailable("HTTP_UNREACHABLE", message),
            HttpError::Timeout { .. } => Self::unavailable("HTTP_TIMEOUT", message),
        }
    }
}

/// Asks for a URL.
///
/// # Errors
///
/// As [`HttpError`] tells.
pub fn get(url: &str) -> Result<Response, HttpError> {
    Request::get(url).send()
}

/// A request to send.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    timeout: Duration,
    body_limit: usize,
}

impl Request {
    /// A request by any method.
    pub fn new(method: &str, url: &str) -> Self {
        Self {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout: TIMEOUT_DEFAULT,
            body_limit: BODY_BYTES_DEFAULT,
        }
    }

    /// A GET request.
    pub fn get(url: &str) -> Self {
        Self::new("GET", url)
    }

    /// A POST request with a body.
    pub fn post(url: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new("POST", url) }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.as_bytes().to_vec()));
        self
    }

    /// The time that the request may take in all, in place of [`TIMEOUT_DEFAULT`].
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The bytes of body that the answer may have, in place of [`BODY_BYTES_DEFAULT`].
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }

    /// Sends the request and reads the whole answer.
    ///
    /// # Errors
    ///
    /// As [`HttpError`] tells.
    pub fn send(&self) -> Result<Response, HttpError> {
        let target = Target::parse(&self.url)?;
        if !crate::IN_HOST {
            return Err(HttpError::Denied(crate::outside("wasi:http/outgoing-handler")));
        }
        let deadline = subscribe_duration(u64::try_from(self.timeout.as_nanos()).unwrap_or(u64::MAX));
        let request = self.outgoing(&target)?;
        let body = request.body().map_err(|()| self.invalid("its body was taken already"))?;
        let options = RequestOptions::new();
        let nanoseconds = Some(u64::try_from(self.timeout.as_nanos()).unwrap_or(u64::MAX));
        // A host that does not know these timeouts is no harm: the deadline is watched here, too.
        let _ = options.set_connect_timeout(nanoseconds);
        let _ = options.set_first_byte_timeout(nanoseconds);
        let _ = options.set_between_bytes_timeout(nanoseconds);

        let future = handle(request, Some(options)).map_err(|code| self.refused(&code))?;
        self.write(body)?;
        self.wait(&future.subscribe(), &deadline)?;
        let response = future
            .get()
            .ok_or_else(|| HttpError::Protocol(format!("{}: the answer is neither here nor late", self.url)))?
            .map_err(|()| HttpError::Protocol(format!("{}: the answer was taken already", self.url)))?
            .map_err(|code| self.refused(&code))?;
        self.read(&response, &deadline)
    }

    fn outgoing(&self, target: &Target<'_>) -> Result<OutgoingRequest, HttpError> {
        let headers = Fields::from_list(&self.headers).map_err(|error| self.invalid(&format!("header: {error:?}")))?;
        let request = OutgoingRequest::new(headers);
        let method = match self.method.as_str() {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            "PATCH" => Method::Patch,
            "OPTIONS" => Method::Options,
            other => Method::Other(other.to_owned()),
        };
        request.set_method(&method).map_err(|()| self.invalid(&format!("there is no method `{}`", self.method)))?;
        let scheme = if target.https { Scheme::Https } else { Scheme::Http };
        request.set_scheme(Some(&scheme)).map_err(|()| self.invalid("its scheme is not possible"))?;
        request.set_authority(Some(target.authority)).map_err(|()| self.invalid("its host is not possible"))?;
        request.set_path_with_query(Some(&target.path)).map_err(|()| self.invalid("its path is not possible"))?;
        Ok(request)
    }

    fn write(&self, body: OutgoingBody) -> Result<(), HttpError> {
        let broken = |what: &str| HttpError::Unreachable(format!("{}: sending the body failed: {what}", self.url));
        {
            let stream = body.write().map_err(|()| broken("its stream was taken already"))?;
            for chunk in self.body.chunks(WRITE_BYTES_MAX) {
                match stream.blocking_write_and_flush(chunk) {
                    Ok(()) => {}
                    // The other side needs no more of it; its answer says why.
                    Err(StreamError::Closed) => break,
                    Err(StreamError::LastOperationFailed(error)) => return Err(broken(&error.to_debug_string())),
                }
            }
        }
        OutgoingBody::finish(body, None).map_err(|code| self.refused(&code))
    }

    fn read(&self, response: &IncomingResponse, deadline: &Pollable) -> Result<Response, HttpError> {
        let mut answer = Response {
            url: self.url.clone(),
            status: response.status(),
            headers: response.headers().entries(),
            body: Vec::new(),
        };
        let body = response
            .consume()
            .map_err(|()| HttpError::Protocol(format!("{}: the body was taken already", self.url)))?;
        let stream =
            body.stream().map_err(|()| HttpError::Protocol(format!("{}: the body was taken already", self.url)))?;
        loop {
            match stream.read(READ_BYTES_MAX) {
                Ok(chunk) if chunk.is_empty() => self.wait(&stream.subscribe(), deadline)?,
                Ok(chunk) if answer.body.len() + chunk.len() > self.body_limit => {
                    return Err(HttpError::TooLarge { url: self.url.clone(), allowed: self.body_limit });
                }
                Ok(chunk) => answer.body.extend_from_slice(&chunk),
                Err(StreamError::Closed) => return Ok(answer),
                Err(StreamError::LastOperationFailed(error)) => {
                    let reason = error.to_debug_string();
                    return Err(HttpError::Unreachable(format!("{}: the answer broke off: {reason}", self.url)));
                }
            }
        }
    }

    /// Waits until `ready` or the deadline.
    fn wait(&self, ready: &Pollable, deadline: &Pollable) -> Result<(), HttpError> {
        if poll(&[ready, deadline]).contains(&0) {
            Ok(())
        } else {
            Err(HttpError::Timeout { url: self.url.clone(), allowed: self.timeout })
        }
    }

    fn invalid(&self, what: &str) -> HttpError {
        HttpError::InvalidRequest(format!("{} {}: {what}", self.method, self.url))
    }

    fn refused(&self, code: &ErrorCode) -> HttpError {
        let url = &self.url;
        match code {
            ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => HttpError::Denied(format!(
                "{url}: the host does not allow it; request the origin in `plugin.toml` and grant it under `plugins` in `compozy.yaml`"
            )),
            ErrorCode::DnsTimeout
            | ErrorCode::ConnectionTimeout
            | ErrorCode::ConnectionReadTimeout
            | ErrorCode::ConnectionWriteTimeout
            | ErrorCode::HttpResponseTimeout => HttpError::Timeout { url: url.clone(), allowed: self.timeout },
            ErrorCode::DnsError(_)
            | ErrorCode::DestinationNotFound
            | ErrorCode::DestinationUnavailable
            | ErrorCode::DestinationIpUnroutable
            | ErrorCode::ConnectionRefused
            | ErrorCode::ConnectionTerminated
            | ErrorCode::ConnectionLimitReached
            | ErrorCode::HttpResponseIncomplete
            | ErrorCode::InternalError(_) => HttpError::Unreachable(format!("{url} cannot be reached: {code:?}")),
            ErrorCode::HttpRequestMethodInvalid
            | ErrorCode::HttpRequestUriInvalid
            | ErrorCode::HttpRequestUriTooLong
            | ErrorCode::HttpRequestLengthRequired
            | ErrorCode::HttpRequestBodySize(_)
            | ErrorCode::HttpRequestHeaderSectionSize(_)
            | ErrorCode::HttpRequestHeaderSize(_) => self.invalid(&format!("{code:?}")),
            _ => HttpError::Protocol(format!("{url}: {code:?}")),
        }
    }
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub struct Response {
    url: String,
    /// For example 200.
    pub status: u16,
    /// Names as they came, usually in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name, in any case, when it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(candidate, _)| candidate.eq_ignore_ascii_case(name))?;
        str::from_utf8(value).ok()
    }

    /// The body as text.
    ///
    /// # Errors
    ///
    /// [`HttpError::Protocol`] when it is not UTF-8.
    pub fn text(&self) -> Result<&str, HttpError> {
        str::from_utf8(&self.body).map_err(|error| HttpError::Protocol(format!("{}: {error}", self.url)))
    }

    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// [`HttpError::Protocol`] that names the path, when it is not JSON or does not fit `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, HttpError> {
        crate::task::parse(&self.body).map_err(|problem| {
            HttpError::Protocol(format!("{} answered other JSON than expected: {problem}", self.url))
        })
    }
}

/// The parts of a URL that a request is made of.
#[derive(Debug, PartialEq, Eq)]
struct Target<'a> {
    https: bool,
    authority: &'a str,
    path: String,
}

impl<'a> Target<'a> {
    fn parse(url: &'a str) -> Result<Self, HttpError> {
        let invalid = |what: &str| Err(HttpError::InvalidRequest(format!("the URL `{url}` {what}")));
        let Some((scheme, rest)) = url.split_once("://") else {
            return invalid("has no scheme; it begins with `https://` or `http://`");
        };
        let https = match scheme {
            "https" => true,
            "http" => false,
            _ => return invalid("has another scheme than `https` or `http`"),
        };
        if rest.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') || !rest.is_ascii() {
            return invalid("has spaces or characters that are not ASCII; percent-encode them");
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.is_empty() {
            return invalid("has no host");
        }
        if authority.contains('@') {
            return invalid("has a user name in it; send credentials in a header");
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self { https, authority, path: format!("{slash}{path}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        for (url, https, authority, path) in [
            ("https://a.example", true, "a.example", "/"),
            ("http://a.example:8080/x/y?q=1#part", false, "a.example:8080", "/x/y?q=1"),
            ("https://a.example?q=1", true, "a.example", "/?q=1"),
        ] {
            assert_eq!(Target::parse(url).unwrap(), Target { https, authority, path: path.into() }, "{url}");
        }
    }

    #[test]
    fn a_url_that_cannot_be_asked_is_refused_with_the_reason() {
        for (url, reason) in [
            ("a.example/x", "has no scheme"),
            ("ftp://a.example", "another scheme"),
            ("https:///x", "has no host"),
            ("https://me:secret@a.example", "user name"),
            ("https://a.example/São Paulo", "percent-encode"),
        ] {
            let error = Target::parse(url).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains(url), "{error}");
        }
    }

    #[test]
    fn outside_the_host_a_request_is_denied() {
        assert!(matches!(get("https://a.example"), Err(HttpError::Denied(_))));
    }

    #[derive(Debug, serde::Deserialize)]
    struct Days {
        #[expect(dead_code, reason = "only parsed")]
        days: Vec<u32>,
    }

    #[test]
    fn an_answer_is_read_as_text_and_json() {
        let response = Response {
            url: "https://a.example".into(),
            status: 200,
            headers: vec![("Content-Type".into(), b"application/json".to_vec())],
            body: br#"{"days": [1, "two"]}"#.to_vec(),
        };
        assert_eq!(response.header("content-type"), Some("application/json"));
        let error = response.json::<Days>().unwrap_err().to_string();
        assert!(error.contains("at `days[1]`"), "{error}");
    }
}
