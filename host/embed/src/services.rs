//! The services that a host uses beside its engine: whether they are there when it starts, and while it works.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use compozy_engine::SystemClock;
use compozy_engine::blob_store::BlobStore;
use compozy_engine::services::{ServiceHealth, ServiceWatch};
use compozy_runtime::stores::{StoreError, Stores};
use compozy_runtime::{Role, Runtime};

use tokio::task::JoinSet;

use crate::error::{StartError, StartProblem};
use crate::options::{HostOptions, OperatorSettings};
use crate::parts::Background;

/// A service that takes longer to say that it is there is away.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// The pause between two tries at the start.
const TRY_AGAIN: Duration = Duration::from_millis(250);
/// What is left of the time of a start, to say what was missing and to undo it.
const TO_TELL: Duration = Duration::from_millis(200);

type Answer = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// One service and how it is asked.
struct Service {
    watch: ServiceWatch,
    ask: Box<dyn Fn() -> Answer + Send + Sync>,
}

impl Service {
    async fn probe(&self, at_most: Duration) -> Result<(), String> {
        let answer = tokio::time::timeout(at_most, (self.ask)()).await;
        let answer = answer.unwrap_or_else(|_elapsed| Err(format!("no answer within {} ms", at_most.as_millis())));
        match &answer {
            Ok(()) => self.watch.up(),
            Err(reason) => self.watch.down(reason),
        }
        answer
    }
}

impl Service {
    /// Asks until it answers, or until there is no time left.
    async fn wait(&self, until: Instant) -> Result<(), StartProblem> {
        let begun = Instant::now();
        let (mut tries, mut said) = (0, None);
        loop {
            tries += 1;
            let left = until.saturating_duration_since(Instant::now());
            match self.probe(ANSWER_MAX.min(left)).await {
                Ok(()) => return Ok(()),
                // What it said while there was time says more than that the time was over.
                Err(reason) if said.is_none() || left >= ANSWER_MAX => said = Some(reason),
                Err(_) => {}
            }
            if Instant::now() + TRY_AGAIN >= until {
                let ServiceHealth { service, address, .. } = self.watch.health();
                let what = format!("the {service} at `{address}`");
                let reason = said.unwrap_or_default();
                return Err(StartProblem::Dependency { what, reason, tries, waited: begun.elapsed() });
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }
}

/// All of them; none when everything lies in the data folder.
#[derive(Clone)]
pub(crate) struct Services(Arc<[Service]>);

impl Services {
    /// Those that the options and the selected stores need.
    pub(crate) fn of(options: &HostOptions, settings: &OperatorSettings, runtime: &Runtime) -> Self {
        let redis = settings.redis.as_ref().and_then(|redis| on_redis(redis.address(), runtime));
        let blobs = options.blobs.as_ref().map(blob_store);
        Self(redis.into_iter().chain(blobs).collect())
    }

    /// For `health`.
    pub(crate) fn health(&self) -> Vec<ServiceHealth> {
        self.0.iter().map(|service| service.watch.health()).collect()
    }

    /// Waits until all are there.
    pub(crate) async fn wait(&self, at_most: Duration) -> Result<(), StartError> {
        let until = Instant::now() + at_most.saturating_sub(TO_TELL);
        let mut asked = JoinSet::new();
        for one in 0..self.0.len() {
            let services = self.clone();
            asked.spawn(async move { services.0[one].wait(until).await });
        }
        let problems: Vec<StartProblem> = asked.join_all().await.into_iter().filter_map(Result::err).collect();
        if problems.is_empty() { Ok(()) } else { Err(StartError { problems }) }
    }

    /// Asks them again and again; nothing is begun when there are none.
    pub(crate) fn watch(&self, every: Duration) -> Option<Background> {
        if self.0.is_empty() {
            return None;
        }
        let services = self.clone();
        Some(Background(tokio::spawn(async move {
            loop {
                for service in services.0.iter() {
                    // What came of it is remembered and logged.
                    drop(service.probe(ANSWER_MAX).await);
                }
                tokio::time::sleep(every).await;
            }
        })))
    }
}

/// Redis, if any store lies on it.
fn on_redis(address: String, runtime: &Runtime) -> Option<Service> {
    let plugins = runtime.plugins();
    let uses_redis = |name: &str| {
        plugins.iter().any(|plugin| plugin.identity.name == name && plugin.granted.iter().any(|what| what == "redis"))
    };
    let roles: BTreeSet<&'static str> =
        runtime.roles().into_iter().filter(|role| uses_redis(&role.plugin.name)).map(|role| role.role).collect();
    let first = Role::STORES.into_iter().find(|role| roles.contains(role.name()))?;
    let stores = Arc::clone(runtime.stores());
    let needed_by = roles.into_iter().map(str::to_owned).collect();
    Some(Service {
        watch: ServiceWatch::new("Redis server", address, needed_by, Arc::new(SystemClock)),
        ask: Box::new(move || {
            let stores = Arc::clone(&stores);
            Box::pin(async move { ask_store(&stores, first).await.map_err(|error| error.to_string()) })
        }),
    })
}

async fn ask_store(stores: &Stores, role: Role) -> Result<(), StoreError> {
    macro_rules! ask {
        ($store:expr) => {
            match $store {
                Some(store) => store.health().await.map(drop),
                None => Ok(()),
            }
        };
    }
    match role {
        Role::Cache => ask!(&stores.cache),
        Role::Locks => ask!(&stores.locks),
        Role::Events => ask!(&stores.events),
        Role::ConfigStore => ask!(&stores.config),
        Role::MemoryStore => ask!(&stores.memory),
        Role::Executor => Ok(()),
    }
}

/// What is asked for is never there, so that an answer costs nothing.
const NO_VALUE: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn blob_store(blobs: &Arc<dyn BlobStore>) -> Service {
    let blobs = Arc::clone(blobs);
    let needed_by = vec!["large values".to_owned()];
    Service {
        watch: ServiceWatch::new("blob store", blobs.place(), needed_by, Arc::new(SystemClock)),
        ask: Box::new(move || {
            let blobs = Arc::clone(&blobs);
            Box::pin(async move {
                let asked = tokio::task::spawn_blocking(move || blobs.get(NO_VALUE, 0)).await;
                let asked = asked.map_err(|error| error.to_string())?;
                asked.map(drop).map_err(|error| error.to_string())
            })
        }),
    }
}
