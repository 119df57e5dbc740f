//! Kills hosts and looks for what they lost: the program behind `cargo xtask crash`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use compozy_tests::crash::{self, Options};

fn main() -> ExitCode {
    match options(std::env::args().skip(1)).and_then(crash::run) {
        Ok(report) => {
            report.problems().take(50).for_each(|problem| eprintln!("{problem}"));
            eprintln!("{} executions, {} attempts that left a trace", report.executions, report.attempts);
            println!("{report}");
            if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `--iterations N --seed S`.
fn options(mut args: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options { kills: 20, seed: 1, verbose: true, forget: false };
    while let Some(name) = args.next() {
        let value = args.next().with_context(|| format!("`{name}` needs a number"))?;
        let number: u64 = value.parse().with_context(|| format!("`{name} {value}`"))?;
        match name.as_str() {
            "--iterations" => options.kills = usize::try_from(number)?,
            "--seed" => options.seed = number,
            _ => bail!("`{name}` is unknown; there are --iterations and --seed"),
        }
    }
    Ok(options)
}
