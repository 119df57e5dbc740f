//! Many at once: commits are shared, queues are bounded, and a backlog is worked off without being read as a whole.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use compozy_engine::local::LocalEngine;
use compozy_engine::port::{Engine as _, ExecutionId, StartRequest};
use compozy_engine::{EngineError, ErrorKind, limits};
use compozy_interpreter::Status;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;

use crate::common::*;

type Start<'a> = Pin<Box<dyn Future<Output = Result<ExecutionId, EngineError>> + Send + 'a>>;

/// Hands requests in while nothing can be written. Answers those that wait, and the refusals.
fn hand_in(engine: &LocalEngine, requests: impl Iterator<Item = StartRequest>) -> (Vec<Start<'_>>, Vec<EngineError>) {
    let (mut waiting, mut refusals) = (Vec::new(), Vec::new());
    for request in requests {
        let mut start = engine.start(request);
        match start.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => waiting.push(start),
            Poll::Ready(Err(error)) => refusals.push(error),
            Poll::Ready(Ok(id)) => panic!("{id} was answered while nothing could be written"),
        }
    }
    (waiting, refusals)
}

async fn all(starts: Vec<Start<'_>>) -> Vec<ExecutionId> {
    let mut ids = Vec::new();
    for start in starts {
        ids.push(within(start).await.unwrap());
    }
    ids
}

#[tokio::test]
async fn starts_that_come_together_share_a_commit() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::never();
    let engine = open(dir.path(), &script);
    let plan = linear(1);
    let stall = Stall::begin(dir.path());
    let (waiting, refusals) = hand_in(&engine, (0..64).map(|_| request(&plan)));
    assert!(refusals.is_empty(), "{refusals:?}");
    stall.end();
    let mut ids = all(waiting).await;
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 64);
    // The writer was about to write some of them when the others came.
    let stats = engine.stats();
    assert!(stats.commits <= 2 && stats.operations == 64, "{stats:?}");
    until("64 attempts", || script.count() == 64).await;
    assert_eq!(engine.health().open_executions, 64);
}

#[tokio::test]
async fn a_full_queue_refuses_with_a_time_to_come_back_and_loses_nothing_that_it_took() {
    let cases = [(4, limits::SUBMIT_BYTES_MAX, 10), (limits::SUBMIT_OPS_MAX, 20_000, 5_000)];
    for (operations, bytes, input_bytes) in cases {
        let dir = tempfile::tempdir().unwrap();
        let script = Script::echo();
        let adjust = |options: &mut compozy_engine::local::LocalOptions| {
            (options.queue_operations, options.queue_bytes) = (operations, bytes);
        };
        let engine = open_with(dir.path(), &script, adjust).unwrap();
        let plan = linear(1);
        let stall = Stall::begin(dir.path());
        let input = json!("x".repeat(input_bytes));
        let (waiting, refusals) = hand_in(&engine, (0..64).map(|_| request_with(&plan, input.clone())));
        // The writer took one load from the queue before it found that it cannot write.
        assert!(!waiting.is_empty() && waiting.len() <= 8, "{} wait", waiting.len());
        assert_eq!(refusals.len(), 64 - waiting.len());
        for refusal in refusals {
            let EngineError::QueueFull { operations: used, operations_max, bytes: held, bytes_max, .. } = refusal
            else {
                panic!("{refusal}")
            };
            assert_eq!((operations_max, bytes_max), (operations, bytes));
            assert!(used == operations || held + input_bytes > bytes, "{refusal}");
            assert_eq!((refusal.kind(), refusal.retry_after()), (ErrorKind::Busy, Some(Duration::from_secs(1))));
        }
        stall.end();
        let mut ids = all(waiting).await;
        // There is room again.
        ids.push(engine.start(request(&plan)).await.unwrap());
        for id in &ids {
            ended(&engine, id).await;
            assert_sound(&engine, id).await;
        }
        assert_eq!(engine.list(100, None).await.unwrap().len(), ids.len(), "nothing of what was refused");
    }
}

