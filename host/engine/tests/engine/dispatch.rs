//! Whose turn it is: workflows take turns, urgent tasks come first, and limits hold back nobody else.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use compozy_engine::limits;
use compozy_engine::local::LocalEngine;
use compozy_engine::port::{Engine as _, StartRequest};
use compozy_interpreter::{Failure, Status};
use compozy_plan::plan::Plan;
use compozy_plan::{Project, SourceFile, compile_workflow, parse_project};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::common::*;

/// A workflow of this name; `rest` begins with `tasks:` or other keys.
fn workflow(id: &str, rest: &str) -> Arc<Plan> {
    in_project(&Project::default(), id, rest)
}

fn in_project(project: &Project, id: &str, rest: &str) -> Arc<Plan> {
    let text = format!("id: {id}\ntools: [{{id: tool, plugin: test}}]\n{rest}");
    let file = SourceFile { path: format!("{id}.yaml"), text };
    let outcome = compile_workflow(&file, project, None);
    Arc::new(outcome.value.unwrap_or_else(|| panic!("{}\n{:?}", file.text, outcome.diagnostics)))
}

/// As many tasks at once as the input has items. Each gets its item.
const ALL_ITEMS: &str = "tasks: [{id: all, type: collection, max_workers: 100, items: '{{ .input.items }}',
    task: {id: one, tool: tool, with: {item: '{{ .item }}', tenant: '{{ .input.tenant }}'}}}]";

fn items(tenant: &str, count: usize) -> Value {
    json!({"tenant": tenant, "items": (0..count).collect::<Vec<_>>()})
}

/// Holds attempts until they are let go, and counts how many of a tenant run at once.
#[derive(Default)]
struct Tenants {
    running: Mutex<std::collections::BTreeMap<String, (usize, usize)>>,
    all: AtomicUsize,
}

impl Tenants {
    fn script(self: &Arc<Self>, gate: &Arc<Semaphore>) -> Arc<Script> {
        let (this, gate) = (Arc::clone(self), Arc::clone(gate));
        Script::new(move |call| {
            let (this, gate) = (Arc::clone(&this), Arc::clone(&gate));
            let tenant = call.input["tenant"].as_str().unwrap_or_default().to_owned();
            this.all.fetch_add(1, Ordering::SeqCst);
            {
                let mut running = this.running.lock().unwrap();
                let (now, peak) = running.entry(tenant.clone()).or_default();
                *now += 1;
                *peak = (*peak).max(*now);
            }
            async move {
                gate.acquire().await.unwrap().forget();
                this.running.lock().unwrap().get_mut(&tenant).unwrap().0 -= 1;
                report(Ok(Value::Null))
            }
        })
    }

    fn peak(&self, tenant: &str) -> usize {
        self.running.lock().unwrap().get(tenant).map_or(0, |(_, peak)| *peak)
    }
}

async fn start(engine: &LocalEngine, plan: &Arc<Plan>, input: Value) -> compozy_engine::port::ExecutionId {
    engine.start(request_with(plan, input)).await.expect("the run starts")
}

fn held() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_with_a_backlog_does_not_starve_another() {
    let dir = tempfile::tempdir().unwrap();
    let (gate, tenants) = (held(), Arc::new(Tenants::default()));
    let script = tenants.script(&gate);
    let engine = open_with(dir.path(), &script, |options| options.concurrency = 4).unwrap();
    let (many, few) = (workflow("many", ALL_ITEMS), workflow("few", ALL_ITEMS));
    for _ in 0..20 {
        start(&engine, &many, items("many", 100)).await;
    }
    let id = start(&engine, &few, items("few", 10)).await;
    until("all slots taken", || script.count() == 4).await;
    gate.add_permits(24);
    until("those have ended", || script.count() == 28).await;
    let few = script.calls().iter().filter(|call| call.execution == id).count();
    assert!(few >= 9, "{few} of the few in 24 turns, though 1,996 of the many waited before them");
    gate.add_permits(3_000);
    assert_eq!(ended(&engine, &id).await.state.status, Status::Success);
}

