//! What a host does beside its work: builds of plugins that nobody needs any more leave the archive.

use std::sync::Arc;
use std::time::Duration;

use compozy_engine::port::Engine;
use compozy_runtime::Runtime;

use crate::parts::Background;

/// The start itself is left alone.
const FIRST_AFTER: Duration = Duration::from_secs(2);
const EVERY: Duration = Duration::from_hours(1);

/// Begins it.
pub(crate) fn start(engine: &Arc<dyn Engine>, runtime: &Arc<Runtime>) -> Background {
    let (engine, runtime) = (Arc::clone(engine), Arc::clone(runtime));
    Background(tokio::spawn(async move {
        tokio::time::sleep(FIRST_AFTER).await;
        loop {
            clean(&*engine, &runtime).await;
            tokio::time::sleep(EVERY).await;
        }
    }))
}

/// A run that begins meanwhile is bound to builds that are loaded, and those stay.
async fn clean(engine: &dyn Engine, runtime: &Runtime) {
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
