//! Values: read from a text or from a part of a document, and written for people and programs.

use std::path::{Path, PathBuf};

use compozy_plan::{Data, Node, cut, hint, parse_duration};
use serde_json::{Value as Json, json};

use crate::key::Kind;
use crate::limits::{LIST_ITEMS_MAX, NAME_CHARS_MAX, TEXT_BYTES_MAX};
use crate::secret::{MASK, Secret, SecretPlace};

/// A value of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text, name, word, address or URL.
    Text(String),
    /// `true` or `false`.
    Switch(bool),
    /// An integer.
    Count(u64),
    /// A time, in milliseconds.
    Time(u64),
    /// A path.
    Path(PathBuf),
    /// Texts, names or words.
    List(Vec<String>),
    /// Paths.
    Paths(Vec<PathBuf>),
    /// Where a secret is.
    Secret(SecretPlace),
    /// What the project's reader reads.
    Plain(Json),
}

/// A value as somebody wrote it.
#[derive(Debug, Clone, Copy)]
pub enum Raw<'a> {
    /// In the project file.
    Node(&'a Node),
    /// In the environment or on the command line; lists are parted by commas.
    Text(&'a str),
    /// On the command line, an option that was given several times.
    List(&'a [String]),
}

/// Why a value cannot be used: "must be ... but is ...", and what to do. Never has a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong, as the end of a sentence that begins with the key.
    pub reason: String,
    /// What to do.
    pub help: Option<String>,
}

impl Wrong {
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Reads a value of this kind.
pub fn parse(kind: Kind, raw: Raw<'_>) -> Result<Value, Wrong> {
    match kind {
        Kind::Text => text(raw, "a text").map(Value::Text),
        Kind::Name => text(raw, "a name").and_then(|found| name(&found)).map(Value::Text),
        Kind::Word(words) => text(raw, "a word").and_then(|found| word(&found, words)).map(Value::Text),
        Kind::Words(words) => {
            list(raw, words_wanted)?.iter().map(|found| word(found, words)).collect::<Result<Vec<_>, _>>().and_then(set)
        }
        Kind::Names => {
            list(raw, names_wanted)?.iter().map(|found| name(found)).collect::<Result<Vec<_>, _>>().and_then(set)
        }
        Kind::Texts | Kind::Folders => list(raw, names_wanted).map(Value::List),
        Kind::Switch => switch(raw),
        Kind::Count { min, max, unit } => count(raw, min, max, unit),
        Kind::Time { min, max } => time(raw, min, max),
        Kind::Path => text(raw, "a path").map(|path| Value::Path(PathBuf::from(path))),
        Kind::Paths => {
            list(raw, paths_wanted).map(|paths| Value::Paths(paths.into_iter().map(PathBuf::from).collect()))
        }
        Kind::Listen => text(raw, "an address").and_then(listen),
        Kind::Url(schemes) => text(raw, "a URL").and_then(|found| url(found, schemes)),
        Kind::Secret => secret(raw).map(Value::Secret),
    }
}

fn is(node: &Node) -> String {
    match node.shown() {
        Some(shown) => format!("{} (`{}`)", node.described(), cut(&shown)),
        None => node.described().to_owned(),
    }
}

fn text(raw: Raw<'_>, wanted: &str) -> Result<String, Wrong> {
    let found = match raw {
        Raw::Text(found) => found,
        Raw::List([found]) => found,
        Raw::List(_) => return Err(Wrong::new(format!("must be {wanted} but is a list"))),
        Raw::Node(node) => match &node.data {
            Data::Text(found) => found,
            Data::Number(_) | Data::Bool(_) => {
                return Err(Wrong::new(format!("must be {wanted} but is {}", is(node))).help("put it in quotes"));
            }
            _ => return Err(Wrong::new(format!("must be {wanted} but is {}", is(node)))),
        },
    };
    bounded(found)?;
    if found.trim().is_empty() {
        return Err(Wrong::new(format!("must be {wanted} but is empty")));
    }
    Ok(found.to_owned())
}

fn bounded(found: &str) -> Result<(), Wrong> {
    if found.len() > TEXT_BYTES_MAX {
        return Err(Wrong::new(format!("has {} bytes but at most {TEXT_BYTES_MAX} are allowed", found.len())));
    }
    Ok(())
}

fn name(found: &str) -> Result<String, Wrong> {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if found.is_empty() || found.chars().count() > NAME_CHARS_MAX || !found.chars().all(known) {
        return Err(Wrong::new(format!("cannot be `{}`", cut(found)))
            .help(format!("use letters, digits, `-`, `_` and `.`, at most {NAME_CHARS_MAX} characters")));
    }
    Ok(found.to_owned())
}

fn word(found: &str, words: &[&str]) -> Result<String, Wrong> {
    if words.contains(&found) {
        return Ok(found.to_owned());
    }
    Err(Wrong::new(format!("cannot be `{}`", cut(found))).help(hint(found, "it is one of", words)))
}

fn set(items: Vec<String>) -> Result<Value, Wrong> {
    for (at, item) in items.iter().enumerate() {
        if items[..at].contains(item) {
            return Err(Wrong::new(format!("has `{}` twice", cut(item))).help("remove one of the two"));
        }
    }
    Ok(Value::List(items))
}

fn words_wanted() -> &'static str {
    "a list of words"
}

fn names_wanted() -> &'static str {
    "a list of names"
}

