//! Large values around an attempt: the executor gets them whole, and what it answers is put away again.

use std::sync::Arc;
use std::time::Duration;

use compozy_interpreter::{BlobError, Failure};
use compozy_plan::blob::has_blob_key;

use tokio::runtime::Handle;

use super::judge;
use crate::port::{TaskCall, TaskExecutor, TaskReport};
use crate::request::json_bytes;
use crate::vault::{Claim, Vault, WholeError};
use crate::{EngineError, limits};

/// Waits between attempts to put away a result, while the blob store refuses.
const PUT_RETRY: Duration = Duration::from_secs(1);

/// Runs an attempt with all that its arguments refer to.
pub(super) async fn execute(
    vault: &Arc<Vault>,
    runtime: &Handle,
    executor: Arc<dyn TaskExecutor>,
    mut call: TaskCall,
) -> TaskReport {
    if has_blob_key(&call.input) {
        let (vault, input, task) = (Arc::clone(vault), std::mem::take(&mut call.input), call.task.clone());
        let read = runtime.spawn_blocking(move || match vault.whole(input) {
            Ok(input) if json_bytes(&input) > limits::PAYLOAD_BYTES_MAX => {
                Err(judge::too_large(&task, "input", json_bytes(&input)))
            }
            Ok(input) => Ok(input),
            Err(error) => Err(unreadable(&task, &error)),
        });
        match read.await {
            Ok(Ok(input)) => call.input = input,
            Ok(Err(failure)) => return TaskReport { result: Err(failure), ran: None },
            Err(error) => {
                let failure = Failure::transient("STOPPING", format!("reading the arguments: {error}"));
                return TaskReport { result: Err(failure), ran: None };
            }
        }
    }
    executor.execute(call).await
}

fn unreadable(task: &str, error: &WholeError) -> Failure {
    let message = format!("the input of task `{task}` cannot be read: {error}");
    match error {
        WholeError::Blob(BlobError::Unavailable { .. }) => Failure::transient("BLOB_UNAVAILABLE", message),
        WholeError::Blob(BlobError::Lost { .. }) => Failure::permanent("BLOB_LOST", message),
        WholeError::TooLarge { .. } => Failure::permanent("PAYLOAD_TOO_LARGE", message),
    }
}

/// Puts away what is too large of a result, however long that takes: the work is done and must not be done again because a
/// disk is full for a while.
pub(super) async fn put_away(vault: &Arc<Vault>, runtime: &Handle, task: &str, report: &mut TaskReport) -> Claim {
    let Ok(output) = &mut report.result else {
        // Details are an extra: nobody may refer to others' values with them.
        if let Err(failure) = &mut report.result
            && has_blob_key(&failure.details)
        {
            failure.details = serde_json::Value::Null;
        }
        return Claim::default();
    };
    let what = format!("the output of task `{task}`");
    if json_bytes(output) <= limits::INLINE_BYTES_MAX {
        let name = what.clone();
        return match vault.take_in(|| name.clone(), output) {
            Ok(claim) => claim,
            Err(error) => refused(report, task, &error),
        };
    }
    let mut told = false;
    loop {
        let (vault, what, mut value) = (Arc::clone(vault), what.clone(), output.clone());
        let put = runtime.spawn_blocking(move || {
            let claim = vault.take_in(|| what.clone(), &mut value)?;
            Ok::<_, EngineError>((claim, value))
        });
        match put.await {
            Ok(Ok((claim, value))) => {
                *output = value;
                return claim;
            }
            Ok(Err(error)) if error.retryable() => {
                if !told {
                    tracing::error!(code = error.code(), %error, task, "a result waits for the blob store");
                    told = true;
                }
                tokio::time::sleep(PUT_RETRY).await;
            }
            Ok(Err(error)) => return refused(report, task, &error),
            Err(error) => {
                let failure = Failure::transient("STOPPING", format!("putting away the output: {error}"));
                report.result = Err(failure);
                return Claim::default();
            }
        }
    }
}

fn refused(report: &mut TaskReport, task: &str, error: &EngineError) -> Claim {
    let failure = match error {
        EngineError::PayloadTooLarge { used, .. } => judge::too_large(task, "output", *used),
        other => Failure::permanent(other.code(), other.to_string()),
    };
    report.result = Err(failure);
    Claim::default()
}
