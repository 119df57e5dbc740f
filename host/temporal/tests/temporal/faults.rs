//! The server dies and comes back, or does not answer for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use compozy_engine::port::Engine as _;
use compozy_interpreter::Status;
use compozy_temporal::{Address, ConnectError, TemporalEngine};
use serde_json::json;

use crate::common::{Script, linear, request};
use crate::support::{PATIENCE, Site, until, wait};

/// A script whose tasks take a moment, and how often it was called.
fn slow(ms: u64) -> (Arc<Script>, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let script = Script::new(move |call| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            crate::common::report(Ok(json!(call.task)))
        }
    });
    (script, calls)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_comes_back_loses_no_run_on_temporal() {
    let mut server = tokio::task::spawn_blocking(temporal_test_server::Server::start).await.unwrap();
    let (script, calls) = slow(300);
    let site = Site::at(&server.url(), script);
    let engine = site.with(|options| options.rpc_timeout = Duration::from_secs(2)).await;
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(engine.start(request(&linear(4))).await.unwrap());
    }
    until("tasks run", || async { calls.load(Ordering::SeqCst) >= 8 }).await;
    let server = tokio::task::spawn_blocking(move || {
        server.kill();
        server
    });
    let mut server = server.await.unwrap();
    let begun = Instant::now();
    let away = engine.start(request(&linear(1))).await.unwrap_err();
    assert_eq!(away.code(), "BACKEND_UNAVAILABLE", "{away}");
    assert!(begun.elapsed() < Duration::from_secs(10), "no request hangs");
    until("the engine says so", || async { !engine.health().writable }).await;
    let server = tokio::task::spawn_blocking(move || {
        server.restart();
        server
    });
    let server = server.await.unwrap();
    for id in &ids {
        let execution = wait(&engine, id).await;
        assert_eq!(execution.state.status, Status::Success, "{:?}", execution.state.failure);
        assert_eq!(execution.state.tasks.len(), 4);
    }
    until("the engine says that all is well", || async { engine.health().writable }).await;
    engine.stop(PATIENCE).await;
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_for_a_while_delays_runs_and_nothing_else_on_temporal() {
    let mut server = tokio::task::spawn_blocking(temporal_test_server::Server::start).await.unwrap();
    let (script, calls) = slow(200);
    let site = Site::at(&server.url(), script);
    let engine = site.with(|options| options.rpc_timeout = Duration::from_secs(2)).await;
    let id = engine.start(request(&linear(4))).await.unwrap();
    until("a task runs", || async { calls.load(Ordering::SeqCst) >= 1 }).await;
    server.pause();
    let begun = Instant::now();
    let away = engine.start(request(&linear(1))).await.unwrap_err();
    assert_eq!(away.code(), "BACKEND_UNAVAILABLE", "{away}");
    assert!(begun.elapsed() < Duration::from_secs(10), "no request hangs");
    tokio::time::sleep(Duration::from_secs(8)).await;
    server.resume();
    let execution = wait(&engine, &id).await;
    assert_eq!(execution.state.status, Status::Success, "{:?}", execution.state.failure);
    engine.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_does_not_answer_is_told_in_time_on_temporal() {
    // Nobody listens on a port that was just free.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut site = Site::at(&format!("http://127.0.0.1:{port}"), Script::echo());
    site.options.address.connect_timeout = Duration::from_secs(1);
    let begun = Instant::now();
    let error = TemporalEngine::open(site.options.clone()).await.err().expect("nobody answers");
    assert!(begun.elapsed() < Duration::from_secs(5));
    let text = error.to_string();
    assert!(matches!(error, ConnectError::Away { .. }), "{text}");
    assert!(text.contains(&format!("127.0.0.1:{port}")) && text.contains("check that it runs"), "{text}");
    let wrong = TemporalEngine::open(compozy_temporal::TemporalOptions {
        address: Address::new("not an address"),
        ..site.options.clone()
    });
    assert!(matches!(wrong.await.err(), Some(ConnectError::Address { .. })));
    let url = tokio::task::spawn_blocking(|| temporal_test_server::shared().url()).await.unwrap();
    let nowhere = Address { namespace: "nowhere".to_owned(), ..Address::new(url) };
    let missing = TemporalEngine::open(compozy_temporal::TemporalOptions { address: nowhere, ..site.options.clone() });
    let missing = missing.await.err().expect("there is no such namespace");
    assert!(matches!(missing, ConnectError::Namespace { .. }), "{missing}");
}
