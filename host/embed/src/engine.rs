//! Which engine runs the workflows.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use compozy_engine::EngineError;
use compozy_engine::blob_store::BlobStore;
use compozy_engine::local::{LocalEngine, LocalOptions, Retention};
use compozy_engine::port::{Engine, Workflows};
use compozy_runtime::stores::Stores;
use tokio::runtime::Handle;

use crate::executor::PluginExecutor;
use crate::temporal::{TemporalChoice, TemporalFactory};

/// Who runs the workflows.
#[derive(Clone, Default)]
pub enum EngineChoice {
    /// The embedded one: a journal in the data folder.
    #[default]
    Embedded,
    /// The one on Temporal.
    Temporal(Box<TemporalChoice>),
    /// Another one.
    Other(Arc<dyn EngineFactory>),
}

impl EngineChoice {
    /// For the log and for `health`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Temporal(_) => "temporal",
            Self::Other(factory) => factory.name(),
        }
    }
}

impl std::fmt::Debug for EngineChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Opens an engine that this crate does not know.
#[async_trait]
pub trait EngineFactory: Send + Sync + 'static {
    /// For the log and for `health`.
    fn name(&self) -> &'static str;
    /// Whether what it needs is there, before anything is begun. Asked together with the other services, so that all that is
    /// missing is told in one go.
    async fn check(&self) -> Result<(), EngineError> {
        Ok(())
    }
    /// Opens it, or undoes what it did. The future is dropped when the start takes too long.
    async fn open(&self, parts: EngineParts) -> Result<Arc<dyn Engine>, EngineError>;
}

/// What a host has for its engine.
#[derive(Clone)]
pub struct EngineParts {
    /// Where the host keeps its data.
    pub data_dir: PathBuf,
    /// Runs tasks on plugins.
    pub executor: Arc<PluginExecutor>,
    /// Where attempts of tasks are to run: the guests' threads, which nothing else uses.
    pub guests: Handle,
    /// The workflows that runs may start.
    pub workflows: Arc<dyn Workflows>,
    /// How long executions are kept after their end.
    pub retention: Retention,
    /// Where large values are to be kept; `None` leaves it to the engine.
    pub blobs: Option<Arc<dyn BlobStore>>,
    /// The host's stores.
    pub stores: Arc<Stores>,
}

impl EngineChoice {
    /// See [`EngineFactory::check`].
    pub(crate) async fn check(&self) -> Result<(), EngineError> {
        match self {
            Self::Embedded => Ok(()),
            Self::Temporal(choice) => TemporalFactory(TemporalChoice::clone(choice)).check().await,
            Self::Other(factory) => factory.check().await,
        }
    }

    /// Opens the engine.
    pub(crate) async fn open(&self, parts: EngineParts) -> Result<Arc<dyn Engine>, EngineError> {
        match self {
            Self::Other(factory) => factory.open(parts).await,
            Self::Temporal(choice) => TemporalFactory(TemporalChoice::clone(choice)).open(parts).await,
            Self::Embedded => {
                let options = LocalOptions {
                    workflows: parts.workflows,
                    retention: parts.retention,
                    runtime: Some(parts.guests),
                    blobs: parts.blobs,
                    ..LocalOptions::new(parts.data_dir, parts.executor)
                };
                // It waits for the disk. Should nobody wait any more, it is closed as soon as it is open.
                let opened = tokio::task::spawn_blocking(move || LocalEngine::open(options)).await;
                let opened = opened.map_err(|error| EngineError::Internal(format!("the engine's start: {error}")))?;
                Ok(Arc::new(opened?))
            }
        }
    }
}
