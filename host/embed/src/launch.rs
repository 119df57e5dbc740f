//! The order in which a host begins. What fails is undone in reverse.

use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use compozy_runtime::Runtime;
use compozy_server::{AppState, Lifecycle, LocalRates, RateLimit, RateLimiter, Workflows, router, watch_router};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::engine::{EngineChoice, EngineParts};
use crate::error::{StartError, StartProblem};
use crate::executor::PluginExecutor;
use crate::host::{Host, Inner};
use crate::info::Info;
use crate::options::{HostOptions, Mode};
use crate::parts::{EnginePart, GuestThreads, Http, Parts, Progress};
use crate::prepare::Prepared;
use crate::rates::SharedRates;
use crate::services::Services;
use crate::upkeep;

pub(crate) async fn launch(prepared: Prepared) -> Result<Host, StartError> {
    let (limit, spent) = (prepared.options.start_timeout, prepared.spent);
    let progress = Progress::default();
    // Outside of what may be cut off, so that it is ended in order however the start ends.
    let mut parts = Parts::default();
    let begun = progress.within(limit, spent, Box::pin(begin(prepared, &progress, &mut parts))).await;
    match begun {
        Ok(inner) => Ok(Host::new(inner, parts)),
        Err(error) => {
            parts.stop(Duration::ZERO).await;
            Err(error)
        }
    }
}

async fn begin(prepared: Prepared, progress: &Progress, parts: &mut Parts) -> Result<Inner, StartError> {
    let begun = Instant::now();
    let Prepared { options, settings, plugins, workflows, listener, spent } = prepared;
    let runtime = Arc::clone(&plugins.0);
    parts.push("plugins", plugins);
    let services = Services::of(&options, &settings, &runtime);
    if options.mode == Mode::Distributed {
        let left = options.start_timeout.saturating_sub(begun.elapsed() + spent);
        progress.step("services", await_services(&services, &options.engine, left)).await?;
    }
    let threads = options.guest_threads.map_or_else(|| available_parallelism().map_or(1, usize::from), usize::from);
    let (guests, handle) = progress.step("guest threads", async { GuestThreads::start(threads) }).await?;
    parts.push("guest threads", guests);
    let workflows: Arc<Workflows> = Arc::new(workflows.into_iter().collect());
    let engine_parts = EngineParts {
        data_dir: options.data_dir.clone(),
        executor: Arc::new(PluginExecutor::new(Arc::clone(&runtime))),
        guests: handle,
        workflows: Arc::clone(&workflows) as _,
        retention: settings.retention,
        blobs: options.blobs.clone(),
        stores: Arc::clone(runtime.stores()),
    };
    let engine = progress.step("engine", options.engine.open(engine_parts)).await.map_err(StartProblem::Engine)?;
    parts.push("engine", EnginePart(Arc::clone(&engine)));
    parts.push("upkeep", upkeep::start(&engine, &runtime));
    if let Some(watch) = services.watch(options.probe_every) {
        parts.push("watch of services", watch);
    }
    let rates = options.rate_limit.map(|limit| rates(limit, options.mode, &runtime));
    let info = Arc::new(Info::new(options.mode, runtime, services));
    let lifecycle = Lifecycle::default();
    let state = AppState {
        engine: Arc::clone(&engine),
        workflows,
        host: info,
        lifecycle,
        limits: Arc::new(options.http.clone()),
        rates,
    };
    let address = match listener {
        Some(listener) => Some(progress.step("http", async { serve(listener, &state, &options, parts) }).await?),
        None => None,
    };
    Ok(Inner { state, address, data_dir: options.data_dir, drain: options.drain })
}

/// Waits for everything that is on other machines; all that is missing is told in one go.
async fn await_services(services: &Services, engine: &EngineChoice, left: Duration) -> Result<(), StartError> {
    let (services, engine) = tokio::join!(services.wait(left), engine.check());
    let mut problems = services.err().map_or_else(Vec::new, |missing| missing.problems);
    problems.extend(engine.err().map(StartProblem::Engine));
    if problems.is_empty() { Ok(()) } else { Err(StartError { problems }) }
}

/// Together with other hosts where there are others.
fn rates(limit: RateLimit, mode: Mode, runtime: &Runtime) -> Arc<dyn RateLimiter> {
    match (mode, &runtime.stores().cache) {
        (Mode::Distributed, Some(cache)) => Arc::new(SharedRates::new(limit, Arc::clone(cache))),
        _ => Arc::new(LocalRates::new(limit)),
    }
}

fn serve(
    listener: TcpListener,
    state: &AppState,
    options: &HostOptions,
    parts: &mut Parts,
) -> Result<std::net::SocketAddr, StartProblem> {
    let refused = |error: std::io::Error| StartProblem::Listen {
        address: options.listen.clone().unwrap_or_default(),
        reason: error.to_string(),
    };
    let address = listener.local_addr().map_err(refused)?;
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "anyone who reaches this address can start workflows; there is no authentication yet");
    }
    let (stop, stopped) = oneshot::channel::<()>();
    let routes = if options.api { router(state.clone()) } else { watch_router(state.clone()) };
    let limits = options.http.clone();
    let server = tokio::spawn(async move {
        let stop = async { drop(stopped.await) };
        compozy_server::serve(listener, routes, &limits, stop).await;
    });
    parts.push("http", Http { lifecycle: state.lifecycle.clone(), stop: Some(stop), server });
    Ok(address)
}
