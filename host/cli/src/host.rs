//! What is put together, in which order it starts, and the reverse in which it stops.
//!
//! Project settings, plugins, workflows, journal: each needs the one before. What is wrong with the first three is
//! collected and told in one go; the journal is opened last, because from then on interrupted runs go on.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use compozy_engine::EngineError;
use compozy_engine::local::{LocalEngine, LocalOptions, Retention};
use compozy_engine::port::Engine;
use compozy_plan::plan::Plan;
use compozy_plan::{Catalog, CatalogAction, Severity};
use compozy_runtime::stores::{Circuit, RoleStatus};
use compozy_runtime::{Builtin, Runtime, RuntimeOptions};
use compozy_server::{HostHealth, HostInfo, Workflows};
use tokio::runtime::Handle;

use crate::args::HostArgs;
use crate::builtins::EMBEDDED;
use crate::executor::PluginExecutor;
use crate::exit::{Exit, Fatal};
use crate::project::Project;
use crate::upkeep::{self, Upkeep};

/// A host that could start: everything is read and checked, nothing runs yet.
pub(crate) struct Prepared {
    data_dir: PathBuf,
    runtime: Arc<Runtime>,
    workflows: Vec<Arc<Plan>>,
    retention: Retention,
}

/// A host that works.
pub(crate) struct Host {
    pub(crate) engine: Arc<LocalEngine>,
    data_dir: PathBuf,
    runtime: Arc<Runtime>,
    workflows: Vec<Arc<Plan>>,
    _upkeep: Upkeep,
}

impl Prepared {
    /// The workflow of this id, or the only one.
    pub(crate) fn choose(&self, id: Option<&str>) -> Result<Arc<Plan>, Fatal> {
        let known: Vec<String> = self.workflows.iter().map(|plan| format!("`{}`", plan.workflow)).collect();
        let known = known.join(", ");
        let usage = |problem| Err(Fatal::new(Exit::Usage, problem));
        match (id, self.workflows.as_slice()) {
            (_, []) => usage("there is no workflow to run".to_owned()),
            (None, [only]) => Ok(only.clone()),
            (None, _) => usage(format!("the project has several workflows; name one with --workflow: {known}")),
            (Some(id), all) => match all.iter().find(|plan| plan.workflow == id) {
                Some(plan) => Ok(plan.clone()),
                None => usage(format!("there is no workflow `{id}`; --workflow can be: {known}")),
            },
        }
    }

    /// Opens the journal. From now on interrupted runs go on.
    pub(crate) fn start(self, guests: Handle) -> Result<Host, Fatal> {
        let Self { data_dir, runtime, workflows, retention } = self;
        let executor = Arc::new(PluginExecutor::new(runtime.clone()));
        let startable: Workflows = workflows.iter().cloned().collect();
        let options = LocalOptions {
            workflows: Arc::new(startable),
            retention,
            runtime: Some(guests),
            ..LocalOptions::new(&data_dir, executor)
        };
        let engine = LocalEngine::open(options).map_err(|error| {
            runtime.stop();
            engine_fatal(&error)
        })?;
        let engine = Arc::new(engine);
        let upkeep = upkeep::start(&engine, &runtime);
        Ok(Host { engine, data_dir, runtime, workflows, _upkeep: upkeep })
    }
}

impl Host {
    /// Reads the project at `path` and loads the plugins.
    pub(crate) async fn prepare(args: &HostArgs, path: &Path) -> Result<Prepared, Fatal> {
        let data_dir = args.data_dir.clone();
        writable(&data_dir)?;
        let project = Project::read(path);
        let (policies, mut found) = project.policies();
        let (stores, wrong) = project.stores(args);
        found.extend(wrong);
        let options = RuntimeOptions {
            plugin_dirs: args.plugins.clone(),
            builtins: builtins(|name| stores.needs(name)),
            policies,
            stores: stores.selection,
            redis: stores.redis,
            ..RuntimeOptions::new(&data_dir)
        };
        let runtime = Runtime::open(options).await;
        let (workflows, diagnostics) = project.compile(runtime.as_deref().ok().map(catalog).as_ref());
        found.extend(diagnostics);
        let mut problems = Vec::new();
        for diagnostic in found {
            match diagnostic.severity {
                Severity::Error => problems.push(diagnostic.to_string()),
                Severity::Warning => tracing::warn!(code = diagnostic.code, "{diagnostic}"),
            }
        }
        match runtime {
            Ok(runtime) if problems.is_empty() => {
                Ok(Prepared { data_dir, runtime, workflows, retention: Project::retention(args) })
            }
            Ok(runtime) => {
                runtime.stop();
                Err(Fatal { exit: Exit::Setup, problems })
            }
            Err(error) => {
                problems.extend(error.0.iter().map(ToString::to_string));
                Err(Fatal { exit: Exit::Setup, problems })
            }
        }
    }

