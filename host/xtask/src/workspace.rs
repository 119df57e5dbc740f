//! What cargo knows about this repository.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process;

/// The checkout and its packages.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The folder of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// The one folder for everything that is compiled.
    pub(crate) target: PathBuf,
    /// The members' packages, without their dependencies.
    pub(crate) members: Vec<Package>,
}

/// The answer of `cargo metadata`, as far as it is of interest.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    target_directory: PathBuf,
    workspace_root: PathBuf,
    pub(crate) resolve: Option<Resolve>,
}

/// One package.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    /// `None` for the packages of this repository.
    pub(crate) source: Option<String>,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
}

/// A dependency as the manifest declares it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `dev` for tests, `build` for build scripts.
    #[serde(default)]
    pub(crate) kind: Option<String>,
}

/// A library, program, test and so on of a package.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Target {
    pub(crate) kind: Vec<String>,
}

/// What the declared dependencies came to.
#[derive(Debug, Deserialize)]
pub(crate) struct Resolve {
    pub(crate) nodes: Vec<Node>,
}

/// One package that is really used.
#[derive(Debug, Deserialize)]
pub(crate) struct Node {
    pub(crate) id: String,
}

impl Package {
    /// The folder of its manifest.
    pub(crate) fn folder(&self) -> &Path {
        self.manifest_path.parent().expect("a manifest lies in a folder")
    }

    /// Whether it is built into a WebAssembly component.
    pub(crate) fn is_guest(&self) -> bool {
        self.targets.iter().any(|target| target.kind.iter().any(|kind| kind == "cdylib"))
    }
}

impl Workspace {
    /// Asks cargo about the repository that xtask was built from.
    pub(crate) fn load() -> Result<Self> {
        let own =
            env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let metadata = metadata(&own, &["--no-deps"])?;
        Ok(Self { root: metadata.workspace_root, target: metadata.target_directory, members: metadata.packages })
    }

    /// Asks cargo about all packages that the host or a plugin is made of. May need the network once.
    pub(crate) fn with_dependencies(&self) -> Result<Metadata> {
        let verbose = process::output(process::program("rustc", &self.root).arg("-vV"))?;
        let host = verbose.lines().find_map(|line| line.strip_prefix("host: ")).context("`rustc -vV` names no host")?;
        metadata(&self.root, &["--filter-platform", host, "--filter-platform", crate::setup::GUEST_TARGET])
    }
}

/// Runs `cargo metadata` in a folder.
pub(crate) fn metadata(folder: &Path, options: &[&str]) -> Result<Metadata> {
    let text = process::output(process::cargo(folder).args(["metadata", "--format-version", "1"]).args(options))?;
    serde_json::from_str(&text).context("cargo answered `cargo metadata` in a form that xtask does not know")
}
