//! Plays fixtures on several engines and compares.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use futures_util::stream::{self, StreamExt as _};

use crate::bench::Bench;
use crate::compare::side_by_side;
use crate::fixture::Fixture;
use crate::play::play;
use crate::plugins::Plugins;
use crate::record::Record;

/// Fixtures that are played at once. They wait most of the time.
const AT_ONCE: usize = 12;

/// Engines to compare: the first is the measure.
pub struct Suite {
    benches: Vec<Arc<dyn Bench>>,
    records: Option<PathBuf>,
    update: bool,
    plugins: Plugins,
}

/// What came of a suite.
#[derive(Debug, Default)]
pub struct Report {
    /// Names of fixtures that were equal everywhere.
    pub passed: Vec<String>,
    /// Names of the others, with what is wrong.
    pub failed: Vec<(String, String)>,
}

impl Suite {
    /// The first engine is the measure of the others.
    pub fn new(measure: Arc<dyn Bench>, others: Vec<Arc<dyn Bench>>) -> Self {
        let benches = std::iter::once(measure).chain(others).collect();
        Self { benches, records: None, update: false, plugins: Plugins::default() }
    }

    /// Also compares the first engine with the records in this folder; `update` writes them instead.
    #[must_use]
    pub fn with_records(self, folder: PathBuf, update: bool) -> Self {
        Self { records: Some(folder), update, ..self }
    }

    /// Plays all fixtures; `told` hears of each that has been played.
    pub async fn run(&self, fixtures: &[Fixture], told: impl Fn(&str, bool)) -> Report {
        let played = stream::iter(fixtures).map(|fixture| async move { (fixture, self.one(fixture).await) });
        let mut played = played.buffer_unordered(AT_ONCE);
        let mut report = Report::default();
        while let Some((fixture, wrong)) = played.next().await {
            let name = fixture.name.clone();
            told(&name, wrong.is_empty());
            if wrong.is_empty() {
                report.passed.push(name);
            } else {
                report.failed.push((name, format!("{}\n{wrong}", fixture.about)));
            }
        }
        report.passed.sort();
        report.failed.sort();
        report
    }

    /// What is wrong with one fixture; empty when nothing is.
    async fn one(&self, fixture: &Fixture) -> String {
        let mut compared = self.compared(fixture).await;
        // A server under load may lose an attempt before anybody saw it, and rightly begins the next: what is different once
        // and not again is no difference of engines.
        if self.benches.len() > 1 && !compared.as_ref().is_ok_and(Vec::is_empty) {
            compared = self.compared(fixture).await;
        }
        match compared {
            Ok(wrong) => wrong.join("\n"),
            Err(error) => format!("{error:#}"),
        }
    }

    async fn compared(&self, fixture: &Fixture) -> Result<Vec<String>> {
        let plugins = if fixture.plugins.is_empty() { None } else { Some(self.plugins.executor().await?) };
        let mut wrong = Vec::new();
        let mut records: Vec<(&str, Record)> = Vec::new();
        for bench in &self.benches {
            let name = bench.name();
            match play(fixture, bench.as_ref(), plugins.clone()).await {
                Ok(record) => {
                    wrong.extend(record.problems.iter().map(|problem| format!("{name}: {problem}")));
                    records.push((name, record));
                }
                Err(error) => wrong.push(format!("{name}: {error:#}")),
            }
        }
        let Some(((first, measure), others)) = records.split_first() else { return Ok(wrong) };
        for (name, record) in others {
            wrong.extend(side_by_side((first, &measure.lines), (name, &record.lines)));
        }
        if let Some(folder) = &self.records {
            let file = folder.join(format!("{}.txt", fixture.name));
            wrong.extend(self.recorded(&file, first, measure)?);
        }
        Ok(wrong)
    }

    fn recorded(&self, file: &Path, name: &str, measure: &Record) -> Result<Option<String>> {
        let found = || format!("{}\n", measure.lines.join("\n"));
        if self.update {
            std::fs::write(file, found()).with_context(|| format!("cannot write {}", file.display()))?;
            return Ok(None);
        }
        let recorded = std::fs::read_to_string(file).with_context(|| {
            format!("{} cannot be read; run with UPDATE_RECORDS=1 and read what it writes", file.display())
        })?;
        let recorded: Vec<String> = recorded.lines().map(str::to_owned).collect();
        Ok(side_by_side(("recorded", &recorded), (name, &measure.lines)))
    }
}
