//! Why there is no development server.

use std::path::PathBuf;
use std::time::Duration;

use crate::INSTALL;

/// Why there is no development server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DevServerError {
    /// There is no program of this name.
    #[error("`temporal` is not on the PATH, and the managed development server needs it: {INSTALL}")]
    ProgramNotFound,
    /// The program that was configured is not there.
    #[error("there is no program `{}`, which is configured for the managed development server: correct the path, or {INSTALL}", .path.display())]
    ProgramMissing {
        /// The configured path.
        path: PathBuf,
    },
    /// The program cannot be started.
    #[error("`{}` cannot be started: {reason}; check that it is the Temporal CLI and may be executed", .program.display())]
    ProgramRefused {
        /// The program.
        program: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The folder or a file in it cannot be used.
    #[error("cannot {action} in `{}`: {reason}", .folder.display())]
    FolderUnusable {
        /// The folder.
        folder: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system says.
        reason: String,
    },
    /// Another server has the folder.
    #[error(
        "a development server{} uses the folder `{}` already; it is not adopted: stop it, or choose another data folder",
        .pid.map_or_else(String::new, |pid| format!(" (process {pid})")), .folder.display()
    )]
    FolderInUse {
        /// The folder.
        folder: PathBuf,
        /// Its process, if it said so.
        pid: Option<u32>,
    },
    /// There is no free port.
    #[error("no free port can be had on 127.0.0.1: {reason}")]
    NoPort {
        /// What the system says.
        reason: String,
    },
    /// There is no thread for its supervisor.
    #[error("no thread can be had to watch the development server: {reason}")]
    NoThread {
        /// What the system says.
        reason: String,
    },
    /// The server ended before it served.
    #[error("the development server ended before it served ({how}); the end of its log `{}` says: {said}", .log.display())]
    EndedEarly {
        /// Exit code or signal.
        how: String,
        /// The log file.
        log: PathBuf,
        /// Its end.
        said: String,
    },
    /// The server did not serve in time.
    #[error(
        "the development server at {address} did not serve within {} s; its log is `{}`: look there, or allow more time",
        .waited.as_secs(), .log.display()
    )]
    NotReady {
        /// Where it should have served.
        address: String,
        /// The limit.
        waited: Duration,
        /// The log file.
        log: PathBuf,
    },
}

impl DevServerError {
    /// Stable, upper case: the same in the command line and in logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ProgramNotFound | Self::ProgramMissing { .. } | Self::ProgramRefused { .. } => "DEV_SERVER_PROGRAM",
            Self::FolderUnusable { .. } => "DEV_SERVER_FOLDER",
            Self::FolderInUse { .. } => "DEV_SERVER_FOLDER_IN_USE",
            Self::NoPort { .. } => "DEV_SERVER_PORT",
            Self::NoThread { .. } => "DEV_SERVER_THREAD",
            Self::EndedEarly { .. } => "DEV_SERVER_ENDED",
            Self::NotReady { .. } => "DEV_SERVER_NOT_READY",
        }
    }

    /// True when the same request can succeed later without anybody changing anything.
    pub fn retryable(&self) -> bool {
        matches!(self, Self::NoPort { .. } | Self::NoThread { .. } | Self::NotReady { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_is_wrong_and_what_to_do() {
        let missing = DevServerError::ProgramNotFound.to_string();
        assert!(
            missing.contains("`temporal` is not on the PATH") && missing.contains("brew install temporal"),
            "{missing}"
        );
        let used = DevServerError::FolderInUse { folder: "/data/temporal".into(), pid: Some(7) };
        assert_eq!(
            used.to_string(),
            "a development server (process 7) uses the folder `/data/temporal` already; it is not adopted: stop it, or \
             choose another data folder"
        );
        let late = DevServerError::NotReady {
            address: "127.0.0.1:7".to_owned(),
            waited: Duration::from_secs(30),
            log: "/data/temporal/temporal.log".into(),
        };
        assert!(late.to_string().contains("127.0.0.1:7 did not serve within 30 s"), "{late}");
        assert!(late.retryable() && !used.retryable());
        assert_eq!(used.code(), "DEV_SERVER_FOLDER_IN_USE");
    }
}