#[tokio::test]
async fn a_start_that_nobody_waits_for_any_more_is_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::echo();
    let engine = open(dir.path(), &script);
    let plan = linear(1);
    let stall = Stall::begin(dir.path());
    let (waiting, _) = hand_in(&engine, (0..5).map(|_| request(&plan)));
    drop(waiting);
    stall.end();
    // Comes after them in the queue.
    let id = run(&engine, request(&plan)).await.id;
    let list = engine.list(10, None).await.unwrap();
    assert_eq!((list.len(), &list[0].id), (6, &id));
    for line in list {
        ended(&engine, &line.id).await;
        assert_sound(&engine, &line.id).await;
    }
}

#[tokio::test]
async fn a_list_has_a_bound() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), &Script::echo());
    let plan = plan("tasks: [{id: a, type: aggregate, outputs: {x: 1}}]");
    let stall = Stall::begin(dir.path());
    let (waiting, _) = hand_in(&engine, (0..=limits::LIST_MAX).map(|_| request(&plan)));
    stall.end();
    assert_eq!(all(waiting).await.len(), limits::LIST_MAX + 1);
    let page = engine.list(usize::MAX, None).await.unwrap();
    assert_eq!(page.len(), limits::LIST_MAX);
    assert_eq!(engine.list(usize::MAX, Some(&page[limits::LIST_MAX - 1].id)).await.unwrap().len(), 1);
}

/// Counts the attempts that run, and holds them back until they are let go.
struct Gate {
    running: AtomicUsize,
    peak: AtomicUsize,
    open: Semaphore,
}

impl Gate {
    fn script(self: &Arc<Self>) -> Arc<Script> {
        let gate = Arc::clone(self);
        Script::new(move |call| {
            let gate = Arc::clone(&gate);
            gate.peak.fetch_max(gate.running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            async move {
                gate.open.acquire().await.unwrap().forget();
                gate.running.fetch_sub(1, Ordering::SeqCst);
                report(Ok(json!(call.attempt)))
            }
        })
    }
}

fn ready(folder: &Path) -> usize {
    sqlite(folder).query_row("SELECT COUNT(*) FROM task WHERE state = 'ready'", [], |row| row.get(0)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_tasks_that_wait_are_worked_off_with_bounded_concurrency() {
    const RUNS: usize = 100;
    const CONCURRENCY: usize = 32;
    let dir = tempfile::tempdir().unwrap();
    let gate = Arc::new(Gate { running: AtomicUsize::new(0), peak: AtomicUsize::new(0), open: Semaphore::new(0) });
    let script = gate.script();
    let engine = open_with(dir.path(), &script, |options| options.concurrency = CONCURRENCY).unwrap();
    let mut slow = engine.watch();
    let plan = plan(
        "tasks: [{id: all, type: collection, max_workers: 100, items: '{{ .input }}', task: {id: one, tool: tool}}]",
    );
    let items: Value = (0..100).collect();
    let stall = Stall::begin(dir.path());
    let (waiting, _) = hand_in(&engine, (0..RUNS).map(|_| request_with(&plan, items.clone())));
    stall.end();
    let ids = all(waiting).await;
    assert_eq!(ready(dir.path()), 10_000 - CONCURRENCY);
    until("all slots taken", || script.count() == CONCURRENCY && engine.health().running_tasks == 32).await;

    gate.open.add_permits(10_000);
    for id in &ids {
        assert_eq!(ended(&engine, id).await.state.status, Status::Success);
    }
    assert_eq!((gate.peak.load(Ordering::SeqCst), script.count()), (CONCURRENCY, 10_000));
    assert!(script.calls()[..CONCURRENCY].iter().all(|call| call.execution == ids[0]), "the oldest first");
    for id in [&ids[0], &ids[RUNS - 1]] {
        assert_sound(&engine, id).await;
    }
    assert!(
        matches!(slow.recv().await, Err(RecvError::Lagged(_))),
        "who does not look misses some and holds up nobody"
    );
    engine.stop(Duration::ZERO).await;
    let stats = engine.stats();
    assert_eq!((stats.attempts, stats.operations, stats.stale_results), (10_000, 10_100, 0));
    assert!(stats.commits < stats.operations, "{stats:?}");
}
