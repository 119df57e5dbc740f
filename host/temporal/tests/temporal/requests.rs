//! What callers ask: starts, keys, lists, questions about a run.

use compozy_engine::EngineError;
use compozy_engine::port::{Control, Engine as _, ExecutionId, Filter};
use compozy_interpreter::{Signal, Status};
use serde_json::{Value, json};

use crate::common::{Script, keyed, linear, plan, request, request_with};
use crate::support::{PATIENCE, Site, until, wait};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_starts_one_run_on_temporal() {
    let site = Site::shared(Script::echo()).await;
    let engine = site.engine().await;
    let plan = linear(1);
    let first = engine.start(keyed(&plan, json!({"a": 1}), "key")).await.unwrap();
    let (again, other) =
        tokio::join!(engine.start(keyed(&plan, json!({"a": 1}), "key")), engine.start(keyed(&plan, json!({}), "key")));
    assert_eq!(again.unwrap(), first);
    match other.unwrap_err() {
        EngineError::IdempotencyKeyReused { key, execution } => {
            assert_eq!((key.as_str(), execution), ("key", first.clone()));
        }
        error => panic!("{error}"),
    }
    wait(&engine, &first).await;
    assert_eq!(engine.start(keyed(&plan, json!({"a": 1}), "key")).await.unwrap(), first, "also after its end");
    let long = engine.start(keyed(&plan, json!({}), &"k".repeat(256))).await.unwrap_err();
    assert_eq!(long.code(), "IDEMPOTENCY_KEY_LENGTH");
    engine.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_listed_with_filters_and_pages_on_temporal() {
    let (site, neighbour) = (Site::shared(Script::echo()).await, Site::shared(Script::echo()).await);
    let (engine, neighbour) = (site.engine().await, neighbour.engine().await);
    // Of another project in the same namespace: neither listed nor removed.
    let (theirs, _) = neighbour.run(request(&linear(1)), PATIENCE).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..5 {
        let (id, outcome) = engine.run(request(&linear(1)), PATIENCE).await.unwrap();
        assert_eq!(outcome.expect("it ended").status, Status::Success);
        ids.push(id);
    }
    let waiting = plan("tasks:\n  - {id: w, type: wait, wait_for: go}\n");
    let open = engine.start(request(&waiting)).await.unwrap();
    let listed = |filter: Filter, limit, before: Option<ExecutionId>| {
        let engine = &engine;
        async move { engine.search(&filter, limit, before.as_ref()).await.unwrap() }
    };
    // What is listed follows what happens after a moment.
    let waits = || Filter { status: Some(Status::Waiting), ..Filter::default() };
    until("a run that waits is listed as such", || async { listed(waits(), 10, None).await.len() == 1 }).await;
    until("all are listed as ended", || async {
        listed(Filter { status: Some(Status::Success), ..Filter::default() }, 10, None).await.len() == 5
    })
    .await;
    assert_eq!(listed(waits(), 10, None).await[0].id, open);
    let all = listed(Filter::default(), 10, None).await;
    let expected: Vec<&ExecutionId> = std::iter::once(&open).chain(ids.iter().rev()).collect();
    assert_eq!(all.iter().map(|row| &row.id).collect::<Vec<_>>(), expected, "the latest first");
    assert!(all[1..].iter().all(|row| row.ended_at_ms.is_some() && row.workflow == "example"));
    let page = listed(Filter::default(), 2, Some(all[1].id.clone())).await;
    assert_eq!(page.iter().map(|row| &row.id).collect::<Vec<_>>(), [&ids[3], &ids[2]]);
    let none = Filter { workflow: Some("it's another".to_owned()), ..Filter::default() };
    assert!(listed(none, 10, None).await.is_empty());
    let later = Filter { started_from_ms: Some(all[0].started_at_ms + 60_000), ..Filter::default() };
    assert!(listed(later, 10, None).await.is_empty());

    assert_eq!(engine.prune(u64::MAX / 2_000_000).await.unwrap(), 5, "those that have ended");
    until("they are gone", || async { listed(Filter::default(), 10, None).await.len() == 1 }).await;
    assert!(engine.execution(&ids[0]).await.unwrap().is_none());
    assert!(neighbour.execution(&theirs).await.unwrap().is_some());
    engine.stop(PATIENCE).await;
    neighbour.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_with_the_codes_of_the_embedded_engine_on_temporal() {
    let site = Site::shared(Script::echo()).await;
    let engine = site.engine().await;
    let typed = plan(
        "config: {input: {type: object, required: [city], properties: {city: {type: string}}}}\ntasks: [{id: t, tool: tool}]\n",
    );
    let codes = [
        (engine.start(request(&typed)).await.map(drop), "INVALID_INPUT"),
        (engine.start(request_with(&linear(1), json!("x".repeat(17 << 20)))).await.map(drop), "PAYLOAD_TOO_LARGE"),
        (engine.control(&ExecutionId("none".to_owned()), Control::Retry).await, "EXECUTION_NOT_FOUND"),
        (engine.journal(&ExecutionId("none".to_owned())).await.map(drop), "EXECUTION_NOT_FOUND"),
    ];
    for (result, expected) in codes {
        assert_eq!(result.unwrap_err().code(), expected);
    }
    let waiting = plan("tasks:\n  - {id: w, type: wait, wait_for: go}\n");
    let id = engine.start(request(&waiting)).await.unwrap();
    let signal = |name: &str| {
        Control::Signal(Signal {
            name: name.to_owned(),
            payload: Value::Null,
            id: String::new(),
            source: "api".to_owned(),
        })
    };
    assert_eq!(engine.control(&id, signal("other")).await.unwrap_err().code(), "SIGNAL_UNKNOWN");
    assert_eq!(engine.control(&id, Control::Retry).await.unwrap_err().code(), "EXECUTION_NOT_FAILED");
    engine.control(&id, signal("go")).await.unwrap();
    assert_eq!(wait(&engine, &id).await.state.status, Status::Success);
    assert_eq!(
        engine.control(&id, Control::Pause { reason: String::new() }).await.unwrap_err().code(),
        "EXECUTION_ENDED"
    );
    engine.control(&id, Control::Terminate { reason: "late".to_owned() }).await.unwrap();
    engine.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_runs_at_once_end_on_temporal() {
    let site = Site::shared(Script::echo()).await;
    let engine = std::sync::Arc::new(site.engine().await);
    let plan = linear(2);
    let runs = (0..200).map(|_| {
        let (engine, plan) = (std::sync::Arc::clone(&engine), plan.clone());
        tokio::spawn(async move { engine.run(request(&plan), PATIENCE).await.unwrap().1.expect("it ended").status })
    });
    for run in runs.collect::<Vec<_>>() {
        assert_eq!(run.await.unwrap(), Status::Success);
    }
    engine.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_are_nearly_large_do_not_fill_a_history_on_temporal() {
    // Together more than the server takes in one history, which is 50 MiB, and far more than in one message.
    let site = Site::shared(Script::now(|call| Ok(json!(call.input["doc"].as_str().map(str::len))))).await;
    let engine = site.engine().await;
    let plan = plan(
        "tasks:\n  - id: all\n    type: collection\n    items: \"{{ .input.numbers }}\"\n    \
         task: {id: t, tool: tool, with: {doc: \"{{ .input.doc }}\"}}\noutputs: {n: \"{{ len .tasks.all.children }}\"}\n",
    );
    let input = json!({ "numbers": (0..900).collect::<Vec<_>>(), "doc": "nearly large".repeat(5_000) });
    let (id, outcome) = engine.run(request_with(&plan, input), PATIENCE).await.unwrap();
    let outcome = outcome.expect("it ended");
    assert_eq!(outcome.status, Status::Success, "{:?}", outcome.failure);
    let journal = engine.journal(&id).await.unwrap();
    assert_eq!(journal.len(), 901);
    assert_eq!(engine.verify(&id).await.unwrap(), None);
    engine.stop(PATIENCE).await;
}
