//! A project on the disk: which files there are, and what the operator says to plugins in them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use compozy_config::config::RetentionConfig;
use compozy_config::process::read_secret;
use compozy_config::{Loaded, Sources};
use compozy_engine::local::Retention;
use compozy_plan::limits::DOCUMENT_BYTES_MAX;
use compozy_plan::plan::Plan;
use compozy_plan::{
    Catalog, Diagnostic, FolderAccess, Grant, PluginSettings, Severity, SourceFile, compile_workflow, parse_project,
};
use compozy_runtime::{Access, FolderGrant, Grants, Limit, Origin, PluginPolicy, StoreKind};

use crate::options::{Documents, OperatorSettings, Overrides};
use crate::stores::{REDIS_PLUGIN, StoreSettings};

/// The project file's name.
pub const PROJECT_FILE: &str = "compozy.yaml";
/// The code of a file that cannot be read.
pub const UNREADABLE: &str = "PROJECT_FILE_UNREADABLE";
/// Workflow files of one project.
const WORKFLOWS_MAX: usize = 1_000;
/// The built-in that keeps the stores unless the operator says otherwise; without its database the host would have none.
const STORES_PLUGIN: &str = "sqlite";

/// A project as it lies on the disk. What is wrong with it is kept beside it, to be told with everything else.
#[derive(Debug)]
pub struct Project {
    root: PathBuf,
    /// The project file.
    file: Option<SourceFile>,
    settings: compozy_plan::Project,
    files: Vec<SourceFile>,
    problems: Vec<Diagnostic>,
}

impl Project {
    /// Reads a project folder, a project file or a single workflow file.
    ///
    /// A workflow file also gets the settings of the project file beside it. A folder without a project file has the
    /// workflows that lie in it: YAML files with `id` and `tasks` at their top level.
    pub fn read(path: &Path) -> Self {
        let is_project_file = path.file_name().is_some_and(|name| name == PROJECT_FILE);
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
        let mut project = Self {
            root: folder.to_path_buf(),
            file: None,
            settings: compozy_plan::Project::default(),
            files: Vec::new(),
            problems: Vec::new(),
        };
        let project_file = folder.join(PROJECT_FILE);
        let has_settings = project_file.is_file();
        if has_settings || is_project_file {
            project.read_settings(&project_file);
        }
        if !path.is_dir() && !is_project_file {
            project.add_file(path, None);
        } else if has_settings || is_project_file {
            project.add_sources(&project_file);
        } else {
            project.add_loose_files(folder);
        }
        project
    }

    /// Takes documents that lie in memory. Folders that they name are relative to the current one.
    pub fn of_documents(documents: &Documents) -> Self {
        let mut project = Self {
            root: PathBuf::new(),
            file: None,
            settings: compozy_plan::Project::default(),
            files: documents.workflows.clone(),
            problems: Vec::new(),
        };
        if let Some(text) = &documents.project {
            project.take_settings(SourceFile { path: PROJECT_FILE.to_owned(), text: text.clone() });
            if let Some(first) = project.settings.workflows.first() {
                let message = format!(
                    "the project names the workflow file `{}`, but it is read from memory; hand the file over with the other documents and \
                     leave `workflows` out",
                    first.source
                );
                let wrong = problem(Path::new(PROJECT_FILE), "PROJECT_FILE_UNREADABLE", message);
                project.problems.push(Diagnostic { line: first.line, column: first.column, ..wrong });
            }
        }
        if documents.workflows.len() > WORKFLOWS_MAX {
            let message =
                format!("the project has {} workflows, at most {WORKFLOWS_MAX} are read", documents.workflows.len());
            project.problems.push(problem(Path::new(PROJECT_FILE), "PROJECT_TOO_LARGE", message));
            project.files.truncate(WORKFLOWS_MAX);
        }
        project
    }

    fn read_settings(&mut self, path: &Path) {
        if let Some(file) = self.source(path, None) {
            self.take_settings(file);
        }
    }

    fn take_settings(&mut self, file: SourceFile) {
        let outcome = parse_project(&file);
        self.file = Some(file);
        self.problems.extend(outcome.diagnostics);
        self.settings = outcome.value.unwrap_or_default();
    }

