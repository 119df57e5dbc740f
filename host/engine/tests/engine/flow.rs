//! Every type of task through the engine, and what a watcher is told of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use compozy_engine::port::{Engine as _, Notice};
use compozy_interpreter::{Failure, Status, TaskKey};
use serde_json::json;

use crate::common::*;

const ALL_TYPES: &str = "
tasks:
  - {id: fetch, tool: tool}
  - id: each
    type: collection
    items: '{{ .tasks.fetch.output.items }}'
    filter: item != 2
    task: {id: one, tool: tool, with: {item: '{{ .item }}'}}
  - {id: sum, type: aggregate, outputs: {count: '{{ len .tasks.each.output.outputs }}'}}
  - {id: choose, type: router, condition: 'tasks.sum.output.count > 1 ? \"many\" : \"few\"', routes: {many: save, few: none}}
  - {id: save, type: composite, final: true, tasks: [{id: a, tool: tool}, {id: b, tool: tool}]}
  - {id: none, type: aggregate, final: true, outputs: {none: true}}
outputs: {count: '{{ .tasks.sum.output.count }}'}
";

fn items(items: &'static [u64]) -> Arc<Script> {
    Script::now(move |call| match call.task.as_str() {
        "fetch" => Ok(json!({"items": items})),
        _ => Ok(json!({"done": call.input})),
    })
}

/// The tasks that ended, as a watcher is told.
fn told(notices: &[Notice]) -> Vec<(&str, &str, Status, u32, bool)> {
    let ended = notices.iter().filter_map(|notice| match notice {
        Notice::TaskEnded { task, kind, status, attempts, ran, .. } => {
            Some((task.as_str(), kind.as_str(), *status, *attempts, ran.is_some()))
        }
        _ => None,
    });
    ended.collect()
}

#[tokio::test]
async fn a_watcher_is_told_the_end_of_every_task_whatever_its_type() {
    let dir = tempfile::tempdir().unwrap();
    let script = items(&[1, 2, 3]);
    let engine = open_with(dir.path(), &script, |options| options.concurrency = 1).unwrap();
    let mut watch = engine.watch();
    let id = run(&engine, request(&plan(ALL_TYPES))).await.id;
    let notices = notices_of(&mut watch, &id).await;
    let basic = |task| (task, "basic", Status::Success, 1, true);
    let inside = |task, kind| (task, kind, Status::Success, 0, false);
    let expected = [
        basic("fetch"),
        basic("each[0]"),
        basic("each[1]"),
        inside("each", "collection"),
        inside("sum", "aggregate"),
        inside("choose", "router"),
        basic("save/a"),
        basic("save/b"),
        inside("save", "composite"),
    ];
    assert_eq!(told(&notices), expected);
    assert!(matches!(notices.first(), Some(Notice::ExecutionStarted { .. })), "{notices:?}");
    assert!(matches!(notices.last(), Some(Notice::ExecutionEnded { status: Status::Success, .. })), "{notices:?}");
    let execution = assert_sound(&engine, &id).await;
    assert_eq!(execution.state.output, Some(json!({"count": 2})));
    assert_eq!(execution.attempts.len(), 5, "only scheduled tasks have attempts");
    let inputs: Vec<_> = script.calls().into_iter().skip(1).take(2).map(|call| call.input["item"].clone()).collect();
    assert_eq!(inputs, [json!(1), json!(3)]);
}

#[tokio::test]
async fn a_router_takes_the_other_route() {
    let dir = tempfile::tempdir().unwrap();
    let script = items(&[1, 2]);
    let engine = open(dir.path(), &script);
    let id = run(&engine, request(&plan(ALL_TYPES))).await.id;
    let execution = assert_sound(&engine, &id).await;
    let came_to: Vec<&str> = execution.state.tasks.keys().map(|key| key.0.as_str()).collect();
    assert_eq!(came_to, ["fetch", "each", "each[0]", "sum", "choose", "none"]);
}

