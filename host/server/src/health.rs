//! How the host feels, put together from the engine and from what lies beside it.

use std::collections::BTreeMap;

use compozy_engine::port::EngineHealth;
use compozy_engine::services::{ServiceHealth, ServiceState, WorkerHealth};
use serde::Serialize;
use serde_json::Value;

use crate::problem::{Code, Problem};
use crate::state::{AppState, HostHealth};

/// What `GET /api/v0/health` answers.
#[derive(Debug, Clone, Serialize)]
pub struct Health {
    /// `ok`, `degraded` or `stopping`.
    pub status: &'static str,
    /// The host's version.
    pub version: &'static str,
    /// `standalone` or `distributed`.
    pub mode: &'static str,
    /// Which engine, and how it feels.
    pub engine: EngineHealth,
    /// Whether new executions would be taken.
    pub ready: bool,
    /// One sentence about what is wrong, for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// How many can be started.
    pub workflows: usize,
    /// Each store's role: its plugin with version and digest, whether it answers, how long that takes.
    pub stores: BTreeMap<String, Value>,
    /// Services on which the host rests, and since when each is there or not.
    pub services: Vec<ServiceHealth>,
    /// The queues that this host needs workers on.
    pub workers: Vec<WorkerHealth>,
    /// One object per plugin.
    pub plugins: Vec<Value>,
}

impl Health {
    /// As it is now. Does no I/O.
    pub fn of(state: &AppState) -> Self {
        let engine = state.engine.health();
        let HostHealth { mode, stores, trouble, plugins, services } = state.host.health();
        let services: Vec<ServiceHealth> = state.engine.services().into_iter().chain(services).collect();
        let ready = ready(state);
        let trouble = trouble.or_else(|| services.iter().find_map(away));
        let trouble = trouble.or_else(|| ready.as_ref().err().map(|problem| problem.detail().to_owned()));
        let status = match (state.lifecycle.is_stopping(), trouble.is_none()) {
            (true, _) => "stopping",
            (false, true) => "ok",
            (false, false) => "degraded",
        };
        Self {
            status,
            version: env!("CARGO_PKG_VERSION"),
            mode,
            engine,
            ready: ready.is_ok(),
            trouble,
            workflows: state.workflows.len(),
            stores,
            services,
            workers: state.engine.workers(),
            plugins,
        }
    }
}

/// A sentence about a service that is away.
fn away(service: &ServiceHealth) -> Option<String> {
    (service.state == ServiceState::Down).then(|| {
        let ServiceHealth { service, address, detail, .. } = service;
        format!("the {service} at `{address}` does not answer: {}", detail.as_deref().unwrap_or("no reason is known"))
    })
}

/// Whether new work would be taken, or why not.
///
/// What only some tasks need does not count: they are tried again when it is back, and everything else goes on.
pub(crate) fn ready(state: &AppState) -> Result<(), Problem> {
    if state.lifecycle.is_stopping() {
        return Err(Problem::new(Code::Stopping, "the host takes no new work"));
    }
    let engine = state.engine.health();
    if !engine.writable {
        return Err(match state.engine.services().iter().find_map(away) {
            Some(away) => Problem::new(Code::BackendUnavailable, away),
            None => Problem::new(Code::StorageUnavailable, engine.detail),
        });
    }
    match state.engine.workers().into_iter().find(|worker| !worker.present) {
        None => Ok(()),
        Some(WorkerHealth { role, queue, .. }) => {
            let detail = format!(
                "nobody takes work from the queue `{queue}`; start a process with the role `{role}`, or look why it does not reach its server"
            );
            Err(Problem::new(Code::WorkerUnavailable, detail).with("queue", queue))
        }
    }
}
