//! Who was told what, and when in the life of the disk.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use compozy_engine::local::LocalEngine;
use compozy_engine::port::{Engine as _, ExecutionId, TaskCall, TaskExecutor, TaskReport};
use compozy_interpreter::{RunState, Status};
use serde_json::{Value, json};

use crate::disk::{Disk, Mounted};

/// Something that somebody was told.
#[derive(Debug, Clone)]
pub(super) struct Told {
    /// The disk's moment at which it was known already.
    pub(super) moment: usize,
    what: What,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    /// A start was acknowledged.
    Started(ExecutionId),
    /// A signal was acknowledged.
    Signaled(ExecutionId, String),
    /// An execution was shown as ended.
    Ended(ExecutionId, Status, Option<Value>),
    /// An attempt was begun.
    Begun(ExecutionId, String, u32),
}

/// Hears what callers are told, and is the executor that is told to begin.
pub(super) struct Witness {
    /// As its moment is asked for: the disk itself lives as long as its engine.
    moment: Box<dyn Fn() -> usize + Send + Sync>,
    told: Mutex<Vec<Told>>,
}

impl Witness {
    pub(super) fn new(disk: &Mounted) -> Arc<Self> {
        let disk: Arc<Disk> = disk.shared();
        Arc::new(Self { moment: Box::new(move || disk.moment()), told: Mutex::default() })
    }

    /// Notes something that is known now.
    pub(super) fn hear(&self, what: What) {
        let told = Told { moment: (self.moment)(), what };
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push(told);
    }

    pub(super) fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait::async_trait]
impl TaskExecutor for Witness {
    async fn execute(&self, call: TaskCall) -> TaskReport {
        self.hear(What::Begun(call.execution.clone(), call.task.clone(), call.attempt));
        let ms = call.input["ms"].as_u64().unwrap_or_default();
        tokio::time::sleep(Duration::from_millis(ms)).await;
        let size = call.input["size"].as_u64().unwrap_or_default() as usize;
        let output = json!({ "key": call.idempotency_key, "attempt": call.attempt, "text": "x".repeat(size) });
        TaskReport { result: Ok(output), ran: None }
    }
}

impl Told {
    /// What is not so any more, if that is so.
    pub(super) async fn missing(&self, engine: &LocalEngine) -> Result<Option<String>> {
        let id = match &self.what {
            What::Started(id) | What::Signaled(id, _) | What::Ended(id, ..) | What::Begun(id, ..) => id,
        };
        let Some(execution) = engine.execution(id).await? else {
            return Ok(Some(format!("there is no execution {id} any more, and {:?}", self.what)));
        };
        let holds = match &self.what {
            What::Started(_) => true,
            What::Signaled(id, signal) => {
                let journal = engine.journal(id).await?;
                journal.iter().filter(|record| record.event["signal"]["id"] == signal.as_str()).count() == 1
            }
            What::Ended(_, status, output) => (execution.state.status, &execution.state.output) == (*status, output),
            What::Begun(_, task, attempt) => {
                execution.attempts.get(task).is_some_and(|record| record.attempts >= *attempt)
            }
        };
        Ok((!holds).then(|| format!("{:?} does not hold: {}", self.what, short(&execution.state))))
    }
}

fn short(state: &RunState) -> String {
    format!("{:?} with {} tasks", state.status, state.tasks.len())
}
