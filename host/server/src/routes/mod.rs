//! The table of routes.

mod control;
mod engine_error;
mod events;
mod executions;
mod health;
mod workflows;

use axum::Router;
use axum::http::{Method, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};

use crate::guard::{Bounds, bound, document_problems};
use crate::problem::{Code, Problem};
use crate::rate::limit_rate;
use crate::state::AppState;

/// Where the API begins.
pub const API: &str = "/api/v0";

/// Every route, inside its layers.
pub fn router(state: AppState) -> Router {
    let bounds = Bounds::new(state.limits.clone());
    let work = Router::new()
        .route("/api/v0/workflows", get(workflows::list))
        .route("/api/v0/workflows/{id}/executions", post(executions::start))
        .route("/api/v0/executions", get(executions::list))
        .route("/api/v0/executions/prune", post(control::prune))
        .route("/api/v0/executions/{id}", get(executions::show))
        .route("/api/v0/executions/{id}/journal", get(executions::journal))
        .route("/api/v0/executions/{id}/blobs/{sha256}", get(executions::blob))
        .route("/api/v0/executions/{id}/export", get(executions::export))
        .route("/api/v0/executions/{id}/verify", get(control::verify))
        .route("/api/v0/executions/{id}/signals", post(control::signal))
        .route("/api/v0/executions/{id}/pause", post(control::pause))
        .route("/api/v0/executions/{id}/resume", post(control::resume))
        .route("/api/v0/executions/{id}/cancel", post(control::cancel))
        .route("/api/v0/executions/{id}/terminate", post(control::terminate))
        .route("/api/v0/executions/{id}/retry", post(control::retry))
        .route("/api/v0/executions/{id}/reset", post(control::reset))
        .layer(from_fn_with_state(bounds, bound));
    // Whoever watches the host must get an answer when it is busy, so these are outside of the bounds.
    let watch = watch();
    // Those last longer than any request, and have places of their own.
    let streams = events::Streams::new(&state.limits);
    let follow =
        Router::new().route("/api/v0/executions/{id}/events", get(events::events)).with_state((state.clone(), streams));
    let rated = work.merge(follow).layer(from_fn_with_state(state.rates.clone(), limit_rate));
    rated
        .merge(watch)
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(document_problems))
        .with_state(state)
}

async fn unknown_route(uri: Uri) -> Problem {
    let detail = format!("`{}` is no route of this host; its routes begin with `{API}`", uri.path());
    Problem::new(Code::RouteNotFound, detail)
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("`{}` does not take `{method}`; the header `Allow` names what it takes", uri.path());
    Problem::new(Code::MethodNotAllowed, detail)
}

/// How the host feels, and nothing else: for a process that takes no requests.
pub fn watch_router(state: AppState) -> Router {
    watch()
        .fallback(no_api)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(document_problems))
        .with_state(state)
}

async fn no_api(uri: Uri) -> Problem {
    let detail = format!(
        "this process does not have the role `api`, so `{}` is no route of it; ask one that has, or start it with --role api",
        uri.path()
    );
    Problem::new(Code::RouteNotFound, detail)
}

fn watch() -> Router<AppState> {
    Router::new()
        .route("/api/v0/health", get(health::health))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
}
