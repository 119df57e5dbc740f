//! What a host does beside its work: builds of plugins that nobody needs any more leave the archive.

use std::sync::Arc;
use std::time::Duration;

use compozy_engine::local::LocalEngine;
use compozy_engine::port::Engine;
use compozy_runtime::Runtime;
use tokio::task::JoinHandle;

/// The start itself is left alone.
const FIRST_AFTER: Duration = Duration::from_secs(2);
const EVERY: Duration = Duration::from_hours(1);

/// Ends with the host.
pub(crate) struct Upkeep(JoinHandle<()>);

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Begins it.
pub(crate) fn start(engine: &Arc<LocalEngine>, runtime: &Arc<Runtime>) -> Upkeep {
    let (engine, runtime) = (Arc::clone(engine), Arc::clone(runtime));
    Upkeep(tokio::spawn(async move {
        tokio::time::sleep(FIRST_AFTER).await;
        loop {
            clean(&engine, &runtime).await;
            tokio::time::sleep(EVERY).await;
        }
    }))
}

/// A run that begins meanwhile is bound to builds that are loaded, and those stay.
async fn clean(engine: &LocalEngine, runtime: &Runtime) {
    let bound = match engine.pins().await {
        Ok(bound) => bound,
        // Nothing is removed on a guess.
        Err(error) => return tracing::debug!(code = error.code(), %error, "the archive of plugins is not cleaned"),
    };
    match runtime.clean_archive(bound).await {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "builds of plugins that no execution needs left the archive"),
        Err(error) => tracing::warn!(%error, "the archive of plugins cannot be cleaned"),
    }
}
