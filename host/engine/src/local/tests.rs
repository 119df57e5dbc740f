//! What cannot be seen from outside: query plans, fences, snapshots, limits, rows that cannot be read.

use std::sync::Arc;

use compozy_interpreter::{Event, Failure, Status};
use compozy_plan::plan::{Plan, TaskPolicy};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::attempt::Launch;
use super::file::JournalFile;
use super::lanes::Lanes;
use super::ops;
use super::outside::{OPEN_CHILD, OPEN_CHILDREN};
use super::request::{Definitions, take_in};
use super::runs::{Fault, Hot, Runs, TAIL};
use super::tx::{Effect, HAS_TIMERS, INSERT_TASK, OPEN_TASK, OPEN_TASKS, Tx};
use super::{control, prune, reader, writer};
use crate::blob_store::FileBlobs;
use crate::limits;
use crate::port::{Control, StartRequest, TaskReport};
use crate::vault::Vault;

fn plan(tasks: usize) -> Arc<Plan> {
    let tasks: Vec<Value> = (0..tasks)
        .map(|n| {
            json!({
                "id": format!("t{n}"),
                "kind": {"type": "basic", "id": "tool", "plugin": "test", "action": null, "config": null},
                "with": null, "input": null, "output": null, "outputs": null,
                "on_success": null, "on_error": null, "is_final": false, "policy": TaskPolicy::default(),
            })
        })
        .collect();
    let plan = json!({
        "format": compozy_plan::plan::PLAN_FORMAT, "workflow": "w", "version": "", "description": "",
        "project": {"name": "", "version": "", "description": ""},
        "input": null, "env": {}, "tasks": tasks, "outputs": null,
    });
    Arc::new(serde_json::from_value(plan).unwrap())
}

/// A journal whose operations are done by hand.
struct Bench {
    _dir: tempfile::TempDir,
    conn: Connection,
    vault: Arc<Vault>,
    runs: Runs,
    lanes: Lanes,
}

/// What is known of an empty journal.
fn no_lanes() -> Lanes {
    let mut lanes = Lanes::new(limits::LANES_MAX);
    lanes.found(None);
    lanes
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let conn = JournalFile::new(dir.path()).open_writer().unwrap();
        let vault = Arc::new(Vault::new(Arc::new(FileBlobs::new(dir.path().join("blobs")))));
        Self { _dir: dir, conn, runs: Runs::new(Arc::clone(&vault)), vault, lanes: no_lanes() }
    }

    /// One operation in a transaction of its own.
    fn work<T>(
        &mut self,
        epoch: i64,
        work: impl FnOnce(&mut Tx<'_>, &mut Runs) -> Result<T, Fault>,
    ) -> (Result<T, Fault>, Vec<Effect>) {
        let mut tx = tx(&self.conn, &self.vault, &mut self.lanes, epoch);
        let runs = &mut self.runs;
        let result = tx.atomically(|tx| work(tx, runs));
        (result, tx.effects)
    }

    fn start(&mut self, plan: &Arc<Plan>) -> Arc<Launch> {
        let request = StartRequest { plan: Arc::clone(plan), input: json!({}), idempotency_key: None, priority: None };
        let definitions = Definitions::new(Arc::new(crate::SystemClock), None);
        let start = take_in(&definitions, request, 1_000, &self.vault).unwrap();
        let (result, effects) = self.work(1, |tx, runs| ops::start(tx, runs, &start));
        result.unwrap();
        launched(effects)
    }

    fn count(&self, sql: &str) -> i64 {
        self.conn.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

fn tx<'a>(conn: &'a Connection, vault: &'a Arc<Vault>, lanes: &'a mut Lanes, epoch: i64) -> Tx<'a> {
    let now_ms = 2_000;
    Tx {
        conn,
        vault,
        claims: Vec::new(),
        epoch,
        now_ms,
        effects: Vec::new(),
        free: 8,
        lanes,
        draining: false,
        watched: true,
        first_timer: None,
        letters: 0,
        fenced: true,
    }
}

