//! What is done to an execution: signals, pause, resume, cancel, terminate, retry, reset. Doing it twice is doing it once.

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Request};
use compozy_engine::limits::CANCEL_GRACE_MS_DEFAULT;
use compozy_engine::port::{Control, ExecutionId};
use compozy_interpreter::{Signal, TaskKey};
use serde_json::{Map, Value, json};

use super::engine_error::problem_of;
use super::executions::{idempotency_key, kind_of, path_text};
use crate::body::read_json;
use crate::problem::{Code, Problem, suggest};
use crate::state::AppState;

type Id = Result<Path<String>, PathRejection>;
type Answer = Result<Json<Value>, Problem>;

/// `POST /api/v0/executions/{id}/signals` with `{"signal_name", "payload", "signal_id"}`. The signal's id is
/// `signal_id` or the header `Idempotency-Key`; a second signal of the same id has no effect.
pub(super) async fn signal(
    State(state): State<AppState>,
    id: Id,
    headers: HeaderMap,
    request: Request<Body>,
) -> Answer {
    let mut fields = fields(&state, request, &["signal_name", "payload", "signal_id"]).await?;
    let name = required(&mut fields, "signal_name")?;
    let key = match text(&mut fields, "signal_id")? {
        Some(key) => Some(key),
        None => idempotency_key(&headers)?,
    };
    let payload = fields.remove("payload").unwrap_or(Value::Null);
    // Without an id the engine gives it one.
    let signal = Signal { name, payload, id: key.unwrap_or_default(), source: "api".to_owned() };
    control(&state, id, Control::Signal(signal)).await
}

/// `POST /api/v0/executions/{id}/pause` with `{"reason"}`.
pub(super) async fn pause(State(state): State<AppState>, id: Id, request: Request<Body>) -> Answer {
    let reason = reason(&mut fields(&state, request, &["reason"]).await?)?;
    control(&state, id, Control::Pause { reason }).await
}

/// `POST /api/v0/executions/{id}/resume`.
pub(super) async fn resume(State(state): State<AppState>, id: Id, request: Request<Body>) -> Answer {
    fields(&state, request, &[]).await?;
    control(&state, id, Control::Resume).await
}

/// `POST /api/v0/executions/{id}/cancel` with `{"reason", "grace_ms"}`.
pub(super) async fn cancel(State(state): State<AppState>, id: Id, request: Request<Body>) -> Answer {
    let mut fields = fields(&state, request, &["reason", "grace_ms"]).await?;
    let grace_ms = match fields.remove("grace_ms") {
        None | Some(Value::Null) => CANCEL_GRACE_MS_DEFAULT,
        Some(value) => value.as_u64().ok_or_else(|| {
            let detail = format!("`grace_ms` must be a number of milliseconds, not {}", kind_of(&value));
            Problem::new(Code::InvalidRequest, detail)
        })?,
    };
    let reason = reason(&mut fields)?;
    control(&state, id, Control::Cancel { reason, grace_ms }).await
}

/// `POST /api/v0/executions/{id}/terminate` with `{"reason"}`.
pub(super) async fn terminate(State(state): State<AppState>, id: Id, request: Request<Body>) -> Answer {
    let reason = reason(&mut fields(&state, request, &["reason"]).await?)?;
    control(&state, id, Control::Terminate { reason }).await
}

/// `POST /api/v0/executions/{id}/retry`.
pub(super) async fn retry(State(state): State<AppState>, id: Id, request: Request<Body>) -> Answer {
    fields(&state, request, &[]).await?;
    control(&state, id, Control::Retry).await
}

/// `POST /api/v0/executions/{id}/reset` with `{"task"}`, a task's key.
pub(super) async fn reset(State(state): State<AppState>, id: Id, request: Request<Body>) -> Answer {
    let mut fields = fields(&state, request, &["task"]).await?;
    let task = TaskKey(required(&mut fields, "task")?);
    control(&state, id, Control::Reset { task }).await
}

/// `GET /api/v0/executions/{id}/verify`: takes the execution through its journal again.
pub(super) async fn verify(State(state): State<AppState>, id: Id) -> Answer {
    let id = ExecutionId(path_text(id)?);
    let difference = state.engine.verify(&id).await.map_err(|error| problem_of(&error))?;
    let text = difference.as_ref().map(ToString::to_string);
    Ok(Json(json!({ "exec_id": id, "verified": difference.is_none(), "message": text, "difference": difference })))
}

/// `POST /api/v0/executions/prune` with `{"ended_before_ms"}`: removes what ended before that time.
pub(super) async fn prune(State(state): State<AppState>, request: Request<Body>) -> Answer {
    let mut fields = fields(&state, request, &["ended_before_ms"]).await?;
    let before = fields.remove("ended_before_ms").unwrap_or(Value::Null);
    let before = before.as_u64().ok_or_else(|| {
        let detail = format!("`ended_before_ms` must be milliseconds since 1970, not {}", kind_of(&before));
        Problem::new(Code::InvalidRequest, detail)
    })?;
    let removed = state.engine.prune(before).await.map_err(|error| problem_of(&error))?;
    Ok(Json(json!({ "operation": "prune", "removed": removed })))
}

async fn control(state: &AppState, id: Id, control: Control) -> Answer {
    let id = ExecutionId(path_text(id)?);
    let operation = control.name();
    state.engine.control(&id, control).await.map_err(|error| problem_of(&error))?;
    Ok(Json(json!({ "exec_id": id, "operation": operation })))
}

/// The body's fields; none when there is no body. An unknown key is most likely a slip, so it is refused.
async fn fields(state: &AppState, request: Request<Body>, known: &[&str]) -> Result<Map<String, Value>, Problem> {
    let fields = match read_json(request, &state.limits).await? {
        None => Map::new(),
        Some(Value::Object(fields)) => fields,
        Some(other) => {
            let detail = format!("the body must be an object, not {}", kind_of(&other));
            return Err(Problem::new(Code::InvalidRequest, detail));
        }
    };
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(fields),
        Some(key) => {
            let near = suggest(key, known.iter().copied());
            Err(Problem::new(Code::InvalidRequest, format!("the body has the unknown key `{key}`{near}")))
        }
    }
}

fn text(fields: &mut Map<String, Value>, name: &str) -> Result<Option<String>, Problem> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => {
            let detail = format!("`{name}` must be a string, not {}", kind_of(&other));
            Err(Problem::new(Code::InvalidRequest, detail))
        }
    }
}

fn required(fields: &mut Map<String, Value>, name: &str) -> Result<String, Problem> {
    text(fields, name)?.ok_or_else(|| Problem::new(Code::InvalidRequest, format!("the body has no `{name}`")))
}

fn reason(fields: &mut Map<String, Value>) -> Result<String, Problem> {
    Ok(text(fields, "reason")?.unwrap_or_else(|| "asked for over HTTP".to_owned()))
}
