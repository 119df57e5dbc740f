//! Plays random histories: the program behind `cargo xtask simulate`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

use std::process::ExitCode;

use compozy_proof::disk::Syncs;
use compozy_proof::{seeds, simulation};

fn main() -> ExitCode {
    let range = match seeds::from_arguments(std::env::args().skip(1)) {
        Ok(range) => range,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    if range.end - range.start == 1 {
        // One seed is asked for to see what happens.
        simulation::one(range.start, Syncs::Honest).steps.iter().for_each(|step| eprintln!("{step}"));
    }
    let report = simulation::run(range, Syncs::Honest, true);
    report.problems().take(20).for_each(|problem| eprintln!("{problem}"));
    println!("{report}");
    if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
