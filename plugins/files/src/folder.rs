//! The granted folder.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use compozy_sdk::TaskError;
use serde::Serialize;

use crate::path::SafePath;

/// Where the host shows the folder to the plugin; `plugin.toml` asks for this.
pub(crate) const GUEST_PATH: &str = "/data";
/// Largest file that is read or written, in bytes. As JSON text it must fit a task's input and output.
const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Most entries of one listing.
const LIST_ENTRIES_MAX: usize = 10_000;

/// The granted folder.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
}

/// One entry of a listing.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Size of a file; 0 for anything else.
    pub(crate) bytes: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    File,
    Folder,
    /// A symbolic link or a device: shown, never followed.
    Other,
}

impl Kind {
    fn of(metadata: &Metadata) -> Self {
        match metadata.file_type() {
            kind if kind.is_file() => Self::File,
            kind if kind.is_dir() => Self::Folder,
            _ => Self::Other,
        }
    }
}

impl Folder {
    /// The folder that the operator granted.
    pub(crate) fn granted() -> Result<Self, TaskError> {
        Self::at(Path::new(GUEST_PATH))
    }

    pub(crate) fn at(root: &Path) -> Result<Self, TaskError> {
        if fs::metadata(root).is_ok_and(|metadata| metadata.is_dir()) {
            return Ok(Self { root: root.to_owned() });
        }
        Err(TaskError::failed(
            "FOLDER_NOT_GRANTED",
            format!(
                "no folder was granted to this plugin. Grant one in compozy.yaml: \
                 plugins: {{ files: {{ grant: {{ folders: [{{ guest: {GUEST_PATH}, host: ./results, access: read-write }}] }} }} }}"
            ),
        ))
    }

    /// Writes a file so that a reader sees the old content or the new one, and nothing between.
    ///
    /// The temporary file is named after `key`: an attempt that is repeated writes over what the last one left behind.
    pub(crate) fn write(&self, path: &SafePath, content: &[u8], key: &str) -> Result<(), TaskError> {
        if content.len() as u64 > FILE_BYTES_MAX {
            return Err(too_large(path, content.len() as u64));
        }
        let (name, folders) = path.names().split_last().expect("a path that was parsed has a name");
        let mut folder = self.root.clone();
        for (depth, part) in folders.iter().enumerate() {
            folder.push(part);
            match fs::symlink_metadata(&folder) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) => return Err(not_a_folder(&folders[..=depth].join("/"))),
                Err(error) if error.kind() == ErrorKind::NotFound => match fs::create_dir(&folder) {
                    // Somebody else may have made it at the same moment.
                    Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                        return Err(failure("make a folder for", path, &error));
                    }
                    _ => {}
                },
                Err(error) => return Err(failure("look for", path, &error)),
            }
        }
        let target = folder.join(name);
        match fs::symlink_metadata(&target) {
            Ok(metadata) if !metadata.is_file() => return Err(not_a_file(path)),
            _ => {}
        }
        let temporary = folder.join(format!(".{name}.{:016x}.tmp", hash(key)));
        let written = replace(&temporary, &target, content);
        if written.is_err() {
            // The write failed and is told; a file that stays behind is written over by the next attempt.
            let _ = fs::remove_file(&temporary);
        }
        written.map_err(|error| failure("write", path, &error))
    }

    pub(crate) fn read(&self, path: &SafePath) -> Result<String, TaskError> {
        let (target, metadata) = self.find(path)?;
        if !metadata.is_file() {
            return Err(not_a_file(path));
        }
        if metadata.len() > FILE_BYTES_MAX {
            return Err(too_large(path, metadata.len()));
        }
        let mut bytes = Vec::new();
        let file = File::open(target).map_err(|error| failure("read", path, &error))?;
        // The file may have grown since it was looked at.
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| failure("read", path, &error))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(too_large(path, bytes.len() as u64));
        }
        String::from_utf8(bytes).map_err(|error| {
            let position = error.utf8_error().valid_up_to();
            TaskError::failed("NOT_TEXT", format!("`{path}` is not a text file: byte {position} is not UTF-8"))
        })
    }

    pub(crate) fn list(&self, path: &SafePath) -> Result<Vec<Entry>, TaskError> {
        let (target, metadata) = self.find(path)?;
        if !metadata.is_dir() {
            return Err(not_a_folder(&path.to_string()));
        }
        let mut entries = Vec::new();
        for entry in fs::read_dir(target).map_err(|error| failure("list", path, &error))? {
            let entry = entry.map_err(|error| failure("list", path, &error))?;
            if entries.len() == LIST_ENTRIES_MAX {
                let message = format!("`{path}` has more than {LIST_ENTRIES_MAX} entries; put files into folders");
                return Err(TaskError::failed("LIST_TOO_LARGE", message));
            }
            // An entry that was deleted meanwhile is none.
            let Ok(metadata) = fs::symlink_metadata(entry.path()) else { continue };
            let kind = Kind::of(&metadata);
            let bytes = if kind == Kind::File { metadata.len() } else { 0 };
            entries.push(Entry { name: entry.file_name().to_string_lossy().into_owned(), kind, bytes });
        }
        entries.sort();
        Ok(entries)
    }

    /// True when there was a file.
    pub(crate) fn delete(&self, path: &SafePath) -> Result<bool, TaskError> {
        let (target, metadata) = match self.find(path) {
            Ok(found) => found,
            Err(error) if error.code() == FILE_NOT_FOUND => return Ok(false),
            Err(error) => return Err(error),
        };
        if !metadata.is_file() {
            return Err(not_a_file(path));
        }
        match fs::remove_file(target) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failure("delete", path, &error)),
        }
    }

    /// What is there, going through folders only: a symbolic link on the way is refused, wherever it points to.
    fn find(&self, path: &SafePath) -> Result<(PathBuf, Metadata), TaskError> {
        let mut place = self.root.clone();
        let mut metadata = fs::symlink_metadata(&place).map_err(|error| failure("look for", path, &error))?;
        for (depth, name) in path.names().iter().enumerate() {
            if depth > 0 && !metadata.is_dir() {
                return Err(not_a_folder(&path.names()[..depth].join("/")));
            }
            place.push(name);
            metadata = fs::symlink_metadata(&place).map_err(|error| failure("look for", path, &error))?;
        }
        Ok((place, metadata))
    }
}

