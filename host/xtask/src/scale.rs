//! `cargo xtask scale`: the tests of large numbers at full size, with their figures.

use std::process::ExitCode;

use anyhow::Result;

use crate::process;
use crate::workspace::Workspace;

/// Makes the tests use the sizes that the engine promises.
const FULL: &str = "COMPOZY_SCALE_FULL";

/// Runs them one after the other, so that the figures mean something.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    let mut command = process::cargo(&workspace.root);
    command.args(["test", "--workspace", "--test", "scale", "--", "--nocapture", "--test-threads", "1"]).env(FULL, "1");
    process::hand_over(&mut command)
}
