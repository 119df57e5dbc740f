//! Where values too large for a journal are kept (claim check): immutable, named by the SHA-256 of their JSON.

mod files;

pub use self::files::FileBlobs;

/// Why a blob store refuses. Anything may work later; that something is missing is an answer and no error.
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
    /// What is stored is not what was put in. It does not get better.
    #[error("`{place}` is damaged: {reason}")]
    Damaged {
        /// The file or object.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Keeps blobs. Blocking: called where a thread may wait. `digest` is always 64 hexadecimal digits in lower case.
pub trait BlobStore: Send + Sync + 'static {
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
}