fn paths_wanted() -> &'static str {
    "a list of paths"
}

fn list(raw: Raw<'_>, wanted: fn() -> &'static str) -> Result<Vec<String>, Wrong> {
    let items: Vec<String> = match raw {
        Raw::Text(found) => {
            found.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
        }
        Raw::List(items) => items.to_vec(),
        Raw::Node(node) => {
            let Data::List(items) = &node.data else {
                let help = "write it in brackets: `[a, b]`";
                return Err(Wrong::new(format!("must be {} but is {}", wanted(), is(node))).help(help));
            };
            items
                .iter()
                .map(|item| text(Raw::Node(item), "a text"))
                .collect::<Result<_, _>>()
                .map_err(|wrong| Wrong { reason: format!("has an item that {}", wrong.reason), help: wrong.help })?
        }
    };
    if items.len() > LIST_ITEMS_MAX {
        return Err(Wrong::new(format!("has {} items but at most {LIST_ITEMS_MAX} are allowed", items.len())));
    }
    items.iter().try_for_each(|item| bounded(item))?;
    Ok(items)
}

fn switch(raw: Raw<'_>) -> Result<Value, Wrong> {
    let shown = match raw {
        Raw::Node(Node { data: Data::Bool(value), .. }) => return Ok(Value::Switch(*value)),
        Raw::Node(node) => is(node),
        Raw::Text("true") => return Ok(Value::Switch(true)),
        Raw::Text("false") => return Ok(Value::Switch(false)),
        Raw::Text(found) => format!("`{}`", cut(found)),
        Raw::List(_) => "a list".to_owned(),
    };
    Err(Wrong::new(format!("must be `true` or `false` but is {shown}")))
}

fn count(raw: Raw<'_>, min: u64, max: u64, unit: &str) -> Result<Value, Wrong> {
    let (found, shown) = match raw {
        Raw::Node(node) => match &node.data {
            Data::Number(number) => (number.as_u64(), number.to_string()),
            _ => (None, is(node)),
        },
        Raw::Text(found) => (found.trim().parse().ok(), format!("`{}`", cut(found))),
        Raw::List(_) => (None, "a list".to_owned()),
    };
    match found {
        Some(found) if (min..=max).contains(&found) => Ok(Value::Count(found)),
        _ => Err(Wrong::new(format!("must be an integer from {min} to {max} ({unit}) but is {shown}"))),
    }
}

fn time(raw: Raw<'_>, min: u64, max: u64) -> Result<Value, Wrong> {
    const HELP: &str = "write a number and a unit (ms, s, m, h), for example `30s` or `1m30s`";
    let found = match raw {
        Raw::Node(Node { data: Data::Text(found), .. }) => found.as_str(),
        Raw::Text(found) => found,
        Raw::Node(node @ Node { data: Data::Number(_), .. }) => {
            let shown = node.shown().unwrap_or_default();
            return Err(Wrong::new(format!("is the number {} without a unit", cut(&shown))).help(HELP));
        }
        Raw::Node(node) => return Err(Wrong::new(format!("must be a time but is {}", is(node))).help(HELP)),
        Raw::List(_) => return Err(Wrong::new("must be a time but is a list").help(HELP)),
    };
    bounded(found)?;
    let ms = parse_duration(found).map_err(|reason| Wrong::new(format!("is no time: {reason}")).help(HELP))?;
    if !(min..=max).contains(&ms) {
        let (min, max) = (write_time(min), write_time(max));
        return Err(Wrong::new(format!("must be from `{min}` to `{max}` but is `{}`", cut(found))));
    }
    Ok(Value::Time(ms))
}

fn listen(found: String) -> Result<Value, Wrong> {
    const HELP: &str = "write `HOST:PORT`, for example `127.0.0.1:5001`; port 0 takes a free one";
    match found.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(Value::Text(found)),
        _ => Err(Wrong::new(format!("is no address to listen on: `{}`", cut(&found))).help(HELP)),
    }
}

