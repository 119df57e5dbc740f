//! The same engine and the same sandboxed tasks, in this process and without HTTP.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use compozy_embed::PluginExecutor;
use compozy_engine::local::{LocalEngine, LocalOptions};
use compozy_engine::port::{Engine as _, StartRequest, TaskCall, TaskExecutor, TaskReport};
use compozy_interpreter::Status;
use compozy_plan::plan::Plan;
use compozy_runtime::{Runtime, RuntimeOptions, StoreSelection};
use serde_json::{Value, json};
use tokio::runtime::Builder;

use crate::IN_FLIGHT;
use crate::report::{Load, Report, percentile_ms};
use crate::setting::{Setting, one_task, plan};

/// Far longer than a run takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// Tasks that begin while the engine has nothing else to do.
const IDLE_TASKS: usize = 300;
/// How long it is idle before each.
const IDLE: Duration = Duration::from_millis(10);

pub(crate) fn request(plan: &Arc<Plan>) -> StartRequest {
    StartRequest { plan: Arc::clone(plan), input: json!({"n": 7}), idempotency_key: None, priority: None }
}

/// As many threads as the host has.
pub(crate) fn threads(name: &'static str) -> Result<tokio::runtime::Runtime> {
    Ok(Builder::new_multi_thread().thread_name(name).worker_threads(2).enable_all().build()?)
}

/// One run at a time, then many.
pub(crate) fn loads(setting: &Setting, duration: Duration, report: &mut Report) -> Result<()> {
    let (control, guests) = (threads("control")?, threads("guest")?);
    control.block_on(async {
        let data = setting.folder("local-data")?;
        let options = RuntimeOptions {
            plugin_dirs: vec![setting.plugin.clone()],
            stores: StoreSelection::none(),
            ..RuntimeOptions::new(&data)
        };
        let runtime = Runtime::open(options).await.map_err(|error| anyhow!("{error}"))?;
        let executor = Arc::new(PluginExecutor::new(Arc::clone(&runtime)));
        let runtime_of_guests = Some(guests.handle().clone());
        let options = LocalOptions { runtime: runtime_of_guests, ..LocalOptions::new(&data, executor) };
        let engine = Arc::new(LocalEngine::open(options)?);
        let plan = plan()?;
        for (in_flight, name) in [(1, "engine.local.c1"), (IN_FLIGHT, "engine.local.c64")] {
            load(&engine, &plan, in_flight, Duration::from_secs(1).min(duration)).await?;
            let load = load(&engine, &plan, in_flight, duration).await?;
            load.tell(name, report);
            report.info(&format!("{name}.runs_per_s"), load.runs_per_s(), "1/s");
            report.info(&format!("{name}.p99_ms"), load.p99_ms, "ms");
        }
        engine.stop(PATIENCE).await;
        runtime.stop();
        Ok(())
    })
}

async fn load(engine: &Arc<LocalEngine>, plan: &Arc<Plan>, in_flight: usize, duration: Duration) -> Result<Load> {
    let latencies = Arc::new(Mutex::new(Vec::new()));
    let (begun, commits) = (Instant::now(), engine.stats().commits);
    let workers = (0..in_flight).map(|_| {
        let (engine, plan, latencies) = (Arc::clone(engine), Arc::clone(plan), Arc::clone(&latencies));
        tokio::spawn(async move {
            while begun.elapsed() < duration {
                let started = Instant::now();
                let (_, outcome) = engine.run(request(&plan), PATIENCE).await?;
                ensure!(outcome.is_some_and(|outcome| outcome.status == Status::Success), "a run did not succeed");
                latencies.lock().expect("nobody panics with it").push(started.elapsed());
            }
            Ok(())
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await??;
    }
    let elapsed = begun.elapsed();
    let latencies = std::mem::take(&mut *latencies.lock().expect("nobody panics with it"));
    Ok(Load::of(latencies, elapsed, (engine.stats().commits - commits) as f64))
}

/// Notes when it was called.
struct Stamp(Mutex<Option<Instant>>);

#[async_trait::async_trait]
impl TaskExecutor for Stamp {
    async fn execute(&self, _call: TaskCall) -> TaskReport {
        *self.0.lock().expect("nobody panics with it") = Some(Instant::now());
        TaskReport { result: Ok(Value::Null), ran: None }
    }
}

/// From a task that is ready to its executor, its commit included, while nothing else happens.
pub(crate) fn idle(setting: &Setting, report: &mut Report) -> Result<()> {
    let control = threads("control")?;
    control.block_on(async {
        let stamp = Arc::new(Stamp(Mutex::new(None)));
        let engine = LocalEngine::open(LocalOptions::new(setting.folder("idle-data")?, stamp.clone()))?;
        let plan = one_task()?;
        let mut times = Vec::new();
        for _ in 0..IDLE_TASKS {
            tokio::time::sleep(IDLE).await;
            let started = Instant::now();
            let (_, outcome) = engine.run(request(&plan), PATIENCE).await?;
            ensure!(outcome.is_some(), "a run did not end");
            let called = stamp.0.lock().expect("nobody panics with it").take();
            times.push(called.ok_or_else(|| anyhow!("the task did not begin"))? - started);
        }
        report.against("engine.idle_dispatch_p99_ms", percentile_ms(&mut times, 0.99), "ms", 5.0, Some(1.0));
        engine.stop(PATIENCE).await;
        Ok(())
    })
}
