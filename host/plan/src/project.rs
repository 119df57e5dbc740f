//! The project file, `compozy.yaml`.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::SourceFile;
use crate::diagnostic::{Outcome, Problems};
use crate::plan::ProjectInfo;
use crate::policy::{self, PolicyLayer};
use crate::reader::{Fields, wrong_type};
use crate::shared::{self, Schemas, ToolDef};
use crate::suggest::cut;
use crate::yaml::{self, Data};

/// A project. The default is a folder without a project file.
#[derive(Debug, Clone, Default)]
pub struct Project {
    /// What templates see as `project`.
    pub info: ProjectInfo,
    /// The workflow files, relative to the project file.
    pub workflows: Vec<WorkflowSource>,
    /// What the operator grants plugins, by name.
    pub plugins: IndexMap<String, PluginSettings>,
    /// Which plugin fills which store's role, as it is written.
    pub stores: Vec<StoreSetting>,
    /// Where the Redis server is, for plugins that use one.
    pub redis_url: Option<Secret>,
    /// How long executions are kept after their end.
    pub retention: Retention,
    pub(crate) policy: PolicyLayer,
    pub(crate) env: IndexMap<String, String>,
    pub(crate) tools: IndexMap<String, ToolDef>,
    pub(crate) schemas: Schemas,
}

/// How long executions are kept after their end, in milliseconds, by how they ended. `None` keeps them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Those that ended well.
    pub success_ms: Option<u64>,
    /// Those that failed.
    pub failed_ms: Option<u64>,
    /// Those that took too long.
    pub timed_out_ms: Option<u64>,
    /// Those that were cancelled.
    pub canceled_ms: Option<u64>,
}

/// A workflow file that a project names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowSource {
    /// The path as it is written, relative to the project file.
    pub source: String,
    /// Where it is written, from 1.
    pub line: u64,
    /// Where it is written, from 1.
    pub column: u64,
}

/// One line of `stores`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreSetting {
    /// The role.
    pub role: String,
    /// The plugin's name.
    pub plugin: String,
    /// Where it is written, from 1.
    pub line: u64,
    /// Where it is written, from 1.
    pub column: u64,
}

/// A value that may be secret: written down, or better, where to find it.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// `key: VALUE`.
    Value(String),
    /// `key: { env: NAME }`: an environment variable of the host.
    Env(String),
    /// `key: { file: PATH }`: a file, relative to the project file; a line break at its end does not count.
    File(String),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Value(_) => f.write_str("Value(..)"),
            Self::Env(name) => f.debug_tuple("Env").field(name).finish(),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// What a project says about one plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginSettings {
    /// The capabilities that the plugin may have, if it asks for them.
    pub grant: Grant,
    /// Limits by name, in the unit of each.
    pub limits: IndexMap<String, u64>,
    /// Calls of the plugin by tasks that may run at once, over all runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
}

/// Capabilities. Nothing is granted by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Keys on the Redis server, under the plugin's own prefix.
    pub redis: bool,
    /// A private SQL database.
    pub sql: bool,
    /// Roles of stores.
    pub stores: Vec<String>,
    /// Environment of the plugin.
    pub env: IndexMap<String, String>,
    /// Origins for outgoing HTTP, for example `https://api.example.com`.
    pub http: Vec<String>,
    /// Folders of the host.
    pub folders: Vec<Folder>,
}

/// A folder that a plugin may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folder {
    /// The path that the plugin sees.
    pub guest: String,
    /// The path on the host, relative to the project file.
    pub host: String,
    /// What the plugin may do there.
    pub access: FolderAccess,
}

/// What a plugin may do in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FolderAccess {
    /// Read only.
    Read,
    /// Read, write, make and remove.
    ReadWrite,
}

const UNSUPPORTED: &[(&str, &str)] = &[
    ("models", "this version runs tools only; remove it"),
    ("agents", "this version runs tools only; remove it"),
    ("mcps", "this version runs tools only; remove it"),
    ("embedders", "remove it"),
    ("vector_dbs", "remove it"),
    ("knowledge_bases", "remove it"),
    ("knowledge", "remove it"),
    ("memories", "remove it"),
    ("triggers", "start workflows over the HTTP interface"),
    ("schedules", "start workflows over the HTTP interface"),
    ("schedule", "start workflows over the HTTP interface"),
    ("autoload", "name each workflow under `workflows`"),
    ("runtime", "limits of plugins are set under `plugins`"),
    ("monitoring", "remove it"),
    ("cache", "remove it"),
    ("opts", "the key is called `config`"),
];

/// Reads a project file.
pub fn parse_project(file: &SourceFile) -> Outcome<Project> {
    let mut problems = Problems::new(&file.path);
    let project = yaml::parse(file, &mut problems).and_then(|root| project(&root, &mut problems));
    problems.outcome(project)
}

