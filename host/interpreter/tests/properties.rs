//! What holds for every plan and every order of events.

#[path = "support/plans.rs"]
mod plans;
mod support;

use compozy_interpreter::{Command, Event, Failure, NoBlobs, RunState, Status, TaskKey, advance};
use compozy_plan::plan::Plan;
use plans::Wild;
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{Run, execute};

/// Runs a plan to its end; `order` picks whose answer comes next.
fn run_to_end<'p>(plan: &'p Plan, order: &[u16], failing_percent: u64) -> Run<'p> {
    let mut run = Run::new(plan);
    run.start(plans::input());
    let mut order = order.iter().copied().cycle();
    let mut events = 0;
    while run.open.len() + run.timers.len() > 0 && events < 2_000 {
        let pick = order.next().unwrap_or(0) as usize % (run.open.len() + run.timers.len());
        events += 1;
        if let Some(at) = pick.checked_sub(run.open.len()) {
            let timer = run.timers[at].clone();
            run.fire(&timer);
            continue;
        }
        let key = run.open[pick].clone();
        let input = run.state.tasks[&key].arguments().clone();
        match execute(&key, &input, failing_percent) {
            Ok(output) => run.done(&key, output),
            Err(failure) => run.fail(&key, failure),
        };
    }
    run
}

#[derive(Debug, Clone)]
enum Act {
    Answer(u16),
    Fail(u16),
    Repeat(u16),
    Unknown,
    Start,
    Cancel,
    Fire(u16),
    Signal(u16),
    Pause,
    Resume,
    Retry,
    Reset(u16),
    Ask,
    Terminate,
    SwapPlan,
    TimeBack(u16),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => any::<u16>().prop_map(Act::Answer),
        4 => any::<u16>().prop_map(Act::Fail),
        2 => any::<u16>().prop_map(Act::Repeat),
        1 => Just(Act::Unknown),
        1 => Just(Act::Start),
        3 => any::<u16>().prop_map(Act::Fire),
        3 => any::<u16>().prop_map(Act::Signal),
        1 => Just(Act::Pause),
        1 => Just(Act::Resume),
        1 => Just(Act::Retry),
        1 => any::<u16>().prop_map(Act::Reset),
        1 => prop_oneof![Just(Act::Unknown), Just(Act::Unknown), Just(Act::Ask), Just(Act::Terminate)],
        1 => any::<u16>().prop_map(Act::TimeBack),
        1 => prop::bool::weighted(0.2).prop_map(|cancel| if cancel { Act::Cancel } else { Act::Unknown }),
        1 => prop::bool::weighted(0.2).prop_map(|swap| if swap { Act::SwapPlan } else { Act::Unknown }),
    ]
}

