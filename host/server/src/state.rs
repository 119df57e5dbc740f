//! What the routes work on.

use std::collections::BTreeMap;
use std::sync::Arc;

use compozy_engine::port::Engine;
use compozy_engine::services::ServiceHealth;
use compozy_plan::plan::Plan;
use serde_json::Value;
use tokio::sync::watch;

use crate::limits::Limits;
use crate::rate::RateLimiter;

/// The workflows that can be started, by id.
#[derive(Debug, Clone, Default)]
pub struct Workflows(BTreeMap<String, Arc<Plan>>);

impl Workflows {
    /// The plan of a workflow.
    pub fn get(&self, id: &str) -> Option<&Arc<Plan>> {
        self.0.get(id)
    }
    /// In the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Plan>> {
        self.0.values()
    }
    /// The ids in order.
    pub fn ids(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.keys().map(String::as_str)
    }
    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl compozy_engine::port::Workflows for Workflows {
    fn workflow(&self, id: &str) -> Option<Arc<Plan>> {
        self.get(id).cloned()
    }

    fn triggered_by(&self, signal: &str) -> Vec<Arc<Plan>> {
        self.iter().filter(|plan| plan.triggers.iter().any(|trigger| trigger.name == signal)).cloned().collect()
    }
}

/// Of two plans of one id the later one stays; whoever reads the project refuses such a pair before.
impl FromIterator<Arc<Plan>> for Workflows {
    fn from_iter<T: IntoIterator<Item = Arc<Plan>>>(plans: T) -> Self {
        Self(plans.into_iter().map(|plan| (plan.workflow.clone(), plan)).collect())
    }
}

/// The part of the host that lies below HTTP and beside the engine, for `health`.
#[derive(Debug, Clone)]
pub struct HostHealth {
    /// `standalone` or `distributed`.
    pub mode: &'static str,
    /// Each store's role that is filled: its plugin, whether it answers, how long that takes.
    pub stores: BTreeMap<String, Value>,
    /// Why plugins cannot be trusted to behave now; `None` while all is well.
    pub trouble: Option<String>,
    /// One object per plugin: name, version, digest, roles, origin, capabilities.
    pub plugins: Vec<Value>,
    /// Services that the host uses beside its engine.
    pub services: Vec<ServiceHealth>,
}

/// Answers how the host is made up right now. Does no I/O and never blocks.
pub trait HostInfo: Send + Sync + 'static {
    /// See [`HostHealth`].
    fn health(&self) -> HostHealth;
}

/// Whether the host takes new work. Shared between the routes and whoever stops the host.
#[derive(Debug, Clone)]
pub struct Lifecycle(Arc<watch::Sender<bool>>);

impl Default for Lifecycle {
    fn default() -> Self {
        Self(Arc::new(watch::channel(false).0))
    }
}

impl Lifecycle {
    /// From now on new executions are refused with `STOPPING`, and streams end.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
    /// True after [`Lifecycle::stop`].
    pub fn is_stopping(&self) -> bool {
        *self.0.borrow()
    }
    /// Waits for [`Lifecycle::stop`].
    pub async fn stopped(&self) {
        let mut stopping = self.0.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        drop(stopping.wait_for(|stopping| *stopping).await);
    }
}

/// Everything that the routes need.
#[derive(Clone)]
pub struct AppState {
    /// Runs workflows.
    pub engine: Arc<dyn Engine>,
    /// The definitions that can be started.
    pub workflows: Arc<Workflows>,
    /// For `health`.
    pub host: Arc<dyn HostInfo>,
    /// Whether the host is stopping.
    pub lifecycle: Lifecycle,
    /// See [`Limits`].
    pub limits: Arc<Limits>,
    /// How often one client may ask; `None` is as often as it likes.
    pub rates: Option<Arc<dyn RateLimiter>>,
}
