//! `make`, which the host's allocator is built with.

use anyhow::{Context, Result};

use super::{apt, on_path};
use crate::workspace::Workspace;

const PROGRAM: &str = "make";

/// Makes sure that there is one, and installs it where that is possible. Says nothing when there was nothing to do.
pub(crate) fn make(workspace: &Workspace) -> Result<()> {
    if on_path(PROGRAM).is_some() {
        return Ok(());
    }
    apt::install(&workspace.root, &[PROGRAM]).with_context(|| {
        format!("the host's allocator is built with `{PROGRAM}`: put it on PATH, for example as root on Debian by `apt-get install {PROGRAM}`")
    })
}
