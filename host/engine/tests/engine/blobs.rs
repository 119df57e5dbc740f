//! Large values: kept apart before they reach the journal, handed on by reference, and forgotten with their runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use compozy_engine::blob_store::{BlobStore, BlobStoreError, FileBlobs};
use compozy_engine::limits::{INLINE_BYTES_MAX, PAYLOAD_BYTES_MAX};
use compozy_engine::local::{JournalView, LocalEngine};
use compozy_engine::port::{Control, Engine as _, ExecutionId};
use compozy_interpreter::{Signal, Status};
use compozy_plan::blob::BLOB_KEY;
use compozy_plan::plan::Plan;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::common::*;

/// Text that compresses badly enough to be something, and is as long as it says.
fn text(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 16);
    let mut number = 1_u64;
    while text.len() < bytes {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        text += &format!("{number:016x}");
    }
    text.truncate(bytes);
    text
}

fn blobs(folder: &Path) -> Vec<PathBuf> {
    let Ok(shards) = std::fs::read_dir(folder.join("blobs")) else { return Vec::new() };
    let files = |shard: std::io::Result<std::fs::DirEntry>| std::fs::read_dir(shard.unwrap().path()).unwrap();
    let mut all: Vec<PathBuf> = shards.flat_map(files).map(|file| file.unwrap().path()).collect();
    all.sort();
    all
}

async fn journal_bytes(engine: &LocalEngine, id: &ExecutionId) -> usize {
    let records = engine.journal(id).await.unwrap();
    records.iter().map(|record| record.event.to_string().len()).max().unwrap()
}

/// Hands its input on, adds nothing.
fn relay() -> Arc<Script> {
    Script::now(|call| Ok(call.input.clone()))
}

fn chain() -> Arc<Plan> {
    let task = |n: usize, from: &str| format!("  - {{id: t{n}, tool: tool, with: {{doc: \"{{{{ {from} }}}}\"}}}}\n");
    let tasks = (1..5).map(|n| task(n, &format!(".tasks.t{}.output.doc", n - 1))).collect::<String>();
    plan(&format!("tasks:\n{}{tasks}outputs: {{doc: \"{{{{ .tasks.t4.output.doc }}}}\"}}\n", task(0, ".input.doc")))
}

#[tokio::test]
async fn the_largest_payload_goes_through_five_tasks_by_reference() {
    let dir = tempfile::tempdir().unwrap();
    let script = relay();
    let engine = open(dir.path(), &script);
    let doc = text(PAYLOAD_BYTES_MAX - 100);
    let execution = run(&engine, request_with(&chain(), json!({ "doc": doc }))).await;
    assert_eq!(execution.state.status, Status::Success, "{:?}", execution.state.failure);
    assert_eq!(execution.state.output, Some(json!({ "doc": doc })));
    let calls = script.calls();
    assert_eq!(calls.len(), 5);
    assert!(calls.iter().all(|call| call.input == json!({ "doc": doc })), "each task gets the value and no reference");
    // One value, however often it was handed on, and none in the journal or in what the run keeps.
    assert_eq!(blobs(dir.path()).len(), 1);
    assert!(journal_bytes(&engine, &execution.id).await < 1024);
    assert!(execution.state.tasks.values().all(|task| task.with.to_string().len() < 1024));
    assert_sound(&engine, &execution.id).await;
}

#[tokio::test]
async fn what_fits_the_journal_stays_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), &relay());
    let around = json!({ "doc": "" }).to_string().len();
    for (bytes, apart) in [(INLINE_BYTES_MAX - around, 0), (INLINE_BYTES_MAX - around + 1, 1)] {
        let doc = text(bytes);
        let execution = run(&engine, request_with(&chain(), json!({ "doc": doc }))).await;
        assert_eq!(execution.state.output, Some(json!({ "doc": doc })));
        assert_eq!(blobs(dir.path()).len(), apart, "a value of {bytes} bytes in an object");
    }
}

