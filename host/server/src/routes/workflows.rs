//! The definitions that can be started.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::state::AppState;

/// `GET /api/v0/workflows`: in the order of their ids.
pub(super) async fn list(State(state): State<AppState>) -> Json<Value> {
    let workflows: Vec<Value> = state
        .workflows
        .iter()
        .map(|plan| {
            json!({
                "id": plan.workflow,
                "version": plan.version,
                "description": plan.description,
                "definition": plan.digest(),
                "tasks": plan.tasks.len(),
                "input": plan.input,
            })
        })
        .collect();
    Json(json!({ "workflows": workflows }))
}