    fn add_sources(&mut self, project_file: &Path) {
        let sources = self.settings.workflows.clone();
        for source in sources.iter().take(WORKFLOWS_MAX) {
            let place = Place { file: project_file, line: source.line, column: source.column };
            let path = self.root.join(&source.source);
            self.add_file(&path, Some(&place));
        }
        if sources.len() > WORKFLOWS_MAX {
            let message = format!("the project has {} workflows, at most {WORKFLOWS_MAX} are read", sources.len());
            self.problems.push(problem(project_file, "PROJECT_TOO_LARGE", message));
        }
    }

    fn add_loose_files(&mut self, folder: &Path) {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let listed = std::fs::read_dir(folder).and_then(|entries| {
            let paths = entries.map(|entry| entry.map(|entry| entry.path()));
            paths.collect::<io::Result<Vec<_>>>()
        });
        let mut paths = match listed {
            Ok(paths) => paths,
            Err(error) => return self.problems.push(unreadable(folder, None, &error)),
        };
        paths.retain(|path| path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml") && path.is_file());
        paths.sort();
        for path in paths.iter().take(WORKFLOWS_MAX) {
            let path = path.strip_prefix("./").unwrap_or(path);
            if let Some(file) = self.source(path, None)
                && looks_like_a_workflow(&file.text)
            {
                self.files.push(file);
            }
        }
    }

    fn add_file(&mut self, path: &Path, named_at: Option<&Place<'_>>) {
        if let Some(file) = self.source(path, named_at) {
            self.files.push(file);
        }
    }

    fn source(&mut self, path: &Path, named_at: Option<&Place<'_>>) -> Option<SourceFile> {
        match read_bounded(path) {
            Ok(text) => Some(SourceFile { path: path.display().to_string(), text }),
            Err(error) => {
                self.problems.push(unreadable(path, named_at, &error));
                None
            }
        }
    }

    /// What the operator says to each plugin, and what is wrong with that.
    pub fn policies(&self) -> (BTreeMap<String, PluginPolicy>, Vec<Diagnostic>) {
        let mut problems = Vec::new();
        let file = self.root.join(PROJECT_FILE);
        let mut policies: BTreeMap<String, PluginPolicy> = BTreeMap::new();
        for (name, settings) in &self.settings.plugins {
            let (policy, wrong) = policy(settings, &self.root);
            problems.extend(
                wrong
                    .into_iter()
                    .map(|why| problem(&file, "PROJECT_PLUGIN_SETTING", format!("the plugin `{name}`: {why}"))),
            );
            policies.insert(name.clone(), policy);
        }
        policies.entry(STORES_PLUGIN.to_owned()).or_default().grants.sql = true;
        policies.entry(REDIS_PLUGIN.to_owned()).or_default().grants.redis = true;
        (policies, problems)
    }

    /// How the host is to be run, as the project file and these options say; without a look at the environment.
    pub fn configuration(&self, overrides: &Overrides) -> Loaded {
        compozy_config::read(&Sources {
            file: self.file.as_ref(),
            folder: &self.root,
            environment: &BTreeMap::new(),
            flags: &overrides.assignments(),
            read_secret: &read_secret,
        })
    }

    /// All that is said to the operator's side of the host, and what is wrong with it.
    pub fn settings(&self, loaded: &Loaded) -> (OperatorSettings, Vec<Diagnostic>) {
        let (policies, mut problems) = self.policies();
        // A document that cannot be read is told once.
        problems.extend(loaded.problems.iter().filter(|problem| !self.problems.contains(problem)).cloned());
        let (StoreSettings { selection: stores, redis }, wrong) = StoreSettings::of(loaded);
        problems.extend(wrong);
        let RetentionConfig { success, failed, timed_out, canceled } = loaded.config.retention;
        let retention = Retention { success, failed, timed_out, canceled };
        (OperatorSettings { policies, stores, redis, retention }, problems)
    }

    /// The plans of all workflows, and every problem of the project's files. Without a catalog (no plugins could be loaded)
    /// tools are not looked up.
    pub fn compile(&self, catalog: Option<&Catalog>) -> (Vec<Arc<Plan>>, Vec<Diagnostic>) {
        let mut plans: BTreeMap<String, (Arc<Plan>, &str)> = BTreeMap::new();
        let mut problems = self.problems.clone();
        for file in &self.files {
            let outcome = compile_workflow(file, &self.settings, catalog);
            problems.extend(outcome.diagnostics);
            let Some(plan) = outcome.value else { continue };
            if let Some((_, first)) = plans.get(&plan.workflow) {
                let message = format!("the workflow id `{}` is already taken by `{first}`", plan.workflow);
                problems.push(problem(Path::new(&file.path), "PROJECT_DUPLICATE_WORKFLOW", message));
                continue;
            }
            plans.insert(plan.workflow.clone(), (Arc::new(plan), &file.path));
        }
        (plans.into_values().map(|(plan, _)| plan).collect(), problems)
    }
}

/// Where a file is named.
pub struct Place<'a> {
    file: &'a Path,
    line: u64,
    column: u64,
}