#[tokio::test]
async fn templates_conditions_schemas_and_collections_look_into_values_that_are_kept_apart() {
    let dir = tempfile::tempdir().unwrap();
    let script = relay();
    let engine = open(dir.path(), &script);
    let plan = plan(
        r#"
config: {input: {type: object, properties: {rows: {type: array, minItems: 1000}}, required: [rows]}}
tasks:
  - {id: first, tool: tool, with: {all: "{{ .input }}", title: "{{ .input.title }}"}}
  - id: pick
    type: router
    condition: 'size(input.rows) == 2000 && tasks.first.output.all.rows[7].n == 7 ? "many" : "few"'
    routes: {many: each, few: stop}
  - id: each
    type: collection
    items: "{{ .input.rows }}"
    filter: "item.n % 500 == 0"
    task: {id: one, tool: tool, with: {n: "{{ .item.n }}", of: "{{ len .input.rows }}"}}
    on_success: {next: last}
  - {id: stop, type: aggregate, final: true, outputs: {}}
  - {id: last, tool: tool, with: {third: "{{ (index .tasks.first.output.all.rows 3).n }}", text: "{{ .input.title }}!"}}
"#,
    );
    let rows: Vec<Value> = (0..2000).map(|n| json!({ "n": n, "text": text(60) })).collect();
    let input = json!({ "title": "small", "rows": rows });
    let execution = run(&engine, request_with(&plan, input.clone())).await;
    assert_eq!(execution.state.status, Status::Success, "{:?}", execution.state.failure);
    let inputs: Vec<Value> = script.calls().into_iter().map(|call| call.input).collect();
    assert_eq!(inputs[0], json!({ "all": input, "title": "small" }));
    let mut each = inputs[1..5].to_vec();
    each.sort_by_key(|input| input["n"].as_u64());
    let expected = [0, 500, 1000, 1500].map(|n| json!({ "n": n, "of": 2000 }));
    assert_eq!(each, expected);
    assert_eq!(inputs[5], json!({ "third": 3, "text": "small!" }));
    assert_sound(&engine, &execution.id).await;
    // A schema is for the whole value.
    let short = json!({ "title": "small", "rows": [{ "text": text(INLINE_BYTES_MAX) }] });
    assert_eq!(engine.start(request_with(&plan, short)).await.unwrap_err().code(), "INVALID_INPUT");
}

#[tokio::test]
async fn large_signals_are_kept_apart_and_outlive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(
        "tasks:\n  - {id: w, type: wait, wait_for: go, condition: 'size(signal.payload.doc) > 100000'}\n  \
         - {id: t, tool: tool, with: {doc: \"{{ .tasks.w.output.signal.payload.doc }}\"}}\n",
    );
    let doc = text(200_000);
    let signal = |doc: &str| {
        Control::Signal(Signal {
            name: "go".into(),
            payload: json!({ "doc": doc }),
            id: String::new(),
            source: String::new(),
        })
    };
    let engine = open(dir.path(), &Script::never());
    let id = engine.start(request(&plan)).await.unwrap();
    engine.control(&id, signal("short")).await.unwrap();
    engine.control(&id, signal(&doc)).await.unwrap();
    engine.stop(Duration::ZERO).await;
    let script = relay();
    let engine = open(dir.path(), &script);
    let execution = ended(&engine, &id).await;
    assert_eq!(execution.state.status, Status::Success, "{:?}", execution.state.failure);
    assert_eq!(script.calls()[0].input, json!({ "doc": doc }));
    assert!(journal_bytes(&engine, &id).await < 1024);
}

#[tokio::test]
async fn too_large_and_reserved_values_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let large = PAYLOAD_BYTES_MAX;
    let script = Script::now(move |call| match call.input["what"].as_str() {
        Some("large") => Ok(Value::String(text(large))),
        _ => Ok(json!({ "deep": [{ BLOB_KEY: { "sha256": "0".repeat(64), "bytes": 1 } }] })),
    });
    let engine = open(dir.path(), &script);
    let start = |input| engine.start(request_with(&chain(), input));
    let error = start(json!({ "doc": text(large) })).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the input of workflow `example` has 16777226 bytes, at most 16777216 bytes are allowed"
    );
    let forged = json!({ "doc": { BLOB_KEY: { "sha256": "0".repeat(64), "bytes": 1 } } });
    assert_eq!(start(forged.clone()).await.unwrap_err().code(), "PAYLOAD_RESERVED");
    let waiting = plan("tasks:\n  - {id: w, type: wait, wait_for: go}\n");
    let id = engine.start(request(&waiting)).await.unwrap();
    let signal = Signal { name: "go".into(), payload: forged, id: String::new(), source: String::new() };
    let error = engine.control(&id, Control::Signal(signal)).await.unwrap_err();
    assert_eq!(error.code(), "PAYLOAD_RESERVED");
    let one = plan("tasks:\n  - {id: t, tool: tool, with: {what: \"{{ .input.what }}\"}}\n");
    for (what, code) in [("large", "PAYLOAD_TOO_LARGE"), ("forged", "PAYLOAD_RESERVED")] {
        let execution = run(&engine, request_with(&one, json!({ "what": what }))).await;
        assert_eq!(execution.state.failure.unwrap().code, code);
    }
    // A text that only looks like one is a text, also when a template parses it.
    let parse = plan("tasks:\n  - {id: t, tool: tool, with: {doc: \"{{ fromJson .input.text }}\"}}\n");
    let text = json!({ BLOB_KEY: { "sha256": "0".repeat(64), "bytes": 1 } }).to_string();
    let execution = run(&engine, request_with(&parse, json!({ "text": text }))).await;
    assert_eq!(execution.state.failure.unwrap().code, "TEMPLATE_ERROR");
}

