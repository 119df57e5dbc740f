//! Figures, as lines for people or as JSON.

use std::time::Duration;

/// What a load came to.
pub(crate) struct Load {
    latencies: Vec<Duration>,
    pub(crate) runs: f64,
    pub(crate) steps: f64,
    pub(crate) seconds: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) commits: f64,
}

impl Load {
    /// From the latencies of all runs.
    pub(crate) fn of(mut latencies: Vec<Duration>, elapsed: Duration, commits: f64) -> Self {
        let runs = latencies.len() as f64;
        let (p50_ms, p99_ms) = (percentile_ms(&mut latencies, 0.5), percentile_ms(&mut latencies, 0.99));
        Self { latencies, runs, steps: runs * crate::STEPS, seconds: elapsed.as_secs_f64(), p50_ms, p99_ms, commits }
    }

    /// Of several loads, one after the other.
    pub(crate) fn all(loads: Vec<Self>) -> Self {
        let seconds = loads.iter().map(|load| load.seconds).sum();
        let commits = loads.iter().map(|load| load.commits).sum();
        let latencies = loads.into_iter().flat_map(|load| load.latencies).collect();
        Self::of(latencies, Duration::from_secs_f64(seconds), commits)
    }

    pub(crate) fn runs_per_s(&self) -> f64 {
        self.runs / self.seconds
    }

    pub(crate) fn steps_per_s(&self) -> f64 {
        self.steps / self.seconds
    }

    /// What every load tells, under a prefix.
    pub(crate) fn tell(&self, prefix: &str, report: &mut Report) {
        report.info(&format!("{prefix}.p50_ms"), self.p50_ms, "ms");
        report.info(&format!("{prefix}.steps_per_s"), self.steps_per_s(), "1/s");
        report.info(&format!("{prefix}.commits_per_step"), self.commits / self.steps, "commits");
        report.info(&format!("{prefix}.steps_per_fsync"), self.steps / self.commits, "steps");
    }
}

/// The value below which this share lies, in milliseconds.
pub(crate) fn percentile_ms(values: &mut [Duration], share: f64) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    values.sort_unstable();
    #[expect(clippy::cast_sign_loss, reason = "a share of a length")]
    let at = ((values.len() - 1) as f64 * share).round() as usize;
    values[at].as_secs_f64() * 1e3
}

/// The middle of some figures.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Prints measures as they come.
pub(crate) struct Report {
    json: bool,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// A figure without a baseline.
    pub(crate) fn info(&mut self, measure: &str, value: f64, unit: &str) {
        self.line(measure, value, unit, None, "");
    }

    /// A figure that should not be above `ratio` times its baseline.
    pub(crate) fn against(&mut self, measure: &str, value: f64, unit: &str, baseline: f64, ratio: Option<f64>) {
        let verdict = match ratio {
            Some(most) if value / baseline <= most => format!("<= {most:.2}, met"),
            Some(most) => format!("<= {most:.2}, MISSED"),
            None => String::new(),
        };
        self.line(measure, value, unit, Some(baseline), &verdict);
    }

    /// A figure that should be at least `ratio` times its baseline. The value of a measure that is called a ratio is
    /// that ratio.
    pub(crate) fn at_least(&mut self, measure: &str, value: f64, unit: &str, baseline: f64, ratio: f64) {
        let met = value / baseline >= ratio;
        let verdict = format!(">= {ratio:.2}, {}", if met { "met" } else { "MISSED" });
        if measure.ends_with("_ratio") {
            self.line(measure, value / baseline, "of the floor", Some(1.0), &verdict);
        } else {
            self.line(measure, value, unit, Some(baseline), &verdict);
        }
    }

    fn line(&mut self, measure: &str, value: f64, unit: &str, baseline: Option<f64>, verdict: &str) {
        let ratio = baseline.map(|baseline| value / baseline);
        if self.json {
            let line = serde_json::json!({
                "measure": measure, "value": value, "unit": unit, "baseline": baseline, "ratio": ratio,
            });
            println!("{line}");
            return;
        }
        let against = match (baseline, ratio) {
            (Some(baseline), Some(ratio)) => format!("baseline {baseline:>10.3}  ratio {ratio:>6.3}  {verdict}"),
            _ => String::new(),
        };
        println!("{measure:<34} {value:>12.3} {unit:<12} {against}");
    }
}
