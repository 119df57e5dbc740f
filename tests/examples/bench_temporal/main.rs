//! What a run costs on Temporal: `cargo xtask bench temporal [--json] [--seconds N]`.
//!
//! On one real development server, in this process: the generic workflow with three sandboxed tasks, then a workflow of
//! three native activities that is written by hand for the SDK, then the embedded engine. The server is the bottleneck, so what
//! counts is how much of it each run takes: time, and events of its history.
#![expect(clippy::print_stdout, reason = "its output is its purpose")]

mod native;
#[allow(dead_code, reason = "shared with the other benchmark")]
#[path = "../bench_engine/report.rs"]
mod report;
#[allow(dead_code, reason = "shared with the other benchmark")]
#[path = "../bench_engine/setting.rs"]
mod setting;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use compozy_embed::PluginExecutor;
use compozy_engine::blob_store::FileBlobs;
use compozy_engine::local::{LocalEngine, LocalOptions};
use compozy_engine::port::{Engine, StartRequest};
use compozy_interpreter::Status;
use compozy_runtime::{Runtime, RuntimeOptions, StoreSelection};
use compozy_temporal::{Address, TemporalEngine, TemporalOptions};
use serde_json::json;
use temporalio_client::{Client, ClientOptions, Connection, ConnectionOptions, GrpcCompression};
use temporalio_client::{Url, WorkflowDescribeOptions};

use crate::native::{NativeWorker, Steps};
use crate::report::{Load, Report};
use crate::setting::{Setting, plan};

/// Runs in flight in the measures of throughput.
const IN_FLIGHT: usize = 64;
/// Tasks of the measured workflow.
const STEPS: f64 = 3.0;
/// Far longer than a run takes.
const PATIENCE: Duration = Duration::from_mins(2);
/// What of a load is not counted.
const WARM_UP: Duration = Duration::from_secs(3);

fn main() -> Result<()> {
    let (mut json, mut seconds) = (false, 20_u64);
    let mut scratch = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => json = true,
            "--scratch" => scratch = arguments.next().context("--scratch needs a folder")?.into(),
            "--seconds" => seconds = arguments.next().context("--seconds needs a number")?.parse()?,
            other => bail!("unknown argument `{other}`; there are --json, --seconds N and --scratch DIR"),
        }
    }
    std::fs::create_dir_all(&scratch)?;
    let scratch = tempfile::tempdir_in(&scratch)?;
    let setting = Setting::new(scratch.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure(&setting, Duration::from_secs(seconds), &mut Report::new(json)))
}

