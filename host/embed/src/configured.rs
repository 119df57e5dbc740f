//! From the configuration to a host's options.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use compozy_blobs::{ObjectBlobs, S3Options, UsedBlobs};
use compozy_config::Loaded;
use compozy_config::config::{BlobsConfig, Config, EngineKind, Mode as ConfigMode, ProcessRole, S3Config};
use compozy_engine::blob_store::{BlobStore, FileBlobs};
use compozy_server::RateLimit;
use compozy_temporal::{Address, ApiKey, Role, Tls};

use crate::engine::EngineChoice;
use crate::error::{StartError, StartProblem};
use crate::options::{HostOptions, Mode, ProjectSource};
use crate::temporal::{TemporalChoice, TemporalServer};

impl HostOptions {
    /// A host as its configuration says. What is wrong with the configuration is told at its start, with everything else.
    ///
    /// # Errors
    /// Storage that cannot be set up.
    pub fn configured(project: impl Into<PathBuf>, loaded: Loaded) -> Result<Self, StartError> {
        let config = &loaded.config;
        let mut options = Self::new(&config.data_dir);
        options.project = ProjectSource::Path(project.into());
        options.plugin_dirs.clone_from(&config.plugin_dirs);
        options.mode = match config.mode {
            ConfigMode::Standalone => Mode::Standalone,
            ConfigMode::Distributed => Mode::Distributed,
        };
        options.api = config.has(ProcessRole::Api);
        options.engine = engine(config);
        options.blobs = blobs(config)?;
        options.rate_limit = config.rate_limit.and_then(|limit| {
            let requests = NonZeroU32::new(limit.requests)?;
            Some(RateLimit { requests, per: limit.per, burst: NonZeroU32::new(limit.burst) })
        });
        (options.start_timeout, options.drain) = (config.start_timeout, config.drain);
        options.configuration = Some(Arc::new(loaded));
        Ok(options)
    }
}

/// The engine that is configured.
fn engine(config: &Config) -> EngineChoice {
    if config.engine.kind == EngineKind::Embedded {
        return EngineChoice::Embedded;
    }
    let temporal = &config.engine.temporal;
    let server = match (&temporal.address, temporal.managed) {
        (Some(_), false) => TemporalServer::At(temporal_address(config)),
        // A start with neither is refused before the engine is opened.
        _ => TemporalServer::Managed { program: temporal.binary.clone(), start_timeout: config.start_timeout },
    };
    let role = |role: &ProcessRole| match role {
        ProcessRole::Api => Role::Api,
        ProcessRole::WorkflowWorker => Role::WorkflowWorker,
        ProcessRole::ToolWorker => Role::ToolWorker,
    };
    let concurrency = config.worker.concurrency.iter();
    EngineChoice::Temporal(Box::new(TemporalChoice {
        roles: config.roles.iter().map(role).collect(),
        plugins: config.worker.plugins.clone(),
        concurrency: concurrency.map(|(plugin, at_once)| (plugin.clone(), *at_once as usize)).collect(),
        rpc_timeout: temporal.rpc_timeout,
        ..TemporalChoice::new(server, temporal.project.clone())
    }))
}

/// The Temporal server that is configured.
pub fn temporal_address(config: &Config) -> Address {
    let temporal = &config.engine.temporal;
    let tls = &temporal.tls;
    let wanted = tls.ca_file.is_some() || tls.cert_file.is_some() || tls.domain.is_some();
    Address {
        url: temporal.address.clone().unwrap_or_default(),
        namespace: temporal.namespace.clone(),
        api_key: temporal.api_key.as_ref().map(|key| ApiKey(key.expose().to_owned())),
        tls: wanted.then(|| Tls {
            ca_file: tls.ca_file.clone(),
            client: tls.cert_file.clone().zip(tls.key_file.clone()),
            domain: tls.domain.clone(),
        }),
        connect_timeout: config.start_timeout.min(temporal.rpc_timeout),
    }
}

/// Where large values are configured to be; `None` leaves it to the engine. On Temporal the store knows who uses what, which
/// the embedded engine's journal does.
///
/// # Errors
/// Storage that cannot be set up.
pub fn blobs(config: &Config) -> Result<Option<Arc<dyn BlobStore>>, StartError> {
    let embedded = config.engine.kind == EngineKind::Embedded;
    let blobs = match &config.blobs {
        BlobsConfig::Folder(None) => return Ok(None),
        BlobsConfig::Folder(Some(folder)) if embedded => return Ok(Some(Arc::new(FileBlobs::new(folder)))),
        BlobsConfig::Folder(Some(folder)) => ObjectBlobs::folder(folder),
        BlobsConfig::S3(s3) => s3_blobs(s3)?,
    };
    Ok(Some(if embedded { Arc::new(blobs) } else { Arc::new(UsedBlobs::new(blobs)) }))
}

/// S3-compatible storage.
///
/// # Errors
/// Settings that it cannot be used with.
pub fn s3_blobs(config: &S3Config) -> Result<ObjectBlobs, StartError> {
    let options = S3Options {
        endpoint: config.endpoint.clone(),
        bucket: config.bucket.clone(),
        region: config.region.clone(),
        prefix: config.prefix.clone(),
        access_key_id: config.access_key_id.expose().to_owned(),
        secret_access_key: config.secret_access_key.expose().to_owned(),
        allow_http: config.allow_http,
        ca_file: None,
    };
    options.open().map_err(|error| StartProblem::Blobs { reason: error.to_string() }.into())
}
