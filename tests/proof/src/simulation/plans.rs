//! Random plans of all types of task, nested, and the workflows that they start.

use std::collections::BTreeMap;
use std::sync::Arc;

use compozy_plan::plan::{PLAN_FORMAT, Plan};
use compozy_tests::random::Random;
use serde_json::{Map, Value, json};

use crate::workflows::compile;

/// How deep tasks nest.
const DEPTH_MAX: u64 = 4;

/// Workflows that random plans start, as children or by a signal.
const KNOWN: [(&str, &str); 4] = [
    ("leaf", "tasks: [{id: a, tool: tool}]"),
    ("sleeper", "tasks: [{id: a, tool: tool, sleep: 30ms}, {id: b, tool: tool}]"),
    ("waiter", "tasks: [{id: w, type: wait, wait_for: go, timeout: 200ms, on_timeout: b}, {id: b, tool: tool}]"),
    ("triggered", "triggers: [{type: signal, name: wanted}]\ntasks: [{id: a, tool: tool}]"),
];

/// The known workflows.
pub(super) fn known() -> BTreeMap<String, Arc<Plan>> {
    compile(&KNOWN)
}

/// A plan.
pub(super) fn draw(random: &mut Random) -> Arc<Plan> {
    let plan = json!({
        "format": PLAN_FORMAT, "workflow": "random", "version": "", "description": "", "env": {},
        "project": { "name": "", "version": "", "description": "" },
        "tasks": list(random, 0),
        "timeout_ms": random.percent(10).then_some(400),
    });
    Arc::new(serde_json::from_value(plan).expect("the format of plans"))
}

fn list(random: &mut Random, depth: u64) -> Vec<Value> {
    let count = 1 + random.below(if depth == 0 { 5 } else { 3 });
    (0..count).map(|at| task(random, depth, Some((at, count)))).collect()
}

/// A later task of the same list; none for a task that stands alone or last.
fn target(random: &mut Random, place: Option<(u64, u64)>) -> Option<String> {
    let (at, count) = place?;
    let after = count - at - 1;
    (after > 0).then(|| format!("t{}", at + 1 + random.below(after)))
}

fn task(random: &mut Random, depth: u64, place: Option<(u64, u64)>) -> Value {
    let kind = kind(random, depth, place);
    let is = |name: &str| kind["type"] == name;
    let container = ["composite", "parallel", "collection", "workflow"].iter().any(|name| is(name));
    let has_condition = !is("router") && !is("wait") && random.percent(10);
    let next = random.percent(15).then(|| json!({ "next": target(random, place) }));
    let on_error = random.percent(35).then(|| json!({ "next": target(random, place) }));
    json!({
        "id": format!("t{}", place.map_or(0, |(at, _)| at)),
        "outputs": is("aggregate").then(|| json!({ "constant": 1 })),
        "on_success": next.filter(|_| place.is_some() && !is("router")),
        "on_error": on_error.filter(|_| place.is_some()),
        "is_final": place.is_some() && random.percent(5),
        "policy": policy(random),
        "condition": has_condition.then_some(if random.percent(50) { "1 == 2" } else { "1 == 1" }),
        "sleep_ms": random.percent(15).then(|| 1 + random.below(60)),
        "timeout_ms": (container && random.percent(20)).then(|| 20 + random.below(100)),
        "kind": kind,
    })
}

/// An attempt is ended by the machine's clock, so it has minutes; only a leap of the simulated clock is longer. Waits are
/// short: chance adds nothing to waits below 100 ms, so that a seed decides on them too.
fn policy(random: &mut Random) -> Value {
    json!({
        "start_to_close_ms": 300_000,
        "schedule_to_close_ms": random.percent(30).then(|| 120_000 + random.below(200)),
        "schedule_to_start_ms": random.percent(20).then(|| 10 + random.below(100)),
        "retry": {
            "maximum_attempts": 1 + random.below(4), "initial_interval_ms": 5 + random.below(20),
            "backoff_coefficient": 2.0, "maximum_interval_ms": 80, "non_retryable_codes": ["BROKEN"],
        },
    })
}

fn kind(random: &mut Random, depth: u64, place: Option<(u64, u64)>) -> Value {
    let choices = if depth < DEPTH_MAX { 16 } else { 12 };
    match random.below(choices) {
        0 => json!({ "type": "aggregate" }),
        1 => router(random, place),
        2 | 3 => wait(random, depth, place),
        4 => json!({ "type": "memory", "operation": "read", "memory": "chat", "options": {} }),
        5 => json!({ "type": "signal", "name": if random.percent(80) { "wanted" } else { "unheard" } }),
        6 | 7 => {
            let workflow = ["leaf", "sleeper", "waiter", "nobody"][random.below(4) as usize];
            let close = ["cancel", "terminate", "abandon"][random.below(3) as usize];
            json!({ "type": "workflow", "workflow": workflow, "parent_close": close })
        }
        8..12 => json!({ "type": "basic", "id": "tool", "plugin": "test", "action": null, "config": null }),
        12 => json!({ "type": "composite", "tasks": list(random, depth + 1) }),
        13 | 14 => {
            let tasks: Vec<Value> = (0..=random.below(3))
                .map(|at| {
                    let mut task = task(random, depth + 1, None);
                    task["id"] = json!(format!("t{at}"));
                    task
                })
                .collect();
            json!({ "type": "parallel", "tasks": tasks, "parallel": 1 + random.below(3), "strategy": strategy(random) })
        }
        _ => json!({
            "type": "collection", "items": vec![0; random.below(5) as usize], "item_var": "item", "index_var": "index",
            "parallel": 1 + random.below(3), "strategy": strategy(random), "task": task(random, depth + 1, None),
        }),
    }
}

fn router(random: &mut Random, place: Option<(u64, u64)>) -> Value {
    let mut routes = Map::new();
    for name in ["a", "b"] {
        if let Some(target) = target(random, place) {
            routes.insert(name.to_owned(), json!(target));
        }
    }
    let condition = if random.percent(80) { "\"a\"" } else { "\"none\"" };
    json!({ "type": "router", "condition": condition, "routes": routes })
}

fn wait(random: &mut Random, depth: u64, place: Option<(u64, u64)>) -> Value {
    let processor = random.percent(20).then(|| task(random, depth.max(DEPTH_MAX), None));
    json!({
        "type": "wait", "name": "go",
        "condition": random.percent(20).then_some("signal.payload > 3"),
        "timeout": random.percent(60).then(|| 20 + random.below(100)),
        "on_timeout": if random.percent(30) { target(random, place) } else { None },
        "processor": processor,
    })
}

fn strategy(random: &mut Random) -> &'static str {
    ["wait_all", "fail_fast", "best_effort", "race"][random.below(4) as usize]
}
