//! Every limit of a run fires, and the message names it.

#[path = "support/workflow.rs"]
mod workflow;

use compozy_interpreter::limits::{
    NAMES_SHOWN_MAX, RUN_BYTES_MAX, RUN_TASKS_MAX, VALUE_DEPTH_MAX, VALUE_SHOWN_CHARS_MAX,
};
use compozy_interpreter::{Command, Event, Failure, NoBlobs, RunState, Status, TaskKey, advance};
use compozy_plan::limits::COLLECTION_ITEMS_MAX;
use compozy_plan::plan::Plan;
use serde_json::{Value, json};

fn started(yaml: &str, input: Value) -> (Plan, RunState, Vec<Command>) {
    let plan = workflow::compile(yaml).expect("a workflow");
    let mut state = RunState::new();
    let event = Event::Started { now_ms: 1, execution_id: "e".to_owned(), seed: 1, input };
    let commands = advance(&plan, &mut state, &event, &NoBlobs).expect("nothing is kept apart");
    (plan, state, commands)
}

fn done(plan: &Plan, state: &mut RunState, task: &TaskKey, output: Value) -> Vec<Command> {
    advance(plan, state, &Event::TaskCompleted { now_ms: 2, task: task.clone(), output }, &NoBlobs)
        .expect("nothing is kept apart")
}

fn first_scheduled(state: &RunState) -> Option<TaskKey> {
    state.scheduled().next().map(|(key, _)| key.clone())
}

fn failure(state: &RunState) -> &Failure {
    assert_eq!(state.status, Status::Failed);
    state.failure.as_ref().expect("a failed run says why")
}

fn assert_says(failure: &Failure, code: &str, parts: &[&str]) {
    assert_eq!(failure.code, code, "{}", failure.message);
    for part in parts {
        assert!(failure.message.contains(part), "`{part}` is not in: {}", failure.message);
    }
}

#[test]
fn a_run_has_a_largest_number_of_tasks() {
    let yaml = "
tasks:
  - { id: wait, tool: wait }
  - id: many
    type: collection
    items: '{{ .input }}'
    task: { id: each, type: aggregate, outputs: '{{ .index }}' }
    on_success: { next: wait }
";
    let (plan, mut state, _) = started(yaml, json!(vec![0; COLLECTION_ITEMS_MAX]));
    while let Some(key) = first_scheduled(&state) {
        done(&plan, &mut state, &key, Value::Null);
    }
    assert_says(failure(&state), "RUN_LIMIT", &["50000 task states", "many#5["]);
    assert_eq!(state.tasks.len(), RUN_TASKS_MAX);
    assert!(state.tasks.values().all(|task| task.status.is_terminal()));
}

#[test]
fn a_run_keeps_a_largest_number_of_bytes() {
    let yaml = "
tasks:
  - { id: a, type: composite, on_error: {}, tasks: [{ id: x, tool: one, on_success: { next: x }, on_error: { next: x } }] }
";
    let (plan, mut state, _) = started(yaml, Value::Null);
    let chunk = "x".repeat(1024 * 1024);
    let mut events = 0;
    let mut last = Vec::new();
    while let Some(key) = first_scheduled(&state) {
        last = done(&plan, &mut state, &key, json!(chunk));
        events += 1;
    }
    assert_eq!(events, RUN_BYTES_MAX / chunk.len(), "the last chunk that fits is the one before");
    assert_eq!(last, [Command::Finish]);
    assert_says(failure(&state), "RUN_LIMIT", &["task `a/x#64`", "its output", "67108864 bytes"]);
}

#[test]
fn a_collection_has_a_largest_number_of_items() {
    let yaml = "tasks: [{ id: all, type: collection, items: '{{ .input }}', task: { id: each, tool: never } }]";
    let (_, state, commands) = started(yaml, json!(vec![0; COLLECTION_ITEMS_MAX + 1]));
    assert_says(failure(&state), "ITEMS_TOO_MANY", &["task `all`", "10001 items", "10000 are allowed"]);
    assert_eq!(commands, [Command::Finish]);
}

#[test]
fn an_input_that_is_too_deep_ends_the_run() {
    let input = (0..=VALUE_DEPTH_MAX).fold(Value::Null, |inner, _| json!([inner]));
    let (_, state, _) = started("tasks: [{ id: a, tool: never }]", input);
    assert_says(failure(&state), "VALUE_TOO_DEEP", &["the workflow", "its input", "64 levels"]);
    assert_eq!(state.input, Value::Null);
    assert!(state.tasks.is_empty());
}

