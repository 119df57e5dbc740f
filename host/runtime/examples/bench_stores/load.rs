//! Rounds of load, one side after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::work::{Side, Work};

/// Rounds of each side.
const ROUNDS: usize = 11;
/// How long one round lasts.
const ROUND: Duration = Duration::from_millis(100);

/// What one side did.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sum {
    /// Operations per second, the median of the rounds.
    pub(crate) per_second: f64,
    /// Microseconds of one operation.
    pub(crate) p50_us: f64,
    /// Microseconds of one operation.
    pub(crate) p99_us: f64,
}

/// Both sides, and the median of the rounds' own ratios of throughput: ours by theirs.
#[derive(Debug, Default, Clone)]
pub(crate) struct Pair {
    pub(crate) ours: Sum,
    pub(crate) native: Sum,
    pub(crate) throughput_ratio: f64,
}

/// Runs the work on both sides, turn by turn, with so many callers at once.
pub(crate) async fn pair(
    native: &Arc<dyn Side>,
    ours: &Arc<dyn Side>,
    work: Work,
    callers: usize,
) -> Result<Pair, String> {
    let turns = Arc::new(AtomicUsize::new(0));
    // What is done for the first time is not what is measured.
    round(native, work, callers, &turns).await?;
    round(ours, work, callers, &turns).await?;
    let (mut theirs, mut own, mut ratios) = (Rounds::default(), Rounds::default(), Vec::new());
    for turn in 0..ROUNDS {
        // Who goes first alternates: what one leaves in the caches is not always to the other's good.
        let (a, b) = if turn % 2 == 0 {
            let a = round(native, work, callers, &turns).await?;
            (a, round(ours, work, callers, &turns).await?)
        } else {
            let b = round(ours, work, callers, &turns).await?;
            (round(native, work, callers, &turns).await?, b)
        };
        let (a, b) = (theirs.add(a), own.add(b));
        ratios.push(b / a);
    }
    Ok(Pair { ours: own.sum(), native: theirs.sum(), throughput_ratio: median(&mut ratios) })
}

/// Runs the work on one side for so many seconds; operations per second, and microseconds of this process's processor time for each.
pub(crate) async fn alone(
    side: &Arc<dyn Side>,
    work: Work,
    callers: usize,
    seconds: u64,
) -> Result<(f64, f64), String> {
    let turns = Arc::new(AtomicUsize::new(0));
    round(side, work, callers, &turns).await?;
    let (begun, cpu, mut count) = (Instant::now(), cpu_us(), 0);
    while begun.elapsed() < Duration::from_secs(seconds) {
        count += round(side, work, callers, &turns).await?.1.len();
    }
    Ok((count as f64 / begun.elapsed().as_secs_f64(), (cpu_us() - cpu) / count as f64))
}

/// What this process has taken of the processors, as Linux tells it (0 elsewhere): steadier than time where others work too.
fn cpu_us() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may hold anything: user and system time are the 12th and 13th, in hundredths of a second.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ').skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * 10_000.0
}

#[derive(Default)]
struct Rounds {
    rates: Vec<f64>,
    latencies: Vec<u32>,
}

impl Rounds {
    fn add(&mut self, (rate, latencies): (f64, Vec<u32>)) -> f64 {
        self.rates.push(rate);
        self.latencies.extend(latencies);
        rate
    }

    fn sum(mut self) -> Sum {
        self.latencies.sort_unstable();
        let share = |percent: usize| {
            let place = (self.latencies.len() * percent / 100).min(self.latencies.len().saturating_sub(1));
            f64::from(self.latencies.get(place).copied().unwrap_or_default()) / 1e3
        };
        Sum { p50_us: share(50), p99_us: share(99), per_second: median(&mut self.rates) }
    }
}

/// Operations per second, and nanoseconds of each.
async fn round(
    side: &Arc<dyn Side>,
    work: Work,
    callers: usize,
    turns: &Arc<AtomicUsize>,
) -> Result<(f64, Vec<u32>), String> {
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let (side, turns) = (Arc::clone(side), Arc::clone(turns));
        tasks.spawn(async move {
            let mut latencies = Vec::with_capacity(4_096);
            while begun.elapsed() < ROUND {
                let turn = turns.fetch_add(1, Ordering::Relaxed);
                let asked = Instant::now();
                side.run(work, turn).await?;
                latencies.push(u32::try_from(asked.elapsed().as_nanos()).unwrap_or(u32::MAX));
            }
            Ok::<_, String>(latencies)
        });
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done.map_err(|error| error.to_string())??);
    }
    Ok((all.len() as f64 / begun.elapsed().as_secs_f64(), all))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
