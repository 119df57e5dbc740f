//! One host per data folder.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::EngineError;

/// The exclusive right to a data folder. The kernel takes it back when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct OwnerLock {
    _file: File,
}

impl OwnerLock {
    /// Takes the lock, and leaves this process's number in the file for those who come later.
    pub(super) fn acquire(folder: &Path) -> Result<Self, EngineError> {
        let unavailable = |action, error: std::io::Error| EngineError::StorageUnavailable {
            folder: folder.to_path_buf(),
            action,
            reason: error.to_string(),
        };
        // The journal holds what users put in: what we create is for our user only.
        let created = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        created.map_err(|e| unavailable("create the data folder", e))?;
        // Not truncated on open: the file may belong to another host, whose number we want to read.
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(folder.join("owner.lock"))
            .map_err(|e| unavailable("open the lock file", e))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                return Err(EngineError::DataFolderInUse {
                    folder: folder.to_path_buf(),
                    pid: text.trim().parse().ok(),
                });
            }
            Err(error) => return Err(unavailable("lock the data folder", error.into())),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(|e| unavailable("write the lock file", e))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_told_who_the_first_is_and_gets_the_lock_when_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = OwnerLock::acquire(dir.path()).unwrap();
        let refused = OwnerLock::acquire(dir.path()).unwrap_err();
        assert_eq!(
            refused,
            EngineError::DataFolderInUse { folder: dir.path().to_path_buf(), pid: Some(std::process::id()) }
        );
        drop(first);
        OwnerLock::acquire(dir.path()).unwrap();
    }
}
