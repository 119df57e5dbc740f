//! Many callers of the role `cache`.

use std::fmt;
use std::sync::Arc;

use compozy_runtime::stores::{Assignment, Cache, Condition, Span};

use super::{Breach, Checked, Ticker, clients, linearizable, rule};
use crate::compare::{Verdict, demand, mismatch, slice, succeed};
use crate::linear::{Record, Sequential};
use crate::model::cache::CacheModel;
use crate::rng::Rng;
use crate::suite::{Run, World};

/// Looks at all rules.
pub(crate) async fn run(world: &World<'_>, run: &mut Run<'_>) {
    let (count, seed) = (world.options.clients, world.options.seed);
    let story = "get, set, compare-and-swap, increment and delete, on four keys";
    let name = ("concurrent-calls-are-linearizable", story);
    rule::<CacheModel, _>(world, run, name, |store| histories(store, count, seed)).await;
    let name = ("concurrent-increments-lose-nothing", "each increments one key 20 times");
    rule::<CacheModel, _>(world, run, name, |store| increments(store, count)).await;
    let name = ("concurrent-swaps-lose-nothing", "each adds one 10 times, by get and set if the version is the same");
    rule::<CacheModel, _>(world, run, name, |store| swaps(store, count)).await;
    let name =
        ("concurrent-set-many-is-one-step", "half write five keys with one number, half read them with get-many");
    rule::<CacheModel, _>(world, run, name, |store| bulk(store, count)).await;
}

/// A key that holds numbers.
struct Key;

#[derive(Debug, Clone)]
enum Call {
    /// Value and version.
    Get(Option<(i64, u64)>),
    Set(i64, Condition, Option<u64>),
    Delete(bool),
    Increment(i64, i64),
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get(found) => write!(f, "get -> {found:?} (value, version)"),
            Self::Set(value, condition, version) => write!(f, "set({value}, {condition:?}) -> version {version:?}"),
            Self::Delete(there) => write!(f, "delete -> {there}"),
            Self::Increment(delta, sum) => write!(f, "increment({delta}) -> {sum}"),
        }
    }
}

impl Sequential for Key {
    /// Value and version; the version of a sum is not known until it is seen.
    type State = Option<(i64, Option<u64>)>;
    type Call = Call;

    fn initial() -> Self::State {
        None
    }

    fn after(state: &Self::State, call: &Call) -> Option<Self::State> {
        match (call, state) {
            (Call::Get(None) | Call::Set(_, Condition::IfVersion(_), None), None) => Some(None),
            (Call::Get(Some((value, version))), Some((held, known))) => {
                let same = value == held && known.is_none_or(|known| known == *version);
                same.then_some(Some((*value, Some(*version))))
            }
            (Call::Set(value, Condition::Always, Some(version)), _)
            | (Call::Set(value, Condition::IfAbsent, Some(version)), None) => Some(Some((*value, Some(*version)))),
            (Call::Set(_, Condition::IfAbsent, None), Some(_)) => Some(*state),
            (Call::Set(value, Condition::IfVersion(wanted), Some(version)), Some((_, known))) => {
                known.is_none_or(|known| known == *wanted).then_some(Some((*value, Some(*version))))
            }
            (Call::Set(_, Condition::IfVersion(wanted), None), Some((_, known))) => {
                known.is_none_or(|known| known != *wanted).then_some(*state)
            }
            (Call::Delete(there), _) => (*there == state.is_some()).then_some(None),
            (Call::Increment(delta, sum), _) => {
                let before = state.map_or(0, |(value, _)| value);
                (before.checked_add(*delta) == Some(*sum)).then_some(Some((*sum, None)))
            }
            _ => None,
        }
    }
}

fn number(value: &[u8]) -> Verdict<i64> {
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    number.map_or_else(|| mismatch("a number that a client wrote", format!("{value:?}")), Ok)
}

async fn call(store: &dyn Cache, key: &str, rng: &mut Rng, value: i64, seen: &mut Option<u64>) -> Verdict<Call> {
    let condition = match rng.below(10) {
        0..=2 => {
            let entry = succeed("get", store.get(key).await)?;
            *seen = entry.as_ref().map(|entry| entry.version);
            let found = entry.map(|entry| Ok((number(&entry.value)?, entry.version)));
            return Ok(Call::Get(found.transpose()?));
        }
        3 => return Ok(Call::Delete(succeed("delete", store.delete(key).await)?)),
        4..=5 => {
            let delta = (1 + rng.below(5) as u64).cast_signed();
            return Ok(Call::Increment(delta, succeed("increment", store.increment(key, delta, None).await)?));
        }
        6 => Condition::Always,
        7 => Condition::IfAbsent,
        _ => Condition::IfVersion(seen.unwrap_or(1)),
    };
    let version = succeed("set", store.set(key, value.to_string().as_bytes(), None, condition).await)?;
    Ok(Call::Set(value, condition, version))
}

