//! How the server feels, looked at all the time in the background, so that a question costs nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use temporalio_client::{Client, WorkflowCountOptions};
use tokio::sync::watch;

use crate::limits::HEALTH_EVERY;
use crate::options::Address;

/// What was seen last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Why nothing can be made durable, if so.
    pub(crate) trouble: Option<String>,
    pub(crate) open_executions: u64,
}

/// Looks at the server until it is stopped.
pub(crate) struct Pulse {
    seen: Arc<Mutex<Seen>>,
    address: Address,
    stop: watch::Sender<bool>,
    task: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Pulse {
    pub(crate) fn start(client: Client, address: Address, patience: Duration) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (stop, mut stopped) = watch::channel(false);
        let (known, url) = (Arc::clone(&seen), address.url.clone());
        let task = tokio::spawn(async move {
            loop {
                let now = look(&client, &url, patience).await;
                let before = std::mem::replace(&mut *known.lock().unwrap_or_else(PoisonError::into_inner), now.clone());
                match (&before.trouble, &now.trouble) {
                    (None, Some(trouble)) => tracing::error!(address = url, trouble, "Temporal is away"),
                    (Some(_), None) => tracing::info!(address = url, "Temporal is back"),
                    _ => {}
                }
                tokio::select! {
                    () = tokio::time::sleep(HEALTH_EVERY) => {}
                    _ = stopped.changed() => return,
                }
            }
        });
        Self { seen, address, stop, task: Mutex::new(Some(task)) }
    }

    pub(crate) fn now(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn address(&self) -> &str {
        &self.address.url
    }

    pub(crate) async fn stop(&self) {
        self.stop.send_replace(true);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.abort();
            drop(task.await);
        }
    }
}

async fn look(client: &Client, address: &str, patience: Duration) -> Seen {
    let count = client.count_workflows("ExecutionStatus = 'Running'", WorkflowCountOptions::default());
    let reason = match tokio::time::timeout(patience, count).await {
        Ok(Ok(count)) => {
            let open_executions = u64::try_from(count.count()).unwrap_or(0);
            return Seen { trouble: None, open_executions };
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} ms", patience.as_millis()),
    };
    Seen { trouble: Some(format!("the Temporal server at `{address}` does not answer: {reason}")), open_executions: 0 }
}