#[tokio::test]
async fn a_run_without_scheduled_tasks_ends_within_the_commit_of_its_start() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::echo();
    let engine = open(dir.path(), &script);
    let plan = plan("tasks: [{id: a, type: aggregate, outputs: {x: '{{ .input.x }}'}}]");
    let id = engine.start(request_with(&plan, json!({"x": 7}))).await.unwrap();
    let execution = assert_sound(&engine, &id).await;
    assert_eq!(execution.state.tasks[&TaskKey("a".into())].output, Some(json!({"x": 7})));
    assert_eq!((execution.events, script.count(), engine.health().open_executions), (1, 0, 0));
}

#[tokio::test]
async fn a_collection_runs_as_many_children_at_once_as_it_says() {
    let dir = tempfile::tempdir().unwrap();
    for (mode, most) in [("mode: sequential", 1), ("max_workers: 3", 3)] {
        let (now, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (running, highest) = (Arc::clone(&now), Arc::clone(&peak));
        let script = Script::new(move |_| {
            let (running, highest) = (Arc::clone(&running), Arc::clone(&highest));
            highest.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            async move {
                // The first ones wait for each other, however slow the machine is.
                until("as many as allowed", || highest.load(Ordering::SeqCst) >= most).await;
                running.fetch_sub(1, Ordering::SeqCst);
                report(Ok(json!(1)))
            }
        });
        let engine = open(dir.path(), &script);
        let text = format!(
            "tasks:\n  - {{id: all, type: collection, {mode}, items: '{{{{ .input }}}}', task: {{id: one, tool: tool}}}}"
        );
        let id = run(&engine, request_with(&plan(&text), json!([1, 2, 3, 4, 5, 6, 7, 8]))).await.id;
        assert_sound(&engine, &id).await;
        assert_eq!((script.count(), peak.load(Ordering::SeqCst)), (8, most), "{mode}");
    }
}

#[tokio::test]
async fn a_failure_goes_to_its_handler_or_ends_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::now(|call| {
        if call.input["fail"] == json!(true) {
            Err(Failure::permanent("BROKEN", "is broken"))
        } else {
            Ok(json!("fine"))
        }
    });
    let engine = open(dir.path(), &script);
    let mut watch = engine.watch();
    let handled = plan(
        "tasks:
  - {id: a, tool: tool, with: {fail: true}, on_error: {next: rescue}}
  - {id: skipped, tool: tool}
  - {id: rescue, tool: tool, final: true}",
    );
    let id = run(&engine, request(&handled)).await.id;
    let execution = assert_sound(&engine, &id).await;
    assert_eq!(execution.attempts.keys().collect::<Vec<_>>(), ["a", "rescue"]);
    let failed = ("a", "basic", Status::Failed, 1, true);
    assert_eq!(told(&notices_of(&mut watch, &id).await), [failed, ("rescue", "basic", Status::Success, 1, true)]);

    let composite = plan(
        "tasks:
  - {id: box, type: composite, tasks: [{id: a, tool: tool, with: {fail: true}}, {id: b, tool: tool}]}
  - {id: after, tool: tool}",
    );
    let execution = run(&engine, request(&composite)).await;
    assert_eq!(execution.state.status, Status::Failed);
    assert_eq!(execution.state.failure.unwrap().code, "BROKEN");
    assert_eq!(execution.attempts.keys().collect::<Vec<_>>(), ["box/a"]);
    let notices = notices_of(&mut watch, &execution.id).await;
    let ended: Vec<_> = told(&notices).into_iter().map(|(task, _, status, ..)| (task, status)).collect();
    assert_eq!(ended, [("box/a", Status::Failed), ("box", Status::Failed)]);
}

#[tokio::test]
async fn a_best_effort_collection_goes_on_without_those_that_failed() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::now(|call| match call.input["item"].as_u64() {
        Some(item) if item % 2 == 0 => Err(Failure::permanent("EVEN", "is even")),
        _ => Ok(call.input.clone()),
    });
    let engine = open(dir.path(), &script);
    let plan = plan(
        "tasks:
  - {id: all, type: collection, strategy: best_effort, items: [1, 2, 3, 4, 5], task: {id: one, tool: tool, with: {item: '{{ .item }}'}}}
  - {id: after, tool: tool}",
    );
    let id = run(&engine, request(&plan)).await.id;
    let execution = assert_sound(&engine, &id).await;
    let failed = execution.state.tasks.values().filter(|task| task.status == Status::Failed).count();
    assert_eq!((failed, script.count()), (2, 6));
}
