//! Many callers of the role `config-store`.

use std::fmt;
use std::sync::Arc;

use compozy_runtime::stores::{ConfigStore, Namespace};

use super::{Checked, Ticker, clients, linearizable, rule};
use crate::compare::{Blob, succeed};
use crate::linear::{Record, Sequential};
use crate::model::config::ConfigModel;
use crate::rng::Rng;
use crate::suite::{Run, World};

/// Looks at all rules.
pub(crate) async fn run(world: &World<'_>, run: &mut Run<'_>) {
    let (count, seed) = (world.options.clients, world.options.seed);
    let name = ("concurrent-calls-are-linearizable", "save, get, peek and delete, on eight ids");
    rule::<ConfigModel, _>(world, run, name, |store| histories(store, count, seed)).await;
}

/// An id.
struct Id;

#[derive(Debug, Clone)]
enum Call {
    Save(Blob),
    Look(Option<Blob>),
    Delete(bool),
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Save(value) => write!(f, "save({value:?})"),
            Self::Look(found) => write!(f, "get or peek -> {found:?}"),
            Self::Delete(there) => write!(f, "delete -> {there}"),
        }
    }
}

impl Sequential for Id {
    type State = Option<Blob>;
    type Call = Call;

    fn initial() -> Self::State {
        None
    }

    fn after(state: &Self::State, call: &Call) -> Option<Self::State> {
        match call {
            Call::Save(value) => Some(Some(value.clone())),
            Call::Look(found) => (found == state).then(|| state.clone()),
            Call::Delete(there) => (*there == state.is_some()).then_some(None),
        }
    }
}

async fn histories(store: Arc<dyn ConfigStore>, count: usize, seed: u64) -> Checked {
    const DAY: std::time::Duration = std::time::Duration::from_hours(24);
    let ticker = Arc::new(Ticker::default());
    let work = |client: usize| {
        let (store, ticker) = (Arc::clone(&store), Arc::clone(&ticker));
        async move {
            let mut rng = Rng::new(seed, &format!("config client {client}"));
            let mut history: Vec<(String, Record<Call>)> = Vec::new();
            for turn in 0..25 {
                let id = format!("i{}", rng.below(8));
                let made = async {
                    let value = format!("{client}/{turn}");
                    Ok(match rng.below(8) {
                        0..=2 => {
                            // With a time to live, so that a get writes too.
                            let saved = store.save(Namespace::Config, &id, value.as_bytes(), Some(DAY)).await;
                            succeed("save", saved)?;
                            Call::Save(value.as_str().into())
                        }
                        3..=5 => {
                            let found = succeed("get", store.get(Namespace::Config, &id).await)?;
                            Call::Look(found.map(Blob))
                        }
                        6 => Call::Look(succeed("peek", store.peek(Namespace::Config, &id).await)?.map(Blob)),
                        _ => Call::Delete(succeed("delete", store.delete(Namespace::Config, &id).await)?),
                    })
                };
                let record = ticker.record(client, made).await?;
                history.push((id, record));
            }
            Ok(history)
        }
    };
    let brought = clients(count, work).await?;
    linearizable::<Id, String>(brought.into_iter().flatten().collect())
}
