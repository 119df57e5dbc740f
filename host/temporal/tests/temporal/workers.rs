//! Roles: each may be elsewhere, be missing, and come back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use compozy_engine::port::{Control, Engine as _, Notice};
use compozy_interpreter::Status;
use compozy_temporal::Role;
use serde_json::json;

use crate::common::{Drops, Script, linear, plan, request, with_policy};
use crate::support::{Doomed, PATIENCE, Site, counted, first_hangs, until, wait};

#[tokio::test(flavor = "multi_thread")]
async fn each_role_can_be_a_process_of_its_own_on_temporal() {
    let site = Site::shared(Script::echo()).await;
    let api = site.role(&[Role::Api]).await;
    let id = api.start(request(&linear(2))).await.unwrap();
    let short = |options: &mut compozy_temporal::TemporalOptions| {
        options.roles = [Role::Api].into();
        options.rpc_timeout = Duration::from_secs(1);
    };
    let hasty = site.with(short).await;
    let missing = hasty.execution(&id).await.unwrap_err();
    assert_eq!(missing.code(), "WORKER_UNAVAILABLE", "{missing}");
    assert!(missing.retry_after().is_some(), "{missing}");
    let workflows = site.role(&[Role::WorkflowWorker]).await;
    until("the first task is scheduled", || async {
        api.execution(&id).await.is_ok_and(|execution| execution.is_some_and(|it| it.state.tasks.len() == 1))
    })
    .await;
    let tools = site.role(&[Role::ToolWorker]).await;
    assert_eq!(wait(&api, &id).await.state.status, Status::Success);
    for engine in [tools, workflows, hasty, api] {
        engine.stop(PATIENCE).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_worker_dies_is_begun_again_elsewhere_and_does_not_count_as_failed_on_temporal() {
    let (script, calls) = first_hangs();
    let site = Site::shared(script).await;
    let api = site.role(&[Role::Api, Role::WorkflowWorker]).await;
    let doomed = Doomed::begin(&site, &[Role::ToolWorker]);
    let id = api.start(request(&with_policy("{retry_policy: {maximum_attempts: 1}}"))).await.unwrap();
    until("the attempt has begun", || async { calls.load(Ordering::SeqCst) == 1 }).await;
    doomed.die();
    let tools = site.role(&[Role::ToolWorker]).await;
    let execution = wait(&api, &id).await;
    assert_eq!(execution.state.status, Status::Success, "{:?}", execution.state.failure);
    assert_eq!(execution.state.tasks[0].output, Some(json!(2)), "the attempts are counted on");
    assert_eq!(execution.attempts["t"].attempts, 2, "both attempts are shown");
    tools.stop(PATIENCE).await;
    api.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_lets_attempts_end_and_hands_on_the_others_on_temporal() {
    let drops = Drops::default();
    let (counted, first) = (drops.clone(), Arc::new(AtomicU32::new(0)));
    let script = Script::new(move |call| {
        let pending = (first.fetch_add(1, Ordering::SeqCst) == 0).then(|| counted.pending());
        async move {
            match pending {
                Some(pending) => pending.await,
                None => crate::common::report(Ok(json!(call.attempt))),
            }
        }
    });
    let site = Site::shared(script.clone()).await;
    let api = site.role(&[Role::Api, Role::WorkflowWorker]).await;
    let tools = site.role(&[Role::ToolWorker]).await;
    let id = api.start(request(&with_policy("{retry_policy: {maximum_attempts: 1}}"))).await.unwrap();
    until("the attempt has begun", || async { script.count() == 1 }).await;
    tools.stop(Duration::from_millis(200)).await;
    assert_eq!(drops.count(), 1, "its time was over, so it was ended");
    let others = site.role(&[Role::ToolWorker]).await;
    let execution = wait(&api, &id).await;
    assert_eq!(execution.state.status, Status::Success, "{:?}", execution.state.failure);
    assert_eq!(script.attempts().len(), 2);
    others.stop(PATIENCE).await;
    api.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_attempts_of_a_plugin_run_at_once_than_its_worker_may_on_temporal() {
    let (script, most) = counted();
    let site = Site::shared(script).await;
    let engine = site.with(|options| options.concurrency = BTreeMap::from([("test".to_owned(), 2)])).await;
    let many = plan("tasks:\n  - {id: all, type: collection, items: [1, 2, 3, 4, 5, 6], task: {id: t, tool: tool}}\n");
    let (_, outcome) = engine.run(request(&many), PATIENCE).await.unwrap();
    assert_eq!(outcome.unwrap().status, Status::Success);
    assert_eq!(most.load(Ordering::SeqCst), 2);
    engine.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_tasks_than_a_run_may_have_under_way_wait_for_each_other_on_temporal() {
    let site = Site::shared(Script::echo()).await;
    let engine = site.engine().await;
    let items: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let one = |n: u32| {
        format!(
            "      - {{id: c{n}, type: collection, max_workers: 100, items: [{}], task: {{id: t, tool: tool}}}}\n",
            items.join(", ")
        )
    };
    // 1,700 tasks that could all run at once.
    let tasks: String = (0..17).map(one).collect();
    let wide = plan(&format!("tasks:\n  - id: p\n    type: parallel\n    max_workers: 17\n    tasks:\n{tasks}"));
    let id = engine.start(request(&wide)).await.unwrap();
    let execution = wait(&engine, &id).await;
    assert_eq!(execution.state.status, Status::Success, "{:?}", execution.state.failure);
    assert_eq!(execution.state.tasks.len(), 1 + 17 + 1_700);
    engine.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_hears_that_a_run_goes_on_from_another_process_on_temporal() {
    let site = Site::shared(Script::echo()).await;
    let workers = site.role(&[Role::WorkflowWorker, Role::ToolWorker]).await;
    let api = site.role(&[Role::Api]).await;
    let waiting = plan("tasks:\n  - {id: w, type: wait, wait_for: go}\n");
    let id = api.start(request(&waiting)).await.unwrap();
    let mut heard = api.follow(&id);
    api.control(&id, Control::Cancel { reason: "enough".to_owned(), grace_ms: 0 }).await.unwrap();
    let told = async {
        loop {
            match heard.recv().await.expect("the engine lives") {
                Notice::Recorded { .. } if api.journal_after(&id, 0, 100).await.unwrap().ended => return,
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("the end is heard of");
    workers.stop(PATIENCE).await;
    api.stop(PATIENCE).await;
}
