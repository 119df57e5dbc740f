//! What an engine does while the power is on.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use compozy_engine::EngineError;
use compozy_engine::local::LocalEngine;
use compozy_engine::port::{Control, Engine as _, ExecutionId, StartRequest};
use compozy_interpreter::{Signal, Status};
use compozy_plan::plan::Plan;
use compozy_tests::random::Random;
use serde_json::json;

use super::witness::{What, Witness};
use super::{PATIENCE, all};
use crate::workflows::compile;

const WORKFLOWS: [(&str, &str); 5] = [
    (
        "chain",
        "tasks:
  - {id: a, tool: tool, with: {ms: '{{ .input.ms }}', size: '{{ .input.size }}'}}
  - {id: b, tool: tool, with: {before: '{{ .tasks.a.output.key }}'}}
  - {id: c, tool: tool, sleep: 2ms}
  - {id: d, type: aggregate, outputs: {last: '{{ .tasks.c.output.key }}'}}",
    ),
    (
        "fan",
        "tasks:
  - {id: each, type: collection, items: [1, 2, 3], task: {id: one, tool: tool, with: {ms: 1, size: '{{ .input.size }}'}}}
  - {id: box, type: composite, tasks: [{id: a, tool: tool}, {id: b, tool: tool}]}
  - {id: race, type: parallel, strategy: race, tasks: [{id: quick, tool: tool}, {id: slow, tool: tool, with: {ms: 10000}}]}",
    ),
    (
        "waits",
        "tasks:
  - {id: one, type: wait, wait_for: go, outputs: '{{ .output.signal.payload }}'}
  - {id: two, type: wait, wait_for: go, outputs: '{{ .output.signal.payload }}'}
outputs: ['{{ .tasks.one.output }}', '{{ .tasks.two.output }}']",
    ),
    ("leaf", "tasks: [{id: a, tool: tool, with: {ms: 1}}]"),
    (
        "family",
        "tasks:
  - {id: both, type: parallel, tasks: [{id: left, workflow: leaf}, {id: right, workflow: leaf}]}
  - {id: last, tool: tool}",
    ),
];

pub(super) fn workflows() -> BTreeMap<String, Arc<Plan>> {
    compile(&WORKFLOWS)
}

/// Starts runs, talks to them and waits for some; ends after a while in the middle of all that.
pub(super) async fn work(
    engine: &LocalEngine,
    folder: &Path,
    witness: &Witness,
    random: &mut Random,
    name: &str,
) -> Result<()> {
    let plans = workflows();
    let time = Duration::from_millis(3 + random.below(25));
    let talks: Vec<Talk> = (0..3 + random.below(6)).map(|at| Talk::draw(random, format!("{name}-{at}"))).collect();
    let talks = talks.iter().map(|talk| talk.all(engine, &plans, witness));
    let talks = tokio::time::timeout(time, together(talks));
    let checkpoint = random.percent(40).then(|| {
        let mode = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"][random.below(4) as usize];
        checkpoint(folder.to_path_buf(), mode, Duration::from_millis(random.below(15)))
    });
    let (talked, checkpoint) = tokio::join!(talks, async {
        match checkpoint {
            Some(checkpoint) => checkpoint.await,
            None => Ok(()),
        }
    });
    checkpoint?;
    // When the time is over, nobody listens any more.
    talked.unwrap_or(Ok(()))
}

async fn together<F: Future<Output = Result<()>>>(talks: impl Iterator<Item = F>) -> Result<()> {
    let mut talks: Vec<_> = talks.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        let mut at = 0;
        while at < talks.len() {
            match talks[at].as_mut().poll(cx) {
                std::task::Poll::Pending => at += 1,
                std::task::Poll::Ready(Ok(())) => drop(talks.swap_remove(at)),
                std::task::Poll::Ready(Err(error)) => return std::task::Poll::Ready(Err(error)),
            }
        }
        if talks.is_empty() { std::task::Poll::Ready(Ok(())) } else { std::task::Poll::Pending }
    })
    .await
}

