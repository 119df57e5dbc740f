//! Random plans.
#![allow(dead_code, reason = "each test file uses a part of it")]

use compozy_plan::plan::{PLAN_FORMAT, Plan, TaskPolicy};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A task to be, without its place.
#[derive(Debug, Clone)]
pub(crate) struct Seed {
    kind: Kind,
    with: u8,
    outputs: u8,
    next: Option<u8>,
    on_error: Option<u8>,
    is_final: bool,
    /// Decides on `condition`, `sleep` and `timeout`.
    extras: u8,
}

#[derive(Debug, Clone)]
enum Kind {
    Basic,
    Wait { processor: Option<Box<Seed>>, choice: u8 },
    Parallel { tasks: Vec<Seed>, parallel: u32, strategy: u8 },
    Aggregate,
    Router { condition: u8, routes: Vec<u8> },
    Composite(Vec<Seed>),
    Collection { items: u8, filter: u8, parallel: u32, strategy: u8, child: Box<Seed> },
}

/// How wild plans are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wild {
    /// Jumps lead forward only, and what runs does not depend on the order of answers.
    No,
    /// Jumps lead anywhere, also to tasks that do not exist.
    Yes,
}

/// Any plan.
pub(crate) fn plan(wild: Wild) -> impl Strategy<Value = Plan> {
    prop::collection::vec(seed(), 0..6).prop_map(move |seeds| build(&seeds, wild))
}

fn seed() -> impl Strategy<Value = Seed> {
    let leaf = prop_oneof![
        5 => Just(Kind::Basic),
        1 => any::<u8>().prop_map(|choice| Kind::Wait { processor: None, choice }),
        2 => Just(Kind::Aggregate),
        2 => (any::<u8>(), prop::collection::vec(any::<u8>(), 1..4))
            .prop_map(|(condition, routes)| Kind::Router { condition, routes }),
    ];
    decorated(leaf).prop_recursive(4, 24, 4, |inner| {
        let composite = prop::collection::vec(inner.clone(), 0..4).prop_map(Kind::Composite);
        let collection = (any::<u8>(), any::<u8>(), 1_u32..5, any::<u8>(), inner.clone()).prop_map(
            |(items, filter, parallel, strategy, child)| {
                let child = Box::new(child);
                Kind::Collection { items, filter, parallel, strategy, child }
            },
        );
        let parallel = (prop::collection::vec(inner.clone(), 1..4), 1_u32..4, any::<u8>())
            .prop_map(|(tasks, parallel, strategy)| Kind::Parallel { tasks, parallel, strategy });
        let wait = (inner, any::<u8>())
            .prop_map(|(processor, choice)| Kind::Wait { processor: Some(Box::new(processor)), choice });
        decorated(prop_oneof![4 => composite, 4 => collection, 4 => parallel, 1 => wait])
    })
}

fn decorated(kind: impl Strategy<Value = Kind>) -> impl Strategy<Value = Seed> {
    let jump = || prop::option::weighted(0.2, any::<u8>());
    (
        kind,
        any::<u8>(),
        any::<u8>(),
        jump(),
        prop::option::weighted(0.5, any::<u8>()),
        (prop::bool::weighted(0.1), any::<u8>()),
    )
        .prop_map(|(kind, with, outputs, next, on_error, (is_final, extras))| Seed {
            kind,
            with,
            outputs,
            next,
            on_error,
            is_final,
            extras,
        })
}

fn build(seeds: &[Seed], wild: Wild) -> Plan {
    let plan = json!({
        "format": PLAN_FORMAT,
        "workflow": "random",
        "version": "1",
        "description": "",
        "project": { "name": "p", "version": "1", "description": "" },
        "env": { "HOME": "/" },
        "tasks": list(seeds, wild, false),
    });
    serde_json::from_value(plan).expect("the format of plans")
}

fn list(seeds: &[Seed], wild: Wild, in_collection: bool) -> Vec<Value> {
    let place = |at| Place { at, count: seeds.len(), wild, in_collection };
    seeds.iter().enumerate().map(|(at, seed)| task(seed, place(at))).collect()
}

#[derive(Clone, Copy)]
struct Place {
    at: usize,
    count: usize,
    wild: Wild,
    in_collection: bool,
}

impl Place {
    /// A task of the same list; `None` when there is no fit.
    fn target(self, choice: u8) -> Option<String> {
        let choice = choice as usize;
        match self.wild {
            Wild::Yes if choice.is_multiple_of(23) => Some("nowhere".to_owned()),
            // Few jumps lead back: a loop that never waits costs as much as a run may cost.
            Wild::Yes if choice.is_multiple_of(31) => Some(format!("t{}", choice % self.count)),
            Wild::Yes | Wild::No => {
                let after = self.count - self.at - 1;
                (after > 0).then(|| format!("t{}", self.at + 1 + choice % after))
            }
        }
    }
}

