//! The Redis server that tests and benchmarks start for themselves.

use anyhow::{Context, Result};

use super::{apt, on_path};
use crate::workspace::Workspace;

const PROGRAM: &str = "redis-server";
const PACKAGE: &str = "redis-server";

/// Makes sure that there is one, and installs it where that is possible. Says nothing when there was nothing to do.
pub(crate) fn redis_server(workspace: &Workspace) -> Result<()> {
    if on_path(PROGRAM).is_some() {
        return Ok(());
    }
    apt::install(&workspace.root, &[PACKAGE]).and_then(|()| {
        on_path(PROGRAM).map(drop).with_context(|| format!("the package {PACKAGE} is installed, but `{PROGRAM}` is not on PATH"))
    }).with_context(|| {
        format!(
            "the tests of the plugin `redis` need a Redis server of version 7 or newer: put `{PROGRAM}` on PATH, for example as root on Debian by \
             `apt-get install --no-install-recommends {PACKAGE}`"
        )
    })
}
