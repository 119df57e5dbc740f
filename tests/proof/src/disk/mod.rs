//! A disk that may lose what was not synced.
//!
//! SQLite writes through a file layer (a "VFS") of ours, [`vfs`], to real files, and every write is kept in a [`Record`]
//! too. From it comes the [`image`]: what a machine may find after its power was cut at a certain moment. What was synced is
//! there. Of the rest each sector is there, is not, or is torn, whatever came before or after it.

mod image;
mod record;
mod vfs;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};

pub use self::image::Fate;
use self::record::Record;
use compozy_tests::random::Random;

/// A simulated disk: one folder, and what happened to its files.
pub struct Disk {
    folder: PathBuf,
    record: Mutex<Record>,
    _temporary: tempfile::TempDir,
}

/// How a disk fails for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing fits any more.
    Full,
    /// A sync fails, and what it was for may be on the disk or not. A later sync does not bring it back.
    SyncLost,
    /// A sync is done and then told as failed.
    SyncDone,
}

/// How the disk treats a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syncs {
    /// What was synced stays.
    Honest,
    /// It does nothing, as with `synchronous=OFF`. Then something must get lost, or the proof proves nothing.
    Ignored,
}

static DISKS: LazyLock<Mutex<HashMap<PathBuf, Arc<Disk>>>> = LazyLock::new(Mutex::default);

fn disks() -> MutexGuard<'static, HashMap<PathBuf, Arc<Disk>>> {
    DISKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The disk that a file is on.
fn disk_of(path: &Path) -> Option<Arc<Disk>> {
    disks().get(path.parent()?).map(Arc::clone)
}

/// A disk in use; gone when it is dropped.
pub struct Mounted(Arc<Disk>);

impl Drop for Mounted {
    fn drop(&mut self) {
        disks().remove(&self.0.folder);
    }
}

impl Mounted {
    /// The same disk for somebody who only looks at it.
    pub(crate) fn shared(&self) -> Arc<Disk> {
        Arc::clone(&self.0)
    }
}

impl std::ops::Deref for Mounted {
    type Target = Disk;

    fn deref(&self) -> &Disk {
        &self.0
    }
}

impl Disk {
    /// An empty disk.
    pub fn empty() -> Result<Mounted> {
        Self::with(&Files::new())
    }

    /// A disk with these files on it.
    pub fn with(files: &Files) -> Result<Mounted> {
        vfs::install();
        // In memory where that is possible: nothing needs to outlive the process.
        let memory = Path::new("/dev/shm");
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("compozy-disk-");
        let temporary = if memory.is_dir() { builder.tempdir_in(memory) } else { builder.tempdir() };
        let temporary = temporary.context("a folder for a simulated disk")?;
        let folder = temporary.path().canonicalize()?;
        for (name, content) in files {
            std::fs::write(folder.join(name), content)?;
        }
        let record = Mutex::new(Record::new(files));
        let disk = Arc::new(Self { folder: folder.clone(), record, _temporary: temporary });
        disks().insert(folder, Arc::clone(&disk));
        Ok(Mounted(disk))
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How many writes, syncs and so on there were: a moment in the life of the disk.
    pub fn moment(&self) -> usize {
        self.record().moment()
    }

    /// How syncs are treated from now on.
    pub fn treat(&self, syncs: Syncs) {
        self.record().lies = syncs == Syncs::Ignored;
    }

    /// The next so many operations fail like this.
    pub fn trouble(&self, trouble: Trouble, operations: u32) {
        self.record().trouble = Some((trouble, operations));
    }

    /// The disk works again.
    pub fn no_trouble(&self) {
        self.record().trouble = None;
    }

    /// What may be found when the power is cut at a moment.
    pub fn cut(&self, moment: usize, fate: Fate, random: &mut Random) -> Files {
        self.record().cut(moment, fate, random)
    }
}

/// Files by name.
pub type Files = std::collections::BTreeMap<String, Vec<u8>>;
