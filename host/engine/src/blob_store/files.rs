//! Blobs as files: compressed with zstd, in 256 folders by the first two digits of their digest.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::packed::{pack, unpack};
use super::{BlobStore, BlobStoreError};

/// Files that are on their way begin with this; they are nobody's after a crash.
const UNFINISHED: &str = "unfinished-";

/// Blobs in a folder.
#[derive(Debug, Clone)]
pub struct FileBlobs {
    folder: PathBuf,
}

impl FileBlobs {
    /// In this folder, which is made with the first blob.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    fn shard(&self, digest: &str) -> PathBuf {
        self.folder.join(digest.get(..2).unwrap_or("00"))
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.shard(digest).join(format!("{}.zst", digest.get(2..).unwrap_or_default()))
    }

    fn unavailable(&self, action: &'static str) -> impl Fn(io::Error) -> BlobStoreError + '_ {
        move |error| BlobStoreError::Unavailable {
            place: self.folder.display().to_string(),
            action,
            reason: error.to_string(),
        }
    }

    /// Writes and syncs a file under a name of its own, then gives it its name: it is there whole or not at all.
    fn write(&self, digest: &str, bytes: &[u8]) -> io::Result<()> {
        let shard = self.shard(digest);
        if !shard.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(&shard)?;
            sync_folder(&self.folder)?;
            if let Some(parent) = self.folder.parent() {
                sync_folder(parent)?;
            }
        }
        let unfinished = shard.join(format!("{UNFINISHED}{}", Uuid::now_v7()));
        let written = write_new(&unfinished, bytes)
            .and_then(|()| fs::rename(&unfinished, self.path(digest)))
            .and_then(|()| sync_folder(&shard));
        if written.is_err() {
            drop(fs::remove_file(&unfinished));
        }
        written
    }

    fn read(&self, digest: &str, bytes: u64) -> Result<Option<Vec<u8>>, BlobStoreError> {
        let path = self.path(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.unavailable("read a blob")(error)),
        };
        unpack(digest, bytes, file, &path.display().to_string()).map(Some)
    }
}

impl BlobStore for FileBlobs {
    fn place(&self) -> String {
        self.folder.display().to_string()
    }

    fn put(&self, digest: &str, bytes: &[u8]) -> Result<(), BlobStoreError> {
        // A damaged file is replaced: the value is at hand now.
        if matches!(self.read(digest, bytes.len() as u64), Ok(Some(_))) {
            return Ok(());
        }
        self.write(digest, bytes).map_err(self.unavailable("write a blob"))
    }

    fn get(&self, digest: &str, bytes: u64) -> Result<Option<Vec<u8>>, BlobStoreError> {
        self.read(digest, bytes)
    }

    fn delete(&self, digest: &str) -> Result<(), BlobStoreError> {
        match fs::remove_file(self.path(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.unavailable("remove a blob")(error)),
            _ => Ok(()),
        }
    }

    fn list(&self, found: &mut dyn FnMut(Vec<String>) -> bool) -> Result<(), BlobStoreError> {
        let failed = self.unavailable("list the blobs");
        let shards = match fs::read_dir(&self.folder) {
            Ok(shards) => shards,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        for shard in shards {
            let shard = shard.map_err(&failed)?.path();
            if shard.is_dir() && !found(in_shard(&shard).map_err(&failed)?) {
                break;
            }
        }
        Ok(())
    }
}

/// The digests of one folder. What a crash left unfinished long ago is removed on the way.
fn in_shard(shard: &Path) -> io::Result<Vec<String>> {
    let first = shard.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let mut digests = Vec::new();
    for entry in fs::read_dir(shard)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with(UNFINISHED) {
            let old = entry.metadata()?.modified()?.elapsed().is_ok_and(|age| age.as_secs() > 3600);
            if old {
                fs::remove_file(entry.path())?;
            }
        } else if let Some(rest) = name.strip_suffix(".zst") {
            digests.push(format!("{first}{rest}"));
        }
    }
    Ok(digests)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    pack(bytes, file)?.sync_all()
}

/// A new name in a folder is durable only when the folder is.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn digest(bytes: &[u8]) -> String {
        hex::encode(Sha256::digest(bytes))
    }

    fn all(blobs: &FileBlobs) -> Vec<String> {
        let mut all = Vec::new();
        blobs
            .list(&mut |mut some| {
                all.append(&mut some);
                true
            })
            .unwrap();
        all.sort();
        all
    }

    #[test]
    fn what_was_put_in_comes_out_until_it_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = FileBlobs::new(dir.path().join("blobs"));
        assert_eq!(all(&blobs), [] as [String; 0]);
        let values: [Vec<u8>; 3] = [Vec::new(), b"one".to_vec(), vec![b'x'; 3 << 20]];
        for value in &values {
            assert_eq!(blobs.get(&digest(value), value.len() as u64).unwrap(), None);
            blobs.put(&digest(value), value).unwrap();
            blobs.put(&digest(value), value).unwrap();
            assert_eq!(blobs.get(&digest(value), value.len() as u64).unwrap().as_ref(), Some(value));
        }
        let mut expected: Vec<String> = values.iter().map(|value| digest(value)).collect();
        expected.sort();
        assert_eq!(all(&blobs), expected);
        let stored = fs::metadata(blobs.path(&digest(&values[2]))).unwrap().len();
        assert!(stored < 10_000, "3 MiB of one letter are stored in {stored} bytes");
        for value in &values {
            blobs.delete(&digest(value)).unwrap();
            blobs.delete(&digest(value)).unwrap();
        }
        assert_eq!(all(&blobs), [] as [String; 0]);
    }

    #[test]
    fn a_damaged_file_is_noticed_and_mended_by_the_next_put() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = FileBlobs::new(dir.path());
        let (value, other) = (b"a value".to_vec(), b"another".to_vec());
        for damage in ["truncated", "garbage", "another value", "a longer value"] {
            blobs.put(&digest(&value), &value).unwrap();
            let path = blobs.path(&digest(&value));
            let whole = fs::read(&path).unwrap();
            match damage {
                "truncated" => fs::write(&path, &whole[..whole.len() / 2]).unwrap(),
                "garbage" => fs::write(&path, b"garbage").unwrap(),
                "another value" => fs::write(&path, zstd::encode_all(other.as_slice(), 1).unwrap()).unwrap(),
                _ => fs::write(&path, zstd::encode_all(vec![0; 1 << 20].as_slice(), 1).unwrap()).unwrap(),
            }
            let found = blobs.get(&digest(&value), value.len() as u64);
            assert!(matches!(found, Err(BlobStoreError::Damaged { .. })), "{damage}: {found:?}");
            blobs.put(&digest(&value), &value).unwrap();
            assert_eq!(blobs.get(&digest(&value), value.len() as u64).unwrap().as_ref(), Some(&value), "{damage}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_unavailable() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"no folder").unwrap();
        let blobs = FileBlobs::new(&file);
        let error = blobs.put(&digest(b"x"), b"x").unwrap_err();
        assert!(matches!(error, BlobStoreError::Unavailable { .. }), "{error}");
        assert!(error.to_string().starts_with("cannot write a blob in `"), "{error}");
    }
}
