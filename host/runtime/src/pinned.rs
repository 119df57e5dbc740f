//! Plugins that only runs of before still call: loaded from the archive when the first of them asks.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::archive::{Archive, Build};
use crate::error::CallError;
use crate::loader::{self, Workshop};
use crate::plugin::{PluginHandle, Role};
use crate::runtime::RuntimeOptions;
use crate::stores::Stores;

/// Builds that are loaded at once beside the present ones; the one that was not called for longest gives way.
pub const PINNED_PLUGINS_MAX: usize = 64;

/// A build that is loaded, or about to be, and when it was called last.
struct Entry {
    cell: Arc<OnceCell<PluginHandle>>,
    called: u64,
}

#[derive(Default)]
struct Loaded {
    builds: HashMap<Build, Entry>,
    calls: u64,
}

/// What is needed to load a build, and what is loaded.
pub(crate) struct Pinned {
    workshop: Workshop,
    options: RuntimeOptions,
    archive: Option<Archive>,
    loaded: Mutex<Loaded>,
}

impl Pinned {
    pub(crate) fn new(workshop: Workshop, options: RuntimeOptions) -> Self {
        let archive = options.archive_dir.as_deref().map(Archive::new);
        Self { workshop, options, archive, loaded: Mutex::default() }
    }

    /// The build of this digest. `present` is the digest of the plugin of this name that is loaded.
    pub(crate) async fn get(
        &self,
        name: &str,
        digest: &str,
        present: Option<&str>,
        stores: &Arc<Stores>,
    ) -> Result<PluginHandle, CallError> {
        let cell = self.cell(name, digest);
        let handle = cell.get_or_try_init(|| self.load(name, digest, present, stores)).await?;
        Ok(Arc::clone(handle))
    }

    fn cell(&self, name: &str, digest: &str) -> Arc<OnceCell<PluginHandle>> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let Loaded { builds, calls } = &mut *loaded;
        *calls += 1;
        let build = (name.to_owned(), digest.to_owned());
        if !builds.contains_key(&build) && builds.len() >= PINNED_PLUGINS_MAX {
            let oldest = builds.iter().min_by_key(|(_, entry)| entry.called).map(|(build, _)| build.clone());
            // Calls that run hold it until they end.
            drop(oldest.and_then(|oldest| builds.remove(&oldest)));
        }
        let entry = builds.entry(build).or_insert_with(|| Entry { cell: Arc::default(), called: 0 });
        entry.called = *calls;
        Arc::clone(&entry.cell)
    }

    async fn load(
        &self,
        name: &str,
        digest: &str,
        present: Option<&str>,
        stores: &Arc<Stores>,
    ) -> Result<PluginHandle, CallError> {
        let missing = || CallError::PinMissing {
            name: name.to_owned(),
            digest: digest.to_owned(),
            present: present.map(str::to_owned),
        };
        let unusable =
            |reason: String| CallError::PinUnusable { name: name.to_owned(), digest: digest.to_owned(), reason };
        let archive = self.archive.clone().ok_or_else(missing)?;
        let build = (name.to_owned(), digest.to_owned());
        let place = archive.folder().join(name).join(digest);
        let read = tokio::task::spawn_blocking(move || archive.read(&build.0, &build.1));
        let kept = read.await.map_err(|error| unusable(error.to_string()))?.map_err(unusable)?.ok_or_else(missing)?;
        let candidate = loader::candidate(kept.manifest, kept.wasm, place).map_err(unusable)?;
        let plugin = self.workshop.prepare(candidate, &self.options).await;
        let plugin = plugin.map_err(|error| unusable(format!("{} [{}]", error.message, error.code)))?;
        if plugin.roles() == [Role::Executor] {
            let set = plugin.stores.set(Arc::clone(stores));
            debug_assert!(set.is_ok(), "set once");
        }
        tracing::info!(plugin = name, digest, "a build that executions of before are bound to was loaded");
        Ok(plugin)
    }

    /// Removes what nobody needs from the archive and from memory. Answers how many builds left the archive.
    pub(crate) async fn clean(&self, keep: BTreeSet<Build>) -> std::io::Result<usize> {
        let Some(archive) = self.archive.clone() else { return Ok(0) };
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).builds.retain(|build, _| keep.contains(build));
        let cleaned = tokio::task::spawn_blocking(move || archive.clean(&keep));
        cleaned.await.map_err(std::io::Error::other)?
    }

    /// Takes no more calls.
    pub(crate) fn close(&self) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, entry) in loaded.builds.drain() {
            if let Some(plugin) = entry.cell.get() {
                plugin.gate.close();
            }
        }
    }
}
