//! What people do to a run: pause, resume, cancel, terminate, retry, reset. Races and their losers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use compozy_engine::port::{Control, Engine as _, ExecutionId, Filter};
use compozy_interpreter::{Failure, Signal, Status, TaskKey};
use serde_json::json;

use crate::common::*;

fn pause() -> Control {
    Control::Pause { reason: "a look".to_owned() }
}

#[tokio::test]
async fn a_paused_run_records_what_ends_begins_nothing_and_goes_on_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Arc::new(tokio::sync::Notify::new());
    let opened = Arc::clone(&gate);
    let script = Script::new(move |call| {
        let gate = Arc::clone(&opened);
        async move {
            if call.task == "t0" {
                gate.notified().await;
            }
            report(Ok(json!(call.task)))
        }
    });
    let engine = open(dir.path(), &script);
    let id = engine.start(request(&linear(3))).await.unwrap();
    engine.control(&id, pause()).await.unwrap();
    engine.control(&id, pause()).await.unwrap();
    gate.notify_one();
    let look = async {
        while engine.execution(&id).await.unwrap().unwrap().events < 3 {
            tokio::time::sleep(LOOK).await;
        }
    };
    within(look).await;
    let paused = engine.execution(&id).await.unwrap().unwrap();
    assert_eq!((paused.state.status, paused.state.tasks.len(), script.count()), (Status::Paused, 1, 1));
    assert_eq!(paused.state.tasks[0].status, Status::Success);
    drop(engine);
    let engine = open(dir.path(), &script);
    assert_eq!(engine.execution(&id).await.unwrap().unwrap().state.status, Status::Paused);
    engine.control(&id, Control::Resume).await.unwrap();
    let sound = ended(&engine, &id).await;
    assert_eq!(sound.state.status, Status::Success);
    engine.control(&id, Control::Resume).await.expect_err("it has ended");
    assert_eq!(engine.control(&id, pause()).await.unwrap_err().code(), "EXECUTION_ENDED");
    let recorded = kinds(&engine, &id).await;
    assert_eq!(
        recorded,
        ["started", "pause_requested", "task_completed", "resume_requested", "task_completed", "task_completed"]
    );
    assert_eq!(engine.verify(&id).await.unwrap(), None);
}

#[tokio::test]
async fn a_cancelled_run_asks_what_runs_to_end_and_forces_what_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let drops = Drops::default();
    let seen = drops.clone();
    let script = Script::new(move |call| {
        let stubborn = seen.pending();
        async move {
            if call.task == "p/deaf" {
                return stubborn.await;
            }
            call.signs.wait_until_asked().await;
            // Would be tried again, were the run not about to end.
            report(Err(Failure::transient("STOPPED", "as asked")))
        }
    });
    let engine = open(dir.path(), &script);
    let plan = plan("tasks: [{id: p, type: parallel, tasks: [{id: kind, tool: tool}, {id: deaf, tool: tool}]}]");
    let id = engine.start(request(&plan)).await.unwrap();
    until("both run", || script.count() == 2).await;
    let cancel = Control::Cancel { reason: "enough".to_owned(), grace_ms: 100 };
    engine.control(&id, cancel.clone()).await.unwrap();
    engine.control(&id, cancel).await.unwrap();
    let ended = ended(&engine, &id).await;
    assert_eq!((ended.state.status, ended.state.failure.unwrap().message.as_str()), (Status::Canceled, "enough"));
    let kind = &ended.state.tasks[&TaskKey("p/kind".into())];
    assert_eq!((kind.status, kind.failure.as_ref().unwrap().code.as_str()), (Status::Canceled, "STOPPED"));
    assert_eq!(kinds(&engine, &id).await, ["started", "cancel_requested", "task_failed", "timer_fired"]);
    until("the deaf one was dropped", || drops.count() >= 1).await;
    let too_long = Control::Cancel { reason: String::new(), grace_ms: u64::MAX };
    assert_eq!(engine.control(&id, too_long).await.unwrap_err().code(), "INVALID_OPTION");
}

