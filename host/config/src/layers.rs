//! Who said what: defaults, then the project file, then the environment, then the command line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use compozy_plan::{
    Data, Diagnostic, Node, OPERATOR_KEYS, Position, Severity, SourceFile, cut, hint, nearest, parse_document,
};

use crate::Problem;
use crate::key::{ENVIRONMENT_PREFIX, Key, Kind, Preset, Scope};
use crate::keys::{KEYS, RETENTIONS, SECTIONS, find};
use crate::value::{Raw, Value, Wrong, parse};

/// Where a problem is that is in no file.
pub(crate) const ENVIRONMENT: &str = "environment";
pub(crate) const COMMAND_LINE: &str = "command line";
pub(crate) const NOWHERE: &str = "configuration";

/// All that is read.
pub struct Sources<'a> {
    /// The project file.
    pub file: Option<&'a SourceFile>,
    /// The project file's folder: what paths in the file are relative to.
    pub folder: &'a Path,
    /// The process's environment. An empty variable counts as missing.
    pub environment: &'a BTreeMap<String, String>,
    /// The options of the command line.
    pub flags: &'a [Assignment],
    /// Reads a file that holds a secret, at most [`crate::limits::SECRET_FILE_BYTES_MAX`] and one bytes of it.
    pub read_secret: &'a dyn Fn(&Path) -> Result<String, String>,
}

impl Sources<'_> {
    pub(crate) fn file_name(&self) -> &str {
        self.file.map_or(NOWHERE, |file| &file.path)
    }
}

/// One option of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The key's path.
    pub key: String,
    /// Its value.
    pub value: Given,
    /// The option, for example `--set`.
    pub option: &'static str,
}

/// A value of the command line.
#[derive(Clone, PartialEq, Eq)]
pub enum Given {
    /// One text; a list is parted by commas.
    Text(String),
    /// An option that was given several times.
    List(Vec<String>),
}

impl std::fmt::Debug for Given {
    /// It may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Given(..)")
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// Nobody said anything, and the mode decides.
    Mode,
    /// The project file.
    File {
        /// Its path.
        file: String,
        /// The place of the value, from 1.
        line: u64,
        /// The place of the value, from 1.
        column: u64,
    },
    /// This variable of the environment.
    Environment(String),
    /// This option of the command line.
    Option(&'static str),
}

/// A key with its value.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The key.
    pub key: &'static Key,
    /// `None` when nobody said anything and there is no default.
    pub value: Option<Value>,
    /// Where the value came from.
    pub origin: Origin,
}

/// Every key with its value.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    entries: BTreeMap<String, Setting>,
    project: Option<String>,
    refused: BTreeSet<String>,
    /// The project file could not be read at all, so that nobody knows what it says.
    unread: bool,
}

impl Settings {
    /// Puts the sources over each other, and tells everything that is wrong with them.
    pub fn resolve(sources: &Sources<'_>) -> (Self, Vec<Problem>) {
        let mut layers = Layers { settings: Self::default(), problems: Vec::new(), folder: sources.folder };
        if let Some(file) = sources.file {
            layers.file(file);
        }
        layers.environment(sources.environment);
        layers.flags(sources.flags);
        let Layers { mut settings, problems, .. } = layers;
        settings.add_defaults();
        (settings, problems)
    }

    /// The setting of this path.
    pub fn get(&self, path: &str) -> Option<&Setting> {
        self.entries.get(path)
    }

