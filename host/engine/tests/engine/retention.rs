//! What ended long ago is removed, and what there is can be copied while work goes on.

use std::sync::Arc;
use std::time::Duration;

use compozy_engine::local::Retention;
use compozy_engine::port::{Control, Engine as _};
use compozy_interpreter::{Failure, Signal, Status};
use serde_json::json;

use crate::common::*;

#[tokio::test]
async fn runs_that_ended_before_a_time_are_removed_with_all_that_was_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let clock = HandClock::new();
    let held = Arc::clone(&clock);
    let script = Script::echo();
    let engine = open_with(dir.path(), &script, |options| options.clock = held).unwrap();
    let plan = linear(2);
    let mut ids = Vec::new();
    for at in 0..100_i64 {
        clock.set(at * 1_000);
        ids.push(run(&engine, keyed(&plan, json!({}), &format!("k{at}"))).await.id);
    }
    let waits = workflows(&[("waits", "tasks: [{id: w, type: wait, wait_for: go}]")]);
    let open = engine.start(request(&waits["waits"])).await.unwrap();
    assert_eq!(engine.prune(NOON + 90_000).await.unwrap(), 90, "more than one commit removes");
    assert_eq!(engine.prune(NOON + 90_000).await.unwrap(), 0);
    let left: Vec<_> = engine.list(1_000, None).await.unwrap().into_iter().map(|line| line.id).collect();
    let mut expected = vec![open];
    expected.extend(ids[90..].iter().rev().cloned());
    assert_eq!(left, expected);
    assert!(engine.execution(&ids[0]).await.unwrap().is_none());
    assert_sound(&engine, &ids[99]).await;
    // The key of a run that is no more can be used again.
    assert_ne!(run(&engine, keyed(&plan, json!({}), "k0")).await.id, ids[0]);
    engine.stop(Duration::ZERO).await;
    for table in ["journal", "snapshot", "task", "idempotency"] {
        let orphans = format!("SELECT COUNT(*) FROM {table} t WHERE NOT EXISTS (SELECT 1 FROM run WHERE id = t.run)");
        let count: i64 = sqlite(dir.path()).query_row(&orphans, [], |row| row.get(0)).unwrap();
        assert_eq!(count, 0, "{table}");
    }
}

#[tokio::test]
async fn what_was_kept_for_long_enough_goes_by_itself_by_how_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let clock = HandClock::new();
    let held = Arc::clone(&clock);
    let script = Script::now(|call| {
        if call.input["fail"] == true { Err(Failure::permanent("BROKEN", "as asked")) } else { Ok(json!(1)) }
    });
    let opened = open_with(dir.path(), &script, |options| {
        options.clock = held;
        options.retention = Retention {
            success: Some(Duration::from_secs(10)),
            failed: Some(Duration::from_mins(1)),
            ..Retention::default()
        };
        options.retention_every = Duration::from_millis(5);
    });
    let engine = opened.unwrap();
    let task = |fail: bool| plan(&format!("tasks: [{{id: t, tool: tool, with: {{fail: {fail}}}}}]"));
    let (good, bad) = (task(false), task(true));
    for _ in 0..150 {
        assert_eq!(run(&engine, request(&good)).await.state.status, Status::Success);
    }
    run(&engine, request(&bad)).await;
    let waits = workflows(&[("waits", "tasks: [{id: w, type: wait, wait_for: go}]")]);
    let canceled = engine.start(request(&waits["waits"])).await.unwrap();
    engine.cancel(&canceled, String::new()).await.unwrap();
    let open = engine.start(request(&waits["waits"])).await.unwrap();
    let file = sqlite(dir.path());
    let count = || file.query_row("SELECT COUNT(*) FROM run", [], |row| row.get::<_, i64>(0)).unwrap();
    clock.set(9_999);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(count(), 153, "nothing goes early");
    clock.set(10_001);
    until("those that ended well went", || count() == 3).await;
    clock.set(60_001);
    until("the failed one went", || count() == 2).await;
    clock.set(1_000_000_000);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let left: Vec<_> = engine.list(10, None).await.unwrap().into_iter().map(|line| line.id).collect();
    assert_eq!(left, [open, canceled], "others are kept: for ever, or because they have not ended");
}

#[tokio::test]
async fn a_parent_stays_as_long_as_its_child_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let known = workflows(&[
        ("child", "tasks: [{id: w, type: wait, wait_for: go}]"),
        (
            "parent",
            "tasks: [{id: p, type: parallel, strategy: race, tasks: [{id: c, workflow: child, parent_close: abandon}, {id: w, type: wait, wait_for: on}]}]",
        ),
    ]);
    let parent = Arc::clone(&known["parent"]);
    let script = Script::echo();
    let engine = open_with(dir.path(), &script, |options| options.workflows = Arc::new(known)).unwrap();
    let id = engine.start(request(&parent)).await.unwrap();
    until("the child runs", || engine.health().open_executions == 2).await;
    let signal = |name: &str| {
        Control::Signal(Signal { name: name.into(), payload: json!(1), id: String::new(), source: String::new() })
    };
    engine.control(&id, signal("on")).await.unwrap();
    let ended_parent = ended(&engine, &id).await;
    assert_eq!(engine.prune(u64::MAX).await.unwrap(), 0);
    let child = ended_parent.children["p/c"].clone();
    engine.control(&child, signal("go")).await.unwrap();
    assert_eq!(ended(&engine, &child).await.state.status, Status::Success);
    assert_eq!(engine.prune(u64::MAX).await.unwrap(), 2);
    assert_eq!(engine.list(10, None).await.unwrap(), []);
}

#[tokio::test]
async fn a_backup_restores_everything_that_was_acknowledged_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::echo();
    let engine = open(dir.path(), &script);
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(engine.start(request(&linear(3))).await.unwrap());
    }
    let other = tempfile::tempdir().unwrap();
    let copy = other.path().join("journal.db");
    engine.backup(&copy).await.unwrap();
    let refused = engine.backup(&copy).await.unwrap_err();
    assert!(refused.to_string().contains("it exists already"), "{refused}");
    engine.stop(Duration::ZERO).await;
    // The copy is a data folder like any other; what was under way in it goes on.
    let restored = open(other.path(), &script);
    for id in &ids {
        ended(&restored, id).await;
        assert_sound(&restored, id).await;
    }
}
