//! Signals: kept before the wait exists, taken once, in order, and never lost by a crash.

use std::sync::Arc;
use std::time::Duration;

use compozy_engine::EngineError;
use compozy_engine::local::LocalEngine;
use compozy_engine::port::{Control, Engine as _, ExecutionId};
use compozy_interpreter::{Signal, Status};
use serde_json::{Value, json};

use crate::common::*;

async fn signal(
    engine: &LocalEngine,
    to: &ExecutionId,
    name: &str,
    id: &str,
    payload: Value,
) -> Result<(), EngineError> {
    let signal = Signal { name: name.to_owned(), payload, id: id.to_owned(), source: "test".to_owned() };
    engine.control(to, Control::Signal(signal)).await
}

const TWO_WAITS: &str = "tasks:
  - {id: t, tool: tool}
  - {id: a, type: wait, wait_for: go, schema: {type: object, required: [num]}, outputs: '{{ .output.signal.payload.num }}'}
  - {id: b, type: wait, wait_for: go, outputs: '{{ .output.signal.payload.num }}'}
outputs: {a: '{{ .tasks.a.output }}', b: '{{ .tasks.b.output }}'}
";

#[tokio::test]
async fn a_signal_that_comes_before_its_wait_is_kept_over_a_restart_and_taken_once() {
    let dir = tempfile::tempdir().unwrap();
    let stuck = Script::never();
    let engine = open(dir.path(), &stuck);
    let id = engine.start(request(&plan(TWO_WAITS))).await.unwrap();
    signal(&engine, &id, "go", "s1", json!({"num": 1})).await.unwrap();
    signal(&engine, &id, "go", "s1", json!({"num": 99})).await.unwrap();
    // As after a crash: nothing is drained.
    drop(engine);
    let engine = open(dir.path(), &Script::echo());
    let waiting = stands(&engine, &id, Status::Waiting).await;
    assert_eq!(waiting.state.tasks[&compozy_interpreter::TaskKey("a".to_owned())].output, Some(json!(1)));
    signal(&engine, &id, "go", "s1", json!({"num": 99})).await.unwrap();
    signal(&engine, &id, "go", "s2", json!({"num": 2})).await.unwrap();
    let ended = ended(&engine, &id).await;
    assert_eq!(ended.state.output, Some(json!({"a": 1, "b": 2})));
    assert_eq!(kinds(&engine, &id).await, ["started", "signal_received", "task_completed", "signal_received"]);
    assert_eq!(engine.verify(&id).await.unwrap(), None);
}

#[tokio::test]
async fn a_signal_that_nobody_can_take_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), &Script::echo());
    let id = engine.start(request(&plan(TWO_WAITS))).await.unwrap();
    let cases = [
        ("stop", "s", json!({}), "SIGNAL_UNKNOWN", "waits for no signal `stop`; it waits for `go`"),
        ("go", &"i".repeat(513), json!({"num": 1}), "SIGNAL_TOO_LARGE", "513 bytes"),
    ];
    for (name, key, payload, code, part) in cases {
        let refused = signal(&engine, &id, name, key, payload).await.unwrap_err();
        assert_eq!(refused.code(), code);
        assert!(refused.to_string().contains(part), "{refused}");
    }
    let large = json!("x".repeat(compozy_engine::limits::PAYLOAD_BYTES_MAX));
    assert_eq!(signal(&engine, &id, "go", "s", large).await.unwrap_err().code(), "PAYLOAD_TOO_LARGE");
    let nobody = ExecutionId("nobody".into());
    assert_eq!(signal(&engine, &nobody, "go", "s", json!(1)).await.unwrap_err().code(), "EXECUTION_NOT_FOUND");
    engine.cancel(&id, String::new()).await.unwrap();
    assert_eq!(signal(&engine, &id, "go", "s", json!(1)).await.unwrap_err().code(), "EXECUTION_ENDED");
    let schema = plan("tasks: [{id: w, type: wait, wait_for: go, schema: {type: object, required: [num]}}]");
    let id = engine.start(request(&schema)).await.unwrap();
    let refused = signal(&engine, &id, "go", "s", json!({})).await.unwrap_err();
    assert_eq!(refused.code(), "SIGNAL_INVALID");
    assert!(refused.to_string().contains("num"), "{refused}");
    assert_eq!(kinds(&engine, &id).await, ["started"], "what is refused is not recorded");
}

