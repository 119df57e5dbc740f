//! What is recorded of executions, wherever their engine keeps it: in the data folder's journal, or on Temporal.

use std::sync::Arc;

use compozy_embed::onlooker;
use compozy_engine::local::JournalView;
use compozy_engine::port::{Engine, Execution, ExecutionId, ExecutionSummary, Filter, JournalRecord};
use compozy_engine::{Difference, EngineError, History};
use tokio::runtime::Handle;

use crate::args::HostArgs;
use crate::exit::Fatal;
use crate::host::engine_fatal;

/// Answers questions.
pub(crate) enum Records {
    /// The embedded engine's; a host may work on it meanwhile.
    Journal(JournalView),
    /// Temporal's.
    Temporal(Arc<dyn Engine>),
}

/// The journal of the data folder.
pub(crate) fn journal(host: &HostArgs) -> Result<JournalView, Fatal> {
    if !host.data_dir.is_dir() {
        let folder = host.data_dir.display();
        return Err(Fatal::setup(format!("there is no data folder `{folder}`; name one with --data-dir")));
    }
    JournalView::open(&host.data_dir, Handle::current()).map_err(|error| engine_fatal(&error))
}

impl Records {
    /// Where the configuration says.
    pub(crate) async fn open(host: &HostArgs) -> Result<Self, Fatal> {
        match onlooker(&host.loaded.config).await? {
            Some(engine) => Ok(Self::Temporal(engine)),
            None => journal(host).map(Self::Journal),
        }
    }

    pub(crate) async fn search(
        &self,
        filter: &Filter,
        limit: usize,
        before: Option<&ExecutionId>,
    ) -> Result<Vec<ExecutionSummary>, EngineError> {
        match self {
            Self::Journal(view) => view.search(filter, limit, before).await,
            Self::Temporal(engine) => engine.search(filter, limit, before).await,
        }
    }

    pub(crate) async fn execution(&self, id: &ExecutionId) -> Result<Option<Execution>, EngineError> {
        match self {
            Self::Journal(view) => view.execution(id).await,
            Self::Temporal(engine) => engine.execution(id).await,
        }
    }

    pub(crate) async fn journal(&self, id: &ExecutionId) -> Result<Vec<JournalRecord>, EngineError> {
        match self {
            Self::Journal(view) => view.journal(id).await,
            Self::Temporal(engine) => engine.journal(id).await,
        }
    }

    pub(crate) async fn verify(&self, id: &ExecutionId) -> Result<Option<Difference>, EngineError> {
        match self {
            Self::Journal(view) => view.verify(id).await,
            Self::Temporal(engine) => engine.verify(id).await,
        }
    }

    pub(crate) async fn export(&self, id: &ExecutionId) -> Result<History, EngineError> {
        match self {
            Self::Journal(view) => view.export(id).await,
            Self::Temporal(engine) => engine.export(id).await,
        }
    }
}