async fn histories(store: Arc<dyn Cache>, count: usize, seed: u64) -> Checked {
    const CALLS: i64 = 30;
    let ticker = Arc::new(Ticker::default());
    let work = |client: usize| {
        let (store, ticker) = (Arc::clone(&store), Arc::clone(&ticker));
        async move {
            let mut rng = Rng::new(seed, &format!("cache client {client}"));
            let mut seen = [None; 4];
            let mut history: Vec<(String, Record<Call>)> = Vec::new();
            for turn in 0..CALLS {
                let at = rng.below(4);
                let (key, value) = (format!("k{at}"), (client as u64 + 1).cast_signed() * 1_000_000 + turn * 1_000);
                let made = call(&*store, &key, &mut rng, value, &mut seen[at]);
                history.push((key.clone(), ticker.record(client, made).await?));
            }
            Ok(history)
        }
    };
    let brought = clients(count, work).await?;
    linearizable::<Key, String>(brought.into_iter().flatten().collect())
}

async fn increments(store: Arc<dyn Cache>, count: usize) -> Checked {
    const TIMES: usize = 20;
    let work = |_| {
        let store = Arc::clone(&store);
        async move {
            let mut sums = Vec::new();
            for _ in 0..TIMES {
                sums.push(succeed("increment", store.increment("n", 1, None).await)?);
            }
            Ok(sums)
        }
    };
    let mut sums: Vec<i64> = clients(count, work).await?.concat();
    sums.sort_unstable();
    let all = ((count * TIMES) as u64).cast_signed();
    demand(sums.iter().copied().eq(1..=all), format!("each sum from 1 to {all} once"), || {
        let twice = sums.windows(2).filter(|two| two[0] == two[1]).count();
        format!("{twice} sums were answered twice, the greatest is {:?}", sums.last())
    })?;
    let value = succeed("increment", store.increment("n", 0, None).await)?;
    Ok(demand(value == all, all.to_string(), || value.to_string())?)
}

async fn swaps(store: Arc<dyn Cache>, count: usize) -> Checked {
    const TIMES: usize = 10;
    succeed("set", store.set("n", b"0", None, Condition::Always).await)?;
    let work = |_| {
        let store = Arc::clone(&store);
        async move {
            for _ in 0..TIMES {
                loop {
                    let Some(entry) = succeed("get", store.get("n").await)? else {
                        return mismatch("a value", "none");
                    };
                    let next = number(&entry.value)? + 1;
                    // Lets the others read the same.
                    tokio::task::yield_now().await;
                    let condition = Condition::IfVersion(entry.version);
                    let written = store.set("n", next.to_string().as_bytes(), None, condition).await;
                    if succeed("set", written)?.is_some() {
                        break;
                    }
                }
            }
            Ok(())
        }
    };
    clients(count, work).await?;
    let all = ((count * TIMES) as u64).cast_signed();
    let value = succeed("get", store.get("n").await)?.map_or(Ok(0), |entry| number(&entry.value))?;
    Ok(demand(value == all, all.to_string(), || value.to_string())?)
}

async fn bulk(store: Arc<dyn Cache>, count: usize) -> Checked {
    let keys: Vec<String> = (0..5).map(|number| format!("k{number}")).collect();
    let work = |client: usize| {
        let (store, keys) = (Arc::clone(&store), keys.clone());
        async move {
            for turn in 0..20 {
                if client.is_multiple_of(2) {
                    let text = format!("{}", client * 1_000 + turn);
                    let value = Span { offset: 0, length: text.len() as u32 };
                    let entries: Vec<Assignment> =
                        keys.iter().map(|key| Assignment { key: key.clone(), value }).collect();
                    succeed("set-many", store.set_many(&entries, text.as_bytes(), None).await)?;
                } else {
                    one_moment(&*store, &keys).await?;
                }
            }
            Ok(())
        }
    };
    clients(count, work).await.map(|_: Vec<()>| ()).map_err(Breach::from)
}

/// All keys have the same value, or all are missing.
async fn one_moment(store: &dyn Cache, keys: &[String]) -> Verdict {
    let values = succeed("get-many", store.get_many(keys).await)?;
    let mut found = Vec::new();
    for value in &values.found {
        found.push(value.map(|value| slice(&values.bytes, value.span)).transpose()?);
    }
    let same = found.windows(2).all(|two| two[0] == two[1]);
    demand(same, "five values of one moment, all with the same number", || format!("{found:?}"))
}
