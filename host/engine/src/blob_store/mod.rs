//! Where values too large for a journal are kept (claim check): immutable, named by the SHA-256 of their JSON.

mod files;
mod packed;

pub use self::files::FileBlobs;
pub use self::packed::{pack, packed_bytes_max, unpack};

/// Why a blob store refuses. That something is missing is an answer and no error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobStoreError {
    /// The store cannot be reached, or its disk is full or fails.
    #[error("cannot {action} in `{place}`: {reason}")]
    Unavailable {
        /// The folder or address.
        place: String,
        /// What was tried.
        action: &'static str,
        /// What the system says.
        reason: String,
    },
    /// The store is there and says no: keys, rights or the bucket are wrong. Somebody must change that.
    #[error("`{place}` refuses to {action}: {reason}; check the keys and what they may do, and that the bucket exists")]
    Refused {
        /// The folder or address.
        place: String,
        /// What was tried.
        action: &'static str,
        /// What the store says.
        reason: String,
    },
    /// What is stored is not what was put in. It does not get better.
    #[error("`{place}` is damaged: {reason}")]
    Damaged {
        /// The file or object.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl BlobStoreError {
    /// True when the same can succeed later without anybody changing anything.
    pub fn retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// What a sweep has removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Executions that are gone.
    pub executions: u64,
    /// What they referred to.
    pub uses: u64,
    /// Values that nobody referred to.
    pub blobs: u64,
}

/// Keeps blobs. Blocking: called where a thread may wait. `digest` is always 64 hexadecimal digits in lower case.
pub trait BlobStore: Send + Sync + 'static {
    /// Where it is, for a person: a folder or an address.
    fn place(&self) -> String;

    /// Keeps the bytes of which `digest` is the SHA-256; durable when it returns. Doing it twice is doing it once, also
    /// at the same time.
    fn put(&self, digest: &str, bytes: &[u8]) -> Result<(), BlobStoreError>;

    /// The bytes, of which there are `bytes`; `None` when there are none under this digest. What is answered was compared
    /// with the digest.
    fn get(&self, digest: &str, bytes: u64) -> Result<Option<Vec<u8>>, BlobStoreError>;

    /// Forgets a blob. One that is not there is fine.
    fn delete(&self, digest: &str) -> Result<(), BlobStoreError>;

    /// Calls `found` with every digest in the store, some at a time and in any order, until it answers false.
    fn list(&self, found: &mut dyn FnMut(Vec<String>) -> bool) -> Result<(), BlobStoreError>;

    /// An execution refers to a blob from now on. Engines whose journal does not say it call this before the blob is put in or
    /// handed on, so that no sweep in between can take it away. Doing it twice is doing it once. A store that sweeps nothing
    /// need not know.
    fn record(&self, _execution: &str, _digest: &str) -> Result<(), BlobStoreError> {
        Ok(())
    }

    /// Removes the uses of executions that are gone, and what nobody has referred to for a while. `is_alive` may wait;
    /// `goes_on` is asked at every step and ends the sweep early. What was removed before an error is removed. Two sweeps at
    /// the same time do no harm.
    fn sweep(&self, _is_alive: &dyn Fn(&str) -> bool, _goes_on: &dyn Fn() -> bool) -> Result<Swept, BlobStoreError> {
        Ok(Swept::default())
    }
}
