//! Plays the fixtures on all engines: the program behind `cargo xtask equivalence`.

#![expect(clippy::print_stdout, reason = "a command-line program")]

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use compozy_equivalence::{Embedded, Suite, all, bench};

fn main() -> ExitCode {
    match filter().and_then(|filter| play(filter.as_deref())) {
        Ok(code) => code,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `--filter TEXT`
fn filter() -> Result<Option<String>> {
    let mut arguments = std::env::args().skip(1);
    let filter = match arguments.next().as_deref() {
        None => None,
        Some("--filter") => arguments.next(),
        Some(other) => bail!("`{other}` is not known; there is `--filter TEXT`"),
    };
    Ok(filter)
}

#[tokio::main]
async fn play(filter: Option<&str>) -> Result<ExitCode> {
    let mut fixtures = all()?;
    fixtures.retain(|fixture| filter.is_none_or(|text| fixture.name.contains(text)));
    let suite = Suite::new(Arc::new(Embedded::new("embedded")?), bench::others()?);
    let report =
        suite.run(&fixtures, |name, equal| println!("{} {name}", if equal { "equal" } else { "DIFFERENT" })).await;
    for (name, wrong) in &report.failed {
        println!("\n=== {name}: {wrong}");
    }
    println!("\n{} passed, {} failed", report.passed.len(), report.failed.len());
    Ok(if report.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