    /// Every setting, by its path, in the order of the declaration.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        KEYS.iter().flat_map(|key| {
            let of_key = self.entries.iter().filter(move |(_, setting)| setting.key.path == key.path);
            of_key.map(|(path, setting)| (path.as_str(), setting))
        })
    }

    /// Whether somebody said, or may have said, something that cannot be used.
    pub fn was_refused(&self, path: &str) -> bool {
        self.unread || self.refused.contains(path)
    }

    /// Whether somebody said something.
    pub fn is_set(&self, path: &str) -> bool {
        self.get(path).is_some_and(|setting| !matches!(setting.origin, Origin::Default | Origin::Mode))
    }

    /// A problem of this key, at the place that set it.
    pub fn problem(&self, code: &'static str, path: &str, message: String) -> Problem {
        let (file, line, column) = match self.get(path).map(|setting| &setting.origin) {
            Some(Origin::File { file, line, column }) => (file.as_str(), *line, *column),
            Some(Origin::Environment(_)) => (ENVIRONMENT, 0, 0),
            Some(Origin::Option(_)) => (COMMAND_LINE, 0, 0),
            Some(Origin::Default | Origin::Mode) | None => (NOWHERE, 0, 0),
        };
        let file = file.to_owned();
        Diagnostic { severity: Severity::Error, code, message, file, line, column, value: None, help: None }
    }

    /// The project's name.
    pub fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }

    fn add_defaults(&mut self) {
        let distributed =
            self.get("mode").and_then(|mode| mode.value.as_ref()) == Some(&Value::Text("distributed".to_owned()));
        for key in KEYS.iter().filter(|key| !key.is_pattern() && key.path != "retention") {
            if self.entries.contains_key(key.path) {
                continue;
            }
            let (text, origin) = match key.preset {
                Preset::Is(text) => (Some(text.to_owned()), Origin::Default),
                Preset::ByMode(alone, together) => {
                    (Some(if distributed { together } else { alone }.to_owned()), Origin::Mode)
                }
                Preset::ProjectName(other) => {
                    (Some(self.project.clone().unwrap_or_else(|| other.to_owned())), Origin::Default)
                }
                Preset::Unset(_) => (None, Origin::Default),
            };
            let value = text.map(|text| parse(key.kind, Raw::Text(&text)).unwrap_or(Value::Text(text)));
            self.entries.insert(key.path.to_owned(), Setting { key, value, origin });
        }
    }
}

/// The sources while they are put over each other.
struct Layers<'a> {
    settings: Settings,
    problems: Vec<Problem>,
    folder: &'a Path,
}

