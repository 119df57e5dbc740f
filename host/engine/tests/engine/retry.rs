//! Attempts: when another follows, when none does, and what is told of them.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use compozy_engine::port::{Engine as _, Notice};
use compozy_interpreter::{Failure, Status};
use serde_json::json;

use crate::common::*;

/// The attempts that a watcher was told of: number, code, wait before the next.
fn told(notices: &[Notice]) -> Vec<(u32, String, u64)> {
    let failed = notices.iter().filter_map(|notice| match notice {
        Notice::AttemptFailed { attempt, failure, retry_in_ms, .. } => {
            Some((*attempt, failure.code.clone(), *retry_in_ms))
        }
        _ => None,
    });
    failed.collect()
}

#[tokio::test]
async fn a_failed_attempt_is_followed_by_another_after_a_growing_wait() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::now(|call| match call.attempt {
        1..4 => Err(Failure::transient("DOWN", format!("is down, {}", call.attempt))),
        attempt => Ok(json!({"attempt": attempt})),
    });
    let engine = open(dir.path(), &script);
    let mut watch = engine.watch();
    let plan = with_policy(
        "{retry_policy: {maximum_attempts: 4, initial_interval: 10ms, backoff_coefficient: 2, maximum_interval: 25ms}}",
    );
    let execution = run(&engine, request(&plan)).await;
    assert_eq!(execution.state.status, Status::Success);
    let record = &execution.attempts["t"];
    assert_eq!((record.attempts, record.last_failure.as_deref()), (4, Some("DOWN: is down, 3")));
    assert_eq!(execution.events, 2, "attempts are no events: they do not change what a run computes");
    let notices = notices_of(&mut watch, &execution.id).await;
    let wait = |attempt, wait_ms| (attempt, "DOWN".to_owned(), wait_ms);
    assert_eq!(told(&notices), [wait(1, 10), wait(2, 20), wait(3, 25)]);
    let ended = notices.iter().find_map(|notice| match notice {
        Notice::TaskEnded { attempts, status, ran, .. } => Some((*attempts, *status, ran.clone())),
        _ => None,
    });
    assert_eq!(ended, Some((4, Status::Success, Some(ran()))));
    let numbers: Vec<u32> = script.calls().iter().map(|call| call.attempt).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    for call in script.calls() {
        assert_eq!((call.idempotency_key, call.input), (format!("{}/t", execution.id), json!({"n": 1})));
    }
    assert_sound(&engine, &execution.id).await;
}

#[tokio::test]
async fn a_wait_can_be_seen_and_is_ended_by_a_cancel() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::now(|_| Err(Failure::transient("DOWN", "is down")));
    let engine = open(dir.path(), &script);
    let mut watch = engine.watch();
    let plan =
        with_policy("{schedule_to_close_timeout: 10h, retry_policy: {initial_interval: 1h, maximum_interval: 1h}}");
    let id = engine.start(request(&plan)).await.unwrap();
    while !matches!(within(watch.recv()).await.unwrap(), Notice::AttemptFailed { .. }) {}
    let record = engine.execution(&id).await.unwrap().unwrap().attempts["t"].clone();
    assert_eq!((record.attempts, record.last_failure.as_deref()), (1, Some("DOWN: is down")));
    assert_eq!(record.next_attempt_at_ms.unwrap(), record.ended_at_ms.unwrap() + 3_600_000);
    engine.cancel(&id, "enough".into()).await.unwrap();
    let execution = ended(&engine, &id).await;
    assert_eq!((execution.state.status, script.count()), (Status::Canceled, 1));
    assert_eq!(execution.attempts["t"].next_attempt_at_ms, None);
}

#[tokio::test]
async fn some_failures_are_followed_by_no_attempt() {
    let dir = tempfile::tempdir().unwrap();
    let retry = "{retry_policy: {maximum_attempts: 2, initial_interval: 1ms, non_retryable_error_types: [BAD_KEY]}}";
    let cases = [
        (Failure::transient("DOWN", "is down"), 2),
        (Failure::permanent("NO", "never"), 1),
        (Failure::transient("BAD_KEY", "wrong key"), 1),
    ];
    for (failure, attempts) in cases {
        let answer = failure.clone();
        let script = Script::now(move |_| Err(answer.clone()));
        let engine = open(dir.path(), &script);
        let execution = run(&engine, request(&with_policy(retry))).await;
        assert_eq!(execution.state.status, Status::Failed);
        let task = execution.state.tasks.values().next().unwrap().failure.clone().unwrap();
        assert_eq!((task.code.as_str(), script.count()), (failure.code.as_str(), attempts));
        assert_eq!(execution.state.failure.unwrap().code, failure.code);
        let record = &execution.attempts["t"];
        assert_eq!(record.last_failure.clone().unwrap(), format!("{}: {}", failure.code, failure.message));
        assert_eq!(record.attempts as usize, attempts);
    }
}

