//! Which execution refers to which value, for engines that keep no journal of their own: one empty object
//! `uses/<execution>/<digest>` for each.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use compozy_engine::blob_store::{BlobStore, BlobStoreError};

use crate::object::ObjectBlobs;

/// Values that nobody refers to are kept this long: whoever has put one in is about to refer to it.
pub const UNUSED_KEPT: Duration = Duration::from_hours(1);
/// Below this lie the uses.
const USES: &str = "uses";

/// Blobs, and who uses them.
#[derive(Debug, Clone)]
pub struct UsedBlobs {
    blobs: ObjectBlobs,
    unused_kept: Duration,
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

impl UsedBlobs {
    /// In this store.
    pub fn new(blobs: ObjectBlobs) -> Self {
        Self { blobs, unused_kept: UNUSED_KEPT }
    }

    /// With another time for which values are kept that nobody refers to. It must be longer than anybody takes from
    /// [`Self::record`] to the end of `put`.
    #[must_use]
    pub fn keeping_unused(self, unused_kept: Duration) -> Self {
        Self { unused_kept, ..self }
    }

    /// The values themselves.
    pub fn blobs(&self) -> &ObjectBlobs {
        &self.blobs
    }

    /// An execution refers to a value from now on. To be called before the value is put in, so that no sweep in between can
    /// take it away. Doing it twice is doing it once.
    ///
    /// # Errors
    /// Those of the store.
    pub fn record(&self, execution: &str, digest: &str) -> Result<(), BlobStoreError> {
        self.blobs.0.write(&use_of(execution, digest), Vec::new(), "record a use")
    }

    /// Records the use of a value, and puts it in.
    ///
    /// # Errors
    /// Those of the store.
    pub fn put(&self, execution: &str, digest: &str, bytes: &[u8]) -> Result<(), BlobStoreError> {
        self.record(execution, digest)?;
        self.blobs.put(digest, bytes)
    }

    /// Whether an execution refers to a value.
    ///
    /// # Errors
    /// Those of the store.
    pub fn uses(&self, execution: &str, digest: &str) -> Result<bool, BlobStoreError> {
        Ok(self.blobs.0.changed(&use_of(execution, digest), "look at a use")?.is_some())
    }

    /// The digests of all values that an execution refers to, in order.
    ///
    /// # Errors
    /// Those of the store.
    pub fn of(&self, execution: &str) -> Result<Vec<String>, BlobStoreError> {
        let mut digests = Vec::new();
        self.blobs.0.each(&format!("{USES}/{}", written(execution)), &mut |page| {
            digests.extend(page.iter().filter_map(|listed| listed.name.rsplit('/').next().map(str::to_owned)));
            true
        })?;
        digests.sort();
        Ok(digests)
    }

    /// An execution is gone. Its values stay until the next sweep.
    ///
    /// # Errors
    /// Those of the store.
    pub fn forget(&self, execution: &str) -> Result<u64, BlobStoreError> {
        let digests = self.of(execution)?;
        for digest in &digests {
            self.blobs.0.remove(&use_of(execution, digest), "remove a use")?;
        }
        Ok(digests.len() as u64)
    }

    /// Removes the uses of executions that are gone, and the values that nobody has referred to for a while. Two of them at the
    /// same time do no harm.
    ///
    /// # Errors
    /// Those of the store; what was removed until then is removed.
    pub fn sweep(&self, is_alive: impl Fn(&str) -> bool) -> Result<Swept, BlobStoreError> {
        let mut swept = Swept::default();
        // Seen from before any use was looked at: what is put in from now on is not touched.
        let now = SystemTime::now();
        let mut executions: BTreeMap<String, Vec<String>> = BTreeMap::new();
        self.blobs.0.each(USES, &mut |page| {
            for listed in page {
                let mut parts = listed.name.split('/').skip(1);
                if let (Some(execution), Some(digest), None) = (parts.next(), parts.next(), parts.next()) {
                    executions.entry(execution.to_owned()).or_default().push(digest.to_owned());
                }
            }
            true
        })?;
        let mut used = BTreeSet::new();
        for (execution, digests) in executions {
            match read(&execution) {
                Some(id) if !is_alive(&id) => {
                    for digest in &digests {
                        self.blobs.0.remove(&format!("{USES}/{execution}/{digest}"), "remove a use")?;
                    }
                    swept.executions += 1;
                    swept.uses += digests.len() as u64;
                }
                // A name that is none of ours belongs to somebody.
                _ => used.extend(digests),
            }
        }
        swept.blobs = self.sweep_values(&used, now)?;
        Ok(swept)
    }

    fn sweep_values(&self, used: &BTreeSet<String>, now: SystemTime) -> Result<u64, BlobStoreError> {
        let old = |changed: SystemTime| now.duration_since(changed).is_ok_and(|age| age > self.unused_kept);
        let mut unused = Vec::new();
        self.blobs.values(&mut |page| {
            let gone = |(digest, changed): &(String, SystemTime)| old(*changed) && !used.contains(digest);
            unused.extend(page.into_iter().filter(gone).map(|(digest, _)| digest));
            true
        })?;
        let mut removed = 0;
        for digest in unused {
            // Somebody may have put it in again meanwhile.
            if self.blobs.value_changed(&digest)?.is_some_and(old) {
                self.blobs.delete(&digest)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn use_of(execution: &str, digest: &str) -> String {
    format!("{USES}/{}/{digest}", written(execution))
}

/// An execution's id as a part of a name: letters, digits, `-` and `_`, and `=` with two digits for every other byte.
fn written(execution: &str) -> String {
    let mut text = String::with_capacity(execution.len());
    for byte in execution.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            text.push(char::from(byte));
        } else {
            text.push('=');
            text.push_str(&hex::encode([byte]));
        }
    }
    text
}

fn read(written: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(written.len());
    let mut rest = written.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'=' {
            let (digits, tail) = rest.split_at_checked(2)?;
            bytes.extend(hex::decode(digits).ok()?);
            rest = tail;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_from_their_names() {
        for id in ["0199-a_B", "project/one", "a.b=c ü", ".."] {
            let name = written(id);
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=".contains(&b)), "{name}");
            assert_eq!(read(&name).as_deref(), Some(id));
        }
        assert_eq!(read("=g1"), None);
        assert_eq!(read("=f"), None);
    }
}
