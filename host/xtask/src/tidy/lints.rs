//! Checks that other programs make: rustfmt, clippy, and the compiler for WebAssembly.

use std::path::Path;

use anyhow::{Context, Result};

use super::Findings;
use crate::guests::{self, Guest, Which};
use crate::process;
use crate::setup::{self, GUEST_TARGET};
use crate::workspace::Workspace;

/// Crates that have to compile where there is no clock, no network and no thread.
const PURE: [&str; 2] = ["compozy-plan", "compozy-interpreter"];

/// Runs one command for the workspace, and again for each project that stands alone.
fn everywhere(workspace: &Workspace, in_workspace: &[&str], in_project: &[&str]) -> Result<()> {
    process::run(process::cargo(&workspace.root).args(in_workspace))?;
    for guest in stand_alone(workspace)? {
        process::run(process::cargo(&guest.folder).args(in_project).env("CARGO_TARGET_DIR", &workspace.target))?;
    }
    Ok(())
}

/// The projects of this repository that are no members of its workspace.
fn stand_alone(workspace: &Workspace) -> Result<Vec<Guest>> {
    Ok(guests::discover(workspace, Which::All)?.into_iter().filter(|guest| guest.stands_alone).collect())
}

pub(super) fn format(workspace: &Workspace) -> Result<Findings> {
    let mut findings = Findings::default();
    let mut project = |folder: &Path, options: &[&str]| -> Result<()> {
        let mut command = process::cargo(folder);
        // Only the names of the files; what is to change is best seen after changing it.
        let output =
            command.arg("fmt").args(options).args(["--check", "--", "-l"]).output().context("cannot start cargo")?;
        findings.problems.extend(unformatted(&workspace.root, &String::from_utf8_lossy(&output.stdout)));
        if !output.status.success() && findings.problems.is_empty() {
            findings.problems.push(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        Ok(())
    };
    project(&workspace.root, &["--all"])?;
    for guest in stand_alone(workspace)? {
        project(&guest.folder, &[])?;
    }
    Ok(findings)
}

/// One sentence for each file that rustfmt names.
fn unformatted<'a>(root: &'a Path, names: &'a str) -> impl Iterator<Item = String> + 'a {
    names.lines().filter(|line| !line.is_empty()).map(move |line| {
        let file = Path::new(line);
        format!(
            "{} is not formatted; `cargo xtask tidy --fix` does it",
            file.strip_prefix(root).unwrap_or(file).display()
        )
    })
}

pub(super) fn clippy(workspace: &Workspace) -> Result<Findings> {
    let deny = ["--", "-D", "warnings"];
    let all = [&["clippy", "--workspace", "--all-targets"][..], &deny].concat();
    everywhere(workspace, &all, &[&["clippy", "--all-targets"][..], &deny].concat())?;
    Ok(Findings::default())
}

pub(super) fn purity(workspace: &Workspace) -> Result<Findings> {
    let toolchain = setup::guest_toolchain(workspace)?;
    let mut command = toolchain.cargo(&workspace.root);
    command.args(["check", "--target", GUEST_TARGET]).env("CARGO_TARGET_DIR", &workspace.target);
    for package in PURE {
        command.args(["--package", package]);
    }
    process::run(&mut command)?;
    Ok(Findings::default())
}

/// Corrects what has one sure remedy.
pub(crate) fn fix(workspace: &Workspace) -> Result<()> {
    let toolchain = setup::guest_toolchain(workspace)?;
    guests::build(workspace, &toolchain, Which::Plugins)?;
    let remedy = ["clippy", "--fix", "--all-targets", "--allow-dirty", "--allow-staged"];
    everywhere(workspace, &[&remedy[..], &["--workspace"]].concat(), &remedy)?;
    everywhere(workspace, &["fmt", "--all"], &["fmt"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_from_the_root() {
        let found: Vec<_> = unformatted(Path::new("/r"), "/r/host/a.rs\n\n/other/b.rs\n").collect();
        assert_eq!(found[0], "host/a.rs is not formatted; `cargo xtask tidy --fix` does it");
        assert!(found.len() == 2 && found[1].starts_with("/other/b.rs is not"), "{found:?}");
    }
}
