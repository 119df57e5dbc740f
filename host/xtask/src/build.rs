//! Builds the guests, then the host that has some of them in it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::guests::{self, Which};
use crate::setup::{self, GuestToolchain};
use crate::workspace::Workspace;
use crate::{process, progress};

const WORKSPACE: [&str; 4] = ["build", "--workspace", "--exclude", "xtask"];
/// The host's package and program.
pub(crate) const HOST: &str = "compozy-host";

/// All guests and the host; returns the host's program.
pub(crate) fn everything(workspace: &Workspace, toolchain: &GuestToolchain, release: bool) -> Result<PathBuf> {
    guests::build(workspace, toolchain, Which::All)?;
    host(workspace, release)
}

/// The host's program, with the plugins of `plugins/` as they are now.
pub(crate) fn host(workspace: &Workspace, release: bool) -> Result<PathBuf> {
    let what = if release { "building the host, optimised for use" } else { "building the host" };
    let name = Path::new(HOST);
    setup::make(workspace)?;
    let built = progress::timed(what, || programs(workspace, release))?;
    built
        .into_iter()
        .find(|program| program.file_stem() == Some(name.as_os_str()))
        .with_context(|| format!("cargo built no program `{HOST}`; its package is host/cli"))
}

/// All programs of the workspace but this one, which is running.
///
/// The whole workspace is named, not one package: so every package is built with the features that `cargo test --workspace`
/// uses too, and wasmtime is compiled once for the demo, the tests and the benchmarks.
fn programs(workspace: &Workspace, release: bool) -> Result<Vec<PathBuf>> {
    let mut command = process::cargo(&workspace.root);
    command.args(WORKSPACE).arg("--bins");
    if release {
        command.arg("--release");
    }
    Ok(process::artifacts(&mut command)?.into_iter().filter_map(|artifact| artifact.executable).collect())
}

/// An example program, compiled with what the tests use.
pub(crate) fn example(workspace: &Workspace, name: &str, release: bool) -> Result<PathBuf> {
    let mut command = process::cargo(&workspace.root);
    command.args(WORKSPACE).args(["--example", name]);
    if release {
        command.arg("--release");
    }
    let built = process::artifacts(&mut command)?.into_iter().find_map(|artifact| artifact.executable);
    built.with_context(|| format!("cargo built no example `{name}`"))
}
