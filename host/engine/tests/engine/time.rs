//! A clock that a test holds: timers fire late when it jumps, and never early.

use std::sync::Arc;
use std::time::Duration;

use compozy_engine::Clock;
use compozy_engine::local::LocalEngine;
use compozy_engine::port::{Engine as _, ExecutionId};
use compozy_interpreter::{Failure, Status};
use serde_json::json;

use crate::common::*;

fn engine(folder: &std::path::Path, script: &Arc<Script>, clock: &Arc<HandClock>, concurrency: usize) -> LocalEngine {
    let opened = open_with(folder, script, |options| {
        options.clock = Arc::clone(clock) as Arc<dyn Clock>;
        options.concurrency = concurrency;
    });
    opened.unwrap()
}

/// Fails at first, then tells when it ran, in milliseconds from noon.
fn fails_once(clock: &Arc<HandClock>) -> Arc<Script> {
    let clock = Arc::clone(clock);
    Script::now(move |call| match call.attempt {
        1 => Err(Failure::transient("DOWN", "is down")),
        _ => Ok(json!(clock.get())),
    })
}

async fn waits(engine: &LocalEngine, id: &ExecutionId) -> u64 {
    loop {
        let execution = engine.execution(id).await.unwrap().unwrap();
        match execution.attempts["t"].next_attempt_at_ms {
            Some(at_ms) => return at_ms,
            None => tokio::time::sleep(LOOK).await,
        }
    }
}

#[tokio::test]
async fn a_retry_is_never_early_whatever_the_clock_does() {
    let dir = tempfile::tempdir().unwrap();
    let clock = HandClock::new();
    let script = fails_once(&clock);
    let engine = engine(dir.path(), &script, &clock, 4);
    let plan = with_policy("{schedule_to_close_timeout: 10h, retry_policy: {initial_interval: 20ms}}");
    let id = engine.start(request(&plan)).await.unwrap();
    assert_eq!(within(waits(&engine, &id)).await, NOON + 20);
    // The engine's sleep is over after 20 ms by any other clock, but this one says that it is too early.
    for moment in [0, 19, -100, 19] {
        clock.set(moment);
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert_eq!(script.count(), 1, "at {moment}");
    }
    clock.set(20);
    let execution = ended(&engine, &id).await;
    assert_eq!(execution.state.tasks.values().next().unwrap().output, Some(json!(20)));
}

#[tokio::test]
async fn a_clock_that_jumps_back_makes_timers_late_and_events_no_earlier() {
    let dir = tempfile::tempdir().unwrap();
    let clock = HandClock::new();
    let script = fails_once(&clock);
    let engine = engine(dir.path(), &script, &clock, 4);
    let plan = with_policy("{schedule_to_close_timeout: 10h, retry_policy: {initial_interval: 1s}}");
    let first = engine.start(request(&plan)).await.unwrap();
    within(waits(&engine, &first)).await;
    clock.set(-3_600_000);
    // Other work goes on, with the time as it is now.
    let second = engine.start(request(&plan)).await.unwrap();
    // The wait is longer by chance, by a fifth at most.
    let due = within(waits(&engine, &second)).await - (NOON - 3_600_000);
    assert!((1_000..=1_200).contains(&due), "{due}");
    assert_eq!(script.count(), 2);
    engine.cancel(&second, String::new()).await.unwrap();
    let canceled = ended(&engine, &second).await;
    assert_eq!((canceled.state.status, script.count()), (Status::Canceled, 2));

    clock.set(5_000);
    // Anything that happens makes the engine look at its clock again; alone it does so once a minute.
    let third = engine.start(request(&linear(1))).await.unwrap();
    let execution = ended(&engine, &first).await;
    assert_eq!(execution.state.tasks.values().next().unwrap().output, Some(json!(5_000)), "late, not early");
    ended(&engine, &third).await;

    let fourth = engine.start(request(&with_policy("{retry_policy: {initial_interval: 10ms}}"))).await.unwrap();
    within(waits(&engine, &fourth)).await;
    clock.set(-500);
    engine.cancel(&fourth, "in the past".into()).await.unwrap();
    let times: Vec<u64> = engine.journal(&fourth).await.unwrap().iter().map(|record| record.at_ms).collect();
    assert_eq!(times, [NOON + 5_000, NOON + 5_000], "the events of a run never go back in time");
}

