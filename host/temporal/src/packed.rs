//! Large messages: compressed, and kept apart when that is not enough. The server takes 2 MiB at most.

use std::io::Read as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use compozy_engine::vault::Vault;
use compozy_interpreter::BlobError;
use compozy_plan::blob::BlobRef;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::limits::{MESSAGE_BYTES_MAX, MESSAGE_INLINE_BYTES_MAX};

/// The level of compression: the fastest.
const LEVEL: i32 = 1;

/// A value as a message carries it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Packed {
    /// Its JSON, compressed by zstd, in Base64.
    Zstd(String),
    /// A reference ([`BlobRef`]) to its compressed JSON in the blob store.
    Blob(Value),
}

/// Why a message cannot be packed or unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    /// The blob store refuses, or has lost it.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The blob store refuses to keep it.
    #[error(transparent)]
    Store(#[from] compozy_engine::blob_store::BlobStoreError),
    /// It is not what it should be.
    #[error("a message cannot be read: {0}")]
    Damaged(String),
}

impl Packed {
    /// Packs a value. Blocking when it is large.
    pub(crate) fn pack(value: &impl Serialize, vault: &Arc<Vault>) -> Result<Self, PackError> {
        let json = serde_json::to_vec(value).map_err(|error| PackError::Damaged(error.to_string()))?;
        let compressed = zstd::bulk::compress(&json, LEVEL).map_err(|error| PackError::Damaged(error.to_string()))?;
        let text = STANDARD.encode(&compressed);
        if compressed.len() <= MESSAGE_INLINE_BYTES_MAX {
            return Ok(Self::Zstd(text));
        }
        Ok(Self::Blob(vault.keep(&Value::String(text))?.to_value()))
    }

    /// Unpacks a value. Blocking when it is kept apart.
    pub(crate) fn unpack<T: DeserializeOwned>(&self, vault: &Vault) -> Result<T, PackError> {
        serde_json::from_slice(&self.json(vault)?).map_err(|error| PackError::Damaged(error.to_string()))
    }

    fn json(&self, vault: &Vault) -> Result<Vec<u8>, PackError> {
        let damaged = |error: &dyn std::fmt::Display| PackError::Damaged(error.to_string());
        let kept;
        let text = match self {
            Self::Zstd(text) => text.as_str(),
            Self::Blob(reference) => {
                let blob = BlobRef::of(reference).ok_or_else(|| damaged(&"it refers to nothing"))?;
                kept = compozy_interpreter::Blobs::load(vault, &blob)?;
                kept.as_str().ok_or_else(|| damaged(&"what it refers to is no message"))?
            }
        };
        let compressed = STANDARD.decode(text).map_err(|error| damaged(&error))?;
        let reader = zstd::Decoder::new(compressed.as_slice()).map_err(|error| damaged(&error))?;
        // Read before it is parsed: serde_json takes single bytes from a reader, which is many times slower.
        let mut json = Vec::new();
        reader.take(MESSAGE_BYTES_MAX).read_to_end(&mut json).map_err(|error| damaged(&error))?;
        Ok(json)
    }
}
