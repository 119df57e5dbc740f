//! Starting, looking at and ending runs.

use std::sync::Arc;
use std::time::Duration;

use compozy_engine::local::JournalView;
use compozy_engine::port::{Engine as _, ExecutionId, Notice};
use compozy_engine::{EngineError, ErrorKind, limits};
use compozy_interpreter::{Failure, Status, TaskKey};
use compozy_plan::plan::Plan;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::common::*;

#[tokio::test]
async fn a_linear_run_costs_one_commit_per_task_and_one_for_its_start() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::echo();
    let engine = open(dir.path(), &script);
    let id = run(&engine, request(&linear(20))).await.id;
    let execution = assert_sound(&engine, &id).await;
    assert_eq!(execution.events, 21);
    engine.stop(std::time::Duration::ZERO).await;
    let stats = engine.stats();
    assert_eq!((stats.commits, stats.operations, stats.attempts), (21, 21, 20), "{stats:?}");
    assert_eq!((stats.stale_results, stats.failed_commits), (0, 0));
}

#[tokio::test]
async fn an_execution_tells_its_outputs_and_what_ran() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::now(|call| Ok(json!({"got": call.input, "by": call.task})));
    let engine = open(dir.path(), &script);
    let plan = plan(
        "tasks:
  - {id: a, tool: tool, with: {city: '{{ .input.city }}'}}
  - {id: b, tool: tool, with: {a: '{{ .tasks.a.output.by }}'}}
outputs: {city: '{{ .tasks.a.output.got.city }}', last: '{{ .tasks.b.output }}'}",
    );
    let before = now_ms();
    let execution = run(&engine, request_with(&plan, json!({"city": "Oslo"}))).await;
    assert_eq!((execution.workflow.as_str(), &execution.definition), ("example", &plan.digest()));
    assert_eq!(execution.state.output, Some(json!({"city": "Oslo", "last": {"got": {"a": "a"}, "by": "b"}})));
    assert_eq!(execution.attempts.keys().collect::<Vec<_>>(), ["a", "b"]);
    for record in execution.attempts.values() {
        assert_eq!((record.attempts, record.ran.as_ref()), (1, Some(&ran())));
        assert_eq!((record.next_attempt_at_ms, record.last_failure.as_ref()), (None, None));
        let (begun, over) = (record.started_at_ms.unwrap(), record.ended_at_ms.unwrap());
        assert!(before <= begun && begun <= over && over <= now_ms(), "{before} {record:?}");
    }
    let call = &script.calls()[1];
    assert_eq!((call.task.as_str(), call.attempt, &call.input), ("b", 1, &json!({"a": "a"})));
    assert_eq!(call.idempotency_key, format!("{}/b", execution.id));
    assert_eq!((call.tool.id.as_str(), call.tool.plugin.as_str()), ("tool", "test"));
}

fn now_ms() -> u64 {
    compozy_engine::Clock::now_ms(&compozy_engine::SystemClock)
}

#[tokio::test]
async fn the_same_key_names_the_same_execution_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::echo();
    let engine = open(dir.path(), &script);
    let plan = linear(2);
    let other = Arc::new(Plan { workflow: "another".to_owned(), ..plan.as_ref().clone() });
    let input = json!({"x": 1, "y": 2});
    let first = engine.start(keyed(&plan, input.clone(), "order-7")).await.unwrap();
    ended(&engine, &first).await;
    let again = engine.start(keyed(&plan, json!({"y": 2, "x": 1}), "order-7")).await.unwrap();
    assert_eq!(again, first, "the order of keys is no difference");
    engine.stop(std::time::Duration::ZERO).await;

    let engine = open(dir.path(), &script);
    assert_eq!(engine.start(keyed(&plan, input.clone(), "order-7")).await.unwrap(), first);
    for different in [keyed(&plan, json!({"x": 2}), "order-7"), keyed(&other, input.clone(), "order-7")] {
        let refused = engine.start(different).await.unwrap_err();
        assert_eq!((refused.code(), refused.kind()), ("IDEMPOTENCY_KEY_REUSED", ErrorKind::Conflict));
        let message = refused.to_string();
        assert!(message.contains("`order-7`") && message.contains(&first.0), "{message}");
        assert!(!refused.retryable());
    }
    assert_ne!(engine.start(keyed(&plan, input, "order-8")).await.unwrap(), first);
    assert_eq!(engine.list(10, None).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_key_has_a_length() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), &Script::echo());
    let plan = linear(1);
    for key in [String::new(), "k".repeat(limits::IDEMPOTENCY_KEY_BYTES_MAX + 1)] {
        let refused = engine.start(keyed(&plan, json!({}), &key)).await.unwrap_err();
        let allowed = limits::IDEMPOTENCY_KEY_BYTES_MAX;
        assert_eq!(refused, EngineError::IdempotencyKeyLength { used: key.len(), allowed });
    }
    engine.start(keyed(&plan, json!({}), &"k".repeat(limits::IDEMPOTENCY_KEY_BYTES_MAX))).await.unwrap();
}

