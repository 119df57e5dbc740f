//! Every plugin in this repository can be built from this repository.

use std::path::Path;

use anyhow::Result;

use super::Findings;
use crate::guests::{self, Which};
use crate::workspace::Workspace;

pub(super) fn check(workspace: &Workspace) -> Result<Findings> {
    let mut findings = Findings::default();
    let built = guests::discover(workspace, Which::All)?;
    for parent in ["plugins", "tests/guests", "examples"] {
        for folder in guests::folders(&workspace.root.join(parent), "plugin.toml")? {
            if !built.iter().any(|guest| guest.folder == folder) {
                findings.problems.push(problem(&workspace.root, &folder));
            }
        }
    }
    // The other way round only where the host or a user takes the folder as a plugin.
    for guest in built.iter().filter(|guest| !guest.folder.starts_with(workspace.root.join("tests"))) {
        if !guest.folder.join("plugin.toml").is_file() {
            let folder = guest.folder.strip_prefix(&workspace.root).unwrap_or(&guest.folder);
            findings.problems.push(format!("{} builds a component and has no plugin.toml", folder.display()));
        }
    }
    for (index, guest) in built.iter().enumerate() {
        if built[..index].iter().any(|other| other.component == guest.component) {
            findings.problems.push(format!("two crates make the same file {}", guest.component.display()));
        }
    }
    Ok(findings)
}

fn problem(root: &Path, folder: &Path) -> String {
    let name = folder.strip_prefix(root).unwrap_or(folder).display();
    if folder.join("Cargo.toml").is_file() {
        format!(
            "{name} has a plugin.toml, but its Cargo.toml is no member of the workspace with `crate-type = [\"cdylib\"]`"
        )
    } else {
        format!("{name} has a plugin.toml and no Cargo.toml: nothing builds its component")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_plugin_that_nothing_builds_is_named() {
        let root = std::env::temp_dir().join(format!("xtask-plugins-{}", std::process::id()));
        let folder = root.join("plugins/lost");
        fs::create_dir_all(&folder).expect("creates");
        fs::write(folder.join("plugin.toml"), "name = \"lost\"").expect("writes");
        let workspace = Workspace { root: root.clone(), target: root.join("target"), members: Vec::new() };
        let found = check(&workspace).expect("checks").problems;
        assert_eq!(found, ["plugins/lost has a plugin.toml and no Cargo.toml: nothing builds its component"]);
        fs::write(folder.join("Cargo.toml"), "").expect("writes");
        let found = check(&workspace).expect("checks").problems;
        assert!(found.len() == 1 && found[0].contains("no member of the workspace"), "{found:?}");
        fs::remove_dir_all(&root).expect("removes");
    }
}