fn launched(effects: Vec<Effect>) -> Arc<Launch> {
    let launch = effects.into_iter().find_map(|effect| match effect {
        Effect::Launch(launch) => Some(launch),
        _ => None,
    });
    launch.expect("a task begins")
}

fn end(tx: &mut Tx<'_>, runs: &mut Runs, launch: &Launch) -> Result<(), Fault> {
    ops::attempt_ended(tx, runs, launch, TaskReport { result: Ok(json!(1)), ran: None })
}

#[test]
fn a_result_counts_only_for_the_attempt_and_the_owner_that_hold_the_task() {
    let mut bench = Bench::new();
    let launch = bench.start(&plan(2));
    let stale = |bench: &mut Bench, epoch, launch: &Launch| {
        let (result, effects) = bench.work(epoch, |tx, runs| end(tx, runs, launch));
        result.unwrap();
        assert!(matches!(effects[..], [Effect::Stale]), "a stale result does nothing but count");
        assert_eq!(bench.count("SELECT COUNT(*) FROM journal"), 1);
    };
    stale(&mut bench, 1, &Launch { attempt: 2, ..Launch::clone(&launch) });
    stale(&mut bench, 2, &launch);
    let (result, effects) = bench.work(1, |tx, runs| end(tx, runs, &launch));
    result.unwrap();
    assert_eq!(launched(effects).key, "t1");
    assert_eq!(bench.count("SELECT COUNT(*) FROM journal"), 2);
    // The same result again.
    let (result, effects) = bench.work(1, |tx, runs| end(tx, runs, &launch));
    result.unwrap();
    assert!(matches!(effects[..], [Effect::Stale]));
    assert_eq!(bench.count("SELECT COUNT(*) FROM journal"), 2);
}

#[test]
fn hot_queries_use_an_index_and_sort_nothing() {
    let bench = Bench::new();
    let queries = [
        HAS_TIMERS,
        ops::NEXT_READY,
        ops::NEXT_TIMER,
        ops::NEXT_LANE,
        ops::ONE_READY,
        ops::DUE_TIMERS,
        ops::CLOSE_ATTEMPT,
        OPEN_TASK,
        OPEN_TASKS,
        TAIL,
        reader::LISTS[0],
        reader::LISTS[1],
        reader::LISTS[2],
        reader::CHILDREN,
        prune::PRUNABLE,
        reader::EVENTS,
        "SELECT id FROM pins WHERE body = ?1",
        "DELETE FROM idempotency WHERE run = ?1",
        "DELETE FROM task WHERE run = ?1",
        "DELETE FROM journal WHERE run = ?1",
        "DELETE FROM blob_use WHERE run = ?1",
        prune::BLOBS_OF_RUN,
        prune::BLOB_IS_USED,
        OPEN_CHILD,
        OPEN_CHILDREN,
        ops::DUE,
        "DELETE FROM timer WHERE run = ?1",
        "DELETE FROM timer WHERE run = ?1 AND id = ?2",
        "DELETE FROM outbox WHERE id = ?1",
        "SELECT id FROM run WHERE execution = ?1",
        "SELECT id FROM definition WHERE digest = ?1",
        "SELECT seq, bytes, state FROM snapshot WHERE run = ?1",
        "SELECT i.request, r.execution FROM idempotency i JOIN run r ON r.id = i.run WHERE i.key = ?1",
    ];
    // The outbox is empty when runs are removed.
    let removals = prune::REMOVALS.into_iter().filter(|removal| !removal.contains("outbox"));
    for query in queries.into_iter().chain(removals) {
        let plan = query_plan(&bench.conn, query);
        assert!(
            !plan.contains("TEMP B-TREE")
                && !plan.replace("SCAN timer USING COVERING INDEX timer_due", "").contains("SCAN"),
            "{query}\n{plan}"
        );
    }
    // Once at open: entries of small partial indexes, never the table.
    for query in [writer::FREED_UNTIL, writer::FREE_ALL, writer::COUNT_OPEN, writer::ALL_DELAYED] {
        let plan = query_plan(&bench.conn, query);
        assert!(plan.contains("USING") && !plan.contains("TEMP B-TREE"), "{query}\n{plan}");
    }
}

