//! Large values stay as long as any run on the server refers to them, and not longer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use compozy_blobs::{ObjectBlobs, UsedBlobs};
use compozy_engine::blob_store::{BlobStore as _, Swept};
use compozy_engine::port::{Control, Engine as _, ExecutionId, Filter};
use compozy_interpreter::{Signal, Status};
use compozy_temporal::TemporalEngine;
use serde_json::{Value, json};

use crate::common::{Script, plan, request, request_with, workflows};
use crate::support::{PATIENCE, Site, until, wait};

/// What is unused for longer than this is swept.
const UNUSED_KEPT: Duration = Duration::from_secs(1);
const RPC_TIMEOUT: Duration = Duration::from_secs(20);

fn large(letter: &str) -> Value {
    json!(letter.repeat(100 << 10))
}

/// `make` answers a large value, every other task the sizes of the texts that it got.
fn script() -> Arc<Script> {
    Script::now(|call| {
        if call.task == "make" {
            return Ok(large("m"));
        }
        let fields = call.input.as_object().into_iter().flatten();
        Ok(fields.map(|(name, text)| (name.clone(), json!(text.as_str().map(str::len)))).collect())
    })
}

async fn say(engine: &TemporalEngine, id: &ExecutionId, payload: Value) {
    let signal = Signal { name: "go".into(), payload, id: "go".into(), source: "api".into() };
    engine.control(id, Control::Signal(signal)).await.expect("the run takes it");
}

/// The server forgets all runs that have ended, these at least. It takes its time for that.
async fn forget(engine: &TemporalEngine, ids: &[ExecutionId]) {
    until("the server has forgotten runs", || async {
        // What is listed follows what happens after a moment, so that one may be gone already.
        drop(engine.prune(u64::MAX / 2_000_000).await);
        let mut there = false;
        for id in ids {
            there |= engine.execution(id).await.expect("the server answers").is_some();
        }
        !there
    })
    .await;
}

async fn sweep(engine: &TemporalEngine) -> Swept {
    tokio::time::sleep(UNUSED_KEPT + Duration::from_millis(200)).await;
    engine.sweep().await.expect("the store answers")
}

fn left(blobs: &UsedBlobs) -> usize {
    let mut left = 0;
    let counted = blobs.list(&mut |page| {
        left += page.len();
        true
    });
    counted.expect("the store lists");
    left
}

