//! What the routes answer, request by request.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::support::state;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use compozy_server::limits::Limits;
use compozy_server::router;
use http_body_util::BodyExt;
use hyper::body::Frame;
use serde_json::{Value, json};
use tower::ServiceExt;

pub(crate) const START: &str = "/api/v0/workflows/weather/executions";
pub(crate) const JSON: &str = "application/json";

pub(crate) async fn call(router: &Router, request: Request<Body>) -> (StatusCode, HeaderMap, Value) {
    let (head, body) = router.clone().oneshot(request).await.expect("infallible").into_parts();
    let bytes = body.collect().await.expect("a body").to_bytes();
    let value = serde_json::from_slice(&bytes)
        .unwrap_or_else(|error| panic!("not JSON ({error}): {}", String::from_utf8_lossy(&bytes)));
    (head.status, head.headers, value)
}

pub(crate) fn post(path: &str, content_type: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::post(path);
    let request = if content_type.is_empty() { request } else { request.header("content-type", content_type) };
    request.body(body.into()).expect("a request")
}

pub(crate) fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).expect("a request")
}

/// A start with preferences.
fn waiting(prefer: &str) -> Request<Body> {
    let mut request = post(START, JSON, r#"{"input":{},"priority":2}"#);
    request.headers_mut().insert("prefer", prefer.parse().expect("a header"));
    request
}

pub(crate) fn small() -> Limits {
    Limits { body_bytes: 200, request: Duration::from_millis(300), ..Limits::default() }
}

#[tokio::test]
async fn a_start_is_accepted_with_its_location() {
    let (state, engine) = state(small());
    let router = router(state);
    for (content_type, body) in
        [(JSON, r#"{"input":{"city":"Lisbon"}}"#), ("application/vnd.acme+json; charset=utf-8", "{}"), ("", "")]
    {
        let (status, headers, body) = call(&router, post(START, content_type, body)).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        let url = format!("/api/v0/executions/exec-{}", engine.starts());
        assert_eq!(headers["location"], url.as_str());
        assert_eq!(
            body,
            json!({ "exec_id": format!("exec-{}", engine.starts()), "exec_url": url, "workflow_id": "weather" })
        );
    }
}

#[tokio::test]
async fn a_start_that_waits_gets_the_result_and_a_preference_that_means_nothing_is_ignored() {
    let (state, engine) = state(small());
    let router = router(state);
    for (prefer, waits) in [("respond-async, wait=5", true), ("WAIT=\"1\"", true), ("return=minimal", false)] {
        let (status, headers, body) = call(&router, waiting(prefer)).await;
        let exec_id = format!("exec-{}", engine.starts());
        assert_eq!(headers["location"], format!("/api/v0/executions/{exec_id}").as_str());
        assert_eq!((status.as_u16(), &body["exec_id"]), (if waits { 200 } else { 202 }, &json!(exec_id)), "{prefer}");
        let result = waits.then(|| json!(["SUCCESS", {"answer": 42}, null]));
        let found = waits.then(|| json!([body["status"], body["output"], body["failure"]]));
        assert_eq!(found, result, "{prefer}");
        assert_eq!(engine.last_priority(), Some(2));
    }
}

/// Every refusal: what is sent, and the status, code and part of the detail that come back.
#[tokio::test]
async fn refusals_are_problem_documents() {
    let big = format!(r#"{{"input":"{}"}}"#, "x".repeat(300));
    let input = |text: &str| format!(r#"{{"input":{{"engine":"{text}"}}}}"#);
    let cases: Vec<(Request<Body>, u16, &str, &str)> = vec![
        (post(START, JSON, r#"{"input": {,}"#), 400, "INVALID_JSON", "column 12"),
        (post(START, JSON, ""), 400, "INVALID_JSON", "line 1"),
        (post(START, JSON, vec![b'"', 0xff, b'"']), 400, "INVALID_JSON", "the body is not JSON"),
        (post(START, JSON, "[".repeat(150)), 400, "INVALID_JSON", "recursion limit"),
        (post(START, JSON, "[1]"), 400, "INVALID_REQUEST", "not an array"),
        (post(START, JSON, r#"{"inptu":{}}"#), 400, "INVALID_REQUEST", "did you mean `input`?"),
        (post(START, JSON, input("invalid")), 400, "INVALID_INPUT", "`/city`"),
        (post(START, JSON, r#"{"priority":6}"#), 400, "INVALID_REQUEST", "1 (first) to 5 (last) but is `6`"),
        (waiting("wait=21"), 400, "INVALID_REQUEST", "`Prefer: wait=21` must be 1 to 20 seconds"),
        (post(START, "text/plain", "{}"), 415, "UNSUPPORTED_MEDIA_TYPE", "`text/plain`"),
        (post(START, "", "{}"), 415, "UNSUPPORTED_MEDIA_TYPE", "no `Content-Type`"),
        (post(START, JSON, big), 413, "PAYLOAD_TOO_LARGE", "200 bytes"),
        (post("/api/v0/workflows/wether/executions", JSON, "{}"), 404, "WORKFLOW_NOT_FOUND", "did you mean `weather`?"),
        (post("/api/v0/workflows/%ff/executions", JSON, "{}"), 400, "INVALID_REQUEST", "UTF-8"),
        (get("/api/v0/executions/nope"), 404, "EXECUTION_NOT_FOUND", "`nope`"),
        (get("/api/v0/executions/nope/journal"), 404, "EXECUTION_NOT_FOUND", "`nope`"),
        (get("/api/v0/executions?limit=0"), 400, "INVALID_REQUEST", "1 to 1000"),
        (get("/api/v0/executions?limit=x"), 400, "INVALID_REQUEST", "limit"),
        (get("/api/v0/executions"), 501, "NOT_SUPPORTED", "cannot list executions"),
        (get("/nope"), 404, "ROUTE_NOT_FOUND", "`/nope`"),
        (get(START), 405, "METHOD_NOT_ALLOWED", "`GET`"),
        (post(START, JSON, input("reused")), 409, "IDEMPOTENCY_KEY_REUSED", "first"),
        (post(START, JSON, input("panic")), 500, "INTERNAL", "defect"),
        (post(START, JSON, input("defect")), 500, "INTERNAL", "defect"),
        (post(START, JSON, input("disk")), 503, "STORAGE_UNAVAILABLE", "disk full"),
        (post(START, JSON, input("worker")), 503, "WORKER_UNAVAILABLE", "`weather-tools`"),
        (post(START, JSON, input("backend")), 503, "BACKEND_UNAVAILABLE", "`127.0.0.1:7233`"),
        (post(START, JSON, input("full")), 503, "QUEUE_FULL", "at most 2 requests"),
        (post(START, JSON, input("hang")), 503, "ANSWER_TIMEOUT", "0.3 s"),
    ];
    let (state, engine) = state(small());
    let router = router(state);
    for (request, status, code, detail) in cases {
        let what = format!("{} {} -> {code}", request.method(), request.uri());
        let path = request.uri().path().to_owned();
        let (found, headers, body) = call(&router, request).await;
        assert_eq!(found.as_u16(), status, "{what}: {body}");
        assert_eq!(headers["content-type"], "application/problem+json", "{what}");
        assert_eq!(headers.contains_key("retry-after"), status == 503, "{what}");
        assert_eq!(
            (&body["code"], &body["status"], &body["instance"]),
            (&json!(code), &json!(status), &json!(path)),
            "{what}"
        );
        assert!(body["detail"].as_str().is_some_and(|text| text.contains(detail)), "{what}: {body}");
        assert!(!body.to_string().contains("secret"), "{what}: {body}");
    }
    assert_eq!(engine.starts(), 0, "a refused request starts nothing");
}

#[tokio::test]
async fn problems_carry_facts_for_machines() {
    let (state, _) = state(small());
    let router = router(state);
    let (_, _, body) = call(&router, post(START, JSON, "{\n  \"input\": oops}")).await;
    assert_eq!((&body["line"], &body["column"]), (&json!(2), &json!(12)), "{body}");
    let (_, _, body) = call(&router, post(START, JSON, r#"{"input":{"engine":"invalid"}}"#)).await;
    assert_eq!(body["violations"], json!([{ "path": "/input/city", "message": "is missing" }]));
    let (_, headers, _) = call(&router, post(START, JSON, r#"{"input":{"engine":"full"}}"#)).await;
    assert_eq!(headers["retry-after"], "2", "1.5 s, rounded up");
    let (_, headers, _) = call(&router, get(START)).await;
    assert_eq!(headers["allow"], "POST");
    // A chunked body says nothing of its size before it arrives.
    let chunked = Body::new(Chunks(8));
    let (status, _, body) = call(&router, post(START, JSON, chunked)).await;
    assert_eq!((status.as_u16(), &body["allowed"]), (413, &json!(200)), "{body}");
}

/// So many chunks of 100 bytes.
struct Chunks(u32);

impl hyper::body::Body for Chunks {
    type Data = axum::body::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.0 = self.0.saturating_sub(1);
        let frame = (self.0 > 0).then(|| Ok(Frame::data(Self::Data::from_static(&[b' '; 100]))));
        Poll::Ready(frame)
    }
}

#[tokio::test]
async fn idempotency_keys_reach_the_engine_in_either_spelling() {
    let (state, engine) = state(small());
    let router = router(state);
    let with = |headers: &[(&str, &str)]| {
        let mut request = post(START, JSON, "{}");
        for (name, value) in headers {
            let name: axum::http::HeaderName = name.parse().expect("a name");
            request.headers_mut().append(name, value.parse().expect("a value"));
        }
        request
    };
    for headers in [
        &[("idempotency-key", "a")][..],
        &[("x-idempotency-key", "b")],
        &[("idempotency-key", "c"), ("x-idempotency-key", "c")],
    ] {
        let (status, _, body) = call(&router, with(headers)).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    }
    assert_eq!(engine.keys(), ["a", "b", "c"].map(|key| Some(key.to_owned())));
    let (status, _, body) = call(&router, with(&[("idempotency-key", "a"), ("x-idempotency-key", "b")])).await;
    assert_eq!((status, &body["code"]), (StatusCode::BAD_REQUEST, &json!("INVALID_REQUEST")), "{body}");
    assert_eq!(engine.starts(), 3);
}

#[tokio::test]
async fn an_execution_shows_what_ran_it() {
    let (state, _) = state(small());
    let router = router(state);
    let (status, _, body) = call(&router, get("/api/v0/executions/exec-1")).await;
    assert_eq!(status, StatusCode::OK);
    let expected = json!({
        "exec_id": "exec-1", "workflow_id": "weather", "definition": "d1g357",
        "plugins": { "oracle": "abc" }, "status": "SUCCESS",
        "started_at": "1970-01-01T00:00:00.000Z", "ended_at": "1970-01-01T00:00:01.042Z",
        "input": null, "output": { "answer": 42 }, "failure": null,
        "tasks": [{
            "task": "ask", "id": "ask", "type": "basic", "status": "SUCCESS",
            "plugin": { "name": "oracle", "version": "1.2.3", "digest": "abc" }, "attempts": 2,
            "started_at": "1970-01-01T00:00:00.007Z", "ended_at": "1970-01-01T00:00:01.007Z",
            "fuel": 5, "wall_us": 6, "with": { "q": 1 }, "output": 42,
        }],
        "events": 3,
    });
    assert_eq!(body, expected);
    let (_, _, body) = call(&router, get("/api/v0/executions/exec-1/journal")).await;
    assert_eq!(body["records"][0]["event"]["kind"], "started", "{body}");
    let (_, _, body) = call(&router, get("/api/v0/workflows")).await;
    let ids: Vec<_> = body["workflows"].as_array().expect("a list").iter().map(|w| w["id"].clone()).collect();
    assert_eq!(ids, ["files", "weather"]);
}

#[tokio::test]
async fn health_tells_degraded_and_stopping() {
    let (state, _) = state(small());
    let lifecycle = state.lifecycle.clone();
    let router = router(state);
    let (status, _, body) = call(&router, get("/api/v0/health")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["status"], "ok", "{body}");
    assert_eq!(
        (&body["mode"], &body["stores"]["cache"]["circuit"]),
        (&json!("standalone"), &json!("closed")),
        "{body}"
    );
    assert_eq!(call(&router, get("/readyz")).await.0, StatusCode::OK);
    // The fake engine is not writable any more after three starts.
    for _ in 0..3 {
        call(&router, post(START, JSON, "{}")).await;
    }
    assert_eq!(call(&router, get("/api/v0/health")).await.2["status"], "degraded");
    assert_eq!(call(&router, get("/readyz")).await.2["code"], "STORAGE_UNAVAILABLE");
    lifecycle.stop();
    assert_eq!(call(&router, get("/api/v0/health")).await.2["status"], "stopping");
    assert_eq!(call(&router, get("/readyz")).await.2["code"], "STOPPING");
    assert_eq!(call(&router, post(START, JSON, "{}")).await.2["code"], "STOPPING");
    assert_eq!(call(&router, get("/livez")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn requests_beyond_the_limit_are_refused_while_health_answers() {
    let limits = Limits { requests: 1, request: Duration::from_mins(10), ..Limits::default() };
    let (state, _) = state(limits);
    let router = router(state);
    let hanging = tokio::spawn({
        let router = router.clone();
        async move { call(&router, post(START, JSON, r#"{"input":{"engine":"hang"}}"#)).await }
    });
    // Until the first request holds the only place, others are still served.
    let refused = loop {
        let (status, _, body) = call(&router, get("/api/v0/workflows")).await;
        if status != StatusCode::OK {
            break (status, body);
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((refused.0.as_u16(), &refused.1["code"]), (503, &json!("OVERLOADED")), "{refused:?}");
    assert_eq!((&refused.1["limit"], &refused.1["allowed"]), (&json!("requests"), &json!(1)));
    assert_eq!(call(&router, get("/api/v0/health")).await.0, StatusCode::OK);
    hanging.abort();
    let _ = hanging.await;
    assert_eq!(call(&router, get("/api/v0/workflows")).await.0, StatusCode::OK, "the place is free again");
}

#[tokio::test]
async fn what_is_away_says_when_to_try_again() {
    let router = router(state(small()).0);
    for (engine, fact, value) in [("worker", "queue", "weather-tools"), ("backend", "backend", "Temporal server")] {
        let body = format!(r#"{{"input":{{"engine":"{engine}"}}}}"#);
        let (status, headers, body) = call(&router, post(START, JSON, body)).await;
        assert_eq!((status.as_u16(), &headers["retry-after"]), (503, &"7".parse().expect("a value")), "{body}");
        assert_eq!(body[fact], value, "{body}");
    }
}
