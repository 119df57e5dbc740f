//! Power cuts under an engine at work.
//!
//! A seed is the life of one journal: an engine works on a simulated disk, the power is cut at some moment, the next engine
//! finds what the disk kept, and so on. Whatever anybody was told before a cut must hold after it.

mod witness;
mod work;

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use compozy_engine::local::{LocalEngine, LocalOptions};
use compozy_engine::port::{Engine as _, ExecutionId};
use compozy_tests::random::Random;

use self::witness::{Told, Witness};
use crate::disk::{Disk, Fate, Files, Syncs};
use crate::seeds;

/// Power cuts of one journal.
const CUTS: usize = 3;
/// Nothing takes nearly so long.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// What came out.
#[derive(Debug, Default)]
pub struct Report {
    /// Journals.
    pub seeds: u64,
    /// Power cuts, all journals together.
    pub cuts: usize,
    /// What somebody was told before a cut and looked for after it.
    pub acknowledged: usize,
    /// What somebody was told and is gone.
    pub lost: Vec<String>,
    /// Files that do not open, are not sound, or do not go on.
    pub damaged: Vec<String>,
}

impl Report {
    /// Whether all is as it must be.
    pub fn is_sound(&self) -> bool {
        self.lost.is_empty() && self.damaged.is_empty()
    }

    fn add(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.cuts += other.cuts;
        self.acknowledged += other.acknowledged;
        self.lost.extend(other.lost);
        self.damaged.extend(other.damaged);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, cuts, acknowledged, lost, damaged } = self;
        let (lost, damaged) = (lost.len(), damaged.len());
        write!(f, "powerloss: seeds={seeds} cuts={cuts} acknowledged={acknowledged} lost={lost} damaged={damaged}")
    }
}

/// Goes through seeds.
pub fn run(range: Range<u64>, syncs: Syncs, verbose: bool) -> Report {
    let mut sum = Report::default();
    for report in seeds::each(range, verbose, |seed| one(seed, syncs)) {
        sum.add(report);
    }
    sum
}

fn one(seed: u64, syncs: Syncs) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut report = Report { seeds: 1, ..Report::default() };
    if let Err(error) = runtime.block_on(life(seed, syncs, &mut report)) {
        report.damaged.push(format!("seed {seed}: {error:#}"));
    }
    report
}

async fn life(seed: u64, syncs: Syncs, report: &mut Report) -> Result<()> {
    let mut random = Random::new(seed);
    let mut files = Files::new();
    let mut told: Vec<Told> = Vec::new();
    for cut in 0..CUTS {
        let disk = Disk::with(&files)?;
        disk.treat(syncs);
        let witness = Witness::new(&disk);
        let engine = open(disk.folder(), &witness)?;
        look_for(&engine, seed, &told, report).await?;
        work::work(&engine, disk.folder(), &witness, &mut random, &format!("{seed}-{cut}")).await?;
        if random.percent(25) {
            // A host that ends in order: it copies the log into the file, and removes the log.
            engine.stop(Duration::ZERO).await;
        }
        let end = disk.moment();
        let moment = random.below(end as u64 + 1) as usize;
        let fate = [Fate::Dropped, Fate::Kept, Fate::Mixed, Fate::Mixed][random.below(4) as usize];
        files = disk.cut(moment, fate, &mut random);
        report.cuts += 1;
        told.extend(witness.told().into_iter().filter(|told| told.moment <= moment));
        drop(engine);
    }
    let disk = Disk::with(&files)?;
    let witness = Witness::new(&disk);
    let engine = open(disk.folder(), &witness)?;
    look_for(&engine, seed, &told, report).await?;
    work::finish(&engine, &witness).await?;
    sound(&engine, disk.folder()).await?;
    engine.stop(Duration::ZERO).await;
    Ok(())
}

fn open(folder: &Path, witness: &Arc<Witness>) -> Result<LocalEngine> {
    let mut options = LocalOptions::new(folder, Arc::clone(witness) as _);
    options.workflows = Arc::new(work::workflows());
    Ok(LocalEngine::open(options)?)
}

/// Everything that was told must still be so.
async fn look_for(engine: &LocalEngine, seed: u64, told: &[Told], report: &mut Report) -> Result<()> {
    for told in told {
        report.acknowledged += 1;
        if let Some(problem) = told.missing(engine).await? {
            report.lost.push(format!("seed {seed}: {problem}"));
        }
    }
    Ok(())
}

/// The file is sound, and every journal in it leads to what is recorded.
async fn sound(engine: &LocalEngine, folder: &Path) -> Result<()> {
    let conn = rusqlite::Connection::open(folder.join("journal.db"))?;
    let check: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    if check != "ok" {
        bail!("the file is damaged: {check}");
    }
    let broken: Option<i64> = {
        let mut statement = conn.prepare("PRAGMA foreign_key_check")?;
        let mut rows = statement.query([])?;
        rows.next()?.map(|row| row.get(1)).transpose()?
    };
    if let Some(row) = broken {
        bail!("row {row} points to nothing");
    }
    for id in all(engine).await? {
        if let Some(difference) = engine.verify(&id).await? {
            bail!("execution {id} does not verify: {difference}");
        }
    }
    Ok(())
}

async fn all(engine: &LocalEngine) -> Result<Vec<ExecutionId>> {
    Ok(engine.list(1000, None).await?.into_iter().map(|line| line.id).collect())
}
