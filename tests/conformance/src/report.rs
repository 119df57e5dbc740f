//! What the suite found out, and how a person reads it.

use std::fmt::{self, Write as _};
use std::time::Duration;

use compozy_runtime::Role;

/// How a rule ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The backend keeps it.
    Passed,
    /// The backend breaks it.
    Failed(Failure),
    /// It cannot be looked at here; why.
    Skipped(String),
}

/// How a rule was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The shortest script that was found to break it; the last step is the one that showed it.
    pub steps: Vec<String>,
    /// What the contract says.
    pub expected: String,
    /// What the backend did.
    pub actual: String,
}

/// One rule's result.
#[derive(Debug, Clone)]
pub struct Report {
    /// Its name, for example `cache/missing-is-not-empty`.
    pub rule: String,
    /// The role that it belongs to.
    pub role: Role,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// Hears of each rule as soon as it has ended.
pub trait Reporter: Send {
    /// One more result.
    fn report(&mut self, report: &Report);
}

impl<F: FnMut(&Report) + Send> Reporter for F {
    fn report(&mut self, report: &Report) {
        self(report);
    }
}

/// All results of a run.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// In the order in which they came.
    pub reports: Vec<Report>,
}

impl Summary {
    /// How many rules the backend keeps.
    pub fn passed(&self) -> usize {
        self.reports.iter().filter(|report| matches!(report.outcome, Outcome::Passed)).count()
    }

    /// How many rules the backend breaks.
    pub fn failed(&self) -> usize {
        self.failures().count()
    }

    /// The rules that the backend breaks.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &Failure)> {
        self.reports.iter().filter_map(|report| match &report.outcome {
            Outcome::Failed(failure) => Some((report.rule.as_str(), failure)),
            Outcome::Passed | Outcome::Skipped(_) => None,
        })
    }
}

/// The last line of a run: `N passed, N failed`.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed(), self.failed())
    }
}

/// One line per rule; the steps of a failure, indented, below it. Ends without a line break.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = self.took.as_millis();
        match &self.outcome {
            Outcome::Passed => write!(f, "ok    {} ({took} ms)", self.rule),
            Outcome::Skipped(why) => write!(f, "skip  {}: {why}", self.rule),
            Outcome::Failed(failure) => write!(f, "FAIL  {} ({took} ms)\n{failure}", self.rule),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for (index, step) in self.steps.iter().enumerate() {
            let _ = writeln!(text, "      {}. {step}", index + 1);
        }
        write!(f, "{text}      expected: {}\n      actual:   {}", self.expected, self.actual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_rule_steps_expected_and_actual() {
        let failure = Failure {
            steps: vec!["set(\"k\")".to_owned(), "get(\"k\")".to_owned()],
            expected: "a value".to_owned(),
            actual: "none".to_owned(),
        };
        let mut summary = Summary::default();
        for outcome in [Outcome::Passed, Outcome::Failed(failure), Outcome::Skipped("no clock".to_owned())] {
            let report =
                Report { rule: "cache/r".to_owned(), role: Role::Cache, outcome, took: Duration::from_millis(3) };
            summary.reports.push(report);
        }
        let lines: Vec<String> = summary.reports.iter().map(ToString::to_string).collect();
        assert_eq!(lines[0], "ok    cache/r (3 ms)");
        assert_eq!(
            lines[1],
            "FAIL  cache/r (3 ms)\n      1. set(\"k\")\n      2. get(\"k\")\n      expected: a value\n      actual:   none"
        );
        assert_eq!(lines[2], "skip  cache/r: no clock");
        assert_eq!(summary.to_string(), "1 passed, 1 failed");
    }
}
