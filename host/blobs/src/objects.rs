//! What a place for objects does, in the words of the port: names are paths with `/`, and calls wait.

use std::time::SystemTime;

use bytes::Bytes;
use compozy_engine::blob_store::BlobStoreError;

/// Names that one page of a list has at most.
pub const PAGE_NAMES: usize = 1_000;

/// One object of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) changed: SystemTime,
}

/// What is under a name.
#[derive(Debug)]
pub(crate) enum Found {
    Bytes(Bytes),
    /// More than was asked for; so many bytes, which were not read.
    TooLarge(u64),
}

/// A place for objects. `action` is for messages.
pub(crate) trait Objects: Send + Sync + 'static {
    /// Where it is, for a person.
    fn place(&self) -> String;
    /// Writes an object as a whole, also in the place of another; durable when it returns.
    fn write(&self, name: &str, bytes: Vec<u8>, action: &'static str) -> Result<(), BlobStoreError>;
    /// Reads an object; `None` when there is none.
    fn read(&self, name: &str, bytes_max: u64, action: &'static str) -> Result<Option<Found>, BlobStoreError>;
    /// Removes an object; one that is not there is fine.
    fn remove(&self, name: &str, action: &'static str) -> Result<(), BlobStoreError>;
    /// When an object was written last; `None` when there is none.
    fn changed(&self, name: &str, action: &'static str) -> Result<Option<SystemTime>, BlobStoreError>;
    /// Calls `found` with every object below a name, at most [`PAGE_NAMES`] at a time, until it answers false.
    fn each(&self, below: &str, found: &mut dyn FnMut(Vec<Listed>) -> bool) -> Result<(), BlobStoreError>;
}
