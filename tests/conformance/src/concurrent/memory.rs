//! Many callers of the role `memory-store`.

use std::collections::BTreeSet;
use std::sync::Arc;

use compozy_runtime::stores::{Keep, MemoryStore};

use super::{Breach, Checked, clients, rule};
use crate::compare::{Blob, Verdict, demand, succeed};
use crate::model::memory::{MemoryModel, Said, unwire, wire};
use crate::suite::{Run, World};

/// Looks at all rules.
pub(crate) async fn run(world: &World<'_>, run: &mut Run<'_>) {
    let count = world.options.clients;
    let name = ("concurrent-appends-lose-nothing", "each appends two messages in one call, 15 times, to one memory");
    rule::<MemoryModel, _>(world, run, name, |store| appends(store, count)).await;
    let name = ("concurrent-trim-is-one-step", "half append and keep 10 messages, half read and count");
    rule::<MemoryModel, _>(world, run, name, |store| trims(store, count)).await;
    let name = ("concurrent-flush-marks-are-given-once", "each marks the same 50 memories");
    rule::<MemoryModel, _>(world, run, name, |store| marks(store, count)).await;
}

/// Two messages of 2 and 3 tokens that belong together.
fn pair(client: usize, turn: usize) -> Vec<Said> {
    [("q", 2), ("a", 3)].map(|(part, tokens)| (Blob::from(format!("{part}{client}/{turn}").as_str()), tokens)).to_vec()
}

/// True when each question is followed by its answer.
fn together(said: &[Said]) -> bool {
    said.chunks(2).all(|two| two.len() == 2 && two[0].0.0.first() == Some(&b'q') && two[0].0.0[1..] == two[1].0.0[1..])
}

async fn appends(store: Arc<dyn MemoryStore>, count: usize) -> Checked {
    const TIMES: usize = 15;
    let work = |client: usize| {
        let store = Arc::clone(&store);
        async move {
            let mut totals = Vec::new();
            for turn in 0..TIMES {
                let counts = succeed("append", store.append("m", &wire(&pair(client, turn)), None, None).await)?;
                totals.push((counts.messages, counts.tokens));
            }
            Ok(totals)
        }
    };
    let mut totals: Vec<(u64, u64)> = clients(count, work).await?.concat();
    totals.sort_unstable();
    let all = (count * TIMES) as u64;
    demand(
        totals.iter().copied().eq((1..=all).map(|number| (number * 2, number * 5))),
        "exact counts after each append",
        || format!("counts (messages, tokens) that are missing or come twice; the last are {:?}", totals.last()),
    )?;
    let counts = succeed("count", store.count("m").await)?;
    demand(
        (counts.messages, counts.tokens) == (all * 2, all * 5),
        format!("{} messages, {} tokens", all * 2, all * 5),
        || format!("{counts:?}"),
    )?;
    let said = unwire(&succeed("read", store.read("m").await)?)?;
    let different: BTreeSet<&Blob> = said.iter().map(|(content, _)| content).collect();
    demand(different.len() as u64 == all * 2, format!("{} different messages", all * 2), || {
        different.len().to_string()
    })?;
    Ok(demand(together(&said), "messages of one call side by side", || "messages of others between them".to_owned())?)
}

async fn trims(store: Arc<dyn MemoryStore>, count: usize) -> Checked {
    const KEPT: u32 = 10;
    let most = (u64::from(KEPT), u64::from(KEPT) / 2 * 5);
    let work = |client: usize| {
        let store = Arc::clone(&store);
        async move {
            for turn in 0..20 {
                let (messages, tokens) = if client.is_multiple_of(2) {
                    let keep = Some(Keep::Messages(KEPT));
                    let counts = succeed("append", store.append("m", &wire(&pair(client, turn)), None, keep).await)?;
                    (counts.messages, counts.tokens)
                } else if turn % 2 == 0 {
                    let counts = succeed("count", store.count("m").await)?;
                    (counts.messages, counts.tokens)
                } else {
                    look(&*store).await?
                };
                let exact = messages <= most.0 && messages.is_multiple_of(2) && tokens == messages / 2 * 5;
                demand(exact, format!("at most {} messages, in twos of 5 tokens", most.0), || {
                    format!("{messages} messages, {tokens} tokens")
                })?;
            }
            Ok(())
        }
    };
    clients(count, work).await.map(|_: Vec<()>| ()).map_err(Breach::from)
}

/// Messages and tokens that are there, each question with its answer.
async fn look(store: &dyn MemoryStore) -> Verdict<(u64, u64)> {
    let page = succeed("page", store.page("m", 0, 1_000).await)?;
    let said = unwire(&page.messages)?;
    demand(page.total == said.len() as u64, format!("a total of {}", said.len()), || page.total.to_string())?;
    demand(together(&said), "each question followed by its answer", || format!("{said:?}"))?;
    Ok((page.total, said.iter().map(|(_, tokens)| u64::from(*tokens)).sum()))
}

async fn marks(store: Arc<dyn MemoryStore>, count: usize) -> Checked {
    let work = |_| {
        let store = Arc::clone(&store);
        async move {
            let mut given = 0_u32;
            for number in 0..50 {
                tokio::task::yield_now().await;
                given += u32::from(succeed("mark", store.mark_flush_pending(&format!("m{number}")).await)?);
            }
            Ok(given)
        }
    };
    let given: u32 = clients(count, work).await?.into_iter().sum();
    Ok(demand(given == 50, "50 marks that answer true", || given.to_string())?)
}
