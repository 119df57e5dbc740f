//! Workers: each role of this process polls its queues on a thread of its own, until it is stopped.
//!
//! All runs of a process share one thread, so nothing slow may happen in a workflow but reading a large value.

use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use compozy_engine::limits::{CONCURRENCY_DEFAULT, CONCURRENCY_MAX};
use compozy_engine::port::Notice;
use temporalio_client::Client;
use temporalio_sdk::runtime::worker_tuner::{FixedSizeSlotSupplier, TunerHolder};
use temporalio_sdk::runtime::{PollerBehavior, RuntimeOptions};
use temporalio_sdk::{Runtime, Worker, WorkerOptions};
use tokio::sync::{broadcast, oneshot, watch};

use crate::activity::Tools;
use crate::caller::Caller;
use crate::connect::ConnectError;
use crate::eager::{KEPT_MAX, Places};
use crate::names::{tool_queue, workflow_queue};
use crate::options::{Role, TemporalOptions};
use crate::outside::World;
use crate::workflow::{Run, Shared};

/// Workflow tasks that a worker works on at once.
const WORKFLOW_TASKS: usize = 100;
/// Requests that wait for tasks of one queue.
const POLLERS: usize = 4;
/// The wait before a worker that failed begins again.
const RESTART: Duration = Duration::from_secs(1);
/// What a worker has to end after its time is over.
const LAST_TIME: Duration = Duration::from_secs(5);

/// The workers of a process.
pub(crate) struct Workers {
    threads: Mutex<Vec<WorkerThread>>,
    /// No new work.
    stop: watch::Sender<bool>,
    /// No more time for work that runs.
    over: watch::Sender<bool>,
    /// Not even time for a last word.
    dead: watch::Sender<bool>,
    trouble: Arc<Mutex<Option<String>>>,
}

struct WorkerThread {
    name: &'static str,
    done: oneshot::Receiver<()>,
    /// `done` was heard.
    ended: bool,
    thread: std::thread::JoinHandle<()>,
}

impl Workers {
    /// Begins the workers of the roles, and answers when they poll.
    pub(crate) async fn start(
        client: &Client,
        options: &TemporalOptions,
        caller: &Arc<Caller>,
        notices: &broadcast::Sender<Notice>,
        running: &Arc<AtomicU64>,
    ) -> Result<Self, ConnectError> {
        let workers = Self {
            threads: Mutex::default(),
            stop: watch::Sender::new(false),
            over: watch::Sender::new(false),
            dead: watch::Sender::new(false),
            trouble: Arc::default(),
        };
        let plugins = plugins(options)?;
        let tools = Tools {
            executor: Arc::clone(&options.executor),
            vault: Arc::clone(caller.vault()),
            guests: options.guests.clone().unwrap_or_else(tokio::runtime::Handle::current),
            slots: Arc::clone(&options.slots),
            notices: notices.clone(),
            running: Arc::clone(running),
            heartbeat_every: options.heartbeat_every,
            over: workers.over.subscribe(),
            places: Arc::new(Places::new(plugins.clone())),
            kept: false,
        };
        let mut queues = Vec::new();
        if options.roles.contains(&Role::WorkflowWorker) {
            queues.push(("workflow-worker", vec![workflow_options(options, caller, &tools)?]));
        }
        if !plugins.is_empty() {
            let each = plugins.iter().map(|(plugin, places)| tool_options(options, plugin, *places, &tools));
            queues.push(("tool-worker", each.collect()));
        }
        for (name, each) in queues {
            if let Err(error) = workers.begin(name, client.clone(), each).await {
                workers.stop(Duration::ZERO).await;
                return Err(error);
            }
        }
        Ok(workers)
    }

