//! Hosts that are killed at any moment, under load over HTTP, with real plugins.

use anyhow::Result;
use compozy_tests::crash::{self, Options};

#[test]
fn twenty_kills_lose_nothing_and_record_nothing_twice() -> Result<()> {
    let report = crash::run(Options { kills: 20, seed: 1, verbose: false, forget: false })?;
    let problems: Vec<String> = report.problems().collect();
    assert!(problems.is_empty(), "{report}\n{}", problems.join("\n"));
    assert_eq!(report.kills, 20);
    // If hardly anything were acknowledged, nothing could be lost.
    assert!(report.acknowledged > 60 && report.attempts > 200, "{report:?}");
    Ok(())
}

#[test]
fn a_host_that_forgets_what_it_acknowledged_is_found_out() -> Result<()> {
    let report = crash::run(Options { kills: 4, seed: 1, verbose: false, forget: true })?;
    assert!(!report.lost.is_empty(), "{report:?}");
    assert!(!report.is_sound());
    Ok(())
}
