//! An HTTP client that costs little: one connection per run in flight, kept open, requests that are the same text.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::setting::WORKFLOW;

/// A connection that is kept.
pub(crate) struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: Vec::with_capacity(4096) })
    }

    /// Sends a request and answers the body of a 200.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<&[u8]> {
        self.stream.write_all(request).await?;
        self.answer.clear();
        loop {
            ensure!(self.stream.read_buf(&mut self.answer).await? > 0, "the host closed the connection");
            let Some(head) = self.answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let text = std::str::from_utf8(&self.answer[..head])?.to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.context("an answer without a length")?.trim().parse()?;
            if self.answer.len() < head + 4 + length {
                continue;
            }
            if !text.starts_with("http/1.1 200") {
                bail!("{}", String::from_utf8_lossy(&self.answer));
            }
            return Ok(&self.answer[head + 4..]);
        }
    }
}

/// A request that starts the workflow and waits for its result.
pub(crate) fn start_and_wait(address: &str) -> Vec<u8> {
    let body = r#"{"input":{"n":7}}"#;
    format!(
        "POST /api/v0/workflows/{WORKFLOW}/executions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         prefer: wait=20\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A GET.
pub(crate) fn get(address: &str, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").into_bytes()
}

/// Keeps so many runs in flight, each on its own connection; answers the time from start to result of each.
pub(crate) async fn load(address: &str, in_flight: usize, duration: Duration) -> Result<(Vec<Duration>, Duration)> {
    let request = start_and_wait(address);
    let latencies = RefCell::new(Vec::new());
    let begun = Instant::now();
    let one = async || -> Result<()> {
        let mut connection = Connection::open(address).await?;
        while begun.elapsed() < duration {
            let sent = Instant::now();
            let answer = connection.send(&request).await?;
            let took = sent.elapsed();
            ensure!(find(answer, br#""status":"SUCCESS""#), "{}", String::from_utf8_lossy(answer));
            latencies.borrow_mut().push(took);
        }
        Ok(())
    };
    let local = LocalSet::new();
    local
        .run_until(async {
            let all = (0..in_flight).map(|_| Box::pin(one()));
            join_all(all.collect()).await
        })
        .await?;
    let elapsed = begun.elapsed();
    Ok((latencies.into_inner(), elapsed))
}

fn find(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Waits for all; only those that were woken are polled.
async fn join_all<F: Future<Output = Result<()>>>(all: Vec<F>) -> Result<()> {
    use futures_util::stream::{FuturesUnordered, StreamExt as _};
    let mut all: FuturesUnordered<F> = all.into_iter().collect();
    while let Some(done) = all.next().await {
        done?;
    }
    Ok(())
}
