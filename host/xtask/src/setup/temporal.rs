//! The Temporal server that tests and benchmarks start for themselves: the Temporal CLI, which carries the whole server.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use temporal_test_server::{OVERRIDE, VERSION, cached, program};

use crate::workspace::Workspace;
use crate::{process, progress};

/// The CLI's package.
const PACKAGE: &str = "github.com/temporalio/cli/cmd/temporal";
/// The CLI's own module file replaces this one by a folder of its checkout, so it cannot be installed by name; a module of ours can
/// name the commit that belongs to the release.
const REPLACED: &str = "github.com/temporalio/cli/cliext";
const REPLACED_BY: &str = "v0.0.0-20260731000218-c579925f193f";
/// In the name of the folder of a build, before the id of its process.
const WORK: &str = ".build-";

/// Makes sure that there is one, and builds it where that is possible. Says nothing when there was nothing to do.
pub(crate) fn temporal(workspace: &Workspace) -> Result<()> {
    match program() {
        Ok(found) => return runs(&found, &workspace.root),
        // A program that was asked for by its path is not replaced by another.
        Err(reason) if std::env::var_os(OVERRIDE).is_some() => bail!("{reason}"),
        Err(_) => {}
    }
    build(workspace).with_context(|| {
        format!(
            "the tests of the Temporal engine need the Temporal CLI: put `temporal` of version {VERSION} or newer on PATH (macOS: `brew \
             install temporal`; others: https://docs.temporal.io/cli), or install Go 1.26 or newer and let this command build it with \
             network access, or leave those tests out with `cargo xtask test --without temporal`"
        )
    })
}

/// Builds it from its published modules into the cache folder.
fn build(workspace: &Workspace) -> Result<()> {
    let place = cached().context("there is no home folder, so there is no cache folder")?;
    let folder = place.parent().context("the cache folder has a name")?;
    process::output(process::program("go", &workspace.root).arg("version")).context("there is no Go")?;
    let name = folder.file_name().context("the cache folder has a name")?.to_string_lossy().into_owned();
    let caches = folder.parent().context("the cache folder lies in a folder")?;
    remove_left_over(caches, &format!("{name}{WORK}"));
    let work = caches.join(format!("{name}{WORK}{}", std::process::id()));
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let built = progress::timed(
        &format!("building the Temporal CLI {VERSION} from its Go modules, once; about 4 minutes"),
        || compile(&work),
    );
    let put = built.and_then(|program| {
        runs(&program, &work)?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        // Made beside its place and renamed: a program that is there is complete.
        fs::rename(&program, &place).with_context(|| format!("cannot make {}", place.display()))
    });
    // The modules and the build's cache were made for this alone, and are large.
    let _ = fs::remove_dir_all(&work);
    put
}

/// Removes what builds left that were killed: some gigabytes each.
fn remove_left_over(caches: &Path, prefix: &str) {
    let is_gone = |process: &str| Path::new("/proc/self").exists() && !Path::new("/proc").join(process).exists();
    for entry in caches.read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().and_then(|name| name.strip_prefix(prefix)).is_some_and(is_gone) {
            // Another build may be at it, too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Compiles in a folder that holds everything: the module, the modules that it needs, and what the compiler keeps.
fn compile(work: &Path) -> Result<PathBuf> {
    let module = work.join("module");
    fs::create_dir_all(&module).with_context(|| format!("cannot make {}", module.display()))?;
    let proxies = proxies(work)?;
    let go = |arguments: &[&str]| -> Result<()> {
        let mut command = go(&module, work, &proxies);
        process::run(command.args(arguments))
    };
    go(&["mod", "init", "temporal-for-tests"])?;
    go(&["mod", "edit", "-replace", &format!("{REPLACED}={REPLACED}@{REPLACED_BY}")])?;
    go(&["get", &format!("{PACKAGE}@v{VERSION}")])?;
    go(&["build", "-trimpath", "-ldflags", "-s -w", "-o", "temporal", PACKAGE])?;
    Ok(module.join("temporal"))
}

fn go(module: &Path, work: &Path, proxies: &OsString) -> Command {
    let mut command = process::program("go", module);
    command.env("GOMODCACHE", work.join("modules")).env("GOCACHE", work.join("cache")).env("GOPROXY", proxies);
    // Without C nothing but Go is needed; modules that can be written can be removed.
    command.env("CGO_ENABLED", "0").env("GOFLAGS", "-modcacherw").env("GOWORK", "off");
    command
}

/// What the user has downloaded before comes first: it needs no network.
fn proxies(folder: &Path) -> Result<OsString> {
    let set = process::output(process::program("go", folder).args(["env", "GOMODCACHE", "GOPROXY"]))?;
    let mut lines = set.lines();
    let (modules, proxies) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    Ok(in_front(modules, proxies).into())
}

fn in_front(modules: &str, proxies: &str) -> String {
    let downloaded = Path::new(modules).join("cache/download");
    let usable = downloaded.is_absolute() && !modules.contains([',', '|', ' ', '%']);
    if usable { format!("file://{},{proxies}", downloaded.display()) } else { proxies.to_owned() }
}

/// Whether it can be started at all: a file of another machine's kind cannot.
fn runs(program: &Path, folder: &Path) -> Result<()> {
    let said = process::output(process::program(program, folder).arg("--version"))
        .with_context(|| format!("{} is no Temporal CLI that runs here", program.display()))?;
    if !said.contains("Server") {
        bail!("{} carries no Temporal server: it says `{}`", program.display(), said.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_downloaded_before_comes_first() {
        assert_eq!(
            in_front("/home/me/go/pkg/mod", "https://a,direct"),
            "file:///home/me/go/pkg/mod/cache/download,https://a,direct"
        );
        assert_eq!(in_front("", "direct"), "direct");
        assert_eq!(in_front("/my, folder", "direct"), "direct");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_a_killed_build_left_is_removed_and_nothing_else() {
        let caches = std::env::temp_dir().join(format!("xtask-temporal-{}", std::process::id()));
        let own = format!("temporal-1.build-{}", std::process::id());
        // No process has such a high number.
        let kept = ["temporal-1", "temporal-2.build-4194999", own.as_str()];
        for name in ["temporal-1.build-4194999"].iter().chain(&kept) {
            fs::create_dir_all(caches.join(name).join("cache")).expect("creates");
        }
        remove_left_over(&caches, "temporal-1.build-");
        let mut left: Vec<_> =
            caches.read_dir().expect("lists").map(|entry| entry.expect("an entry").file_name()).collect();
        left.sort();
        let mut kept = kept.map(OsString::from);
        kept.sort();
        fs::remove_dir_all(&caches).expect("removes");
        assert_eq!(left, kept);
    }

    #[test]
    fn what_is_no_temporal_is_refused_with_its_path() {
        let error = format!("{:#}", runs(Path::new("/bin/echo"), Path::new("/")).expect_err("echo is none"));
        assert!(error.contains("/bin/echo carries no Temporal server"), "{error}");
        let error = format!("{:#}", runs(Path::new("/nowhere/temporal"), Path::new("/")).expect_err("is not there"));
        assert!(error.contains("/nowhere/temporal is no Temporal CLI that runs here"), "{error}");
    }
}
