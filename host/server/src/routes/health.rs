//! How the host feels, for people and for whatever restarts it.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Value, json};

use crate::problem::{Code, Problem};
use crate::state::{AppState, HostHealth};

#[derive(Serialize)]
pub(super) struct Health {
    status: &'static str,
    version: &'static str,
    mode: &'static str,
    engine: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
    workflows: usize,
    stores: BTreeMap<String, Value>,
    plugins: Vec<Value>,
}

/// `GET /api/v0/health`: what is active. Always 200 while the process answers; `status` says how it feels.
pub(super) async fn health(State(state): State<AppState>) -> Json<Health> {
    let engine = state.engine.health();
    let HostHealth { mode, stores, trouble, plugins } = state.host.health();
    let status = match (state.lifecycle.is_stopping(), engine.writable && trouble.is_none()) {
        (true, _) => "stopping",
        (false, true) => "ok",
        (false, false) => "degraded",
    };
    let engine = serde_json::to_value(&engine).unwrap_or(Value::Null);
    let workflows = state.workflows.len();
    Json(Health { status, version: env!("CARGO_PKG_VERSION"), mode, engine, trouble, workflows, stores, plugins })
}

/// `GET /livez`: the process answers.
pub(super) async fn live() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /readyz`: new work would be taken.
pub(super) async fn ready(State(state): State<AppState>) -> Result<Json<Value>, Problem> {
    if state.lifecycle.is_stopping() {
        return Err(Problem::new(Code::Stopping, "the host takes no new work"));
    }
    let engine = state.engine.health();
    if !engine.writable {
        return Err(Problem::new(Code::StorageUnavailable, engine.detail));
    }
    Ok(Json(json!({ "status": "ok" })))
}
