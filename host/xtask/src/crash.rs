//! `cargo xtask crash`: hosts that are killed under load.

use std::process::ExitCode;

use anyhow::Result;

use crate::CrashArgs;
use crate::workspace::Workspace;
use crate::{build, process, setup};

/// Builds the host, the guests and the program that kills, and hands over to it.
pub(crate) fn run(workspace: &Workspace, args: &CrashArgs) -> Result<ExitCode> {
    let toolchain = setup::guest_toolchain(workspace)?;
    build::everything(workspace, &toolchain, false)?;
    let program = build::example(workspace, "crash", false)?;
    let mut command = process::program(program, &workspace.root);
    command.args(["--iterations", &args.iterations.to_string(), "--seed", &args.seed.to_string()]);
    process::hand_over(&mut command)
}
