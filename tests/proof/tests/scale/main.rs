//! Large numbers: of runs, of items, of tasks in a definition, of events in a run.
//!
//! The sizes here take seconds. `cargo xtask scale` runs the same tests at the sizes that the engine promises.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{ENOUGH, Worker, engine, plan, say, size, started};
use compozy_engine::EngineError;
use compozy_engine::limits::RUN_EVENTS_MAX;
use compozy_engine::local::LocalEngine;
use compozy_engine::port::{Control, Engine as _, ExecutionId, StartRequest};
use compozy_interpreter::{Signal, Status};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_runs_by_the_thousand_survive_a_restart_and_go_on() {
    let count = size(10_000, 100_000);
    let folder = tempfile::tempdir().unwrap();
    let waits = plan("tasks: [{id: w, type: wait, wait_for: go, timeout: 100h}]");
    let works = plan("tasks: [{id: t, tool: tool}]");
    let nobody = Worker::never();
    let before = engine(folder.path(), &nobody);
    let mut ids: Vec<ExecutionId> = Vec::new();
    let begun = Instant::now();
    while ids.len() < count {
        let some = (0..500.min(count - ids.len())).map(|_| started(&before, &waits, json!({})));
        ids.extend(common::all(some).await);
    }
    let at_work = common::all((0..10).map(|_| started(&before, &works, json!({})))).await;
    say(&format!("{count} runs were started in {:?}", begun.elapsed()));
    common::until("ten attempts", || nobody.count() == 10).await;
    // As after a crash: nothing is drained.
    drop(before);

    let worker = Worker::echo();
    let begun = Instant::now();
    let after = engine(folder.path(), &worker);
    common::until("the first attempt", || worker.count() > 0).await;
    let took = begun.elapsed();
    say(&format!("{count} open runs: from open to the first attempt in {took:?}"));
    assert!(took < ENOUGH, "{took:?}");
    for id in &at_work {
        assert_eq!(common::ended(&after, id).await.attempts["t"].attempts, 2);
    }
    assert_eq!(after.health().open_executions, count as u64);
    for at in [0, count / 2, count - 1] {
        let signal = Signal { name: "go".into(), payload: json!(at), id: "s".into(), source: "test".into() };
        after.control(&ids[at], Control::Signal(signal)).await.unwrap();
        assert_eq!(common::ended(&after, &ids[at]).await.state.status, Status::Success);
        assert_eq!(after.verify(&ids[at]).await.unwrap(), None);
    }
    assert_eq!(after.health().open_executions, count as u64 - 3);
}