/// Copies the log into the file, as a long-lived engine does now and then.
async fn checkpoint(folder: std::path::PathBuf, mode: &'static str, after: Duration) -> Result<()> {
    tokio::time::sleep(after).await;
    tokio::task::spawn_blocking(move || {
        let conn = rusqlite::Connection::open(folder.join("journal.db"))?;
        // Busy or not: either is an answer.
        conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
    })
    .await?
    .context("a checkpoint")
}

/// One run and what is said to it.
struct Talk {
    key: String,
    workflow: &'static str,
    ms: u64,
    size: u64,
    pauses: bool,
}

impl Talk {
    fn draw(random: &mut Random, key: String) -> Self {
        let workflow = ["chain", "chain", "fan", "waits", "family"][random.below(5) as usize];
        let size = if random.percent(30) { random.below(20_000) } else { 0 };
        Self { key, workflow, ms: random.below(4), size, pauses: random.percent(20) }
    }

    async fn all(&self, engine: &LocalEngine, plans: &BTreeMap<String, Arc<Plan>>, witness: &Witness) -> Result<()> {
        let input = json!({ "ms": self.ms, "size": self.size });
        let plan = Arc::clone(&plans[self.workflow]);
        let request = StartRequest { plan, input, idempotency_key: Some(self.key.clone()), priority: None };
        let id = engine.start(request).await?;
        witness.hear(What::Started(id.clone()));
        if self.pauses {
            unless_ended(engine.control(&id, Control::Pause { reason: "a look".to_owned() }).await)?;
            unless_ended(engine.control(&id, Control::Resume).await)?;
        }
        if self.workflow == "waits" {
            for number in 1..=2 {
                signal(engine, witness, &id, &format!("{}-{number}", self.key), number).await?;
            }
        }
        let ended = engine.wait(&id).await?;
        ensure!(ended.state.status == Status::Success, "{id} ended as {:?}", ended.state.failure);
        witness.hear(What::Ended(id, ended.state.status, ended.state.output));
        Ok(())
    }
}

/// A run may end by itself before it is told something.
fn unless_ended(answer: Result<(), EngineError>) -> Result<()> {
    match answer {
        Err(EngineError::ExecutionEnded { .. }) => Ok(()),
        other => Ok(other?),
    }
}

async fn signal(engine: &LocalEngine, witness: &Witness, to: &ExecutionId, id: &str, number: u64) -> Result<()> {
    let signal = Signal { name: "go".into(), payload: json!(number), id: id.to_owned(), source: "test".into() };
    engine.control(to, Control::Signal(signal)).await?;
    witness.hear(What::Signaled(to.clone(), id.to_owned()));
    Ok(())
}

/// After the last cut everything ends well: what waits is told what it waits for.
pub(super) async fn finish(engine: &LocalEngine, witness: &Witness) -> Result<()> {
    for id in all(engine).await? {
        let execution = engine.execution(&id).await?.context("it is listed")?;
        if execution.state.status.is_terminal() {
            continue;
        }
        // A cut may have come between a pause and its resume.
        unless_ended(engine.control(&id, Control::Resume).await)?;
        if execution.workflow == "waits" {
            let told = engine.journal(&id).await?.iter().filter(|r| r.event["kind"] == "signal_received").count();
            for number in told..2 {
                signal(engine, witness, &id, &format!("last-{number}"), number as u64 + 1).await?;
            }
        }
    }
    for id in all(engine).await? {
        let ended = tokio::time::timeout(PATIENCE, engine.wait(&id)).await;
        let ended = ended.with_context(|| format!("{id} does not end"))??;
        ensure!(ended.state.status == Status::Success, "{id} ended as {:?}", ended.state.failure);
        if ended.workflow == "waits" {
            ensure!(ended.state.output == Some(json!([1, 2])), "{id} took {:?}", ended.state.output);
        }
    }
    Ok(())
}
