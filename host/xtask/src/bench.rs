//! `cargo xtask bench`: builds what is measured, then hands over to the program that measures.

use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::guests::{self, Which};
use crate::workspace::Workspace;
use crate::{build, process, progress, setup};

/// The program that measures, an example of the package compozy-runtime.
const PROGRAM: &str = "bench_plugin";

/// Runs the measurements of plugins; their exit code is ours.
pub(crate) fn plugin(workspace: &Workspace, json: bool) -> Result<ExitCode> {
    let toolchain = setup::guest_toolchain(workspace)?;
    guests::build(workspace, &toolchain, Which::All)?;
    let program = progress::timed("building the benchmark", || build::example(workspace, PROGRAM))?;
    let mut command = process::program(program, &workspace.root);
    command.arg("--scratch").arg(workspace.target.join("bench"));
    if json {
        command.arg("--json");
    }
    progress::step(&process::line(&command));
    let status = command.stdin(Stdio::null()).status().context("cannot start the benchmark")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