#[test]
fn no_statement_of_a_step_builds_a_table_in_memory() {
    let bench = Bench::new();
    let statements = [
        INSERT_TASK,
        ops::CLOSE_ATTEMPT,
        ops::BEGIN_ATTEMPT,
        ops::NEXT_READY,
        OPEN_TASK,
        OPEN_TASKS,
        OPEN_CHILDREN,
        TAIL,
        HAS_TIMERS,
    ];
    for statement in statements {
        let program = explain(&bench.conn, "EXPLAIN", statement, 1);
        assert!(!program.contains("Ephemeral") && !program.contains("Sorter"), "{statement}\n{program}");
    }
    let refused = bench.conn.execute(
        "INSERT INTO task(run, key, queue, state, scheduled_at_ms, call) VALUES (1, 'k', '', 'odd', 0, '')",
        [],
    );
    assert!(refused.unwrap_err().to_string().contains("CHECK"), "a state that does not exist is still refused");
}

fn query_plan(conn: &Connection, query: &str) -> String {
    explain(conn, "EXPLAIN QUERY PLAN", query, 3)
}

fn explain(conn: &Connection, how: &str, query: &str, column: usize) -> String {
    let mut statement = conn.prepare(&format!("{how} {query}")).unwrap();
    let count = statement.parameter_count();
    let values = vec![rusqlite::types::Value::Null; count];
    let rows = statement.query_map(rusqlite::params_from_iter(values), |row| row.get::<_, String>(column)).unwrap();
    rows.collect::<Result<Vec<_>, _>>().unwrap().join("\n")
}

/// Runs a linear plan to its `steps`-th result.
fn steps(bench: &mut Bench, plan: &Arc<Plan>, steps: usize) -> Arc<Launch> {
    let mut launch = bench.start(plan);
    for _ in 0..steps {
        let (result, effects) = bench.work(1, |tx, runs| end(tx, runs, &launch));
        result.unwrap();
        launch = launched(effects);
    }
    launch
}

#[test]
fn a_run_is_the_same_from_memory_from_snapshot_and_tail_and_from_its_first_event() {
    let mut bench = Bench::new();
    let run = steps(&mut bench, &plan(200), 150).run;
    let snapshot = bench.count("SELECT seq FROM snapshot");
    assert!((64..151).contains(&snapshot), "{snapshot}");
    let hot = bench.runs.take(&bench.conn, run).unwrap();
    let tailed = Runs::new(Arc::clone(&bench.vault)).take(&bench.conn, run).unwrap();
    assert_eq!((&hot.state, hot.seq, hot.bytes), (&tailed.state, 151, tailed.bytes));
    assert_eq!(hot.open, tailed.open);
    bench.conn.execute("DELETE FROM snapshot", []).unwrap();
    let replayed = Runs::new(Arc::clone(&bench.vault)).take(&bench.conn, run).unwrap();
    assert_eq!((&hot.state, hot.seq, hot.bytes), (&replayed.state, replayed.seq, replayed.bytes));
}

#[test]
fn a_snapshot_comes_after_events_or_bytes_and_not_too_often_for_a_large_state() {
    let mut hot = Hot::new(1, crate::port::ExecutionId("x".into()), plan(1));
    hot.seq = limits::SNAPSHOT_EVENTS - 1;
    assert!(!hot.snapshot_due());
    hot.seq += 1;
    assert!(hot.snapshot_due());
    hot.seq = 1;
    hot.bytes = limits::SNAPSHOT_BYTES;
    assert!(hot.snapshot_due());
    hot.snapshot_size = 5 * limits::SNAPSHOT_BYTES;
    assert!(!hot.snapshot_due());
    hot.seq = limits::SNAPSHOT_EVENTS_MAX;
    assert!(hot.snapshot_due());
}

