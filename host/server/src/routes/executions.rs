//! Executions: start one, look at one.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use compozy_engine::EngineError;
use compozy_engine::limits::LIST_MAX;
use compozy_engine::port::{ExecutionId, Filter, Outcome, StartRequest};
use compozy_interpreter::Status;
use compozy_plan::dispatch::{PRIORITY_FIRST, PRIORITY_LAST};
use serde::Deserialize;
use serde_json::{Value, json};

use super::API;
use super::engine_error::problem_of;
use crate::body::read_json;
use crate::limits::{LIST_DEFAULT, RESULT_WAIT_MAX};
use crate::problem::{Code, Problem, suggest};
use crate::state::AppState;
use crate::view;

/// `POST /api/v0/workflows/{id}/executions` with `{"input": ..., "priority": 1 to 5}`, both optional: answers 202 once the start is durable.
///
/// With `Prefer: wait=SECONDS` (RFC 7240): answers 200 with the result if it is there by then, at most after
/// [`RESULT_WAIT_MAX`].
pub(super) async fn start(
    State(state): State<AppState>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let id = path_text(id)?;
    if state.lifecycle.is_stopping() {
        return Err(Problem::new(Code::Stopping, "the host is stopping and takes no new executions"));
    }
    let Some(plan) = state.workflows.get(&id) else {
        let detail = format!("there is no workflow `{id}`{}", suggest(&id, state.workflows.ids()));
        return Err(Problem::new(Code::WorkflowNotFound, detail));
    };
    let idempotency_key = idempotency_key(&headers)?;
    let (input, priority) = input_of(read_json(request, &state.limits).await?)?;
    let start = StartRequest { plan: plan.clone(), input, idempotency_key, priority };
    let (started, outcome) = match result_wait(&headers)? {
        None => (state.engine.start(start).await.map_err(|error| problem_of(&error))?, None),
        Some(wait) => state.engine.run(start, wait).await.map_err(|error| problem_of(&error))?,
    };
    let location = format!("{API}/executions/{started}");
    if let Some(outcome) = outcome {
        let Outcome { status, output, failure } = &*outcome;
        let body = json!({
            "exec_id": started.0, "exec_url": location, "workflow_id": id,
            "status": status, "output": output, "failure": failure,
        });
        return Ok((StatusCode::OK, [(header::LOCATION, location)], Json(body)).into_response());
    }
    let body = json!({ "exec_id": started.0, "exec_url": location, "workflow_id": id });
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(body)).into_response())
}

/// `GET /api/v0/executions/{id}`: as it stands.
pub(super) async fn show(
    State(state): State<AppState>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let id = ExecutionId(path_text(id)?);
    let found = state.engine.execution(&id).await.map_err(|error| problem_of(&error))?;
    let execution = found.ok_or_else(|| no_execution(&id))?;
    Ok(Json(view::execution(&execution)).into_response())
}

/// `GET /api/v0/executions/{id}/journal`: every recorded event, to see what happened.
pub(super) async fn journal(
    State(state): State<AppState>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    let id = ExecutionId(path_text(id)?);
    let records = match state.engine.journal(&id).await {
        Ok(records) => records,
        Err(EngineError::ExecutionNotFound { .. }) => return Err(no_execution(&id)),
        Err(error) => return Err(problem_of(&error)),
    };
    Ok(Json(json!({ "exec_id": id, "records": records })))
}