#[tokio::test]
async fn a_value_lives_as_long_as_the_last_run_that_refers_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let child = ("child", "outputs: {doc: \"{{ .input.doc }}\"}\ntasks:\n  - {id: a, type: aggregate, outputs: {}}\n");
    let clock = HandClock::new();
    let engine = open_with(dir.path(), &relay(), |options| {
        options.workflows = Arc::new(workflows(&[child]));
        options.clock = clock.clone();
    })
    .unwrap();
    let parent = plan(
        "outputs: {doc: \"{{ .tasks.c.output.doc }}\"}\ntasks:\n  \
         - {id: c, workflow: child, with: {doc: \"{{ .input.doc }}\"}}\n  - {id: w, type: wait, wait_for: go}\n",
    );
    let doc = text(100_000);
    let id = engine.start(request_with(&parent, json!({ "doc": doc }))).await.unwrap();
    let first = run(&engine, request_with(&chain(), json!({ "doc": doc }))).await;
    stands(&engine, &id, Status::Waiting).await;
    assert_eq!(blobs(dir.path()).len(), 1, "the same value is kept once");
    clock.set(10_000);
    // The child and the other run have ended and go; the parent still needs it.
    assert_eq!(engine.prune(NOON + 5_000).await.unwrap(), 2);
    assert!(engine.execution(&first.id).await.unwrap().is_none());
    assert_eq!(blobs(dir.path()).len(), 1);
    let go = Signal { name: "go".into(), payload: Value::Null, id: String::new(), source: String::new() };
    engine.control(&id, Control::Signal(go)).await.unwrap();
    let last = ended(&engine, &id).await;
    assert_eq!(last.state.output, Some(json!({ "doc": doc })));
    assert_sound(&engine, &id).await;
    clock.set(20_000);
    assert_eq!(engine.prune(NOON + 15_000).await.unwrap(), 1);
    // The file goes after the commit that removed the last run.
    until("the value is forgotten", || blobs(dir.path()).is_empty()).await;
}

#[tokio::test]
async fn what_a_crash_left_to_nobody_is_swept_up_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), &relay());
    let doc = text(100_000);
    let id = run(&engine, request_with(&chain(), json!({ "doc": doc }))).await.id;
    let [used] = blobs(dir.path()).try_into().unwrap();
    engine.stop(Duration::ZERO).await;
    // As after a crash between a value and its event.
    let orphan = used.with_file_name(format!("{}.zst", "0".repeat(62)));
    std::fs::copy(&used, &orphan).unwrap();
    let engine = open(dir.path(), &relay());
    until("the orphan is gone", || !orphan.exists()).await;
    assert_eq!(engine.execution(&id).await.unwrap().unwrap().state.output, Some(json!({ "doc": doc })));
}

#[tokio::test]
async fn a_run_whose_value_is_lost_ends_with_its_name_and_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(
        "tasks:\n  - {id: w, type: wait, wait_for: go}\n  - {id: t, tool: tool, with: {doc: \"{{ .input.doc }}\"}}\n  \
         - {id: c, tool: tool, condition: 'size(input.doc) > 1'}\n",
    );
    let engine = open(dir.path(), &relay());
    let id = engine.start(request_with(&plan, json!({ "doc": text(100_000) }))).await.unwrap();
    let other = engine.start(request_with(&plan, json!({ "doc": text(90_000) }))).await.unwrap();
    engine.stop(Duration::ZERO).await;
    let files = blobs(dir.path());
    let largest = files.iter().max_by_key(|file| file.metadata().unwrap().len()).unwrap();
    std::fs::write(largest, b"garbage").unwrap();
    let engine = open(dir.path(), &relay());
    for id in [&id, &other] {
        let go = Signal { name: "go".into(), payload: Value::Null, id: String::new(), source: String::new() };
        engine.control(id, Control::Signal(go)).await.unwrap();
    }
    let failure = ended(&engine, &id).await.state.failure.unwrap();
    assert_eq!(failure.code, "BLOB_LOST");
    assert!(failure.message.contains("is lost: `") && failure.message.contains("is damaged"), "{}", failure.message);
    assert_eq!(ended(&engine, &other).await.state.status, Status::Success);
}

