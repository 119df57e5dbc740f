//! Where the program is.

use std::path::{Path, PathBuf};

use crate::DevServerError;

/// The program's name.
const PROGRAM: &str = "temporal";
/// What to do when there is none.
pub const INSTALL: &str = "install the Temporal CLI (macOS: `brew install temporal`; others: https://docs.temporal.io/cli) so that `temporal` is on \
                           the PATH, or configure the path of the program";

/// The program: the path that was given, otherwise `temporal` on the PATH.
pub fn program(given: Option<&Path>) -> Result<PathBuf, DevServerError> {
    match given {
        Some(path) if path.is_file() => Ok(path.to_path_buf()),
        Some(path) => Err(DevServerError::ProgramMissing { path: path.to_path_buf() }),
        None => on_path().ok_or(DevServerError::ProgramNotFound),
    }
}

/// `temporal` on the PATH.
pub fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(PROGRAM)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_was_given_counts_alone() {
        let missing = Path::new("/nowhere/temporal");
        let error = program(Some(missing)).unwrap_err();
        assert_eq!(error, DevServerError::ProgramMissing { path: missing.to_path_buf() });
        assert!(error.to_string().contains("`/nowhere/temporal`"), "{error}");
        let own = std::env::current_exe().unwrap();
        assert_eq!(program(Some(&own)).unwrap(), own);
    }
}
