//! Cuts the power under journals: the program behind `cargo xtask powerloss`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

use std::process::ExitCode;

use compozy_proof::disk::Syncs;
use compozy_proof::{powerloss, seeds};

fn main() -> ExitCode {
    let range = match seeds::from_arguments(std::env::args().skip(1)) {
        Ok(range) => range,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let report = powerloss::run(range, Syncs::Honest, true);
    report.lost.iter().chain(&report.damaged).take(50).for_each(|problem| eprintln!("{problem}"));
    println!("{report}");
    if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
