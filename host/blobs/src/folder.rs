//! Objects as files of a folder that several hosts may share.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use compozy_engine::blob_store::BlobStoreError;

use crate::objects::{Found, Listed, Objects, PAGE_NAMES};

/// Files that are on their way begin with this; they are nobody's after a crash.
const UNFINISHED: &str = "unfinished-";
/// One that is older than this is left from a crash.
const UNFINISHED_MAX: Duration = Duration::from_hours(1);

/// Objects in a folder.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    /// Numbers unfinished files.
    written: AtomicU64,
}

impl Folder {
    /// In this folder, which is made with the first object.
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), written: AtomicU64::new(0) }
    }

    fn failed(&self, action: &'static str) -> impl Fn(io::Error) -> BlobStoreError + '_ {
        move |error| {
            let (place, reason) = (self.place(), error.to_string());
            match error.kind() {
                io::ErrorKind::PermissionDenied => BlobStoreError::Refused { place, action, reason },
                _ => BlobStoreError::Unavailable { place, action, reason },
            }
        }
    }

    /// Writes a file, once more when its folder was removed meanwhile because it was empty.
    fn write_file(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        match self.try_write(path, bytes) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.try_write(path, bytes),
            done => done,
        }
    }

    /// Writes and syncs a file under a name of its own, then gives it its name: it is there whole or not at all.
    fn try_write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let folder = path.parent().unwrap_or(&self.root);
        self.make(folder)?;
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        // Several machines may write into the folder: the time tells their processes apart.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let unfinished = folder.join(format!("{UNFINISHED}{}-{now}-{number}", std::process::id()));
        let written = write_new(&unfinished, bytes)
            .and_then(|()| fs::rename(&unfinished, path))
            .and_then(|()| sync_folder(folder));
        if written.is_err() {
            drop(fs::remove_file(&unfinished));
        }
        written
    }

    /// Makes a folder with those above it, each durable in the one that holds it.
    fn make(&self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        // The folder of the root too, which may have been made with it.
        for made in folder.ancestors().take_while(|made| made.starts_with(&self.root)) {
            made.parent().filter(|parent| *parent != Path::new("")).map_or(Ok(()), sync_folder)?;
        }
        Ok(())
    }

    /// Collects what lies below a folder, and hands it over page by page. Answers false when nobody wants more.
    fn walk(
        &self,
        folder: &Path,
        page: &mut Vec<Listed>,
        found: &mut dyn FnMut(Vec<Listed>) -> bool,
    ) -> io::Result<bool> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            // What somebody removes meanwhile is not there.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                if !self.walk(&path, page, found)? {
                    return Ok(false);
                }
                continue;
            }
            let changed = metadata.modified()?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                if changed.elapsed().is_ok_and(|age| age > UNFINISHED_MAX) {
                    drop(fs::remove_file(&path));
                }
                continue;
            }
            let Some(name) = path.strip_prefix(&self.root).ok().and_then(Path::to_str) else { continue };
            page.push(Listed { name: name.to_owned(), changed });
            if page.len() == PAGE_NAMES && !found(std::mem::take(page)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Objects for Folder {
    fn place(&self) -> String {
        self.root.display().to_string()
    }

    fn write(&self, name: &str, bytes: Vec<u8>, action: &'static str) -> Result<(), BlobStoreError> {
        self.write_file(&self.root.join(name), &bytes).map_err(self.failed(action))
    }

    fn read(&self, name: &str, bytes_max: u64, action: &'static str) -> Result<Option<Found>, BlobStoreError> {
        let failed = self.failed(action);
        let file = match File::open(self.root.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let size = file.metadata().map_err(&failed)?.len();
        if size > bytes_max {
            return Ok(Some(Found::TooLarge(size)));
        }
        let mut bytes = Vec::new();
        file.take(bytes_max).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some(Found::Bytes(bytes.into())))
    }

    fn remove(&self, name: &str, action: &'static str) -> Result<(), BlobStoreError> {
        let path = self.root.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.failed(action)(error)),
            _ => {}
        }
        // Objects elsewhere leave no folders behind. One that is not empty stays.
        if let Some(folder) = path.parent().filter(|folder| *folder != self.root) {
            drop(fs::remove_dir(folder));
        }
        Ok(())
    }

    fn changed(&self, name: &str, action: &'static str) -> Result<Option<SystemTime>, BlobStoreError> {
        match fs::metadata(self.root.join(name)).and_then(|metadata| metadata.modified()) {
            Ok(changed) => Ok(Some(changed)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(action)(error)),
        }
    }

    fn each(&self, below: &str, found: &mut dyn FnMut(Vec<Listed>) -> bool) -> Result<(), BlobStoreError> {
        let mut page = Vec::new();
        let wanted = self.walk(&self.root.join(below), &mut page, found).map_err(self.failed("list the objects"))?;
        if wanted && !page.is_empty() {
            found(page);
        }
        Ok(())
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A new name in a folder is durable only when the folder is.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