#[tokio::test]
async fn the_losers_of_a_race_are_dropped_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let drops = Drops::default();
    let seen = drops.clone();
    let script = Script::new(move |call| {
        let loser = seen.pending();
        async move { if call.task == "p/fast" { report(Ok(json!("won"))) } else { loser.await } }
    });
    let engine = open(dir.path(), &script);
    let plan = plan(
        "tasks:
  - id: p
    type: parallel
    strategy: race
    tasks:
      - {id: slow, tool: tool}
      - {id: list, type: collection, items: [1, 2], task: {id: each, tool: tool}}
      - {id: fast, tool: tool}
  - {id: after, tool: tool, condition: 'false'}
",
    );
    let ended = run(&engine, request(&plan)).await;
    assert_eq!(ended.state.tasks[&TaskKey("p".into())].output, Some(json!({"fast": "won"})));
    let losers = ["p/slow", "p/list", "p/list[0]", "p/list[1]"];
    for loser in losers {
        assert_eq!(ended.state.tasks[&TaskKey(loser.into())].status, Status::Canceled, "{loser}");
    }
    until("all three attempts were dropped", || drops.count() >= 3).await;
    until("no attempt is counted", || engine.health().running_tasks == 0).await;
}

#[tokio::test]
async fn a_failed_run_is_retried_from_the_failed_task_and_reset_to_any() {
    let dir = tempfile::tempdir().unwrap();
    let broken = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&broken);
    let script = Script::now(move |call| {
        if call.task.starts_with("t1") && state.load(Ordering::SeqCst) {
            return Err(Failure::permanent("BROKEN", "it broke"));
        }
        Ok(json!(call.idempotency_key))
    });
    let engine = open(dir.path(), &script);
    let id = run(&engine, request(&linear(3))).await.id;
    until("no run is open", || engine.health().open_executions == 0).await;
    broken.store(false, Ordering::SeqCst);
    engine.control(&id, Control::Retry).await.unwrap();
    let again = ended(&engine, &id).await;
    assert_eq!(again.state.status, Status::Success);
    let ran: Vec<String> = script.attempts().into_iter().map(|(task, _)| task).collect();
    assert_eq!(ran, ["t0", "t1", "t1#2", "t2"]);
    assert_eq!(engine.control(&id, Control::Retry).await.unwrap_err().code(), "EXECUTION_NOT_FAILED");
    let reset = |task: &str| Control::Reset { task: TaskKey(task.to_owned()) };
    assert_eq!(engine.control(&id, reset("t9")).await.unwrap_err().code(), "TASK_NOT_FOUND");
    engine.control(&id, reset("t1#2")).await.unwrap();
    let third = ended(&engine, &id).await;
    assert_eq!(third.state.output, Some(json!(format!("{id}/t2#2"))));
    until("no run is open", || engine.health().open_executions == 0).await;
    assert_eq!(engine.verify(&id).await.unwrap(), None);
    drop(engine);
    let engine = open(dir.path(), &script);
    assert_eq!(engine.verify(&id).await.unwrap(), None);
}

#[tokio::test]
async fn a_terminated_run_ends_at_once_as_failed() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), &Script::never());
    let id = engine.start(request(&linear(2))).await.unwrap();
    let terminate = Control::Terminate { reason: "now".to_owned() };
    engine.control(&id, terminate.clone()).await.unwrap();
    engine.control(&id, terminate).await.unwrap();
    let ended = ended(&engine, &id).await;
    assert_eq!((ended.state.status, ended.state.failure.unwrap().code.as_str()), (Status::Failed, "TERMINATED"));
    assert_eq!(kinds(&engine, &id).await, ["started", "terminated"]);
}

