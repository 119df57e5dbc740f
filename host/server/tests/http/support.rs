//! An engine in memory that refuses, hangs or panics when the input asks for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use compozy_engine::port::{
    Control, Engine, EngineHealth, Execution, ExecutionId, JournalRecord, Notice, StartRequest, TaskRecord,
};
use compozy_engine::services::{ServiceHealth, WorkerHealth};
use compozy_engine::{Difference, EngineError, Violation};
use compozy_interpreter::{RunState, SignalRefused, Status, TaskKey, TaskState};
use compozy_plan::plan::{PLAN_FORMAT, Plan, ProjectInfo};
use compozy_server::limits::Limits;
use compozy_server::{AppState, HostHealth, HostInfo, Lifecycle};
use serde_json::{Value, json};
use tokio::sync::broadcast;

#[derive(Default)]
pub(crate) struct FakeEngine {
    started: Mutex<Vec<StartRequest>>,
    controls: Mutex<Vec<Control>>,
    /// Events of the execution `open`, which never ends.
    events: Mutex<u64>,
    notices: OnceLock<broadcast::Sender<Notice>>,
    /// As an engine would have them that rests on others.
    pub(crate) services: Mutex<Vec<ServiceHealth>>,
    pub(crate) workers: Mutex<Vec<WorkerHealth>>,
}

impl FakeEngine {
    /// One event more of the execution `open`; its number.
    pub(crate) fn grow(&self) -> u64 {
        let mut events = self.events.lock().expect("no test panics while it holds the lock");
        *events += 1;
        *events
    }
    pub(crate) fn tell(&self, notice: Notice) {
        drop(self.notices().send(notice));
    }
    fn notices(&self) -> &broadcast::Sender<Notice> {
        self.notices.get_or_init(|| broadcast::channel(16).0)
    }
    pub(crate) fn controls(&self) -> Vec<Control> {
        self.controls.lock().expect("no test panics while it holds the lock").clone()
    }
    pub(crate) fn starts(&self) -> usize {
        self.started.lock().expect("no test panics while it holds the lock").len()
    }
    /// The priority that the last start asked for.
    pub(crate) fn last_priority(&self) -> Option<u8> {
        self.started.lock().expect("no test panics while it holds the lock").last().and_then(|start| start.priority)
    }

    pub(crate) fn keys(&self) -> Vec<Option<String>> {
        self.started
            .lock()
            .expect("no test panics while it holds the lock")
            .iter()
            .map(|start| start.idempotency_key.clone())
            .collect()
    }
}

#[async_trait::async_trait]
impl Engine for FakeEngine {
    async fn start(&self, request: StartRequest) -> Result<ExecutionId, EngineError> {
        match request.input.get("engine").and_then(Value::as_str) {
            Some("panic") => panic!("asked to panic"),
            Some("hang") => std::future::pending().await,
            Some("full") => Err(EngineError::QueueFull {
                operations: 2,
                operations_max: 2,
                bytes: 9,
                bytes_max: 10,
                retry_after: Duration::from_millis(1_500),
            }),
            Some("disk") => Err(EngineError::StorageUnavailable {
                folder: "/data".into(),
                action: "write the journal",
                reason: "disk full".into(),
            }),
            Some("worker") => Err(EngineError::WorkerUnavailable {
                queue: "weather-tools".into(),
                waited: Duration::from_mins(1),
                retry_after: Duration::from_secs(7),
            }),
            Some("backend") => Err(EngineError::BackendUnavailable {
                backend: "Temporal server".into(),
                address: "127.0.0.1:7233".into(),
                reason: "connection refused".into(),
                retry_after: Duration::from_secs(7),
            }),
            Some("invalid") => Err(EngineError::InvalidInput {
                workflow: request.plan.workflow.clone(),
                violations: vec![Violation { path: "/city".into(), message: "is missing".into() }],
            }),
            Some("reused") => Err(EngineError::IdempotencyKeyReused {
                key: request.idempotency_key.unwrap_or_default(),
                execution: ExecutionId("first".into()),
            }),
            Some("defect") => Err(EngineError::Internal("secret".into())),
            _ => {
                let mut started = self.started.lock().expect("no test panics while it holds the lock");
                started.push(request);
                Ok(ExecutionId(format!("exec-{}", started.len())))
            }
        }
    }

    async fn execution(&self, id: &ExecutionId) -> Result<Option<Execution>, EngineError> {
        let mut execution = execution(id);
        if id.0 == "open" {
            execution.state.status = Status::Running;
        }
        Ok(["exec-1", "open"].contains(&id.0.as_str()).then_some(execution))
    }

