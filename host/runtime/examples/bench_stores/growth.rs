//! Whether a read stays as quick when there is much more to read from.

use std::sync::Arc;
use std::time::{Duration, Instant};

use compozy_runtime::stores::{Assignment, Cache, Span, Stores};

use crate::Report;

/// Keys of the small and of the large cache.
const FEW: usize = 1_000;
const MANY: usize = 1_000_000;
/// Keys of one write.
const BATCH: usize = 1_000;
const VALUE: [u8; 100] = [b'v'; 100];
/// Rounds of each.
const ROUNDS: usize = 21;
const ROUND: Duration = Duration::from_millis(50);
/// How much slower a read may become.
const TARGET: f64 = 1.2;

fn key(place: usize) -> String {
    format!("growth/{place}")
}

/// Reads from few keys, writes many more, and reads from all of them.
pub(crate) async fn measure(report: &Report<'_>, backend: &str, stores: &Stores) -> Result<(), String> {
    let name = format!("{backend}.cache.get.growth");
    if !report.wants(&name) || report.options.profile.is_some() {
        return Ok(());
    }
    let cache = stores.cache.as_ref().ok_or("no plugin keeps the cache")?;
    fill(cache, 0, FEW).await?;
    let few = reads(cache, FEW).await?;
    fill(cache, FEW, MANY).await?;
    let many = reads(cache, MANY).await?;
    report.growth(&name, many, few);
    Ok(())
}

impl Report<'_> {
    fn growth(&self, name: &str, many: f64, few: f64) {
        let ratio = many / few;
        if self.options.json {
            let line = serde_json::json!({
                "measure": name, "value": many, "unit": "us", "baseline": few, "ratio": ratio,
            });
            return println!("{line}");
        }
        let verdict = if ratio <= TARGET { "met" } else { "MISSED" };
        println!(
            "{name:<36} p50 {many:>9.1} us at {MANY} keys, {few:>9.1} us at {FEW}   ratio {ratio:>6.2}  <= {TARGET:.2} {verdict}"
        );
    }
}

async fn fill(cache: &Arc<dyn Cache>, from: usize, to: usize) -> Result<(), String> {
    for batch in (from..to).step_by(BATCH) {
        // All have the same value, so all can share its bytes.
        let span = Span { offset: 0, length: VALUE.len() as u32 };
        let entries: Vec<Assignment> =
            (batch..(batch + BATCH).min(to)).map(|place| Assignment { key: key(place), value: span }).collect();
        cache.set_many(&entries, &VALUE, None).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Microseconds of one read, the median of the rounds.
async fn reads(cache: &Arc<dyn Cache>, keys: usize) -> Result<f64, String> {
    let mut rounds = Vec::with_capacity(ROUNDS);
    let mut turn = 0_usize;
    for _ in 0..=ROUNDS {
        let (begun, mut count) = (Instant::now(), 0_u32);
        while begun.elapsed() < ROUND {
            turn = turn.wrapping_add(0x9E37_79B9);
            let entry = cache.get(&key(turn % keys)).await.map_err(|error| error.to_string())?;
            if entry.is_none() {
                return Err(format!("the key `{}` is gone", key(turn % keys)));
            }
            count += 1;
        }
        rounds.push(begun.elapsed().as_secs_f64() * 1e6 / f64::from(count));
    }
    // The first one warms up.
    rounds.remove(0);
    rounds.sort_unstable_by(f64::total_cmp);
    Ok(rounds[rounds.len() / 2])
}
