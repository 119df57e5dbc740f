//! How the host feels, for people and for whatever restarts it.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::health::{self, Health};
use crate::problem::Problem;
use crate::state::AppState;

/// `GET /api/v0/health`: what is active. Always 200 while the process answers; `status` says how it feels.
pub(super) async fn health(State(state): State<AppState>) -> Json<Health> {
    Json(Health::of(&state))
}

/// `GET /livez`: the process answers.
pub(super) async fn live() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /readyz`: new work would be taken.
pub(super) async fn ready(State(state): State<AppState>) -> Result<Json<Value>, Problem> {
    health::ready(&state).map(|()| Json(json!({ "status": "ok" })))
}
