//! How long calls take, in buckets that grow by a quarter of a power of two: any share of calls is known to 19 %.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;

/// Four for each power of two from 1 us to more than an hour.
const BUCKETS: usize = 4 * 33;

/// Counts by how long a call took.
#[derive(Debug)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    longest_us: AtomicU64,
}

/// What a histogram tells. Microseconds; 0 while nothing was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// Calls.
    pub count: u64,
    /// Half of the calls took at most this long.
    pub p50_us: u64,
    /// 95 of 100 did.
    pub p95_us: u64,
    /// 99 of 100 did.
    pub p99_us: u64,
    /// The longest call.
    pub max_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], longest_us: AtomicU64::new(0) }
    }
}

impl Histogram {
    pub(super) fn record(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(us)].fetch_add(1, Relaxed);
        self.longest_us.fetch_max(us, Relaxed);
    }

    pub(super) fn summary(&self) -> Latency {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        let max_us = self.longest_us.load(Relaxed);
        let quantile = |share: u64| {
            let mut left = (count * share).div_ceil(100).max(1);
            for (index, counted) in counts.iter().enumerate() {
                if left <= *counted {
                    return upper(index).min(max_us);
                }
                left -= counted;
            }
            max_us
        };
        if count == 0 {
            return Latency::default();
        }
        Latency { count, p50_us: quantile(50), p95_us: quantile(95), p99_us: quantile(99), max_us }
    }
}

/// Index 4e + q holds `2^e (1 + q/4) .. 2^e (1 + (q+1)/4)`.
fn bucket(us: u64) -> usize {
    let us = us.max(1);
    let exponent = us.ilog2();
    let quarter = if exponent >= 2 { (us >> (exponent - 2)) & 3 } else { (us << (2 - exponent)) & 3 };
    (4 * exponent as usize + quarter as usize).min(BUCKETS - 1)
}

/// The greatest value of a bucket.
fn upper(index: usize) -> u64 {
    let (exponent, quarter) = ((index / 4) as u32, (index % 4) as u64);
    ((1_u64 << exponent) * (5 + quarter)).div_ceil(4).saturating_sub(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_known_to_a_fifth() {
        let histogram = Histogram::default();
        assert_eq!(histogram.summary(), Latency::default());
        for us in 1..=10_000 {
            histogram.record(Duration::from_micros(us));
        }
        let Latency { count, p50_us, p95_us, p99_us, max_us } = histogram.summary();
        assert_eq!((count, max_us), (10_000, 10_000));
        for (found, exact) in [(p50_us, 5_000), (p95_us, 9_500), (p99_us, 9_900)] {
            assert!(found >= exact && found <= exact + exact / 4, "{found} for {exact}");
        }
    }

    #[test]
    fn every_duration_has_a_bucket() {
        let mut last = 0;
        for us in [0, 1, 2, 3, 4, 5, 7, 8, 100, 1_000, 1_000_000, 3_600_000_000, u64::MAX] {
            let index = bucket(us);
            assert!(index >= last && index < BUCKETS, "{us} us is in bucket {index}");
            last = index;
            if us < 3_600_000_001 {
                assert!(upper(index) >= us, "bucket {index} ends at {} before {us}", upper(index));
            }
        }
    }
}
