//! Connects the engine to the runtime: an attempt of a task becomes a call of a plugin. The engine is told to run its
//! attempts on the guests' own threads, so nothing changes threads on the way.

use std::sync::Arc;
use std::time::Duration;

use compozy_engine::port::{Pins, Ran, Signs, TaskCall, TaskExecutor, TaskReport};
use compozy_interpreter::Failure;
use compozy_plan::plan::{MEMORY_PLUGIN, Plan};
use compozy_runtime::runtime::{self, CallFailure, TaskResponse};
use compozy_runtime::{CallError, Limit, Retry, Runtime, Supervisor, TaskRequest};
use serde_json::Value;

use crate::memory;

/// How long an attempt whose time is over waits for the engine to end it.
const OVERTIME: Duration = Duration::from_secs(5);

/// Runs the engine's tasks on plugins.
pub struct PluginExecutor {
    runtime: Arc<Runtime>,
}

impl PluginExecutor {
    /// On the plugins of this runtime.
    pub fn new(runtime: Arc<Runtime>) -> Self {
        Self { runtime }
    }

    /// The names of the plugins that can run tasks.
    pub fn plugins(&self) -> Vec<String> {
        self.runtime.catalog().into_keys().map(str::to_owned).collect()
    }
}

/// Passes on what a guest says of itself, and what the engine wants of it.
#[derive(Debug)]
struct Supervised(Signs);

impl Supervisor for Supervised {
    fn heartbeat(&self, detail: &str) {
        self.0.heartbeat_at(detail);
    }

    fn asked_to_end(&self) -> bool {
        self.0.asked_to_end()
    }
}

#[async_trait::async_trait]
impl TaskExecutor for PluginExecutor {
    fn pins(&self, plan: &Plan) -> Pins {
        let loaded = |name: &str| Some((name.to_owned(), self.runtime.plugin(name).ok()?.identity().digest.clone()));
        plan.plugins().into_iter().filter_map(loaded).collect()
    }

    async fn execute(&self, call: TaskCall) -> TaskReport {
        if call.tool.plugin == MEMORY_PLUGIN {
            return memory::execute(&self.runtime, call).await;
        }
        let timeout = call.timeout;
        let request = match request(call) {
            Ok(request) => request,
            Err(failure) => return TaskReport { result: Err(failure), ran: None },
        };
        // We are on the guests' threads already. A panic is the engine's to catch, and dropping us ends the call.
        let answered = self.runtime.execute(request).await;
        if is_out_of_time(&answered, timeout) {
            tokio::time::sleep(OVERTIME).await;
        }
        report(answered)
    }
}

/// Whether the attempt's own time is over, and not that which the plugin's limits give to a call. The engine notices it at
/// the same moment and knows which timeout it was, so it is left to say so.
fn is_out_of_time(answered: &Result<TaskResponse, CallFailure>, timeout: Duration) -> bool {
    let Err(CallFailure { error: CallError::Limit { hit, .. }, .. }) = answered else { return false };
    hit.limit == Limit::CallTimeoutMs && u128::from(hit.allowed) >= timeout.as_millis()
}

fn request(call: TaskCall) -> Result<TaskRequest, Failure> {
    let bytes = |value: &Value| {
        serde_json::to_vec(value)
            .map_err(|error| Failure::permanent("PLUGIN_INTERNAL", format!("a value cannot be written: {error}")))
    };
    Ok(TaskRequest {
        input: bytes(&call.input)?,
        config: bytes(&call.tool.config)?,
        plugin: call.tool.plugin,
        digest: call.pin,
        action: call.tool.action,
        execution_id: call.execution.0,
        task: call.task,
        idempotency_key: call.idempotency_key,
        attempt: call.attempt,
        timeout: call.timeout,
        supervisor: Some(Arc::new(Supervised(call.signs))),
    })
}

fn report(answered: Result<TaskResponse, CallFailure>) -> TaskReport {
    match answered {
        Ok(response) => TaskReport { result: Ok(response.output), ran: Some(ran(&response.ran)) },
        Err(failed) => TaskReport { result: Err(failure(&failed.error)), ran: failed.ran.as_ref().map(ran) },
    }
}

fn ran(ran: &runtime::Ran) -> Ran {
    Ran {
        plugin: ran.plugin.name.clone(),
        version: ran.plugin.version.clone(),
        digest: ran.plugin.digest.clone(),
        fuel: ran.fuel,
        wall_us: u64::try_from(ran.wall.as_micros()).unwrap_or(u64::MAX),
    }
}

fn failure(error: &CallError) -> Failure {
    let (retryable, retry_after_ms) = match error.retry() {
        Retry::Never => (false, None),
        Retry::Later { after } => (true, after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))),
    };
    Failure {
        retryable,
        retry_after_ms,
        details: error.details().unwrap_or(Value::Null),
        ..Failure::permanent(error.code(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use compozy_runtime::{Identity, LimitHit, TaskFailure};

    use super::*;

    #[test]
    fn a_failure_keeps_code_facts_and_whether_to_try_again() {
        let plugin = Arc::new(Identity { name: "p".into(), version: "1.0.0".into(), digest: "d".repeat(64) });
        let hit = |limit| CallError::Limit { plugin: plugin.clone(), hit: LimitHit { limit, used: 2, allowed: 1 } };
        let fuel = failure(&hit(Limit::Fuel));
        assert_eq!((fuel.code.as_str(), fuel.retryable), ("PLUGIN_LIMIT", false));
        assert_eq!((&fuel.details["limit"], &fuel.details["used"]), (&"fuel".into(), &2.into()));
        assert!(failure(&hit(Limit::CallTimeoutMs)).retryable, "what was waited for may answer the next time");
        let over = |allowed| {
            Err(hit(Limit::CallTimeoutMs).into()).map_err(|mut failed: CallFailure| {
                if let CallError::Limit { hit, .. } = &mut failed.error {
                    hit.allowed = allowed;
                }
                failed
            })
        };
        assert!(is_out_of_time(&over(400), Duration::from_millis(400)), "the engine's timeout");
        assert!(!is_out_of_time(&over(399), Duration::from_millis(400)), "the plugin's own limit");
        let task = CallError::Task(TaskFailure {
            code: "BUSY".into(),
            message: "later".into(),
            details: None,
            retry: Retry::Later { after: Some(Duration::from_millis(1_500)) },
        });
        let task = failure(&task);
        assert_eq!((task.code.as_str(), task.retryable, task.retry_after_ms), ("BUSY", true, Some(1_500)));
        assert_eq!(task.details, Value::Null);
    }
}
