//! Debian's packages, where this program may install them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::{process, progress};

const APT_GET: &str = "/usr/bin/apt-get";

/// Installs packages, or says in one sentence why it cannot.
pub(super) fn install(folder: &Path, packages: &[&str]) -> Result<()> {
    if !Path::new(APT_GET).exists() {
        bail!("this is no Debian: there is no apt-get");
    }
    // Owned by root are the files of processes that root started.
    let root = fs::metadata("/proc/self").is_ok_and(|data| std::os::unix::fs::MetadataExt::uid(&data) == 0);
    if !root {
        bail!("only root can install Debian's packages");
    }
    progress::step(&format!("installing Debian's packages {}", packages.join(" ")));
    let apt = |args: &[&str]| {
        let mut command = process::program(APT_GET, folder);
        command.args(["-q", "-y"]).args(args).env("DEBIAN_FRONTEND", "noninteractive");
        process::run(&mut command)
    };
    let mut install = vec!["install", "--no-install-recommends"];
    install.extend(packages);
    // The lists of packages may be missing or old; asking for them first would need the network every time.
    apt(&install)
        .or_else(|_| apt(&["update"]).and_then(|()| apt(&install)))
        .context("apt-get cannot install the packages")
}
