//! Which execution refers to which value, for engines that keep no journal of their own: one empty object
//! `uses/<execution>/<digest>` for each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use compozy_engine::blob_store::{BlobStore, BlobStoreError, Swept};

use crate::object::ObjectBlobs;
use crate::objects::Listed;

/// Values that nobody refers to are kept this long, and so are uses of executions that nobody knows: whoever has written one
/// is about to refer to it, or to begin the execution.
pub const UNUSED_KEPT: Duration = Duration::from_hours(1);
/// Below this lie the uses.
const USES: &str = "uses";
/// When the first use was recorded.
const SINCE: &str = "uses/since";

/// Blobs, and who uses them.
#[derive(Debug, Clone)]
pub struct UsedBlobs {
    blobs: ObjectBlobs,
    unused_kept: Duration,
    /// [`SINCE`] is known to be there.
    begun: Arc<AtomicBool>,
}

impl UsedBlobs {
    /// In this store.
    pub fn new(blobs: ObjectBlobs) -> Self {
        Self { blobs, unused_kept: UNUSED_KEPT, begun: Arc::default() }
    }

    /// With another time for which values are kept that nobody refers to. It must be longer than anybody takes from
    /// [`BlobStore::record`] to the end of `put`, and to the beginning of the execution.
    #[must_use]
    pub fn keeping_unused(self, unused_kept: Duration) -> Self {
        Self { unused_kept, ..self }
    }

    /// Whether an execution refers to a value.
    ///
    /// # Errors
    /// Those of the store.
    pub fn uses(&self, execution: &str, digest: &str) -> Result<bool, BlobStoreError> {
        Ok(self.changed(&use_of(execution, digest))?.is_some())
    }

    /// The digests of all values that an execution refers to, in order.
    ///
    /// # Errors
    /// Those of the store.
    pub fn of(&self, execution: &str) -> Result<Vec<String>, BlobStoreError> {
        let mut digests = Vec::new();
        self.blobs.objects.each(&format!("{USES}/{}", written(execution)), &mut |page| {
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
            self.remove(&use_of(execution, digest))?;
        }
        Ok(digests.len() as u64)
    }

    fn changed(&self, name: &str) -> Result<Option<SystemTime>, BlobStoreError> {
        self.blobs.objects.changed(name, "look at a use")
    }

    fn remove(&self, name: &str) -> Result<(), BlobStoreError> {
        self.blobs.objects.remove(name, "remove a use")
    }

    fn write(&self, name: &str) -> Result<(), BlobStoreError> {
        self.blobs.objects.write(name, Vec::new(), "record a use")
    }

    /// Notes once when recording began: values from before are not known to be nobody's.
    fn begin(&self) -> Result<(), BlobStoreError> {
        if !self.begun.load(Ordering::Acquire) {
            if self.changed(SINCE)?.is_none() {
                self.write(SINCE)?;
            }
            self.begun.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// All executions with what they refer to; `None` when the sweep does not go on.
    fn executions(&self, goes_on: &dyn Fn() -> bool) -> Result<Option<Vec<Execution>>, BlobStoreError> {
        let mut executions: BTreeMap<String, Execution> = BTreeMap::new();
        let mut complete = true;
        self.blobs.objects.each(USES, &mut |page| {
            for Listed { name, changed } in page {
                let mut parts = name.split('/').skip(1);
                if let (Some(written), Some(digest), None) = (parts.next(), parts.next(), parts.next()) {
                    let execution = executions.entry(written.to_owned()).or_insert_with(|| Execution {
                        written: written.to_owned(),
                        digests: Vec::new(),
                        changed,
                    });
                    execution.digests.push(digest.to_owned());
                    execution.changed = execution.changed.max(changed);
                }
            }
            complete = goes_on();
            complete
        })?;
        Ok(complete.then(|| executions.into_values().collect()))
    }

    /// Removes the uses of an execution that is gone. One that was recorded again meanwhile is of a new one.
    fn remove_uses(&self, gone: &Execution, old: impl Fn(SystemTime) -> bool) -> Result<u64, BlobStoreError> {
        let mut removed = 0;
        for digest in &gone.digests {
            let name = format!("{USES}/{}/{digest}", gone.written);
            if self.changed(&name)?.is_some_and(&old) {
                self.remove(&name)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn sweep_values(
        &self,
        used: &BTreeSet<String>,
        old: impl Fn(SystemTime) -> bool,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<u64, BlobStoreError> {
        let mut unused = Vec::new();
        self.blobs.values(&mut |page| {
            let gone = |(digest, changed): &(String, SystemTime)| old(*changed) && !used.contains(digest);
            unused.extend(page.into_iter().filter(gone).map(|(digest, _)| digest));
            goes_on()
        })?;
        let mut removed = 0;
        for digest in unused.into_iter().take_while(|_| goes_on()) {
            // Somebody may have put it in again meanwhile.
            if self.blobs.value_changed(&digest)?.is_some_and(&old) {
                self.blobs.delete(&digest)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// An execution as its uses have it.
struct Execution {
    /// Its id as a part of a name.
    written: String,
    digests: Vec<String>,
    /// When its last use was recorded.
    changed: SystemTime,
}

impl BlobStore for UsedBlobs {
    fn place(&self) -> String {
        self.blobs.place()
    }

    fn put(&self, digest: &str, bytes: &[u8]) -> Result<(), BlobStoreError> {
        self.blobs.put(digest, bytes)
    }

    fn get(&self, digest: &str, bytes: u64) -> Result<Option<Vec<u8>>, BlobStoreError> {
        self.blobs.get(digest, bytes)
    }

    fn delete(&self, digest: &str) -> Result<(), BlobStoreError> {
        self.blobs.delete(digest)
    }

    fn list(&self, found: &mut dyn FnMut(Vec<String>) -> bool) -> Result<(), BlobStoreError> {
        self.blobs.list(found)
    }

    fn record(&self, execution: &str, digest: &str) -> Result<(), BlobStoreError> {
        self.begin()?;
        self.write(&use_of(execution, digest))
    }

    fn sweep(&self, is_alive: &dyn Fn(&str) -> bool, goes_on: &dyn Fn() -> bool) -> Result<Swept, BlobStoreError> {
        let mut swept = Swept::default();
        // Seen from before any use was looked at: what is put in from now on is not touched.
        let now = SystemTime::now();
        let old = |changed: SystemTime| now.duration_since(changed).is_ok_and(|age| age > self.unused_kept);
        // Nothing was ever recorded: nobody knows whose the values are.
        let Some(since) = self.changed(SINCE)? else { return Ok(swept) };
        let Some(mut executions) = self.executions(goes_on)? else { return Ok(swept) };
        // Not always in the same order: whoever answers may have time for some of them only.
        let ticks = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_micros());
        let first = ticks as usize % executions.len().max(1);
        executions.rotate_left(first);
        let mut used = BTreeSet::new();
        for execution in executions {
            if !goes_on() {
                return Ok(swept);
            }
            // One with a new use may be about to begin. A name that is none of ours belongs to somebody.
            let gone = old(execution.changed) && read(&execution.written).is_some_and(|id| !is_alive(&id));
            if gone {
                swept.uses += self.remove_uses(&execution, old)?;
                swept.executions += 1;
            } else {
                used.extend(execution.digests);
            }
        }
        swept.blobs = self.sweep_values(&used, |changed| old(changed) && changed >= since, goes_on)?;
        Ok(swept)
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