fn url(found: String, schemes: &[&str]) -> Result<Value, Wrong> {
    let help = || format!("write `{}://HOST:PORT`", schemes.join("://HOST:PORT` or `"));
    let Some((scheme, rest)) = found.split_once("://") else {
        return Err(Wrong::new(format!("has no scheme: `{}`", shown_url(&found))).help(help()));
    };
    if !schemes.contains(&scheme) {
        return Err(Wrong::new(format!("cannot have the scheme `{}`", cut(scheme))).help(help()));
    }
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.contains('@') {
        // Shown nowhere: what stands before the `@` may be a password.
        return Err(Wrong::new("has a user or password in it").help("take away what stands before the `@`"));
    }
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port.parse::<u16>().map(drop).is_ok()),
        _ => (host, true),
    };
    if name.is_empty() || !port || host.contains(char::is_whitespace) {
        return Err(Wrong::new(format!("has no usable host and port: `{}`", cut(&found))).help(help()));
    }
    Ok(Value::Text(found))
}

/// Without what may be a password.
fn shown_url(found: &str) -> String {
    cut(found.rsplit_once('@').map_or(found, |(_, rest)| rest))
}

fn secret(raw: Raw<'_>) -> Result<SecretPlace, Wrong> {
    const HELP: &str = "write `{ env: NAME }` or `{ file: PATH }`";
    let here = |found: &str| {
        bounded(found)?;
        if found.is_empty() {
            return Err(Wrong::new("is empty").help(HELP));
        }
        Ok(SecretPlace::Here(Secret::new(found)))
    };
    let node = match raw {
        Raw::Text(found) => return here(found),
        Raw::List([found]) => return here(found.as_str()),
        Raw::List(_) => return Err(Wrong::new("must be one text but is a list")),
        Raw::Node(node) => node,
    };
    let fields = match &node.data {
        Data::Text(found) => return here(found),
        Data::Map(fields) => fields,
        // The value is not named: whatever it is, it was meant to be secret.
        _ => return Err(Wrong::new(format!("must be a text or a place but is {}", node.described())).help(HELP)),
    };
    match fields.as_slice() {
        [(key, node)] if key.name == "env" => text(Raw::Node(node), "a name").map(SecretPlace::Environment),
        [(key, node)] if key.name == "file" => {
            text(Raw::Node(node), "a path").map(|path| SecretPlace::File(PathBuf::from(path)))
        }
        [(key, _)] => {
            let near = hint(&key.name, "places are", &["env", "file"]);
            Err(Wrong::new(format!("has the unknown place `{}`", cut(&key.name))).help(near))
        }
        _ => Err(Wrong::new("must say one place where its value is").help(HELP)),
    }
}

/// A time in the largest units that give whole numbers.
pub fn write_time(ms: u64) -> String {
    let (hours, minutes, seconds, rest) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
    let parts = [(hours, "h"), (minutes, "m"), (seconds, "s"), (rest, "ms")];
    let text: String = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

impl Value {
    /// For a person. Secrets are masked.
    pub fn shown(&self) -> String {
        match self {
            Self::Text(text) | Self::Plain(Json::String(text)) => text.clone(),
            Self::Switch(value) => value.to_string(),
            Self::Count(count) => count.to_string(),
            Self::Time(ms) => write_time(*ms),
            Self::Path(path) => path.display().to_string(),
            Self::List(items) => format!("[{}]", items.join(", ")),
            Self::Paths(paths) => {
                format!("[{}]", paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "))
            }
            Self::Secret(place) => place.to_string(),
            Self::Plain(value) => value.to_string(),
        }
    }

    /// For a program. Secrets are masked.
    pub fn json(&self) -> Json {
        match self {
            Self::Text(_) | Self::Time(_) | Self::Path(_) => Json::String(self.shown()),
            Self::Switch(value) => json!(value),
            Self::Count(count) => json!(count),
            Self::List(items) => json!(items),
            Self::Paths(paths) => paths.iter().map(|path| path.display().to_string()).collect(),
            Self::Secret(_) => json!(MASK),
            Self::Plain(value) => value.clone(),
        }
    }

    /// With relative paths seen from this folder.
    pub(crate) fn seen_from(self, folder: &Path) -> Self {
        match self {
            Self::Path(path) => Self::Path(folder.join(path)),
            Self::Paths(paths) => Self::Paths(paths.into_iter().map(|path| folder.join(path)).collect()),
            Self::Secret(SecretPlace::File(path)) => Self::Secret(SecretPlace::File(folder.join(path))),
            other => other,
        }
    }
}
