//! An executor that follows a fixture's script, and notes what it was asked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use compozy_engine::port::{Pins, Ran, TaskCall, TaskExecutor, TaskReport};
use compozy_interpreter::Failure;
use compozy_plan::plan::{MEMORY_PLUGIN, Plan};
use indexmap::IndexMap;
use serde_json::{Value, json};

use crate::fixture::{Attempt, Fail, SCRIPTED};
use crate::values::{Known, fill};

/// One call, as far as it must be the same on every engine.
#[derive(Debug, Clone)]
pub(crate) struct Called {
    pub(crate) execution: String,
    pub(crate) task: String,
    pub(crate) attempt: u32,
    pub(crate) action: Option<String>,
    pub(crate) input: Value,
    pub(crate) idempotency_key: String,
}

/// Answers as the script says.
pub(crate) struct Scripted {
    script: IndexMap<String, Vec<Attempt>>,
    /// For tasks of real plugins.
    plugins: Option<Arc<dyn TaskExecutor>>,
    calls: Mutex<Vec<Called>>,
}

impl Scripted {
    pub(crate) fn new(script: IndexMap<String, Vec<Attempt>>, plugins: Option<Arc<dyn TaskExecutor>>) -> Arc<Self> {
        Arc::new(Self { script, plugins, calls: Mutex::default() })
    }

    /// Everything that was called so far.
    pub(crate) fn calls(&self) -> Vec<Called> {
        self.calls.lock().expect("nobody panics while holding this").clone()
    }

    /// How often a task was called.
    pub(crate) fn count(&self, task: &str) -> usize {
        self.calls().iter().filter(|call| call.task == task).count()
    }

    fn attempt(&self, task: &str, attempt: u32) -> Attempt {
        // The visits of the tasks around it do not matter either.
        let first = task.split('/').map(|part| part.split('#').next().unwrap_or(part)).collect::<Vec<_>>().join("/");
        let script = self.script.get(task).or_else(|| self.script.get(&first));
        let at = usize::try_from(attempt).unwrap_or(usize::MAX).saturating_sub(1);
        script.and_then(|attempts| attempts.get(at).or(attempts.last())).cloned().unwrap_or_default()
    }
}

#[async_trait::async_trait]
impl TaskExecutor for Scripted {
    async fn execute(&self, call: TaskCall) -> TaskReport {
        let called = Called {
            execution: call.execution.0.clone(),
            task: call.task.clone(),
            attempt: call.attempt,
            action: call.tool.action.clone(),
            input: call.input.clone(),
            idempotency_key: call.idempotency_key.clone(),
        };
        self.calls.lock().expect("nobody panics while holding this").push(called);
        match (call.tool.plugin.as_str(), &self.plugins) {
            (SCRIPTED | MEMORY_PLUGIN, _) | (_, None) => follow(&self.attempt(&call.task, call.attempt), call).await,
            (_, Some(plugins)) => plugins.execute(call).await,
        }
    }

    fn pins(&self, plan: &Plan) -> Pins {
        self.plugins.as_ref().map(|plugins| plugins.pins(plan)).unwrap_or_default()
    }
}

async fn follow(attempt: &Attempt, call: TaskCall) -> TaskReport {
    take_time(attempt, &call).await;
    if attempt.never {
        return std::future::pending().await;
    }
    if attempt.until_asked {
        call.signs.wait_until_asked().await;
    }
    if let Some(text) = &attempt.panic {
        panic!("{text}");
    }
    let result = match (&attempt.fail, &attempt.answer) {
        (Some(fail), _) => Err(failure(fail)),
        (None, Some(answer)) => filled(answer, call.attempt),
        (None, None) => Ok(call.input),
    };
    TaskReport { result, ran: Some(ran()) }
}

/// Takes its time, with signs of life if it gives any.
async fn take_time(attempt: &Attempt, call: &TaskCall) {
    let work = tokio::time::sleep(Duration::from_millis(attempt.after_ms));
    let Some(every_ms) = attempt.heartbeat_every_ms else { return work.await };
    tokio::pin!(work);
    loop {
        tokio::select! {
            () = &mut work => return,
            () = tokio::time::sleep(Duration::from_millis(every_ms)) => call.signs.heartbeat(),
        }
    }
}

fn filled(answer: &Value, attempt: u32) -> Result<Value, Failure> {
    let known = Known { attempt: Some(attempt), ..Known::default() };
    fill(answer, &known).map_err(|error| Failure::permanent("FIXTURE", format!("{error:#}")))
}

fn failure(fail: &Fail) -> Failure {
    Failure {
        retryable: !fail.permanent,
        retry_after_ms: fail.retry_after_ms,
        details: fail.details.clone(),
        ..Failure::permanent(fail.code.clone(), fail.message.clone())
    }
}

fn ran() -> Ran {
    Ran { plugin: SCRIPTED.to_owned(), version: "1.0.0".to_owned(), digest: "0".repeat(64), fuel: 1, wall_us: 1 }
}

impl Called {
    /// The call as a value, for a record.
    pub(crate) fn shown(&self) -> Value {
        json!({ "action": self.action, "input": self.input, "idempotency_key": self.idempotency_key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_attempt_of_the_script_stands_for_all_that_follow() {
        let attempt = |after_ms| Attempt { after_ms, ..Attempt::default() };
        let script = IndexMap::from([
            ("t".to_owned(), vec![attempt(1), attempt(2)]),
            ("t#3".to_owned(), vec![attempt(3)]),
            ("p/t".to_owned(), vec![attempt(4)]),
        ]);
        let scripted = Scripted::new(script, None);
        let cases =
            [("t", 1, 1), ("t", 2, 2), ("t", 9, 2), ("t#2", 1, 1), ("t#3", 1, 3), ("p#2/t#5", 1, 4), ("u", 1, 0)];
        for (task, number, expected) in cases {
            assert_eq!(scripted.attempt(task, number).after_ms, expected, "{task} {number}");
        }
    }
}
