//! The folder of one server: its lock, its port, its log.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use crate::DevServerError;
use crate::launch::{free_port, is_free};

/// How long a lock is tried for that somebody else holds: a server that was just killed needs a moment to be gone.
const LOCK_MAX: Duration = Duration::from_secs(3);
/// The wait between two tries.
const LOCK_RETRY: Duration = Duration::from_millis(20);
/// A log that is larger is put aside before the next start, in bytes.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How much of the end of a log an error shows, in bytes.
const LOG_SHOWN_BYTES: u64 = 1024;

/// The exclusive right to a folder.
///
/// The server holds the same lock as we do: the file is its standard input. So as long as a server lives that somebody left behind, nobody
/// else starts one on its database; and when nobody holds the lock, whatever process the file names is a stranger.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    lock: File,
}

impl Folder {
    /// Makes the folder if it is missing, and takes it.
    pub(crate) fn take(path: &Path) -> Result<Self, DevServerError> {
        // The database holds what users put in: what we make is for our user only.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| unusable(path, "make the folder", &error))?;
        // Relative paths would be the server's to interpret.
        let path = path.canonicalize().map_err(|error| unusable(path, "find the folder", &error))?;
        let lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path.join("server.lock"));
        let mut lock = lock.map_err(|error| unusable(&path, "open the lock file", &error))?;
        match lock_within(LOCK_MAX, &lock) {
            Ok(()) => Ok(Self { path, lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // Only for the message.
                let _ = lock.read_to_string(&mut text);
                Err(DevServerError::FolderInUse { folder: path, pid: text.trim().parse().ok() })
            }
            Err(error) => Err(unusable(&path, "lock the folder", &error.into())),
        }
    }

    /// The lock, for the server to hold too.
    pub(crate) fn lock(&self) -> Result<File, DevServerError> {
        self.lock.try_clone().map_err(|error| self.error("hand on the lock file", &error))
    }

    /// Leaves the server's process id for those who come later.
    pub(crate) fn note(&mut self, pid: u32) -> Result<(), DevServerError> {
        let lock = &mut self.lock;
        let written = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{pid}"));
        written.map_err(|error| self.error("write the lock file", &error))
    }

    /// The database file.
    pub(crate) fn database(&self) -> PathBuf {
        self.path.join("temporal.db")
    }

    /// The log file.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.path.join("temporal.log")
    }

    /// The port of the last start where that is free, otherwise another, which is remembered.
    pub(crate) fn port(&self) -> Result<u16, DevServerError> {
        let file = self.path.join("port");
        let last = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
        if let Some(port) = last.filter(|port| *port != 0 && is_free(*port)) {
            return Ok(port);
        }
        let port = free_port().map_err(|error| DevServerError::NoPort { reason: error.to_string() })?;
        fs::write(&file, format!("{port}\n")).map_err(|error| self.error("remember the port", &error))?;
        Ok(port)
    }

    /// The log, to be written at its end.
    pub(crate) fn log(&self) -> Result<File, DevServerError> {
        let path = self.log_path();
        if fs::metadata(&path).is_ok_and(|data| data.len() > LOG_BYTES_MAX) {
            fs::rename(&path, path.with_extension("log.1")).map_err(|error| self.error("put the log aside", &error))?;
        }
        File::options().create(true).append(true).open(&path).map_err(|error| self.error("open the log", &error))
    }

    /// The end of the log, for a message.
    pub(crate) fn log_end(&self) -> String {
        let end = || -> io::Result<Vec<u8>> {
            let mut file = File::open(self.log_path())?;
            let from = file.metadata()?.len().saturating_sub(LOG_SHOWN_BYTES);
            file.seek(SeekFrom::Start(from))?;
            let mut end = Vec::new();
            file.read_to_end(&mut end)?;
            Ok(end)
        };
        match end() {
            Ok(end) if !end.is_empty() => String::from_utf8_lossy(&end).trim().to_owned(),
            _ => "nothing".to_owned(),
        }
    }

    fn error(&self, action: &'static str, error: &io::Error) -> DevServerError {
        unusable(&self.path, action, error)
    }
}

fn unusable(folder: &Path, action: &'static str, error: &io::Error) -> DevServerError {
    DevServerError::FolderUnusable { folder: folder.to_path_buf(), action, reason: error.to_string() }
}

fn lock_within(patience: Duration, file: &File) -> rustix::io::Result<()> {
    let until = Instant::now() + patience;
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(LOCK_RETRY),
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::HOST;

    #[test]
    fn a_folder_has_one_owner_who_is_named_to_the_second() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/temporal");
        let mut first = Folder::take(&path).unwrap();
        first.note(4711).unwrap();
        let refused = Folder::take(&path).unwrap_err();
        assert_eq!(refused.code(), "DEV_SERVER_FOLDER_IN_USE");
        assert!(refused.to_string().contains("(process 4711)"), "{refused}");
        // As a server that was left behind: its copy of the lock is a lock.
        let copy = first.lock().unwrap();
        drop(first);
        assert!(Folder::take(&path).is_err());
        drop(copy);
        Folder::take(&path).unwrap();
    }

    #[test]
    fn the_port_is_remembered_and_given_up_when_somebody_else_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::take(dir.path()).unwrap();
        let port = folder.port().unwrap();
        assert_eq!(folder.port().unwrap(), port);
        let taken = TcpListener::bind((HOST, port)).unwrap();
        let other = folder.port().unwrap();
        assert_ne!(other, port);
        drop(taken);
        assert_eq!(folder.port().unwrap(), other, "what clients were told last counts");
        fs::write(dir.path().join("port"), "no port").unwrap();
        assert_ne!(folder.port().unwrap(), 0);
    }

    #[test]
    fn a_large_log_is_put_aside_and_its_end_can_be_shown() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::take(dir.path()).unwrap();
        assert_eq!(folder.log_end(), "nothing");
        let mut log = folder.log().unwrap();
        write!(log, "{}\nlast words\n", "x".repeat(2_000)).unwrap();
        assert!(folder.log_end().ends_with("x\nlast words") && folder.log_end().len() <= 1024);
        log.set_len(LOG_BYTES_MAX + 1).unwrap();
        folder.log().unwrap();
        assert_eq!(fs::metadata(folder.log_path()).unwrap().len(), 0);
        assert_eq!(fs::metadata(dir.path().join("temporal.log.1")).unwrap().len(), LOG_BYTES_MAX + 1);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = Folder::take(&file.path().join("temporal")).unwrap_err();
        assert_eq!(refused.code(), "DEV_SERVER_FOLDER");
        assert!(refused.to_string().contains(&file.path().display().to_string()), "{refused}");
    }
}
