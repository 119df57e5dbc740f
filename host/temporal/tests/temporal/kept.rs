//! Histories of every version are kept, and this version must still do what they say.
//!
//! `UPDATE_HISTORIES=1 cargo test --workspace --test temporal kept` adds those of this version; never change or remove one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use compozy_engine::blob_store::FileBlobs;
use compozy_engine::port::{Control, Engine as _};
use compozy_interpreter::{BEHAVIOUR_VERSION, Failure, Signal};
use serde_json::json;

use crate::common::{Script, request, workflows};
use crate::support::{PATIENCE, Site, until, wait};

/// Workflows that use between them all that becomes something of Temporal's.
const WORKFLOWS: &[(&str, &str)] = &[
    ("line", "tasks: [{id: a, tool: tool, with: {n: 1}}, {id: b, tool: tool, with: {n: '{{ .tasks.a.output }}'}}]"),
    (
        "race",
        "tasks:\n  - id: p\n    type: parallel\n    strategy: race\n    tasks: [{id: slow, tool: tool}, {id: fast, tool: tool}]\n",
    ),
    ("many", "tasks: [{id: all, type: collection, items: [1, 2, 3, 4], task: {id: t, tool: tool}}]"),
    (
        "loop",
        "tasks:\n  - {id: step, tool: tool, sleep: 10ms}\n  - id: again\n    type: router\n    \
         condition: \"tasks.step.output == 'step#3' ? 'enough' : 'more'\"\n    routes: {more: step, enough: last}\n  - {id: last, tool: tool}\n",
    ),
    ("hold", "tasks: [{id: w, type: wait, wait_for: go, timeout: 1h}, {id: t, tool: tool}]"),
    (
        "handled",
        "tasks:\n  - {id: bad, tool: tool, config: {retry_policy: {maximum_attempts: 2, initial_interval: 1ms}}, on_error: {next: saved}}\n  \
         - {id: never, tool: tool}\n  - {id: saved, tool: tool}\n",
    ),
    ("parent", "tasks: [{id: c, workflow: line, with: {}}]"),
    ("caller", "tasks: [{id: s, type: signal, signal: {id: wake, payload: {n: 1}}}]"),
    ("woken", "triggers: [{type: signal, name: wake}]\ntasks: [{id: t, tool: tool}]"),
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/histories")
}

fn script() -> Arc<Script> {
    Script::new(|call| async move {
        if call.task == "p/slow" {
            std::future::pending::<()>().await;
        }
        let bad = call.task == "bad";
        let result = if bad { Err(Failure::transient("DOWN", "is down")) } else { Ok(json!(call.task)) };
        crate::common::report(result)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_also_what_this_version_writes_on_temporal() {
    let known = workflows(WORKFLOWS);
    let site = Site::shared(script()).await;
    let engine = site.with(|options| options.workflows = Arc::new(known.clone())).await;
    let mut written = BTreeMap::new();
    for (name, plan) in &known {
        let id = engine.start(request(plan)).await.unwrap();
        if name == "hold" {
            until("it waits", || async {
                engine.execution(&id).await.is_ok_and(|it| it.is_some_and(|it| it.events > 0))
            })
            .await;
            let signal = Signal { name: "go".into(), payload: json!(1), id: "s1".into(), source: "api".into() };
            engine.control(&id, Control::Signal(signal)).await.unwrap();
        }
        wait(&engine, &id).await;
        let blobs = Arc::new(FileBlobs::new(folder()));
        let history = engine.history(&id).await.unwrap();
        compozy_temporal::replay(&history, &site.options.project, blobs)
            .await
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        written.insert(name.clone(), history);
    }
    engine.stop(PATIENCE).await;
    if std::env::var_os("UPDATE_HISTORIES").is_some() {
        for (name, history) in written {
            std::fs::write(folder().join(format!("v{BEHAVIOUR_VERSION}-{name}.json")), history).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_histories_replay() {
    let mut replayed = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let history = std::fs::read(&path).unwrap();
        // None of them refers to a large value.
        let blobs = Arc::new(FileBlobs::new(folder().join("none")));
        let result = compozy_temporal::replay(&history, "kept", blobs).await;
        assert!(result.is_ok(), "{}: {:?}", path.display(), result.err().map(|error| error.to_string()));
        replayed += 1;
    }
    assert!(replayed >= WORKFLOWS.len(), "only {replayed} histories are kept");
}
