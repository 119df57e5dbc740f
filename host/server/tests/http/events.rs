//! The stream of an execution's events.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use compozy_engine::port::{ExecutionId, Notice};
use compozy_interpreter::Failure;
use compozy_server::limits::Limits;
use compozy_server::{AppState, router};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::{FakeEngine, state};

fn limits() -> Limits {
    Limits {
        streams: 1,
        stream_idle: Duration::from_mins(1),
        stream_stall: Duration::from_mins(1),
        ..Limits::default()
    }
}

async fn open(state: &AppState, id: &str, last: Option<&str>) -> (StatusCode, String, Body) {
    let mut request = Request::get(format!("/api/v0/executions/{id}/events"));
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let request = request.body(Body::empty()).expect("a request");
    let (head, body) = router(state.clone()).oneshot(request).await.expect("infallible").into_parts();
    let kind = head.headers[header::CONTENT_TYPE].to_str().expect("text").to_owned();
    (head.status, kind, body)
}

async fn next(body: &mut Body) -> Option<String> {
    let frame = tokio::time::timeout(Duration::from_mins(1), body.frame()).await.expect("within a minute");
    let bytes = frame?.expect("infallible").into_data().expect("data");
    Some(String::from_utf8(bytes.to_vec()).expect("UTF-8"))
}

async fn all(mut body: Body) -> String {
    let mut text = String::new();
    while let Some(part) = next(&mut body).await {
        text += &part;
    }
    text
}

fn recorded(engine: &Arc<FakeEngine>) {
    let seq = engine.grow();
    engine.tell(Notice::Recorded { id: ExecutionId("open".into()), seq });
}

#[tokio::test]
async fn an_execution_that_has_ended_is_told_whole_or_from_where_one_was() {
    let (state, _engine) = state(limits());
    let (status, kind, body) = open(&state, "exec-1", None).await;
    assert_eq!((status, kind.as_str()), (StatusCode::OK, "text/event-stream"));
    let record = "id: 1\nevent: record\ndata: {\"seq\":1,\"at_ms\":0,\"event\":{\"kind\":\"started\"}}\n\n";
    let end = "event: end\ndata: {\"status\":\"SUCCESS\"}\n\n";
    assert_eq!(all(body).await, format!("{record}{end}"));
    let (_, _, body) = open(&state, "exec-1", Some("1")).await;
    assert_eq!(all(body).await, end);
}

#[tokio::test]
async fn what_is_new_is_told_at_once_and_a_stop_ends_the_stream() {
    let (state, engine) = state(limits());
    engine.grow();
    let (_, _, mut body) = open(&state, "open", None).await;
    assert!(next(&mut body).await.is_some_and(|text| text.starts_with("id: 1\nevent: record\n")));
    recorded(&engine);
    assert!(next(&mut body).await.is_some_and(|text| text.starts_with("id: 2\nevent: record\n")));
    engine.tell(Notice::Recorded { id: ExecutionId("another".into()), seq: 9 });
    let (id, task) = (ExecutionId("open".into()), "t".to_owned());
    let failure = Failure::transient("BUSY", "later");
    engine.tell(Notice::AttemptFailed { id: id.clone(), task: task.clone(), attempt: 1, failure, retry_in_ms: 5 });
    engine.tell(Notice::Heartbeat { id, task, attempt: 2, detail: "row 7".into() });
    for expected in [
        json!({ "task": "t", "attempt": 1, "state": "failed", "code": "BUSY", "message": "later", "retry_in_ms": 5 }),
        json!({ "task": "t", "attempt": 2, "state": "heartbeat", "detail": "row 7" }),
    ] {
        let text = next(&mut body).await.expect("an event");
        let data = text.strip_prefix("event: attempt\ndata: ").expect("an attempt, without an id");
        assert_eq!(serde_json::from_str::<Value>(data).expect("JSON"), expected);
    }
    state.lifecycle.stop();
    assert_eq!(next(&mut body).await, None);
    let (status, _, _) = open(&state, "open", None).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "no stream begins on a host that stops");
}

#[tokio::test]
async fn a_reader_that_missed_notices_misses_no_event() {
    let (state, engine) = state(limits());
    engine.grow();
    let (_, _, mut body) = open(&state, "open", None).await;
    assert!(next(&mut body).await.is_some());
    // Far more than the channel of notices holds.
    for _ in 0..600 {
        recorded(&engine);
    }
    for seq in 2..=601 {
        let text = next(&mut body).await.expect("an event");
        assert!(text.starts_with(&format!("id: {seq}\n")), "{seq}: {text}");
    }
}

#[tokio::test]
async fn an_idle_stream_shows_that_it_is_alive() {
    let (state, _engine) = state(Limits { stream_idle: Duration::from_millis(20), ..limits() });
    let (_, _, mut body) = open(&state, "open", None).await;
    for _ in 0..3 {
        assert_eq!(next(&mut body).await.as_deref(), Some(": idle\n\n"));
    }
}

#[tokio::test]
async fn streams_are_bounded_and_a_reader_that_takes_nothing_is_let_go() {
    let (state, engine) = state(Limits { stream_stall: Duration::from_millis(200), ..limits() });
    for _ in 0..100 {
        engine.grow();
    }
    // One router, as a host has, because it holds the places.
    let router = router(state);
    let ask = || async {
        let request = Request::get("/api/v0/executions/open/events").body(Body::empty()).expect("a request");
        router.clone().oneshot(request).await.expect("infallible")
    };
    let first = ask().await;
    assert_eq!(first.status(), StatusCode::OK);
    let second = ask().await;
    assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
    let body = second.into_body().collect().await.expect("a body").to_bytes();
    let problem: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!((&problem["code"], &problem["limit"]), (&json!("OVERLOADED"), &json!("streams")), "{problem}");
    let begun = std::time::Instant::now();
    while ask().await.status() != StatusCode::OK {
        assert!(begun.elapsed() < Duration::from_mins(1), "the place of the first reader was never given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(first);
}

#[tokio::test]
async fn what_cannot_be_followed_is_a_problem() {
    let (state, _engine) = state(limits());
    for (id, last, status) in
        [("nobody", None, StatusCode::NOT_FOUND), ("exec-1", Some("latest"), StatusCode::BAD_REQUEST)]
    {
        let (found, kind, body) = open(&state, id, last).await;
        assert_eq!((found, kind.as_str()), (status, "application/problem+json"), "{id}");
        assert!(all(body).await.contains("\"code\""));
    }
}
