//! The claim check: what is too large for the journal goes to the blob store, and a reference takes its place.
//!
//! - Before an event is written, so that the journal never holds a large value. Callers and attempts do it on their own
//!   threads; what is left is done by the writer (values that a run itself put together).
//! - Of an object the large fields are kept apart one by one, so that a template that reads a small one loads nothing.
//! - A value that was put away is protected by a [`Claim`] until a run that refers to it is in the journal.
//! - An engine without such a journal has its uses recorded in the store: see [`Vault::of`].

mod uses;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use compozy_interpreter::{BlobError, Blobs, is_too_deep};
use compozy_plan::blob::{BLOB_KEY, BlobRef, has_blob_key};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::blob_store::{BlobStore, BlobStoreError};
use crate::cache::Cache;
use crate::request::json_bytes;
use crate::{EngineError, limits};

type Key = [u8; 32];

/// The blob store, with the values that were used last, and what must not be forgotten.
pub struct Vault {
    kept: Arc<Kept>,
    /// Who refers to what is put in, as the store is told; `None` when the journal says it.
    user: Option<String>,
}

/// What all who use one store share.
struct Kept {
    store: Arc<dyn BlobStore>,
    /// What the names of this engine's executions begin with in the store.
    scope: String,
    recent: Mutex<Cache<Key, Arc<Value>>>,
    claimed: Mutex<HashMap<Key, usize>>,
    /// How many want nothing to be forgotten for now.
    keeping: AtomicUsize,
}

/// Until it is dropped, nothing is forgotten.
pub struct KeepAll<'v>(&'v Vault);

impl Drop for KeepAll<'_> {
    fn drop(&mut self) {
        self.0.kept.keeping.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Keeps values in the store until it is dropped.
#[derive(Default)]
pub struct Claim {
    vault: Option<Arc<Vault>>,
    keys: Vec<Key>,
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Claim of {} values", self.keys.len())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Some(vault) = &self.vault else { return };
        let mut claimed = lock(&vault.kept.claimed);
        for key in &self.keys {
            if let Some(count) = claimed.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    claimed.remove(key);
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one of these.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Vault {
    /// Values are kept in this store.
    pub fn new(store: Arc<dyn BlobStore>) -> Self {
        Self::shared(store, "")
    }

    /// The same for a store that other engines may use as well: `scope` tells the executions of this one from theirs.
    pub fn shared(store: Arc<dyn BlobStore>, scope: &str) -> Self {
        let kept = Kept {
            store,
            scope: scope.to_owned(),
            recent: Mutex::new(Cache::new(limits::CACHED_BLOBS_MAX, limits::CACHED_BLOB_BYTES_MAX)),
            claimed: Mutex::default(),
            keeping: AtomicUsize::new(0),
        };
        Self { kept: Arc::new(kept), user: None }
    }

    /// Puts away what is too large of a value that came from outside, which may refer to nothing. Blocking when there is
    /// something.
    pub fn take_in(self: &Arc<Self>, what: impl Fn() -> String, value: &mut Value) -> Result<Claim, EngineError> {
        if has_blob_key(value) {
            return Err(EngineError::PayloadReserved { what: what(), key: BLOB_KEY });
        }
        let used = json_bytes(value);
        if used > limits::PAYLOAD_BYTES_MAX {
            return Err(EngineError::PayloadTooLarge { what: what(), used, allowed: limits::PAYLOAD_BYTES_MAX });
        }
        if used <= limits::INLINE_BYTES_MAX {
            return Ok(Claim::default());
        }
        self.put_away(value).map_err(|error| unavailable(&error))
    }

    /// Puts away what is too large of a value.
    pub fn put_away(self: &Arc<Self>, value: &mut Value) -> Result<Claim, BlobStoreError> {
        if is_too_deep(value) {
            // The run refuses it, as it would a small one.
            return Ok(Claim::default());
        }
        let mut claim = Claim { vault: Some(Arc::clone(self)), keys: Vec::new() };
        self.shrink(value, &mut claim)?;
        Ok(claim)
    }

    /// Answers the size that is left.
    fn shrink(&self, value: &mut Value, claim: &mut Claim) -> Result<usize, BlobStoreError> {
        let used = json_bytes(value);
        if used <= limits::INLINE_BYTES_MAX || BlobRef::of(value).is_some() {
            return Ok(used);
        }
        let mut left = used;
        if let Value::Object(fields) = value {
            for field in fields.values_mut() {
                let before = json_bytes(field);
                if before > limits::INLINE_BYTES_MAX {
                    left = left - before + self.shrink(field, claim)?;
                }
            }
            if left <= limits::INLINE_BYTES_MAX {
                return Ok(left);
            }
        }
        // What refers to others stays, so that nobody must follow references to know what a run needs.
        if has_blob_key(value) {
            if let Value::Array(items) = value {
                for item in items {
                    self.shrink(item, claim)?;
                }
            }
            return Ok(json_bytes(value));
        }
        let blob = self.put(value, claim)?;
        *value = blob.to_value();
        Ok(json_bytes(value))
    }

    fn put(&self, value: &mut Value, claim: &mut Claim) -> Result<BlobRef, BlobStoreError> {
        let json = serde_json::to_vec(value).expect("a JSON value serialises");
        let key: Key = Sha256::digest(&json).into();
        *lock(&self.kept.claimed).entry(key).or_default() += 1;
        claim.keys.push(key);
        let blob = BlobRef { digest: hex::encode(key), bytes: json.len() as u64 };
        self.record_use(&blob.digest)?;
        self.kept.store.put(&blob.digest, &json)?;
        // Whoever needs it next needs it soon.
        lock(&self.kept.recent).put(key, Arc::new(std::mem::take(value)), blob.bytes);
        Ok(blob)
    }

    /// Keeps a whole value, and answers the reference to it. For those who never forget one.
    pub fn keep(self: &Arc<Self>, value: &Value) -> Result<BlobRef, BlobStoreError> {
        let mut claim = Claim { vault: Some(Arc::clone(self)), keys: Vec::new() };
        self.put(&mut value.clone(), &mut claim)
    }

    /// Nothing is forgotten while the answer lives; what should have been is swept up at the next start.
    pub fn keep_all(&self) -> KeepAll<'_> {
        // Under the lock: whoever forgets has either ended or sees it.
        let _claimed = lock(&self.kept.claimed);
        self.kept.keeping.fetch_add(1, Ordering::AcqRel);
        KeepAll(self)
    }

    /// Forgets a value that no run refers to, unless somebody is about to.
    pub fn forget(&self, digest: &str) -> Result<(), BlobStoreError> {
        let Some(key) = key_of(digest) else { return Ok(()) };
        let claimed = lock(&self.kept.claimed);
        if claimed.contains_key(&key) || self.kept.keeping.load(Ordering::Acquire) > 0 {
            return Ok(());
        }
        lock(&self.kept.recent).take(key);
        // Under the lock: nobody claims it meanwhile and finds it still there.
        self.kept.store.delete(digest)
    }

    /// Every digest in the store, some at a time.
    pub fn list(&self, found: &mut dyn FnMut(Vec<String>) -> bool) -> Result<(), BlobStoreError> {
        self.kept.store.list(found)
    }

    /// The bytes of a value that is kept apart.
    pub fn bytes(&self, blob: &BlobRef) -> Result<Vec<u8>, BlobError> {
        let lost = |reason| BlobError::Lost { blob: blob.clone(), reason };
        match self.kept.store.get(&blob.digest, blob.bytes) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(lost("it is not in the blob store".to_owned())),
            Err(error @ BlobStoreError::Damaged { .. }) => Err(lost(error.to_string())),
            Err(error @ (BlobStoreError::Unavailable { .. } | BlobStoreError::Refused { .. })) => {
                Err(BlobError::Unavailable { blob: blob.clone(), reason: error.to_string() })
            }
        }
    }

    /// A value with all that it refers to. Blocking when it refers to something.
    pub fn whole(&self, mut value: Value) -> Result<Value, WholeError> {
        let used = BlobRef::all(&value).iter().fold(0_u64, |sum, blob| sum.saturating_add(blob.bytes));
        if used > limits::READ_BYTES_MAX {
            return Err(WholeError::TooLarge { used });
        }
        self.fill(&mut value)?;
        Ok(value)
    }

    /// As [`Self::whole`], for who looks on: a reference is better than no answer.
    pub fn whole_or_as_it_is(&self, value: Value) -> Value {
        self.whole(value.clone()).unwrap_or_else(|error| {
            tracing::warn!(%error, "an output cannot be shown whole");
            value
        })
    }

    fn fill(&self, value: &mut Value) -> Result<(), BlobError> {
        if let Some(blob) = BlobRef::of(value) {
            *value = Arc::unwrap_or_clone(self.load(&blob)?);
            return Ok(());
        }
        match value {
            Value::Array(items) => items.iter_mut().try_for_each(|item| self.fill(item)),
            Value::Object(fields) => fields.values_mut().try_for_each(|field| self.fill(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        }
    }
}

/// Why a value cannot be put together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WholeError {
    /// One of them cannot be read.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// There is too much of it.
    #[error(
        "the values that it refers to have {used} bytes together, at most {} bytes are allowed; hand on fewer of them",
        limits::READ_BYTES_MAX
    )]
    TooLarge {
        /// What it refers to, in bytes.
        used: u64,
    },
}