#[tokio::test]
async fn urgent_tasks_come_first_whoever_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (gate, tenants) = (held(), Arc::new(Tenants::default()));
    let script = tenants.script(&gate);
    let engine = open_with(dir.path(), &script, |options| options.concurrency = 1).unwrap();
    let one = |id: &str, config: &str, task: &str| {
        workflow(id, &format!("config: {config}\ntasks: [{{id: t, tool: tool, with: {{tenant: {id}}}{task}}}]"))
    };
    let cases = [
        (one("blocks", "{}", ""), None),
        (one("last", "{priority: 5}", ""), None),
        (one("default", "{}", ""), None),
        (one("by-start", "{priority: 5}", ""), Some(2)),
        (one("by-workflow", "{priority: 1}", ""), None),
        (one("task-wins", "{priority: 1}", ", priority: 4"), Some(1)),
    ];
    let mut ids = Vec::new();
    for (plan, priority) in &cases {
        ids.push(engine.start(StartRequest { priority: *priority, ..request(plan) }).await.unwrap());
    }
    until("the first runs", || script.count() == 1).await;
    gate.add_permits(cases.len());
    for id in &ids {
        ended(&engine, id).await;
    }
    let order: Vec<_> = script.calls().iter().map(|call| call.input["tenant"].clone()).collect();
    assert_eq!(order, ["blocks", "by-workflow", "by-start", "default", "task-wins", "last"]);
    let refused = engine.start(StartRequest { priority: Some(6), ..request(&cases[0].0) }).await.unwrap_err();
    assert_eq!(refused.to_string(), "the priority is 6, 1 (first) to 5 (last) are allowed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_per_key_holds_over_all_runs_and_holds_back_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let (gate, tenants) = (held(), Arc::new(Tenants::default()));
    let script = tenants.script(&gate);
    let engine = open_with(dir.path(), &script, |_| {}).unwrap();
    let keyed = "config: {concurrency: {key: '{{ .input.tenant }}', limit: 3}}\n".to_owned() + ALL_ITEMS;
    let (one, other) = (workflow("one", &keyed), workflow("other", &keyed));
    let mut ids = vec![
        start(&engine, &one, items("ann", 50)).await,
        start(&engine, &other, items("ann", 50)).await,
        start(&engine, &one, items("bob", 2)).await,
    ];
    until("ann and bob run", || script.count() == 5).await;
    let attempts = script.calls();
    let of = |tenant: &str| attempts.iter().filter(|call| call.input["tenant"] == tenant).count();
    assert_eq!((of("ann"), of("bob")), (3, 2), "64 slots are free, the key has three");
    ids.push(start(&engine, &one, items("eve", 3)).await);
    until("who waits for a key is in nobody's way", || script.count() == 8).await;
    gate.add_permits(1_000);
    for id in &ids {
        assert_eq!(ended(&engine, id).await.state.status, Status::Success);
    }
    assert_eq!((tenants.peak("ann"), tenants.peak("bob"), script.count()), (3, 2, 105));
}

#[tokio::test]
async fn a_limit_per_plugin_and_one_per_task_both_hold() {
    let file =
        SourceFile { path: "compozy.yaml".to_owned(), text: "name: p\nplugins: {test: {concurrency: 5}}".into() };
    let project = parse_project(&file).value.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (gate, tenants) = (held(), Arc::new(Tenants::default()));
    let script = tenants.script(&gate);
    let engine = open_with(dir.path(), &script, |_| {}).unwrap();
    let limited = ALL_ITEMS.replace("id: one,", "id: one, concurrency: 2,");
    let (limited, free) = (in_project(&project, "limited", &limited), in_project(&project, "free", ALL_ITEMS));
    let first = start(&engine, &limited, items("limited", 20)).await;
    until("two of the task", || script.count() == 2).await;
    let second = start(&engine, &free, items("free", 20)).await;
    until("five of the plugin", || script.count() == 5).await;
    gate.add_permits(100);
    for id in [&first, &second] {
        assert_eq!(ended(&engine, id).await.state.status, Status::Success);
    }
    assert_eq!(tenants.peak("limited"), 2);
    assert!(tenants.peak("free") <= 5 && script.count() == 40);
}

