//! A look into a journal without taking it over.

use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::BLOBS_FOLDER;
use super::file::JournalFile;
use super::reader::Readers;
use crate::blob_store::FileBlobs;
use crate::port::{Execution, ExecutionId, ExecutionSummary, Filter, JournalRecord};
use crate::vault::Vault;
use crate::{Difference, EngineError, History};

/// Reads a journal, whether an engine works on it, has stopped, or was killed. It takes no lock and changes no record.
pub struct JournalView {
    readers: Arc<Readers>,
}

impl JournalView {
    /// Opens the journal of a data folder; makes neither folder nor journal. Reads on the blocking threads of `runtime`.
    pub fn open(data_dir: &Path, runtime: Handle) -> Result<Self, EngineError> {
        let blobs = Arc::new(FileBlobs::new(data_dir.join(BLOBS_FOLDER)));
        let vault = Arc::new(Vault::new(blobs));
        Ok(Self { readers: Readers::open(JournalFile::new(data_dir), runtime, vault)? })
    }

    /// See [`crate::port::Engine::execution`].
    pub async fn execution(&self, id: &ExecutionId) -> Result<Option<Execution>, EngineError> {
        self.readers.execution(id).await
    }

    /// See [`crate::port::Engine::journal`].
    pub async fn journal(&self, id: &ExecutionId) -> Result<Vec<JournalRecord>, EngineError> {
        self.readers.journal(id).await
    }

    /// See [`crate::port::Engine::list`].
    pub async fn list(&self, limit: usize, before: Option<&ExecutionId>) -> Result<Vec<ExecutionSummary>, EngineError> {
        self.search(&Filter::default(), limit, before).await
    }

    /// See [`crate::port::Engine::search`].
    pub async fn search(
        &self,
        filter: &Filter,
        limit: usize,
        before: Option<&ExecutionId>,
    ) -> Result<Vec<ExecutionSummary>, EngineError> {
        self.readers.list(filter, limit, before).await
    }

    /// See [`crate::port::Engine::backup`].
    pub async fn backup(&self, to: &Path) -> Result<(), EngineError> {
        self.readers.backup(to).await
    }

    /// See [`crate::port::Engine::verify`].
    pub async fn verify(&self, id: &ExecutionId) -> Result<Option<Difference>, EngineError> {
        self.readers.verify(id).await
    }

    /// See [`crate::port::Engine::export`].
    pub async fn export(&self, id: &ExecutionId) -> Result<History, EngineError> {
        self.readers.export(id).await
    }
}
