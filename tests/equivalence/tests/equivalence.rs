//! Every fixture comes to the same on every engine, and to what is recorded.
//!
//! The records are written by `UPDATE_RECORDS=1 cargo test --workspace --test equivalence`; read what it wrote before you keep it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Result;
use compozy_engine::port::{Engine, TaskCall, TaskExecutor, TaskReport};
use compozy_equivalence::{Bench, Embedded, Suite, all, bench, records};
use compozy_plan::plan::Plan;
use serde_json::Value;

/// What the fixtures together must cover.
const COVERED: &[&str] = &[
    "task.basic",
    "task.router",
    "task.parallel",
    "task.collection",
    "task.aggregate",
    "task.composite",
    "task.signal",
    "task.wait",
    "task.memory",
    "task.workflow",
    "strategy.wait_all",
    "strategy.fail_fast",
    "strategy.best_effort",
    "strategy.race",
    "timeout.schedule_to_start",
    "timeout.start_to_close",
    "timeout.schedule_to_close",
    "timeout.heartbeat",
    "timeout.wait",
    "timeout.workflow",
    "timeout.task",
    "retry.backoff",
    "retry.cap",
    "retry.after",
    "retry.non_retryable",
    "retry.permanent",
    "retry.used_up",
    "signal.before_the_wait",
    "signal.duplicate",
    "signal.schema",
    "signal.condition",
    "signal.processor",
    "signal.trigger",
    "signal.between_runs",
    "control.pause",
    "control.cancel",
    "control.grace",
    "control.terminate",
    "control.retry",
    "control.reset",
    "child.success",
    "child.failure",
    "child.nested",
    "child.cancel",
    "child.terminate",
    "child.abandon",
    "claim_check.input",
    "claim_check.output",
    "claim_check.signal",
    "claim_check.child",
    "flow.sleep",
    "flow.condition",
    "flow.final",
    "flow.on_error",
    "flow.loop",
    "plugin.sandboxed",
];

#[test]
fn the_fixtures_cover_everything_and_nothing_unknown() {
    let fixtures = all().unwrap();
    assert!(fixtures.len() >= 60, "only {} fixtures", fixtures.len());
    let covered: BTreeSet<&str> = fixtures.iter().flat_map(|fixture| &fixture.covers).map(String::as_str).collect();
    assert_eq!(covered, COVERED.iter().copied().collect(), "left: what fixtures cover, right: what they must cover");
    let known: BTreeSet<String> = fixtures.iter().map(|fixture| format!("{}.txt", fixture.name)).collect();
    let kept = std::fs::read_dir(records()).unwrap();
    let kept: BTreeSet<String> = kept.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let orphans: Vec<_> = kept.difference(&known).collect();
    assert!(orphans.is_empty(), "records without a fixture: {orphans:?}");
}

async fn compare(others: Vec<Arc<dyn Bench>>) -> Result<()> {
    let update = std::env::var_os("UPDATE_RECORDS").is_some();
    let measure = Arc::new(Embedded::new("embedded")?);
    let fixtures = all()?;
    let suite = Suite::new(measure, others).with_records(records(), update);
    let report = suite.run(&fixtures, |_, _| {}).await;
    let failed: String = report.failed.iter().map(|(name, wrong)| format!("=== {name}: {wrong}\n")).collect();
    assert!(failed.is_empty(), "{} of {} fixtures are not equal\n{failed}", report.failed.len(), fixtures.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_fixture_comes_to_what_is_recorded() {
    compare(Vec::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_fixture_comes_to_the_same_on_the_embedded_engine_and_on_temporal() {
    compare(bench::others().unwrap()).await.unwrap();
}

/// An engine that is not equal: it loses what one task answers.
struct Forgetful(Embedded);

struct Forgets(Arc<dyn TaskExecutor>);

#[async_trait::async_trait]
impl TaskExecutor for Forgets {
    async fn execute(&self, call: TaskCall) -> TaskReport {
        let forgotten = call.task == "b";
        let report = self.0.execute(call).await;
        if forgotten { TaskReport { result: Ok(Value::Null), ..report } } else { report }
    }
}

#[async_trait::async_trait]
impl Bench for Forgetful {
    fn name(&self) -> &'static str {
        "forgetful"
    }

    async fn open(
        &self,
        executor: Arc<dyn TaskExecutor>,
        workflows: BTreeMap<String, Arc<Plan>>,
    ) -> Result<Arc<dyn Engine>> {
        self.0.open(Arc::new(Forgets(executor)), workflows).await
    }
}

#[tokio::test]
async fn an_engine_that_is_not_equal_is_told_apart_with_both_sides_shown() {
    let mut fixtures = all().unwrap();
    fixtures.retain(|fixture| fixture.name == "control_reset");
    let forgetful = Arc::new(Forgetful(Embedded::new("forgetful").unwrap()));
    let report =
        Suite::new(Arc::new(Embedded::new("embedded").unwrap()), vec![forgetful]).run(&fixtures, |_, _| {}).await;
    let [(name, wrong)] = report.failed.as_slice() else { panic!("{report:?}") };
    assert_eq!(name, "control_reset");
    let shown: Vec<String> = wrong.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in [r#"output {"n":1} | output null"#, "embedded | forgetful"] {
        assert!(shown.iter().any(|shown| shown == line), "{line} is not in:\n{wrong}");
    }
}