#[tokio::test]
async fn an_input_that_does_not_fit_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::echo();
    let engine = open(dir.path(), &script);
    let plan = plan(
        "config:
  input: {type: object, required: [city], properties: {city: {type: string}, month: {type: integer, maximum: 12}}}
tasks: [{id: a, tool: tool}]",
    );
    let input = json!({"city": 5, "month": 13});
    let refused = engine.start(keyed(&plan, input, "k")).await.unwrap_err();
    let EngineError::InvalidInput { workflow, violations } = &refused else { panic!("{refused:?}") };
    let mut places: Vec<&str> = violations.iter().map(|violation| violation.path.as_str()).collect();
    places.sort_unstable();
    assert_eq!((workflow.as_str(), places), ("example", vec!["/city", "/month"]));
    assert_eq!((refused.kind(), refused.retryable()), (ErrorKind::InvalidRequest, false));
    assert_eq!((engine.list(10, None).await.unwrap().len(), script.count(), engine.stats().commits), (0, 0, 0));
    // Nor does the refused request hold its key.
    engine.start(keyed(&plan, json!({"city": "Oslo", "month": 12}), "k")).await.unwrap();
}

/// A text that is this long as JSON.
fn text(bytes: usize) -> Value {
    json!("x".repeat(bytes - 2))
}

#[tokio::test]
async fn what_is_too_large_is_refused_with_its_size_and_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), &Script::echo());
    let plan = linear(1);
    let refused = engine.start(request_with(&plan, text(limits::PAYLOAD_BYTES_MAX + 1))).await.unwrap_err();
    assert_eq!((refused.code(), refused.kind()), ("PAYLOAD_TOO_LARGE", ErrorKind::TooLarge));
    let message = "the input of workflow `example` has 16777217 bytes, at most 16777216 bytes are allowed";
    assert_eq!(refused.to_string(), message);
    let id = engine.start(request_with(&plan, text(limits::PAYLOAD_BYTES_MAX))).await.unwrap();

    let reason = "r".repeat(limits::REASON_BYTES_MAX + 1);
    let refused = engine.cancel(&id, reason).await.unwrap_err();
    assert_eq!(refused.to_string(), "the reason has 4097 bytes, at most 4096 bytes are allowed");
}

#[tokio::test]
async fn a_task_whose_input_or_output_is_too_large_fails_and_the_run_can_handle_it() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::now(|call| {
        Ok(match call.task.as_str() {
            "half" => text(10_000_000),
            "large" => text(limits::PAYLOAD_BYTES_MAX + 1),
            _ => json!("fine"),
        })
    });
    let engine = open(dir.path(), &script);
    let plan = plan(
        "tasks:
  - {id: half, tool: tool}
  - {id: both, tool: tool, with: {a: '{{ .tasks.half.output }}', b: '{{ .tasks.half.output }}'}, on_error: {next: large}}
  - {id: large, tool: tool, on_error: {next: last}}
  - {id: last, tool: tool}",
    );
    let execution = run(&engine, request(&plan)).await;
    assert_eq!(execution.state.status, Status::Success, "{:?}", execution.state.failure);
    for (task, what) in [("both", "input"), ("large", "output")] {
        let failure = execution.state.tasks[&TaskKey(task.into())].failure.clone().unwrap();
        assert_eq!(failure.code, "PAYLOAD_TOO_LARGE");
        assert!(failure.message.starts_with(&format!("the {what} of task `{task}` has ")), "{}", failure.message);
        assert_eq!(execution.attempts[task].attempts, 1, "{task}: another attempt would not help");
    }
    assert_eq!(script.attempts().iter().map(|(task, _)| task.as_str()).collect::<Vec<_>>(), ["half", "large", "last"]);
}

