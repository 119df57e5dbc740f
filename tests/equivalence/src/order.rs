//! Puts events into an order that is the same on every engine.
//!
//! Tasks that run beside each other end in any order, and that is no difference: the children of a parallel or a collection that waits for all of
//! them (`wait_all`, `best_effort`) are therefore told one after the other, each with all that is in it. The order stays as it was
//!
//! - within one child,
//! - where it decides something: between the children of a `race` or of `fail_fast`,
//! - towards everything else: what people do, and what happens to tasks outside.

use std::collections::BTreeMap;

use compozy_plan::plan::{Plan, Strategy, Task, TaskKind};
use serde_json::Value;

/// A child of a parallel or collection whose order does not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Branch {
    container: String,
    child: String,
}

struct Entry {
    event: Value,
    /// From the outermost.
    branches: Vec<Branch>,
}

/// The events of one run in that order.
pub(crate) fn settle(plan: &Plan, events: Vec<Value>) -> Vec<Value> {
    let entries = events.into_iter().map(|event| Entry { branches: branches(plan, &event), event }).collect();
    sort(entries, 0).into_iter().map(|entry| entry.event).collect()
}

fn sort(entries: Vec<Entry>, depth: usize) -> Vec<Entry> {
    let mut sorted = Vec::with_capacity(entries.len());
    let mut container: Option<String> = None;
    let mut children: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for entry in entries {
        let branch = entry.branches.get(depth).cloned();
        let here = branch.as_ref().map(|branch| branch.container.clone());
        if here != container {
            flush(&mut children, depth, &mut sorted);
            container = here;
        }
        match branch {
            Some(branch) => children.entry(branch.child).or_default().push(entry),
            None => sorted.push(entry),
        }
    }
    flush(&mut children, depth, &mut sorted);
    sorted
}

fn flush(children: &mut BTreeMap<String, Vec<Entry>>, depth: usize, sorted: &mut Vec<Entry>) {
    for entries in std::mem::take(children).into_values() {
        sorted.extend(sort(entries, depth + 1));
    }
}

/// The task that an event is about.
fn key(event: &Value) -> Option<&str> {
    match event["kind"].as_str()? {
        "task_completed" | "task_failed" => event["task"].as_str(),
        "timer_fired" => event["timer"]["task"].as_str(),
        _ => None,
    }
}

fn branches(plan: &Plan, event: &Value) -> Vec<Branch> {
    key(event).map(|key| branches_of(&plan.tasks, key)).unwrap_or_default()
}

/// The free containers around a task, from the outermost.
fn branches_of(tasks: &[Task], key: &str) -> Vec<Branch> {
    let mut found = Vec::new();
    let mut list: &[Task] = tasks;
    let mut beside = None;
    let mut path = String::new();
    for segment in key.split('/') {
        let end = segment.find(['#', '[']).unwrap_or(segment.len());
        let (id, rest) = segment.split_at(end);
        let Some(mut task) = list.iter().find(|task| task.id == id) else { return found };
        let container = std::mem::take(&mut path);
        path = if container.is_empty() { id.to_owned() } else { format!("{container}/{id}") };
        if beside.is_some_and(is_free) {
            found.push(Branch { container, child: path.clone() });
        }
        // `[2]#3[0]`: items of collections, and visits, which make no branch.
        for part in rest.split_inclusive(']') {
            let (visit, item) = part.find('[').map_or((part, ""), |at| part.split_at(at));
            path.push_str(visit);
            let (false, TaskKind::Collection(collection)) = (item.is_empty(), &task.kind) else { continue };
            let container = path.clone();
            path.push_str(item);
            if is_free(collection.strategy) {
                found.push(Branch { container, child: path.clone() });
            }
            task = &collection.task;
        }
        (list, beside) = match &task.kind {
            TaskKind::Composite { tasks } => (tasks.as_slice(), None),
            TaskKind::Parallel(parallel) => (parallel.tasks.as_slice(), Some(parallel.strategy)),
            TaskKind::Wait(wait) => (wait.processor.as_slice(), None),
            _ => (&[][..], None),
        };
    }
    found
}

fn is_free(strategy: Strategy) -> bool {
    matches!(strategy, Strategy::WaitAll | Strategy::BestEffort)
}

#[cfg(test)]
mod tests {
    use compozy_plan::{Project, SourceFile, compile_workflow};
    use serde_json::json;

    use super::*;

    fn plan() -> Plan {
        let text = "id: w
tools: [{id: t, plugin: p}]
tasks:
  - id: p
    type: parallel
    tasks:
      - {id: a, type: composite, tasks: [{id: x, tool: t}, {id: y, tool: t}]}
      - {id: b, tool: t}
      - {id: c, type: collection, items: [1, 2], task: {id: e, tool: t}}
  - id: r
    type: parallel
    strategy: race
    tasks: [{id: m, tool: t}, {id: n, tool: t}]
  - {id: s, tool: t}
";
        let file = SourceFile { path: "w.yaml".to_owned(), text: text.to_owned() };
        let outcome = compile_workflow(&file, &Project::default(), None);
        outcome.value.unwrap_or_else(|| panic!("{:?}", outcome.diagnostics))
    }

    fn settled(keys: &[&str]) -> Vec<String> {
        let events = keys.iter().map(|key| match *key {
            "signal" => json!({"kind": "signal_received"}),
            key => json!({"kind": "task_completed", "task": key}),
        });
        let shown = |event: Value| event["task"].as_str().unwrap_or("signal").to_owned();
        settle(&plan(), events.collect()).into_iter().map(shown).collect()
    }

    #[test]
    fn children_of_a_free_container_are_told_one_after_the_other() {
        let one = settled(&["p/b", "p/a/x", "p/c[1]", "p/a/y", "p/c[0]", "s"]);
        let other = settled(&["p/a/x", "p/c[0]", "p/c[1]", "p/b", "p/a/y", "s"]);
        assert_eq!(one, other);
        assert_eq!(one, ["p/a/x", "p/a/y", "p/b", "p/c[0]", "p/c[1]", "s"]);
        assert_eq!(settled(&["p#2/b", "p#2/c#3[1]#2", "p#2/c#3[0]"]), ["p#2/b", "p#2/c#3[0]", "p#2/c#3[1]#2"]);
    }

    #[test]
    fn order_that_decides_something_stays() {
        assert_eq!(settled(&["r/n", "r/m"]), ["r/n", "r/m"]);
        assert_eq!(settled(&["s", "p/b"]), ["s", "p/b"]);
        assert_eq!(settled(&["p/b", "signal", "p/a/x"]), ["p/b", "signal", "p/a/x"]);
        assert_eq!(settled(&["p/a/y", "p/a/x"]), ["p/a/y", "p/a/x"]);
    }
}
