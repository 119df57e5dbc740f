//! From what happened to what is found after the power was cut.

use std::collections::BTreeMap;

use super::Files;
use super::record::{Op, Record};
use compozy_tests::random::Random;

/// What a disk writes at once, in bytes. A torn sector has the beginning of one version and the end of another.
const SECTOR: usize = 512;

/// What becomes of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// All of it is there: the process was killed and the machine was not.
    Kept,
    /// Nothing of it is there.
    Dropped,
    /// Of each sector some version is there, or it is torn; later writes may be there without earlier ones.
    Mixed,
}

/// A file: what is surely on the disk, and what was written since.
#[derive(Debug, Clone, Default)]
struct File {
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    Length(usize),
}

impl Record {
    /// What is found when nothing after a moment happened.
    pub(super) fn cut(&self, moment: usize, fate: Fate, random: &mut Random) -> Files {
        let mut files: BTreeMap<usize, File> = BTreeMap::new();
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        for (file, (name, content)) in self.base.iter().enumerate() {
            files.insert(file, File { durable: content.clone(), pending: Vec::new() });
            names.insert(name.clone(), file);
        }
        // Names come to the disk in order, so a part from the beginning is there.
        let mut moves: Vec<(String, Option<usize>)> = Vec::new();
        for op in &self.ops[..moment] {
            match op {
                Op::Create { name, file } => moves.push((name.clone(), Some(*file))),
                Op::Delete { name } => moves.push((name.clone(), None)),
                Op::Write { file, offset, data } => {
                    let change = Change::Write { offset: index(*offset), data: data.clone() };
                    files.entry(*file).or_default().pending.push(change);
                }
                Op::Truncate { file, length } => {
                    files.entry(*file).or_default().pending.push(Change::Length(index(*length)));
                }
                Op::Sync { file } => files.entry(*file).or_default().settle(Fate::Kept, random),
                Op::Lose { file, seed } => {
                    files.entry(*file).or_default().settle(Fate::Mixed, &mut Random::new(*seed));
                }
                Op::SyncNames => moves.drain(..).for_each(|step| follow(&mut names, step)),
            }
        }
        let kept = match fate {
            Fate::Kept => moves.len(),
            Fate::Dropped => 0,
            Fate::Mixed => random.below(moves.len() as u64 + 1) as usize,
        };
        moves.drain(..kept).for_each(|step| follow(&mut names, step));
        let found = names.into_iter().map(|(name, file)| {
            let mut file = files.get(&file).cloned().unwrap_or_default();
            file.settle(fate, random);
            (name, file.durable)
        });
        found.collect()
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("a test's files fit the memory")
}

fn follow(names: &mut BTreeMap<String, usize>, (name, file): (String, Option<usize>)) {
    match file {
        Some(file) => drop(names.insert(name, file)),
        None => drop(names.remove(&name)),
    }
}

impl File {
    /// Decides on what was not synced.
    fn settle(&mut self, fate: Fate, random: &mut Random) {
        let pending = std::mem::take(&mut self.pending);
        match fate {
            Fate::Dropped => {}
            Fate::Kept => pending.iter().for_each(|change| apply(&mut self.durable, change)),
            Fate::Mixed => self.mix(&pending, random),
        }
    }

    fn mix(&mut self, pending: &[Change], random: &mut Random) {
        // The versions of the whole file, one after each change.
        let mut newest = self.durable.clone();
        let mut lengths = vec![newest.len()];
        let mut touched: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
        for change in pending {
            if let Change::Write { offset, data } = change {
                let sectors = offset / SECTOR..=(offset + data.len().max(1) - 1) / SECTOR;
                for sector in sectors.clone() {
                    touched.entry(sector).or_insert_with(|| vec![sector_of(&self.durable, sector)]);
                }
                apply(&mut newest, change);
                for sector in sectors {
                    touched.entry(sector).or_default().push(sector_of(&newest, sector));
                }
            } else {
                apply(&mut newest, change);
            }
            lengths.push(newest.len());
        }
        let length = lengths[random.below(lengths.len() as u64) as usize];
        self.durable.resize(length, 0);
        for (sector, versions) in touched {
            let mut version = versions[random.below(versions.len() as u64) as usize].clone();
            if random.percent(10) {
                let other = &versions[random.below(versions.len() as u64) as usize];
                let at = random.below(SECTOR as u64) as usize;
                version[at..].copy_from_slice(&other[at..]);
            }
            let begin = sector * SECTOR;
            if begin < self.durable.len() {
                let end = self.durable.len().min(begin + SECTOR);
                self.durable[begin..end].copy_from_slice(&version[..end - begin]);
            }
        }
    }
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, data } => {
            let end = offset + data.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[*offset..end].copy_from_slice(data);
        }
        Change::Length(length) => content.resize(*length, 0),
    }
}

/// A sector; zeros beyond the end.
fn sector_of(content: &[u8], sector: usize) -> Vec<u8> {
    let mut bytes = vec![0; SECTOR];
    let begin = content.len().min(sector * SECTOR);
    let end = content.len().min(begin + SECTOR);
    bytes[..end - begin].copy_from_slice(&content[begin..end]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Record {
        let mut record = Record::new(&Files::new());
        let file = record.open("a");
        record.write(file, 0, &[1; 2 * SECTOR]);
        record.sync(file, true);
        record.write(file, 0, &[2; 3 * SECTOR]);
        record
    }

    #[test]
    fn what_was_synced_is_there_and_the_rest_is_some_version_of_each_sector() {
        let record = written();
        let mut random = Random::new(3);
        let mut cut = |fate| record.cut(record.moment(), fate, &mut random).remove("a").unwrap();
        assert_eq!(cut(Fate::Dropped), [1; 2 * SECTOR]);
        assert_eq!(cut(Fate::Kept), [2; 3 * SECTOR]);
        let mixed: Vec<Vec<u8>> = (0..200).map(|_| cut(Fate::Mixed)).collect();
        let second_alone = |found: &Vec<u8>| found[..SECTOR] == [1; SECTOR] && found[SECTOR..2 * SECTOR] == [2; SECTOR];
        assert!(mixed.iter().any(second_alone), "a later sector without an earlier one");
        assert!(mixed.iter().any(|found| found[..SECTOR].contains(&1) && found[..SECTOR].contains(&2)), "torn");
        assert!(mixed.iter().any(|found| found.len() == 2 * SECTOR), "the old length");
        assert!(mixed.iter().all(|found| found[..2 * SECTOR].iter().all(|byte| [1, 2].contains(byte))));
    }

    #[test]
    fn a_name_that_was_not_synced_may_be_missing() {
        let mut record = Record::new(&Files::from([("old".to_owned(), vec![1])]));
        record.delete("old", false);
        record.open("new");
        let mut random = Random::new(1);
        let mut names = |fate| record.cut(record.moment(), fate, &mut random).into_keys().collect::<Vec<_>>();
        assert_eq!(names(Fate::Dropped), ["old"]);
        assert_eq!(names(Fate::Kept), ["new"]);
        let mixed: std::collections::BTreeSet<_> = (0..100).map(|_| names(Fate::Mixed)).collect();
        assert_eq!(mixed.len(), 3, "{mixed:?}");
    }

    #[test]
    fn a_sync_that_does_nothing_keeps_nothing() {
        let mut record = Record::new(&Files::new());
        record.lies = true;
        let file = record.open("a");
        record.write(file, 0, &[1; 10]);
        assert!(record.sync(file, true));
        assert!(record.cut(record.moment(), Fate::Dropped, &mut Random::new(1)).is_empty());
    }
}
