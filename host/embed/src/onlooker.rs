//! A look at executions on Temporal without being a host: it takes no work and serves nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use compozy_config::Config;
use compozy_config::config::EngineKind;
use compozy_engine::EngineError;
use compozy_engine::blob_store::{BlobStore, FileBlobs};
use compozy_engine::port::{Engine, TaskCall, TaskExecutor, TaskReport};
use compozy_interpreter::Failure;
use compozy_temporal::{TemporalEngine, TemporalOptions};

use crate::configured::{blobs, temporal_address};
use crate::error::{StartError, StartProblem};

/// Runs nothing.
struct Nobody;

#[async_trait]
impl TaskExecutor for Nobody {
    async fn execute(&self, _call: TaskCall) -> TaskReport {
        TaskReport { result: Err(Failure::transient("NO_WORKER", "this process runs no tasks")), ran: None }
    }
}

/// The engine that is configured, for questions; `None` when it is the embedded one, whose journal lies in the data folder.
///
/// # Errors
/// The server cannot be reached, or only the host that started it knows where it is.
pub async fn onlooker(config: &Config) -> Result<Option<Arc<dyn Engine>>, StartError> {
    if config.engine.kind == EngineKind::Embedded {
        return Ok(None);
    }
    if config.engine.temporal.managed {
        let message = "the Temporal server is managed, so only its host knows it; ask the host by HTTP";
        return Err(StartProblem::Engine(EngineError::InvalidOption(message.to_owned())).into());
    }
    let values: Arc<dyn BlobStore> =
        blobs(config)?.unwrap_or_else(|| Arc::new(FileBlobs::new(config.data_dir.join("blobs"))));
    let address = temporal_address(config);
    let options = TemporalOptions {
        roles: BTreeSet::new(),
        rpc_timeout: config.engine.temporal.rpc_timeout,
        ..TemporalOptions::new(address, config.engine.temporal.project.clone(), Arc::new(Nobody), values)
    };
    let engine = TemporalEngine::open(options).await;
    let engine = engine.map_err(|error| StartProblem::Engine(EngineError::InvalidOption(error.to_string())))?;
    Ok(Some(Arc::new(engine)))
}