fn project(root: &yaml::Node, problems: &mut Problems) -> Option<Project> {
    let mut fields = Fields::of(root, "the project file", problems)?;
    let name = fields.id("name", problems);
    if let Some((name, node)) = name
        && name.starts_with(|c: char| c.is_ascii_digit())
    {
        problems
            .error(node.at, "PLAN_INVALID_ID", format!("the project's name `{name}` begins with a digit"))
            .value(name);
    }
    let text = |found: Option<(&str, &yaml::Node)>| found.map(|(text, _)| text.to_owned()).unwrap_or_default();
    let mut project = Project {
        info: ProjectInfo {
            name: text(name),
            version: text(fields.text("version", problems)),
            description: text(fields.text("description", problems)),
        },
        ..Project::default()
    };
    author(&mut fields, problems);
    if let Some((mode, node)) = fields.text("mode", problems) {
        match mode {
            "standalone" => {}
            "distributed" | "memory" | "persistent" => {
                problems
                    .error(node.at, "PLAN_UNSUPPORTED", format!("the mode `{mode}` is not yet supported"))
                    .value(mode)
                    .help("write `mode: standalone`, or leave it out");
            }
            other => {
                problems
                    .error(node.at, "PLAN_UNKNOWN_VALUE", format!("`mode` cannot be `{}`", cut(other)))
                    .value(other)
                    .help("write `mode: standalone`, or leave it out");
            }
        }
    }
    project.workflows = workflows(&mut fields, problems);
    if let Some(mut config) = fields.fields("config", problems) {
        project.policy = policy::layer(&mut config, problems);
        config.unsupported(&[("source_of_truth", "files are the source of truth; remove it")], problems);
        config.finish(problems);
    }
    project.env = shared::env(&mut fields, problems);
    project.tools = shared::tools(&mut fields, problems);
    project.schemas = shared::schemas(&mut fields, problems);
    project.plugins = plugins(&mut fields, problems);
    project.stores = stores(&mut fields, problems);
    if let Some(mut redis) = fields.fields("redis", problems) {
        project.redis_url = secret(&mut redis, "url", problems);
        redis.finish(problems);
    }
    project.retention = retention(&mut fields, problems);
    fields.unsupported(UNSUPPORTED, problems);
    fields.finish(problems);
    Some(project)
}

/// Checks `author`, which nothing else reads.
pub(crate) fn author(fields: &mut Fields<'_>, problems: &mut Problems) {
    let Some(node) = fields.take("author") else { return };
    if matches!(node.data, Data::Text(_)) {
        return;
    }
    let Some(mut author) = Fields::of(node, "`author`", problems) else { return };
    for key in ["name", "email", "organization", "org", "url"] {
        author.text(key, problems);
    }
    author.finish(problems);
}

fn workflows(fields: &mut Fields<'_>, problems: &mut Problems) -> Vec<WorkflowSource> {
    let mut sources: Vec<WorkflowSource> = Vec::new();
    for node in fields.list("workflows", problems).map_or(&[][..], |(items, _)| items) {
        let Some(mut entry) = Fields::of(node, "an item of `workflows`", problems) else { continue };
        if let Some((source, node)) = entry.required_text("source", problems) {
            let escapes = source.starts_with(['/', '\\']) || source.split(['/', '\\']).any(|part| part == "..");
            if escapes {
                problems
                    .error(
                        node.at,
                        "PLAN_PATH_OUTSIDE",
                        format!("the workflow file `{}` is outside of the project's folder", cut(source)),
                    )
                    .value(source)
                    .help("write a path relative to the project file, without `..`");
            } else if let Some(first) = sources.iter().find(|known| known.source == source) {
                problems
                    .error(
                        node.at,
                        "PLAN_DUPLICATE_ID",
                        format!("the workflow file `{}` is already named at line {}", cut(source), first.line),
                    )
                    .value(source);
            } else {
                sources.push(WorkflowSource { source: source.to_owned(), line: node.at.line, column: node.at.column });
            }
        }
        entry.finish(problems);
    }
    sources
}

fn stores(fields: &mut Fields<'_>, problems: &mut Problems) -> Vec<StoreSetting> {
    let mut stores = Vec::new();
    let Some(entries) = fields.fields("stores", problems) else { return stores };
    for (key, node) in entries.into_entries() {
        match &node.data {
            Data::Text(plugin) if !plugin.is_empty() => stores.push(StoreSetting {
                role: key.name.clone(),
                plugin: plugin.clone(),
                line: key.at.line,
                column: key.at.column,
            }),
            _ => wrong_type(problems, node, &format!("the store `{}`", cut(&key.name)), "the name of a plugin"),
        }
    }
    stores
}