#[tokio::test]
async fn a_thousand_signals_are_taken_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), &Script::echo());
    let plan = plan(
        "tasks:
  - id: all
    type: collection
    mode: sequential
    items: '{{ .input.list }}'
    task: {id: w, type: wait, wait_for: go, outputs: '{{ .output.signal.payload }}'}
",
    );
    let list: Vec<u64> = (0..1_000).collect();
    let id = engine.start(request_with(&plan, json!({"list": list}))).await.unwrap();
    for n in &list {
        signal(&engine, &id, "go", &format!("s{n}"), json!(n)).await.unwrap();
    }
    let ended = ended(&engine, &id).await;
    assert_eq!(ended.state.output.unwrap()["outputs"], json!(list));
}

#[tokio::test]
async fn one_run_wakes_another_and_starts_others_by_trigger() {
    let dir = tempfile::tempdir().unwrap();
    let known = workflows(&[
        ("waits", "tasks: [{id: w, type: wait, wait_for: go, outputs: '{{ .output.signal.payload }}'}]"),
        (
            "triggered",
            "triggers: [{type: signal, name: wanted, schema: {type: object, required: [num]}}]\ntasks: [{id: a, type: aggregate, outputs: '{{ .input.num }}'}]",
        ),
        (
            "sends",
            "tasks:
  - {id: one, type: signal, signal: {id: go, to: '{{ .input.to }}', payload: {from: '{{ .workflow.id }}'}}}
  - {id: all, type: signal, signal: {id: wanted, payload: {num: 5}}}
  - {id: bad, type: signal, signal: {id: wanted, payload: {}}, on_error: {}}
  - {id: none, type: signal, signal: {id: unheard}, on_error: {}}
  - {id: gone, type: signal, signal: {id: go, to: ['nobody']}, on_error: {}}
",
        ),
    ]);
    let (waits, sends) = (Arc::clone(&known["waits"]), Arc::clone(&known["sends"]));
    let script = Script::echo();
    let engine = open_with(dir.path(), &script, |options| options.workflows = Arc::new(known)).unwrap();
    let waiting = engine.start(request(&waits)).await.unwrap();
    let sender = run(&engine, request_with(&sends, json!({"to": waiting}))).await;
    let woken = ended(&engine, &waiting).await;
    assert_eq!(woken.state.output, Some(json!({"from": "sends"})));
    let task = |key: &str| &sender.state.tasks[&compozy_interpreter::TaskKey(key.to_owned())];
    assert_eq!(task("one").output, Some(json!({"delivered": [waiting], "refused": []})));
    let started = task("all").output.as_ref().unwrap()["started"][0]["exec_id"].as_str().unwrap().to_owned();
    let triggered = ended(&engine, &ExecutionId(started)).await;
    assert_eq!((triggered.workflow.as_str(), triggered.state.output), ("triggered", Some(json!(5))));
    let codes: Vec<&str> =
        ["bad", "none", "gone"].iter().map(|key| task(key).failure.as_ref().unwrap().code.as_str()).collect();
    assert_eq!(codes, ["SIGNAL_NOT_DELIVERED", "SIGNAL_UNKNOWN", "SIGNAL_NOT_DELIVERED"]);
    assert_eq!(task("gone").failure.as_ref().unwrap().details["refused"][0]["code"], "EXECUTION_NOT_FOUND");
    engine.stop(Duration::ZERO).await;
}
