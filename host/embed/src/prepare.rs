//! What is read and checked before anything runs.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use compozy_plan::plan::Plan;
use compozy_plan::{Catalog, CatalogAction, Diagnostic, Severity};
use compozy_runtime::Runtime;
use tokio::net::TcpListener;

use crate::error::{StartError, StartProblem};
use crate::host::Host;
use crate::launch;
use crate::options::{HostOptions, OperatorSettings, ProjectSource};
use crate::parts::{Plugins, Progress};
use crate::project::Project;

/// A host that could start: everything is read and checked, nothing runs yet.
pub struct Prepared {
    pub(crate) options: HostOptions,
    pub(crate) settings: OperatorSettings,
    pub(crate) plugins: Plugins,
    pub(crate) workflows: Vec<Arc<Plan>>,
    pub(crate) listener: Option<TcpListener>,
    /// Of the time that a start may take.
    pub(crate) spent: Duration,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Prepared {
    /// What can be started, by id.
    pub fn workflows(&self) -> &[Arc<Plan>] {
        &self.workflows
    }

    /// Begins the work. From now on executions that were interrupted go on.
    ///
    /// # Errors
    /// Why not; what was begun is undone.
    pub async fn start(self) -> Result<Host, StartError> {
        launch::launch(self).await
    }
}

pub(crate) async fn prepare(options: HostOptions) -> Result<Prepared, StartError> {
    let begun = Instant::now();
    let progress = Progress::default();
    let limit = options.start_timeout;
    let mut prepared = progress.within(limit, Duration::ZERO, Box::pin(collect(options, &progress))).await?;
    prepared.spent = begun.elapsed();
    Ok(prepared)
}

/// Takes every step that can be taken, so that all that is wrong is told in one go.
async fn collect(options: HostOptions, progress: &Progress) -> Result<Prepared, StartError> {
    let mut problems = Vec::new();
    let listener = match &options.listen {
        Some(address) => progress.step("listen", listen(address)).await.map_err(|wrong| problems.push(wrong)).ok(),
        None => None,
    };
    let folder = progress.step("data folder", async { writable(&options.data_dir) }).await;
    let folder = folder.map_err(|wrong| problems.push(wrong)).is_ok();
    let project = progress.step("project", read(options.project.clone())).await?;
    let (settings, mut found) = match &options.settings {
        Some(settings) => (settings.clone(), Vec::new()),
        None => match &options.configuration {
            Some(loaded) => project.settings(loaded),
            None => project.settings(&project.configuration(&options.overrides)),
        },
    };
    let runtime = if folder {
        let runtime = settings.runtime_options(&options.plugin_dirs, &options.data_dir);
        let opened = progress.step("plugins", Runtime::open(runtime)).await;
        opened.map_err(|error| problems.extend(error.0.into_iter().map(StartProblem::Plugin))).ok().map(Plugins)
    } else {
        None
    };
    let catalog = runtime.as_ref().map(|plugins| catalog(&plugins.0));
    let (workflows, diagnostics) = project.compile(catalog.as_ref());
    found.extend(diagnostics);
    problems.extend(errors(found));
    match runtime {
        Some(plugins) if problems.is_empty() => {
            Ok(Prepared { options, settings, plugins, workflows, listener, spent: Duration::ZERO })
        }
        _ => Err(StartError { problems }),
    }
}

/// Those that keep the host from starting; the others are told in the log.
fn errors(found: Vec<Diagnostic>) -> Vec<StartProblem> {
    let (errors, warnings): (Vec<_>, Vec<_>) = found.into_iter().partition(|one| one.severity == Severity::Error);
    for warning in warnings {
        tracing::warn!(code = warning.code, "{warning}");
    }
    errors.into_iter().map(StartProblem::Document).collect()
}

async fn read(source: ProjectSource) -> Result<Project, StartError> {
    let read = move || match source {
        ProjectSource::Path(path) => Project::read(&path),
        ProjectSource::Memory(documents) => Project::of_documents(&documents),
    };
    let done = tokio::task::spawn_blocking(read).await;
    done.map_err(|error| StartProblem::Threads { reason: error.to_string() }.into())
}

/// What workflows can call.
pub fn catalog(runtime: &Runtime) -> Catalog {
    let action = |action: &compozy_runtime::plugin::Action| CatalogAction {
        name: action.name.clone(),
        input_schema: action.input_schema.clone(),
    };
    let plugins = runtime.catalog().into_iter();
    Catalog {
        plugins: plugins.map(|(name, actions)| (name.to_owned(), actions.iter().map(action).collect())).collect(),
    }
}

async fn listen(address: &str) -> Result<TcpListener, StartProblem> {
    TcpListener::bind(address)
        .await
        .map_err(|error| StartProblem::Listen { address: address.to_owned(), reason: error.to_string() })
}

/// Makes the data folder and proves that it can be written, before plugins open their databases in it.
fn writable(data_dir: &Path) -> Result<(), StartProblem> {
    let probe = data_dir.join(format!("probe-{}", std::process::id()));
    let written = std::fs::create_dir_all(data_dir)
        .and_then(|()| std::fs::write(&probe, b"probe"))
        .and_then(|()| std::fs::remove_file(&probe));
    match written {
        // Another host of this process looks at the folder too.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && data_dir.is_dir() => Ok(()),
        Err(error) => Err(StartProblem::DataFolder { folder: data_dir.to_owned(), reason: error.to_string() }),
        Ok(()) => Ok(()),
    }
}
