//! The engine's blob store on top of objects.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use compozy_engine::blob_store::{BlobStore, BlobStoreError, pack, packed_bytes_max, unpack};

use crate::OpenError;
use crate::folder::Folder;
use crate::objects::{Found, Objects};

/// Below this lie the values.
const BLOBS: &str = "blobs";
/// What the name of a value ends with.
const ENDING: &str = ".zst";

/// Blobs as objects `blobs/<two digits>/<the others>.zst`: in S3-compatible storage, or in a folder that several hosts share.
#[derive(Clone)]
pub struct ObjectBlobs(pub(crate) Arc<dyn Objects>);

impl fmt::Debug for ObjectBlobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectBlobs").field("place", &self.0.place()).finish_non_exhaustive()
    }
}

impl ObjectBlobs {
    /// In a folder, which is made when it is missing. What `put` has written survives a power cut.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn folder(folder: &Path) -> Result<Self, OpenError> {
        let unusable = |error: std::io::Error| OpenError {
            place: folder.display().to_string(),
            reason: format!("the folder cannot be made: {error}"),
        };
        Ok(Self(Arc::new(Folder::open(folder).map_err(unusable)?)))
    }

    /// Every value with the time at which it was put in last, as [`BlobStore::list`].
    pub(crate) fn values(
        &self,
        found: &mut dyn FnMut(Vec<(String, SystemTime)>) -> bool,
    ) -> Result<(), BlobStoreError> {
        self.0.each(BLOBS, &mut |page| {
            found(page.into_iter().filter_map(|listed| Some((digest_of(&listed.name)?, listed.changed))).collect())
        })
    }

    /// When a value was put in last.
    pub(crate) fn value_changed(&self, digest: &str) -> Result<Option<SystemTime>, BlobStoreError> {
        self.0.changed(&name_of(digest), "look at a blob")
    }
}

fn name_of(digest: &str) -> String {
    let (shard, rest) = digest.split_at_checked(2).unwrap_or(("00", digest));
    format!("{BLOBS}/{shard}/{rest}{ENDING}")
}

/// The digest in a name, if it is one of ours.
fn digest_of(name: &str) -> Option<String> {
    let (shard, rest) = name.strip_prefix(BLOBS)?.strip_prefix('/')?.strip_suffix(ENDING)?.split_once('/')?;
    let digest = format!("{shard}{rest}");
    let hexadecimal = digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (shard.len() == 2 && digest.len() == 64 && hexadecimal).then_some(digest)
}

impl BlobStore for ObjectBlobs {
    fn place(&self) -> String {
        self.0.place()
    }

    /// Always writes: an object is replaced at once and as a whole, what was damaged is mended, and what is about to be used
    /// again counts as new.
    fn put(&self, digest: &str, bytes: &[u8]) -> Result<(), BlobStoreError> {
        let action = "write a blob";
        let packed = pack(bytes, Vec::new()).map_err(|error| BlobStoreError::Refused {
            place: self.0.place(),
            action,
            reason: error.to_string(),
        })?;
        self.0.write(&name_of(digest), packed, action)
    }

    fn get(&self, digest: &str, bytes: u64) -> Result<Option<Vec<u8>>, BlobStoreError> {
        let name = name_of(digest);
        let allowed = packed_bytes_max(bytes);
        let found = self.0.read(&name, allowed, "read a blob")?;
        let place = format!("{name} in {}", self.0.place());
        match found {
            None => Ok(None),
            Some(Found::Bytes(packed)) => unpack(digest, bytes, &packed[..], &place).map(Some),
            // Not worth the way.
            Some(Found::TooLarge(size)) => {
                let reason = format!("it has {size} bytes, a value of {bytes} bytes has at most {allowed}");
                Err(BlobStoreError::Damaged { place, reason })
            }
        }
    }

    fn delete(&self, digest: &str) -> Result<(), BlobStoreError> {
        self.0.remove(&name_of(digest), "remove a blob")
    }

    fn list(&self, found: &mut dyn FnMut(Vec<String>) -> bool) -> Result<(), BlobStoreError> {
        self.values(&mut |page| found(page.into_iter().map(|(digest, _)| digest).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_are_left_alone() {
        let digest = "0123456789abcdef".repeat(4);
        assert_eq!(digest_of(&name_of(&digest)).as_ref(), Some(&digest));
        for other in ["blobs/01/23.zst", "blobs/x", "uses/01/23", &name_of(&"G".repeat(64))] {
            assert_eq!(digest_of(other), None, "{other}");
        }
    }
}
