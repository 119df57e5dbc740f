//! Tasks that a process does for the runs that it drives: the same as those of the plugin's queue, also when it dies.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use compozy_engine::port::Engine as _;
use compozy_interpreter::Status;
use compozy_temporal::Role;
use serde_json::json;

use crate::common::{Script, linear, plan, request, with_policy};
use crate::support::{Doomed, PATIENCE, Site, counted, first_hangs, until, wait};

#[tokio::test(flavor = "multi_thread")]
async fn a_process_keeps_the_tasks_of_its_runs_on_temporal() {
    let site = Site::shared(Script::echo()).await;
    let engine = site.engine().await;
    let (id, outcome) = engine.run(request(&linear(2)), PATIENCE).await.unwrap();
    assert_eq!(outcome.unwrap().status, Status::Success);
    let history = String::from_utf8(engine.history(&id).await.unwrap()).unwrap();
    assert!(!history.contains("/tools/test"), "no task went to the plugin's queue");
    engine.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_a_process_kept_and_did_not_end_goes_to_the_plugins_queue_on_temporal() {
    let (script, calls) = first_hangs();
    let site = Site::shared(script).await;
    let api = site.role(&[Role::Api]).await;
    let doomed = Doomed::begin(&site, &[Role::WorkflowWorker, Role::ToolWorker]);
    let id = api.start(request(&with_policy("{retry_policy: {maximum_attempts: 1}}"))).await.unwrap();
    until("the attempt has begun", || async { calls.load(Ordering::SeqCst) == 1 }).await;
    doomed.die();
    // Whoever drives the run now does not have the plugin, and gets the task nevertheless.
    let workflows = site.role(&[Role::WorkflowWorker]).await;
    let tools = site.role(&[Role::ToolWorker]).await;
    let execution = wait(&api, &id).await;
    assert_eq!(execution.state.status, Status::Success, "{:?}", execution.state.failure);
    assert_eq!(execution.state.tasks[0].output, Some(json!(2)), "the attempts are counted on");
    assert_eq!(execution.attempts["t"].attempts, 2, "both attempts are shown");
    let history = String::from_utf8(api.history(&id).await.unwrap()).unwrap();
    assert!(history.contains("NOT_HERE") && history.contains("/tools/test"), "it was kept, and then handed on");
    for engine in [tools, workflows, api] {
        engine.stop(PATIENCE).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_tasks_and_those_of_the_queue_share_the_places_of_the_plugin_on_temporal() {
    let (script, most) = counted();
    let site = Site::shared(script).await;
    let engine = site.with(|options| options.concurrency = BTreeMap::from([("test".to_owned(), 6)])).await;
    let items: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let many = plan(&format!(
        "tasks:\n  - {{id: all, type: collection, max_workers: 20, items: [{}], task: {{id: t, tool: tool}}}}\n",
        items.join(", ")
    ));
    let (id, outcome) = engine.run(request(&many), PATIENCE).await.unwrap();
    assert_eq!(outcome.unwrap().status, Status::Success);
    assert_eq!(most.load(Ordering::SeqCst), 6);
    let history = String::from_utf8(engine.history(&id).await.unwrap()).unwrap();
    assert!(history.contains("/tools/test"), "those that found no place went to the queue");
    engine.stop(PATIENCE).await;
}
