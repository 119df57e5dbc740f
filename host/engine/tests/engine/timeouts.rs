//! Every timeout fires by its own timer, says which one it was, and ends what runs.

use std::sync::Arc;
use std::time::Duration;

use compozy_engine::Clock;
use compozy_engine::local::LocalEngine;
use compozy_engine::port::{Engine as _, Execution};
use compozy_interpreter::{Failure, Status, TaskKey, Timeout};
use serde_json::json;

use crate::common::*;

fn failure<'e>(execution: &'e Execution, task: &str) -> &'e Failure {
    let task = &execution.state.tasks[&TaskKey(task.to_owned())];
    assert_eq!(task.status, Status::TimedOut);
    task.failure.as_ref().unwrap()
}

fn held(folder: &std::path::Path, script: &Arc<Script>, clock: &Arc<HandClock>) -> LocalEngine {
    let opened = open_with(folder, script, |options| {
        options.clock = Arc::clone(clock) as Arc<dyn Clock>;
        options.concurrency = 1;
    });
    opened.unwrap()
}

/// Lets the engine look at a clock that was moved: a request wakes it.
async fn nudge(engine: &LocalEngine) {
    drop(engine.cancel(&compozy_engine::port::ExecutionId("nobody".into()), String::new()).await);
}

#[tokio::test]
async fn a_task_that_no_slot_was_free_for_in_time_never_begins() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, script) = (HandClock::new(), Script::never());
    let engine = held(dir.path(), &script, &clock);
    let first = engine.start(request(&linear(1))).await.unwrap();
    let second = engine.start(request(&with_policy("{schedule_to_start_timeout: 5s}"))).await.unwrap();
    clock.set(4_999);
    nudge(&engine).await;
    assert_eq!(engine.execution(&second).await.unwrap().unwrap().state.status, Status::Running);
    clock.set(5_000);
    nudge(&engine).await;
    let ended = ended(&engine, &second).await;
    let failure = failure(&ended, "t");
    assert_eq!((failure.code.as_str(), failure.timeout), ("TASK_TIMEOUT", Some(Timeout::ScheduleToStart)));
    assert_eq!(failure.details, json!({"timeout": "schedule_to_start", "limit_ms": 5_000, "attempt": 0}));
    assert_eq!(script.count(), 1, "only the first run's task began");
    engine.cancel(&first, String::new()).await.unwrap();
}

#[tokio::test]
async fn an_attempt_without_a_sign_of_life_is_ended_and_another_begins() {
    let dir = tempfile::tempdir().unwrap();
    let drops = Drops::default();
    let seen = drops.clone();
    let script = Script::new(move |call| {
        let silent = seen.pending();
        async move {
            if call.attempt == 1 {
                return silent.await;
            }
            // Longer than the timeout in all, but never silent for that long.
            for _ in 0..6 {
                tokio::time::sleep(Duration::from_millis(60)).await;
                call.signs.heartbeat();
            }
            report(Ok(json!(call.attempt)))
        }
    });
    let engine = open(dir.path(), &script);
    let policy = "{heartbeat_timeout: 200ms, retry_policy: {initial_interval: 1ms, maximum_attempts: 2}}";
    let ended = run(&engine, request(&with_policy(policy))).await;
    assert_eq!(ended.state.output, Some(json!(2)));
    assert!(drops.count() >= 1, "the silent attempt was dropped");
    let last = ended.attempts["t"].last_failure.as_ref().unwrap();
    assert!(last.contains("TASK_TIMEOUT") && last.contains("heartbeat timeout of 200 ms (attempt 1)"), "{last}");
}

#[tokio::test]
async fn the_timeout_of_the_run_ends_everything_also_when_no_host_ran_at_that_time() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, script) = (HandClock::new(), Script::never());
    let engine = held(dir.path(), &script, &clock);
    let plan = plan(
        "config: {workflow_timeout: 10s}\ntasks:\n  - {id: t, tool: tool, on_error: {}}\n  - {id: u, tool: tool}\n",
    );
    let id = engine.start(request(&plan)).await.unwrap();
    drop(engine);
    clock.set(9_999);
    let engine = held(dir.path(), &script, &clock);
    assert_eq!(engine.execution(&id).await.unwrap().unwrap().state.status, Status::Running);
    drop(engine);
    clock.set(20_000);
    let engine = held(dir.path(), &script, &clock);
    let ended = ended(&engine, &id).await;
    assert_eq!(ended.state.status, Status::TimedOut);
    assert_eq!(ended.state.failure.unwrap().code, "WORKFLOW_TIMEOUT");
    assert_eq!(kinds(&engine, &id).await, ["started", "timer_fired"]);
}

#[tokio::test]
async fn sleeps_and_waits_go_on_after_a_restart_late_and_never_early() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, script) = (HandClock::new(), Script::echo());
    let engine = held(dir.path(), &script, &clock);
    let plan = plan(
        "tasks:
  - {id: t, tool: tool, sleep: 10s}
  - {id: w, type: wait, wait_for: go, timeout: 5s, on_timeout: late}
  - {id: never, tool: tool}
  - {id: late, tool: tool}
",
    );
    let id = engine.start(request(&plan)).await.unwrap();
    stands(&engine, &id, Status::Waiting).await;
    drop(engine);
    clock.set(9_999);
    let engine = held(dir.path(), &script, &clock);
    assert_eq!(engine.execution(&id).await.unwrap().unwrap().state.tasks.len(), 1);
    clock.set(60_000);
    nudge(&engine).await;
    nudge(&engine).await;
    assert_eq!(
        engine.execution(&id).await.unwrap().unwrap().state.tasks.len(),
        2,
        "the wait counts from its own beginning"
    );
    clock.set(-60_000);
    nudge(&engine).await;
    drop(engine);
    clock.set(65_000);
    let engine = held(dir.path(), &script, &clock);
    let ended = ended(&engine, &id).await;
    assert_eq!(failure(&ended, "w").code, "WAIT_TIMEOUT");
    assert_eq!(ended.state.output, Some(json!("late")));
    assert_eq!(script.attempts(), [("t".to_owned(), 1), ("late".to_owned(), 1)]);
    assert_eq!(engine.verify(&id).await.unwrap(), None);
}

#[tokio::test]
async fn the_timeout_of_a_container_drops_what_runs_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let drops = Drops::default();
    let seen = drops.clone();
    let script = Script::new(move |_| seen.pending());
    let engine = open(dir.path(), &script);
    let plan =
        plan("tasks: [{id: p, type: parallel, timeout: 50ms, tasks: [{id: a, tool: tool}, {id: b, tool: tool}]}]");
    let ended = run(&engine, request(&plan)).await;
    let failure = failure(&ended, "p");
    assert_eq!((failure.code.as_str(), failure.timeout), ("TASK_TIMEOUT", Some(Timeout::StartToClose)));
    assert_eq!(ended.state.status, Status::Failed);
    until("both attempts were dropped", || drops.count() == 2).await;
}
