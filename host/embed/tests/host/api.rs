//! What a program can do with a host.

use std::time::Duration;

use compozy_embed::{Control, EngineError, Filter, HostError, Status};
use serde_json::json;

use crate::common::small;

#[tokio::test(flavor = "multi_thread")]
async fn executions_are_started_signalled_cancelled_waited_for_and_listed() {
    let data = tempfile::tempdir().expect("a folder");
    let host = small(data.path()).start().await.expect("it starts");
    let health = host.health();
    assert_eq!(
        (health.status, health.mode, health.engine.engine, health.ready),
        ("ok", "standalone", "embedded", true)
    );

    let quick = host.start("quick", json!({ "word": "hello" })).await.expect("started");
    assert_eq!(host.wait(&quick).await.expect("ended").state.output, Some(json!({ "said": "hello" })));
    let calls = host.start("calls", json!({})).await.expect("started");
    let ended = host.wait(&calls).await.expect("ended").state;
    assert_eq!(ended.output.as_ref().map(|output| &output["city"]), Some(&json!("Lisbon")), "{ended:?}");

    let waits = host.start("waits", json!({})).await.expect("started");
    host.signal(&waits, "go", json!({ "number": 7 })).await.expect("taken");
    assert_eq!(host.wait(&waits).await.expect("ended").state.output, Some(json!(7)));

    let dropped = host.start("waits", json!({})).await.expect("started");
    host.control(&dropped, Control::Pause { reason: "a look".to_owned() }).await.expect("paused");
    host.cancel(&dropped, "enough", Duration::ZERO).await.expect("cancelled");
    assert_eq!(host.wait(&dropped).await.expect("ended").state.status, Status::Canceled);

    let once = host.start_once("quick", json!({ "word": "x" }), "key").await.expect("started");
    assert_eq!(host.start_once("quick", json!({ "word": "x" }), "key").await.expect("the same"), once);

    let canceled = Filter { status: Some(Status::Canceled), ..Filter::default() };
    let listed = host.list(&canceled, 10, None).await.expect("a list");
    assert_eq!(listed.iter().map(|one| &one.id).collect::<Vec<_>>(), [&dropped]);
    assert!(host.execution(&dropped).await.expect("read").is_some());
    host.stop().await;
    let refused = host.start("quick", json!({})).await.expect_err("it has stopped");
    assert_eq!((refused.code(), refused.retryable()), ("STOPPING", true));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_starts_all_who_wait_for_it_and_tells_who_refused() {
    let data = tempfile::tempdir().expect("a folder");
    let host = small(data.path()).start().await.expect("it starts");
    let all = host.trigger("wanted", json!({ "word": "hi" })).await.expect("two workflows have it");
    let told: Vec<(&str, Option<&str>)> =
        all.iter().map(|one| (one.workflow.as_str(), one.started.as_ref().err().map(EngineError::code))).collect();
    assert_eq!(told, [("quick", None), ("waits", Some("INVALID_INPUT"))]);
    let unknown = host.trigger("wantde", json!({})).await.expect_err("nobody has it");
    assert_eq!(unknown.to_string(), "no workflow has a trigger `wantde`; the project's triggers are `wanted`");
    let unknown = host.start("quikc", json!({})).await.expect_err("there is none");
    assert!(matches!(&unknown, HostError::UnknownWorkflow { known, .. } if known.len() == 3), "{unknown}");
    assert_eq!(unknown.code(), "WORKFLOW_NOT_FOUND");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_work_in_one_process_and_what_one_left_goes_on() {
    let (one, two) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let first = small(one.path()).listen("127.0.0.1:0").start().await.expect("it starts");
    let second = small(two.path()).listen("127.0.0.1:0").start().await.expect("it starts");
    assert_ne!(first.address(), second.address());
    let waits = first.start("waits", json!({})).await.expect("started");
    assert!(second.execution(&waits).await.expect("read").is_none(), "each has its own journal");
    first.stop().await;
    let quick = second.start("quick", json!({ "word": "still here" })).await.expect("started");
    assert_eq!(second.wait(&quick).await.expect("ended").state.status, Status::Success);
    drop(first);
    let again = small(one.path()).start().await.expect("it starts again");
    again.signal(&waits, "go", json!({ "number": 1 })).await.expect("taken");
    assert_eq!(again.wait(&waits).await.expect("ended").state.output, Some(json!(1)));
    again.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_twice_at_once_is_stopping_once() {
    let data = tempfile::tempdir().expect("a folder");
    let host = small(data.path()).listen("127.0.0.1:0").start().await.expect("it starts");
    let waits = host.start("waits", json!({})).await.expect("started");
    let (waited, (), ()) = tokio::join!(host.wait(&waits), host.stop(), host.stop());
    assert_eq!(waited.expect_err("it has not ended").code(), "STOPPING");
    host.stop().await;
    assert!(!host.health().ready);
}