#[test]
fn a_gap_in_a_journal_is_an_error_of_its_run() {
    let mut bench = Bench::new();
    let launch = steps(&mut bench, &plan(4), 2);
    bench.conn.execute("DELETE FROM journal WHERE seq = 2", []).unwrap();
    bench.runs.forget();
    let (result, _) = bench.work(1, |tx, runs| end(tx, runs, &launch));
    let Err(Fault::Run(reason)) = result else { panic!("{result:?}") };
    assert!(reason.contains("has no event 2"), "{reason}");
    // Nothing of the failed operation stays.
    assert_eq!(bench.count("SELECT COUNT(*) FROM task WHERE state = 'running'"), 1);
    // Its neighbours go on.
    let other = bench.start(&plan(2));
    bench.work(1, |tx, runs| end(tx, runs, &other)).0.unwrap();
}

#[test]
fn a_run_of_a_newer_version_is_left_alone() {
    let mut bench = Bench::new();
    let launch = bench.start(&plan(2));
    bench.conn.execute("UPDATE run SET behaviour = 999", []).unwrap();
    bench.runs.forget();
    let (result, _) = bench.work(1, |tx, runs| end(tx, runs, &launch));
    let Err(Fault::Run(reason)) = result else { panic!("{result:?}") };
    assert!(reason.contains("began with behaviour 999, this version has"), "{reason}");
}

#[test]
fn a_run_at_its_limit_of_events_or_bytes_ends_with_a_clear_reason() {
    type Exhaust = fn(&mut Hot);
    let cases: [(Exhaust, &str); 2] = [
        (
            |hot| hot.seq = limits::RUN_EVENTS_MAX - 1,
            "the run has 50000 events, at most 50000 are allowed; split the work",
        ),
        (|hot| hot.bytes = limits::RUN_BYTES_MAX, "the run's events have 52428800 bytes"),
    ];
    for (exhaust, reason) in cases {
        let mut bench = Bench::new();
        let launch = bench.start(&plan(2));
        let mut hot = bench.runs.take(&bench.conn, launch.run).unwrap();
        exhaust(&mut hot);
        bench.runs.put(hot);
        let (result, effects) = bench.work(1, |tx, runs| end(tx, runs, &launch));
        result.unwrap();
        assert!(effects.iter().any(|effect| matches!(effect, Effect::RunEnded(..))));
        let last: String =
            bench.conn.query_row("SELECT body FROM journal ORDER BY seq DESC LIMIT 1", [], |row| row.get(0)).unwrap();
        let Event::Terminated { failure, .. } = serde_json::from_str(&last).unwrap() else { panic!("{last}") };
        assert_eq!(failure.code, "RUN_LIMIT");
        assert!(failure.message.starts_with(reason), "{}", failure.message);
        let status: String = bench.conn.query_row("SELECT status FROM run", [], |row| row.get(0)).unwrap();
        assert_eq!(status, Status::Failed.name());
        // There is no room to go on, and that is said in place of writing more.
        let id = launch.execution.clone();
        let events = |bench: &Bench| -> u64 {
            bench.conn.query_row("SELECT COUNT(*) FROM journal", [], |row| row.get(0)).unwrap()
        };
        let before = events(&bench);
        let (refused, _) = bench.work(1, |tx, runs| control::control(tx, runs, &id, &Control::Retry));
        let Err(Fault::Refused(error)) = refused else { panic!("{reason}") };
        assert_eq!(error.code(), "RUN_LIMIT");
        assert!(error.to_string().contains("so it cannot go on; start a new one"), "{error}");
        assert_eq!(events(&bench), before);
    }
}

#[test]
fn a_task_row_that_cannot_be_read_fails_its_task_only() {
    let mut bench = Bench::new();
    let launch = bench.start(&plan(1));
    bench.conn.execute("UPDATE task SET state = 'ready', call = '{}'", []).unwrap();
    let mut tx = tx(&bench.conn, &bench.vault, &mut bench.lanes, 1);
    let next = ops::next_ready(&tx, &launch.lane, 10).unwrap().remove(0);
    assert_eq!(next.task, launch.task);
    let Err(Fault::Run(reason)) = ops::dispatch(&mut tx, &mut bench.runs, &launch.lane, &next) else { panic!() };
    assert!(reason.contains("the call of task `t0` cannot be read"), "{reason}");
    ops::fail_ready(&mut tx, &mut bench.runs, &next, Failure::permanent("TASK_UNREADABLE", reason)).unwrap();
    assert!(ops::next_ready(&tx, &launch.lane, 10).unwrap().is_empty());
    let status: String = bench.conn.query_row("SELECT status FROM run", [], |row| row.get(0)).unwrap();
    assert_eq!(status, "FAILED");
}

