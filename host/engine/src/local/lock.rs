//! One host per data folder.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use crate::EngineError;

/// How long a lock is tried for that somebody else holds. A process that was just begun holds copies of its parent's open
/// files until it becomes its own program: so long a lock that was given up can still look taken.
const ACQUIRE_MAX: Duration = Duration::from_millis(250);
/// The wait between two tries.
const ACQUIRE_RETRY: Duration = Duration::from_millis(5);

/// The exclusive right to a data folder. The kernel takes it back when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct OwnerLock {
    #[cfg_attr(not(test), expect(dead_code, reason = "the lock holds as long as the file is open"))]
    file: File,
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
        match try_for(ACQUIRE_MAX, &file) {
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
        Ok(Self { file })
    }
}

fn try_for(patience: Duration, file: &File) -> rustix::io::Result<()> {
    let until = Instant::now() + patience;
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(ACQUIRE_RETRY),
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_the_lock_that_goes_away_at_once_refuses_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let first = OwnerLock::acquire(dir.path()).unwrap();
        // As a child that has not become its own program yet: the same open file under a second number.
        let copy = first.file.try_clone().unwrap();
        drop(first);
        let gone = std::thread::spawn(move || {
            std::thread::sleep(4 * ACQUIRE_RETRY);
            drop(copy);
        });
        OwnerLock::acquire(dir.path()).unwrap();
        gone.join().unwrap();
    }

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
