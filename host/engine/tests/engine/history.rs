//! What a run is bound to, what is told of it while it goes on, and what is recorded of it in the end.

use std::sync::Arc;
use std::time::Duration;

use compozy_engine::local::LocalEngine;
use compozy_engine::port::{Control, Engine as _, ExecutionId, Notice, Pins, TaskCall, TaskExecutor, TaskReport};
use compozy_engine::{Difference, History};
use compozy_interpreter::{Failure, Signal, Status};
use compozy_plan::plan::Plan;
use serde_json::json;

use crate::common::*;

/// A script with plugins of one build.
struct Bound(Arc<Script>, &'static str);

#[async_trait::async_trait]
impl TaskExecutor for Bound {
    async fn execute(&self, call: TaskCall) -> TaskReport {
        self.0.execute(call).await
    }

    fn pins(&self, plan: &Plan) -> Pins {
        plan.plugins().into_iter().map(|plugin| (plugin.to_owned(), self.1.to_owned())).collect()
    }
}

fn open_bound(folder: &std::path::Path, script: &Arc<Script>, build: &'static str) -> LocalEngine {
    open_with(folder, script, |options| options.executor = Arc::new(Bound(Arc::clone(script), build))).unwrap()
}

fn go() -> Control {
    Control::Signal(Signal { name: "go".into(), payload: json!(1), id: String::new(), source: String::new() })
}

#[tokio::test]
async fn a_run_keeps_the_builds_that_it_began_with_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::echo();
    let plan =
        plan("tasks: [{id: w, type: wait, wait_for: go}, {id: c, type: composite, tasks: [{id: t, tool: tool}]}]");
    let engine = open_bound(dir.path(), &script, "old");
    let first = engine.start(request(&plan)).await.unwrap();
    let old = ("test".to_owned(), "old".to_owned());
    assert_eq!(engine.pins().await.unwrap(), [old.clone()].into());
    drop(engine);
    let engine = open_bound(dir.path(), &script, "new");
    let second = engine.start(request(&plan)).await.unwrap();
    let new = ("test".to_owned(), "new".to_owned());
    assert_eq!(engine.pins().await.unwrap(), [old, new.clone()].into());
    for (id, build) in [(&first, "old"), (&second, "new")] {
        let before = script.count();
        engine.control(id, go()).await.unwrap();
        let ended = ended(&engine, id).await;
        assert_eq!(ended.pins, [("test".to_owned(), build.to_owned())].into());
        assert_eq!(script.calls()[before].pin.as_deref(), Some(build));
        assert_eq!(engine.pins().await.unwrap().contains(&new), build == "old", "only open runs count");
    }
}

#[tokio::test]
async fn who_follows_one_run_is_told_of_it_alone_and_can_read_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::new(|call| async move {
        call.signs.heartbeat_at("half way");
        report(if call.attempt == 1 { Err(Failure::transient("BUSY", "later")) } else { Ok(json!(call.task)) })
    });
    let engine = open(dir.path(), &script);
    let policy = "{retry_policy: {initial_interval: 1ms, maximum_attempts: 2}}";
    let plan = plan(&format!("tasks: [{{id: w, type: wait, wait_for: go}}, {{id: t, tool: tool, config: {policy}}}]"));
    let id = engine.start(request(&plan)).await.unwrap();
    let page = engine.journal_after(&id, 0, 10).await.unwrap();
    assert_eq!((page.records.len(), page.ended), (1, false));
    let mut notices = engine.follow(&id);
    let other = engine.start(request(&plan)).await.unwrap();
    engine.control(&other, go()).await.unwrap();
    ended(&engine, &other).await;
    engine.control(&id, go()).await.unwrap();
    let told = notices_of(&mut notices, &id).await;
    assert!(told.iter().all(|notice| *notice.execution() == id), "{told:?}");
    let seqs: Vec<u64> = told
        .iter()
        .filter_map(|notice| match notice {
            Notice::Recorded { seq, .. } => Some(*seq),
            _ => None,
        })
        .collect();
    assert_eq!(seqs, [2, 3]);
    let beats = told.iter().filter(|notice| matches!(notice, Notice::Heartbeat { detail, .. } if detail == "half way"));
    assert_eq!(beats.count(), 2);
    let begun = told.iter().filter(|notice| matches!(notice, Notice::AttemptStarted { .. }));
    assert_eq!(begun.count(), 2);
    let page = engine.journal_after(&id, 1, 1).await.unwrap();
    assert_eq!((page.records[0].seq, page.records.len(), page.ended), (2, 1, false));
    let page = engine.journal_after(&id, 2, 10).await.unwrap();
    assert_eq!((page.records[0].seq, page.records.len(), page.ended), (3, 1, true));
    let unknown = engine.journal_after(&ExecutionId("x".into()), 0, 1).await.unwrap_err();
    assert_eq!(unknown.code(), "EXECUTION_NOT_FOUND");
}

/// A run of three tasks and a wait that has ended well.
async fn recorded(folder: &std::path::Path) -> (LocalEngine, ExecutionId) {
    let script = Script::echo();
    let engine = open(folder, &script);
    let plan = plan(
        "tasks:
  - {id: a, tool: tool, with: {n: 1}}
  - {id: b, tool: tool, with: {from: '{{ .tasks.a.output }}'}}
  - {id: w, type: wait, wait_for: go}
  - {id: c, tool: tool}
",
    );
    let id = engine.start(request(&plan)).await.unwrap();
    stands(&engine, &id, Status::Waiting).await;
    engine.control(&id, go()).await.unwrap();
    ended(&engine, &id).await;
    (engine, id)
}