#[test]
fn a_failed_operation_leaves_no_effects() {
    let mut bench = Bench::new();
    let launch = bench.start(&plan(2));
    let mut tx = tx(&bench.conn, &bench.vault, &mut bench.lanes, 1);
    let runs = &mut bench.runs;
    let result: Result<(), Fault> = tx.atomically(|tx| {
        end(tx, runs, &launch)?;
        Err(Fault::Run("afterwards".into()))
    });
    assert!(result.is_err());
    assert_eq!((tx.effects.len(), tx.free, tx.lanes.mark()), (0, 8, 0));
    assert_eq!(bench.count("SELECT COUNT(*) FROM journal"), 1);
    assert_eq!(bench.count("SELECT COUNT(*) FROM task"), 1);
}

#[test]
fn without_a_fence_an_operation_that_fails_after_it_has_written_takes_its_transaction_with_it() {
    let mut bench = Bench::new();
    let launch = bench.start(&plan(2));
    bench.conn.execute_batch("BEGIN").unwrap();
    let mut tx = tx(&bench.conn, &bench.vault, &mut bench.lanes, 1);
    tx.fenced = false;
    let runs = &mut bench.runs;
    let before: Result<(), Fault> = tx.atomically(|_| Err(Fault::Run("before".into())));
    assert!(matches!(before, Err(Fault::Run(_))), "{before:?}");
    let after: Result<(), Fault> = tx.atomically(|tx| {
        end(tx, runs, &launch)?;
        Err(Fault::Run("afterwards".into()))
    });
    assert!(matches!(after, Err(Fault::Unfenced)), "{after:?}");
    assert_eq!((tx.effects.len(), tx.free, tx.lanes.mark()), (0, 8, 0));
}

#[test]
fn a_run_whose_letters_wait_is_not_removed_and_does_not_keep_others() {
    let mut bench = Bench::new();
    let runs: Vec<i64> = (0..2)
        .map(|_| {
            let launch = bench.start(&plan(1));
            bench.work(1, |tx, runs| end(tx, runs, &launch)).0.unwrap();
            launch.run
        })
        .collect();
    bench.conn.execute("INSERT INTO outbox(run, body) VALUES (?1, '{}')", [runs[0]]).unwrap();
    let prune = |bench: &mut Bench, letters| {
        let over = prune::Over::all(u64::MAX);
        let (pruned, _) = bench.work(1, |tx, _| {
            tx.letters = letters;
            prune::prune(tx, &over)
        });
        pruned.unwrap()
    };
    assert_eq!(prune(&mut bench, 1), prune::Pruned { runs: 1, more: true });
    assert_eq!(bench.count("SELECT id FROM run"), runs[0]);
    bench.conn.execute("DELETE FROM outbox", []).unwrap();
    assert_eq!(prune(&mut bench, 0), prune::Pruned { runs: 1, more: false });
}

#[test]
fn one_commit_removes_a_bounded_number_of_events() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        let launch = bench.start(&plan(1));
        bench.work(1, |tx, runs| end(tx, runs, &launch)).0.unwrap();
    }
    // As if they were long: the number of events is that of the last snapshot.
    bench.conn.execute("UPDATE snapshot SET seq = ?1", [limits::PRUNE_EVENTS_MAX]).unwrap();
    let over = prune::Over::all(u64::MAX);
    for more in [true, true, false] {
        let (pruned, _) = bench.work(1, |tx, _| prune::prune(tx, &over));
        assert_eq!(pruned.unwrap(), prune::Pruned { runs: 1, more });
    }
}
