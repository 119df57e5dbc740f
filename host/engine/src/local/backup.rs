//! The blobs of a backup: beside the copy of the journal, in a folder of its name with `.blobs` behind it.

use std::path::{Path, PathBuf};

use compozy_plan::blob::BlobRef;
use rusqlite::{Connection, OpenFlags};

use crate::EngineError;
use crate::blob_store::{BlobStore as _, FileBlobs};
use crate::vault::{Vault, unavailable};

/// Where the blobs of a backup are.
pub(super) fn folder(copy: &Path) -> PathBuf {
    let mut name = copy.as_os_str().to_owned();
    name.push(".blobs");
    PathBuf::from(name)
}

/// Copies every blob that the copy of a journal refers to. One that is lost stays lost, and is logged.
pub(super) fn blobs(vault: &Vault, copy: &Path) -> Result<(), EngineError> {
    let refused = |reason: &dyn std::fmt::Display| {
        EngineError::InvalidOption(format!("cannot write a backup to `{}`: {reason}", copy.display()))
    };
    let target = FileBlobs::new(folder(copy));
    let conn = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|e| refused(&e))?;
    let mut used = conn.prepare("SELECT digest, MAX(bytes) FROM blob_use GROUP BY digest").map_err(|e| refused(&e))?;
    let rows = used.query_map([], |row| Ok(BlobRef { digest: row.get(0)?, bytes: row.get(1)? }));
    for blob in rows.map_err(|e| refused(&e))? {
        let blob = blob.map_err(|e| refused(&e))?;
        match vault.bytes(&blob) {
            Ok(bytes) => target.put(&blob.digest, &bytes).map_err(|error| unavailable(&error))?,
            Err(error) => tracing::error!(%error, "the backup is without a value"),
        }
    }
    Ok(())
}