impl Layers<'_> {
    fn error(&mut self, file: &str, at: Position, code: &'static str, message: String, help: Option<String>) {
        self.problems.push(Diagnostic {
            severity: Severity::Error,
            code,
            message,
            file: file.to_owned(),
            line: at.line,
            column: at.column,
            value: None,
            help,
        });
    }

    fn put(&mut self, path: &str, setting: &Setting) {
        // One time for all takes the place of what a source below said about one.
        let spread: &[&str] = if path == "retention" { RETENTIONS } else { &[] };
        for path in spread {
            let key = find(path).expect("a declared key");
            self.settings.entries.insert((*path).to_owned(), Setting { key, ..setting.clone() });
        }
        if spread.is_empty() {
            self.settings.entries.insert(path.to_owned(), setting.clone());
        }
    }

    fn accept(&mut self, path: &str, key: &'static Key, parsed: Result<Value, Wrong>, origin: Origin) {
        match parsed {
            Ok(value) => self.put(path, &Setting { key, value: Some(value), origin }),
            Err(Wrong { reason, help }) => {
                self.settings.refused.insert(path.to_owned());
                let (file, at, subject) = match &origin {
                    Origin::File { file, line, column } => {
                        (file.clone(), Position { line: *line, column: *column }, format!("`{path}`"))
                    }
                    Origin::Environment(name) => {
                        (ENVIRONMENT.to_owned(), Position::default(), format!("{name}: `{path}`"))
                    }
                    Origin::Option(option) => {
                        (COMMAND_LINE.to_owned(), Position::default(), format!("{option}: `{path}`"))
                    }
                    Origin::Default | Origin::Mode => (String::new(), Position::default(), format!("`{path}`")),
                };
                let code = if key.kind == Kind::Secret { "CONFIG_INVALID_SECRET" } else { "CONFIG_INVALID_VALUE" };
                self.error(&file, at, code, format!("{subject} {reason}"), help);
            }
        }
    }

    fn file(&mut self, file: &SourceFile) {
        let outcome = parse_document(file);
        self.problems.extend(outcome.diagnostics);
        let Some(Node { data: Data::Map(fields), .. }) = outcome.value else {
            self.settings.unread = true;
            return;
        };
        for (key, node) in &fields {
            match (key.name.as_str(), &node.data) {
                (_, Data::Null) => {}
                ("name", Data::Text(name)) => self.settings.project = Some(name.clone()),
                ("plugins", _) => self.plain("plugins", node, &file.path),
                (name, _) if OPERATOR_KEYS.contains(&name) => self.walk(name, node, &file.path),
                // The project's reader knows the other keys, and what is none.
                _ => {}
            }
        }
    }

    /// Takes over what another reader checks, as far as it is a key.
    fn plain(&mut self, path: &str, node: &Node, file: &str) {
        if let Some(key) = find(path) {
            let origin = Origin::File { file: file.to_owned(), line: node.at.line, column: node.at.column };
            return self.put(path, &Setting { key, value: Some(Value::Plain(node.json())), origin });
        }
        let Data::Map(fields) = &node.data else { return };
        for (key, node) in fields.iter().filter(|(_, node)| !matches!(node.data, Data::Null)) {
            self.plain(&format!("{path}.{}", key.name), node, file);
        }
    }

    fn walk(&mut self, path: &str, node: &Node, file: &str) {
        let section = SECTIONS.iter().find(|section| section.path == path);
        let key = find(path);
        match (section, key, &node.data) {
            (_, _, Data::Null) => {}
            (Some(section), _, Data::Map(fields)) => {
                for (key, node) in fields {
                    let below = format!("{path}.{}", key.name);
                    if find(&below).is_some() || SECTIONS.iter().any(|section| section.path == below) {
                        self.walk(&below, node, file);
                        continue;
                    }
                    let message = match section.noun {
                        "key" => format!("unknown key `{}` in `{path}`", cut(&key.name)),
                        noun => format!("there is no {noun} `{}`", cut(&key.name)),
                    };
                    self.settings.refused.insert(below);
                    self.error(file, key.at, "CONFIG_UNKNOWN_KEY", message, Some(suggestion(path, &key.name)));
                }
            }
            (_, Some(key), _) => {
                let origin = Origin::File { file: file.to_owned(), line: node.at.line, column: node.at.column };
                let folder = self.folder;
                let parsed = parse(key.kind, Raw::Node(node)).map(|value| value.seen_from(folder));
                self.accept(path, key, parsed, origin);
            }
            (_, None, _) => {
                let message = format!("`{path}` must be a mapping but is {}", node.described());
                let names: Vec<&str> = children(path);
                let help = names.first().map(|first| format!("write `{path}: {{ {first}: ... }}`"));
                self.settings.refused.insert(path.to_owned());
                self.error(file, node.at, "CONFIG_INVALID_VALUE", message, help);
            }
        }
    }

    fn environment(&mut self, variables: &BTreeMap<String, String>) {
        let named: Vec<(String, &'static Key)> =
            KEYS.iter().filter_map(|key| key.environment().map(|name| (name, key))).collect();
        for (name, key) in &named {
            let Some(text) = variables.get(name).filter(|text| !text.is_empty()) else { continue };
            let origin = || Origin::Environment(name.clone());
            let Some(section) = key.path.strip_suffix(".*") else {
                self.accept(key.path, key, parse(key.kind, Raw::Text(text)), origin());
                continue;
            };
            for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
                match entry.split_once('=') {
                    Some((entry, value)) if !entry.trim().is_empty() => {
                        let path = format!("{section}.{}", entry.trim());
                        self.accept(&path, key, parse(key.kind, Raw::Text(value)), origin());
                    }
                    _ => {
                        let message = format!("{name}: `{}` names no entry and value", cut(entry));
                        let help = "write `NAME=VALUE`, several parted by commas".to_owned();
                        self.error(ENVIRONMENT, Position::default(), "CONFIG_INVALID_VALUE", message, Some(help));
                    }
                }
            }
        }
        self.unknown_variables(variables, &named);
    }

    /// A variable that is almost one of ours is a mistake. One that is nothing like ours may be somebody else's: systems that run
    /// containers set `COMPOZY_SERVICE_HOST` and the like by themselves.
    fn unknown_variables(&mut self, variables: &BTreeMap<String, String>, named: &[(String, &'static Key)]) {
        let ours: Vec<&str> = named.iter().filter_map(|(name, _)| name.strip_prefix(ENVIRONMENT_PREFIX)).collect();
        let used: BTreeSet<String> = self.settings.entries.values().filter_map(secret_variable).collect();
        for name in variables.keys() {
            let Some(end) = name.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
            if ours.contains(&end) || used.contains(name) {
                continue;
            }
            if let Some(near) = nearest(end, ours.iter().copied()) {
                let message = format!("unknown variable `{}`", cut(name));
                let help = format!("did you mean `{ENVIRONMENT_PREFIX}{near}`?");
                self.error(ENVIRONMENT, Position::default(), "CONFIG_UNKNOWN_KEY", message, Some(help));
            }
        }
    }

    fn flags(&mut self, flags: &[Assignment]) {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        for Assignment { key: path, value, option } in flags {
            let known = find(path).filter(|key| !path.contains('*') && key.scope == Scope::Everywhere);
            let Some(key) = known else {
                let (message, help) = unknown_option(path, option);
                self.error(COMMAND_LINE, Position::default(), "CONFIG_UNKNOWN_KEY", message, Some(help));
                continue;
            };
            if !seen.insert(path) {
                let short = path.rsplit('.').next().unwrap_or(path);
                let message = format!("{option} sets `{short}` twice; `{path}` can have one value");
                self.error(COMMAND_LINE, Position::default(), "CONFIG_SET_TWICE", message, None);
                continue;
            }
            let raw = match value {
                Given::Text(text) => Raw::Text(text),
                Given::List(items) => Raw::List(items),
            };
            self.accept(path, key, parse(key.kind, raw), Origin::Option(option));
        }
    }
}

fn secret_variable(setting: &Setting) -> Option<String> {
    match &setting.value {
        Some(Value::Secret(crate::secret::SecretPlace::Environment(name))) => Some(name.clone()),
        _ => None,
    }
}

/// The names below a section.
fn children(section: &str) -> Vec<&'static str> {
    let paths = KEYS.iter().map(|key| key.path).chain(SECTIONS.iter().map(|section| section.path));
    let below = paths.filter_map(|path| path.strip_prefix(section)?.strip_prefix('.'));
    let mut names: Vec<&str> = below.map(|rest| rest.split('.').next().unwrap_or(rest)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// What was probably meant by an unknown key: a neighbour, or a key of this name elsewhere.
fn suggestion(section: &str, name: &str) -> String {
    let names = children(section);
    let elsewhere = KEYS.iter().find(|key| key.path.rsplit('.').next() == Some(name));
    match elsewhere {
        Some(key) if nearest(name, names.iter().copied()).is_none() => format!("did you mean `{}`?", key.path),
        _ => hint(name, "known are", &names),
    }
}

fn unknown_option(path: &str, option: &str) -> (String, String) {
    if find(path).is_some_and(|key| key.scope == Scope::File) {
        let message = format!("{option}: `{}` can only be set in compozy.yaml", cut(path));
        return (message, "what plugins may do and what bounds them is written in the project file".to_owned());
    }
    if SECTIONS.iter().any(|section| section.path == path) {
        let message = format!("{option}: `{}` has keys of its own", cut(path));
        let names = children(path);
        return (message, hint("", "set one of", &names));
    }
    let all: Vec<&str> = KEYS.iter().filter(|key| key.scope == Scope::Everywhere).map(|key| key.path).collect();
    let last = path.rsplit('.').next().unwrap_or(path);
    let near = nearest(path, all.iter().copied())
        .or_else(|| all.iter().copied().find(|known| known.rsplit('.').next() == Some(last)));
    let help = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`config reference` lists every key".to_owned(),
    };
    (format!("{option}: there is no key `{}`", cut(path)), help)
}