#[tokio::test]
async fn a_run_that_must_look_into_a_lost_value_ends_and_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(
        "tasks:\n  - {id: w, type: wait, wait_for: go}\n  - {id: c, tool: tool, condition: 'size(input.doc) > 1'}\n",
    );
    let engine = open(dir.path(), &relay());
    let id = engine.start(request_with(&plan, json!({ "doc": text(100_000) }))).await.unwrap();
    engine.stop(Duration::ZERO).await;
    std::fs::remove_file(&blobs(dir.path())[0]).unwrap();
    let engine = open(dir.path(), &relay());
    let go = Signal { name: "go".into(), payload: Value::Null, id: String::new(), source: String::new() };
    engine.control(&id, Control::Signal(go)).await.unwrap();
    let execution = ended(&engine, &id).await;
    assert_eq!(execution.state.status, Status::Failed);
    let failure = execution.state.failure.unwrap();
    assert_eq!(failure.code, "BLOB_LOST");
    assert!(failure.message.contains("is not in the blob store"), "{}", failure.message);
    assert_eq!(engine.verify(&id).await.unwrap(), None);
}

#[tokio::test]
async fn a_backup_has_the_values_and_restores() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), &relay());
    let doc = text(100_000);
    let id = run(&engine, request_with(&chain(), json!({ "doc": doc }))).await.id;
    let copy = dir.path().join("copy.db");
    engine.backup(&copy).await.unwrap();
    let restored = tempfile::tempdir().unwrap();
    std::fs::copy(&copy, restored.path().join("journal.db")).unwrap();
    std::fs::rename(dir.path().join("copy.db.blobs"), restored.path().join("blobs")).unwrap();
    let view = JournalView::open(restored.path(), Handle::current()).unwrap();
    assert_eq!(view.execution(&id).await.unwrap().unwrap().state.output, Some(json!({ "doc": doc })));
    assert_eq!(view.verify(&id).await.unwrap(), None);
}

#[tokio::test]
async fn a_value_is_shown_to_who_names_a_run_that_refers_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), &relay());
    let doc = text(100_000);
    let id = run(&engine, request_with(&chain(), json!({ "doc": doc }))).await.id;
    let other = run(&engine, request(&linear(1))).await.id;
    let shown = engine.execution(&id).await.unwrap().unwrap().state.input["doc"][BLOB_KEY]["sha256"].clone();
    let digest = shown.as_str().unwrap();
    let found = engine.blob(&id, digest).await.unwrap().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&found).unwrap(), json!(doc));
    assert_eq!(engine.blob(&other, digest).await.unwrap(), None);
    assert_eq!(engine.blob(&id, "../../journal").await.unwrap(), None);
}

/// A store that refuses to write while it is told to.
struct Moody {
    files: FileBlobs,
    full: AtomicBool,
}

impl BlobStore for Moody {
    fn place(&self) -> String {
        "here".to_owned()
    }

    fn put(&self, digest: &str, bytes: &[u8]) -> Result<(), BlobStoreError> {
        if self.full.load(Ordering::SeqCst) {
            let reason = "no space left".to_owned();
            return Err(BlobStoreError::Unavailable { place: "here".to_owned(), action: "write a blob", reason });
        }
        self.files.put(digest, bytes)
    }

    fn get(&self, digest: &str, bytes: u64) -> Result<Option<Vec<u8>>, BlobStoreError> {
        self.files.get(digest, bytes)
    }

    fn delete(&self, digest: &str) -> Result<(), BlobStoreError> {
        self.files.delete(digest)
    }

    fn list(&self, found: &mut dyn FnMut(Vec<String>) -> bool) -> Result<(), BlobStoreError> {
        self.files.list(found)
    }
}

