//! Many callers of the role `locks`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use compozy_runtime::stores::{Attempt, Locks};

use super::{Checked, Ticker, clients, linearizable, rule};
use crate::compare::{Verdict, demand, mismatch, succeed};
use crate::linear::{Record, Sequential};
use crate::model::locks::LocksModel;
use crate::rng::Rng;
use crate::suite::{Run, World};

/// Looks at all rules.
pub(crate) async fn run(world: &World<'_>, run: &mut Run<'_>) {
    let (count, seed) = (world.options.clients, world.options.seed);
    let name = ("concurrent-calls-are-linearizable", "acquire, refresh, release and inspect, on three names");
    rule::<LocksModel, _>(world, run, name, |store| histories(store, count, seed)).await;
    let name = ("never-two-holders", "each takes one lock 5 times, and gives it back after a pause");
    rule::<LocksModel, _>(world, run, name, |store| holders(store, count)).await;
}

/// Longer than any run.
const LONG: Duration = Duration::from_hours(1);

/// A lock.
struct Lock;

#[derive(Debug, Clone)]
enum Call {
    /// The token, or none when somebody else has it.
    Acquire(Option<u64>),
    Refresh(u64, bool),
    Release(u64, bool),
    Inspect(Option<u64>),
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acquire(token) => write!(f, "acquire -> token {token:?}"),
            Self::Refresh(token, held) => write!(f, "refresh(token {token}) -> {held}"),
            Self::Release(token, held) => write!(f, "release(token {token}) -> {held}"),
            Self::Inspect(token) => write!(f, "inspect -> token {token:?}"),
        }
    }
}

impl Sequential for Lock {
    /// The token that holds it, and the greatest one so far.
    type State = (Option<u64>, u64);
    type Call = Call;

    fn initial() -> Self::State {
        (None, 0)
    }

    fn after(state: &Self::State, call: &Call) -> Option<Self::State> {
        let (holder, greatest) = *state;
        match *call {
            Call::Acquire(Some(token)) => (holder.is_none() && token > greatest).then_some((Some(token), token)),
            Call::Acquire(None) => holder.is_some().then_some(*state),
            Call::Refresh(token, held) => (held == (holder == Some(token))).then_some(*state),
            Call::Release(token, held) if held => (holder == Some(token)).then_some((None, greatest)),
            Call::Release(token, _) => (holder != Some(token)).then_some(*state),
            Call::Inspect(token) => (token == holder).then_some(*state),
        }
    }
}

async fn acquire(store: &dyn Locks, name: &str, holder: &str) -> Verdict<Option<u64>> {
    match succeed("acquire", store.acquire(name, LONG, holder).await)? {
        Attempt::Acquired(lease) => Ok(Some(lease.token)),
        Attempt::Held(_) => Ok(None),
    }
}

async fn histories(store: Arc<dyn Locks>, count: usize, seed: u64) -> Checked {
    let ticker = Arc::new(Ticker::default());
    let work = |client: usize| {
        let (store, ticker) = (Arc::clone(&store), Arc::clone(&ticker));
        async move {
            let mut rng = Rng::new(seed, &format!("locks client {client}"));
            let mut tokens: [Option<u64>; 3] = [None; 3];
            let mut history: Vec<(String, Record<Call>)> = Vec::new();
            for _ in 0..25 {
                let at = rng.below(3);
                let name = format!("l{at}");
                let held = tokens[at];
                let made = async {
                    Ok(match (rng.below(6), held) {
                        (0..=1, Some(token)) => {
                            Call::Refresh(token, succeed("refresh", store.refresh(&name, token, LONG).await)?)
                        }
                        (2..=4, Some(token)) => {
                            Call::Release(token, succeed("release", store.release(&name, token).await)?)
                        }
                        (5, _) => {
                            let state = succeed("inspect", store.inspect(&name).await)?;
                            Call::Inspect(state.map(|state| state.lease.token))
                        }
                        _ => Call::Acquire(acquire(&*store, &name, &client.to_string()).await?),
                    })
                };
                let record = ticker.record(client, made).await?;
                if let Call::Acquire(Some(token)) = record.call {
                    tokens[at] = Some(token);
                }
                history.push((name, record));
            }
            // Gives back what it has, so that the others go on.
            for (at, token) in tokens.iter().enumerate() {
                let (name, Some(token)) = (format!("l{at}"), *token) else { continue };
                let made = async { Ok(Call::Release(token, succeed("release", store.release(&name, token).await)?)) };
                let record = ticker.record(client, made).await?;
                history.push((name, record));
            }
            Ok(history)
        }
    };
    let brought = clients(count, work).await?;
    linearizable::<Lock, String>(brought.into_iter().flatten().collect())
}

async fn holders(store: Arc<dyn Locks>, count: usize) -> Checked {
    let inside = Arc::new(AtomicU64::new(0));
    let greatest = Arc::new(AtomicU64::new(0));
    let work = |client: usize| {
        let (store, inside, greatest) = (Arc::clone(&store), Arc::clone(&inside), Arc::clone(&greatest));
        async move {
            for _ in 0..5 {
                let token = loop {
                    match acquire(&*store, "l", &client.to_string()).await? {
                        Some(token) => break token,
                        None => tokio::time::sleep(Duration::from_millis(1)).await,
                    }
                };
                let other = inside.swap(token, Ordering::SeqCst);
                demand(other == 0, "one holder", || {
                    format!("token {token} was given while token {other} held the lock")
                })?;
                let before = greatest.fetch_max(token, Ordering::SeqCst);
                demand(before < token, format!("a token greater than {before}"), || token.to_string())?;
                tokio::task::yield_now().await;
                let still = inside.swap(0, Ordering::SeqCst);
                demand(still == token, "one holder", || format!("tokens {still} and {token} held the lock at once"))?;
                if !succeed("release", store.release("l", token).await)? {
                    return mismatch("true: the lease holds", "release answers false");
                }
            }
            Ok(())
        }
    };
    clients(count, work).await?;
    let state = succeed("inspect", store.inspect("l").await)?;
    Ok(demand(state.is_none(), "a free lock", || format!("{state:?}"))?)
}