    async fn journal(&self, id: &ExecutionId) -> Result<Vec<JournalRecord>, EngineError> {
        if id.0 == "open" {
            let events = *self.events.lock().expect("no test panics while it holds the lock");
            let record = |seq| JournalRecord { seq, at_ms: seq, event: json!({ "kind": "signal_received" }) };
            return Ok((1..=events).map(record).collect());
        }
        if id.0 != "exec-1" {
            return Err(EngineError::ExecutionNotFound { id: id.clone() });
        }
        Ok(vec![JournalRecord { seq: 1, at_ms: 0, event: json!({ "kind": "started" }) }])
    }

    async fn control(&self, id: &ExecutionId, control: Control) -> Result<(), EngineError> {
        if id.0 != "exec-1" {
            return Err(EngineError::ExecutionNotFound { id: id.clone() });
        }
        match &control {
            Control::Resume => {
                let status = "FAILED";
                return Err(EngineError::ExecutionEnded { id: id.clone(), status, operation: control.name() });
            }
            Control::Signal(signal) if signal.name == "stop" => {
                let reason = SignalRefused::Unknown { name: "stop".into(), known: "`go`".into() };
                return Err(EngineError::SignalRefused { id: id.clone(), reason });
            }
            _ => {}
        }
        self.controls.lock().expect("no test panics while it holds the lock").push(control);
        Ok(())
    }

    async fn verify(&self, id: &ExecutionId) -> Result<Option<Difference>, EngineError> {
        let (seq, kind, what) = (3, "task_completed".to_owned(), "task a: status".to_owned());
        let (expected, actual) = (json!("SUCCESS"), json!("FAILED"));
        Ok((id.0 != "exec-1").then_some(Difference { seq, kind, what, expected, actual }))
    }

    async fn wait(&self, id: &ExecutionId) -> Result<Execution, EngineError> {
        Ok(execution(id))
    }

    fn watch(&self) -> broadcast::Receiver<Notice> {
        self.notices().subscribe()
    }

    fn health(&self) -> EngineHealth {
        EngineHealth {
            engine: "fake",
            writable: self.starts() < 3,
            detail: "in memory".into(),
            open_executions: 0,
            running_tasks: 0,
            commits: 0,
        }
    }

    fn services(&self) -> Vec<ServiceHealth> {
        self.services.lock().expect("no test panics while it holds the lock").clone()
    }

    fn workers(&self) -> Vec<WorkerHealth> {
        self.workers.lock().expect("no test panics while it holds the lock").clone()
    }

    async fn stop(&self, _drain: Duration) {}
}

fn execution(id: &ExecutionId) -> Execution {
    let mut state = RunState::new();
    state.status = Status::Success;
    state.now_ms = 1_042;
    state.output = Some(json!({ "answer": 42 }));
    let task: TaskState = serde_json::from_value(json!({
        "id": "ask", "kind": "basic", "status": "SUCCESS", "started_at_ms": 7, "ended_at_ms": 1_007,
        "with": { "q": 1 }, "output": 42,
    }))
    .expect("a task's state");
    state.tasks.insert(TaskKey("ask".into()), task);
    let ran = compozy_engine::port::Ran {
        plugin: "oracle".into(),
        version: "1.2.3".into(),
        digest: "abc".into(),
        fuel: 5,
        wall_us: 6,
    };
    let record = TaskRecord { attempts: 2, ran: Some(ran), ..TaskRecord::default() };
    Execution {
        id: id.clone(),
        workflow: "weather".into(),
        definition: "d1g357".into(),
        pins: [("oracle".to_owned(), "abc".to_owned())].into_iter().collect(),
        state,
        attempts: [("ask".to_owned(), record)].into_iter().collect(),
        events: 3,
        parent: None,
        children: indexmap::IndexMap::new(),
    }
}

struct FakeHost;

impl HostInfo for FakeHost {
    fn health(&self) -> HostHealth {
        HostHealth {
            mode: "standalone",
            trouble: None,
            stores: BTreeMap::from([("cache".to_owned(), serde_json::json!({ "circuit": "closed" }))]),
            plugins: vec![json!({ "name": "sqlite" })],
            services: Vec::new(),
        }
    }
}

fn plan(id: &str) -> Arc<Plan> {
    Arc::new(Plan {
        format: PLAN_FORMAT,
        workflow: id.into(),
        version: "1.0.0".into(),
        description: String::new(),
        project: ProjectInfo::default(),
        input: None,
        env: indexmap::IndexMap::new(),
        tasks: vec![],
        outputs: None,
        timeout_ms: None,
        triggers: vec![],
        priority: None,
    })
}

/// A state with the workflows `weather` and `files`, and its engine.
pub(crate) fn state(limits: Limits) -> (AppState, Arc<FakeEngine>) {
    let engine = Arc::new(FakeEngine::default());
    let state = AppState {
        engine: engine.clone(),
        workflows: Arc::new([plan("weather"), plan("files")].into_iter().collect()),
        host: Arc::new(FakeHost),
        lifecycle: Lifecycle::default(),
        limits: Arc::new(limits),
        rates: None,
    };
    (state, engine)
}
