//! The reference page.

use std::fmt::Write as _;

use crate::key::{Key, Kind, Preset, Scope};
use crate::keys::{KEYS, SECTIONS};
use crate::limits::{NAME_CHARS_MAX, TEXT_BYTES_MAX};
use crate::schema::range_of_time;

const HEAD: &str = "\
# Configuration

<!-- Written by `compozy-host config reference`. Change host/config/src/keys.rs instead. -->

Every key of `compozy.yaml` that says how a host is to be run. Each has a default; a project needs none of them.

A value comes from the last of these that has one: the default, `compozy.yaml`, the environment, the command line.
`compozy-host config show` prints what holds and where it came from, and `config validate` every problem at once.

- **Environment**: `COMPOZY_` and the key in capitals, with `_` for every dot and hyphen: `engine.temporal.address` is
  `COMPOZY_ENGINE_TEMPORAL_ADDRESS`. Lists are parted by commas. An empty variable counts as missing. A variable that is almost one of these is refused;
  others that begin with `COMPOZY_` are somebody else's.
- **Command line**: `--set KEY=VALUE` for every key, and the options below. Lists are parted by commas.
- **Times** have a unit: `500ms`, `30s`, `1m30s`, `2h`. **Sizes** too: `64KiB`, `1MiB`.
- **Secrets** are written as `{ env: NAME }` or `{ file: PATH }`, or as a plain text, and never printed.
- **Paths** are relative to the folder of `compozy.yaml` when they stand in it, and else to the current folder.
";

/// The page, in Markdown; it ends with a line break.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    let mut heading = "";
    for key in KEYS {
        let top = key.path.split('.').next().unwrap_or(key.path);
        if top != heading {
            heading = top;
            let _ = write!(page, "\n## {top}\n");
            if let Some(section) = SECTIONS.iter().find(|section| section.path == top) {
                let _ = write!(page, "\n{}\n", section.doc);
            }
        }
        page.push_str(&entry(key));
    }
    page
}

fn entry(key: &Key) -> String {
    let path = key.path.replace('*', "NAME");
    let mut text = format!("\n### `{path}`\n\n{}\n\n", key.doc);
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "- {name}: {value}");
    };
    line("Value", kind(key.kind));
    line("Default", preset(key));
    line("Example", format!("`{}: {}`", path.rsplit('.').next().unwrap_or(&path), key.example));
    match (key.scope, key.environment()) {
        (Scope::Everywhere, Some(name)) if key.is_pattern() => {
            line("Environment", format!("`{name}=NAME=VALUE,...`"));
        }
        (Scope::Everywhere, Some(name)) => line("Environment", format!("`{name}`")),
        _ => line(
            "Set in",
            "`compozy.yaml` only, because it says what a plugin may do or becomes a part of plans".to_owned(),
        ),
    }
    if let Some(flag) = key.flag {
        line("Option", format!("`{flag}`"));
    }
    text
}

fn preset(key: &Key) -> String {
    match key.preset {
        Preset::Is("") => "none".to_owned(),
        Preset::Is(text) if matches!(key.kind, Kind::Words(_)) => format!("`[{}]`", text.replace(',', ", ")),
        Preset::Is(text) => format!("`{text}`"),
        Preset::ByMode(alone, together) => format!("`{alone}`; `{together}` when the mode is distributed"),
        Preset::ProjectName(other) => format!("the project's name, or `{other}`"),
        Preset::Unset(words) => words.to_owned(),
    }
}

fn kind(kind: Kind) -> String {
    let words = |words: &[&str]| format!("`{}`", words.join("`, `"));
    let what = match kind {
        Kind::Text => "a text".to_owned(),
        Kind::Name => "a name".to_owned(),
        Kind::Word(known) => format!("one of {}", words(known)),
        Kind::Words(known) => format!("a list of {}", words(known)),
        Kind::Switch => "`true` or `false`".to_owned(),
        Kind::Count { unit, .. } => format!("an integer ({unit})"),
        Kind::Time { .. } => "a time".to_owned(),
        Kind::Path => "a path".to_owned(),
        Kind::Paths => "a list of paths".to_owned(),
        Kind::Names => "a list of names".to_owned(),
        Kind::Texts => "a list of texts".to_owned(),
        Kind::Folders => "a list of folders".to_owned(),
        Kind::Listen => "`HOST:PORT`".to_owned(),
        Kind::Url(schemes) => format!("a URL with {}", words(schemes)),
        Kind::Secret => "a secret".to_owned(),
    };
    match bounds(kind) {
        Some(bounds) => format!("{what}. {bounds}"),
        None => what,
    }
}

/// What a value must keep to, as a sentence without its full stop.
pub(crate) fn bounds(kind: Kind) -> Option<String> {
    match kind {
        Kind::Text | Kind::Path | Kind::Secret => Some(format!("At most {TEXT_BYTES_MAX} bytes")),
        Kind::Name => Some(format!("At most {NAME_CHARS_MAX} characters: letters, digits, `-`, `_` and `.`")),
        Kind::Count { min, max: u64::MAX, .. } => Some(format!("At least {min}")),
        Kind::Count { min, max, .. } => Some(format!("From {min} to {max}")),
        Kind::Time { min, max } => Some(range_of_time(min, max)),
        _ => None,
    }
}
