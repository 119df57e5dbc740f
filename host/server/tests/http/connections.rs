//! Clients that are slow, many, or still there when the host stops. Over real sockets.

use std::time::Duration;

use crate::support::state;
use compozy_server::limits::Limits;
use compozy_server::{Lifecycle, client, router, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Far beyond what any of these tests waits for.
const LONG: Duration = Duration::from_mins(1);

struct Server {
    address: std::net::SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    lifecycle: Lifecycle,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        let (state, _) = state(limits.clone());
        let lifecycle = state.lifecycle.clone();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            serve(listener, router(state), &limits, async { drop(stopped.await) }).await;
        });
        Self { address, stop: Some(stop), task, lifecycle }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    fn stop(&mut self) {
        self.lifecycle.stop();
        drop(self.stop.take());
    }
}

/// Everything that the server sends until it closes the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A reset after the answer is an end as well.
    let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut text)).await.expect("the server closes in time");
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn the_command_line_s_client_gets_results_and_problems() {
    let server = Server::start(Limits::default()).await;
    let address = server.address.to_string();
    let body = serde_json::json!({ "reason": "a look" });
    let done = client::post(&address, "/api/v0/executions/exec-1/pause", &body).await.expect("an answer");
    assert_eq!((done.status, &done.body["operation"]), (200, &"pause".into()));
    let path = format!("/api/v0/executions/{}/retry", client::path_part("no/pe"));
    let problem = client::post(&address, &path, &serde_json::json!({})).await.expect("an answer");
    assert_eq!((problem.status, &problem.body["code"]), (404, &"EXECUTION_NOT_FOUND".into()));
    drop(server);
}

#[tokio::test]
async fn bodies_that_are_too_large_together_are_refused_until_there_is_room() {
    let limits = Limits { body_bytes: 2048, bodies_bytes: 3072, body_read: LONG, request: LONG, ..Limits::default() };
    let server = Server::start(limits).await;
    let head = |length: usize| {
        format!(
            "POST /api/v0/executions/exec-1/pause HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let body = format!("{{\"reason\":\"{}\"}}", "x".repeat(2048 - 13));
    let mut first = server.connect().await;
    first.write_all(head(body.len()).as_bytes()).await.expect("written");
    // Until the first one has its room, the others may have theirs.
    let refused = loop {
        let mut second = server.connect().await;
        second.write_all(format!("{}{body}", head(body.len())).as_bytes()).await.expect("written");
        let answer = rest(&mut second).await;
        if !answer.starts_with("HTTP/1.1 200") {
            break answer;
        }
    };
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("OVERLOADED"), "{refused}");
    assert!(refused.contains("retry-after: ") && refused.contains("`bodies_bytes`"), "{refused}");
    // A small one fits beside it, and the first goes on.
    let mut small = server.connect().await;
    small.write_all(format!("{}{{}}", head(2)).as_bytes()).await.expect("written");
    assert!(rest(&mut small).await.starts_with("HTTP/1.1 200"));
    first.write_all(body.as_bytes()).await.expect("written");
    assert!(rest(&mut first).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_client_that_never_finishes_its_headers_is_cut_off() {
    let server = Server::start(Limits { head_read: Duration::from_millis(100), ..Limits::default() }).await;
    let mut slow = server.connect().await;
    slow.write_all(b"GET /livez HTTP/1.1\r\nhost:").await.expect("written");
    let answer = rest(&mut slow).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn a_client_that_never_finishes_its_body_is_answered_408() {
    let server = Server::start(Limits { body_read: Duration::from_millis(100), ..Limits::default() }).await;
    let mut slow = server.connect().await;
    let head = "POST /api/v0/workflows/weather/executions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.expect("written");
    let answer = rest(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("REQUEST_TIMEOUT") && answer.contains("0.1 s"), "{answer}");
}

#[tokio::test]
async fn headers_beyond_their_limit_are_refused() {
    let server = Server::start(Limits::default()).await;
    let mut client = server.connect().await;
    let head = format!("GET /livez HTTP/1.1\r\nhost: x\r\nx-big: {}\r\n\r\n", "y".repeat(64 * 1024));
    // The server may close while this is being written.
    let _ = client.write_all(head.as_bytes()).await;
    let answer = rest(&mut client).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert!(!answer.contains("200 OK"), "{answer}");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let server = Server::start(Limits { connections: 1, ..Limits::default() }).await;
    let mut first = server.connect().await;
    first.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("written");
    let mut byte = [0];
    first.read_exact(&mut byte).await.expect("the first is served");
    let mut second = server.connect().await;
    second.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("written");
    let early = tokio::time::timeout(Duration::from_millis(150), second.read_exact(&mut byte)).await;
    assert!(early.is_err(), "the second waits while the first is open");
    drop(first);
    assert!(rest(&mut second).await.contains("200 OK"));
}

#[tokio::test]
async fn a_stop_ends_idle_connections_and_refuses_new_ones() {
    let mut server = Server::start(Limits::default()).await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("written");
    let mut byte = [0];
    idle.read_exact(&mut byte).await.expect("served");
    server.stop();
    rest(&mut idle).await;
    tokio::time::timeout(LONG, &mut server.task).await.expect("ends in time").expect("without a panic");
    assert!(TcpStream::connect(server.address).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn a_stop_does_not_wait_forever_for_a_request() {
    let mut server = Server::start(Limits { connection_drain: Duration::from_millis(100), ..Limits::default() }).await;
    let mut hanging = server.connect().await;
    let body = r#"{"input":{"engine":"hang"}}"#;
    let head = format!(
        "POST /api/v0/workflows/weather/executions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    hanging.write_all(head.as_bytes()).await.expect("written");
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.stop();
    tokio::time::timeout(LONG, &mut server.task).await.expect("ends in time").expect("without a panic");
}
