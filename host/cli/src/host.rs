//! From the command line to the library, and from its refusals to the end of the process.

use std::path::Path;
use std::sync::Arc;

use compozy_embed::{HostBuilder, HostOptions, StartError, StartProblem};
use compozy_engine::EngineError;
use compozy_plan::plan::Plan;

use crate::args::HostArgs;
use crate::exit::{Exit, Fatal};

/// A host for the project at `path`, as it is configured.
pub(crate) fn host_of(args: &HostArgs, path: &Path) -> Result<HostBuilder, Fatal> {
    Ok(HostBuilder::of(HostOptions::configured(path, args.loaded.clone())?))
}

/// The workflow of this id, or the only one.
pub(crate) fn choose(workflows: &[Arc<Plan>], id: Option<&str>) -> Result<Arc<Plan>, Fatal> {
    let known: Vec<String> = workflows.iter().map(|plan| format!("`{}`", plan.workflow)).collect();
    let known = known.join(", ");
    let usage = |problem| Err(Fatal::new(Exit::Usage, problem));
    match (id, workflows) {
        (_, []) => usage("there is no workflow to run".to_owned()),
        (None, [only]) => Ok(only.clone()),
        (None, _) => usage(format!("the project has several workflows; name one with --workflow: {known}")),
        (Some(id), all) => match all.iter().find(|plan| plan.workflow == id) {
            Some(plan) => Ok(plan.clone()),
            None => usage(format!("there is no workflow `{id}`; --workflow can be: {known}")),
        },
    }
}

/// Of several problems, the one that says most about the machine names the exit code.
impl From<StartError> for Fatal {
    fn from(error: StartError) -> Self {
        let exits = error.problems.iter().map(|problem| match problem {
            StartProblem::Engine(error) => engine_exit(error),
            StartProblem::DataFolder { .. } => Exit::StorageUnavailable,
            _ => Exit::Setup,
        });
        let exit = exits.max_by_key(|exit| *exit as u8).unwrap_or(Exit::Setup);
        Self { exit, problems: error.problems.iter().map(ToString::to_string).collect() }
    }
}

/// An engine's refusal, as the end of the process.
pub(crate) fn engine_fatal(error: &EngineError) -> Fatal {
    Fatal::new(engine_exit(error), error)
}

fn engine_exit(error: &EngineError) -> Exit {
    match error {
        EngineError::DataFolderInUse { .. } => Exit::DataFolderInUse,
        EngineError::StorageUnavailable { .. }
        | EngineError::JournalTooNew { .. }
        | EngineError::JournalCorrupt { .. }
        | EngineError::SettingRefused { .. } => Exit::StorageUnavailable,
        EngineError::ExecutionNotFound { .. } => Exit::Failed,
        _ => Exit::Setup,
    }
}
