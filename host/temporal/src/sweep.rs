//! Large values of executions that the server has forgotten leave the blob store: its retention decides, or somebody has deleted
//! them.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use compozy_engine::EngineError;
use compozy_engine::blob_store::Swept;
use compozy_engine::port::ExecutionId;
use compozy_engine::vault::unavailable;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::caller::Caller;
use crate::limits::{SWEEP_ASKS_MAX, SWEEP_EVERY, SWEEP_FIRST_AFTER, SWEEP_LAST_TIME};

/// Sweeps until it is stopped or dropped.
pub(crate) struct Sweeper {
    caller: Arc<Caller>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Sweeper {
    /// Nothing is swept before somebody says so.
    pub(crate) fn new(caller: &Arc<Caller>) -> Self {
        Self { caller: Arc::clone(caller), stop: watch::Sender::new(false), task: Mutex::default() }
    }

    /// Sweeps from time to time.
    pub(crate) fn start(&self) {
        let (caller, mut stop) = (Arc::clone(&self.caller), self.stop.subscribe());
        let task = tokio::spawn(async move {
            let mut pause = SWEEP_FIRST_AFTER;
            loop {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stopped(&mut stop) => return,
                }
                report(sweep(&caller, stop.clone()).await);
                pause = SWEEP_EVERY;
            }
        });
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// Sweeps once.
    pub(crate) async fn sweep(&self) -> Result<Swept, EngineError> {
        sweep(&self.caller, self.stop.subscribe()).await
    }

    pub(crate) async fn stop(&self) {
        self.stop.send_replace(true);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && tokio::time::timeout(SWEEP_LAST_TIME, task).await.is_err()
        {
            tracing::warn!("a sweep of large values waits for the blob store; it ends with that");
        }
    }
}

async fn sweep(caller: &Arc<Caller>, stop: watch::Receiver<bool>) -> Result<Swept, EngineError> {
    let (asked, runtime) = (Arc::clone(caller), Handle::current());
    let work = move || {
        let until = Instant::now() + SWEEP_ASKS_MAX;
        let silent = Cell::new(false);
        let is_alive = |execution: &str| {
            if silent.get() || Instant::now() >= until {
                return true;
            }
            let (id, mut stop) = (ExecutionId(execution.to_owned()), stop.clone());
            let described = runtime.block_on(async {
                tokio::select! {
                    described = asked.describe(&id) => Some(described),
                    () = stopped(&mut stop) => None,
                }
            });
            match described {
                Some(Err(EngineError::ExecutionNotFound { .. })) => false,
                // Nothing is removed on a guess, and a server that is away is not asked again and again.
                Some(Err(error)) => {
                    tracing::debug!(code = error.code(), %error, "the server does not say which executions are gone");
                    silent.set(true);
                    true
                }
                Some(Ok(_)) | None => true,
            }
        };
        let goes_on = || stop.has_changed().is_ok() && !*stop.borrow();
        asked.vault().sweep(&is_alive, &goes_on).map_err(|error| unavailable(&error))
    };
    caller.blocking(work).await
}

/// Waits for the stop, or until nobody is left who could say so.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

fn report(swept: Result<Swept, EngineError>) {
    match swept {
        Ok(swept) if swept == Swept::default() => {}
        Ok(Swept { executions, uses, blobs }) => {
            tracing::info!(executions, uses, blobs, "large values that no execution needs left the blob store");
        }
        Err(error) => tracing::warn!(code = error.code(), %error, "large values cannot be swept up"),
    }
}
