//! A client for one request per connection, which can also send what no library would.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::PATIENCE;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as JSON; every answer of the host is JSON.
    pub body: Value,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
    /// The problem's code, empty when there is none.
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
    /// The problem's detail, empty when there is none.
    pub fn detail(&self) -> &str {
        self.body["detail"].as_str().unwrap_or_default()
    }
}

/// Sends one request to `address` (`127.0.0.1:port`).
pub fn send(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n")?;
    }
    if !body.is_empty() {
        write!(head, "content-length: {}\r\n", body.len())?;
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    // The host may answer and close before it has read a body that it refuses.
    let _ = stream.write_all(body);
    let mut raw = Vec::new();
    let ended = stream.read_to_end(&mut raw);
    ensure!(!raw.is_empty(), "{method} {path}: no answer ({ended:?})");
    parse(&raw).with_context(|| format!("{method} {path}"))
}

fn parse(raw: &[u8]) -> Result<Answer> {
    let text = String::from_utf8_lossy(raw);
    let (head, body) = text.split_once("\r\n\r\n").context("an answer without an end of its headers")?;
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    let Some(status) = status.split(' ').nth(1).and_then(|code| code.parse().ok()) else {
        bail!("not an HTTP answer: {status}");
    };
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let body = serde_json::from_str(body).with_context(|| format!("status {status}, body is not JSON: {body}"))?;
    Ok(Answer { status, headers, body })
}