#[tokio::test]
async fn a_retry_that_was_due_while_no_host_ran_comes_at_the_next_open_and_no_sooner() {
    let dir = tempfile::tempdir().unwrap();
    let clock = HandClock::new();
    let script = fails_once(&clock);
    let policy = "{schedule_to_close_timeout: 10h, retry_policy: {initial_interval: 1h, maximum_interval: 1h}}";
    let before = engine(dir.path(), &script, &clock, 4);
    let id = before.start(request(&with_policy(policy))).await.unwrap();
    within(waits(&before, &id)).await;
    before.stop(Duration::ZERO).await;

    clock.set(3_599_999);
    let early = engine(dir.path(), &script, &clock, 4);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!((script.count(), within(waits(&early, &id)).await), (1, NOON + 3_600_000));
    early.stop(Duration::ZERO).await;

    clock.set(9_000_000);
    let late = engine(dir.path(), &script, &clock, 4);
    let execution = ended(&late, &id).await;
    assert_eq!(execution.state.tasks.values().next().unwrap().output, Some(json!(9_000_000)));
}

#[tokio::test]
async fn all_attempts_together_end_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let clock = HandClock::new();
    let hand = Arc::clone(&clock);
    // Each attempt takes 40 ms.
    let script = Script::now(move |_| {
        hand.set(hand.get() + 40);
        Err(Failure::transient("DOWN", "is down"))
    });
    let engine = engine(dir.path(), &script, &clock, 4);
    let plan = with_policy(
        "{schedule_to_close_timeout: 100ms, retry_policy: {maximum_attempts: 100, initial_interval: 10ms, backoff_coefficient: 1}}",
    );
    let id = engine.start(request(&plan)).await.unwrap();
    assert_eq!(within(waits(&engine, &id)).await, NOON + 50);
    clock.set(50);
    let execution = ended(&engine, &id).await;
    let failure = execution.state.tasks.values().next().unwrap().failure.clone().unwrap();
    assert_eq!(failure.code, "DOWN", "the cause says more than that the time is over");
    let why =
        "is down (no attempt follows: the next, in 10 ms, would begin after the schedule_to_close timeout of 100 ms)";
    assert_eq!(failure.message, why);
    let timeouts: Vec<Duration> = script.calls().iter().map(|call| call.timeout).collect();
    assert_eq!(timeouts, [Duration::from_millis(100), Duration::from_millis(50)], "an attempt gets what is left");
}

#[tokio::test]
async fn a_task_that_waits_for_a_slot_until_its_time_is_over_fails_without_an_attempt() {
    let dir = tempfile::tempdir().unwrap();
    let clock = HandClock::new();
    let script = Script::never();
    let engine = engine(dir.path(), &script, &clock, 1);
    let holder = engine.start(request(&with_policy("{start_to_close_timeout: 10h}"))).await.unwrap();
    let waiting = engine.start(request(&with_policy("{schedule_to_close_timeout: 1m}"))).await.unwrap();
    assert_eq!(engine.execution(&waiting).await.unwrap().unwrap().attempts["t"].attempts, 0);
    clock.set(60_000);
    engine.cancel(&holder, "make room".into()).await.unwrap();
    let execution = ended(&engine, &waiting).await;
    let failure = execution.state.tasks.values().next().unwrap().failure.clone().unwrap();
    assert_eq!(failure.message, "task `t` did not end within its schedule_to_close timeout of 60000 ms (attempt 0)");
    assert_eq!((execution.attempts["t"].attempts, script.count()), (0, 1));
}
