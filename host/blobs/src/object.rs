//! The engine's blob store on top of objects.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use compozy_engine::blob_store::{BlobStore, BlobStoreError, pack, packed_bytes_max, unpack};

use crate::folder::Folder;
use crate::objects::{Found, Objects};

/// Below this lie the values in storage on other machines.
const BLOBS: &str = "blobs/";
/// What the name of a value ends with.
const ENDING: &str = ".zst";

/// Blobs as objects `<two digits>/<the others>.zst`: in S3-compatible storage below `blobs/`, or in a folder that several hosts
/// share.
#[derive(Clone)]
pub struct ObjectBlobs {
    pub(crate) objects: Arc<dyn Objects>,
    /// What the names of values begin with.
    values: &'static str,
}

impl fmt::Debug for ObjectBlobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectBlobs").field("place", &self.objects.place()).finish_non_exhaustive()
    }
}

impl ObjectBlobs {
    /// On another machine.
    pub(crate) fn remote(objects: Arc<dyn Objects>) -> Self {
        Self { objects, values: BLOBS }
    }

    /// In a folder, which is made with the first value. What `put` has written survives a power cut. The values lie in it as
    /// those of [`compozy_engine::blob_store::FileBlobs`] do: each reads what the other wrote.
    pub fn folder(folder: impl Into<PathBuf>) -> Self {
        Self { objects: Arc::new(Folder::new(folder)), values: "" }
    }

    /// Every value with the time at which it was put in last, as [`BlobStore::list`].
    pub(crate) fn values(
        &self,
        found: &mut dyn FnMut(Vec<(String, SystemTime)>) -> bool,
    ) -> Result<(), BlobStoreError> {
        self.objects.each(self.values.trim_end_matches('/'), &mut |page| {
            found(page.into_iter().filter_map(|listed| Some((self.digest_of(&listed.name)?, listed.changed))).collect())
        })
    }

    /// When a value was put in last.
    pub(crate) fn value_changed(&self, digest: &str) -> Result<Option<SystemTime>, BlobStoreError> {
        self.objects.changed(&self.name_of(digest), "look at a blob")
    }

    fn name_of(&self, digest: &str) -> String {
        let (shard, rest) = digest.split_at_checked(2).unwrap_or(("00", digest));
        format!("{}{shard}/{rest}{ENDING}", self.values)
    }

    /// The digest in a name, if it is one of ours.
    fn digest_of(&self, name: &str) -> Option<String> {
        let (shard, rest) = name.strip_prefix(self.values)?.strip_suffix(ENDING)?.split_once('/')?;
        let digest = format!("{shard}{rest}");
        let hexadecimal = digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (shard.len() == 2 && digest.len() == 64 && hexadecimal).then_some(digest)
    }
}

impl BlobStore for ObjectBlobs {
    fn place(&self) -> String {
        self.objects.place()
    }

    /// Always writes: an object is replaced at once and as a whole, what was damaged is mended, and what is about to be used
    /// again counts as new.
    fn put(&self, digest: &str, bytes: &[u8]) -> Result<(), BlobStoreError> {
        let action = "write a blob";
        let packed = pack(bytes, Vec::new()).map_err(|error| BlobStoreError::Refused {
            place: self.objects.place(),
            action,
            reason: error.to_string(),
        })?;
        self.objects.write(&self.name_of(digest), packed, action)
    }

    fn get(&self, digest: &str, bytes: u64) -> Result<Option<Vec<u8>>, BlobStoreError> {
        let name = self.name_of(digest);
        let allowed = packed_bytes_max(bytes);
        let found = self.objects.read(&name, allowed, "read a blob")?;
        let place = format!("{name} in {}", self.objects.place());
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
        self.objects.remove(&self.name_of(digest), "remove a blob")
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
        let folder = ObjectBlobs::folder("/nowhere");
        let remote = ObjectBlobs::remote(Arc::clone(&folder.objects));
        let digest = "0123456789abcdef".repeat(4);
        for blobs in [folder, remote] {
            let name = blobs.name_of(&digest);
            assert_eq!(blobs.digest_of(&name).as_ref(), Some(&digest), "{name}");
            for other in ["01/23.zst", "blobs/01/23.zst", "blobs/x", "uses/01/23", &blobs.name_of(&"G".repeat(64))] {
                assert_eq!(blobs.digest_of(other), None, "{other}");
            }
        }
    }
}