    async fn begin(&self, name: &'static str, client: Client, each: Vec<WorkerOptions>) -> Result<(), ConnectError> {
        let (stop, dead, trouble) = (self.stop.subscribe(), self.dead.subscribe(), Arc::clone(&self.trouble));
        let (ready, is_ready) = oneshot::channel();
        let (end, done) = oneshot::channel();
        let failed = |reason: String| ConnectError::Worker { queue: name.to_owned(), reason };
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                run(&client, each, &stop, dead, &trouble, ready);
                _ = end.send(());
            })
            .map_err(|error| failed(error.to_string()))?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(WorkerThread {
            name,
            done,
            ended: false,
            thread,
        });
        match is_ready.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(failed(reason)),
            Err(_) => Err(failed("its thread ended".to_owned())),
        }
    }

    /// Leaves the threads as the death of the process would: their runtimes end, and nothing is said to the server.
    pub(crate) fn abandon(&self) {
        self.dead.send_replace(true);
    }

    /// Why a worker does not work, if so.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes no more work, lets what runs end for at most `drain`, and ends. Idempotent.
    pub(crate) async fn stop(&self, drain: Duration) {
        let mut threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        self.stop.send_replace(true);
        let deadline = tokio::time::Instant::now() + drain;
        for worker in &mut threads {
            worker.ended = tokio::time::timeout_at(deadline, &mut worker.done).await.is_ok();
        }
        self.over.send_replace(true);
        let last = tokio::time::Instant::now() + LAST_TIME;
        for mut worker in threads {
            if worker.ended || tokio::time::timeout_at(last, &mut worker.done).await.is_ok() {
                let join = tokio::task::spawn_blocking(move || worker.thread.join());
                if matches!(join.await, Ok(Err(_)) | Err(_)) {
                    tracing::error!(worker = worker.name, "a worker panicked");
                }
            } else {
                tracing::error!(worker = worker.name, "a worker does not end; its thread is left behind");
            }
        }
    }
}

fn failed(queue: &str, reason: &dyn std::fmt::Display) -> ConnectError {
    ConnectError::Worker { queue: queue.to_owned(), reason: reason.to_string() }
}

/// The plugins that this process runs tasks of, and how many of each at once.
fn plugins(options: &TemporalOptions) -> Result<Vec<(String, usize)>, ConnectError> {
    if !options.roles.contains(&Role::ToolWorker) {
        return Ok(Vec::new());
    }
    let places = |plugin: &String| {
        let places = options.concurrency.get(plugin).copied().unwrap_or(CONCURRENCY_DEFAULT);
        if (1..=CONCURRENCY_MAX).contains(&places) {
            return Ok((plugin.clone(), places));
        }
        let reason = format!("its concurrency is {places}, 1 to {CONCURRENCY_MAX} attempts at once are allowed");
        Err(failed(&tool_queue(&options.project, plugin), &reason))
    };
    options.plugins.iter().map(places).collect()
}

fn workflow_options(
    options: &TemporalOptions,
    caller: &Arc<Caller>,
    tools: &Tools,
) -> Result<WorkerOptions, ConnectError> {
    let queue = workflow_queue(&options.project);
    let shared = Arc::new(Shared {
        vault: Arc::clone(caller.vault()),
        project: options.project.clone(),
        lost_after: options.lost_after,
        history_events: options.history_events,
        places: Arc::clone(&tools.places),
    });
    let world = World { caller: Arc::clone(caller), workflows: Arc::clone(&options.workflows) };
    let tuner = tuner(WORKFLOW_TASKS, CONCURRENCY_DEFAULT);
    let builder = WorkerOptions::new(queue.clone())
        .max_cached_workflows(options.cached_runs)
        .workflow_task_poller_behavior(PollerBehavior::SimpleMaximum(POLLERS))
        .activity_task_poller_behavior(PollerBehavior::SimpleMaximum(1))
        .max_eager_activity_reservations_per_workflow_task(KEPT_MAX)
        .max_heartbeat_throttle_interval(options.heartbeat_every)
        .default_heartbeat_throttle_interval(options.heartbeat_every)
        .tuner(tuner)
        .register_activities(world)
        .register_activities(Tools { kept: true, ..tools.clone() })
        .register_workflow_with_factory(move || Run::new(Arc::clone(&shared)))
        .map_err(|error| failed(&queue, &error))?;
    Ok(builder.build())
}

