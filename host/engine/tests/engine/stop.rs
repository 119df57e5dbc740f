//! Stopping, dropping and opening again.

use std::sync::Arc;
use std::time::Duration;

use compozy_engine::EngineError;
use compozy_engine::port::Engine as _;
use compozy_interpreter::Status;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::common::*;

/// Longer than any attempt of these tests takes.
const LONG: Duration = Duration::from_mins(1);

/// The first attempt of `t0` never ends; all others answer at once.
fn hangs_once(drops: &Drops) -> Arc<Script> {
    let drops = drops.clone();
    Script::new(move |call| {
        let drops = drops.clone();
        async move {
            if (call.task.as_str(), call.attempt) == ("t0", 1) {
                return drops.pending().await;
            }
            report(Ok(json!(call.attempt)))
        }
    })
}

#[tokio::test]
async fn a_stop_lets_running_attempts_end_and_begins_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let script = Script::new(move |call| {
        let gate = Arc::clone(&held);
        async move {
            gate.acquire().await.unwrap().forget();
            report(Ok(json!(call.task)))
        }
    });
    let engine = Arc::new(open(dir.path(), &script));
    let id = engine.start(request(&linear(3))).await.unwrap();
    until("the first task", || script.count() == 1).await;
    let stopping = tokio::spawn({
        let engine = Arc::clone(&engine);
        async move { engine.stop(LONG).await }
    });
    until("it is stopping", || engine.health().detail == "the engine is stopping").await;
    let refused = engine.start(request(&linear(1))).await.unwrap_err();
    assert_eq!((refused.clone(), refused.retryable()), (EngineError::Stopping, true));
    assert!(!stopping.is_finished());
    gate.add_permits(10);
    within(stopping).await.unwrap();
    assert_eq!(script.attempts(), [("t0".to_owned(), 1)]);
    drop(engine);

    let engine = open(dir.path(), &script);
    ended(&engine, &id).await;
    let execution = assert_sound(&engine, &id).await;
    assert!(
        execution.attempts.values().all(|record| record.attempts == 1),
        "what had ended was recorded: {execution:?}"
    );
}

#[tokio::test]
async fn what_outlasts_the_drain_is_dropped_and_goes_on_at_the_next_open() {
    let dir = tempfile::tempdir().unwrap();
    let drops = Drops::default();
    let script = hangs_once(&drops);
    let engine = open(dir.path(), &script);
    let id = engine.start(request(&linear(2))).await.unwrap();
    until("the first attempt", || script.count() == 1).await;
    within(engine.stop(Duration::from_millis(20))).await;
    assert_eq!(drops.count(), 1, "nothing of an attempt runs after the stop");
    drop(engine);

    let engine = open(dir.path(), &script);
    ended(&engine, &id).await;
    let execution = assert_sound(&engine, &id).await;
    // One attempt may fail, none did: one was lost.
    assert_eq!((execution.attempts["t0"].attempts, &execution.attempts["t0"].last_failure), (2, &None));
    assert_eq!(execution.attempts["t1"].attempts, 1);
}

#[tokio::test]
async fn stopping_again_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let script = hangs_once(&Drops::default());
    let engine = Arc::new(open(dir.path(), &script));
    let id = engine.start(request(&linear(1))).await.unwrap();
    let waiting = tokio::spawn({
        let (engine, id) = (Arc::clone(&engine), id.clone());
        async move { engine.wait(&id).await.map(drop) }
    });
    within(async { tokio::join!(engine.stop(Duration::ZERO), engine.stop(LONG), engine.stop(Duration::ZERO)) }).await;
    within(engine.stop(LONG)).await;
    assert_eq!(within(waiting).await.unwrap(), Err(EngineError::Stopping), "who waits is told");
    let health = engine.health();
    assert_eq!((health.writable, health.detail.as_str(), health.running_tasks), (false, "the engine has stopped", 0));
    let refusals = [
        engine.start(request(&linear(1))).await.map(drop).unwrap_err(),
        engine.cancel(&id, String::new()).await.unwrap_err(),
        engine.execution(&id).await.map(drop).unwrap_err(),
        engine.wait(&id).await.map(drop).unwrap_err(),
    ];
    for refusal in refusals {
        assert_eq!(refusal, EngineError::Stopping);
    }
}

#[tokio::test]
async fn an_engine_that_is_dropped_leaves_a_folder_that_can_be_used_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let drops = Drops::default();
    let script = hangs_once(&drops);
    let engine = open(dir.path(), &script);
    let id = engine.start(request(&linear(2))).await.unwrap();
    until("the first attempt", || script.count() == 1).await;
    drop(engine);
    let engine = open(dir.path(), &script);
    assert_eq!(ended(&engine, &id).await.state.status, Status::Success);
    assert_eq!(assert_sound(&engine, &id).await.attempts["t0"].attempts, 2);
    until("the dropped engine's attempt is gone", || drops.count() == 1).await;
}

#[test]
fn attempts_that_vanish_with_their_runtime_are_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (callers, attempts) = (runtime(), runtime());
    let script = hangs_once(&Drops::default());
    let handle = attempts.handle().clone();
    let engine = open_with(dir.path(), &script, |options| options.runtime = Some(handle)).unwrap();
    let id = callers.block_on(engine.start(request(&linear(2)))).unwrap();
    callers.block_on(until("the first attempt", || script.count() == 1));
    drop(attempts);
    callers.block_on(until("it is told", || engine.health().detail == "the runtime that runs the tasks has ended"));
    assert!(!engine.health().writable);
    assert_eq!(callers.block_on(engine.start(request(&linear(1)))).unwrap_err(), EngineError::Stopping);
    drop(engine);
    callers.block_on(async {
        let engine = open(dir.path(), &script);
        ended(&engine, &id).await;
        assert_eq!(assert_sound(&engine, &id).await.attempts["t0"].attempts, 2);
    });
}
