//! Which plugins there are: built-ins, and folders that take their place.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::LoadError;
use crate::limits::Limit;
use crate::manifest::{self, MANIFEST_BYTES_MAX, Manifest};
use crate::plugin::Source;
use crate::runtime::RuntimeOptions;

const MANIFEST_FILE: &str = "plugin.toml";
/// Sub-folders of one plugin folder.
const FOLDERS_MAX: usize = 1_000;

/// A plugin whose manifest can be read and whose component is in memory.
pub(crate) struct Candidate {
    pub(super) manifest: Manifest,
    /// The manifest as it is written.
    pub(super) text: Cow<'static, str>,
    pub(super) wasm: Cow<'static, [u8]>,
    pub(super) source: Source,
    pub(super) replaces_builtin: bool,
}

impl Candidate {
    /// How people find it.
    pub(super) fn place(&self) -> String {
        match &self.source {
            Source::Builtin => builtin_place(&self.manifest.name),
            Source::Folder(path) => path.display().to_string(),
        }
    }
}

fn builtin_place(name: &str) -> String {
    format!("the built-in plugin `{name}`")
}

/// A build that was kept in `place`. The error is one sentence.
pub(crate) fn candidate(text: String, wasm: Vec<u8>, place: PathBuf) -> Result<Candidate, String> {
    let manifest = manifest::parse(&text).map_err(|problems| invalid(place.display(), &problems).message)?;
    let (text, wasm) = (Cow::Owned(text), Cow::Owned(wasm));
    Ok(Candidate { manifest, text, wasm, source: Source::Folder(place), replaces_builtin: false })
}

/// All candidates, by name.
pub(super) fn candidates(options: &RuntimeOptions, errors: &mut Vec<LoadError>) -> Vec<Candidate> {
    let mut found: BTreeMap<String, Candidate> = BTreeMap::new();
    for builtin in &options.builtins {
        match manifest::parse(&builtin.manifest) {
            Ok(manifest) => {
                let name = manifest.name.clone();
                let wasm = builtin.component.clone();
                let (text, source) = (builtin.manifest.clone(), Source::Builtin);
                let candidate = Candidate { manifest, text, wasm, source, replaces_builtin: false };
                found.insert(name, candidate);
            }
            Err(problems) => errors.push(invalid("a built-in plugin", &problems)),
        }
    }
    for folder in folders(&options.plugin_dirs, errors) {
        let Some((manifest, text, wasm)) = read(&folder, errors) else { continue };
        let name = manifest.name.clone();
        let replaces_builtin = match found.get(&name) {
            None => false,
            Some(Candidate { source: Source::Builtin, .. }) => true,
            Some(Candidate { source: Source::Folder(first), .. }) => {
                let message = format!(
                    "two plugins have the name `{name}`: `{}` and `{}`; rename or remove one",
                    first.display(),
                    folder.display()
                );
                errors.push(LoadError::new("PLUGIN_DUPLICATE", folder.display(), message).of(&name));
                continue;
            }
        };
        found.insert(name, Candidate { manifest, text, wasm, source: Source::Folder(folder), replaces_builtin });
    }
    found.into_values().collect()
}

/// The plugins' own folders, in a fixed order.
fn folders(plugin_dirs: &[PathBuf], errors: &mut Vec<LoadError>) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for dir in plugin_dirs {
        if dir.join(MANIFEST_FILE).is_file() {
            folders.push(dir.clone());
            continue;
        }
        match sub_folders(dir) {
            Ok(sub_folders) if sub_folders.len() > FOLDERS_MAX => {
                let message = format!("it has {} sub-folders, allowed are {FOLDERS_MAX}", sub_folders.len());
                errors.push(LoadError::new("PLUGIN_FOLDER_UNREADABLE", dir.display(), message));
            }
            Ok(sub_folders) => folders.extend(sub_folders.into_iter().filter(|folder| is_plugin(folder, errors))),
            Err(error) => {
                let message = format!("the folder of plugins cannot be read: {error}");
                errors.push(LoadError::new("PLUGIN_FOLDER_UNREADABLE", dir.display(), message));
            }
        }
    }
    // The same folder by two ways is one plugin.
    folders.sort();
    folders.dedup_by_key(|folder| folder.canonicalize().unwrap_or_else(|_| folder.clone()));
    folders
}

