//! A client of this host's own API, for the command line: one request, one answer, one connection.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// How long a request may take in all.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// A stream says something at least this often, if only a comment.
const SILENCE_MAX: Duration = Duration::from_mins(1);
/// An answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody listens there.
    Unreachable(std::io::Error),
    /// The answer did not come in time.
    TimedOut,
    /// What came is no answer of this API.
    NotUnderstood(String),
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "{error}"),
            Self::TimedOut => write!(f, "no answer within {} s", REQUEST_MAX.as_secs()),
            Self::NotUnderstood(reason) => write!(f, "the answer cannot be understood: {reason}"),
        }
    }
}

/// What a host answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The document: a result, or a problem.
    pub body: Value,
}

/// Posts a document to the host at `address` (`127.0.0.1:5001`).
pub async fn post(address: &str, path: &str, body: &Value) -> Result<Answer, ClientError> {
    let body = body.to_string();
    let head = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    exchange(address, "POST", path, &head, body.as_bytes()).await
}

/// Asks the host at `address` for a document.
pub async fn get(address: &str, path: &str) -> Result<Answer, ClientError> {
    exchange(address, "GET", path, "", b"").await
}

async fn exchange(address: &str, method: &str, path: &str, head: &str, body: &[u8]) -> Result<Answer, ClientError> {
    let exchange = async {
        let stream = request(address, method, path, head, body).await?;
        let mut bytes = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await.map_err(ClientError::Unreachable)?;
        understand(&bytes)
    };
    tokio::time::timeout(REQUEST_MAX, exchange).await.map_err(|_elapsed| ClientError::TimedOut)?
}

async fn request(address: &str, method: &str, path: &str, head: &str, body: &[u8]) -> Result<TcpStream, ClientError> {
    let mut stream = TcpStream::connect(address).await.map_err(ClientError::Unreachable)?;
    // Version 1.0: the answer then comes in one piece and ends with the connection.
    let mut request = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n{head}\r\n").into_bytes();
    request.extend_from_slice(body);
    stream.write_all(&request).await.map_err(ClientError::Unreachable)?;
    Ok(stream)
}

/// One server-sent event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerEvent {
    /// Its name.
    pub event: String,
    /// Its number, if it has one.
    pub id: Option<String>,
    /// What it carries.
    pub data: String,
}

/// A stream of server-sent events.
#[derive(Debug)]
pub struct EventStream {
    lines: BufReader<TcpStream>,
}

/// A stream, or the document that the host answered in its place.
#[derive(Debug)]
pub enum Followed {
    /// The events.
    Events(EventStream),
    /// Most likely a problem.
    Refused(Answer),
}

/// Follows a stream of the host at `address`, from the event after `last_id`.
pub async fn follow(address: &str, path: &str, last_id: Option<&str>) -> Result<Followed, ClientError> {
    let head = last_id.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
    let begin = async {
        let stream = request(address, "GET", path, &head, b"").await?;
        let mut lines = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if next_line(&mut lines, &mut head).await? == 0 {
                return Err(ClientError::NotUnderstood("it has no end of its head".to_owned()));
            }
        }
        if head.split(' ').nth(1) == Some("200") {
            return Ok(Followed::Events(EventStream { lines }));
        }
        let mut bytes = head.into_bytes();
        lines.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await.map_err(ClientError::Unreachable)?;
        understand(&bytes).map(Followed::Refused)
    };
    tokio::time::timeout(REQUEST_MAX, begin).await.map_err(|_elapsed| ClientError::TimedOut)?
}

impl EventStream {
    /// The next event; `None` when the host has closed the stream. Comments are passed over.
    ///
    /// Not cancel-safe: a dropped wait may lose a part of an event.
    pub async fn next(&mut self) -> Result<Option<ServerEvent>, ClientError> {
        let mut event = ServerEvent::default();
        let mut line = String::new();
        loop {
            line.clear();
            let read = tokio::time::timeout(SILENCE_MAX, next_line(&mut self.lines, &mut line)).await;
            if read.map_err(|_elapsed| ClientError::TimedOut)?? == 0 {
                return Ok(None);
            }
            let text = line.trim_end_matches(['\r', '\n']);
            match text.split_once(':').map(|(name, value)| (name, value.strip_prefix(' ').unwrap_or(value))) {
                None if text.is_empty() && !event.event.is_empty() => return Ok(Some(event)),
                Some(("event", value)) => value.clone_into(&mut event.event),
                Some(("id", value)) => event.id = Some(value.to_owned()),
                Some(("data", value)) => event.data.push_str(value),
                _ => {}
            }
        }
    }
}

/// Reads one line, but not more than an answer may have.
async fn next_line(lines: &mut BufReader<TcpStream>, line: &mut String) -> Result<usize, ClientError> {
    let mut bounded = lines.take(ANSWER_BYTES_MAX);
    bounded.read_line(line).await.map_err(ClientError::Unreachable)
}

fn understand(bytes: &[u8]) -> Result<Answer, ClientError> {
    let not_understood = |reason: &str| ClientError::NotUnderstood(reason.to_owned());
    let end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .ok_or_else(|| not_understood("it has no end of its head"))?;
    let head = String::from_utf8_lossy(&bytes[..end]);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| not_understood("it has no status"))?;
    let body =
        serde_json::from_slice(&bytes[end + 4..]).map_err(|error| ClientError::NotUnderstood(error.to_string()))?;
    Ok(Answer { status, body })
}

/// A part of a path, so that whatever is in it stays in it.
pub fn path_part(text: &str) -> String {
    let mut part = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            part.push(char::from(byte));
        } else {
            part.push('%');
            for digit in [byte >> 4, byte & 15] {
                part.push(char::from_digit(u32::from(digit), 16).unwrap_or('0').to_ascii_uppercase());
            }
        }
    }
    part
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_understood_or_not() {
        let answer = understand(b"HTTP/1.0 404 Not Found\r\nx: y\r\n\r\n{\"code\":\"X\"}").expect("an answer");
        assert_eq!(answer, Answer { status: 404, body: json!({ "code": "X" }) });
        for wrong in ["", "HTTP/1.0", "HTTP/1.0 abc\r\n\r\n{}", "HTTP/1.0 200 OK\r\n\r\n<html>"] {
            assert!(matches!(understand(wrong.as_bytes()), Err(ClientError::NotUnderstood(_))), "{wrong}");
        }
    }

    #[test]
    fn a_part_of_a_path_stays_one_part() {
        assert_eq!(path_part("0199-aB_.~"), "0199-aB_.~");
        assert_eq!(path_part("a/../b?c=\u{fc} %"), "a%2F..%2Fb%3Fc%3D%C3%BC%20%25");
    }
}