/// An error that belongs to no line.
pub(crate) fn problem(file: &Path, code: &'static str, message: String) -> Diagnostic {
    let file = file.display().to_string();
    Diagnostic { severity: Severity::Error, code, message, file, line: 0, column: 0, value: None, help: None }
}

/// What is told of a file that cannot be read.
pub fn unreadable(path: &Path, named_at: Option<&Place<'_>>, error: &io::Error) -> Diagnostic {
    let message = format!("`{}` cannot be read: {error}", path.display());
    match named_at {
        None => problem(path, UNREADABLE, message),
        Some(Place { file, line, column }) => {
            Diagnostic { line: *line, column: *column, ..problem(file, UNREADABLE, message) }
        }
    }
}

/// At most one byte more than a document may have: then the front end refuses it, with its limit.
pub fn read_bounded(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(DOCUMENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("it is not UTF-8: {error}")))
}

/// Other YAML files may lie in a folder as well.
fn looks_like_a_workflow(text: &str) -> bool {
    let has = |key: &str| {
        text.lines().any(|line| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':')))
    };
    has("id") && has("tasks")
}

/// The operator's words in the runtime's terms; each that has no meaning there is a sentence.
fn policy(settings: &PluginSettings, root: &Path) -> (PluginPolicy, Vec<String>) {
    let mut wrong = Vec::new();
    let Grant { redis, sql, stores, env, http, folders } = &settings.grant;
    let mut grants = Grants { redis: *redis, sql: *sql, ..Grants::default() };
    for name in stores {
        match StoreKind::from_name(name) {
            Some(kind) => drop(grants.stores.insert(kind)),
            None => wrong.push(format!(
                "there is no store `{name}`; there are {}",
                StoreKind::ALL.map(StoreKind::name).join(", ")
            )),
        }
    }
    grants.env = env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    for origin in http {
        match Origin::parse(origin) {
            Ok(origin) => drop(grants.http.insert(origin)),
            Err(why) => wrong.push(why),
        }
    }
    for folder in folders {
        let host = root.join(&folder.host);
        let host = std::path::absolute(&host).unwrap_or(host);
        let access = match folder.access {
            FolderAccess::Read => Access::Read,
            FolderAccess::ReadWrite => Access::ReadWrite,
        };
        if grants.folders.insert(folder.guest.clone(), FolderGrant { host, access }).is_some() {
            wrong.push(format!("the folder `{}` is granted twice", folder.guest));
        }
    }
    let mut caps = BTreeMap::new();
    for (name, cap) in &settings.limits {
        match Limit::from_name(name) {
            Some(limit) => drop(caps.insert(limit, *cap)),
            None => wrong.push(format!("there is no limit `{name}`; the documentation of plugins lists them")),
        }
    }
    (PluginPolicy { grants, caps }, wrong)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const WORKFLOW: &str = "id: ID\nversion: 0.1.0\ntasks:\n  - id: a\n    type: aggregate\n    outputs: { x: 1 }\n";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        folder
    }

    fn ids(path: &Path) -> Vec<String> {
        let (plans, problems) = Project::read(path).compile(None);
        assert!(problems.iter().all(|problem| problem.severity == Severity::Warning), "{problems:?}");
        plans.iter().map(|plan| plan.workflow.clone()).collect()
    }

    #[test]
    fn a_folder_a_project_file_and_a_workflow_file_can_be_read() {
        let (a, b) = (WORKFLOW.replace("ID", "a"), WORKFLOW.replace("ID", "b"));
        let loose =
            folder(&[("a.yaml", &a), ("b.yml", &b), ("other.yaml", "services: {}\n"), ("note.txt", "id:\ntasks:\n")]);
        assert_eq!(ids(loose.path()), ["a", "b"]);
        assert_eq!(ids(&loose.path().join("b.yml")), ["b"]);
        let project = folder(&[
            ("compozy.yaml", "name: p\nversion: 0.1.0\nworkflows:\n  - source: b.yaml\n"),
            ("a.yaml", &a),
            ("b.yaml", &b),
        ]);
        assert_eq!(ids(project.path()), ["b"], "only what the project names");
        assert_eq!(ids(&project.path().join("compozy.yaml")), ["b"]);
        assert_eq!(ids(&project.path().join("a.yaml")), ["a"]);
        assert!(ids(folder(&[]).path()).is_empty(), "an empty folder is a project without workflows");
    }

    #[test]
    fn files_that_cannot_be_read_are_problems_with_a_place() {
        let project = folder(&[("compozy.yaml", "name: p\nversion: 0.1.0\nworkflows:\n  - source: gone.yaml\n")]);
        let (plans, problems) = Project::read(project.path()).compile(None);
        assert!(plans.is_empty());
        assert_eq!(
            (problems.len(), problems[0].code, problems[0].line),
            (1, "PROJECT_FILE_UNREADABLE", 4),
            "{problems:?}"
        );
        let (_, problems) = Project::read(Path::new("/nowhere/w.yaml")).compile(None);
        assert_eq!(problems[0].code, "PROJECT_FILE_UNREADABLE");
        let (_, problems) = Project::read(Path::new("/nowhere")).compile(None);
        assert_eq!(problems[0].code, "PROJECT_FILE_UNREADABLE");
    }

    #[test]
    fn a_file_beyond_the_limit_is_refused() {
        let large = format!("{}# {}", WORKFLOW.replace("ID", "a"), "x".repeat(10 * 1024 * 1024));
        let loose = folder(&[("a.yaml", &large)]);
        let (plans, problems) = Project::read(&loose.path().join("a.yaml")).compile(None);
        assert!(plans.is_empty());
        assert!(problems[0].message.contains(&DOCUMENT_BYTES_MAX.to_string()), "{problems:?}");
    }

    #[test]
    fn two_workflows_of_one_id_are_a_problem() {
        let a = WORKFLOW.replace("ID", "a");
        let (plans, problems) = Project::read(folder(&[("a.yaml", &a), ("b.yaml", &a)]).path()).compile(None);
        assert_eq!(plans.len(), 1);
        assert!(problems.iter().any(|problem| problem.code == "PROJECT_DUPLICATE_WORKFLOW"), "{problems:?}");
    }

    #[test]
    fn retention_reaches_the_engine() {
        let settings = "name: p\nversion: 0.1.0\nretention: { success: 24h, timed_out: 90s }\n";
        let project = folder(&[("compozy.yaml", settings)]);
        let hours = |hours| Some(Duration::from_hours(hours));
        let expected =
            Retention { success: hours(24), timed_out: Some(Duration::from_secs(90)), ..Retention::default() };
        let retention = |folder: &Path| {
            let project = Project::read(folder);
            project.settings(&project.configuration(&Overrides::default())).0.retention
        };
        assert_eq!(retention(project.path()), expected);
        assert_eq!(retention(folder(&[]).path()), Retention::default(), "nothing goes by itself");
    }

    #[test]
    fn grants_and_caps_reach_the_runtime() {
        let settings = "name: p\nversion: 0.1.0\nplugins:\n  files:\n    grant:\n      stores: [cache, cahce]\n      \
                        http: [\"https://a.example\"]\n      folders: [{ guest: /data, host: ./out, access: read-write }]\n    \
                        limits: { wall_ms: 5, wal_ms: 5 }\n";
        let project = folder(&[("compozy.yaml", settings)]);
        let (policies, problems) = Project::read(project.path()).policies();
        let messages: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(messages.len(), 2, "{messages:?}");
        assert!(messages[0].contains("`cahce`") && messages[1].contains("`wal_ms`"), "{messages:?}");
        let files = &policies["files"];
        assert_eq!(files.caps, BTreeMap::from([(Limit::WallMs, 5)]));
        assert_eq!(files.grants.folders["/data"].host, project.path().join("out"), "relative to the project file");
        assert!(!files.grants.sql && files.grants.stores.contains(&StoreKind::Cache));
        assert!(policies["sqlite"].grants.sql, "the stores work without any configuration");
    }
}
