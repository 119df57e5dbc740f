//! The way for machines where rustup can add no target: Debian's newer Rust (packages with `-web` in their names) knows
//! the target and has the sources of its standard library. That library is built once, into a sysroot of its own in the
//! target folder; from then on a plain build of Debian's cargo with that sysroot makes components.
//!
//! The toolchain in use stays what it is: Debian's compiler is called by its full path, and only for guests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use super::{GUEST_TARGET, apt};
use crate::workspace::Workspace;
use crate::{process, progress};

/// What has to be installed.
pub(super) const PACKAGES: [&str; 6] =
    ["rustc-web", "cargo-web", "rust-web-src", "libstd-rust-web-dev", "wasi-libc", "lld-19"];

const RUSTC: &str = "/usr/bin/rustc";
const CARGO: &str = "/usr/bin/cargo";
/// Where Debian's sources of the standard library are, for `-Z build-std`.
const SOURCES: &str = "/usr/lib/rustlib/src/rust/library/std/Cargo.toml";
/// Debian's C library for WASI.
const LIBC: &str = "/usr/lib/wasm32-wasi";
/// What a component is linked with from there.
const LIBC_FILES: [&str; 3] = ["libc.a", "crt1-command.o", "crt1-reactor.o"];
/// The linker for components; rustup's toolchains carry it, Debian's do not.
const LINKER: &str = "wasm-component-ld";
/// Older compilers do not know the target well enough.
const MINOR_VERSION_MIN: u32 = 95;

/// Debian's Rust with a standard library for guests.
#[derive(Debug)]
pub(crate) struct DebianToolchain {
    sysroot: PathBuf,
    /// The folder of [`LINKER`] and of the `rust-lld` that it calls.
    linkers: PathBuf,
}

impl DebianToolchain {
    /// The toolchain, when everything is in place already.
    pub(super) fn installed(workspace: &Workspace, rustup_sysroot: &Path) -> Option<Self> {
        let linkers = linkers(rustup_sysroot)?;
        let sysroot = sysroot(workspace, &version()?);
        super::has_target(&sysroot).then_some(Self { sysroot, linkers })
    }

    /// Installs the packages when that is possible and needed, and builds the standard library.
    pub(super) fn set_up(workspace: &Workspace, rustup_sysroot: &Path) -> Result<Self> {
        let Some(linkers) = linkers(rustup_sysroot) else {
            bail!("the linker {LINKER} is missing in the Rust toolchain {}", rustup_sysroot.display());
        };
        if !packages_present() {
            apt::install(&workspace.root, &PACKAGES)?;
        }
        let version = version().with_context(|| format!("{RUSTC} is not there or older than 1.{MINOR_VERSION_MIN}"))?;
        let sysroot = sysroot(workspace, &version);
        progress::timed(
            &format!("building the standard library of {GUEST_TARGET} from Debian's sources, once"),
            || build_sysroot(&workspace.target.join("guest-toolchain/std"), &sysroot),
        )?;
        Ok(Self { sysroot, linkers })
    }

    /// Debian's cargo for builds with `--target wasm32-wasip2`. Host-side code (macros) uses Debian's own library.
    pub(super) fn cargo(&self, folder: &Path) -> Command {
        let mut command = plain_cargo(folder);
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(self.linkers.clone()).chain(env::split_paths(&path));
        if let Ok(path) = env::join_paths(folders) {
            command.env("PATH", path);
        }
        command.env("CARGO_TARGET_WASM32_WASIP2_LINKER", self.linkers.join(LINKER));
        // The encoded form, as the folder's name may have spaces; with `--target`, it is not for host-side code.
        command.env("CARGO_ENCODED_RUSTFLAGS", format!("--sysroot\u{1f}{}", self.sysroot.display()));
        command
    }
}

/// Debian's cargo with Debian's compiler, free of what rustup set for its own.
fn plain_cargo(folder: &Path) -> Command {
    let mut command = process::program(CARGO, folder);
    command.env("RUSTC", RUSTC);
    for variable in
        ["RUSTUP_TOOLCHAIN", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "LD_LIBRARY_PATH", "CARGO"]
    {
        command.env_remove(variable);
    }
    command
}