fn perform<'p>(run: &mut Run<'p>, act: &Act, other: &'p Plan) {
    let open = |run: &Run<'_>, pick: u16| -> Option<TaskKey> {
        (!run.open.is_empty()).then(|| run.open[pick as usize % run.open.len()].clone())
    };
    match act {
        Act::Answer(pick) => {
            if let Some(key) = open(run, *pick) {
                run.done(&key, json!({ "pick": pick }));
            }
        }
        Act::Fail(pick) => {
            if let Some(key) = open(run, *pick) {
                run.fail(&key, Failure::transient("BROKEN", "broke"));
            }
        }
        Act::Repeat(pick) => {
            let keys: Vec<TaskKey> = run.state.tasks.keys().cloned().collect();
            if let Some(key) = keys.get(*pick as usize % keys.len().max(1)).filter(|key| !run.open.contains(key)) {
                run.done(key, Value::Null);
            }
        }
        Act::Unknown => drop(run.done(&TaskKey("nobody[7]/#".to_owned()), Value::Null)),
        Act::Start => drop(run.start(Value::Null)),
        Act::Cancel => drop(run.cancel("enough")),
        Act::Fire(pick) => {
            if !run.timers.is_empty() {
                let timer = run.timers[*pick as usize % run.timers.len()].clone();
                run.fire(&timer);
            }
        }
        // Some ids come twice.
        Act::Signal(pick) => drop(run.signal("go", &format!("s{}", pick % 40), json!(pick % 7))),
        Act::Pause => drop(run.pause()),
        Act::Resume => drop(run.resume()),
        Act::Retry => drop(run.retry()),
        Act::Reset(pick) => {
            if let Some((key, _)) = run.state.tasks.get_index(*pick as usize % run.state.tasks.len().max(1)) {
                let key = key.0.clone();
                run.reset(&key);
            }
        }
        Act::Ask => drop(run.cancel_within(100, "please")),
        Act::Terminate => {
            let failure = Failure::permanent("TERMINATED", "enough");
            run.send(&Event::Terminated { now_ms: 1, failure });
        }
        Act::SwapPlan => run.plan = other,
        Act::TimeBack(pick) => {
            if let Some(task) = open(run, *pick) {
                run.send(&Event::TaskCompleted { now_ms: 1, task, output: json!([pick]) });
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        max_shrink_iters: 300,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_order_of_answers_does_not_matter(
        plan in plans::plan(Wild::No),
        first in prop::collection::vec(any::<u16>(), 1..40),
        second in prop::collection::vec(any::<u16>(), 1..40),
        failing_percent in prop_oneof![Just(0_u64), Just(10), Just(40)],
    ) {
        let first = run_to_end(&plan, &first, failing_percent);
        let second = run_to_end(&plan, &second, failing_percent);
        prop_assert!(first.state.status.is_terminal());
        prop_assert_eq!(first.summary(), second.summary());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        max_shrink_iters: 300,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_event_breaks_a_run(
        plan in plans::plan(Wild::Yes),
        other in plans::plan(Wild::Yes),
        acts in prop::collection::vec(act(), 0..60),
    ) {
        let mut run = Run::new(&plan);
        perform(&mut run, &Act::Unknown, &other);
        perform(&mut run, &Act::Cancel, &other);
        prop_assert_eq!(&run.state, &RunState::new());
        run.start(plans::input());
        let mut after_the_end = 0;
        for act in &acts {
            perform(&mut run, act, &other);
            after_the_end += usize::from(run.state.status.is_terminal());
            if after_the_end > 3 {
                break;
            }
        }
        run.cancel("the end");
        prop_assert!(run.state.status.is_terminal());
    }

    #[test]
    fn the_same_events_give_the_same_bytes(
        plan in plans::plan(Wild::No),
        order in prop::collection::vec(any::<u16>(), 1..40),
    ) {
        let bytes = |run: &Run<'_>| serde_json::to_vec(&run.state).expect("a state is JSON");
        prop_assert_eq!(bytes(&run_to_end(&plan, &order, 10)), bytes(&run_to_end(&plan, &order, 10)));
    }
}

#[test]
fn the_random_plans_are_worth_the_name() {
    // If the generator only made trivial runs, the properties above would say nothing.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = plans::plan(Wild::No);
    let (mut well, mut badly, mut tasks, mut nested) = (0, 0, 0, 0);
    for _ in 0..200 {
        let plan = proptest::strategy::ValueTree::current(&strategy.new_tree(&mut runner).unwrap());
        let run = run_to_end(&plan, &[3, 1, 2], 10);
        match run.state.status {
            Status::Success => well += 1,
            _ => badly += 1,
        }
        tasks += run.state.tasks.len();
        nested += run.state.tasks.keys().filter(|key| key.0.contains('[') && key.0.contains('/')).count();
    }
    assert!(well > 50 && badly > 20, "{well} well, {badly} badly");
    assert!(tasks > 1_000 && nested > 100, "{tasks} tasks, {nested} nested");
}

#[test]
fn a_run_of_another_behaviour_is_left_alone() {
    let plan: Plan = serde_json::from_value(json!({
        "format": compozy_plan::plan::PLAN_FORMAT, "workflow": "w", "version": "", "description": "", "env": {}, "tasks": [],
        "project": { "name": "p", "version": "", "description": "" },
    }))
    .unwrap();
    let mut state = RunState { behaviour: 99, ..RunState::new() };
    let before = state.clone();
    let event = Event::Started { now_ms: 1, execution_id: "e".to_owned(), seed: 1, input: Value::Null };
    assert_eq!(advance(&plan, &mut state, &event, &NoBlobs).expect("nothing is kept apart"), [] as [Command; 0]);
    assert_eq!(state, before);
    assert!(!compozy_interpreter::behaviour_supported(99));
}