#[tokio::test(flavor = "multi_thread")]
async fn large_values_stay_while_any_run_refers_to_them_on_temporal() {
    let known = workflows(&[
        (
            "parent",
            "tasks:\n  - {id: c, workflow: child, with: {a: '{{ .input.a }}'}}\n  \
             - {id: s, type: signal, signal: {id: note, to: '{{ .input.to }}', payload: {b: '{{ .input.b }}'}}}\n  \
             - {id: w, type: signal, signal: {id: wake, payload: {c: '{{ .input.c }}'}}}\n  \
             - {id: g, type: wait, wait_for: go}\n  \
             - {id: t, tool: tool, with: {m: '{{ .tasks.c.output.m }}', p: '{{ .tasks.g.output.signal.payload.p }}'}}\n\
             outputs: '{{ .tasks.t.output }}'\n",
        ),
        (
            "child",
            "tasks: [{id: t, tool: tool, with: {a: '{{ .input.a }}'}}, {id: make, tool: tool}]\n\
             outputs: {m: '{{ .tasks.make.output }}'}\n",
        ),
        (
            "peer",
            "tasks:\n  - {id: n, type: wait, wait_for: note}\n  - {id: g, type: wait, wait_for: go}\n  \
             - {id: t, tool: tool, with: {b: '{{ .tasks.n.output.signal.payload.b }}'}}\noutputs: '{{ .tasks.t.output }}'\n",
        ),
        (
            "woken",
            "triggers: [{type: signal, name: wake}]\ntasks:\n  - {id: g, type: wait, wait_for: go}\n  \
             - {id: t, tool: tool, with: {c: '{{ .input.c }}'}}\noutputs: '{{ .tasks.t.output }}'\n",
        ),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let blobs = UsedBlobs::new(ObjectBlobs::folder(folder.path())).keeping_unused(UNUSED_KEPT);
    let site = Site::shared(script()).await;
    let engine = site
        .with(|options| {
            options.workflows = Arc::new(known.clone());
            options.blobs = Arc::new(blobs.clone());
        })
        .await;
    let peer = engine.start(request(&known["peer"])).await.unwrap();
    let input = json!({"a": large("a"), "b": large("b"), "c": large("c"), "to": peer.0});
    let parent = engine.start(request_with(&known["parent"], input)).await.unwrap();
    let mut woken = None;
    until("all but the child wait", || async {
        let waiting = engine.execution(&parent).await.unwrap().unwrap();
        assert!(!waiting.state.status.is_terminal(), "{:?}", waiting.state.failure);
        waiting.state.status == Status::Waiting
    })
    .await;
    let child = engine.execution(&parent).await.unwrap().unwrap().children["c"].clone();
    while woken.is_none() {
        let filter = Filter { workflow: Some("woken".to_owned()), ..Filter::default() };
        woken = engine.search(&filter, 1, None).await.unwrap().pop().map(|row| row.id);
    }
    let woken = woken.unwrap();
    assert_eq!(sweep(&engine).await, Swept::default(), "all runs are there");
    assert_eq!(left(&blobs), 4);

    say(&engine, &parent, json!({"p": large("p")})).await;
    let ended = wait(&engine, &parent).await.state;
    assert_eq!(ended.output, Some(json!({"m": 102_400, "p": 102_400})), "{:?}", ended.failure);
    forget(&engine, &[child, parent]).await;
    // The child used what it was handed and what it made; the parent its input, what the child made, and what it was told.
    assert_eq!(sweep(&engine).await, Swept { executions: 2, uses: 2 + 5, blobs: 3 });
    assert_eq!(left(&blobs), 2, "`b` and `c` are others' as well");
    for (id, name) in [(&peer, "b"), (&woken, "c")] {
        say(&engine, id, Value::Null).await;
        let ended = wait(&engine, id).await.state;
        assert_eq!(ended.output, Some(json!({ name: 102_400 })), "{:?}", ended.failure);
    }
    assert_eq!(sweep(&engine).await, Swept::default(), "runs that have ended are still there");
    engine.stop(PATIENCE).await;
    let all = blobs.sweep(&|_| false, &|| true).unwrap();
    assert_eq!(all, Swept { executions: 2, uses: 2, blobs: 2 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_definition_stays_when_the_server_is_away_and_a_sweep_ends_with_its_engine_on_temporal() {
    let mut server = tokio::task::spawn_blocking(temporal_test_server::Server::start).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let blobs = UsedBlobs::new(ObjectBlobs::folder(folder.path())).keeping_unused(UNUSED_KEPT);
    let site = Site::at(&server.url(), Script::echo());
    let engine = site
        .with(|options| {
            options.blobs = Arc::new(blobs.clone());
            options.rpc_timeout = RPC_TIMEOUT;
        })
        .await;
    // It cannot be made small.
    let mut state = 1_u64;
    let noise: String = (0..600 << 10)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'!' + u8::try_from((state >> 33) % 90).unwrap_or(0))
        })
        .filter(|letter| !matches!(letter, '\'' | '{' | '}'))
        .collect();
    let waiting = plan(&format!(
        "tasks:\n  - {{id: g, type: wait, wait_for: go}}\n  - {{id: t, tool: tool, with: {{noise: '{noise}'}}}}\n"
    ));
    let id = engine.start(request(&waiting)).await.unwrap();
    until("it waits", || async { engine.execution(&id).await.is_ok_and(|it| it.is_some_and(|it| it.events > 0)) })
        .await;
    engine.control(&id, Control::Terminate { reason: "enough".to_owned() }).await.unwrap();
    wait(&engine, &id).await;
    assert_eq!(sweep(&engine).await.executions, 0, "it has ended and is still there");
    assert!(left(&blobs) > 0, "the definition is large");

    tokio::task::block_in_place(|| server.kill());
    assert_eq!(sweep(&engine).await.executions, 0, "a server that is away says nothing");
    tokio::task::block_in_place(|| server.restart());
    tokio::task::block_in_place(|| server.pause());
    let engine = Arc::new(engine);
    let sweeper = Arc::clone(&engine);
    let sweeping = tokio::spawn(async move { sweeper.sweep().await.unwrap().executions });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!sweeping.is_finished(), "it waits for the server");
    let begun = Instant::now();
    let ended = async { (sweeping.await.unwrap(), begun.elapsed()) };
    let ((executions, took), ()) = tokio::join!(ended, engine.stop(Duration::ZERO));
    assert!(executions == 0 && took < RPC_TIMEOUT / 2, "a sweep ended {took:?} after the stop");

    assert_eq!(blobs.sweep(&|_| false, &|| true).unwrap().executions, 1);
    assert_eq!(left(&blobs), 0);
}
