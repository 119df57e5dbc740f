//! One attempt: a future that cannot outlive its time, cannot panic the engine, and always reports.

use std::sync::Arc;
use std::time::Duration;

use compozy_interpreter::{Failure, Timeout};
use compozy_plan::plan::{TaskPolicy, Tool};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::AbortHandle;

use super::lanes::Lane;
use super::queue::{AttemptEnd, Report};
use super::shared::{Shared, add};
use crate::attempt::{self, failed};
use crate::port::{ExecutionId, Notice, Signs, TaskCall};
use crate::request::json_bytes;
use crate::vault::Claim;

/// What is called, as the journal keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Call {
    pub(super) tool: Tool,
    pub(super) input: Value,
    pub(super) policy: TaskPolicy,
    /// The run's, for the chance in its retries.
    #[serde(default)]
    pub(super) seed: u64,
    /// SHA-256 of the component that the run is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pin: Option<String>,
}

/// An attempt whose beginning is durable.
#[derive(Debug, Clone)]
pub(super) struct Launch {
    pub(super) task: i64,
    pub(super) run: i64,
    pub(super) lane: Arc<Lane>,
    pub(super) execution: ExecutionId,
    pub(super) key: String,
    pub(super) attempt: u32,
    /// Attempts that failed before.
    pub(super) failed: u32,
    pub(super) deadline_ms: Option<u64>,
    pub(super) call: Call,
    pub(super) limit_ms: u64,
    pub(super) bound: Timeout,
}

/// Begins an attempt. The writer calls this for every one, so what can be done by the attempt itself is left to it.
pub(super) fn spawn(shared: &Arc<Shared>, launch: &Arc<Launch>) -> (AbortHandle, Signs) {
    add(&shared.counters.attempts, 1);
    shared.live.send_modify(|live| *live += 1);
    let mut guard = Guard { shared: Arc::clone(shared), launch: Arc::clone(launch), reported: false };
    if shared.watched() {
        let (id, task) = (launch.execution.clone(), launch.key.clone());
        shared.tell(Notice::AttemptStarted { id, task, attempt: launch.attempt });
    }
    let signs = heard(shared, launch);
    let of_attempt = signs.clone();
    let task = shared.runtime.spawn(async move {
        let call = guard.launch.call(of_attempt);
        let (shared, launch) = (&guard.shared, &guard.launch);
        let (executor, runtime) = (Arc::clone(&shared.executor), shared.runtime.clone());
        let policy = &launch.call.policy;
        let (report, claim) = attempt::run(executor, call, policy, launch.bound, &shared.vault, &runtime).await;
        guard.report(AttemptEnd::Answered(Box::new(report)), claim);
    });
    (task.abort_handle(), signs)
}

impl Launch {
    fn call(&self, signs: Signs) -> TaskCall {
        TaskCall {
            execution: self.execution.clone(),
            task: self.key.clone(),
            tool: self.call.tool.clone(),
            pin: self.call.pin.clone(),
            input: self.call.input.clone(),
            idempotency_key: format!("{}/{}", self.execution, self.key),
            attempt: self.attempt,
            timeout: Duration::from_millis(self.limit_ms),
            signs,
        }
    }
}

/// Signs whose heartbeats are told to those who watch.
fn heard(shared: &Arc<Shared>, launch: &Arc<Launch>) -> Signs {
    let (shared, launch) = (Arc::downgrade(shared), Arc::clone(launch));
    Signs::heard_by(move |detail| {
        let Some(shared) = shared.upgrade().filter(|shared| shared.watched()) else { return };
        let (id, task, attempt) = (launch.execution.clone(), launch.key.clone(), launch.attempt);
        shared.tell(Notice::Heartbeat { id, task, attempt, detail: detail.to_owned() });
    })
}

/// Reports even when the attempt's future is dropped.
struct Guard {
    shared: Arc<Shared>,
    launch: Arc<Launch>,
    reported: bool,
}

impl Guard {
    fn report(&mut self, end: AttemptEnd, claim: Claim) {
        self.reported = true;
        let bytes = match &end {
            AttemptEnd::Answered(report) => report.result.as_ref().map_or_else(json_bytes, json_bytes),
            AttemptEnd::Lost => 0,
        };
        self.shared.queue.report(Report {
            task: self.launch.task,
            attempt: self.launch.attempt,
            end,
            bytes,
            _claim: Arc::new(claim),
        });
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.reported {
            // Dropped by us (the writer then knows better), by the end of the runtime, or by a panic in the
            // destructor of the executor's future.
            let end = if std::thread::panicking() {
                let failure = Failure::permanent("TASK_PANICKED", "the executor panicked when its call was dropped");
                AttemptEnd::Answered(Box::new(failed(failure)))
            } else {
                AttemptEnd::Lost
            };
            self.report(end, Claim::default());
        }
        self.shared.live.send_modify(|live| *live -= 1);
    }
}
