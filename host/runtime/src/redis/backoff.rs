//! The pause between two attempts to connect.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(20);
/// Below `redis_timeout_ms`, so that a call that waits for a connection sees an attempt.
const LAST: Duration = Duration::from_secs(1);

/// Doubles with each failure, up to a second, and is shortened by up to a half at random, so that many hosts do not come back at once.
#[derive(Debug)]
pub(super) struct Backoff {
    pause: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { pause: FIRST }
    }
}

impl Backoff {
    /// The next pause.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LAST);
        // A new `RandomState` hashes nothing to something new.
        let random = (RandomState::new().build_hasher().finish() % 512) as u32;
        pause * (1024 - random) / 1024
    }

    /// A connection lived this long: after a good one, pauses begin again.
    pub(super) fn lived(&mut self, time: Duration) {
        if time > LAST {
            self.pause = FIRST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_second_and_begin_again_after_a_good_connection() {
        let mut backoff = Backoff::default();
        let pauses: Vec<Duration> = (0..12).map(|_| backoff.next()).collect();
        for (index, pause) in pauses.iter().enumerate() {
            let full = (FIRST * 2_u32.pow(index as u32)).min(LAST);
            assert!(*pause <= full && *pause >= full / 2, "{index}: {pause:?}");
        }
        backoff.lived(Duration::from_millis(10));
        assert!(backoff.next() >= LAST / 2, "a connection that ended at once changes nothing");
        backoff.lived(LAST * 2);
        assert!(backoff.next() <= FIRST);
    }
}