/// How long a collection of so many items takes.
async fn collection(items: usize) -> Duration {
    let folder = common::memory();
    let worker = Worker::echo();
    let engine = engine(folder.path(), &worker);
    let plan = plan(
        "tasks: [{id: all, type: collection, max_workers: 100, items: '{{ .input.list }}', task: {id: one, tool: tool, with: {item: '{{ .item }}'}}}]",
    );
    let list: Vec<usize> = (0..items).collect();
    let begun = Instant::now();
    let id = started(&engine, &plan, json!({ "list": list })).await;
    let execution = common::ended(&engine, &id).await;
    let took = begun.elapsed();
    say(&format!("a collection of {items} items took {took:?}"));
    let output = execution.state.output.expect("it ended well");
    assert_eq!(output["item_count"], items);
    let outputs = output["outputs"].as_array().expect("a list");
    assert!(outputs.iter().enumerate().all(|(at, output)| output["item"] == at), "each in its place");
    assert_eq!(worker.count(), items);
    assert_eq!(engine.verify(&id).await.expect("a journal"), None);
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_of_ten_thousand_items_ends_and_its_cost_grows_with_its_items() {
    let items = size(4_000, 10_000);
    let (part, all) = (collection(items / 4).await, collection(items).await);
    assert!(all < ENOUGH, "{all:?}");
    // Four times the items: four times the work, and not sixteen times.
    assert!(all < part * 10 + Duration::from_secs(2), "{items} items took {all:?}, a quarter of them {part:?}");
}

/// Tasks one after the other, each with a condition and with what the one before it answered.
fn chain(tasks: usize) -> String {
    let with = |n: usize| match n {
        0 => "{first: true}".to_owned(),
        _ => format!("{{before: '{{{{ .tasks.t{}.output.task }}}}'}}", n - 1),
    };
    (0..tasks).map(|n| format!("  - {{id: t{n}, tool: tool, condition: 'true', with: {}}}\n", with(n))).collect()
}

async fn definition(tasks: usize) -> Duration {
    let begun = Instant::now();
    let plan = plan(&format!("tasks:\n{}", chain(tasks)));
    let compiled = begun.elapsed();
    let folder = common::memory();
    let worker = Worker::echo();
    let engine = engine(folder.path(), &worker);
    let id = started(&engine, &plan, json!({})).await;
    let execution = common::ended(&engine, &id).await;
    let took = begun.elapsed();
    say(&format!("a definition of {tasks} tasks was compiled in {compiled:?} and had run after {took:?}"));
    assert_eq!(execution.state.status, Status::Success, "{:?}", execution.state.failure);
    assert_eq!((execution.state.tasks.len(), worker.count()), (tasks, tasks));
    assert_eq!(execution.state.output.expect("an output")["before"], format!("t{}", tasks - 2));
    assert_eq!(engine.verify(&id).await.expect("a journal"), None);
    // Another engine reads it back.
    engine.stop(Duration::ZERO).await;
    let engine = common::engine(folder.path(), &worker);
    assert_eq!(engine.verify(&id).await.expect("a journal"), None);
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_of_two_thousand_tasks_is_compiled_and_run() {
    let (part, all) = (definition(500).await, definition(2_000).await);
    assert!(all < ENOUGH, "{all:?}");
    assert!(all < part * 10 + Duration::from_secs(2), "2000 tasks took {all:?}, 500 took {part:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_signals_from_many_senders_to_one_run_are_taken_once_each() {
    let count = size(1_000, 10_000);
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path(), &Worker::echo());
    let plan = plan(
        "tasks:
  - id: all
    type: collection
    mode: sequential
    items: '{{ .input.list }}'
    task: {id: w, type: wait, wait_for: go, outputs: '{{ .output.signal.payload }}'}
",
    );
    let list: Vec<usize> = (0..count).collect();
    let id = started(&engine, &plan, json!({ "list": list })).await;
    let begun = Instant::now();
    for some in list.chunks(250) {
        let (engine, id) = (&engine, &id);
        let send = some.iter().map(|n| async move {
            let signal = Signal { name: "go".into(), payload: json!(n), id: format!("s{n}"), source: "test".into() };
            // Each is sent twice, as by a client that missed the first answer.
            for _ in 0..2 {
                match engine.control(id, Control::Signal(signal.clone())).await {
                    Ok(()) | Err(EngineError::SignalRefused { .. } | EngineError::ExecutionEnded { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        common::all(send).await;
    }
    let execution = common::ended(&engine, &id).await;
    say(&format!("{count} signals were taken in {:?}", begun.elapsed()));
    let output = execution.state.output.expect("it ended well");
    let mut taken: Vec<u64> =
        output["outputs"].as_array().unwrap().iter().filter_map(serde_json::Value::as_u64).collect();
    taken.sort_unstable();
    assert_eq!(taken, (0..count as u64).collect::<Vec<_>>());
    assert_eq!(engine.verify(&id).await.unwrap(), None);
}

/// A loop of tasks: a commit for each event. Or, in far less time, events that share commits.
async fn until_it_is_full(engine: &LocalEngine) -> ExecutionId {
    if size(0, 1) == 1 {
        let plan = plan("tasks: [{id: again, tool: tool, on_success: {next: again}}]");
        return started(engine, &plan, json!({})).await;
    }
    let plan = plan("tasks: [{id: w, type: wait, wait_for: go}]");
    let id = started(engine, &plan, json!({})).await;
    let controls = || (0..250).flat_map(|_| [Control::Pause { reason: String::new() }, Control::Resume]);
    while engine.health().open_executions > 0 {
        for answer in common::all(controls().map(|control| engine.control(&id, control))).await {
            assert!(matches!(answer, Ok(()) | Err(EngineError::ExecutionEnded { .. })), "{answer:?}");
        }
    }
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_of_fifty_thousand_events_ends_at_its_limit_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path(), &Worker::echo());
    let begun = Instant::now();
    let id = until_it_is_full(&engine).await;
    let execution = common::ended(&engine, &id).await;
    say(&format!("a run of {} events took {:?}", execution.events, begun.elapsed()));
    let failure = execution.state.failure.expect("it failed");
    assert_eq!((execution.state.status, failure.code.as_str()), (Status::Failed, "RUN_LIMIT"));
    for part in ["50000 events", "at most 50000", "split the work over several runs"] {
        assert!(failure.message.contains(part), "`{part}` is not in: {}", failure.message);
    }
    assert_eq!(execution.events, RUN_EVENTS_MAX);
    assert_eq!(engine.verify(&id).await.unwrap(), None);
    assert_eq!(engine.health().running_tasks, 0, "nothing of it runs any more");
    let refused = engine.control(&id, Control::Retry).await.expect_err("there is no room");
    assert_eq!(refused.code(), "RUN_LIMIT", "{refused}");
    // Others go on.
    let other = started(&engine, &plan("tasks: [{id: t, tool: tool}]"), json!({})).await;
    assert_eq!(common::ended(&engine, &other).await.state.status, Status::Success);
}

#[tokio::test]
async fn a_clock_that_leaps_makes_timers_late_and_never_early() {
    let folder = tempfile::tempdir().unwrap();
    let clock = common::HandClock::new();
    let engine = common::engine_with(folder.path(), &Worker::echo(), |options| options.clock = clock.clone());
    let plan = plan("tasks: [{id: w, type: wait, wait_for: never, timeout: 10s, on_timeout: t}, {id: t, tool: tool}]");
    let request = |n: usize| StartRequest {
        plan: Arc::clone(&plan),
        input: json!({ "n": n }),
        idempotency_key: None,
        priority: None,
    };
    // One starts at each of these seconds; the clock goes back and forth between them.
    let mut due: BTreeMap<ExecutionId, (i64, bool)> = BTreeMap::new();
    for (n, second) in [0_i64, 100, -50, 3_600, -3_600, 5, 8, -1, 30].into_iter().enumerate() {
        clock.set(second);
        common::look(&engine).await;
        for (id, (due, was_due)) in &mut due {
            *was_due |= second >= *due;
            let status = engine.execution(id).await.unwrap().unwrap().state.status;
            assert!(status == Status::Waiting || *was_due, "at {second} s the timer of {due} s has fired");
        }
        due.insert(engine.start(request(n)).await.unwrap(), (second + 10, false));
    }
    clock.set(4_000);
    common::look(&engine).await;
    for id in due.keys() {
        assert_eq!(common::ended(&engine, id).await.state.status, Status::Success);
        assert_eq!(engine.verify(id).await.unwrap(), None);
        let journal = engine.journal(id).await.unwrap();
        assert!(journal.is_sorted_by_key(|record| record.at_ms), "the events of a run never go back in time");
    }
}
