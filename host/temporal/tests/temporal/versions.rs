//! Workers of two behaviours beside each other, as during an upgrade.

use std::time::Duration;

use compozy_engine::port::{Engine as _, ExecutionId, Filter};
use compozy_interpreter::{BEHAVIOUR_VERSION, Status};
use compozy_temporal::Role;
use serde_json::{Value, json};
use temporalio_client::{
    Client, ClientOptions, Connection, ConnectionOptions, Url, WorkflowGetResultOptions, WorkflowStartOptions,
};
use temporalio_sdk::runtime::RuntimeOptions;
use temporalio_sdk::{Runtime, Worker, WorkerOptions, WorkflowContext, WorkflowResult};
use temporalio_workflow::{workflow, workflow_methods};
use tokio::sync::oneshot;

use crate::common::{Script, linear, request};
use crate::support::{PATIENCE, Site, until, wait};

/// What stands for an earlier version: its type and queue are named as that version named them.
#[workflow]
#[derive(Default)]
struct Earlier;

#[workflow_methods]
impl Earlier {
    #[run(name = "compozy.run.v1")]
    async fn run(ctx: &mut WorkflowContext<Self>, input: Value) -> WorkflowResult<Value> {
        ctx.timer(Duration::from_millis(300)).await;
        Ok(json!({ "earlier": input }))
    }
}

fn earlier_queue(project: &str) -> String {
    format!("compozy/{project}/workflows/v1")
}

async fn client(url: &str) -> Client {
    let options = ConnectionOptions::new(Url::parse(url).expect("an address")).build();
    let connection = Connection::connect(options).await.expect("the server answers");
    Client::new(connection, ClientOptions::new("default").build()).expect("a client")
}

/// A worker of the earlier version on a thread of its own. Answers what ends it.
async fn earlier_worker(client: Client, project: &str) -> (Box<dyn Fn() + Send>, std::thread::JoinHandle<()>) {
    let options =
        WorkerOptions::new(earlier_queue(project)).register_workflow::<Earlier>().expect("a workflow type").build();
    let (send, receive) = oneshot::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        runtime.expect("a runtime").block_on(async move {
            let quiet = RuntimeOptions::builder().heartbeat_interval(None).build().expect("options that are right");
            let core = Runtime::from_current_tokio(quiet).expect("a runtime");
            let mut worker = Worker::new(&core, client, options).expect("a worker");
            drop(send.send(Box::new(worker.shutdown_handle()) as Box<dyn Fn() + Send>));
            worker.run().await.expect("it works until it is ended");
        });
    });
    (receive.await.expect("it begins"), thread)
}

async fn earlier_run(client: &Client, project: &str, id: &str) {
    let options = WorkflowStartOptions::new(earlier_queue(project), id.to_owned()).build();
    client.start_workflow(Earlier::run, json!(id), options).await.expect("it begins");
}

async fn earlier_result(client: &Client, id: &str) -> Value {
    let handle = client.get_workflow_handle::<Earlier>(id.to_owned());
    let ended = tokio::time::timeout(PATIENCE, handle.get_result(WorkflowGetResultOptions::default())).await;
    ended.expect("it ends").expect("it has an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn two_versions_work_side_by_side_and_neither_gets_the_runs_of_the_other_on_temporal() {
    const { assert!(BEHAVIOUR_VERSION != 1, "the earlier version must not be this one") };
    let site = Site::shared(Script::echo()).await;
    let project = site.options.project.clone();
    let client = client(&site.options.address.url).await;
    let api = site.role(&[Role::Api]).await;
    let name = |n: usize| format!("{project}-earlier-{n}");

    // No worker of this version: its run waits, though the other version has one with nothing to do.
    let (stop, thread) = earlier_worker(client.clone(), &project).await;
    let ours = api.start(request(&linear(2))).await.unwrap();
    earlier_run(&client, &project, &name(0)).await;
    assert_eq!(earlier_result(&client, &name(0)).await, json!({ "earlier": name(0) }));
    let history = String::from_utf8(api.history(&ours).await.unwrap()).unwrap();
    assert!(!history.contains("WORKFLOW_TASK_STARTED"), "nobody took it: {history}");

    // No worker of the other: its run waits, and ours goes on.
    stop();
    thread.join().unwrap();
    let workers = site.role(&[Role::WorkflowWorker, Role::ToolWorker]).await;
    earlier_run(&client, &project, &name(1)).await;
    assert_eq!(wait(&api, &ours).await.state.status, Status::Success);

    // Both at once.
    let (stop, thread) = earlier_worker(client.clone(), &project).await;
    let mut mixed = Vec::new();
    for n in 2..8 {
        earlier_run(&client, &project, &name(n)).await;
        mixed.push(api.start(request(&linear(2))).await.unwrap());
    }
    for id in &mixed {
        assert_eq!(wait(&api, id).await.state.status, Status::Success);
        assert_eq!(api.verify(id).await.unwrap(), None);
    }
    for n in 1..8 {
        assert_eq!(earlier_result(&client, &name(n)).await, json!({ "earlier": name(n) }));
    }
    // Whoever lists executions during an upgrade sees those of both.
    let all: Vec<ExecutionId> = mixed.into_iter().chain((0..8).map(|n| ExecutionId(name(n)))).collect();
    until("all are listed", || async {
        let listed = api.search(&Filter::default(), 50, None).await.unwrap();
        all.iter().all(|id| listed.iter().any(|row| row.id == *id && row.status == Status::Success))
    })
    .await;
    stop();
    thread.join().unwrap();
    workers.stop(PATIENCE).await;
    api.stop(PATIENCE).await;
}
