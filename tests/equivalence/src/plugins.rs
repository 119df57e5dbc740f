//! Real plugins, for fixtures that call them beside the script: the host's own way from a task to a sandboxed component.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use compozy_engine::port::TaskExecutor;
use compozy_runtime::{Runtime, RuntimeOptions, StoreSelection};
use tokio::sync::OnceCell;

use compozy_embed::PluginExecutor;

/// Loads plugins when the first fixture asks for them; all fixtures share them.
#[derive(Default)]
pub(crate) struct Plugins(OnceCell<(Arc<dyn TaskExecutor>, tempfile::TempDir)>);

impl Plugins {
    pub(crate) async fn executor(&self) -> Result<Arc<dyn TaskExecutor>> {
        let (executor, _) = self.0.get_or_try_init(load).await?;
        Ok(Arc::clone(executor))
    }
}

async fn load() -> Result<(Arc<dyn TaskExecutor>, tempfile::TempDir)> {
    let plugin = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests/echo");
    let plugin = plugin.canonicalize().context("the plugin `echo`")?;
    let built = plugin.join("echo.wasm").is_file();
    anyhow::ensure!(built, "the plugin `echo` is not built: run `cargo xtask build` first");
    let data = tempfile::tempdir()?;
    let options = RuntimeOptions {
        plugin_dirs: vec![plugin],
        stores: StoreSelection::none(),
        ..RuntimeOptions::new(data.path())
    };
    let runtime = Runtime::open(options).await.map_err(|error| anyhow!("{error}"))?;
    Ok((Arc::new(PluginExecutor::new(runtime)), data))
}
