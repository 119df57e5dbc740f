//! A project and a data folder of a test's own.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The checkout.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("`tests` lies in the checkout")
}

/// A temporary folder with `project/`, `data/` and `plugins/`; gone when it is dropped.
#[derive(Debug)]
pub struct Sandbox {
    root: tempfile::TempDir,
}

impl Sandbox {
    /// Empty.
    pub fn new() -> Result<Self> {
        let root = tempfile::Builder::new().prefix("compozy-test-").tempdir()?;
        for folder in ["project", "plugins"] {
            fs::create_dir(root.path().join(folder))?;
        }
        Ok(Self { root })
    }

    /// With the workflows `tests/fixtures/workflows/<name>.yaml`; the plugin `echo` is granted the cache.
    pub fn with_workflows(names: &[&str]) -> Result<Self> {
        let sandbox = Self::new()?;
        let mut sources = String::new();
        for name in names {
            let from = checkout().join("tests/fixtures/workflows").join(format!("{name}.yaml"));
            let to = sandbox.project().join(format!("{name}.yaml"));
            fs::copy(&from, to).with_context(|| format!("copy {}", from.display()))?;
            writeln!(sources, "  - source: ./{name}.yaml")?;
        }
        let grants = "plugins:\n  echo:\n    grant: { stores: [cache] }\n";
        let project = format!("name: fixtures\nversion: 0.1.0\nworkflows:\n{sources}{grants}");
        sandbox.write("project/compozy.yaml", project)?;
        Ok(sandbox)
    }

    /// With a copy of `examples/<name>` as its project, so that what the example writes stays in the sandbox.
    pub fn with_example(name: &str) -> Result<Self> {
        let sandbox = Self::new()?;
        copy(&checkout().join("examples").join(name), &sandbox.project())?;
        Ok(sandbox)
    }

    /// The whole folder.
    pub fn root(&self) -> &Path {
        self.root.path()
    }
    /// The project's folder.
    pub fn project(&self) -> PathBuf {
        self.root.path().join("project")
    }
    /// The data folder; made by the host.
    pub fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }
    /// A plugin folder.
    pub fn plugins(&self) -> PathBuf {
        self.root.path().join("plugins")
    }

    /// Writes a file below the sandbox, with its folders.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.root.path().join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}

pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&source, &target)?;
        } else {
            fs::copy(&source, &target).with_context(|| format!("copy {}", source.display()))?;
        }
    }
    Ok(())
}
