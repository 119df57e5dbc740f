//! Does a task cost more when a hundred thousand others wait? And how long does a restart take then?

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use compozy_engine::local::{LocalEngine, LocalOptions};
use compozy_engine::port::{Engine as _, TaskCall, TaskExecutor, TaskReport};
use compozy_plan::plan::Plan;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::local::{request, threads};
use crate::report::{Report, percentile_ms};
use crate::setting::{Setting, one_task};

const MANY: usize = 100_000;
const FEW: usize = 100;
/// Tasks that run at once, and that each round lets go.
const SLOTS: usize = 64;
const ROUNDS: usize = 200;
/// Starts that are under way at once while a backlog is made.
const STARTERS: usize = 512;

/// Begins, and ends when it is let go.
struct Held {
    begun: AtomicUsize,
    go: Semaphore,
}

#[async_trait::async_trait]
impl TaskExecutor for Held {
    async fn execute(&self, _call: TaskCall) -> TaskReport {
        self.begun.fetch_add(1, Ordering::SeqCst);
        // Never closed.
        if let Ok(permit) = self.go.acquire().await {
            permit.forget();
        }
        TaskReport { result: Ok(Value::Null), ran: None }
    }
}

/// An engine with tasks that wait.
struct Backlog {
    engine: Arc<LocalEngine>,
    held: Arc<Held>,
    plan: Arc<Plan>,
}

impl Backlog {
    async fn new(folder: &Path, ready: usize) -> Result<Self> {
        let held = Arc::new(Held { begun: AtomicUsize::new(0), go: Semaphore::new(0) });
        let options = LocalOptions { concurrency: SLOTS, ..LocalOptions::new(folder, held.clone()) };
        let engine = Arc::new(LocalEngine::open(options)?);
        let backlog = Self { engine, held, plan: one_task()? };
        backlog.start(ready + SLOTS).await?;
        backlog.until(SLOTS).await;
        Ok(backlog)
    }

    async fn start(&self, runs: usize) -> Result<()> {
        let left = Arc::new(AtomicUsize::new(runs));
        let starters = (0..STARTERS.min(runs)).map(|_| {
            let (engine, plan, left) = (Arc::clone(&self.engine), Arc::clone(&self.plan), Arc::clone(&left));
            tokio::spawn(async move {
                while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
                    engine.start(request(&plan)).await?;
                }
                Ok::<_, anyhow::Error>(())
            })
        });
        for starter in starters.collect::<Vec<_>>() {
            starter.await??;
        }
        Ok(())
    }

    async fn until(&self, begun: usize) {
        while self.held.begun.load(Ordering::SeqCst) < begun {
            tokio::task::yield_now().await;
        }
    }

    /// Lets all slots go and waits until they are taken again. Answers how long that took, and what of it the writer took
    /// to find and begin the next tasks.
    async fn round(&self) -> (Duration, Duration) {
        let (before, counted, begun) = (self.held.begun.load(Ordering::SeqCst), self.engine.stats(), Instant::now());
        self.held.go.add_permits(SLOTS);
        self.until(before + SLOTS).await;
        (begun.elapsed(), Duration::from_nanos(self.engine.stats().dispatch_ns - counted.dispatch_ns))
    }
}

/// Rounds on a large and on a small backlog by turns, then a restart of the large one.
pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let control = threads("control")?;
    let folder = setting.folder("many-data")?;
    control.block_on(async {
        let many = Backlog::new(&folder, MANY).await?;
        let few = Backlog::new(&setting.folder("few-data")?, FEW).await?;
        let (mut of_many, mut of_few) = (Vec::new(), Vec::new());
        let (mut begun_of_many, mut begun_of_few) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (round, dispatch) = many.round().await;
            of_many.push(round);
            begun_of_many.push(dispatch);
            let (round, dispatch) = few.round().await;
            of_few.push(round);
            begun_of_few.push(dispatch);
            many.start(SLOTS).await?;
            few.start(SLOTS).await?;
        }
        let per_task = |times: &mut [Duration]| percentile_ms(times, 0.5) * 1e3 / SLOTS as f64;
        let (of_many, of_few) = (per_task(&mut of_many), per_task(&mut of_few));
        // To record a result, begin the next task and sync both. Of many runs most are not in memory when their result comes.
        report.info("engine.round_us", of_few, "us");
        report.info("engine.round_growth", of_many / of_few, "times");
        // What of that is finding the next task and beginning it.
        let (of_many, of_few) = (per_task(&mut begun_of_many), per_task(&mut begun_of_few));
        report.info("engine.dispatch_us", of_few, "us");
        report.against("engine.dispatch_growth", of_many / of_few, "times", 1.0, Some(1.2));
        ensure!(many.engine.health().open_executions >= MANY as u64, "the backlog is gone");
        Ok(())
    })?;
    // The engine is gone with its runtime, as after a kill; nothing was stopped in order.
    drop(control);
    let control = threads("control")?;
    control.block_on(async {
        let held = Arc::new(Held { begun: AtomicUsize::new(0), go: Semaphore::new(0) });
        let begun = Instant::now();
        let options = LocalOptions { concurrency: SLOTS, ..LocalOptions::new(&folder, held.clone()) };
        let engine = LocalEngine::open(options)?;
        while held.begun.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        report.against("engine.restart_100k_ms", begun.elapsed().as_secs_f64() * 1e3, "ms", 2_000.0, Some(1.0));
        ensure!(engine.health().open_executions >= MANY as u64, "runs are missing");
        Ok(())
    })
}
