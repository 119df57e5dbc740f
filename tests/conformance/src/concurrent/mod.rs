//! Rules about many callers at one time.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::compare::{Mismatch, Verdict, mismatch};
use crate::linear::{Found, Record, Sequential, check};
use crate::model::Model;
use crate::report::{Failure, Outcome};
use crate::script::Stage;
use crate::suite::{Run, World};

pub(crate) mod cache;
pub(crate) mod config;
pub(crate) mod events;
pub(crate) mod locks;
pub(crate) mod memory;

/// How a rule was broken, before it is told what its callers did.
pub(crate) struct Breach {
    steps: Vec<String>,
    mismatch: Mismatch,
}

impl From<Mismatch> for Breach {
    fn from(mismatch: Mismatch) -> Self {
        Self { steps: Vec::new(), mismatch }
    }
}

/// What a rule about concurrency found.
pub(crate) type Checked = Result<(), Breach>;

/// Looks at a rule on a fresh backend; `story` says what the callers do.
pub(crate) async fn rule<M, Looking>(
    world: &World<'_>,
    run: &mut Run<'_>,
    (name, story): (&str, &str),
    look: impl FnOnce(Arc<M::Store>) -> Looking,
) where
    M: Model,
    Looking: Future<Output = Checked>,
{
    let outcome = async {
        let checked = match Stage::<M>::open(world).await {
            Ok(stage) => look(Arc::clone(&stage.store)).await,
            Err(found) => Err(found.into()),
        };
        let Err(Breach { mut steps, mismatch }) = checked else { return Outcome::Passed };
        steps.insert(0, format!("{} clients at once: {story}", world.options.clients));
        Outcome::Failed(Failure { steps, expected: mismatch.expected, actual: mismatch.actual })
    };
    run.rule(M::ROLE, name, outcome).await;
}

/// Lets so many callers work at once, and answers what each of them brought.
pub(crate) async fn clients<T, Work>(count: usize, work: impl Fn(usize) -> Work) -> Verdict<Vec<T>>
where
    T: Send + 'static,
    Work: Future<Output = Verdict<T>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    // Nobody begins before all are there, or the first would be done by then.
    let all = Arc::new(Barrier::new(count));
    for client in 0..count {
        let (all, work) = (Arc::clone(&all), work(client));
        tasks.spawn(async move {
            all.wait().await;
            work.await
        });
    }
    let mut brought = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(result) => brought.push(result?),
            Err(error) => return mismatch("every client ends its work", error.to_string()),
        }
    }
    Ok(brought)
}

/// Numbers that say which call began or ended before which.
#[derive(Debug, Default)]
pub(crate) struct Ticker(AtomicU64);

impl Ticker {
    fn tick(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }

    /// Makes a call and writes it down.
    pub(crate) async fn record<C>(&self, client: usize, call: impl Future<Output = Verdict<C>>) -> Verdict<Record<C>> {
        let begun = self.tick();
        let call = call.await?;
        Ok(Record { client, begun, ended: self.tick(), call })
    }
}

/// Checks the history of each thing by itself.
pub(crate) fn linearizable<S: Sequential, K: Ord + Display>(histories: Vec<(K, Record<S::Call>)>) -> Checked {
    let mut by_key = std::collections::BTreeMap::<K, Vec<Record<S::Call>>>::new();
    for (key, record) in histories {
        by_key.entry(key).or_default().push(record);
    }
    for (key, history) in by_key {
        let calls = history.len();
        let (steps, actual) = match check::<S>(history) {
            Found::Linearizable => continue,
            Found::Broken(steps) => (steps, format!("no order of the {calls} calls on {key} gives these answers")),
            Found::Undecided => (Vec::new(), format!("too many orders of the {calls} calls on {key} to try them all")),
        };
        let expected = "answers as if the calls had been made one after the other, each between its begin and its end";
        return Err(Breach { steps, mismatch: Mismatch { expected: expected.to_owned(), actual } });
    }
    Ok(())
}
