//! Runs inside runs.

use std::sync::Arc;
use std::time::Duration;

use compozy_engine::local::LocalEngine;
use compozy_engine::port::{Control, Engine as _, Execution, ExecutionId};
use compozy_interpreter::{Status, TaskKey};
use serde_json::json;

use crate::common::*;

const FILES: [(&str, &str); 7] = [
    (
        "child",
        "config: {input: {type: object, required: [num]}}\ntasks: [{id: t, tool: tool, with: {num: '{{ .input.num }}'}}]",
    ),
    ("broken", "tasks: [{id: a, type: router, condition: '1', routes: {'2': a}}]"),
    ("waits", "tasks: [{id: w, type: wait, wait_for: go}]"),
    (
        "parent",
        "tasks:
  - {id: good, workflow: child, with: {num: 1}}
  - {id: wrong, workflow: child, on_error: {}}
  - {id: nobody, workflow: nobody, on_error: {}}
  - {id: bad, workflow: broken, on_error: {}}
  - {id: last, type: aggregate, outputs: '{{ .tasks.good.output }}'}
",
    ),
    ("itself", "tasks: [{id: again, workflow: itself}]"),
    (
        "holds",
        "tasks:
  - id: p
    type: parallel
    tasks:
      - {id: cancel, workflow: waits}
      - {id: terminate, workflow: waits, parent_close: terminate}
      - {id: abandon, workflow: waits, parent_close: abandon}
",
    ),
    (
        "races",
        "tasks:
  - id: p
    type: parallel
    strategy: race
    tasks: [{id: slow, workflow: waits}, {id: fast, tool: tool}]
",
    ),
];

fn open_all(folder: &std::path::Path, script: &Arc<Script>) -> LocalEngine {
    open_with(folder, script, |options| options.workflows = Arc::new(workflows(&FILES))).unwrap()
}

async fn run_of(engine: &LocalEngine, workflow: &str) -> ExecutionId {
    engine.start(request(&workflows(&FILES)[workflow])).await.unwrap()
}

fn code<'e>(execution: &'e Execution, task: &str) -> &'e str {
    &execution.state.tasks[&TaskKey(task.to_owned())].failure.as_ref().unwrap().code
}

#[tokio::test]
async fn the_end_of_a_child_is_the_end_of_its_task() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open_all(dir.path(), &Script::echo());
    let id = run_of(&engine, "parent").await;
    let parent = ended(&engine, &id).await;
    assert_eq!(parent.state.output, Some(json!("t")), "{:?}", parent.state.failure);
    assert_eq!(code(&parent, "wrong"), "INVALID_INPUT");
    assert_eq!(code(&parent, "nobody"), "WORKFLOW_NOT_FOUND");
    assert_eq!(code(&parent, "bad"), "ROUTE_NOT_FOUND");
    assert_eq!(parent.children.keys().collect::<Vec<_>>(), ["bad", "good"]);
    let child = engine.execution(&parent.children["good"]).await.unwrap().unwrap();
    assert_eq!((child.workflow.as_str(), child.parent), ("child", Some(id.clone())));
    assert_eq!(engine.verify(&id).await.unwrap(), None);
    until("no run is open", || engine.health().open_executions == 0).await;
}

#[tokio::test]
async fn a_workflow_that_starts_itself_ends_at_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open_all(dir.path(), &Script::echo());
    let id = run_of(&engine, "itself").await;
    let first = ended(&engine, &id).await;
    let failure = first.state.failure.unwrap();
    assert_eq!(failure.code, "CHILD_DEPTH");
    assert!(failure.message.contains("at most 20 are allowed"), "{}", failure.message);
    let runs = engine.list(1_000, None).await.unwrap().len();
    assert_eq!(runs, 1 + compozy_engine::limits::CHILD_DEPTH_MAX as usize);
}

#[tokio::test]
async fn the_end_of_a_parent_reaches_its_children_as_their_policy_says_also_after_a_crash() {
    for crash in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let script = Script::echo();
        let mut engine = open_all(dir.path(), &script);
        let id = run_of(&engine, "holds").await;
        let look = async {
            while engine.execution(&id).await.unwrap().unwrap().children.len() < 3 {
                tokio::time::sleep(LOOK).await;
            }
        };
        within(look).await;
        if crash {
            drop(engine);
            engine = open_all(dir.path(), &script);
        }
        engine.control(&id, Control::Cancel { reason: "enough".to_owned(), grace_ms: 0 }).await.unwrap();
        let parent = ended(&engine, &id).await;
        let of = |task: &str| parent.children[&format!("p/{task}")].clone();
        assert_eq!(ended(&engine, &of("cancel")).await.state.status, Status::Canceled);
        let terminated = ended(&engine, &of("terminate")).await;
        assert_eq!(terminated.state.failure.unwrap().code, "TERMINATED");
        let abandoned = engine.execution(&of("abandon")).await.unwrap().unwrap();
        assert_eq!(abandoned.state.status, Status::Waiting);
        engine.stop(Duration::ZERO).await;
    }
}

#[tokio::test]
async fn a_cancel_with_grace_reaches_a_child_and_waits_for_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::new(|call| async move {
        call.signs.wait_until_asked().await;
        report(Ok(json!("ended by itself")))
    });
    let engine = open_all(dir.path(), &script);
    let id = run_of(&engine, "parent").await;
    until("the child's task runs", || script.count() == 1).await;
    engine.control(&id, Control::Cancel { reason: "enough".to_owned(), grace_ms: 60_000 }).await.unwrap();
    let parent = ended(&engine, &id).await;
    assert_eq!(parent.state.status, Status::Canceled);
    let child = ended(&engine, &parent.children["good"]).await;
    assert_eq!(child.state.status, Status::Canceled);
    assert_eq!(child.state.tasks[0].output, Some(json!("ended by itself")));
    assert_eq!(code(&parent, "good"), "CANCELED");
}

#[tokio::test]
async fn a_child_that_loses_a_race_is_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open_all(dir.path(), &Script::echo());
    let id = run_of(&engine, "races").await;
    let parent = ended(&engine, &id).await;
    assert_eq!(parent.state.status, Status::Success);
    until("the loser has ended", || engine.health().open_executions == 0).await;
    // It may have lost before it began.
    if let Some(child) = parent.children.get("p/slow") {
        assert_eq!(ended(&engine, child).await.state.status, Status::Canceled);
    }
}
