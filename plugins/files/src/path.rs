//! Paths that may be asked for.

use std::fmt;

use compozy_sdk::TaskError;

/// Longest path, in bytes.
const PATH_BYTES_MAX: usize = 1024;
/// Longest name between two slashes, in bytes; leaves room for the name of a temporary file.
const NAME_BYTES_MAX: usize = 200;
/// Folders above a file.
const DEPTH_MAX: usize = 16;

/// A relative path without `.` and `..`. The default is the granted folder itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SafePath {
    names: Vec<String>,
}

impl SafePath {
    /// The names from the granted folder down.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }
}

impl fmt::Display for SafePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names.join("/"))
    }
}

/// Checks a path.
pub(crate) fn parse(path: &str) -> Result<SafePath, TaskError> {
    let refuse = |why: String| Err(TaskError::failed("PATH_NOT_ALLOWED", format!("the path `{}` {why}", shown(path))));
    if path.is_empty() {
        return refuse("is empty; name a file, for example `report.txt`".into());
    }
    if path.len() > PATH_BYTES_MAX {
        return refuse(format!("is {} bytes long; at most {PATH_BYTES_MAX} are allowed", path.len()));
    }
    if path.starts_with('/') {
        return refuse("is absolute; paths are relative to the granted folder".into());
    }
    if let Some(bad) = path.chars().find(|letter| letter.is_control() || *letter == '\\') {
        return refuse(format!("has the character {bad:?} in it; use letters, digits and `/` between folders"));
    }
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" => return refuse("has an empty name in it; write one `/` between two names".into()),
            "." => {}
            ".." => return refuse("has `..` in it; nothing outside the granted folder can be reached".into()),
            name if name.len() > NAME_BYTES_MAX => {
                return refuse(format!("has a name of {} bytes; at most {NAME_BYTES_MAX} are allowed", name.len()));
            }
            name => names.push(name.to_owned()),
        }
    }
    if names.is_empty() {
        return refuse("names the granted folder itself, not something in it".into());
    }
    if names.len() > DEPTH_MAX + 1 {
        return refuse(format!("lies {} folders deep; at most {DEPTH_MAX} are allowed", names.len() - 1));
    }
    Ok(SafePath { names })
}

/// The beginning of a path, for messages.
fn shown(path: &str) -> String {
    let mut letters = path.chars();
    let mut shown: String = letters.by_ref().take(100).collect();
    if letters.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_relative_paths_are_allowed() {
        for (path, expected) in
            [("a.txt", "a.txt"), ("./a/./b c.txt", "a/b c.txt"), ("São/läs.md", "São/läs.md"), ("..a/b..", "..a/b..")]
        {
            assert_eq!(parse(path).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn other_paths_are_refused_with_the_reason() {
        let deep = "d/".repeat(DEPTH_MAX + 1) + "f";
        for (path, reason) in [
            ("", "is empty"),
            ("/etc/passwd", "is absolute"),
            ("..", "has `..`"),
            ("a/../../b", "has `..`"),
            ("a//b", "an empty name"),
            ("a/", "an empty name"),
            (".", "names the granted folder itself"),
            ("a\\b", "'\\\\'"),
            ("a\0b", "'\\0'"),
            (&"x".repeat(PATH_BYTES_MAX + 1), "is 1025 bytes long; at most 1024 are allowed"),
            (&"x".repeat(NAME_BYTES_MAX + 1), "a name of 201 bytes; at most 200 are allowed"),
            (&deep, "lies 17 folders deep; at most 16 are allowed"),
        ] {
            let error = parse(path).unwrap_err();
            assert_eq!(error.code(), "PATH_NOT_ALLOWED");
            assert!(error.message().contains(reason), "{path}: {error}");
            assert!(!error.is_retryable());
        }
    }

    #[test]
    fn the_deepest_path_is_allowed() {
        assert!(parse(&("d/".repeat(DEPTH_MAX) + "f")).is_ok());
    }
}
