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
    pub(crate) policy: PolicyLayer,
    pub(crate) env: IndexMap<String, String>,
    pub(crate) tools: IndexMap<String, ToolDef>,
    pub(crate) schemas: Schemas,
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

/// Keys of the project file that say how a host is to be run. `compozy-config` declares and reads them; what they say never
/// becomes part of a plan.
pub const OPERATOR_KEYS: &[&str] = &[
    "mode",
    "engine",
    "stores",
    "redis",
    "blobs",
    "roles",
    "worker",
    "listen",
    "data_dir",
    "plugin_dirs",
    "start_timeout",
    "drain",
    "rate_limit",
    "retention",
    "log",
];

/// Keys of the project file that say what is to be run.
pub const PROJECT_KEYS: &[&str] =
    &["name", "version", "description", "author", "workflows", "config", "env", "tools", "schemas"];

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
    // Somebody else reads them: here they are only no mistakes.
    for key in OPERATOR_KEYS {
        fields.raw(key);
    }
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
                if let Some(value) = limit(&key.name, node, problems) {
                    limits.insert(key.name.clone(), value);
                }
            }
        }
        let concurrency = policy::attempts_at_once(&mut fields, "concurrency", problems);
        fields.finish(problems);
        plugins.insert(key.name.clone(), PluginSettings { grant, limits, concurrency });
    }
    plugins
}

/// A limit in its own unit, or with one.
fn limit(name: &str, node: &yaml::Node, problems: &mut Problems) -> Option<u64> {
    let what = format!("the limit `{}`", cut(name));
    let with_unit = match &node.data {
        Data::Number(number) if number.as_u64().is_some_and(|limit| limit > 0) => return number.as_u64(),
        Data::Text(text) if name.ends_with("_bytes") => parse_size(text),
        Data::Text(text) if name.ends_with("_ms") => policy::parse_duration(text),
        _ => {
            wrong_type(problems, node, &what, "a positive integer");
            return None;
        }
    };
    let reason = match with_unit {
        Ok(0) => "it is nothing".to_owned(),
        Ok(limit) => return Some(limit),
        Err(reason) => reason,
    };
    let help = if name.ends_with("_bytes") { "write for example `64MiB`" } else { "write for example `5s`" };
    problems.error(node.at, "PLAN_INVALID_LIMIT", format!("{what} cannot be read: {reason}")).help(help);
    None
}

/// Bytes of a size with its unit, for example `64KiB`.
fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: u64 = match unit.trim() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "" => return Err(format!("`{}` has no unit", cut(text))),
        other => return Err(format!("`{}` is no unit of size; there are B, KiB, MiB and GiB", cut(other))),
    };
    let number: u64 = number.parse().map_err(|_| format!("`{}` does not begin with an integer", cut(text)))?;
    number.checked_mul(factor).ok_or_else(|| format!("`{}` is more than a machine can have", cut(text)))
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
