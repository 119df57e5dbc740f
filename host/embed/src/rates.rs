//! Rates of clients that several hosts count together, in the store of the role `cache`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use compozy_engine::{Clock, SystemClock};
use compozy_runtime::stores::{Cache, StoreError};
use compozy_server::{RateLimit, RateLimiter, Verdict};

/// A request waits this long for the counting, and is then admitted.
const COUNT_MAX: Duration = Duration::from_millis(250);
/// No plugin's name has it, so that no task can meet these keys.
const KEYS: &str = "@rate";

/// Counts in a window that slides: what was counted in the window before weighs as much as it still overlaps.
pub struct SharedRates {
    limit: RateLimit,
    cache: Arc<dyn Cache>,
    clock: Arc<dyn Clock>,
    /// Whether the cache does not answer, so that this is logged once.
    away: AtomicBool,
}

impl std::fmt::Debug for SharedRates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedRates").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl SharedRates {
    /// Together with all who have the same cache and the same limit.
    pub fn new(limit: RateLimit, cache: Arc<dyn Cache>) -> Self {
        Self::at(limit, cache, Arc::new(SystemClock))
    }

    /// By another clock.
    pub fn at(limit: RateLimit, cache: Arc<dyn Cache>, clock: Arc<dyn Clock>) -> Self {
        Self { limit, cache, clock, away: AtomicBool::new(false) }
    }

    async fn count(&self, client: &str) -> Result<Verdict, StoreError> {
        let window_ms = u64::try_from(self.limit.window().as_millis()).unwrap_or(u64::MAX).max(1);
        let now_ms = self.clock.now_ms();
        let (window, gone_ms) = (now_ms / window_ms, now_ms % window_ms);
        let key = |window: u64| format!("{KEYS}/{client}/{window_ms}/{window}");
        // This window's count is looked at until the next one has ended.
        let kept = self.limit.window().saturating_mul(2);
        let count = self.cache.increment(&key(window), 1, Some(kept)).await?;
        let before = match window.checked_sub(1) {
            Some(before) => self.cache.increment(&key(before), 0, Some(kept)).await?,
            None => 0,
        };
        let left_ms = window_ms - gone_ms;
        let overlapping = u128::from(before.unsigned_abs()) * u128::from(left_ms) / u128::from(window_ms);
        let allowed = u128::from(self.limit.burst().get());
        if overlapping + u128::from(count.unsigned_abs()) <= allowed {
            return Ok(Verdict::Admitted);
        }
        // Who is refused has not been served, and is not counted.
        let others = u128::from(self.cache.increment(&key(window), -1, Some(kept)).await?.unsigned_abs());
        let retry_ms = if others >= allowed || before == 0 {
            u128::from(left_ms)
        } else {
            // Until so much of the window before has slid away that one more fits.
            let fits = allowed - 1 - others;
            let may_overlap_ms = fits * u128::from(window_ms) / u128::from(before.unsigned_abs());
            u128::from(left_ms).saturating_sub(may_overlap_ms)
        };
        let retry_after = Duration::from_millis(u64::try_from(retry_ms.max(1)).unwrap_or(u64::MAX));
        Ok(Verdict::Limited { retry_after })
    }
}

#[async_trait]
impl RateLimiter for SharedRates {
    fn limit(&self) -> RateLimit {
        self.limit
    }

    async fn admit(&self, client: &str) -> Verdict {
        let why = match tokio::time::timeout(COUNT_MAX, self.count(client)).await {
            Ok(Ok(verdict)) => {
                if self.away.swap(false, Ordering::Relaxed) {
                    tracing::info!("rates of clients are counted again");
                }
                return verdict;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_elapsed) => format!("no answer within {} ms", COUNT_MAX.as_millis()),
        };
        if !self.away.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                reason = why,
                "rates of clients cannot be counted; until they can, every request is admitted"
            );
        }
        Verdict::Admitted
    }
}
