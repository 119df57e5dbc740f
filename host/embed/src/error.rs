//! Why a host does not start, or does not do something.

use std::path::PathBuf;
use std::time::Duration;

use compozy_engine::EngineError;
use compozy_plan::Diagnostic;
use compozy_runtime::loader::LoadError;

/// One thing that keeps a host from starting.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StartProblem {
    /// A document of the project is wrong.
    #[error("{0}")]
    Document(Diagnostic),
    /// A plugin cannot be loaded, or a store has none.
    #[error("{0}")]
    Plugin(LoadError),
    /// The data folder is of no use.
    #[error("the data folder `{}` cannot be written: {reason}; choose another one with --data-dir", .folder.display())]
    DataFolder {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The address is of no use.
    #[error("cannot listen on `{address}`: {reason}; choose another address with --listen, port 0 takes a free one")]
    Listen {
        /// The address.
        address: String,
        /// What the system says.
        reason: String,
    },
    /// A service that the host needs is not there.
    #[error(
        "{what} does not answer: {reason}; it was asked {tries} times in {} ms; check that it runs and that this machine can reach it",
        .waited.as_millis()
    )]
    Dependency {
        /// Which, with its address.
        what: String,
        /// What was met instead of an answer.
        reason: String,
        /// How often it was asked.
        tries: u32,
        /// For how long.
        waited: Duration,
    },
    /// The engine cannot be opened.
    #[error("{0}")]
    Engine(EngineError),
    /// The storage for large values cannot be set up.
    #[error("the storage for large values cannot be used: {reason}")]
    Blobs {
        /// What is wrong.
        reason: String,
    },
    /// The system gives no threads.
    #[error("the threads of the plugins cannot be started: {reason}")]
    Threads {
        /// What the system says.
        reason: String,
    },
    /// It takes too long.
    #[error(
        "the host did not start within {} ms (limit `start_timeout`): `{step}` has not ended; what was begun is undone",
        .limit.as_millis()
    )]
    TimedOut {
        /// What was going on.
        step: &'static str,
        /// The limit.
        limit: Duration,
    },
}

impl StartProblem {
    /// Stable, upper case.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Document(diagnostic) => diagnostic.code,
            Self::Plugin(error) => error.code,
            Self::DataFolder { .. } => "STORAGE_UNAVAILABLE",
            Self::Listen { .. } => "LISTEN_REFUSED",
            Self::Dependency { .. } => "BACKEND_UNAVAILABLE",
            Self::Engine(error) => error.code(),
            Self::Blobs { .. } => "BLOBS_REFUSED",
            Self::Threads { .. } => "THREADS_REFUSED",
            Self::TimedOut { .. } => "START_TIMEOUT",
        }
    }
}

/// Everything that keeps a host from starting. What was begun is undone.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct StartError {
    /// At least one.
    pub problems: Vec<StartProblem>,
}

impl From<StartProblem> for StartError {
    fn from(problem: StartProblem) -> Self {
        Self { problems: vec![problem] }
    }
}

/// Why a host does not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// There is no such workflow.
    #[error("there is no workflow `{id}`; the project has {}", listed(.known))]
    UnknownWorkflow {
        /// What was asked for.
        id: String,
        /// What there is.
        known: Vec<String>,
    },
    /// No workflow waits for such a signal.
    #[error("no workflow has a trigger `{name}`; the project's triggers are {}", listed(.known))]
    UnknownTrigger {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The engine refuses.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl HostError {
    /// Stable, upper case: the same as over HTTP.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownWorkflow { .. } => "WORKFLOW_NOT_FOUND",
            Self::UnknownTrigger { .. } => "SIGNAL_UNKNOWN",
            Self::Engine(error) => error.code(),
        }
    }

    /// True when the same request can succeed later without anybody changing it.
    pub fn retryable(&self) -> bool {
        matches!(self, Self::Engine(error) if error.retryable())
    }
}

fn listed(known: &[String]) -> String {
    if known.is_empty() {
        return "none".to_owned();
    }
    known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
