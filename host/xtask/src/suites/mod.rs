//! `cargo xtask test`: every suite, one sum.

mod libtest;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::guests::{self, Which};
use crate::workspace::Workspace;
use crate::{Service, build, process, progress, setup, tidy};
use libtest::{Counts, Reader};

/// What all suites came to.
#[derive(Debug, Default)]
struct Sum {
    counts: Counts,
    failures: Vec<String>,
}

impl Sum {
    /// Counts something that is one test by itself.
    fn one(&mut self, name: &str, result: Result<()>) {
        match result {
            Ok(()) => self.counts.passed += 1,
            Err(error) => {
                println!("{name}: {error:#}");
                self.counts.failed += 1;
                self.failures.push(name.to_owned());
            }
        }
    }

    fn tidy(&mut self, workspace: &Workspace, checks: &[tidy::Check]) {
        for check in checks {
            if check.run(workspace) {
                self.counts.passed += 1;
            } else {
                self.counts.failed += 1;
                self.failures.push(format!("tidy: {}", check.name));
            }
        }
    }

    fn cargo_test(&mut self, name: &str, command: &mut Command) {
        progress::step(name);
        match run_suite(command) {
            Ok((counts, failures)) => {
                self.counts.add(counts);
                self.failures.extend(failures.into_iter().map(|failure| format!("{name}: {failure}")));
            }
            Err(error) => self.one(name, Err(error)),
        }
    }
}

/// What is in the name of every test that needs a Temporal server.
const ON_TEMPORAL: &str = "on_temporal";

/// Runs everything but what is left out, whatever fails on the way, and says the sum in the last line.
pub(crate) fn run(workspace: &Workspace, without: &[Service]) -> ExitCode {
    let temporal = !without.contains(&Service::Temporal);
    let mut sum = Sum::default();
    // What is quick comes first; the lints come last, as they compile the dependencies in a way of their own.
    sum.tidy(workspace, &tidy::QUICK);
    // The tests of host/cli and tests/ need the components and the program; the others tell something even without.
    if let Err(error) = prepare(workspace) {
        sum.one("build", Err(error));
    }
    if let Err(error) = setup::redis_server(workspace) {
        sum.one("redis-server", Err(error));
    }
    let mut command = process::cargo(&workspace.root);
    command.args(["test", "--workspace", "--no-fail-fast"]);
    if temporal {
        if let Err(error) = setup::temporal(workspace) {
            sum.one("temporal", Err(error));
        }
    } else {
        command.args(["--", "--skip", ON_TEMPORAL]);
        progress::note("LEFT OUT: temporal. Nothing that needs a Temporal server is tested in this run.");
    }
    sum.cargo_test("cargo test --workspace", &mut command);
    match guests::discover(workspace, Which::All) {
        Ok(found) => {
            for guest in found.iter().filter(|guest| guest.stands_alone) {
                let mut command = process::cargo(&guest.folder);
                command.args(["test", "--no-fail-fast"]).env("CARGO_TARGET_DIR", &workspace.target);
                sum.cargo_test(&format!("cargo test of {}", guest.package), &mut command);
            }
        }
        Err(error) => sum.one("guests", Err(error)),
    }
    sum.tidy(workspace, &tidy::COMPILING);

    if !sum.failures.is_empty() {
        println!("\nfailed:");
        sum.failures.iter().for_each(|failure| println!("  {failure}"));
    }
    if !temporal {
        println!(
            "\nLEFT OUT: temporal. Nothing that needs a Temporal server was tested; those tests count as skipped."
        );
    }
    println!("\n{}", sum.counts.line());
    if sum.counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn prepare(workspace: &Workspace) -> Result<()> {
    let toolchain = setup::guest_toolchain(workspace)?;
    build::everything(workspace, &toolchain, false).map(|_| ())
}

/// Runs test programs, shows what they print, and counts.
fn run_suite(command: &mut Command) -> Result<(Counts, Vec<String>)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start `{}`", process::line(command)))?;
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
    let mut reader = Reader::default();
    let mut bytes = Vec::new();
    // By bytes: a test may print what is no UTF-8.
    while stdout.read_until(b'\n', &mut bytes).context("cannot read what the tests print")? > 0 {
        let _ = std::io::stdout().lock().write_all(&bytes);
        reader.line(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']));
        bytes.clear();
    }
    let status = child.wait()?;
    Ok(reader.end(status.success()))
}
