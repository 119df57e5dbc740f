//! Where large values are kept when several hosts must see them: S3-compatible storage, or a folder that they share.
//!
//! - [`s3`]: how S3-compatible storage is reached; `http` is its way over hyper and rustls
//! - [`object`]: [`ObjectBlobs`], the engine's port on top of `objects`
//! - `objects`: what a place for objects does; `folder` and `remote` are two
//! - [`uses`]: [`UsedBlobs`], which execution refers to which value, for engines without a journal of their own
//! - `bridge`: the port waits, the storage does not

mod bridge;
mod folder;
mod http;
pub mod object;
pub mod objects;
mod remote;
pub mod s3;
pub mod uses;

pub use object::ObjectBlobs;
pub use s3::S3Options;
pub use uses::UsedBlobs;

/// Why a store cannot be opened. Nothing was asked of it yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the blob store at `{place}` cannot be used: {reason}")]
pub struct OpenError {
    /// The folder or address.
    pub place: String,
    /// What is wrong.
    pub reason: String,
}
