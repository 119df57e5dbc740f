//! Many callers of the role `events`.

use std::collections::BTreeMap;
use std::sync::Arc;

use compozy_runtime::stores::Events;

use super::{Checked, clients, rule};
use crate::compare::{Blob, Verdict, demand, flat, mismatch, slice, succeed};
use crate::model::events::EventsModel;
use crate::suite::{Run, World};

/// Looks at all rules.
pub(crate) async fn run(world: &World<'_>, run: &mut Run<'_>) {
    let count = world.options.clients;
    let name =
        ("concurrent-appends-lose-nothing", "each appends to one stream 20 times, one event or three in one call");
    rule::<EventsModel, _>(world, run, name, |store| appends(store, count)).await;
    let name = ("concurrent-readers-miss-nothing", "half append to one stream, half follow it by read-after");
    rule::<EventsModel, _>(world, run, name, |store| readers(store, count)).await;
}

const TIMES: usize = 20;

/// What the events of a call say: who appended it, in which turn, and which of the call it is.
fn payloads(client: usize, turn: usize) -> Vec<Blob> {
    let count = if turn.is_multiple_of(3) { 3 } else { 1 };
    (0..count).map(|part| Blob::from(format!("{client}/{turn}/{part}").as_str())).collect()
}

/// Appends, and answers the sequences with what should be there.
async fn append(store: &dyn Events, client: usize, turn: usize) -> Verdict<Vec<(u64, Blob)>> {
    let new = payloads(client, turn);
    let last = if let [one] = &new[..] {
        succeed("append", store.append("s", &one.0).await)?
    } else {
        let (spans, bytes) = flat(&new);
        succeed("append-many", store.append_many("s", &spans, &bytes).await)?
    };
    let count = new.len() as u64;
    demand(last >= count, format!("a sequence of at least {count}"), || last.to_string())?;
    Ok((last - count + 1..=last).zip(new).collect())
}

async fn appends(store: Arc<dyn Events>, count: usize) -> Checked {
    let work = |client: usize| {
        let store = Arc::clone(&store);
        async move {
            let mut told = Vec::new();
            for turn in 0..TIMES {
                told.extend(append(&*store, client, turn).await?);
            }
            Ok(told)
        }
    };
    let told: Vec<(u64, Blob)> = clients(count, work).await?.concat();
    let total = told.len() as u64;
    let by_sequence: BTreeMap<u64, Blob> = told.into_iter().collect();
    let all = by_sequence.len() as u64 == total && by_sequence.keys().copied().eq(1..=total);
    demand(all, format!("each sequence from 1 to {total} once"), || {
        let greatest = by_sequence.keys().last().copied().unwrap_or_default();
        format!("{} sequences for {total} events, the greatest is {greatest}", by_sequence.len())
    })?;
    let found = follow(&*store, 0, total).await?;
    for ((sequence, expected), (at, payload)) in by_sequence.iter().zip(&found) {
        let same = sequence == at && expected == payload;
        demand(same, format!("event {sequence}: {expected:?}"), || format!("event {at}: {payload:?}"))?;
    }
    Ok(())
}

/// Reads from after this sequence to that one, and sees that there is no gap.
async fn follow(store: &dyn Events, after: u64, until: u64) -> Verdict<Vec<(u64, Blob)>> {
    let (mut after, mut found, mut empty) = (after, Vec::new(), 0_u32);
    while after < until {
        let page = succeed("read-after", store.read_after("s", after, 50).await)?;
        for event in &page.events {
            demand(event.sequence == after + 1, format!("event {} next", after + 1), || {
                format!("event {}", event.sequence)
            })?;
            after = event.sequence;
            found.push((after, slice(&page.bytes, event.payload)?));
        }
        demand(page.last >= after, format!("a last sequence of at least {after}"), || page.last.to_string())?;
        empty = if page.events.is_empty() { empty + 1 } else { 0 };
        if empty > 20_000 {
            return mismatch(format!("events up to {until}"), format!("none after {after}"));
        }
        if page.events.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
    Ok(found)
}

async fn readers(store: Arc<dyn Events>, count: usize) -> Checked {
    let writers = count.div_ceil(2);
    let total =
        (0..writers).map(|client| (0..TIMES).map(|turn| payloads(client, turn).len()).sum::<usize>()).sum::<usize>();
    let work = |client: usize| {
        let store = Arc::clone(&store);
        async move {
            if client >= writers {
                return follow(&*store, 0, total as u64).await;
            }
            for turn in 0..TIMES {
                append(&*store, client, turn).await?;
            }
            Ok(Vec::new())
        }
    };
    let mut seen = clients(count, work).await?;
    seen.retain(|seen| !seen.is_empty());
    let same = seen.windows(2).all(|two| two[0] == two[1]);
    Ok(demand(same, "the same events for all readers", || "readers that saw different events".to_owned())?)
}
