//! `serve`: a host until it is told to stop.

use crate::args::{HostArgs, ServeArgs};
use crate::exit::{Exit, Fatal};
use crate::host::host_of;
use crate::output::result;
use crate::signals::Signals;
use crate::threads;

/// Serves until a signal comes, then drains.
pub(crate) fn serve(host: &HostArgs, args: &ServeArgs) -> Result<Exit, Fatal> {
    threads::run(serve_on(host, args))
}

async fn serve_on(host: &HostArgs, args: &ServeArgs) -> Result<Exit, Fatal> {
    let mut signals = Signals::catch()?;
    let host = host_of(host, &args.project())?.listen(args.listen()).drain(args.drain).start().await?;
    let address = host.address().ok_or_else(|| Fatal::setup("the host has no address"))?;
    let plugins = host.health().plugins.len();
    tracing::info!(%address, workflows = host.workflows().len(), plugins, "host started");
    // For programs that start a host: the one line on standard output.
    result(&format!("listening http://{address}"));

    let signal = signals.next().await;
    tracing::info!(signal, drain_ms = args.drain.as_millis(), "host stops; a second signal ends it at once");
    signals.force_on_next();
    host.stop().await;
    tracing::info!("host stopped");
    Ok(Exit::Ok)
}