#[tokio::test]
async fn cancel_ends_the_run_and_drops_its_running_attempts() {
    let dir = tempfile::tempdir().unwrap();
    let drops = Drops::default();
    let held = drops.clone();
    let script = Script::new(move |_| held.pending());
    let engine = open(dir.path(), &script);
    let plan = plan(
        "tasks:
  - {id: all, type: collection, items: [1, 2, 3], task: {id: one, tool: tool}}
  - {id: after, tool: tool}",
    );
    let id = engine.start(request(&plan)).await.unwrap();
    until("three attempts", || script.count() == 3 && engine.health().running_tasks == 3).await;
    engine.cancel(&id, "not needed any more".into()).await.unwrap();
    let execution = ended(&engine, &id).await;
    assert_eq!(execution.state.status, Status::Canceled);
    assert!(execution.state.failure.clone().unwrap().message.contains("not needed any more"));
    until("all attempts dropped", || drops.count() == 3).await;
    // Again, and after the end: no effect.
    engine.cancel(&id, "again".into()).await.unwrap();
    assert_eq!(engine.journal(&id).await.unwrap().len(), 2);
    until("nothing runs", || engine.health().running_tasks == 0).await;
    assert_eq!((engine.health().open_executions, script.count()), (0, 3));
    assert_eq!(engine.verify(&id).await.unwrap(), None);
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), &Script::echo());
    let nobody = ExecutionId("nobody".into());
    assert!(engine.execution(&nobody).await.unwrap().is_none());
    let errors = [
        within(engine.wait(&nobody)).await.map(drop).unwrap_err(),
        engine.journal(&nobody).await.unwrap_err(),
        engine.list(10, Some(&nobody)).await.unwrap_err(),
        engine.cancel(&nobody, String::new()).await.unwrap_err(),
        engine.verify(&nobody).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::NotFound, "there is no execution `nobody`"));
    }
}

#[tokio::test]
async fn a_list_has_the_latest_first_and_goes_on_before_an_execution() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), &Script::now(|call| Ok(json!(call.attempt))));
    let plan = linear(1);
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(run(&engine, request(&plan)).await.id);
    }
    assert!(ids.is_sorted(), "ids sort by the time of the start");
    ids.reverse();
    let page = engine.list(2, None).await.unwrap();
    assert_eq!(page.iter().map(|line| &line.id).collect::<Vec<_>>(), [&ids[0], &ids[1]]);
    let rest = engine.list(usize::MAX, Some(&ids[1])).await.unwrap();
    assert_eq!(rest.iter().map(|line| &line.id).collect::<Vec<_>>(), [&ids[2], &ids[3], &ids[4]]);
    for line in page {
        assert_eq!((line.workflow.as_str(), line.status), ("example", Status::Success));
        assert!(line.ended_at_ms.unwrap() >= line.started_at_ms);
    }
}

#[tokio::test]
async fn a_journal_tells_the_events_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), &Script::echo());
    let mut watch = engine.watch();
    let id = run(&engine, request_with(&linear(2), json!({"a": 1}))).await.id;
    let journal = engine.journal(&id).await.unwrap();
    let told: Vec<Value> = journal.iter().map(|r| json!([r.seq, r.event["kind"], r.event["task"]])).collect();
    assert_eq!(
        told,
        [json!([1, "started", null]), json!([2, "task_completed", "t0"]), json!([3, "task_completed", "t1"])]
    );
    assert_eq!((&journal[0].event["input"], &journal[2].event["output"]), (&json!({"a": 1}), &json!("t1")));
    assert_eq!(journal[0].event["execution_id"], json!(id));
    let notices = notices_of(&mut watch, &id).await;
    assert!(matches!(&notices[0], Notice::ExecutionStarted { workflow, .. } if workflow == "example"), "{notices:?}");
}

