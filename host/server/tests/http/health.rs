//! Health of a host that rests on others, and rates of its clients.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Request, StatusCode};
use compozy_engine::services::{ServiceHealth, ServiceState, WorkerHealth};
use compozy_server::rate::ClientAddress;
use compozy_server::{LocalRates, RateLimit, router};
use serde_json::json;

use crate::api::{JSON, START, call, get, post, small};
use crate::support::state;

fn temporal(state: ServiceState) -> ServiceHealth {
    ServiceHealth {
        service: "Temporal server".to_owned(),
        address: "127.0.0.1:7233".to_owned(),
        state,
        since_ms: 5,
        detail: (state == ServiceState::Down).then(|| "connection refused".to_owned()),
        needed_by: vec!["engine".to_owned()],
    }
}

#[tokio::test]
async fn a_lost_service_degrades_and_is_named_with_since_when() {
    let (state, engine) = state(small());
    let router = router(state);
    *engine.services.lock().expect("free") = vec![temporal(ServiceState::Up)];
    let body = call(&router, get("/api/v0/health")).await.2;
    assert_eq!((&body["status"], &body["ready"]), (&json!("ok"), &json!(true)), "{body}");
    *engine.services.lock().expect("free") = vec![temporal(ServiceState::Down)];
    let body = call(&router, get("/api/v0/health")).await.2;
    assert_eq!((&body["status"], &body["ready"]), (&json!("degraded"), &json!(true)), "{body}");
    let seen = &body["services"][0];
    assert_eq!((&seen["state"], &seen["since_ms"]), (&json!("down"), &json!(5)), "{body}");
    assert_eq!(body["trouble"], "the Temporal server at `127.0.0.1:7233` does not answer: connection refused");
    assert_eq!(call(&router, get("/readyz")).await.0, StatusCode::OK, "the engine still takes work");
    // Without it the engine can write no more.
    for _ in 0..3 {
        call(&router, post(START, JSON, "{}")).await;
    }
    let (status, headers, body) = call(&router, get("/readyz")).await;
    assert_eq!((status.as_u16(), &body["code"]), (503, &json!("BACKEND_UNAVAILABLE")), "{body}");
    assert!(
        headers.contains_key("retry-after") && body["detail"].as_str().is_some_and(|d| d.contains("7233")),
        "{body}"
    );
}

#[tokio::test]
async fn without_a_worker_the_host_is_not_ready() {
    let (state, engine) = state(small());
    let router = router(state);
    let worker = |queue: &str, present| WorkerHealth {
        role: "tool-worker".to_owned(),
        queue: queue.to_owned(),
        present,
        since_ms: 1,
    };
    *engine.workers.lock().expect("free") = vec![worker("p-weather", true)];
    assert_eq!(call(&router, get("/readyz")).await.0, StatusCode::OK);
    *engine.workers.lock().expect("free") = vec![worker("p-weather", true), worker("p-files", false)];
    let (status, headers, body) = call(&router, get("/readyz")).await;
    assert_eq!((status.as_u16(), &body["code"]), (503, &json!("WORKER_UNAVAILABLE")), "{body}");
    assert_eq!((&body["queue"], headers.contains_key("retry-after")), (&json!("p-files"), true), "{body}");
    let body = call(&router, get("/api/v0/health")).await.2;
    assert_eq!((&body["status"], &body["workers"][1]["present"]), (&json!("degraded"), &json!(false)), "{body}");
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_when_to_come_back() {
    let (mut state, _) = state(small());
    let limit = RateLimit::new(NonZeroU32::new(2).expect("not zero"), Duration::from_secs(20));
    state.rates = Some(Arc::new(LocalRates::new(limit)));
    let router = router(state);
    let from = |address: &str, path: &str| {
        let mut request: Request<_> = get(path);
        request.extensions_mut().insert(ClientAddress(address.parse().expect("an address")));
        request
    };
    for _ in 0..2 {
        assert_eq!(call(&router, from("10.0.0.1", "/api/v0/workflows")).await.0, StatusCode::OK);
    }
    for path in ["/api/v0/workflows", "/api/v0/executions/open/events", "/api/v0/executions/nope"] {
        let (status, headers, body) = call(&router, from("10.0.0.1", path)).await;
        assert_eq!((status.as_u16(), &body["code"]), (429, &json!("RATE_LIMITED")), "{path}: {body}");
        assert_eq!(headers["content-type"], "application/problem+json");
        let seconds: u64 = headers["retry-after"].to_str().expect("ASCII").parse().expect("a number");
        assert!((1..=10).contains(&seconds), "{seconds}");
        assert_eq!(
            (&body["limit"], &body["allowed"], &body["per_ms"]),
            (&json!("rate_limit"), &json!(2), &json!(20_000))
        );
        let detail = body["detail"].as_str().unwrap_or_default();
        assert!(detail.contains("10.0.0.1 may send 2 requests per 20000 ms"), "{detail}");
    }
    for path in ["/livez", "/readyz", "/api/v0/health"] {
        assert_eq!(call(&router, from("10.0.0.1", path)).await.0, StatusCode::OK, "{path}");
    }
    assert_eq!(call(&router, from("10.0.0.2", "/api/v0/workflows")).await.0, StatusCode::OK, "another client");
}
