//! Random plans of every type of task, nested, against a reference that is written as plainly as possible.
//!
//! The interpreter keeps a state and is told one event after the other. The reference has no state: it is given the
//! whole history, that is which answer and which timer came when, and works out from the plan alone what must have
//! become of every task. Both must agree after every event: on the run, on every task, and on which tasks began.

#[path = "model/generator.rs"]
mod generator;
#[path = "model/reference.rs"]
mod reference;
mod support;

use std::collections::BTreeMap;

use compozy_interpreter::{RunState, Status};
use compozy_plan::plan::Plan;
use proptest::prelude::*;
use reference::{History, Outcome, Record};
use support::{Run, execute};

/// The state in the words of the reference.
fn records(state: &RunState) -> BTreeMap<String, Outcome> {
    state
        .tasks
        .iter()
        .map(|(key, task)| (key.0.clone(), outcome(task.status, task.output.as_ref(), task.failure.as_ref())))
        .collect()
}

fn outcome(
    status: Status,
    output: Option<&serde_json::Value>,
    failure: Option<&compozy_interpreter::Failure>,
) -> Outcome {
    let code = || failure.map(|failure| failure.code.clone()).unwrap_or_default();
    match status {
        Status::Success => Outcome::Success(output.cloned()),
        Status::Failed => Outcome::Failed(code()),
        Status::TimedOut => Outcome::TimedOut(code()),
        Status::Canceled => Outcome::Canceled,
        Status::Pending | Status::Running | Status::Waiting | Status::Paused => Outcome::Open,
    }
}

fn compare(run: &Run<'_>, history: &History) {
    let (end, expected) = reference::run(run.plan, history);
    let expected: BTreeMap<String, Outcome> =
        expected.into_iter().map(|(key, Record { outcome, .. })| (key, outcome)).collect();
    let found = records(&run.state);
    let plan = run.plan.to_json();
    for key in expected.keys().chain(found.keys()) {
        assert_eq!(found.get(key), expected.get(key), "{key} after {:?} of {plan}", history.order());
    }
    let ended = outcome(run.state.status, run.state.output.as_ref(), run.state.failure.as_ref());
    assert_eq!(ended, end, "the run after {:?} of {plan}", history.order());
}

/// The signals that a plan's waits can be sent.
fn signals(plan: &Plan) -> Vec<String> {
    let text = plan.to_json();
    let names = text.split('"').filter(|part| part.starts_with("go-"));
    names.map(str::to_owned).collect()
}

/// How deep tasks nest.
fn depth(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(items) => items.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(fields) => {
            usize::from(fields.contains_key("kind")) + fields.values().map(depth).max().unwrap_or(0)
        }
        _ => 0,
    }
}

/// Plays a plan, and compares after every event.
fn play(plan: &Plan, order: &[u16], failing_percent: u64) -> RunState {
    let mut run = Run::new(plan);
    let mut history = History::new();
    run.start(serde_json::Value::Null);
    compare(&run, &history);
    let signals = signals(plan);
    let mut order = order.iter().copied().cycle();
    for turn in 0..300 {
        let choices = run.open.len() + run.timers.len();
        if choices == 0 {
            break;
        }
        let pick = order.next().unwrap_or(0) as usize % (choices + signals.len().min(3));
        if let Some(extra) = pick.checked_sub(choices) {
            // Before its wait, while it waits, or when nobody waits any more.
            let name = &signals[(extra + turn) % signals.len()];
            history.signaled(name);
            run.signal(name, &format!("s{turn}"), serde_json::Value::Null);
            compare(&run, &history);
            continue;
        }
        if let Some(key) = run.open.get(pick).cloned() {
            let input = run.state.tasks[&key].arguments().clone();
            let answer = execute(&key, &input, failing_percent);
            history.answered(&key.0, answer.clone().map_err(|failure| failure.code));
            match answer {
                Ok(output) => run.done(&key, output),
                Err(failure) => run.fail(&key, failure),
            };
        } else {
            let timer = run.timers[pick - run.open.len()].clone();
            history.fired(&timer.to_string());
            run.fire(&timer);
        }
        compare(&run, &history);
    }
    run.state
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3_000,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_interpreter_agrees_with_the_reference_after_every_event(
        plan in generator::plan(),
        order in prop::collection::vec(any::<u16>(), 1..40),
        failing_percent in prop_oneof![Just(0_u64), Just(15), Just(50)],
    ) {
        play(&plan, &order, failing_percent);
    }
}

#[test]
fn the_plans_are_worth_comparing() {
    // If the generator only made trivial plans, agreement would say nothing.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = generator::plan();
    let (mut tasks, mut kinds, mut deepest, mut taken) = (0, BTreeMap::new(), 0, 0);
    for _ in 0..300 {
        let plan = proptest::strategy::ValueTree::current(&strategy.new_tree(&mut runner).expect("a plan"));
        let state = play(&plan, &[3, 1, 2, 9, 5], 15);
        tasks += state.tasks.len();
        taken += state.tasks.values().filter(|task| task.kind == "wait" && task.status == Status::Success).count();
        deepest = deepest.max(depth(&serde_json::from_str(&plan.to_json()).expect("a plan is JSON")));
        let types = "basic router parallel collection aggregate composite wait memory signal workflow";
        for name in types.split(' ') {
            *kinds.entry(name).or_insert(0) += plan.to_json().matches(&format!("\"type\":\"{name}\"")).count();
        }
        for name in ["race", "fail_fast", "best_effort", "wait_all"] {
            *kinds.entry(name).or_insert(0) += plan.to_json().matches(&format!("\"{name}\"")).count();
        }
    }
    assert!(tasks > 1_500, "{tasks} tasks");
    assert!(deepest >= 5, "tasks nest {deepest} deep");
    assert!(taken > 20, "{taken} waits took a signal");
    assert!(kinds.values().all(|count| *count > 30), "{kinds:?}");
}
