//! What the tests of every engine share: plans from workflow texts, and an executor that follows a script.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use compozy_engine::port::{Ran, StartRequest, TaskCall, TaskExecutor, TaskReport};
use compozy_interpreter::Failure;
use compozy_plan::plan::Plan;
use compozy_plan::{Project, SourceFile, compile_workflow};
use serde_json::{Value, json};

/// Compiles a workflow with one tool, `tool`. `rest` begins with `tasks:` or other keys of a workflow.
pub(crate) fn plan(rest: &str) -> Arc<Plan> {
    let text = format!("id: example\nversion: 0.1.0\ntools: [{{id: tool, plugin: test}}]\n{rest}");
    let file = SourceFile { path: "example.yaml".to_owned(), text };
    let outcome = compile_workflow(&file, &Project::default(), None);
    Arc::new(outcome.value.unwrap_or_else(|| panic!("{}\n{:?}", file.text, outcome.diagnostics)))
}

/// Tasks `t0`, `t1`, … one after the other; each has what the one before it answered. One attempt each.
pub(crate) fn linear(tasks: usize) -> Arc<Plan> {
    let task = |n: usize| {
        let with = match n.checked_sub(1) {
            Some(before) => format!("{{before: \"{{{{ .tasks.t{before}.output }}}}\"}}"),
            None => "{first: true}".to_owned(),
        };
        format!("  - {{id: t{n}, tool: tool, with: {with}}}\n")
    };
    let tasks: String = (0..tasks).map(task).collect();
    plan(&format!("config: {{retry_policy: {{maximum_attempts: 1}}}}\ntasks:\n{tasks}"))
}

/// One task, `t`, with this policy.
pub(crate) fn with_policy(policy: &str) -> Arc<Plan> {
    plan(&format!("tasks:\n  - {{id: t, tool: tool, with: {{n: 1}}, config: {policy}}}\n"))
}

pub(crate) fn request(plan: &Arc<Plan>) -> StartRequest {
    request_with(plan, json!({}))
}

pub(crate) fn request_with(plan: &Arc<Plan>, input: Value) -> StartRequest {
    StartRequest { plan: Arc::clone(plan), input, idempotency_key: None, priority: None }
}

pub(crate) fn keyed(plan: &Arc<Plan>, input: Value, key: &str) -> StartRequest {
    StartRequest { idempotency_key: Some(key.to_owned()), ..request_with(plan, input) }
}

/// An answer.
pub(crate) type Answer = Pin<Box<dyn Future<Output = TaskReport> + Send>>;

/// An executor that follows a script, and notes what it was asked.
pub(crate) struct Script {
    calls: Mutex<Vec<TaskCall>>,
    answer: Box<dyn Fn(TaskCall) -> Answer + Send + Sync>,
}

impl Script {
    /// Answers with what a future comes to.
    pub(crate) fn new<F>(answer: impl Fn(TaskCall) -> F + Send + Sync + 'static) -> Arc<Self>
    where
        F: Future<Output = TaskReport> + Send + 'static,
    {
        Arc::new(Self { calls: Mutex::default(), answer: Box::new(move |call| Box::pin(answer(call))) })
    }

    /// Answers at once.
    pub(crate) fn now(answer: impl Fn(&TaskCall) -> Result<Value, Failure> + Send + Sync + 'static) -> Arc<Self> {
        Self::new(move |call| std::future::ready(report(answer(&call))))
    }

    /// Every task answers its own key.
    pub(crate) fn echo() -> Arc<Self> {
        Self::now(|call| Ok(json!(call.task)))
    }

    /// No attempt ever ends by itself.
    pub(crate) fn never() -> Arc<Self> {
        Self::new(|_| std::future::pending())
    }

    pub(crate) fn calls(&self) -> Vec<TaskCall> {
        self.calls.lock().expect("no test panics while it holds this").clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.calls.lock().expect("no test panics while it holds this").len()
    }

    /// What was called, in order, with the number of the attempt.
    pub(crate) fn attempts(&self) -> Vec<(String, u32)> {
        self.calls().into_iter().map(|call| (call.task, call.attempt)).collect()
    }
}

#[async_trait::async_trait]
impl TaskExecutor for Script {
    async fn execute(&self, call: TaskCall) -> TaskReport {
        self.calls.lock().expect("no test panics while it holds this").push(call.clone());
        (self.answer)(call).await
    }
}

pub(crate) fn ran() -> Ran {
    Ran { plugin: "test".to_owned(), version: "1.0.0".to_owned(), digest: "d1".to_owned(), fuel: 7, wall_us: 9 }
}

pub(crate) fn report(result: Result<Value, Failure>) -> TaskReport {
    TaskReport { result, ran: Some(ran()) }
}

/// Counts how often a future that holds one was dropped.
#[derive(Clone, Default)]
pub(crate) struct Drops(Arc<AtomicUsize>);

impl Drops {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// A future that never ends, and counts its end.
    pub(crate) fn pending(&self) -> impl Future<Output = TaskReport> + Send + use<> {
        struct OnDrop(Drops);
        impl Drop for OnDrop {
            fn drop(&mut self) {
                self.0.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let guard = OnDrop(self.clone());
        async move {
            let _guard = guard;
            std::future::pending().await
        }
    }
}

/// Compiles workflows that know each other.
pub(crate) fn workflows(files: &[(&str, &str)]) -> std::collections::BTreeMap<String, Arc<Plan>> {
    let compiled = files.iter().map(|(id, rest)| {
        let text = format!("id: {id}\ntools: [{{id: tool, plugin: test}}]\n{rest}");
        let file = SourceFile { path: format!("{id}.yaml"), text };
        let outcome = compile_workflow(&file, &Project::default(), None);
        let plan = outcome.value.unwrap_or_else(|| panic!("{}\n{:?}", file.text, outcome.diagnostics));
        ((*id).to_owned(), Arc::new(plan))
    });
    compiled.collect()
}