#[tokio::test]
async fn a_list_can_be_filtered_and_paged() {
    let dir = tempfile::tempdir().unwrap();
    let clock = HandClock::new();
    let script =
        Script::now(
            |call| if call.input["first"] == true { Ok(json!(1)) } else { Err(Failure::permanent("NO", "no")) },
        );
    let held = Arc::clone(&clock);
    let engine = open_with(dir.path(), &script, |options| options.clock = held).unwrap();
    let other = workflows(&[("other", "tasks: [{id: w, type: wait, wait_for: go}]")]);
    let mut ids: Vec<ExecutionId> = Vec::new();
    for at in 0..6_i64 {
        clock.set(at * 1_000);
        let plan = if at % 3 == 0 { Arc::clone(&other["other"]) } else { linear(1 + usize::from(at % 3 == 2)) };
        let id = engine.start(request(&plan)).await.unwrap();
        if at % 3 == 0 {
            stands(&engine, &id, Status::Waiting).await;
        } else {
            ended(&engine, &id).await;
        }
        ids.push(id);
    }
    let at = |n: usize| ids[n].clone();
    let filter = Filter::default();
    let status = |status| Filter { status: Some(status), ..Filter::default() };
    let workflow = |id: &str| Filter { workflow: Some(id.to_owned()), ..Filter::default() };
    let cases = [
        (filter.clone(), vec![5, 4, 3, 2, 1, 0]),
        (status(Status::Waiting), vec![3, 0]),
        (status(Status::Success), vec![4, 1]),
        (status(Status::Failed), vec![5, 2]),
        (status(Status::Paused), vec![]),
        (workflow("other"), vec![3, 0]),
        (workflow("example"), vec![5, 4, 2, 1]),
        (Filter { workflow: Some("example".into()), ..status(Status::Waiting) }, vec![]),
        (Filter { started_from_ms: Some(NOON + 2_000), ..filter.clone() }, vec![5, 4, 3, 2]),
        (
            Filter {
                started_from_ms: Some(NOON + 1_000),
                started_before_ms: Some(NOON + 4_000),
                ..workflow("example")
            },
            vec![2, 1],
        ),
    ];
    for (filter, expected) in cases {
        let expected: Vec<ExecutionId> = expected.into_iter().map(at).collect();
        let found: Vec<ExecutionId> =
            engine.search(&filter, 100, None).await.unwrap().into_iter().map(|line| line.id).collect();
        assert_eq!(found, expected, "{filter:?}");
        // Page by page it is the same list.
        let mut paged: Vec<ExecutionId> = Vec::new();
        loop {
            let page = engine.search(&filter, 1, paged.last()).await.unwrap();
            let Some(line) = page.into_iter().next() else { break };
            paged.push(line.id);
        }
        assert_eq!(paged, expected, "{filter:?}");
    }
    engine.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_run_that_goes_back_to_a_wait_is_open_again() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), &Script::echo());
    let plan = plan("tasks: [{id: w, type: wait, wait_for: go, outputs: '{{ .output.signal.payload }}'}]");
    for back in [Control::Retry, Control::Reset { task: TaskKey("w".into()) }] {
        let id = engine.start(request(&plan)).await.unwrap();
        engine.control(&id, Control::Cancel { reason: String::new(), grace_ms: 0 }).await.unwrap();
        assert_eq!(ended(&engine, &id).await.state.status, Status::Canceled);
        // Nothing is to be done for it but to wait, so no command tells of its return.
        engine.control(&id, back).await.unwrap();
        stands(&engine, &id, Status::Waiting).await;
        assert_eq!(engine.health().open_executions, 1);
        let signal = Signal { name: "go".into(), payload: json!(7), id: "s".into(), source: "test".into() };
        engine.control(&id, Control::Signal(signal)).await.unwrap();
        assert_eq!(ended(&engine, &id).await.state.output, Some(json!(7)));
        assert_eq!(engine.verify(&id).await.unwrap(), None);
    }
}
