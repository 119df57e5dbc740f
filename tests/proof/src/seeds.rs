//! Many seeds, on all processors, and what each came to.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// Reads `--seeds N --seed S` from the command line: the seeds from S on.
pub fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Result<Range<u64>> {
    let (mut count, mut first) = (100, 1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().with_context(|| format!("`{name}` needs a number"))?;
        let number: u64 = value.parse().with_context(|| format!("`{name} {value}`"))?;
        match name.as_str() {
            "--seeds" => count = number,
            "--seed" => first = number,
            _ => bail!("`{name}` is unknown; there are --seeds and --seed"),
        }
    }
    Ok(first..first.saturating_add(count))
}

/// Does the same for each seed; the results in no particular order. With `verbose` it tells how far it is.
#[expect(clippy::print_stderr, reason = "progress of a command that takes minutes")]
pub fn each<T: Send>(seeds: Range<u64>, verbose: bool, work: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = AtomicU64::new(seeds.start);
    let results = Mutex::new(Vec::new());
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let result = work(seed);
                    let mut results = results.lock().expect("nobody panics with it");
                    results.push(result);
                    if verbose && results.len() % 500 == 0 {
                        let (done, all, took) = (results.len(), seeds.end - seeds.start, begun.elapsed().as_secs());
                        eprintln!("{done} of {all} seeds, {took} s");
                    }
                }
            });
        }
    });
    results.into_inner().expect("nobody panics with it")
}
