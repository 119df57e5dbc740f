//! Finds the crates that become WebAssembly components, builds them, and puts each beside its `plugin.toml`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::setup::{GUEST_TARGET, GuestToolchain};
use crate::workspace::{Package, Workspace, metadata};
use crate::{process, progress};

/// Which guests to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those of `plugins/`: what the host needs.
    Plugins,
    /// Those of the tests and examples too.
    All,
}

/// A crate that becomes a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Guest {
    /// Its package.
    pub(crate) package: String,
    /// The folder of its `Cargo.toml` and `plugin.toml`.
    pub(crate) folder: PathBuf,
    /// The file that the component is copied to.
    pub(crate) component: PathBuf,
    /// Whether it is a workspace of its own, as an author's project would be.
    pub(crate) stands_alone: bool,
}

/// Builds the guests one by one, each with exactly the features that it asks for: built together, one plugin's use of a
/// feature of the SDK would show in the imports of all.
pub(crate) fn build(workspace: &Workspace, toolchain: &GuestToolchain, which: Which) -> Result<Vec<Guest>> {
    let guests = discover(workspace, which)?;
    let names: Vec<&str> = guests.iter().map(|guest| guest.package.as_str()).collect();
    progress::timed(&format!("building {} for {GUEST_TARGET}: {}", count(names.len()), names.join(", ")), || {
        guests.iter().try_for_each(|guest| build_one(workspace, toolchain, guest))
    })?;
    Ok(guests)
}

fn count(guests: usize) -> String {
    if guests == 1 { "1 guest".to_owned() } else { format!("{guests} guests") }
}

fn build_one(workspace: &Workspace, toolchain: &GuestToolchain, guest: &Guest) -> Result<()> {
    let mut command = toolchain.cargo(&guest.folder);
    command.args(["build", "--target", GUEST_TARGET, "--package", &guest.package, "--lib"]);
    // A stand-alone project has no profile but its own.
    let profile = if guest.stands_alone { "release" } else { "guest" };
    command.args(["--profile", profile]).env("CARGO_TARGET_DIR", &workspace.target);
    let manifest = guest.folder.join("Cargo.toml");
    let built = process::artifacts(&mut command)?
        .into_iter()
        .filter(|artifact| artifact.manifest_path == manifest)
        .flat_map(|artifact| artifact.filenames)
        .find(|file| file.extension().is_some_and(|extension| extension == "wasm"));
    let Some(built) = built else {
        bail!("`{}` made no .wasm file; its library needs `crate-type = [\"cdylib\"]`", process::line(&command));
    };
    copy_if_changed(&built, &guest.component)
}

/// Leaves the file alone when it has the content already: the host is built anew whenever an embedded plugin's time changes.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let new = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    // Renamed into place: who reads it at this moment sees the old or the new component, never a part.
    let part = to.with_extension("wasm.part");
    fs::write(&part, new).and_then(|()| fs::rename(&part, to)).with_context(|| format!("cannot write {}", to.display()))
}

/// The guests of the workspace, in the order of their folders.
pub(crate) fn discover(workspace: &Workspace, which: Which) -> Result<Vec<Guest>> {
    let mut guests = members(&workspace.root, &workspace.members, which)?;
    if which == Which::All {
        for folder in folders(&workspace.root.join("examples"), "Cargo.toml")? {
            let packages = metadata(&folder, &["--no-deps"])?.packages;
            let package = packages.iter().find(|package| package.is_guest() && package.folder() == folder);
            guests.extend(package.map(|package| guest(package, true)).transpose()?);
        }
    }
    Ok(guests)
}

fn members(root: &Path, packages: &[Package], which: Which) -> Result<Vec<Guest>> {
    let mut guests = Vec::new();
    for package in packages.iter().filter(|package| package.is_guest()) {
        let folder = package.folder();
        let wanted = folder.starts_with(root.join("plugins"))
            || (which == Which::All && folder.starts_with(root.join("tests/guests")));
        if wanted {
            guests.push(guest(package, false)?);
        }
    }
    guests.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(guests)
}

fn guest(package: &Package, stands_alone: bool) -> Result<Guest> {
    let folder = package.folder().to_owned();
    let name = plugin_name(&folder)?;
    Ok(Guest { package: package.name.clone(), component: folder.join(format!("{name}.wasm")), folder, stands_alone })
}

