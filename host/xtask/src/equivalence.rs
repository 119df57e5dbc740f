//! `cargo xtask equivalence`: the same workflows on every engine.

use std::process::ExitCode;

use anyhow::Result;

use crate::EquivalenceArgs;
use crate::guests::{self, Which};
use crate::workspace::Workspace;
use crate::{build, process, setup};

/// Builds what is missing and hands over to the program that compares.
pub(crate) fn run(workspace: &Workspace, args: &EquivalenceArgs) -> Result<ExitCode> {
    let toolchain = setup::guest_toolchain(workspace)?;
    guests::build(workspace, &toolchain, Which::All)?;
    setup::temporal(workspace)?;
    let program = build::example(workspace, "equivalence", false)?;
    let mut command = process::program(program, &workspace.root);
    if let Some(filter) = &args.filter {
        command.args(["--filter", filter]);
    }
    process::hand_over(&mut command)
}