#[tokio::test]
async fn an_export_is_verified_without_its_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, id) = recorded(dir.path()).await;
    let history = engine.export(&id).await.unwrap();
    drop(engine);
    drop(dir);
    let text = serde_json::to_string(&history).unwrap();
    let read: History = serde_json::from_str(&text).unwrap();
    assert_eq!(read, history);
    assert_eq!(read.verify().unwrap(), None);
    assert_eq!((read.events.len(), read.tasks.len()), (5, 3));
    let refused = |change: fn(&mut History)| {
        let mut changed = read.clone();
        change(&mut changed);
        changed.verify().unwrap_err().to_string()
    };
    assert!(refused(|history| history.plan["workflow"] = "other".into()).contains("has the sha256"));
    assert!(refused(|history| history.behaviour = 99).contains("behaviour 99"));
    assert!(refused(|history| history.format = 99).contains("format 99"));
    assert!(refused(|history| history.events[1].event = json!({"kind": "odd"})).contains("event 2 cannot be read"));
}

#[tokio::test]
async fn the_first_difference_is_told_by_its_event() {
    type Damage = fn(&mut History);
    let dir = tempfile::tempdir().unwrap();
    let (engine, id) = recorded(dir.path()).await;
    let history = engine.export(&id).await.unwrap();
    let cases: [(&str, Damage, u64, &str, &str); 10] = [
        (
            "another result of a task",
            |h| h.events[1].event["output"] = json!("changed"),
            2,
            "task_completed",
            "task b: its arguments/from",
        ),
        (
            "a result in the state",
            |h| h.state.as_mut().unwrap().state["tasks"]["b"]["output"] = json!("changed"),
            3,
            "task_completed",
            "task b: output",
        ),
        (
            "two tasks in the state: the earlier event counts",
            |h| {
                for key in ["c", "a"] {
                    h.state.as_mut().unwrap().state["tasks"][key]["output"] = json!("changed");
                }
            },
            2,
            "task_completed",
            "task a: output",
        ),
        (
            "the run's own output",
            |h| h.state.as_mut().unwrap().state["output"] = json!("changed"),
            5,
            "task_completed",
            "the run: output",
        ),
        ("a lost event", |h| drop(h.events.remove(2)), 4, "signal_received", "the event's number"),
        ("a lost last event", |h| drop(h.events.pop()), 4, "signal_received", "the number of events"),
        ("an event that means nothing", |h| h.events[2].event["task"] = json!("c"), 3, "task_completed", "task c"),
        ("another time", |h| h.events[3].at_ms += 1, 4, "signal_received", "the event's time"),
        (
            "other arguments",
            |h| h.tasks["a"].call.as_mut().unwrap().input["n"] = json!(2),
            1,
            "started",
            "task a: its arguments/n",
        ),
        ("a task too many", |h| drop(h.tasks.insert("z".into(), h.tasks["a"].clone())), 5, "task_completed", "task z"),
    ];
    for (name, damage, seq, kind, what) in cases {
        let mut damaged = history.clone();
        damage(&mut damaged);
        let difference = damaged.verify().unwrap().expect(name);
        let Difference { seq: at, kind: of, what: found, .. } = &difference;
        assert_eq!((*at, of.as_str(), found.as_str()), (seq, kind, what), "{name}: {difference}");
    }
    let mut damaged = history.clone();
    damaged.state.as_mut().unwrap().state["tasks"]["b"]["output"] = json!("changed");
    let text = damaged.verify().unwrap().unwrap().to_string();
    assert_eq!(text, "event 3 (task_completed): task b: output: recorded is \"changed\", computed \"b\"");
}

#[tokio::test]
async fn a_journal_that_was_changed_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, id) = recorded(dir.path()).await;
    engine.stop(Duration::ZERO).await;
    drop(engine);
    sqlite(dir.path())
        .execute("UPDATE journal SET body = replace(body, '\"a\"}', '\"x\"}') WHERE seq = 2", [])
        .unwrap();
    let script = Script::echo();
    let engine = open(dir.path(), &script);
    let difference = engine.verify(&id).await.unwrap().unwrap();
    assert_eq!((difference.seq, difference.kind.as_str()), (2, "task_completed"), "{difference}");
}

#[tokio::test]
async fn a_run_whose_journal_is_damaged_stands_still_and_no_other_does() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), &Script::never());
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(engine.start(request(&linear(3))).await.unwrap());
    }
    engine.stop(Duration::ZERO).await;
    drop(engine);
    sqlite(dir.path()).execute("UPDATE journal SET body = 'ink blot' WHERE run = 3", []).unwrap();
    let script = Script::echo();
    let engine = open(dir.path(), &script);
    for (at, id) in ids.iter().enumerate() {
        if at != 2 {
            ended(&engine, id).await;
            assert_sound(&engine, id).await;
        }
    }
    // Its task ran, and nobody could tell the run. What had been written of that was undone.
    let state = |task: i64| -> String {
        let sql = "SELECT state FROM task WHERE run = 3 AND id = ?1";
        sqlite(dir.path()).query_row(sql, [task], |row| row.get(0)).unwrap()
    };
    assert_eq!(state(3), "running");
    assert_eq!(run(&engine, request(&linear(1))).await.state.status, Status::Success);
}