fn task(seed: &Seed, place: Place) -> Value {
    let transition = |choice: u8| {
        let next = if choice.is_multiple_of(3) { None } else { place.target(choice) };
        let with = choice.is_multiple_of(5).then(|| json!({ "from": "{{ .task.id }}" }));
        json!({ "next": next, "with": with })
    };
    let outputs = match (&seed.kind, seed.outputs % 4) {
        (Kind::Aggregate, 0 | 1) => json!({ "status": "{{ .workflow.status }}", "all": "{{ .tasks }}" }),
        (Kind::Aggregate, _) => json!({ "with": "{{ .with }}" }),
        (_, 0) => json!({ "got": "{{ .output }}" }),
        _ => Value::Null,
    };
    let is_router = matches!(seed.kind, Kind::Router { .. });
    let condition = match seed.extras % 16 {
        0 if !is_router => json!("input.flag && input.two == 3"),
        1 if !is_router => json!("input.flag"),
        2 if !is_router && place.wild == Wild::Yes => json!("input.missing"),
        _ => Value::Null,
    };
    let container = matches!(seed.kind, Kind::Composite(_) | Kind::Collection { .. } | Kind::Parallel { .. });
    json!({
        "id": format!("t{}", place.at),
        "condition": condition,
        "sleep_ms": (seed.extras / 16 == 0).then_some(5),
        "timeout_ms": (container && place.wild == Wild::Yes && seed.extras / 16 == 1).then_some(5),
        "kind": kind(&seed.kind, place),
        "with": with(seed.with, place),
        "outputs": outputs,
        "on_success": seed.next.map(transition),
        "on_error": seed.on_error.map(transition),
        "is_final": seed.is_final,
        "policy": TaskPolicy::default(),
    })
}

fn with(choice: u8, place: Place) -> Value {
    match choice % 7 {
        0 => json!({ "input": "{{ .input.text }}", "id": "{{ .workflow.execution_id }}" }),
        1 if place.at > 0 => json!({ "before": format!("{{{{ .tasks.t{}.output }}}}", place.at - 1) }),
        2 | 3 if place.in_collection => json!({ "item": "{{ .item }}", "index": "{{ .index }}" }),
        4 if place.in_collection => json!({ "around": "{{ .parent.with }}" }),
        5 => json!({ "missing": "{{ .input.missing }}" }),
        6 => json!(["no", "object"]),
        _ => Value::Null,
    }
}

fn kind(kind: &Kind, place: Place) -> Value {
    match kind {
        Kind::Basic => json!({ "type": "basic", "id": "tool", "plugin": "p", "action": null, "config": { "a": 1 } }),
        Kind::Aggregate => json!({ "type": "aggregate" }),
        Kind::Router { condition, routes } => {
            let names = ["a", "true", "2"];
            let routes: serde_json::Map<String, Value> = names
                .iter()
                .zip(routes)
                .filter_map(|(name, choice)| Some(((*name).to_owned(), json!(place.target(*choice)?))))
                .collect();
            let conditions = ["\"a\"", "input.flag", "input.two", "input.missing", "input"];
            json!({ "type": "router", "condition": conditions[*condition as usize % conditions.len()], "routes": routes })
        }
        Kind::Composite(seeds) => json!({ "type": "composite", "tasks": list(seeds, place.wild, place.in_collection) }),
        Kind::Wait { processor, choice } => {
            let condition = [Value::Null, json!("signal.payload > 3"), json!("signal.payload.missing")];
            let inner = Place { at: 0, count: 1, ..place };
            let condition = if place.wild == Wild::No { &Value::Null } else { &condition[*choice as usize % 3] };
            json!({
                "type": "wait",
                "name": "go",
                "condition": condition,
                // Without wildness every wait times out: which signal it would get depends on the order.
                "timeout": (place.wild == Wild::No || choice.is_multiple_of(2)).then_some(9),
                "on_timeout": if choice.is_multiple_of(5) { place.target(*choice) } else { None },
                "processor": processor.as_ref().map(|seed| task(seed, inner)),
            })
        }
        Kind::Parallel { tasks, parallel, strategy } => {
            let (parallel, strategy) = beside(place, *parallel, *strategy);
            let tasks: Vec<Value> = tasks
                .iter()
                .enumerate()
                .map(|(at, seed)| alone(task(seed, Place { at, count: at + 1, ..place })))
                .collect();
            json!({ "type": "parallel", "tasks": tasks, "parallel": parallel, "strategy": strategy })
        }
        Kind::Collection { items, filter, parallel, strategy, child } => {
            let items = match items % 6 {
                0 => json!([]),
                1 | 2 => json!("{{ .input.list }}"),
                3 => json!([1, "two", { "three": 3 }]),
                4 => json!([[1, 2], [3], []]),
                _ if place.in_collection => json!("{{ .item }}"),
                _ => json!("{{ .input.text }}"),
            };
            let filter = if filter.is_multiple_of(3) { json!("index != 1") } else { Value::Null };
            let (parallel, strategy) = beside(place, *parallel, *strategy);
            let inner = Place { at: 0, count: 1, in_collection: true, ..place };
            json!({
                "type": "collection",
                "items": items,
                "filter": filter,
                "item_var": "item",
                "index_var": "index",
                "parallel": parallel,
                "strategy": strategy,
                "task": task(child, inner),
            })
        }
    }
}

/// A task that stands alone can go nowhere.
fn alone(mut task: Value) -> Value {
    task["on_success"] = Value::Null;
    task["on_error"] = Value::Null;
    if task["kind"]["type"] == "wait" {
        task["kind"]["on_timeout"] = Value::Null;
    }
    task
}

/// How children run beside each other, so that without wildness the order of answers decides nothing: under wait_all
/// the first failure decides which children begin at all, unless all begin together.
fn beside(place: Place, parallel: u32, strategy: u8) -> (u32, &'static str) {
    let strategies = ["wait_all", "best_effort", "fail_fast", "race"];
    let strategy = strategies[strategy as usize % if place.wild == Wild::Yes { 4 } else { 2 }];
    (if strategy == "best_effort" || place.wild == Wild::Yes { parallel } else { 100 }, strategy)
}

/// The input that the plans expect.
pub(crate) fn input() -> Value {
    json!({ "text": "hello", "flag": true, "two": 2, "list": ["a", "b", "c", "d", "e", "f", "g"] })
}