#[tokio::test]
async fn a_place_comes_back_however_an_attempt_ends() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::new(|call| {
        Box::pin(async move {
            match call.input["how"].as_str() {
                Some("fails") => report(Err(Failure::permanent("NO", "no"))),
                Some("retries") if call.attempt == 1 => report(Err(Failure::transient("LATER", "later"))),
                Some("panics") => panic!("as told"),
                Some("hangs") => std::future::pending().await,
                _ => report(Ok(Value::Null)),
            }
        }) as Answer
    });
    let engine = open_with(dir.path(), &script, |_| {}).unwrap();
    let config = "{concurrency: 1, retry_policy: {maximum_attempts: 2, initial_interval: 1ms}}";
    let plan = workflow(
        "w",
        &format!("tasks: [{{id: t, tool: tool, with: {{how: '{{{{ .input.how }}}}'}}, config: {config}}}]"),
    );
    let hangs = start(&engine, &plan, json!({"how": "hangs"})).await;
    until("it hangs", || script.count() == 1).await;
    let mut ids = Vec::new();
    for how in ["fails", "retries", "panics", "works"] {
        ids.push(start(&engine, &plan, json!({"how": how})).await);
    }
    assert_eq!(waiting(dir.path()), 4, "one place, and it is taken");
    let cancel = compozy_engine::port::Control::Cancel { reason: "enough".into(), grace_ms: 0 };
    engine.control(&hangs, cancel).await.unwrap();
    let mut ends = Vec::new();
    for id in &ids {
        ends.push(ended(&engine, id).await.state.status);
    }
    assert_eq!(ends, [Status::Failed, Status::Success, Status::Failed, Status::Success]);
}

#[tokio::test]
async fn limits_and_turns_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let plan = workflow("w", &("config: {concurrency: {key: k, limit: 2}}\n".to_owned() + ALL_ITEMS));
    let script = Script::never();
    let engine = open(dir.path(), &script);
    let id = start(&engine, &plan, items("x", 20)).await;
    until("two run", || script.count() == 2).await;
    drop(engine);
    let (gate, tenants) = (held(), Arc::new(Tenants::default()));
    let script = tenants.script(&gate);
    let engine = open(dir.path(), &script);
    until("two run again", || script.count() == 2).await;
    gate.add_permits(20);
    assert_eq!(ended(&engine, &id).await.state.status, Status::Success);
    assert_eq!((tenants.peak("x"), script.count()), (2, 20));
}

fn waiting(folder: &Path) -> usize {
    sqlite(folder).query_row("SELECT COUNT(*) FROM task WHERE state = 'ready'", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn one_bad_operation_does_not_fail_those_that_share_its_commit() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), &Script::echo());
    let plan = linear(1);
    engine.start(keyed(&plan, json!({"n": 0}), "taken")).await.unwrap();
    let stall = Stall::begin(dir.path());
    let commits = engine.stats().commits;
    // The first makes the writer wait; the others come together.
    let starts = (0..9).map(|n| match n {
        3 => engine.start(keyed(&plan, json!({"n": 1}), "taken")),
        _ => engine.start(keyed(&plan, json!({"n": n}), &format!("key {n}"))),
    });
    let all = futures(starts, async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        stall.end();
    })
    .await;
    let refused: Vec<usize> = (0..9).filter(|n| all[*n].is_err()).collect();
    assert_eq!(refused, [3]);
    assert_eq!(all[3].as_ref().unwrap_err().code(), "IDEMPOTENCY_KEY_REUSED");
    for id in all.into_iter().flatten() {
        ended(&engine, &id).await;
        assert_sound(&engine, &id).await;
    }
    assert!(engine.stats().commits - commits <= 2 + 9 && limits::BATCH_OPS_MAX > 9);
}

/// Polls all at once, then does something, then waits for all.
async fn futures<T, F: Future<Output = T> + Send + Unpin>(
    all: impl Iterator<Item = F>,
    meanwhile: impl Future<Output = ()>,
) -> Vec<T> {
    let mut set: Vec<_> = all.map(Some).collect();
    let mut done: Vec<Option<T>> = set.iter().map(|_| None).collect();
    let mut poll_all = std::future::poll_fn(|cx| {
        for (future, done) in set.iter_mut().zip(&mut done) {
            if let Some(running) = future
                && let std::task::Poll::Ready(value) = std::pin::Pin::new(running).poll(cx)
            {
                (*done, *future) = (Some(value), None);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    });
    tokio::select! {
        biased;
        () = &mut poll_all => panic!("answered before anything could be written"),
        () = meanwhile => {}
    }
    within(&mut poll_all).await;
    done.into_iter().flatten().collect()
}
