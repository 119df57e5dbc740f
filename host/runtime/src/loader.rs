//! From folders and built-ins to plugins that are checked and ready. Everything that is wrong is told at once.

mod discover;
mod prepare;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::capabilities::Grants;
use crate::code_cache::CodeCache;
use crate::engine::SandboxEngine;
use crate::limits::Limit;
use crate::link;
use crate::plugin::PluginHandle;
use crate::runtime::RuntimeOptions;

pub(crate) use discover::candidate;
pub(crate) use prepare::Workshop;

/// A plugin inside of the binary. It passes through the same checks as anybody else's.
#[derive(Debug, Clone)]
pub struct Builtin {
    /// Its `plugin.toml`.
    pub manifest: Cow<'static, str>,
    /// Its component.
    pub component: Cow<'static, [u8]>,
}

/// What the operator says to a plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PluginPolicy {
    /// What it may touch, if it requests it.
    pub grants: Grants,
    /// The most that its limits may be.
    pub caps: BTreeMap<Limit, u64>,
}

/// Why a plugin could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message} [{code}]")]
pub struct LoadError {
    /// Stable code for machines.
    pub code: &'static str,
    /// The folder, or the built-in.
    pub place: String,
    /// What is wrong and what to do.
    pub message: String,
    plugin: Option<String>,
}

impl LoadError {
    pub(crate) fn new(code: &'static str, place: impl std::fmt::Display, message: impl Into<String>) -> Self {
        Self { code, place: place.to_string(), message: message.into(), plugin: None }
    }

    pub(crate) fn of(mut self, plugin: &str) -> Self {
        self.plugin = Some(plugin.to_owned());
        self
    }

    /// Whether it is about the plugin of this name.
    pub(crate) fn names(&self, plugin: &str) -> bool {
        self.plugin.as_deref() == Some(plugin)
    }
}

/// Loads everything that can be loaded, and tells what cannot.
pub(crate) async fn load(
    sandbox: &SandboxEngine,
    options: &RuntimeOptions,
) -> (Option<Workshop>, BTreeMap<String, PluginHandle>, Vec<LoadError>) {
    let mut errors = Vec::new();
    let candidates = discover::candidates(options, &mut errors);
    let linker = match link::linker(sandbox.engine()) {
        Ok(linker) => linker,
        Err(error) => {
            errors.push(LoadError::new(
                "ENGINE_UNAVAILABLE",
                "the host",
                format!("cannot link its functions: {error:#}"),
            ));
            return (None, BTreeMap::new(), errors);
        }
    };
    let cache = options.code_cache_dir.as_deref().and_then(|folder| {
        let opened = CodeCache::open(folder, sandbox.engine());
        opened
            .inspect_err(|why| {
                tracing::warn!(why, code = "CODE_CACHE_REFUSED", "compiled code is not kept; each start compiles");
            })
            .ok()
    });
    let workshop = Workshop { engine: sandbox.engine().clone(), linker, cache: cache.map(Arc::new) };
    let mut plugins = BTreeMap::new();
    for candidate in candidates {
        let name = candidate.manifest.name.clone();
        match workshop.prepare(candidate, options).await {
            Ok(plugin) => drop(plugins.insert(name, plugin)),
            Err(error) => errors.push(error.of(&name)),
        }
    }
    (Some(workshop), plugins, errors)
}
