//! How the process ends: one declared table for code, `--help` and tests.

use std::process::ExitCode;

/// Why the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked for was done.
    Ok = 0,
    /// The workflow failed, or what was checked is not in order.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The project, a plugin or an option's value cannot be used.
    Setup = 3,
    /// Another host works on the data folder.
    DataFolderInUse = 4,
    /// The data folder or its journal cannot be written or read.
    StorageUnavailable = 5,
    /// The run did not end within `--timeout`.
    TimedOut = 6,
    /// Stopped by a signal before the work was done.
    Interrupted = 130,
}

/// Every code and its meaning.
pub(crate) const TABLE: [(Exit, &str); 8] = [
    (Exit::Ok, "done; the workflow succeeded; nothing wrong was found"),
    (Exit::Failed, "the workflow failed, or what was checked is not in order"),
    (Exit::Usage, "the command line is wrong"),
    (Exit::Setup, "the project, a plugin or the value of an option cannot be used"),
    (Exit::DataFolderInUse, "another host works on the data folder"),
    (Exit::StorageUnavailable, "the data folder cannot be written or read"),
    (Exit::TimedOut, "the run did not end within --timeout; it goes on when a host next opens the data folder"),
    (Exit::Interrupted, "stopped by a signal; what was not done goes on at the next start"),
];

/// For the end of `--help`.
pub(crate) fn help() -> String {
    let lines = TABLE.map(|(exit, meaning)| format!("  {:>3}  {meaning}", exit as u8));
    format!("Exit codes:\n{}", lines.join("\n"))
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An end with a message for a person.
#[derive(Debug, thiserror::Error)]
#[error("{}", .problems.join("\n"))]
pub(crate) struct Fatal {
    /// The process's exit code.
    pub(crate) exit: Exit,
    /// One sentence each.
    pub(crate) problems: Vec<String>,
}

impl Fatal {
    pub(crate) fn new(exit: Exit, problem: impl std::fmt::Display) -> Self {
        Self { exit, problems: vec![problem.to_string()] }
    }
    pub(crate) fn setup(problem: impl std::fmt::Display) -> Self {
        Self::new(Exit::Setup, problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_ordered_and_without_duplicates() {
        let codes: Vec<u8> = TABLE.iter().map(|(exit, _)| *exit as u8).collect();
        assert!(codes.windows(2).all(|pair| pair[0] < pair[1]), "{codes:?}");
        assert!(help().contains("    4  another host works on the data folder"));
    }
}
