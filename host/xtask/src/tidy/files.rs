//! The files of the repository: what git tracks or would, else everything that is not a result of building.

use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context, Result};

use crate::process;

/// Folders that are never of the repository.
const SKIPPED: [&str; 3] = ["target", ".git", ".compozy"];

/// All files, as paths below the root, in order.
pub(super) fn all(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = match git(root) {
        Some(files) => files,
        None => walk(root).with_context(|| format!("cannot list {}", root.display()))?,
    };
    files.sort();
    Ok(files)
}

/// The text of a file; `None` when it is not text, a link, or deleted and still in git's list.
pub(super) fn text(root: &Path, file: &Path) -> Result<Option<String>> {
    if fs::symlink_metadata(root.join(file)).is_ok_and(|data| data.is_symlink()) {
        return Ok(None);
    }
    match fs::read(root.join(file)) {
        Ok(bytes) => Ok(String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// `None` where this is no git checkout, or a folder inside a checkout of something else.
fn git(root: &Path) -> Option<Vec<PathBuf>> {
    if !root.join(".git").exists() {
        return None;
    }
    let mut command = process::program("git", root);
    command.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let text = process::output(&mut command).ok()?;
    Some(text.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect())
}

fn walk(root: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                if !SKIPPED.iter().any(|name| entry.file_name() == *name) {
                    folders.push(path);
                }
            } else if entry.file_type()?.is_file() {
                files.push(path);
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_git_the_folder_is_walked_and_results_of_building_are_left_out() {
        let root = std::env::temp_dir().join(format!("xtask-files-{}", std::process::id()));
        for file in ["a.rs", "b/c.rs", "target/debug/x.rs", "b/.compozy/journal.db"] {
            let file = root.join(file);
            fs::create_dir_all(file.parent().expect("has a folder")).expect("creates");
            fs::write(file, "x").expect("writes");
        }
        assert_eq!(all(&root).expect("lists"), [PathBuf::from("a.rs"), PathBuf::from("b/c.rs")]);
        fs::write(root.join("a.rs"), [0xff, 0x00]).expect("writes");
        assert_eq!(text(&root, Path::new("a.rs")).expect("reads"), None);
        std::os::unix::fs::symlink("b", root.join("link")).expect("links");
        assert_eq!(text(&root, Path::new("link")).expect("reads"), None);
        assert_eq!(text(&root, Path::new("gone.rs")).expect("reads"), None);
        assert_eq!(text(&root, Path::new("b/c.rs")).expect("reads").as_deref(), Some("x"));
        fs::remove_dir_all(&root).expect("removes");
    }
}