async fn measure(setting: &Setting, duration: Duration, report: &mut Report) -> Result<()> {
    let server = tokio::task::spawn_blocking(temporal_test_server::Server::start).await?;
    let data = setting.folder("data")?;
    let options = RuntimeOptions {
        plugin_dirs: vec![setting.plugin.clone()],
        stores: StoreSelection::none(),
        ..RuntimeOptions::new(&data)
    };
    let plugins = Runtime::open(options).await.map_err(|error| anyhow!("{error}"))?;
    let executor = Arc::new(PluginExecutor::new(Arc::clone(&plugins)));
    let options = TemporalOptions {
        plugins: vec!["echo".to_owned()],
        ..TemporalOptions::new(
            Address::new(server.url()),
            "bench",
            executor.clone(),
            Arc::new(FileBlobs::new(setting.folder("blobs")?)),
        )
    };
    let generic: Arc<dyn Engine> = Arc::new(TemporalEngine::open(options).await?);
    let client = connect(&server.url()).await?;
    let native = NativeWorker::start(&client).await?;

    // One after the other, twice: what the server keeps grows meanwhile, and must not fall on one of the two.
    let mut loads: Vec<(Load, Load, Load, Load)> = Vec::new();
    for _ in 0..2 {
        let half = duration / 2;
        let ours_alone = load(1, half / 2, || run(&generic)).await?;
        let theirs_alone = load(1, half / 2, || native::run(&client)).await?;
        let ours = load(IN_FLIGHT, half, || run(&generic)).await?;
        let theirs = load(IN_FLIGHT, half, || native::run(&client)).await?;
        loads.push((ours_alone, theirs_alone, ours, theirs));
    }
    let mean = |of: fn(&(Load, Load, Load, Load)) -> f64| loads.iter().map(of).sum::<f64>() / loads.len() as f64;
    report.info("native.c64.runs_per_s", mean(|loads| loads.3.runs_per_s()), "1/s");
    report.info("temporal.c64.runs_per_s", mean(|loads| loads.2.runs_per_s()), "1/s");
    report.against(
        "temporal.c64.time_ratio",
        1e3 / mean(|loads| loads.2.runs_per_s()),
        "ms per run",
        1e3 / mean(|loads| loads.3.runs_per_s()),
        Some(1.2),
    );
    report.against("temporal.c1.p50_ms", mean(|loads| loads.0.p50_ms), "ms", mean(|loads| loads.1.p50_ms), Some(1.2));
    let ours = events(&client, &run(&generic).await?).await?;
    let theirs = events(&client, &native::run(&client).await?).await?;
    report.against("temporal.history_events_ratio", ours, "events", theirs, Some(1.0));

    let options = LocalOptions::new(setting.folder("embedded")?, executor);
    let embedded: Arc<dyn Engine> = Arc::new(LocalEngine::open(options)?);
    let local = load(IN_FLIGHT, duration / 4, || run(&embedded)).await?;
    report.info("embedded.c64.runs_per_s", local.runs_per_s(), "1/s");
    report.info("temporal.embedded_speedup", local.runs_per_s() / mean(|loads| loads.2.runs_per_s()), "times");
    embedded.stop(PATIENCE).await;
    generic.stop(PATIENCE).await;
    drop(native);
    plugins.stop();
    Ok(())
}

async fn connect(url: &str) -> Result<Client> {
    let options = ConnectionOptions::new(Url::parse(url)?)
        .dns_load_balancing(None)
        .grpc_compression(GrpcCompression::None)
        .build();
    Ok(Client::new(Connection::connect(options).await?, ClientOptions::new("default").build())?)
}

/// One run on an engine, from its start to its result. Answers its id.
async fn run(engine: &Arc<dyn Engine>) -> Result<String> {
    let request = StartRequest { plan: plan_once()?, input: json!({"n": 7}), idempotency_key: None, priority: None };
    let (id, outcome) = engine.run(request, PATIENCE).await?;
    let outcome = outcome.context("a run did not end")?;
    ensure!(outcome.status == Status::Success, "{outcome:?}");
    Ok(id.0)
}

fn plan_once() -> Result<Arc<compozy_plan::plan::Plan>> {
    static PLAN: std::sync::OnceLock<Arc<compozy_plan::plan::Plan>> = std::sync::OnceLock::new();
    if let Some(plan) = PLAN.get() {
        return Ok(Arc::clone(plan));
    }
    let compiled = plan()?;
    Ok(Arc::clone(PLAN.get_or_init(|| compiled)))
}

async fn events(client: &Client, id: &str) -> Result<f64> {
    let handle = client.get_workflow_handle::<Steps>(id);
    Ok(handle.describe(WorkflowDescribeOptions::default()).await?.history_length() as f64)
}

/// So many runs in flight for a while, after a warm-up.
async fn load<F: Future<Output = Result<String>>>(
    in_flight: usize,
    duration: Duration,
    one: impl Fn() -> F,
) -> Result<Load> {
    let begun = Instant::now();
    let latencies = Mutex::new(Vec::new());
    let workers = (0..in_flight).map(|_| async {
        while begun.elapsed() < WARM_UP + duration {
            let started = Instant::now();
            one().await?;
            if begun.elapsed() >= WARM_UP {
                latencies.lock().expect("nobody panics with it").push(started.elapsed());
            }
        }
        Ok::<_, anyhow::Error>(())
    });
    futures_util::future::try_join_all(workers).await?;
    let elapsed = begun.elapsed().saturating_sub(WARM_UP);
    Ok(Load::of(latencies.into_inner().expect("nobody panics with it"), elapsed, 0.0))
}