/// The name in `plugin.toml`; a guest without one (some tests bring their own) has the name of its folder.
fn plugin_name(folder: &Path) -> Result<String> {
    #[derive(Deserialize)]
    struct Manifest {
        name: String,
    }
    let file = folder.join("plugin.toml");
    if file.exists() {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let manifest: Manifest =
            toml::from_str(&text).with_context(|| format!("{} has no usable `name`", file.display()))?;
        if manifest.name.is_empty() || manifest.name.contains(['/', '\\', '\0']) || manifest.name.starts_with('.') {
            bail!("{}: `{}` is no name that can be a file's", file.display(), manifest.name);
        }
        return Ok(manifest.name);
    }
    let name = folder.file_name().and_then(|name| name.to_str()).context("a guest's folder has no name in UTF-8")?;
    Ok(name.to_owned())
}

/// The folders in `parent` that have a certain file, in order; none when there is no `parent`.
pub(crate) fn folders(parent: &Path, file: &str) -> Result<Vec<PathBuf>> {
    if !parent.is_dir() {
        return Ok(Vec::new());
    }
    let mut folders = Vec::new();
    for entry in fs::read_dir(parent).with_context(|| format!("cannot list {}", parent.display()))? {
        let folder = entry?.path();
        if folder.join(file).is_file() {
            folders.push(folder);
        }
    }
    folders.sort();
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Target;

    /// A folder under the system's temporary one, removed in the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("xtask-guests-{}-{name}", std::process::id()));
            fs::create_dir_all(&folder).expect("creates");
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn package(root: &Path, folder: &str, name: &str, kind: &str) -> Package {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).expect("creates");
        Package {
            id: name.to_owned(),
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            license: None,
            source: None,
            manifest_path: folder.join("Cargo.toml"),
            dependencies: Vec::new(),
            targets: vec![Target { kind: vec![kind.to_owned()] }],
        }
    }

    #[test]
    fn components_are_named_by_the_manifest_and_others_are_left_out() {
        let root = Folder::new("discovery");
        let packages = [
            package(&root.0, "tests/guests/echo", "guest-echo", "cdylib"),
            package(&root.0, "plugins/weather", "plugin-weather", "cdylib"),
            package(&root.0, "plugins/files", "plugin-files", "cdylib"),
            package(&root.0, "host/plan", "compozy-plan", "lib"),
            package(&root.0, "host/odd", "odd", "cdylib"),
        ];
        fs::write(root.0.join("plugins/weather/plugin.toml"), "name = \"climate\"\n[limits]\n").expect("writes");
        let component = |which| {
            let guests = members(&root.0, &packages, which).expect("discovers");
            guests
                .iter()
                .map(|guest| guest.component.strip_prefix(&root.0).expect("below the root").display().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(component(Which::Plugins), ["plugins/files/files.wasm", "plugins/weather/climate.wasm"]);
        assert_eq!(
            component(Which::All),
            ["plugins/files/files.wasm", "plugins/weather/climate.wasm", "tests/guests/echo/echo.wasm"]
        );
    }

    #[test]
    fn a_manifest_cannot_name_a_file_elsewhere() {
        let root = Folder::new("names");
        for text in ["name = \"../x\"", "name = \"\"", "name = \".x\"", "version = \"1\"", "name = 1"] {
            fs::write(root.0.join("plugin.toml"), text).expect("writes");
            let error = plugin_name(&root.0).expect_err(text).to_string();
            assert!(error.contains("plugin.toml"), "{error}");
        }
    }

    #[test]
    fn an_unchanged_component_keeps_its_time() {
        let root = Folder::new("copies");
        let (from, to) = (root.0.join("from.wasm"), root.0.join("to.wasm"));
        fs::write(&from, "one").expect("writes");
        copy_if_changed(&from, &to).expect("copies");
        let old = std::time::SystemTime::UNIX_EPOCH;
        fs::File::options().append(true).open(&to).and_then(|file| file.set_modified(old)).expect("sets the time");
        copy_if_changed(&from, &to).expect("copies");
        assert_eq!(fs::metadata(&to).and_then(|data| data.modified()).expect("has a time"), old);
        fs::write(&from, "two").expect("writes");
        copy_if_changed(&from, &to).expect("copies");
        assert_eq!(fs::read_to_string(&to).expect("reads"), "two");
    }
}
