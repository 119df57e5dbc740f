//! What is done to an execution over HTTP.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use compozy_engine::port::Control;
use compozy_interpreter::{Signal, TaskKey};
use compozy_server::limits::Limits;
use compozy_server::router;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::state;

async fn call(router: &axum::Router, path: &str, key: Option<&str>, body: Option<Value>) -> (StatusCode, Value) {
    let mut request = Request::post(format!("/api/v0/executions/{path}"));
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let (head, body) =
        router.clone().oneshot(request.body(body).expect("a request")).await.expect("infallible").into_parts();
    let bytes = body.collect().await.expect("a body").to_bytes();
    (head.status, serde_json::from_slice(&bytes).expect("JSON"))
}

fn signal(id: &str, payload: Value) -> Control {
    Control::Signal(Signal { name: "go".into(), payload, id: id.into(), source: "api".into() })
}

#[tokio::test]
async fn every_operation_reaches_the_engine() {
    let cases = [
        (
            "signals",
            None,
            Some(json!({"signal_name": "go", "payload": {"n": 1}, "signal_id": "s1"})),
            signal("s1", json!({"n": 1})),
        ),
        ("signals", Some("k1"), Some(json!({"signal_name": "go"})), signal("k1", Value::Null)),
        ("signals", None, Some(json!({"signal_name": "go"})), signal("", Value::Null)),
        ("pause", None, Some(json!({"reason": "a look"})), Control::Pause { reason: "a look".into() }),
        ("cancel", None, None, Control::Cancel { reason: "asked for over HTTP".into(), grace_ms: 10_000 }),
        (
            "cancel",
            None,
            Some(json!({"grace_ms": 5, "reason": "r"})),
            Control::Cancel { reason: "r".into(), grace_ms: 5 },
        ),
        ("terminate", None, None, Control::Terminate { reason: "asked for over HTTP".into() }),
        ("retry", None, None, Control::Retry),
        ("reset", None, Some(json!({"task": "a[1]/b#2"})), Control::Reset { task: TaskKey("a[1]/b#2".into()) }),
    ];
    let (state, engine) = state(Limits::default());
    let router = router(state);
    let mut expected = Vec::new();
    for (path, key, body, control) in cases {
        let (status, answer) = call(&router, &format!("exec-1/{path}"), key, body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(answer, json!({ "exec_id": "exec-1", "operation": control.name() }));
        expected.push(control);
    }
    assert_eq!(engine.controls(), expected);
}

#[tokio::test]
async fn refusals_name_what_is_wrong() {
    let cases = [
        ("exec-1/signals", None, 400, "INVALID_REQUEST", "no `signal_name`"),
        ("exec-1/signals", Some(json!({"signal_name": 1})), 400, "INVALID_REQUEST", "a string, not a number"),
        ("exec-1/signals", Some(json!({"signal_name": "stop"})), 400, "SIGNAL_UNKNOWN", "it waits for `go`"),
        ("exec-1/cancel", Some(json!({"grace_ms": "5s"})), 400, "INVALID_REQUEST", "milliseconds, not a string"),
        ("exec-1/cancel", Some(json!({"reson": "x"})), 400, "INVALID_REQUEST", "did you mean `reason`?"),
        ("exec-1/pause", Some(json!([])), 400, "INVALID_REQUEST", "not an array"),
        ("exec-1/reset", Some(json!({})), 400, "INVALID_REQUEST", "no `task`"),
        ("exec-1/resume", None, 409, "EXECUTION_ENDED", "is FAILED"),
        ("prune", Some(json!({"ended_before_ms": "x"})), 400, "INVALID_REQUEST", "not a string"),
        ("prune", Some(json!({"ended_before_ms": 5})), 501, "NOT_SUPPORTED", "remove executions"),
        ("nope/retry", None, 404, "EXECUTION_NOT_FOUND", "`nope`"),
    ];
    let (state, engine) = state(Limits::default());
    let router = router(state);
    for (path, body, status, code, part) in cases {
        let (found, problem) = call(&router, path, None, body).await;
        assert_eq!((found.as_u16(), &problem["code"]), (status, &json!(code)), "{path}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(part)), "{problem}");
    }
    assert_eq!(engine.controls(), []);
}