/// What a request is told that refers to more than may be read.
pub fn too_much(what: &str, used: u64) -> EngineError {
    EngineError::PayloadTooLarge {
        what: what.to_owned(),
        used: usize::try_from(used).unwrap_or(usize::MAX),
        allowed: usize::try_from(limits::READ_BYTES_MAX).unwrap_or(usize::MAX),
    }
}

impl Blobs for Vault {
    fn load(&self, blob: &BlobRef) -> Result<Arc<Value>, BlobError> {
        let lost = |reason: String| BlobError::Lost { blob: blob.clone(), reason };
        let key = key_of(&blob.digest).ok_or_else(|| lost("its name is no SHA-256".to_owned()))?;
        if let Some(value) = lock(&self.kept.recent).get(key) {
            return Ok(value);
        }
        let bytes = self.bytes(blob)?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| lost(e.to_string()))?;
        let value = Arc::new(value);
        lock(&self.kept.recent).put(key, Arc::clone(&value), blob.bytes);
        Ok(value)
    }
}

fn key_of(digest: &str) -> Option<Key> {
    let mut key = Key::default();
    hex::decode_to_slice(digest, &mut key).ok()?;
    Some(key)
}

/// What a failing blob store means for a request.
pub fn unavailable(error: &BlobStoreError) -> EngineError {
    match error {
        // What refuses now may be allowed by an operator while the work waits.
        BlobStoreError::Unavailable { place, action, reason } | BlobStoreError::Refused { place, action, reason } => {
            EngineError::StorageUnavailable { folder: place.into(), action, reason: reason.clone() }
        }
        BlobStoreError::Damaged { .. } => EngineError::Internal(error.to_string()),
    }
}
