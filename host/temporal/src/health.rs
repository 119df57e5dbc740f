//! How the server feels, looked at all the time in the background, so that a question costs nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use compozy_engine::services::{ServiceHealth, ServiceState, ServiceWatch, WorkerHealth};
use compozy_engine::{Clock as _, SystemClock};
use temporalio_client::tonic::IntoRequest as _;
use temporalio_client::{Client, WorkflowCountOptions};
use temporalio_common::protos::temporal::api::enums::v1::TaskQueueType;
use temporalio_common::protos::temporal::api::taskqueue::v1::TaskQueue;
use temporalio_common::protos::temporal::api::workflowservice::v1::DescribeTaskQueueRequest;
use tokio::sync::watch;

use crate::limits::{HEALTH_EVERY, POLLER_GONE};
use crate::names::{tool_queue, workflow_queue};
use crate::options::{Role, TemporalOptions};

/// A queue that somebody must listen on.
struct Queue {
    role: Role,
    name: String,
    kind: TaskQueueType,
}

/// What was seen last.
struct Seen {
    open_executions: u64,
    workers: Vec<WorkerHealth>,
}

/// Looks at the server until it is stopped.
pub(crate) struct Pulse {
    service: Arc<ServiceWatch>,
    seen: Arc<Mutex<Seen>>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Pulse {
    /// Looks once before it answers.
    pub(crate) async fn start(client: Client, options: &TemporalOptions) -> Self {
        let needed = ["starts", "executions", "tasks"].map(str::to_owned).to_vec();
        let url = options.address.url.clone();
        let service = Arc::new(ServiceWatch::new("Temporal server", url, needed, Arc::new(SystemClock)));
        // It has just answered.
        service.up();
        let mut queues = vec![Queue {
            role: Role::WorkflowWorker,
            name: workflow_queue(&options.project),
            kind: TaskQueueType::Workflow,
        }];
        queues.extend(options.plugins.iter().map(|plugin| Queue {
            role: Role::ToolWorker,
            name: tool_queue(&options.project, plugin),
            kind: TaskQueueType::Activity,
        }));
        let seen = Arc::new(Mutex::new(Seen { open_executions: 0, workers: Vec::new() }));
        let (stop, mut stopped) = watch::channel(false);
        let look = Look {
            client,
            queues,
            patience: options.rpc_timeout,
            service: Arc::clone(&service),
            seen: Arc::clone(&seen),
        };
        look.once().await;
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(HEALTH_EVERY) => {}
                    _ = stopped.changed() => return,
                }
                look.once().await;
            }
        });
        Self { service, seen, stop, task: Mutex::new(Some(task)) }
    }

    /// Why nothing can be made durable, if so.
    pub(crate) fn trouble(&self) -> Option<String> {
        let ServiceHealth { service, address, state, detail, .. } = self.service.health();
        (state == ServiceState::Down)
            .then(|| format!("the {service} at `{address}` does not answer: {}", detail.unwrap_or_default()))
    }

    pub(crate) fn service(&self) -> ServiceHealth {
        self.service.health()
    }

    pub(crate) fn workers(&self) -> Vec<WorkerHealth> {
        lock(&self.seen).workers.clone()
    }

    pub(crate) fn open_executions(&self) -> u64 {
        lock(&self.seen).open_executions
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Look {
    client: Client,
    queues: Vec<Queue>,
    patience: Duration,
    service: Arc<ServiceWatch>,
    seen: Arc<Mutex<Seen>>,
}

impl Look {
    async fn once(&self) {
        let count = self.client.count_workflows("ExecutionStatus = 'Running'", WorkflowCountOptions::default());
        match tokio::time::timeout(self.patience, count).await {
            Ok(Ok(count)) => {
                self.service.up();
                lock(&self.seen).open_executions = u64::try_from(count.count()).unwrap_or(0);
            }
            Ok(Err(error)) => return self.service.down(error.to_string()),
            Err(_) => return self.service.down(format!("no answer within {} ms", self.patience.as_millis())),
        }
        for queue in &self.queues {
            if let Some(present) = self.has_worker(queue).await {
                self.note(queue, present);
            }
        }
    }

    /// `None` when the server does not say.
    async fn has_worker(&self, queue: &Queue) -> Option<bool> {
        let request = DescribeTaskQueueRequest {
            namespace: self.client.options().namespace.clone(),
            task_queue: Some(TaskQueue { name: queue.name.clone(), ..TaskQueue::default() }),
            task_queue_type: queue.kind.into(),
            ..DescribeTaskQueueRequest::default()
        };
        let mut service = self.client.connection().workflow_service();
        let asked = service.describe_task_queue(request.into_request());
        let pollers = tokio::time::timeout(self.patience, asked).await.ok()?.ok()?.into_inner().pollers;
        let since = SystemClock.now_ms().saturating_sub(u64::try_from(POLLER_GONE.as_millis()).unwrap_or(0));
        let lately = |seconds: i64| u64::try_from(seconds).is_ok_and(|seconds| seconds.saturating_mul(1_000) >= since);
        Some(pollers.iter().any(|poller| poller.last_access_time.as_ref().is_some_and(|time| lately(time.seconds))))
    }

    fn note(&self, queue: &Queue, present: bool) {
        let mut seen = lock(&self.seen);
        match seen.workers.iter_mut().find(|worker| worker.queue == queue.name) {
            Some(worker) if worker.present == present => {}
            Some(worker) => {
                (worker.present, worker.since_ms) = (present, SystemClock.now_ms());
                let (queue, role) = (&worker.queue, &worker.role);
                tracing::warn!(queue, role, present, "whether a queue has a worker has changed");
            }
            None => seen.workers.push(WorkerHealth {
                role: queue.role.name().to_owned(),
                queue: queue.name.clone(),
                present,
                since_ms: SystemClock.now_ms(),
            }),
        }
    }
}