fn linkers(rustup_sysroot: &Path) -> Option<PathBuf> {
    let hosts = rustup_sysroot.join("lib/rustlib").read_dir().ok()?;
    hosts.flatten().map(|host| host.path().join("bin")).find(|folder| folder.join(LINKER).is_file())
}

/// A sysroot is only good for the compiler that built it, so its folder has the version's name.
fn sysroot(workspace: &Workspace, version: &str) -> PathBuf {
    workspace.target.join("guest-toolchain").join(version)
}

/// The version of Debian's compiler, when it is new enough.
fn version() -> Option<String> {
    let text = process::output(Command::new(RUSTC).arg("--version").env_remove("LD_LIBRARY_PATH")).ok()?;
    usable_version(&text)
}

/// `rustc 1.96.0 (...)` gives `1.96.0`, when that is not too old.
fn usable_version(text: &str) -> Option<String> {
    let version = text.strip_prefix("rustc ")?.split_whitespace().next()?;
    let mut parts = version.split('.').map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else { return None };
    ((major, minor) >= (1, MINOR_VERSION_MIN)).then(|| version.to_owned())
}

fn packages_present() -> bool {
    let libc = Path::new(LIBC);
    version().is_some()
        && Path::new(CARGO).exists()
        && Path::new(SOURCES).exists()
        && LIBC_FILES.iter().all(|file| libc.join(file).exists())
}

/// Builds `std` by way of an empty crate, and gathers it with the C library in a sysroot.
fn build_sysroot(work: &Path, sysroot: &Path) -> Result<()> {
    let put =
        |file: &Path, text: &str| fs::write(file, text).with_context(|| format!("cannot write {}", file.display()));
    fs::create_dir_all(work.join("src")).with_context(|| format!("cannot make {}", work.display()))?;
    put(&work.join("Cargo.toml"), "[package]\nname = \"guest-std\"\nedition = \"2024\"\n[workspace]\n")?;
    put(&work.join("src/lib.rs"), "")?;
    let mut command = plain_cargo(work);
    command
        .args(["build", "-Z", "build-std=std,panic_abort", "--release", "--target", GUEST_TARGET])
        .env("RUSTC_BOOTSTRAP", "1")
        // Guests are optimised as a whole, standard library included.
        .env("CARGO_ENCODED_RUSTFLAGS", "-Cembed-bitcode=yes")
        .env("CARGO_TARGET_DIR", work.join("target"));
    process::run(&mut command).context("the standard library cannot be built from Debian's sources")?;

    // Made beside its place and renamed: a sysroot that exists is complete.
    let part = sysroot.with_extension("part");
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    let libraries = part.join("lib/rustlib").join(GUEST_TARGET).join("lib");
    fs::create_dir_all(libraries.join("self-contained"))?;
    let built = work.join("target").join(GUEST_TARGET).join("release/deps");
    for entry in fs::read_dir(&built)? {
        let file = entry?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if file.extension().is_some_and(|extension| extension == "rlib") && !name.starts_with("libguest_std-") {
            fs::copy(&file, libraries.join(&name)).with_context(|| format!("cannot copy {name}"))?;
        }
    }
    for name in LIBC_FILES {
        let copied = fs::copy(Path::new(LIBC).join(name), libraries.join("self-contained").join(name));
        copied.with_context(|| format!("cannot copy {name} of the package wasi-libc"))?;
    }
    fs::rename(&part, sysroot).with_context(|| format!("cannot make {}", sysroot.display()))?;
    // It is of no more use, and large.
    let _ = fs::remove_dir_all(work);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::usable_version;

    #[test]
    fn old_compilers_are_not_usable() {
        for (text, expected) in [
            ("rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)", Some("1.96.0")),
            ("rustc 1.95.0", Some("1.95.0")),
            ("rustc 2.0.0", Some("2.0.0")),
            ("rustc 1.63.0", None),
            ("rustc nightly", None),
            ("", None),
        ] {
            assert_eq!(usable_version(text).as_deref(), expected, "{text}");
        }
    }
}
