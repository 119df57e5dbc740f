//! Paired timings.

use std::time::{Duration, Instant};

/// Rounds of each side.
const ROUNDS: usize = 31;
/// A round of a fast operation repeats it for about this long.
const ROUND: Duration = Duration::from_millis(20);

/// One line of the result.
pub(crate) struct Measure {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) baseline: f64,
    pub(crate) ratio: f64,
    /// The largest ratio that is good enough.
    pub(crate) target: Option<f64>,
}

/// Times `ours` against `baseline`, each an operation that is awaited to its end.
pub(crate) async fn paired<A, B>(
    name: &'static str,
    unit: &'static str,
    target: Option<f64>,
    mut baseline: A,
    mut ours: B,
) -> Result<Measure, String>
where
    A: AsyncFnMut() -> Result<(), String>,
    B: AsyncFnMut() -> Result<(), String>,
{
    let repeat = repeat_for(round(&mut baseline, 1).await?, round(&mut baseline, 1).await?);
    round(&mut ours, repeat).await?;
    let rounds = if repeat == 1 { ROUNDS / 3 } else { ROUNDS };
    let (mut theirs, mut own, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..rounds {
        // Who goes first alternates: what one leaves in the caches is not always to the other's good.
        let (a, b) = if turn % 2 == 0 {
            let a = round(&mut baseline, repeat).await?;
            (a, round(&mut ours, repeat).await?)
        } else {
            let b = round(&mut ours, repeat).await?;
            (round(&mut baseline, repeat).await?, b)
        };
        theirs.push(a);
        own.push(b);
        ratios.push(b / a);
    }
    let scale = if unit == "ms" { 1e3 } else { 1e6 };
    let (value, baseline) = (median(own) * scale, median(theirs) * scale);
    Ok(Measure { name, value, unit, baseline, ratio: median(ratios), target })
}

fn repeat_for(first: f64, second: f64) -> u32 {
    let once = first.min(second).max(1e-8);
    #[expect(clippy::cast_sign_loss, reason = "a quotient of durations")]
    let repeat = (ROUND.as_secs_f64() / once) as u32;
    repeat.clamp(1, 200_000)
}

/// Seconds for one operation.
async fn round(operation: &mut impl AsyncFnMut() -> Result<(), String>, repeat: u32) -> Result<f64, String> {
    let begun = Instant::now();
    for _ in 0..repeat {
        operation().await?;
    }
    Ok(begun.elapsed().as_secs_f64() / f64::from(repeat))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
