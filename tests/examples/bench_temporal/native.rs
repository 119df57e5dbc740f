//! The same three steps, written by hand for the SDK, with native activities.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use temporalio_client::{Client, WorkflowGetResultOptions, WorkflowStartOptions};
use temporalio_common::ActivityDefinition;
use temporalio_sdk::activities::{
    ActivityContext, ActivityDefinitions, ActivityError, ActivityImplementer, ExecutableActivity,
};
use temporalio_sdk::runtime::{PollerBehavior, RuntimeOptions};
use temporalio_sdk::{ActivityOptions, Runtime, Worker, WorkerOptions, WorkflowContext, WorkflowResult};
use temporalio_workflow::{workflow, workflow_methods};
use tokio::sync::oneshot;
use uuid::Uuid;

const QUEUE: &str = "native";

struct Echo;

impl ActivityDefinition for Echo {
    type Input = Value;
    type Output = Value;
    fn name(&self) -> &'static str {
        "echo"
    }
}

struct Native;

impl ActivityImplementer for Native {
    fn register_all(self: Arc<Self>, definitions: &mut ActivityDefinitions) {
        definitions.register_activity::<Echo>(self);
    }
}

impl ExecutableActivity for Echo {
    type Implementer = Native;
    const REQUIRES_INSTANCE: bool = true;

    fn definition() -> Self {
        Self
    }

    fn execute(
        _native: Option<Arc<Native>>,
        _ctx: ActivityContext,
        input: Value,
    ) -> BoxFuture<'static, Result<Value, ActivityError>> {
        async move { Ok(input) }.boxed()
    }
}

/// Three echoes, one after the other.
#[workflow]
#[derive(Default)]
pub(crate) struct Steps;

#[workflow_methods]
impl Steps {
    #[run(name = "steps3")]
    pub(crate) async fn run(ctx: &mut WorkflowContext<Self>, input: Value) -> WorkflowResult<Value> {
        let mut value = json!({"n": input["n"]});
        for _ in 0..3 {
            let options = ActivityOptions::start_to_close_timeout(Duration::from_mins(1));
            value = ctx.execute_activity(Echo, value, options).await?;
        }
        Ok(json!({"n": value["n"]}))
    }
}

/// A worker on a thread of its own, until it is dropped.
pub(crate) struct NativeWorker {
    stop: Option<Box<dyn Fn() + Send>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl NativeWorker {
    pub(crate) async fn start(client: &Client) -> Result<Self> {
        let options = WorkerOptions::new(QUEUE)
            .workflow_task_poller_behavior(PollerBehavior::SimpleMaximum(4))
            .activity_task_poller_behavior(PollerBehavior::SimpleMaximum(4))
            .register_activities(Native)
            .register_workflow::<Steps>()?
            .build();
        let (send, receive) = oneshot::channel();
        let client = client.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let options_of_core = RuntimeOptions::builder().heartbeat_interval(None).build().expect("options");
                let core = Runtime::from_current_tokio(options_of_core).expect("a core");
                let mut worker = Worker::new(&core, client, options).expect("a worker");
                drop(send.send(Box::new(worker.shutdown_handle()) as Box<dyn Fn() + Send>));
                worker.run().await.expect("the worker works");
            });
        });
        Ok(Self { stop: Some(receive.await?), thread: Some(thread) })
    }
}

impl Drop for NativeWorker {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop();
        }
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// One run, from its start to its result. Answers its id.
pub(crate) async fn run(client: &Client) -> Result<String> {
    let id = Uuid::now_v7().to_string();
    let options = WorkflowStartOptions::new(QUEUE, id.clone()).enable_eager_workflow_start(true).build();
    let handle = client.start_workflow(Steps::run, json!({"n": 7}), options).await?;
    let output = handle.get_result(WorkflowGetResultOptions::default()).await?;
    anyhow::ensure!(output == json!({"n": 7}), "{output}");
    Ok(id)
}
