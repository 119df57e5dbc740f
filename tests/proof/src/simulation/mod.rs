//! Random histories of the whole engine, one step at a time, on a simulated clock, disk and executor.
//!
//! A seed decides on everything: plans, what is said to runs, what executors answer and when, where the clock goes, when the
//! power is cut or the disk fails. After each step the engine comes to rest, and everything that must hold is looked at.
//! In the end all runs must end, because nothing is left that could happen to them.

mod desk;
mod invariants;
mod plans;
mod world;

use std::fmt;
use std::ops::Range;

use anyhow::{Context, Result};
use compozy_tests::random::Random;

use self::world::World;
use crate::disk::Syncs;
use crate::seeds;

/// Steps of one history, before everything is let to its end.
const STEPS_MAX: u64 = 50;

/// What came out.
#[derive(Debug, Default)]
pub struct Report {
    /// Histories.
    pub seeds: u64,
    /// Steps, all histories together.
    pub steps: u64,
    /// Crashes among them.
    pub crashes: u64,
    /// Runs, all histories together.
    pub runs: u64,
    /// The seeds that failed, each with what did not hold.
    pub failed: Vec<(u64, String)>,
}

impl Report {
    /// Whether all is as it must be.
    pub fn is_sound(&self) -> bool {
        self.failed.is_empty()
    }

    /// What failed, and how to see it again.
    pub fn problems(&self) -> impl Iterator<Item = String> + '_ {
        self.failed
            .iter()
            .map(|(seed, problem)| format!("{problem}\nagain with: cargo xtask simulate --seeds 1 --seed {seed}"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, steps, crashes, runs, failed } = self;
        write!(f, "simulate: seeds={seeds} steps={steps} crashes={crashes} runs={runs} failed={}", failed.len())
    }
}

/// One history.
#[derive(Debug, Default)]
pub struct History {
    /// What happened, step by step, the same for the same seed.
    pub steps: Vec<String>,
    /// Crashes among the steps.
    pub crashes: u64,
    /// Runs that there were in the end.
    pub runs: u64,
    /// What did not hold, if anything.
    pub failure: Option<String>,
}

/// Goes through seeds.
pub fn run(range: Range<u64>, syncs: Syncs, verbose: bool) -> Report {
    let mut sum = Report::default();
    for (seed, history) in seeds::each(range, verbose, |seed| (seed, one(seed, syncs))) {
        sum.seeds += 1;
        sum.steps += history.steps.len() as u64;
        sum.crashes += history.crashes;
        sum.runs += history.runs;
        sum.failed.extend(history.failure.map(|failure| (seed, failure)));
    }
    sum.failed.sort();
    sum
}

/// Plays the history of a seed.
///
/// # Panics
/// When there is no runtime to be had.
pub fn one(seed: u64, syncs: Syncs) -> History {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut history = History::default();
    if let Err(error) = runtime.block_on(play(seed, syncs, &mut history)) {
        let last = history.steps.last().map_or("before the first step", String::as_str);
        history.failure = Some(format!("seed {seed}, step {} ({last}): {error:#}", history.steps.len()));
    }
    history
}

async fn play(seed: u64, syncs: Syncs, history: &mut History) -> Result<()> {
    let mut world = World::new(Random::new(seed), syncs).await?;
    let played = steps(&mut world, history).await;
    history.crashes = world.crashes;
    history.runs = world.known();
    played
}

async fn steps(world: &mut World, history: &mut History) -> Result<()> {
    for _ in 0..10 + world.random.below(STEPS_MAX - 10) {
        world.step(&mut history.steps).await?;
    }
    world.end(&mut history.steps).await.context("the end")
}
