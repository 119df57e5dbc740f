//! Hosts that begin, work and end.

use std::path::PathBuf;
use std::time::Duration;

use compozy_embed::{HostBuilder, Mode, StoreChoice};
use redis_test_server::Server;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::small;
use crate::held::{alone, eventually_as, held, passing};

async fn ask(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

/// One life: work on plugins, an execution that waits, HTTP, a stream that is still open at the end.
async fn live(builder: HostBuilder) {
    let host = builder.listen("127.0.0.1:0").start().await.expect("it starts");
    let calls = host.start("calls", json!({})).await.expect("started");
    let waits = host.start("waits", json!({})).await.expect("started");
    assert_eq!(host.wait(&calls).await.expect("ended").state.status.name(), "SUCCESS");
    let address = host.address().expect("it listens");
    assert!(ask(address, "/readyz").await.contains(" 200 OK"), "it takes work");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
    let request = format!("GET /api/v0/executions/{waits}/events HTTP/1.1\r\nHost: h\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    assert!(stream.read(&mut [0; 64]).await.expect("the stream begins") > 0);
    host.cancel(&waits, "over", Duration::ZERO).await.expect("cancelled");
    host.stop().await;
}

pub(crate) fn a_hundred_lives_leave_nothing() {
    let data = tempfile::tempdir().expect("a folder");
    alone(async {
        // What a process makes once and keeps: the threads of the compiler, the handlers of signals.
        live(small(data.path())).await;
        live(small(data.path())).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let before = held();
        for _ in 0..100 {
            live(small(data.path())).await;
        }
        eventually_as(&before).await;
        assert_eq!(passing(data.path()), [] as [PathBuf; 0]);
        // And the lock is free.
        live(small(data.path())).await;
    });
}

pub(crate) fn a_host_that_is_dropped_leaves_nothing_either() {
    let data = tempfile::tempdir().expect("a folder");
    alone(async {
        live(small(data.path())).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let before = held();
        let host = small(data.path()).listen("127.0.0.1:0").start().await.expect("it starts");
        let waits = host.start("waits", json!({})).await.expect("started");
        drop(host);
        eventually_as(&before).await;
        let host = small(data.path()).start().await.expect("the folder is free");
        assert_eq!(host.execution(&waits).await.expect("read").expect("kept").state.status.name(), "WAITING");
        host.stop().await;
    });
}

pub(crate) fn nothing_is_left_on_a_redis_server_either() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(&[]);
    let on_redis = || {
        let stores = ["cache=redis", "locks=redis", "events=redis"];
        let choices = stores.map(|choice| choice.parse::<StoreChoice>().expect("a choice"));
        let builder = small(data.path()).redis_url(server.url()).mode(Mode::Distributed);
        choices.into_iter().fold(builder.probe_every(Duration::from_millis(5)), HostBuilder::store)
    };
    alone(async {
        live(on_redis()).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let before = held();
        for _ in 0..10 {
            live(on_redis()).await;
        }
        eventually_as(&before).await;
        let clients = server.command(&["CLIENT", "LIST"]);
        assert!(!clients.contains("name=compozy:"), "connections are still there:\n{clients}");
    });
}
