//! `cargo xtask powerloss`: the journal on a disk that loses what was not synced.

use std::process::ExitCode;

use anyhow::Result;

use crate::SeedsArgs;
use crate::workspace::Workspace;
use crate::{build, process};

/// Builds the program that does it and hands over to it.
pub(crate) fn run(workspace: &Workspace, args: &SeedsArgs) -> Result<ExitCode> {
    let program = build::example(workspace, "powerloss", false)?;
    let mut command = process::program(program, &workspace.root);
    command.args(["--seeds", &args.seeds.to_string(), "--seed", &args.seed.to_string()]);
    process::hand_over(&mut command)
}
