//! What happened to the files of a disk, in order.

use std::collections::BTreeMap;

use super::{Files, Trouble};
use compozy_tests::random::Random;

/// One operation. A file is known by a number; names point to numbers.
#[derive(Debug, Clone)]
pub(super) enum Op {
    /// A name points to a new, empty file.
    Create { name: String, file: usize },
    /// A name is gone.
    Delete { name: String },
    /// Bytes at a place.
    Write { file: usize, offset: u64, data: Vec<u8> },
    /// A new length.
    Truncate { file: usize, length: u64 },
    /// Everything of the file up to here is on the disk.
    Sync { file: usize },
    /// Every name up to here is on the disk.
    SyncNames,
    /// A sync of the file failed: of what was not synced, what the number decides is on the disk, the rest is lost.
    Lose { file: usize, seed: u64 },
}

/// All that a disk knows of itself.
pub(super) struct Record {
    pub(super) base: Files,
    pub(super) ops: Vec<Op>,
    names: BTreeMap<String, usize>,
    files: usize,
    /// A sync does nothing.
    pub(super) lies: bool,
    pub(super) trouble: Option<(Trouble, u32)>,
    losses: Random,
}

impl Record {
    pub(super) fn new(base: &Files) -> Self {
        let names = base.keys().enumerate().map(|(file, name)| (name.clone(), file)).collect();
        Self {
            base: base.clone(),
            ops: Vec::new(),
            names,
            files: base.len(),
            lies: false,
            trouble: None,
            losses: Random::new(1),
        }
    }

    pub(super) fn moment(&self) -> usize {
        self.ops.len()
    }

    /// The number of the file of a name; a new one when there is none.
    pub(super) fn open(&mut self, name: &str) -> usize {
        if let Some(file) = self.names.get(name) {
            return *file;
        }
        let file = self.files;
        self.files += 1;
        self.names.insert(name.to_owned(), file);
        self.ops.push(Op::Create { name: name.to_owned(), file });
        file
    }

    pub(super) fn delete(&mut self, name: &str, sync_names: bool) {
        if self.names.remove(name).is_some() {
            self.ops.push(Op::Delete { name: name.to_owned() });
        }
        if sync_names && !self.lies {
            self.ops.push(Op::SyncNames);
        }
    }

    /// Whether a write may happen.
    pub(super) fn write(&mut self, file: usize, offset: u64, data: &[u8]) -> bool {
        if self.fails(&[Trouble::Full]).is_some() {
            return false;
        }
        self.ops.push(Op::Write { file, offset, data: data.to_vec() });
        true
    }

    pub(super) fn truncate(&mut self, file: usize, length: u64) {
        self.ops.push(Op::Truncate { file, length });
    }

    /// Whether a sync is told as done.
    pub(super) fn sync(&mut self, file: usize, names: bool) -> bool {
        let failed = self.fails(&[Trouble::SyncLost, Trouble::SyncDone]);
        if failed == Some(Trouble::SyncLost) {
            let seed = self.losses.number();
            self.ops.push(Op::Lose { file, seed });
            return false;
        }
        if !self.lies {
            self.ops.push(Op::Sync { file });
            if names {
                self.ops.push(Op::SyncNames);
            }
        }
        failed.is_none()
    }

    fn fails(&mut self, how: &[Trouble]) -> Option<Trouble> {
        let (trouble, left) = self.trouble.as_mut()?;
        let trouble = *trouble;
        if !how.contains(&trouble) {
            return None;
        }
        *left -= 1;
        if *left == 0 {
            self.trouble = None;
        }
        Some(trouble)
    }
}
