//! Where the configuration comes from: the project file, the process's environment and the options.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use compozy_config::process::{environment, read_secret};
use compozy_config::{Assignment, Loaded, Sources};
use compozy_embed::project::{PROJECT_FILE, UNREADABLE, read_bounded, unreadable};
use compozy_plan::SourceFile;

use crate::args::{HostFlags, ServeFlags};
use crate::exit::{Exit, Fatal};

/// What holds for every command. Problems are beside it, to be told with everything else that is wrong.
#[derive(Debug)]
pub(crate) struct HostArgs {
    /// The project's folder or file.
    pub(crate) project: PathBuf,
    /// The project file, if there is one that can be read.
    pub(crate) file: Option<SourceFile>,
    /// The configuration, and what is wrong with it.
    pub(crate) loaded: Loaded,
    /// Folders with plugins.
    pub(crate) plugins: Vec<PathBuf>,
    /// The data folder.
    pub(crate) data_dir: PathBuf,
}

/// What holds for `serve`.
#[derive(Debug)]
pub(crate) struct ServeArgs {
    listen: String,
    project: PathBuf,
    /// Running tasks have this long to end after the first signal.
    pub(crate) drain: Duration,
}

impl ServeArgs {
    /// The address to listen on.
    pub(crate) fn listen(&self) -> &str {
        &self.listen
    }

    /// The project's folder.
    pub(crate) fn project(&self) -> PathBuf {
        self.project.clone()
    }
}

impl HostArgs {
    /// Reads everything. `path`: the project, for commands that have one.
    pub(crate) fn read(path: Option<&Path>, flags: &HostFlags, serve: &ServeFlags) -> Self {
        Self::of(path, &[flags.assignments(), serve.assignments()].concat())
    }

    fn of(path: Option<&Path>, flags: &[Assignment]) -> Self {
        Self::put_together(path, flags, &environment())
    }

    fn put_together(path: Option<&Path>, flags: &[Assignment], environment: &BTreeMap<String, String>) -> Self {
        // A path that is not there has no project file beside it either.
        let missing = path.and_then(|path| path.metadata().err().map(|error| unreadable(path, None, &error)));
        let project_file = path.filter(|_| missing.is_none()).map(project_file).filter(|file| file.is_file());
        let read = project_file.as_deref().map(|path| {
            let text = read_bounded(path).map_err(|error| unreadable(path, None, &error))?;
            Ok(SourceFile { path: path.display().to_string(), text })
        });
        let (file, unreadable) = match read.transpose() {
            Ok(file) => (file, None),
            Err(problem) => (None, Some(problem)),
        };
        let folder = project_file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        let mut loaded = compozy_config::read(&Sources {
            file: file.as_ref(),
            folder,
            environment,
            flags,
            read_secret: &read_secret,
        });
        loaded.problems.extend(unreadable.into_iter().chain(missing));
        let (plugins, data_dir) = (loaded.config.plugin_dirs.clone(), loaded.config.data_dir.clone());
        Self { project: path.unwrap_or(Path::new(".")).to_owned(), file, loaded, plugins, data_dir }
    }

    /// For `serve`.
    pub(crate) fn serve(&self) -> ServeArgs {
        let config = &self.loaded.config;
        ServeArgs { listen: config.listen.clone(), project: self.project.clone(), drain: config.drain }
    }

    /// Refuses to go on when one of these keys was set wrongly; for commands that need no others.
    pub(crate) fn need(&self, keys: &[&str]) -> Result<(), Fatal> {
        let unread = self.loaded.problems.iter().any(|problem| problem.code == UNREADABLE);
        if !unread && !keys.iter().any(|key| self.loaded.settings.was_refused(key)) {
            return Ok(());
        }
        let problems = self.loaded.problems.iter().map(ToString::to_string).collect();
        Err(Fatal { exit: Exit::Setup, problems })
    }
}

/// The project file that belongs to a folder, a project file or a workflow file.
fn project_file(path: &Path) -> PathBuf {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    // A folder that is the current one goes without saying.
    folder.strip_prefix(".").unwrap_or(folder).join(PROJECT_FILE)
}