#[test]
fn details_that_are_too_deep_are_dropped() {
    let (plan, mut state, _) = started("tasks: [{ id: a, tool: one }]", Value::Null);
    let details = (0..=VALUE_DEPTH_MAX).fold(Value::Null, |inner, _| json!([inner]));
    let failure = Failure { details, ..Failure::permanent("BROKEN", "broke") };
    advance(&plan, &mut state, &Event::TaskFailed { now_ms: 2, task: TaskKey("a".to_owned()), failure }, &NoBlobs)
        .unwrap();
    assert_eq!(state.failure.as_ref().map(|failure| &failure.details), Some(&Value::Null));
    assert_eq!(state.failure.as_ref().map(|failure| failure.code.as_str()), Some("BROKEN"));
}

#[test]
fn messages_cut_long_values_and_long_lists_of_names() {
    let routes: serde_json::Map<String, Value> = (0..30).map(|n| (format!("r{n}"), json!("a"))).collect();
    let yaml = json!({ "tasks": [
        { "id": "a", "type": "router", "condition": "input", "routes": routes },
    ]});
    let (_, state, _) = started(&yaml.to_string(), json!("v".repeat(VALUE_SHOWN_CHARS_MAX + 1)));
    let last_shown = format!("`r{}` and 10 more", NAMES_SHOWN_MAX - 1);
    let cut = format!("`{}...`", "v".repeat(VALUE_SHOWN_CHARS_MAX));
    assert_says(failure(&state), "ROUTE_NOT_FOUND", &[&last_shown, &cut]);
}

#[test]
fn a_damaged_state_ends_the_run_instead_of_going_round() {
    let yaml = "tasks: [{ id: c, type: composite, tasks: [{ id: x, tool: one }] }]";
    let (plan, mut state, _) = started(yaml, Value::Null);
    let composite = TaskKey("c".to_owned());
    state.tasks[&composite].parent = Some(composite.clone());
    let commands = done(&plan, &mut state, &TaskKey("c/x".to_owned()), Value::Null);
    assert_eq!(commands, [Command::Finish]);
    assert_says(failure(&state), "PLAN_MISMATCH", &["task `c/x`"]);
}

#[test]
fn a_plan_of_another_format_is_not_guessed_at() {
    let mut plan = workflow::compile("tasks: [{ id: a, tool: never }]").unwrap();
    plan.format = 99;
    let mut state = RunState::new();
    let event = Event::Started { now_ms: 1, execution_id: "e".to_owned(), seed: 1, input: Value::Null };
    assert_eq!(advance(&plan, &mut state, &event, &NoBlobs).expect("nothing is kept apart"), [Command::Finish]);
    assert_says(failure(&state), "PLAN_MISMATCH", &["format 99", "format 2"]);
}

#[test]
fn ten_thousand_children_may_be_answered_in_any_order() {
    let yaml = "
tasks:
  - { id: big, tool: one }
  - id: all
    type: collection
    items: '{{ .input }}'
    task: { id: each, tool: fetch, with: { n: '{{ .index }}', size: '{{ len .tasks.big.output.list }}' } }
outputs: { last: '{{ index .tasks.all.output.outputs 9999 }}' }
";
    let (plan, mut state, commands) = started(yaml, json!(vec!["item"; COLLECTION_ITEMS_MAX]));
    assert_eq!(commands.len(), 1);
    // Read by every child: if scopes copied it, this test would move gigabytes.
    let big = json!({ "list": vec!["some text"; 100_000] });
    let mut open: Vec<TaskKey> = Vec::new();
    let mut answered = 0;
    let take = |commands: Vec<Command>, open: &mut Vec<TaskKey>| {
        open.extend(commands.into_iter().filter_map(|command| match command {
            Command::ScheduleTask { task, .. } => Some(task),
            _ => None,
        }));
    };
    take(done(&plan, &mut state, &TaskKey("big".to_owned()), big), &mut open);
    while !open.is_empty() {
        let key = open.swap_remove(answered * 7 % open.len());
        let n = state.tasks[&key].with["n"].clone();
        assert_eq!(state.tasks[&key].with["size"], 100_000);
        take(done(&plan, &mut state, &key, json!({ "n": n })), &mut open);
        answered += 1;
        assert!(open.len() <= 100, "{} children at once", open.len());
    }
    assert_eq!(answered, COLLECTION_ITEMS_MAX);
    assert_eq!(state.output, Some(json!({ "last": { "n": 9_999 } })));
}