/// `GET /api/v0/executions/{id}/blobs/{sha256}`: a large value that the execution refers to, as JSON.
pub(super) async fn blob(
    State(state): State<AppState>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, Problem> {
    let Path((id, digest)) = path.map_err(|error| Problem::new(Code::InvalidRequest, error.body_text()))?;
    let id = ExecutionId(id);
    let found = match state.engine.blob(&id, &digest).await {
        Ok(found) => found,
        Err(EngineError::ExecutionNotFound { .. }) => return Err(no_execution(&id)),
        Err(error) => return Err(problem_of(&error)),
    };
    let missing = || Problem::new(Code::BlobNotFound, format!("execution `{id}` refers to no value `{digest}`"));
    let json = found.ok_or_else(missing)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

/// `GET /api/v0/executions/{id}/export`: all that is recorded of it, enough to verify it elsewhere.
pub(super) async fn export(
    State(state): State<AppState>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let id = ExecutionId(path_text(id)?);
    let history = state.engine.export(&id).await.map_err(|error| problem_of(&error))?;
    Ok(Json(history).into_response())
}

/// What part of the list is wanted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    limit: Option<usize>,
    before: Option<String>,
    status: Option<Status>,
    workflow: Option<String>,
    started_from_ms: Option<u64>,
    started_before_ms: Option<u64>,
}

/// `GET /api/v0/executions?limit=&before=&status=&workflow=&started_from_ms=&started_before_ms=`: the newest first;
/// `next` is the `before` of the next page. Times are in milliseconds since 1970.
pub(super) async fn list(
    State(state): State<AppState>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(|error| Problem::new(Code::InvalidRequest, error.body_text()))?;
    let limit = query.limit.unwrap_or(LIST_DEFAULT);
    if !(1..=LIST_MAX).contains(&limit) {
        let detail = format!("`limit` is {limit}, it must be 1 to {LIST_MAX} executions");
        return Err(Problem::new(Code::InvalidRequest, detail));
    }
    let before = query.before.map(ExecutionId);
    let filter = Filter {
        status: query.status,
        workflow: query.workflow,
        started_from_ms: query.started_from_ms,
        started_before_ms: query.started_before_ms,
    };
    let found = state.engine.search(&filter, limit, before.as_ref()).await.map_err(|error| problem_of(&error))?;
    let next = (found.len() == limit).then(|| found.last().map(|last| last.id.clone())).flatten();
    let executions: Vec<_> = found.iter().map(view::summary).collect();
    Ok(Json(json!({ "executions": executions, "next": next })))
}

fn no_execution(id: &ExecutionId) -> Problem {
    Problem::new(Code::ExecutionNotFound, format!("there is no execution `{id}` in this host's journal"))
}

pub(super) fn path_text(path: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    let invalid = |rejection: PathRejection| Problem::new(Code::InvalidRequest, rejection.body_text());
    path.map(|Path(text)| text).map_err(invalid)
}

/// The body's `input`; `{}` when it has none. Another key is most likely a slip, so it is refused.
fn input_of(body: Option<Value>) -> Result<(Value, Option<u8>), Problem> {
    const KNOWN: [&str; 2] = ["input", "priority"];
    let mut map = match body {
        None => return Ok((json!({}), None)),
        Some(Value::Object(map)) => map,
        Some(other) => {
            let detail = format!("the body must be an object like {{\"input\": {{...}}}}, not {}", kind_of(&other));
            return Err(Problem::new(Code::InvalidRequest, detail));
        }
    };
    let input = map.swap_remove("input").unwrap_or_else(|| json!({}));
    let priority = map.swap_remove("priority").map(|value| priority_of(&value)).transpose()?;
    if let Some(key) = map.keys().next() {
        let near = suggest(key, KNOWN.into_iter());
        return Err(Problem::new(Code::InvalidRequest, format!("the body has the unknown key `{key}`{near}")));
    }
    Ok((input, priority))
}

fn priority_of(value: &Value) -> Result<u8, Problem> {
    let priority = value.as_u64().and_then(|priority| u8::try_from(priority).ok());
    priority.filter(|priority| (PRIORITY_FIRST..=PRIORITY_LAST).contains(priority)).ok_or_else(|| {
        let range = format!("an integer from {PRIORITY_FIRST} (first) to {PRIORITY_LAST} (last)");
        Problem::new(Code::InvalidRequest, format!("`priority` must be {range} but is `{value}`"))
    })
}

pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// `Prefer: wait=SECONDS`. A preference that means nothing here is ignored, as the standard wants it.
fn result_wait(headers: &HeaderMap) -> Result<Option<Duration>, Problem> {
    let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    for preference in preferences.flat_map(|value| value.split([',', ';'])) {
        let Some((name, value)) = preference.split_once('=') else { continue };
        if !name.trim().eq_ignore_ascii_case("wait") {
            continue;
        }
        let max = RESULT_WAIT_MAX.as_secs();
        let seconds = value.trim().trim_matches('"').parse().ok().filter(|seconds| (1..=max).contains(seconds));
        let wrong = || format!("`Prefer: wait={}` must be 1 to {max} seconds", value.trim());
        return seconds
            .map(|seconds| Some(Duration::from_secs(seconds)))
            .ok_or_else(|| Problem::new(Code::InvalidRequest, wrong()));
    }
    Ok(None)
}

/// `Idempotency-Key`, or `X-Idempotency-Key` as older clients spell it. Its length is the engine's to check.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut found: Option<&str> = None;
    for name in ["idempotency-key", "x-idempotency-key"] {
        for value in headers.get_all(name) {
            let key = value.to_str().map_err(|_| {
                Problem::new(Code::InvalidRequest, format!("the header `{name}` must be visible ASCII characters"))
            })?;
            if let Some(first) = found.filter(|first| *first != key) {
                let detail = format!("two different idempotency keys were sent: `{first}` and `{key}`");
                return Err(Problem::new(Code::InvalidRequest, detail));
            }
            found = Some(key);
        }
    }
    Ok(found.map(str::to_owned))
}