fn tool_options(options: &TemporalOptions, plugin: &str, places: usize, tools: &Tools) -> WorkerOptions {
    let tuner = tuner(WORKFLOW_TASKS, places);
    WorkerOptions::new(tool_queue(&options.project, plugin))
        .max_cached_workflows(0)
        .activity_task_poller_behavior(PollerBehavior::SimpleMaximum(POLLERS))
        .max_heartbeat_throttle_interval(options.heartbeat_every)
        .default_heartbeat_throttle_interval(options.heartbeat_every)
        .tuner(tuner)
        .register_activities(tools.clone())
        .build()
}

fn tuner(workflow_tasks: usize, activities: usize) -> TunerHolder {
    TunerHolder::builder()
        .workflow_task_slot_supplier(FixedSizeSlotSupplier::new(workflow_tasks))
        .activity_task_slot_supplier(FixedSizeSlotSupplier::new(activities))
        .local_activity_task_slot_supplier(FixedSizeSlotSupplier::new(CONCURRENCY_DEFAULT))
        .nexus_task_slot_supplier(FixedSizeSlotSupplier::new(1))
        .build()
}

/// A worker's thread.
fn run(
    client: &Client,
    each: Vec<WorkerOptions>,
    stop: &watch::Receiver<bool>,
    mut dead: watch::Receiver<bool>,
    trouble: &Arc<Mutex<Option<String>>>,
    ready: oneshot::Sender<Result<(), String>>,
) {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            drop(ready.send(Err(error.to_string())));
            return;
        }
    };
    runtime.block_on(async {
        let begun = begin(client, each, stop, trouble);
        let local = tokio::task::LocalSet::new();
        match begun {
            Ok(workers) => {
                for worker in workers {
                    local.spawn_local(worker.keep());
                }
                drop(ready.send(Ok(())));
            }
            Err(reason) => drop(ready.send(Err(reason))),
        }
        tokio::select! {
            () = local => {}
            // When all that could say so is gone, the workers end by themselves.
            Ok(_) = dead.wait_for(|dead| *dead) => {}
        }
    });
    runtime.shutdown_timeout(LAST_TIME);
}

fn begin(
    client: &Client,
    each: Vec<WorkerOptions>,
    stop: &watch::Receiver<bool>,
    trouble: &Arc<Mutex<Option<String>>>,
) -> Result<Vec<Kept>, String> {
    let options = RuntimeOptions::builder().heartbeat_interval(None).build()?;
    let core = Rc::new(Runtime::from_current_tokio(options).map_err(|error| error.to_string())?);
    let begin = |options: WorkerOptions| {
        let worker = Worker::new(&core, client.clone(), options.clone()).map_err(|error| format!("{error:#}"))?;
        Ok(Kept {
            core: Rc::clone(&core),
            client: client.clone(),
            options,
            stop: stop.clone(),
            trouble: Arc::clone(trouble),
            worker: Some(worker),
        })
    };
    each.into_iter().map(begin).collect()
}

/// A worker that begins again when it fails.
struct Kept {
    core: Rc<Runtime>,
    client: Client,
    options: WorkerOptions,
    stop: watch::Receiver<bool>,
    trouble: Arc<Mutex<Option<String>>>,
    worker: Option<Worker>,
}

impl Kept {
    async fn keep(mut self) {
        loop {
            let worker = match self.worker.take() {
                Some(worker) => Ok(worker),
                None => Worker::new(&self.core, self.client.clone(), self.options.clone()),
            };
            let ended = match worker {
                Ok(worker) => {
                    self.set_trouble(None);
                    poll(worker, self.stop.clone()).await
                }
                Err(error) => Err(format!("{error:#}")),
            };
            if *self.stop.borrow() {
                return;
            }
            let queue = &self.options.task_queue;
            let reason = ended.err().unwrap_or_else(|| "without a reason".to_owned());
            tracing::error!(queue, reason, "a worker ended and begins again");
            self.set_trouble(Some(format!("the worker of the queue `{queue}` does not work: {reason}")));
            tokio::time::sleep(RESTART).await;
        }
    }

    fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

async fn poll(mut worker: Worker, mut stop: watch::Receiver<bool>) -> Result<(), String> {
    let shutdown = worker.shutdown_handle();
    let stopping = tokio::task::spawn_local(async move {
        drop(stop.wait_for(|stop| *stop).await);
        shutdown();
    });
    let ended = worker.run().await.map_err(|error| error.to_string());
    stopping.abort();
    ended
}
