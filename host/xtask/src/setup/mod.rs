//! Makes this machine able to build guests and to run the tests, and remembers how.

mod apt;
mod debian_guest_toolchain;
mod make;
mod redis_server;
mod temporal;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::progress;
use crate::workspace::Workspace;
use debian_guest_toolchain::DebianToolchain;
pub(crate) use make::make;
pub(crate) use redis_server::redis_server;
pub(crate) use temporal::temporal;

/// The target that guests are compiled for.
pub(crate) const GUEST_TARGET: &str = "wasm32-wasip2";
/// Set to `rustup` or `debian` to try that way only.
const OVERRIDE: &str = "COMPOZY_GUEST_TOOLCHAIN";

/// How guests are built on this machine.
#[derive(Debug)]
pub(crate) enum GuestToolchain {
    /// The toolchain in use has the target.
    Rustup,
    /// Debian's newer Rust, with a standard library built from its sources.
    Debian(DebianToolchain),
}

impl GuestToolchain {
    /// A cargo that can build for [`GUEST_TARGET`], to be given its command.
    pub(crate) fn cargo(&self, folder: &Path) -> Command {
        match self {
            Self::Rustup => process::cargo(folder),
            Self::Debian(toolchain) => toolchain.cargo(folder),
        }
    }
}

/// The ways to get the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Rustup,
    Debian,
}

/// Finds a toolchain for guests, and sets one up when there is none. Says nothing when there was nothing to do.
pub(crate) fn guest_toolchain(workspace: &Workspace) -> Result<GuestToolchain> {
    let ways = ways(env::var(OVERRIDE).ok().as_deref())?;
    if ways.contains(&Way::Rustup) && has_target(&sysroot(workspace)?) {
        return Ok(GuestToolchain::Rustup);
    }
    if ways.contains(&Way::Debian)
        && let Some(toolchain) = DebianToolchain::installed(workspace, &sysroot(workspace)?)
    {
        return Ok(GuestToolchain::Debian(toolchain));
    }
    let mut refusals = Vec::new();
    for way in ways {
        let result = match way {
            Way::Rustup => rustup(workspace),
            Way::Debian => DebianToolchain::set_up(workspace, &sysroot(workspace)?).map(GuestToolchain::Debian),
        };
        match result {
            Ok(toolchain) => return Ok(toolchain),
            Err(error) => {
                progress::note(&format!("{error:#}"));
                refusals.push(format!("{error:#}"));
            }
        }
    }
    bail!(
        "this machine cannot build plugins yet: install Rust by rustup with network access and run `rustup target add \
         {GUEST_TARGET}`, or as root on Debian `apt-get install --no-install-recommends {}`, then run this command again",
        debian_guest_toolchain::PACKAGES.join(" ")
    )
}

fn ways(chosen: Option<&str>) -> Result<Vec<Way>> {
    match chosen {
        None | Some("") => Ok(vec![Way::Rustup, Way::Debian]),
        Some("rustup") => Ok(vec![Way::Rustup]),
        Some("debian") => Ok(vec![Way::Debian]),
        Some(other) => bail!("{OVERRIDE} is `{other}`; it can be `rustup` or `debian`, or not be set"),
    }
}

/// The folder of the toolchain in use.
fn sysroot(workspace: &Workspace) -> Result<PathBuf> {
    let text = process::output(process::program("rustc", &workspace.root).args(["--print", "sysroot"]))?;
    Ok(PathBuf::from(text.trim()))
}

/// Whether a toolchain has the target's standard library.
fn has_target(sysroot: &Path) -> bool {
    let libraries = sysroot.join("lib/rustlib").join(GUEST_TARGET).join("lib");
    let Ok(entries) = libraries.read_dir() else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libstd-") && Path::new(&*name).extension().is_some_and(|extension| extension == "rlib")
    })
}

fn rustup(workspace: &Workspace) -> Result<GuestToolchain> {
    progress::step(&format!("adding the Rust target {GUEST_TARGET}"));
    process::run(process::program("rustup", &workspace.root).args(["target", "add", GUEST_TARGET]))
        .context("rustup cannot add the target")?;
    if !has_target(&sysroot(workspace)?) {
        bail!("rustup has added the target {GUEST_TARGET}, but not to the toolchain that builds this project");
    }
    Ok(GuestToolchain::Rustup)
}

/// The file that a command without a folder starts.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rustup_comes_first_unless_told_otherwise() {
        assert_eq!(ways(None).expect("known"), [Way::Rustup, Way::Debian]);
        assert_eq!(ways(Some("debian")).expect("known"), [Way::Debian]);
        assert_eq!(ways(Some("rustup")).expect("known"), [Way::Rustup]);
        let error = ways(Some("nix")).expect_err("unknown").to_string();
        assert!(error.contains("`nix`") && error.contains("`debian`"), "{error}");
    }

    #[test]
    fn a_target_counts_only_with_its_standard_library() {
        let sysroot = env::temp_dir().join(format!("xtask-sysroot-{}", std::process::id()));
        let libraries = sysroot.join("lib/rustlib").join(GUEST_TARGET).join("lib");
        assert!(!has_target(&sysroot));
        std::fs::create_dir_all(&libraries).expect("creates");
        std::fs::write(libraries.join("libcore-0.rlib"), "").expect("writes");
        std::fs::write(libraries.join("libstd-0.rmeta"), "").expect("writes");
        assert!(!has_target(&sysroot));
        std::fs::write(libraries.join("libstd-0.rlib"), "").expect("writes");
        assert!(has_target(&sysroot));
        std::fs::remove_dir_all(&sysroot).expect("removes");
    }
}