#[tokio::test]
async fn an_executor_that_asks_for_time_gets_it() {
    const ASKED: Duration = Duration::from_millis(150);
    let dir = tempfile::tempdir().unwrap();
    let times = Mutex::new(Vec::new());
    let script = Script::now(move |call| {
        let mut times = times.lock().unwrap();
        times.push(Instant::now());
        match call.attempt {
            1 => Err(Failure { retry_after_ms: Some(150), ..Failure::transient("BUSY", "come back later") }),
            _ => Ok(json!((times[1] - times[0]).as_millis() as u64)),
        }
    });
    let engine = open(dir.path(), &script);
    let mut watch = engine.watch();
    let plan = with_policy("{retry_policy: {initial_interval: 1ms}}");
    let execution = run(&engine, request_with(&plan, json!({}))).await;
    let waited_ms = execution.state.tasks.values().next().unwrap().output.clone().unwrap().as_u64().unwrap();
    // The clock of the journal counts whole milliseconds.
    assert!(Duration::from_millis(waited_ms + 2) >= ASKED, "{waited_ms} ms");
    assert_eq!(told(&notices_of(&mut watch, &execution.id).await), [(1, "BUSY".to_owned(), 150)]);
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_dropped_and_followed_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let drops = Drops::default();
    let held = drops.clone();
    let script = Script::new(move |call| {
        let (held, first) = (held.clone(), call.attempt == 1);
        async move { if first { held.pending().await } else { report(Ok(json!({"dropped_before": held.count()}))) } }
    });
    let engine = open(dir.path(), &script);
    let mut watch = engine.watch();
    let plan =
        with_policy("{start_to_close_timeout: 30ms, retry_policy: {maximum_attempts: 2, initial_interval: 1ms}}");
    let execution = run(&engine, request(&plan)).await;
    let output = execution.state.tasks.values().next().unwrap().output.clone().unwrap();
    assert_eq!(output, json!({"dropped_before": 1}), "the first attempt was gone before the second began");
    let failure = notices_of(&mut watch, &execution.id).await.into_iter().find_map(|notice| match notice {
        Notice::AttemptFailed { failure, .. } => Some(failure),
        _ => None,
    });
    let failure = failure.unwrap();
    assert_eq!((failure.code.as_str(), failure.retryable), ("TASK_TIMEOUT", true));
    assert_eq!(failure.message, "task `t` did not end within its start_to_close timeout of 30 ms (attempt 1)");
    assert_eq!(failure.details, json!({"timeout": "start_to_close", "limit_ms": 30, "attempt": 1}));
    assert_eq!(script.calls()[0].timeout, Duration::from_millis(30));
}

#[tokio::test]
async fn an_attempt_cannot_outlast_the_time_of_all_attempts() {
    let dir = tempfile::tempdir().unwrap();
    let drops = Drops::default();
    let held = drops.clone();
    let script = Script::new(move |_| held.pending());
    let engine = open(dir.path(), &script);
    let execution = run(&engine, request(&with_policy("{schedule_to_close_timeout: 40ms}"))).await;
    let failure = execution.state.tasks.values().next().unwrap().failure.clone().unwrap();
    assert_eq!((failure.code.as_str(), failure.retryable), ("TASK_TIMEOUT", false));
    assert_eq!(failure.message, "task `t` did not end within its schedule_to_close timeout of 40 ms (attempt 1)");
    assert_eq!(failure.details["timeout"], json!("schedule_to_close"));
    assert_eq!((drops.count(), script.count()), (1, 1));
}

#[tokio::test]
async fn an_executor_that_panics_fails_its_task_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::now(|call| {
        assert!(call.input["n"] != json!(1), "cannot work with {}", call.input);
        Ok(json!("fine"))
    });
    let engine = open(dir.path(), &script);
    let execution = run(&engine, request(&with_policy("{retry_policy: {maximum_attempts: 5}}"))).await;
    assert_eq!((execution.state.status, script.count()), (Status::Failed, 1));
    let failure = execution.state.tasks.values().next().unwrap().failure.clone().unwrap();
    assert_eq!(failure.code, "TASK_PANICKED");
    assert_eq!(failure.message, r#"the executor of task `t` panicked: cannot work with {"n":1}"#);
    assert_eq!(run(&engine, request(&linear(3))).await.state.status, Status::Success);
    assert!(engine.health().writable);
}

#[tokio::test]
async fn all_attempts_of_a_task_have_one_key_also_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::new(|call| async move {
        match call.attempt {
            1 => report(Err(Failure::transient("DOWN", "is down"))),
            2 => std::future::pending().await,
            _ => report(Ok(json!("done"))),
        }
    });
    let engine = open(dir.path(), &script);
    // Two attempts: the first fails, the second is lost with its host and does not count as failed.
    let plan = with_policy("{retry_policy: {maximum_attempts: 2, initial_interval: 1ms}}");
    let id = engine.start(request(&plan)).await.unwrap();
    until("the second attempt", || script.count() == 2).await;
    engine.stop(Duration::ZERO).await;

    let engine = open(dir.path(), &script);
    let execution = ended(&engine, &id).await;
    assert_eq!((execution.state.status, execution.attempts["t"].attempts), (Status::Success, 3));
    let keys: Vec<_> = script.calls().into_iter().map(|call| (call.attempt, call.idempotency_key)).collect();
    let key = format!("{id}/t");
    assert_eq!(keys, [(1, key.clone()), (2, key.clone()), (3, key)]);
}