#[tokio::test]
async fn a_view_reads_the_journal_of_a_working_and_of_a_stopped_engine() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(JournalView::open(dir.path(), Handle::current()).err().unwrap().code(), "STORAGE_UNAVAILABLE");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a look makes no file");
    let engine = open(dir.path(), &Script::echo());
    let id = run(&engine, request(&linear(2))).await.id;
    for stopped in [false, true] {
        if stopped {
            engine.stop(std::time::Duration::ZERO).await;
        }
        let view = JournalView::open(dir.path(), Handle::current()).unwrap();
        let execution = view.execution(&id).await.unwrap().unwrap();
        assert_eq!((execution.state.status, execution.events), (Status::Success, 3));
        assert_eq!(view.journal(&id).await.unwrap().len(), 3);
        assert_eq!(view.list(10, None).await.unwrap()[0].id, id);
    }
}

#[tokio::test]
async fn verify_notices_a_state_that_its_journal_does_not_lead_to() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::echo();
    let engine = open(dir.path(), &script);
    let id = run(&engine, request(&linear(2))).await.id;
    assert_eq!(engine.verify(&id).await.unwrap(), None);
    engine.stop(std::time::Duration::ZERO).await;
    let forged =
        sqlite(dir.path()).execute(r#"UPDATE snapshot SET state = replace(state, '"t0"', '"tX"')"#, []).unwrap();
    assert_eq!(forged, 1);
    let engine = open(dir.path(), &script);
    let difference = engine.verify(&id).await.unwrap().unwrap();
    assert_eq!((difference.seq, difference.kind.as_str()), (2, "task_completed"), "{difference}");
    assert_eq!((difference.what.as_str(), &difference.expected), ("task t0", &json!(null)));
}

#[tokio::test]
async fn a_start_can_wait_for_its_result_and_is_patient_as_long_as_told() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::new(|call| {
        Box::pin(async move {
            match call.input["how"].as_str() {
                Some("hangs") => std::future::pending().await,
                Some("fails") => report(Err(Failure::permanent("NO", "no"))),
                _ => report(Ok(json!({"n": 1}))),
            }
        }) as Answer
    });
    let engine = open(dir.path(), &script);
    let plan = plan("tasks: [{id: a, tool: tool, with: {how: '{{ .input.how }}'}}]");
    let how = |how: &str| request_with(&plan, json!({"how": how}));
    let patience = Duration::from_mins(1);

    let (id, outcome) = within(engine.run(how("works"), patience)).await.unwrap();
    let outcome = outcome.expect("it ends at once");
    assert_eq!((outcome.status, &outcome.output), (Status::Success, &Some(json!({"n": 1}))));
    assert_eq!(engine.execution(&id).await.unwrap().unwrap().state.output, outcome.output);
    let (_, outcome) = within(engine.run(how("fails"), patience)).await.unwrap();
    assert_eq!(outcome.unwrap().failure.as_ref().map(|failure| failure.code.as_str()), Some("NO"));

    // The same key answers the first run's result, though that ended long ago.
    let keyed = || keyed(&plan, json!({"how": "works"}), "k");
    let (first, _) = within(engine.run(keyed(), patience)).await.unwrap();
    let (again, outcome) = within(engine.run(keyed(), patience)).await.unwrap();
    assert_eq!((again, outcome.unwrap().status), (first, Status::Success));

    let (id, outcome) = within(engine.run(how("hangs"), Duration::from_millis(20))).await.unwrap();
    assert!(outcome.is_none());
    assert_eq!(engine.execution(&id).await.unwrap().unwrap().state.status, Status::Running);
    // Nobody is kept waiting by an engine that stops.
    let (waits, ()) = tokio::join!(engine.run(how("hangs"), patience), async {
        until("it runs", || script.count() == 5).await;
        engine.stop(Duration::ZERO).await;
    });
    assert!(waits.unwrap().1.is_none());
}