fn sub_folders(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !hidden && entry.path().is_dir() {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}

/// A folder without a manifest is none of ours, unless it holds a component.
fn is_plugin(folder: &Path, errors: &mut Vec<LoadError>) -> bool {
    if folder.join(MANIFEST_FILE).exists() {
        return true;
    }
    let is_wasm = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| entry.path().extension().is_some_and(|extension| extension == "wasm"))
    };
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.any(is_wasm)) {
        let message =
            format!("there is a .wasm file but no `{MANIFEST_FILE}` beside it; write one with `name` and `version`");
        errors.push(LoadError::new("PLUGIN_MANIFEST_MISSING", folder.display(), message));
    }
    false
}

fn read(folder: &Path, errors: &mut Vec<LoadError>) -> Option<(Manifest, Cow<'static, str>, Cow<'static, [u8]>)> {
    let path = folder.join(MANIFEST_FILE);
    let (manifest, text) = match read_file(&path, MANIFEST_BYTES_MAX as u64).map(String::from_utf8) {
        Ok(Ok(text)) => match manifest::parse(&text) {
            Ok(manifest) => (manifest, Cow::Owned(text)),
            Err(problems) => {
                errors.push(invalid(path.display(), &problems));
                return None;
            }
        },
        Ok(Err(_)) => {
            errors.push(LoadError::new("PLUGIN_MANIFEST_INVALID", path.display(), "it is not UTF-8"));
            return None;
        }
        Err(Unreadable::TooLarge(bytes)) => {
            let message = format!("it has {bytes} bytes, allowed are {MANIFEST_BYTES_MAX}");
            errors.push(LoadError::new("PLUGIN_MANIFEST_INVALID", path.display(), message));
            return None;
        }
        Err(Unreadable::Io(error)) => {
            errors.push(LoadError::new(
                "PLUGIN_MANIFEST_INVALID",
                path.display(),
                format!("it cannot be read: {error}"),
            ));
            return None;
        }
    };
    let path = folder.join(&manifest.component);
    let allowed = Limit::ComponentBytes.spec().default;
    let error = match read_file(&path, allowed) {
        Ok(wasm) => return Some((manifest, text, Cow::Owned(wasm))),
        Err(Unreadable::TooLarge(bytes)) => {
            let advice = Limit::ComponentBytes.spec().advice;
            let message = format!("it has {bytes} bytes, allowed are {allowed} (`component_bytes`); {advice}");
            LoadError::new("PLUGIN_TOO_LARGE", path.display(), message)
        }
        Err(Unreadable::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            let message = "the component is missing: build the plugin and put it there, or name another file with `component` in plugin.toml";
            LoadError::new("PLUGIN_COMPONENT_MISSING", path.display(), message)
        }
        Err(Unreadable::Io(error)) => {
            LoadError::new("PLUGIN_COMPONENT_MISSING", path.display(), format!("the component cannot be read: {error}"))
        }
    };
    errors.push(error.of(&manifest.name));
    None
}

enum Unreadable {
    TooLarge(u64),
    Io(std::io::Error),
}

fn read_file(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Unreadable> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(Unreadable::Io)?;
    let bytes = file.metadata().map_err(Unreadable::Io)?.len();
    if bytes > bytes_max {
        return Err(Unreadable::TooLarge(bytes));
    }
    let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
    // A file may grow, and a device has no length.
    file.take(bytes_max + 1).read_to_end(&mut content).map_err(Unreadable::Io)?;
    if content.len() as u64 > bytes_max { Err(Unreadable::TooLarge(content.len() as u64)) } else { Ok(content) }
}

fn invalid(place: impl std::fmt::Display, problems: &[manifest::Problem]) -> LoadError {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    LoadError::new("PLUGIN_MANIFEST_INVALID", place, lines.join("; "))
}