fn replace(temporary: &Path, target: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(temporary)?;
    file.write_all(content)?;
    // Before the rename, or a power cut could leave an empty file under the final name.
    file.sync_all()?;
    drop(file);
    fs::rename(temporary, target)
}

/// FNV-1a: no secret is kept by it, it only keeps the names of temporary files apart.
fn hash(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The code that [`Folder::delete`] takes for an answer.
const FILE_NOT_FOUND: &str = "FILE_NOT_FOUND";

fn not_a_file(path: &SafePath) -> TaskError {
    TaskError::failed("NOT_A_FILE", format!("`{path}` is a folder or a link, not a file"))
}

fn not_a_folder(path: &str) -> TaskError {
    TaskError::failed("NOT_A_FOLDER", format!("`{path}` is a file or a link, not a folder"))
}

fn too_large(path: &SafePath, bytes: u64) -> TaskError {
    TaskError::failed(
        "FILE_TOO_LARGE",
        format!("`{path}` is {bytes} bytes large; at most {FILE_BYTES_MAX} are allowed"),
    )
}

fn failure(what: &str, path: &SafePath, error: &io::Error) -> TaskError {
    let message = format!("could not {what} `{path}`: {error}");
    match error.kind() {
        ErrorKind::NotFound => TaskError::failed(FILE_NOT_FOUND, format!("there is no `{path}` in the granted folder")),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => TaskError::failed(
            "ACCESS_DENIED",
            format!("{message}. The folder is granted read-only, or the host's user may not do it"),
        ),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => TaskError::unavailable("DISK_FULL", message),
        _ => TaskError::unavailable("IO_ERROR", message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::parse;

    struct Granted {
        folder: Folder,
        directory: tempfile::TempDir,
    }

    fn granted() -> Granted {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("granted");
        fs::create_dir(&root).unwrap();
        Granted { folder: Folder::at(&root).unwrap(), directory }
    }

    impl Granted {
        fn write(&self, path: &str, content: &str) -> Result<(), TaskError> {
            self.folder.write(&parse(path).unwrap(), content.as_bytes(), "key")
        }

        fn read(&self, path: &str) -> Result<String, TaskError> {
            self.folder.read(&parse(path).unwrap())
        }

        fn names(&self, path: &str) -> Vec<String> {
            let path = if path.is_empty() { SafePath::default() } else { parse(path).unwrap() };
            self.folder.list(&path).unwrap().into_iter().map(|entry| entry.name).collect()
        }
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else_is_left() {
        let granted = granted();
        granted.write("a/b/c.txt", "one").unwrap();
        granted.write("a/b/c.txt", "two").unwrap();
        granted.write("a/empty", "").unwrap();
        assert_eq!(
            (granted.read("a/b/c.txt").unwrap().as_str(), granted.read("a/empty").unwrap().as_str()),
            ("two", "")
        );
        assert_eq!(
            (granted.names("a/b"), granted.names("a"), granted.names("")),
            (vec!["c.txt".into()], vec!["b".into(), "empty".into()], vec!["a".into()])
        );
    }

    #[test]
    fn a_listing_tells_kinds_and_sizes() {
        let granted = granted();
        granted.write("f.txt", "four").unwrap();
        granted.write("d/f", "").unwrap();
        let entries = granted.folder.list(&SafePath::default()).unwrap();
        assert_eq!(
            entries,
            [
                Entry { name: "d".into(), kind: Kind::Folder, bytes: 0 },
                Entry { name: "f.txt".into(), kind: Kind::File, bytes: 4 }
            ]
        );
    }

    #[test]
    fn deleting_tells_whether_there_was_something() {
        let granted = granted();
        granted.write("f", "x").unwrap();
        let path = parse("f").unwrap();
        assert!(granted.folder.delete(&path).unwrap());
        assert!(!granted.folder.delete(&path).unwrap());
        assert_eq!(granted.folder.delete(&parse("d/f").unwrap()).ok(), Some(false));
    }

    #[test]
    fn links_are_never_followed() {
        let granted = granted();
        let outside = granted.directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink(&outside, granted.folder.root.join("link")).unwrap();
        std::os::unix::fs::symlink(outside.join("secret"), granted.folder.root.join("file")).unwrap();

        assert_eq!(granted.read("link/secret").unwrap_err().code(), "NOT_A_FOLDER");
        assert_eq!(granted.read("file").unwrap_err().code(), "NOT_A_FILE");
        assert_eq!(granted.write("link/new", "x").unwrap_err().code(), "NOT_A_FOLDER");
        assert_eq!(granted.write("file", "x").unwrap_err().code(), "NOT_A_FILE");
        assert_eq!(granted.folder.list(&parse("link").unwrap()).unwrap_err().code(), "NOT_A_FOLDER");
        assert_eq!(granted.folder.delete(&parse("link/secret").unwrap()).unwrap_err().code(), "NOT_A_FOLDER");
        assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "secret");
        assert_eq!(fs::read_dir(outside).unwrap().count(), 1);
    }

    #[test]
    fn what_does_not_fit_is_told_with_its_size_and_leaves_nothing() {
        let granted = granted();
        let error = granted.write("large", &"x".repeat(FILE_BYTES_MAX as usize + 1)).unwrap_err();
        assert_eq!(error.to_string(), "FILE_TOO_LARGE: `large` is 2097153 bytes large; at most 2097152 are allowed");
        fs::write(granted.folder.root.join("large"), "x".repeat(FILE_BYTES_MAX as usize + 1)).unwrap();
        assert_eq!(granted.read("large").unwrap_err().code(), "FILE_TOO_LARGE");
        assert!(granted.write("full", &"x".repeat(FILE_BYTES_MAX as usize)).is_ok());
    }

    #[test]
    fn what_is_not_there_and_what_is_not_text_is_told() {
        let granted = granted();
        assert_eq!(
            granted.read("no").unwrap_err().to_string(),
            "FILE_NOT_FOUND: there is no `no` in the granted folder"
        );
        fs::write(granted.folder.root.join("b"), b"ab\xff").unwrap();
        assert_eq!(granted.read("b").unwrap_err().to_string(), "NOT_TEXT: `b` is not a text file: byte 2 is not UTF-8");
        granted.write("f", "x").unwrap();
        assert_eq!(granted.write("f/g", "x").unwrap_err().code(), "NOT_A_FOLDER");
        assert_eq!(granted.read("f/g").unwrap_err().code(), "NOT_A_FOLDER");
    }

    #[test]
    fn only_what_may_pass_is_retryable() {
        let path = parse("f").unwrap();
        for (kind, code, retryable) in [
            (ErrorKind::PermissionDenied, "ACCESS_DENIED", false),
            (ErrorKind::ReadOnlyFilesystem, "ACCESS_DENIED", false),
            (ErrorKind::StorageFull, "DISK_FULL", true),
            (ErrorKind::Other, "IO_ERROR", true),
        ] {
            let error = failure("write", &path, &io::Error::from(kind));
            assert_eq!((error.code(), error.is_retryable()), (code, retryable));
        }
    }
}
