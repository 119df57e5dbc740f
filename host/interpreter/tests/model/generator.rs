//! Random plans of every type. Data is constant: what a run does depends on the answers and their order only.

use compozy_plan::plan::{PLAN_FORMAT, Plan, TaskPolicy};
use proptest::prelude::*;
use serde_json::{Value, json};

#[derive(Debug, Clone)]
struct Seed {
    kind: Kind,
    /// Decides on transitions, condition, sleep and timeout.
    choices: [u8; 6],
}

#[derive(Debug, Clone)]
enum Kind {
    Leaf(u8),
    Router(u8),
    Composite(Vec<Seed>),
    Parallel(Vec<Seed>, u32, u8),
    Collection(u8, u32, u8, Box<Seed>),
}

pub(crate) fn plan() -> impl Strategy<Value = Plan> {
    prop::collection::vec(seed(), 1..5).prop_map(|seeds| {
        let mut plan = json!({
            "format": PLAN_FORMAT, "workflow": "random", "version": "", "description": "", "env": {},
            "project": { "name": "", "version": "", "description": "" },
            "tasks": list(&seeds, false),
        });
        name_waits(&mut plan["tasks"], &mut 0);
        serde_json::from_value(plan).expect("the format of plans")
    })
}

/// The waits that can be told apart get a name and an answer of their own. Those in a collection cannot: which of them
/// takes a signal depends on more than the plan. Nobody sends them one.
fn name_waits(value: &mut Value, count: &mut usize) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| name_waits(item, count)),
        Value::Object(task) if task.get("kind").is_some_and(|kind| kind["type"] == "collection") => {}
        Value::Object(task) => {
            if task.get("kind").is_some_and(|kind| kind["type"] == "wait") {
                *count += 1;
                task["kind"]["name"] = json!(format!("go-{count}"));
                task["outputs"] = json!({ "taken": *count });
            }
            task.values_mut().for_each(|value| name_waits(value, count));
        }
        _ => {}
    }
}

fn seed() -> impl Strategy<Value = Seed> {
    let leaf = prop_oneof![6 => any::<u8>().prop_map(Kind::Leaf), 1 => any::<u8>().prop_map(Kind::Router)];
    decorated(leaf).prop_recursive(6, 48, 3, |inner| {
        let many = prop::collection::vec(inner.clone(), 1..4);
        let parallel = (many.clone(), 1_u32..4, any::<u8>())
            .prop_map(|(tasks, workers, strategy)| Kind::Parallel(tasks, workers, strategy));
        let collection = (any::<u8>(), 1_u32..4, any::<u8>(), inner)
            .prop_map(|(items, workers, strategy, task)| Kind::Collection(items, workers, strategy, Box::new(task)));
        decorated(prop_oneof![many.prop_map(Kind::Composite), parallel, collection])
    })
}

fn decorated(kind: impl Strategy<Value = Kind>) -> impl Strategy<Value = Seed> {
    (kind, any::<[u8; 6]>()).prop_map(|(kind, choices)| Seed { kind, choices })
}

fn list(seeds: &[Seed], alone: bool) -> Vec<Value> {
    seeds.iter().enumerate().map(|(at, seed)| task(seed, at, seeds.len(), alone)).collect()
}

/// A task that stands alone goes nowhere; others jump forward only.
fn task(seed: &Seed, at: usize, count: usize, alone: bool) -> Value {
    let target = |choice: u8| {
        let after = count - at - 1;
        (!alone && after > 0 && choice.is_multiple_of(2)).then(|| format!("t{}", at + 1 + choice as usize / 2 % after))
    };
    let [next, on_error, is_final, condition, sleep, timeout] = seed.choices;
    let is_router = matches!(seed.kind, Kind::Router(_));
    let waits = matches!(seed.kind, Kind::Composite(_) | Kind::Parallel(..) | Kind::Collection(..));
    let kind = match &seed.kind {
        Kind::Leaf(choice) => match choice % 8 {
            0 => json!({ "type": "aggregate" }),
            1 => json!({ "type": "wait", "name": "go", "timeout": 5, "on_timeout": target(next) }),
            2 => json!({ "type": "memory", "operation": "read", "memory": "chat", "options": {} }),
            3 => json!({ "type": "signal", "name": "go" }),
            4 => json!({ "type": "workflow", "workflow": "other", "parent_close": "cancel" }),
            _ => json!({ "type": "basic", "id": "tool", "plugin": "p", "action": null, "config": null }),
        },
        Kind::Router(choice) => {
            let routes: serde_json::Map<String, Value> =
                ["a", "b"].iter().filter_map(|name| Some(((*name).to_owned(), json!(target(choice & !1)?)))).collect();
            json!({ "type": "router", "condition": if choice % 3 == 0 { "\"none\"" } else { "\"a\"" }, "routes": routes })
        }
        Kind::Composite(tasks) => json!({ "type": "composite", "tasks": list(tasks, false) }),
        Kind::Parallel(tasks, workers, strategy) => json!({
            "type": "parallel", "tasks": list(tasks, true), "parallel": workers, "strategy": strategy_of(*strategy),
        }),
        Kind::Collection(items, workers, strategy, child) => json!({
            "type": "collection", "items": vec![0; *items as usize % 5], "item_var": "item", "index_var": "index",
            "parallel": workers, "strategy": strategy_of(*strategy), "task": task(child, 0, 1, true),
        }),
    };
    let aggregate = kind["type"] == "aggregate";
    json!({
        "id": format!("t{at}"),
        "kind": kind,
        "outputs": aggregate.then(|| json!({ "constant": at })),
        "on_success": (!alone && next.is_multiple_of(5)).then(|| json!({ "next": target(next) })),
        "on_error": (!alone && on_error.is_multiple_of(3)).then(|| json!({ "next": target(on_error) })),
        "is_final": !alone && is_final.is_multiple_of(11),
        "policy": TaskPolicy::default(),
        "condition": (!is_router && kind["type"] != "wait" && condition < 60).then_some(if condition < 25 { "1 == 2" } else { "1 == 1" }),
        "sleep_ms": (sleep < 25).then_some(5),
        "timeout_ms": (waits && timeout < 40).then_some(5),
    })
}

fn strategy_of(choice: u8) -> &'static str {
    ["wait_all", "fail_fast", "best_effort", "race"][choice as usize % 4]
}
