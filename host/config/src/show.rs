//! What holds and where it came from.

use serde_json::{Value as Json, json};

use crate::key::Preset;
use crate::layers::{Origin, Setting, Settings};

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Mode => f.write_str("default of the mode"),
            Self::File { file, line, .. } => write!(f, "{file}:{line}"),
            Self::Environment(name) => f.write_str(name),
            Self::Option(option) => f.write_str(option),
        }
    }
}

impl Settings {
    /// A line per key: the key, its value, where it came from. Secrets are masked.
    pub fn to_text(&self) -> String {
        let lines: Vec<[String; 3]> =
            self.iter().map(|(path, setting)| [path.to_owned(), shown(setting), setting.origin.to_string()]).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
        // One long value does not push everything to the right.
        let (keys, values) = (width(0), width(1).min(40));
        lines.iter().map(|[key, value, origin]| format!("{key:keys$}  {value:values$}  {origin}\n")).collect()
    }

    /// The same for programs. Secrets are masked.
    pub fn to_json(&self) -> Json {
        self.iter()
            .map(|(path, setting)| {
                json!({
                    "key": path,
                    "value": setting.value.as_ref().map(crate::value::Value::json),
                    "origin": origin(&setting.origin),
                })
            })
            .collect()
    }
}

fn shown(setting: &Setting) -> String {
    match (&setting.value, setting.key.preset) {
        (Some(value), _) => value.shown(),
        (None, Preset::Unset(words)) => format!("({words})"),
        (None, _) => "-".to_owned(),
    }
}

fn origin(origin: &Origin) -> Json {
    match origin {
        Origin::Default => json!({ "from": "default" }),
        Origin::Mode => json!({ "from": "mode" }),
        Origin::File { file, line, column } => json!({ "from": "file", "file": file, "line": line, "column": column }),
        Origin::Environment(name) => json!({ "from": "environment", "name": name }),
        Origin::Option(option) => json!({ "from": "option", "name": option }),
    }
}
