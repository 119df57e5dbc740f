//! A workflow as YAML, in the words of workflow files, straight to a plan: the front end has its own tests.
#![allow(dead_code, reason = "each test file uses a part of it")]

use compozy_plan::plan::{PLAN_FORMAT, Plan, TaskPolicy};
use serde_json::{Map, Value, json};

/// Compiles a workflow.
pub(crate) fn compile(yaml: &str) -> Result<Plan, serde_json::Error> {
    let file: Value = serde_saphyr::from_str(yaml).expect("YAML");
    let mut file = Fields::new("the workflow", file);
    let plan = json!({
        "format": PLAN_FORMAT,
        "workflow": file.take_or("id", json!("example")),
        "version": "1.2.3",
        "description": "",
        "project": { "name": "demo", "version": "0.1.0", "description": "A project" },
        "env": file.take_or("env", json!({})),
        "tasks": tasks(file.take("tasks")),
        "outputs": file.take("outputs"),
        "timeout_ms": file.take("timeout"),
    });
    file.finish();
    serde_json::from_value(plan)
}

fn tasks(list: Value) -> Vec<Value> {
    match list {
        Value::Array(tasks) => tasks.into_iter().map(task).collect(),
        Value::Null => Vec::new(),
        other => panic!("not a list of tasks: {other}"),
    }
}

fn task(file: Value) -> Value {
    let mut file = Fields::new("a task", file);
    let kind_name = file.take_or("type", json!("basic"));
    let mut kind = match kind_name.as_str() {
        Some("basic") => json!({ "id": file.take("tool"), "plugin": "test", "action": null, "config": null }),
        Some("router") => json!({ "condition": file.take("condition"), "routes": file.take("routes") }),
        Some("aggregate") => json!({}),
        Some("composite") => json!({ "tasks": tasks(file.take("tasks")) }),
        Some("parallel") => json!({
            "tasks": tasks(file.take("tasks")),
            "parallel": file.take_or("parallel", json!(100)),
            "strategy": file.take_or("strategy", json!("wait_all")),
        }),
        Some("wait") => json!({
            "name": file.take("wait_for"),
            "schema": file.take("schema"),
            "condition": file.take("condition"),
            "timeout": file.take("wait_timeout"),
            "on_timeout": file.take("on_timeout"),
            "processor": match file.take("processor") { Value::Null => Value::Null, processor => task(processor) },
        }),
        Some("signal") => {
            json!({ "name": file.take("signal"), "to": file.take("to"), "payload": file.take("payload") })
        }
        Some("memory") => json!({
            "operation": file.take("operation"), "memory": "chat", "key": file.take("key"),
            "payload": file.take("payload"), "options": {},
        }),
        Some("workflow") => json!({
            "workflow": file.take("workflow"), "parent_close": file.take_or("parent_close", json!("cancel")),
        }),
        Some("collection") => json!({
            "items": file.take("items"),
            "filter": file.take("filter"),
            "item_var": file.take_or("item_var", json!("item")),
            "index_var": file.take_or("index_var", json!("index")),
            "parallel": file.take_or("parallel", json!(100)),
            "strategy": file.take_or("strategy", json!("wait_all")),
            "task": task(file.take("task")),
        }),
        other => panic!("unknown type {other:?}"),
    };
    kind["type"] = kind_name;
    let task = json!({
        "id": file.take("id"),
        "kind": kind,
        "with": file.take("with"),
        "input": file.take("input"),
        "output": file.take("output"),
        "outputs": file.take("outputs"),
        "on_success": file.take("on_success"),
        "on_error": file.take("on_error"),
        "is_final": file.take_or("final", json!(false)),
        "policy": TaskPolicy::default(),
        "dispatch": file.take_or("dispatch", json!({})),
        "condition": file.take("condition"),
        "sleep_ms": file.take("sleep"),
        "timeout_ms": file.take("timeout"),
    });
    file.finish();
    task
}

/// Fields of the file, each to be used once, so that a misspelt one is noticed.
struct Fields(&'static str, Map<String, Value>);

impl Fields {
    fn new(what: &'static str, file: Value) -> Self {
        match file {
            Value::Object(fields) => Self(what, fields),
            other => panic!("{what} is no object: {other}"),
        }
    }

    fn take(&mut self, name: &str) -> Value {
        self.take_or(name, Value::Null)
    }

    fn take_or(&mut self, name: &str, otherwise: Value) -> Value {
        self.1.remove(name).unwrap_or(otherwise)
    }

    fn finish(self) {
        assert!(self.1.is_empty(), "{} has unknown fields: {:?}", self.0, self.1.keys().collect::<Vec<_>>());
    }
}
