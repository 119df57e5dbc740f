//! The suite: all rules of the roles that a backend has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use compozy_runtime::Role;

use crate::report::{Outcome, Report, Reporter, Summary};
use crate::rules;
use crate::subject::{Subject, TurnableClock};

/// How thoroughly to look, and at what.
#[derive(Clone)]
pub struct Options {
    /// Random operations of each role. 10,000 in a normal run, 1,000,000 in a deep one.
    pub operations: usize,
    /// The same seed draws the same operations.
    pub seed: u64,
    /// The clock that all backends of the subject go by; `None` when they go by real time. Without it, rules about time wait for
    /// [`Options::real_ttl`], and those that would have to wait longer are skipped.
    pub clock: Option<Arc<dyn TurnableClock>>,
    /// A time to live that is short enough to wait for, and long enough for some calls. Doubled when the machine is too busy for it.
    pub real_ttl: Duration,
    /// The limit `value_bytes` of the backend.
    pub value_bytes_max: usize,
    /// Callers at one time in rules about concurrency.
    pub clients: usize,
    /// Only rules whose name contains this.
    pub filter: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            operations: 10_000,
            seed: 1,
            clock: None,
            real_ttl: Duration::from_millis(300),
            value_bytes_max: 16 * 1024 * 1024,
            clients: 32,
            filter: None,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("operations", &self.operations)
            .field("seed", &self.seed)
            .field("clock", &self.clock.is_some())
            .field("real_ttl", &self.real_ttl)
            .field("value_bytes_max", &self.value_bytes_max)
            .field("clients", &self.clients)
            .field("filter", &self.filter)
            .finish()
    }
}

/// What rules work with.
pub(crate) struct World<'a> {
    pub(crate) subject: &'a dyn Subject,
    pub(crate) options: &'a Options,
    /// True when backends of the subject can be closed and opened again.
    pub(crate) reopens: bool,
}

/// All rules, with these options.
#[derive(Debug, Clone, Default)]
pub struct Suite {
    options: Options,
}

impl Suite {
    /// With these options.
    pub fn new(options: Options) -> Self {
        Self { options }
    }

    /// Looks at these roles, one rule after the other, and tells the reporter of each.
    ///
    /// Wants a tokio runtime with more than one thread, or the rules about concurrency see little of it.
    ///
    /// # Errors
    /// When no backend can be opened, or when it lacks one of the roles; in words for a person.
    pub async fn run(
        &self,
        subject: &dyn Subject,
        roles: &[Role],
        reporter: &mut dyn Reporter,
    ) -> Result<Summary, String> {
        let mut backend = subject.open().await?;
        let stores = backend.stores();
        for role in roles {
            let there = match role {
                Role::Executor => return Err("the role `executor` is not one of a backend".to_owned()),
                Role::Cache => stores.cache.is_some(),
                Role::Locks => stores.locks.is_some(),
                Role::Events => stores.events.is_some(),
                Role::ConfigStore => stores.config.is_some(),
                Role::MemoryStore => stores.memory.is_some(),
            };
            if !there {
                return Err(format!("the backend does not fill the role `{}`", role.name()));
            }
        }
        drop(stores);
        let reopens = backend.reopen().await?;
        drop(backend);
        let world = World { subject, options: &self.options, reopens };
        let mut run = Run { filter: self.options.filter.as_deref(), reporter, summary: Summary::default() };
        for role in roles {
            match role {
                Role::Cache => rules::cache::run(&world, &mut run).await,
                Role::Locks => rules::locks::run(&world, &mut run).await,
                Role::Events => rules::events::run(&world, &mut run).await,
                Role::ConfigStore => rules::config::run(&world, &mut run).await,
                Role::MemoryStore => rules::memory::run(&world, &mut run).await,
                Role::Executor => {}
            }
        }
        Ok(run.summary)
    }
}

/// A run of the suite.
pub(crate) struct Run<'a> {
    filter: Option<&'a str>,
    reporter: &'a mut dyn Reporter,
    summary: Summary,
}

impl Run<'_> {
    /// Looks at a rule, unless it was not asked for.
    pub(crate) async fn rule(&mut self, role: Role, name: &str, outcome: impl Future<Output = Outcome>) {
        let rule = format!("{}/{name}", role.name());
        if self.filter.is_some_and(|filter| !rule.contains(filter)) {
            return;
        }
        let begun = Instant::now();
        let outcome = outcome.await;
        let report = Report { rule, role, outcome, took: begun.elapsed() };
        self.reporter.report(&report);
        self.summary.reports.push(report);
    }
}