#[tokio::test]
async fn a_full_blob_store_refuses_starts_loses_no_result_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Moody { files: FileBlobs::new(dir.path().join("blobs")), full: AtomicBool::new(true) });
    // What the child puts together is large only as a whole: the writer itself must put it away.
    let outputs = "outputs: {a: \"{{ .input.doc }}\", b: \"{{ .input.doc }}\"}";
    let child = format!("{outputs}\ntasks:\n  - {{id: a, type: aggregate, outputs: {{}}}}\n");
    let script =
        Script::now(|call| Ok(json!({ "doc": text(usize::try_from(call.input["bytes"].as_u64().unwrap()).unwrap()) })));
    let engine = open_with(dir.path(), &script, |options| {
        options.workflows = Arc::new(workflows(&[("child", child.as_str())]));
        options.blobs = Some(store.clone());
    })
    .unwrap();
    let refused = engine.start(request_with(&chain(), json!({ "doc": text(100_000) }))).await.unwrap_err();
    assert_eq!((refused.code(), refused.retryable()), ("STORAGE_UNAVAILABLE", true), "{refused}");
    let large = plan("tasks:\n  - {id: t, tool: tool, with: {bytes: 100000}}\n");
    let large = engine.start(request(&large)).await.unwrap();
    let parent = plan("tasks:\n  - {id: c, workflow: child, with: {doc: \"{{ .input.doc }}\"}}\n");
    let parent = || request_with(&parent, json!({ "doc": text(40_000) }));
    until("the task was called", || script.count() == 1).await;
    // Nothing is acknowledged that needs what cannot be written, whoever has to write it.
    let refused = engine.start(parent()).await.unwrap_err();
    assert_eq!(refused.code(), "STORAGE_UNAVAILABLE");
    assert!(!engine.health().writable, "{}", engine.health().detail);
    assert_eq!(engine.execution(&large).await.unwrap().unwrap().state.status, Status::Running);
    store.full.store(false, Ordering::SeqCst);
    assert_eq!(ended(&engine, &large).await.state.output, Some(json!({ "doc": text(100_000) })));
    let both = json!({ "a": text(40_000), "b": text(40_000) });
    assert_eq!(run(&engine, parent()).await.state.output, Some(both));
    assert_eq!(script.count(), 1, "the work was done once");
    assert!(engine.health().writable);
    assert_sound(&engine, &large).await;
}

#[tokio::test]
async fn a_template_or_condition_that_reads_too_much_fails_its_task_and_handing_on_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let large = 15 * 1024 * 1024;
    let script =
        Script::now(move |call| Ok(if call.input["hand"].is_null() { json!("on") } else { call.input.clone() }));
    let engine = open(dir.path(), &script);
    let fields = (0..5).map(|n| format!("d{n}: \"{{{{ .tasks.s{n}.output.signal.payload }}}}\"")).collect::<Vec<_>>();
    let waits = (0..5).map(|n| format!("  - {{id: s{n}, type: wait, wait_for: go}}\n")).collect::<String>();
    let sizes = (0..5).map(|n| format!("size(tasks.s{n}.output.signal.payload)")).collect::<Vec<_>>().join(" + ");
    let plan = plan(&format!(
        "tasks:\n{waits}  - {{id: read, tool: tool, condition: '{sizes} > 0', on_error: {{next: hand}}}}\n  \
         - {{id: hand, type: aggregate, outputs: {{{}}}}}\n",
        fields.join(", ")
    ));
    let id = engine.start(request(&plan)).await.unwrap();
    for n in 0..5 {
        let payload = Value::String(text(large + n));
        let go = Signal { name: "go".into(), payload, id: String::new(), source: String::new() };
        engine.control(&id, Control::Signal(go)).await.unwrap();
    }
    let execution = ended(&engine, &id).await;
    assert_eq!(execution.state.status, Status::Success, "{:?}", execution.state.failure);
    let task = |id: &str| execution.state.tasks[&compozy_interpreter::TaskKey(id.into())].clone();
    let failure = task("read").failure.unwrap();
    assert_eq!(failure.code, "READ_LIMIT");
    assert!(failure.message.contains("67108864 bytes"), "{}", failure.message);
    assert!(task("hand").output.unwrap().to_string().len() < 1024);
    // Too much to be shown whole, so it is shown as it is.
    assert!(execution.state.output.unwrap().to_string().len() < 1024);
    assert_eq!(engine.verify(&id).await.unwrap(), None);
}
