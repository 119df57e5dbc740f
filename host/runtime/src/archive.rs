//! Builds of plugins that runs are bound to: component and manifest, kept by name and digest in the data folder, so that a
//! run goes on with the build that it began with after somebody has replaced the plugin's file.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::code_cache::hex;
use crate::limits::Limit;
use crate::manifest::MANIFEST_BYTES_MAX;

const MANIFEST_FILE: &str = "plugin.toml";
const COMPONENT_FILE: &str = "component.wasm";
/// A folder that is being written; what a crash leaves of one is removed at the next cleaning.
const PART: &str = ".part-";

/// Names one build: the plugin's name, and the SHA-256 of its component.
pub type Build = (String, String);

/// The folder `archive/<name>/<digest>/` with `plugin.toml` and `component.wasm`.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    folder: PathBuf,
}

/// A build as it was kept.
pub(crate) struct Kept {
    pub(crate) manifest: String,
    pub(crate) wasm: Vec<u8>,
}

impl Archive {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps a build. When this returns, a power cut cannot take it away.
    pub(crate) fn keep(&self, name: &str, digest: &str, manifest: &str, wasm: &[u8]) -> io::Result<()> {
        let place = self.place(name, digest);
        let size = |file: &str| fs::metadata(place.join(file)).map(|metadata| metadata.len()).ok();
        let whole = size(COMPONENT_FILE) == Some(wasm.len() as u64);
        if whole && fs::read_to_string(place.join(MANIFEST_FILE)).is_ok_and(|known| known == manifest) {
            return Ok(());
        }
        let parent = self.folder.join(name);
        fs::create_dir_all(&parent)?;
        let part = parent.join(format!("{PART}{}-{digest}", std::process::id()));
        remove(&part)?;
        fs::create_dir(&part)?;
        for (file, content) in [(MANIFEST_FILE, manifest.as_bytes()), (COMPONENT_FILE, wasm)] {
            let mut file = File::create(part.join(file))?;
            file.write_all(content)?;
            file.sync_all()?;
        }
        sync(&part)?;
        // An older manifest of the same component, or half a file.
        remove(&place)?;
        fs::rename(&part, &place)?;
        sync(&parent)?;
        sync(&self.folder)?;
        self.folder.parent().map_or(Ok(()), sync)
    }

    /// Reads a build. `None`: it is not here. The error says what is wrong with what is here.
    pub(crate) fn read(&self, name: &str, digest: &str) -> Result<Option<Kept>, String> {
        if !is_digest(digest) || name.is_empty() || name.contains(['/', '\\', '.', '\0']) {
            return Ok(None);
        }
        let place = self.place(name, digest);
        let read = |file: &str, bytes_max: u64| {
            let path = place.join(file);
            let size = fs::metadata(&path).map(|metadata| metadata.len());
            match size {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Ok(bytes) if bytes > bytes_max => {
                    Err(format!("`{}` has {bytes} bytes, allowed are {bytes_max}", path.display()))
                }
                Ok(_) => fs::read(&path).map(Some).map_err(|error| format!("`{}`: {error}", path.display())),
                Err(error) => Err(format!("`{}`: {error}", path.display())),
            }
        };
        let manifest = read(MANIFEST_FILE, MANIFEST_BYTES_MAX as u64)?;
        let wasm = read(COMPONENT_FILE, Limit::ComponentBytes.spec().max)?;
        let (Some(manifest), Some(wasm)) = (manifest, wasm) else { return Ok(None) };
        let found = hex(&Sha256::digest(&wasm));
        if found != digest {
            return Err(format!("`{}` was changed: its sha256 is {found}", place.join(COMPONENT_FILE).display()));
        }
        let manifest = String::from_utf8(manifest)
            .map_err(|_| format!("`{}` is not UTF-8", place.join(MANIFEST_FILE).display()))?;
        Ok(Some(Kept { manifest, wasm }))
    }

    /// Removes every build that is not to be kept. Answers how many.
    pub(crate) fn clean(&self, keep: &BTreeSet<Build>) -> io::Result<usize> {
        let mut removed = 0;
        for name in entries(&self.folder)? {
            for digest in entries(&self.folder.join(&name))? {
                let place = self.folder.join(&name).join(&digest);
                let build = (name.clone(), digest);
                if !keep.contains(&build) {
                    remove(&place)?;
                    removed += usize::from(!build.1.starts_with(PART));
                }
            }
            // Only when nothing is left in it.
            drop(fs::remove_dir(self.folder.join(&name)));
        }
        Ok(removed)
    }

    fn place(&self, name: &str, digest: &str) -> PathBuf {
        self.folder.join(name).join(digest)
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
}

fn entries(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(wasm: &[u8]) -> String {
        hex(&Sha256::digest(wasm))
    }

    #[test]
    fn a_build_is_kept_read_and_cleaned() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::new(&dir.path().join("archive"));
        let (old, new) = (digest(b"old"), digest(b"new"));
        archive.keep("p", &old, "m1", b"old").unwrap();
        archive.keep("p", &new, "m1", b"new").unwrap();
        archive.keep("p", &new, "m2", b"new").unwrap();
        let kept = archive.read("p", &new).unwrap().unwrap();
        assert_eq!((kept.manifest.as_str(), kept.wasm.as_slice()), ("m2", b"new".as_slice()));
        fs::create_dir(dir.path().join("archive/p/.part-1-x")).unwrap();
        let keep = BTreeSet::from([("p".to_owned(), old.clone()), ("q".to_owned(), new.clone())]);
        assert_eq!(archive.clean(&keep).unwrap(), 1);
        assert!(archive.read("p", &new).unwrap().is_none());
        assert_eq!(archive.read("p", &old).unwrap().unwrap().wasm, b"old");
        assert_eq!(entries(&dir.path().join("archive/p")).unwrap(), [old]);
        assert_eq!(archive.clean(&BTreeSet::new()).unwrap(), 1);
        assert!(entries(archive.folder()).unwrap().is_empty());
    }

    #[test]
    fn what_was_changed_is_refused_and_names_lead_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::new(dir.path());
        let name = digest(b"wasm");
        archive.keep("p", &name, "m", b"wasm").unwrap();
        fs::write(dir.path().join("p").join(&name).join(COMPONENT_FILE), b"evil").unwrap();
        let why = archive.read("p", &name).err().unwrap();
        assert!(why.contains("was changed"), "{why}");
        for (plugin, digest) in [("..", name.as_str()), ("p", "../../etc"), ("", &name), ("p/..", &name)] {
            assert!(archive.read(plugin, digest).unwrap().is_none(), "{plugin} {digest}");
        }
        // Half a file is written again.
        fs::write(dir.path().join("p").join(&name).join(COMPONENT_FILE), b"wa").unwrap();
        archive.keep("p", &name, "m", b"wasm").unwrap();
        assert_eq!(archive.read("p", &name).unwrap().unwrap().wasm, b"wasm");
    }
}