/// One time for all, or one for each way to end.
fn retention(fields: &mut Fields<'_>, problems: &mut Problems) -> Retention {
    let Some(node) = fields.take("retention") else { return Retention::default() };
    if !matches!(node.data, Data::Map(_)) {
        let all = policy::duration_of(node, "`retention`", problems);
        return Retention { success_ms: all, failed_ms: all, timed_out_ms: all, canceled_ms: all };
    }
    let Some(mut fields) = Fields::of(node, "`retention`", problems) else { return Retention::default() };
    let mut time = |name| policy::duration(&mut fields, name, problems).map(|(ms, _)| ms);
    let retention = Retention {
        success_ms: time("success"),
        failed_ms: time("failed"),
        timed_out_ms: time("timed_out"),
        canceled_ms: time("canceled"),
    };
    fields.finish(problems);
    retention
}

fn secret(fields: &mut Fields<'_>, name: &'static str, problems: &mut Problems) -> Option<Secret> {
    let node = fields.take(name)?;
    if let Data::Text(value) = &node.data {
        return Some(Secret::Value(value.clone()));
    }
    let mut place = Fields::of(node, format!("`{name}`"), problems)?;
    let env = place.text("env", problems).map(|(name, _)| Secret::Env(name.to_owned()));
    let file = place.text("file", problems).map(|(path, _)| Secret::File(path.to_owned()));
    place.finish(problems);
    match (env, file) {
        (Some(found), None) | (None, Some(found)) => Some(found),
        _ => {
            problems
                .error(node.at, "PLAN_INVALID_SECRET", format!("`{name}` must say one place where its value is"))
                .help(format!("write `{name}: {{ env: NAME }}` or `{name}: {{ file: PATH }}`"));
            None
        }
    }
}

fn plugins(fields: &mut Fields<'_>, problems: &mut Problems) -> IndexMap<String, PluginSettings> {
    let mut plugins = IndexMap::new();
    let Some(entries) = fields.fields("plugins", problems) else { return plugins };
    for (key, node) in entries.into_entries() {
        let Some(mut fields) = Fields::of(node, format!("the plugin `{}`", cut(&key.name)), problems) else { continue };
        let grant = match fields.fields("grant", problems) {
            Some(granted) => grant(granted, problems),
            None => Grant::default(),
        };
        let mut limits = IndexMap::new();
        if let Some(entries) = fields.fields("limits", problems) {
            for (key, node) in entries.into_entries() {
                match &node.data {
                    Data::Number(number) if number.as_u64().is_some_and(|limit| limit > 0) => {
                        limits.insert(key.name.clone(), number.as_u64().unwrap_or_default());
                    }
                    _ => wrong_type(problems, node, &format!("the limit `{}`", cut(&key.name)), "a positive integer"),
                }
            }
        }
        let concurrency = policy::attempts_at_once(&mut fields, "concurrency", problems);
        fields.finish(problems);
        plugins.insert(key.name.clone(), PluginSettings { grant, limits, concurrency });
    }
    plugins
}

fn grant(mut fields: Fields<'_>, problems: &mut Problems) -> Grant {
    let mut grant = Grant {
        redis: fields.boolean("redis", problems).unwrap_or(false),
        sql: fields.boolean("sql", problems).unwrap_or(false),
        stores: fields.texts("stores", problems).into_iter().map(|(store, _)| store.to_owned()).collect(),
        env: shared::env(&mut fields, problems),
        ..Grant::default()
    };
    for (origin, node) in fields.texts("http", problems) {
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        match host {
            Some(host) if !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']) => {
                grant.http.push(origin.to_owned());
            }
            _ => {
                problems
                    .error(node.at, "PLAN_INVALID_ORIGIN", format!("`{}` is no origin", cut(origin)))
                    .value(origin)
                    .help(
                        "write scheme and host only, for example `https://api.example.com` or `http://localhost:8080`",
                    );
            }
        }
    }
    for node in fields.list("folders", problems).map_or(&[][..], |(items, _)| items) {
        let Some(mut entry) = Fields::of(node, "an item of `folders`", problems) else { continue };
        let guest = entry.required_text("guest", problems);
        let host = entry.required_text("host", problems);
        let access = entry.word("access", &["read", "read-write"], problems);
        if let (Some((guest, _)), Some((host, _))) = (guest, host) {
            let access =
                if matches!(access, Some(("read-write", _))) { FolderAccess::ReadWrite } else { FolderAccess::Read };
            grant.folders.push(Folder { guest: guest.to_owned(), host: host.to_owned(), access });
        }
        entry.finish(problems);
    }
    fields.finish(problems);
    grant
}
