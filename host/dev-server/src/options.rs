//! What a development server is started with.

use std::path::PathBuf;
use std::time::Duration;

/// How long a server may take until it serves.
pub const START_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// How long a server may take to end by itself.
pub const STOP_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// What a development server is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// A folder of its own, for database, log, port and lock; made when it is missing.
    pub folder: PathBuf,
    /// The program; `None` is `temporal` on the PATH.
    pub program: Option<PathBuf>,
    /// Search attributes that the server shall know, each with its type: `("CompozyStatus", "Keyword")`.
    pub search_attributes: Vec<(String, String)>,
    /// Further arguments of `temporal server start-dev`.
    pub arguments: Vec<String>,
    /// How long it may take until it serves.
    pub start_timeout: Duration,
    /// How long it may take to end by itself before it is killed.
    pub stop_timeout: Duration,
    /// The waits before it is started again after it died.
    pub backoff: Backoff,
}

impl Options {
    /// The defaults, in this folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            program: None,
            search_attributes: Vec::new(),
            arguments: Vec::new(),
            start_timeout: START_TIMEOUT_DEFAULT,
            stop_timeout: STOP_TIMEOUT_DEFAULT,
            backoff: Backoff::default(),
        }
    }
}

/// The waits before a server is started again after it died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first.
    pub first: Duration,
    /// Each further one is twice the last, up to this.
    pub longest: Duration,
    /// One that served for so long begins with the first wait again.
    pub healthy_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(200),
            longest: Duration::from_secs(30),
            healthy_after: Duration::from_mins(1),
        }
    }
}

impl Backoff {
    /// The wait after so many failures in a row, at least one.
    pub fn wait(&self, failures: u32) -> Duration {
        let factor = 2_u32.saturating_pow(failures.saturating_sub(1));
        self.first.saturating_mul(factor).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_bound() {
        let backoff =
            Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(1), ..Backoff::default() };
        let waits: Vec<u128> = [0, 1, 2, 3, 4, u32::MAX].map(|failures| backoff.wait(failures).as_millis()).into();
        assert_eq!(waits, [200, 200, 400, 800, 1_000, 1_000]);
    }
}
