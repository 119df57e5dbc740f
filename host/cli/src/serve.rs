//! `serve`: a host until it is told to stop.

use std::sync::Arc;

use compozy_server::limits::Limits;
use compozy_server::{AppState, Lifecycle, router};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::args::{HostArgs, ServeArgs};
use crate::exit::{Exit, Fatal};
use crate::host::Host;
use crate::output::result;
use crate::signals::Signals;
use crate::threads;

/// Serves until a signal comes, then drains.
pub(crate) fn serve(host: &HostArgs, args: &ServeArgs) -> Result<Exit, Fatal> {
    threads::run(|guests| serve_on(host, args, guests))
}

async fn serve_on(host: &HostArgs, args: &ServeArgs, guests: Handle) -> Result<Exit, Fatal> {
    let mut signals = Signals::catch()?;
    let listener = listen(args.listen()).await;
    let prepared = Host::prepare(host, &args.project()).await;
    // All that is wrong is told in one go.
    let (listener, prepared) = match (listener, prepared) {
        (Ok(listener), Ok(prepared)) => (listener, prepared),
        (Ok(_), Err(fatal)) | (Err(fatal), Ok(_)) => return Err(fatal),
        (Err(listen), Err(mut fatal)) => {
            fatal.problems.extend(listen.problems);
            return Err(fatal);
        }
    };
    let address = listener.local_addr().map_err(Fatal::setup)?;
    let host = prepared.start(guests)?;
    let lifecycle = Lifecycle::default();
    let limits = Limits::default();
    let state = AppState {
        engine: host.engine.clone(),
        workflows: Arc::new(host.workflows()),
        host: host.info(),
        lifecycle: lifecycle.clone(),
        limits: Arc::new(limits.clone()),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        let stop = async { drop(stopped.await) };
        compozy_server::serve(listener, router(state), &limits, stop).await;
    });
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "anyone who reaches this address can start workflows; there is no authentication yet");
    }
    tracing::info!(%address, workflows = host.workflows().len(), plugins = host.plugin_count(), "host started");
    // For programs that start a host: the one line on standard output.
    result(&format!("listening http://{address}"));

    let signal = signals.next().await;
    tracing::info!(signal, drain_ms = args.drain.as_millis(), "host stops; a second signal ends it at once");
    signals.force_on_next();
    lifecycle.stop();
    drop(stop);
    if server.await.is_err() {
        tracing::error!("the HTTP server panicked");
    }
    host.stop(args.drain).await;
    tracing::info!("host stopped");
    Ok(Exit::Ok)
}

async fn listen(address: &str) -> Result<TcpListener, Fatal> {
    TcpListener::bind(address).await.map_err(|error| {
        Fatal::setup(format!(
            "cannot listen on `{address}`: {error}; choose another address with --listen, port 0 takes a free one"
        ))
    })
}
