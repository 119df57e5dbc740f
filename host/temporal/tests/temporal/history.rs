//! Histories: long runs go on in new ones, exports verify, replays come to the same.

use std::sync::Arc;

use compozy_engine::blob_store::FileBlobs;
use compozy_engine::port::{Control, Engine as _};
use compozy_interpreter::{Failure, Signal, Status};
use serde_json::json;

use crate::common::{Script, linear, plan, request};
use crate::support::{PATIENCE, Site, until, wait};

/// A loop of so many rounds, with a signal that is taken after it.
fn looping(rounds: u32) -> Arc<compozy_plan::plan::Plan> {
    plan(&format!(
        "tasks:\n  - {{id: step, tool: tool, with: {{n: 1}}}}\n  - id: again\n    type: router\n    \
         condition: \"tasks.step.output < {rounds} ? 'more' : 'enough'\"\n    routes: {{more: step, enough: hold}}\n  \
         - {{id: hold, type: wait, wait_for: go}}\noutputs: {{n: \"{{{{ .tasks.step.output }}}}\"}}\n"
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_run_goes_on_in_new_histories_and_loses_nothing_on_temporal() {
    let script = Script::now(|call| {
        let round = call.task.strip_prefix("step#").map_or(1, |round| round.parse().expect("a visit"));
        Ok(json!(round))
    });
    let site = Site::shared(script).await;
    let engine = site.with(|options| options.history_events = 60).await;
    let id = engine.start(request(&looping(40))).await.unwrap();
    // It comes while the run is busy with something else, perhaps just between two histories.
    for n in 0..3 {
        let signal = Signal { name: "go".into(), payload: json!(n), id: format!("s{n}"), source: "api".into() };
        engine.control(&id, Control::Signal(signal)).await.unwrap();
    }
    let execution = wait(&engine, &id).await;
    assert_eq!(execution.state.status, Status::Success, "{:?}", execution.state.failure);
    assert_eq!(execution.state.output, Some(json!({"n": 40})));
    assert_eq!(execution.state.signals, 3);
    let journal = engine.journal(&id).await.unwrap();
    let numbers: Vec<u64> = journal.iter().map(|record| record.seq).collect();
    assert_eq!(numbers, (1..=execution.events).collect::<Vec<_>>(), "no event is missing, none is there twice");
    let part = engine.journal_after(&id, 17, 5).await.unwrap();
    assert_eq!(part.records, journal[17..22]);
    assert_eq!(engine.verify(&id).await.unwrap(), None);
    let history = String::from_utf8(engine.history(&id).await.unwrap()).unwrap();
    assert!(!history.contains("step#20"), "the last history has only the last part");
    engine.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_ended_badly_goes_on_in_a_new_history_on_temporal() {
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_broken = Arc::clone(&broken);
    let script = Script::now(move |call| {
        if call.task.starts_with("t1") && is_broken.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(Failure::permanent("BROKEN", "is broken"));
        }
        Ok(json!(call.task))
    });
    let site = Site::shared(script).await;
    let engine = site.engine().await;
    let id = engine.start(request(&linear(3))).await.unwrap();
    assert_eq!(wait(&engine, &id).await.state.status, Status::Failed);
    broken.store(false, std::sync::atomic::Ordering::SeqCst);
    engine.control(&id, Control::Retry).await.unwrap();
    let execution = wait(&engine, &id).await;
    assert_eq!(execution.state.status, Status::Success, "{:?}", execution.state.failure);
    assert_eq!(engine.verify(&id).await.unwrap(), None);
    assert_eq!(engine.journal(&id).await.unwrap().len() as u64, execution.events);
    engine.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_replays_to_the_same_and_another_does_not_on_temporal() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::shared(Script::echo()).await;
    let engine = site.engine().await;
    let id = engine.start(request(&linear(3))).await.unwrap();
    until("the run ends", || async { engine.execution(&id).await.unwrap().unwrap().state.status.is_terminal() }).await;
    let history = engine.history(&id).await.unwrap();
    let blobs = Arc::new(FileBlobs::new(folder.path()));
    compozy_temporal::replay(&history, &site.options.project, blobs.clone()).await.unwrap();
    // A history in which the second task came first.
    let text = String::from_utf8(history).unwrap();
    let swapped = text.replace("\"activity_id\":\"t0\"", "\"activity_id\":\"t9\"");
    assert_ne!(swapped, text, "the history names its activities");
    let replayed = compozy_temporal::replay(swapped.as_bytes(), &site.options.project, blobs).await;
    assert!(replayed.is_err(), "what the workflow does not do is noticed");
    engine.stop(PATIENCE).await;
}
