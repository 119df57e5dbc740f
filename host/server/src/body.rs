//! Reads a request's body as JSON: bounded in bytes and in time, and with errors that say where.

use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use crate::limits::Limits;
use crate::problem::{Code, Problem};

/// The body as JSON; `None` when there is neither a body nor a content type.
pub(crate) async fn read_json(request: Request<Body>, limits: &Limits) -> Result<Option<Value>, Problem> {
    let (parts, body) = request.into_parts();
    refuse_declared_size(&parts.headers, limits.body_bytes)?;
    let typed = content_type_is_json(&parts.headers)?;
    let collected = tokio::time::timeout(limits.body_read, Limited::new(body, limits.body_bytes).collect()).await;
    let bytes = match collected {
        Err(_) => {
            let seconds = limits.body_read.as_secs_f64();
            let detail = format!("the body did not arrive within {seconds} s (limit `body_read`)");
            return Err(Problem::new(Code::RequestTimeout, detail));
        }
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large(limits.body_bytes, None)),
        Ok(Err(error)) => {
            return Err(Problem::new(Code::InvalidRequest, format!("the body could not be read: {error}")));
        }
        Ok(Ok(collected)) => collected.to_bytes(),
    };
    if bytes.is_empty() && !typed {
        return Ok(None);
    }
    if !typed {
        let detail = "the request has a body but no `Content-Type`; send `Content-Type: application/json`";
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        Problem::new(Code::InvalidJson, format!("the body is not JSON: {error}"))
            .with("line", error.line())
            .with("column", error.column())
    })
}

/// False when there is no content type.
fn content_type_is_json(headers: &HeaderMap) -> Result<bool, Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(false) };
    let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(true);
    }
    let detail = format!("the body is declared as `{text}`; send `Content-Type: application/json`");
    Err(Problem::new(Code::UnsupportedMediaType, detail))
}

/// Refuses before a byte is read when the client says how much it will send.
fn refuse_declared_size(headers: &HeaderMap, limit: usize) -> Result<(), Problem> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    match declared {
        Some(declared) if declared > limit as u64 => Err(too_large(limit, Some(declared))),
        _ => Ok(()),
    }
}

fn too_large(limit: usize, declared: Option<u64>) -> Problem {
    let what =
        declared.map_or_else(|| "the body is larger than".to_owned(), |n| format!("the body has {n} bytes, over"));
    Problem::new(Code::PayloadTooLarge, format!("{what} the limit `body_bytes` of {limit} bytes"))
        .with("limit", "body_bytes")
        .with("allowed", limit)
        .with("used", declared)
}