    /// For the routes.
    pub(crate) fn workflows(&self) -> Workflows {
        self.workflows.iter().cloned().collect()
    }

    /// For `health`.
    pub(crate) fn info(&self) -> Arc<dyn HostInfo> {
        Arc::new(Info { runtime: self.runtime.clone() })
    }

    /// How many plugins are loaded.
    pub(crate) fn plugin_count(&self) -> usize {
        self.runtime.plugins().len()
    }

    /// Where the journal is.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The engine first, as it calls plugins until it has drained; then the plugins.
    pub(crate) async fn stop(&self, drain: Duration) {
        self.engine.stop(drain).await;
        self.runtime.stop();
    }
}

/// The plugins inside of the binary that are of use.
pub(crate) fn builtins(of_use: impl Fn(&str) -> bool) -> Vec<Builtin> {
    let one = |embedded: &crate::builtins::Embedded| Builtin {
        manifest: Cow::Borrowed(embedded.manifest),
        component: Cow::Borrowed(embedded.component),
    };
    EMBEDDED.iter().filter(|embedded| of_use(embedded.name)).map(one).collect()
}

/// What workflows can call.
pub(crate) fn catalog(runtime: &Runtime) -> Catalog {
    let action = |action: &compozy_runtime::plugin::Action| CatalogAction {
        name: action.name.clone(),
        input_schema: action.input_schema.clone(),
    };
    let plugins = runtime.catalog().into_iter();
    Catalog {
        plugins: plugins.map(|(name, actions)| (name.to_owned(), actions.iter().map(action).collect())).collect(),
    }
}

/// An engine's refusal at start, as the end of the process.
pub(crate) fn engine_fatal(error: &EngineError) -> Fatal {
    let exit = match error {
        EngineError::DataFolderInUse { .. } => Exit::DataFolderInUse,
        EngineError::StorageUnavailable { .. }
        | EngineError::JournalTooNew { .. }
        | EngineError::JournalCorrupt { .. }
        | EngineError::SettingRefused { .. } => Exit::StorageUnavailable,
        EngineError::ExecutionNotFound { .. } => Exit::Failed,
        _ => Exit::Setup,
    };
    Fatal::new(exit, error)
}

/// Makes the data folder and proves that it can be written, before plugins open their databases in it.
fn writable(data_dir: &Path) -> Result<(), Fatal> {
    let probe = data_dir.join(format!("probe-{}", std::process::id()));
    let written = std::fs::create_dir_all(data_dir)
        .and_then(|()| std::fs::write(&probe, b"probe"))
        .and_then(|()| std::fs::remove_file(&probe));
    written.map_err(|error| {
        let folder = data_dir.display();
        let problem =
            format!("the data folder `{folder}` cannot be written: {error}; choose another one with --data-dir");
        Fatal::new(Exit::StorageUnavailable, problem)
    })
}

struct Info {
    runtime: Arc<Runtime>,
}

impl HostInfo for Info {
    fn health(&self) -> HostHealth {
        let roles = self.runtime.roles();
        let away = roles
            .iter()
            .find(|role| role.circuit != Circuit::Closed)
            .map(|role| format!("the store `{}` (plugin {}) does not answer", role.role, role.plugin.name));
        let stopped = (!self.runtime.ticking()).then(|| "the clock that ends endless plugins has stopped".to_owned());
        let status = |role: &RoleStatus| Some((role.role.to_owned(), serde_json::to_value(role).ok()?));
        HostHealth {
            mode: "standalone",
            trouble: stopped.or(away),
            stores: roles.iter().filter_map(status).collect(),
            plugins: self.runtime.plugins().iter().filter_map(|plugin| serde_json::to_value(plugin).ok()).collect(),
        }
    }
}
