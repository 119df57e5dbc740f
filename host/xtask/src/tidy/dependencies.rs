//! The foreign packages that the host and the plugins are made of.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use crate::workspace::{Package, Workspace};

/// Those that are really used on this platform or in a guest; tests and build scripts count too.
pub(super) fn foreign(workspace: &Workspace) -> Result<Vec<Package>> {
    let metadata = workspace.with_dependencies()?;
    let resolve = metadata.resolve.context("`cargo metadata` resolved nothing")?;
    let used: BTreeSet<String> = resolve.nodes.into_iter().map(|node| node.id).collect();
    let foreign =
        metadata.packages.into_iter().filter(|package| package.source.is_some() && used.contains(&package.id));
    Ok(foreign.collect())
}
