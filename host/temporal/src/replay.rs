//! Histories of Temporal, taken through the workflow again: what an older version wrote must still be understood.

use std::sync::Arc;
use std::time::Duration;

use compozy_engine::blob_store::BlobStore;
use compozy_engine::vault::Vault;
use temporalio_client::WorkflowHistory;
use temporalio_sdk::workflow_replayer::{WorkflowReplayer, WorkflowReplayerOptions};

use crate::workflow::{Run, Shared};

/// Why a history cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It is no history.
    #[error("the history cannot be read: {0}")]
    Unreadable(String),
    /// The workflow does something else now.
    #[error("the workflow does not do what the history says: {0}")]
    Differs(String),
}

/// Replays a history in the form that [`crate::TemporalEngine::history`] writes. `blobs` holds the large values that it
/// refers to.
pub async fn replay(history: &[u8], project: &str, blobs: Arc<dyn BlobStore>) -> Result<(), ReplayError> {
    let unreadable = |error: &dyn std::fmt::Display| ReplayError::Unreadable(error.to_string());
    let history = WorkflowHistory::from_json(history).map_err(|error| unreadable(&error))?;
    let shared = Arc::new(Shared {
        vault: Arc::new(Vault::new(blobs)),
        project: project.to_owned(),
        lost_after: Duration::from_secs(10),
        history_events: crate::limits::HISTORY_EVENTS_DUE,
        places: Arc::default(),
    });
    let options = WorkflowReplayerOptions::new()
        .register_workflow_with_factory(move || Run::new(Arc::clone(&shared)))
        .map_err(|error| unreadable(&error))?
        .build();
    let replayer = WorkflowReplayer::new(options).map_err(|error| unreadable(&error))?;
    replayer.replay_workflow(history).await.map_err(|error| ReplayError::Differs(format!("{error:#}")))
}
