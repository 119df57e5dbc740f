//! The JSON schema of the project file, for editors.

use compozy_plan::PROJECT_KEYS;
use serde_json::{Map, Value, json};

use crate::key::{Key, Kind, Preset};
use crate::keys::{KEYS, SECTIONS};
use crate::limits::{LIST_ITEMS_MAX, NAME_CHARS_MAX, TEXT_BYTES_MAX};
use crate::value::write_time;

/// A number with `B`, `KiB`, `MiB` or `GiB`, or one with a unit of time.
const LIMIT_PATTERN: &str = "^[0-9.]+ ?(B|KiB|MiB|GiB|ms|s|m|h)([0-9.]+(ms|s|m|h))*$";
const TIME_PATTERN: &str = "^([0-9]+(\\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$";
const NAME_PATTERN: &str = "^[A-Za-z0-9_.-]+$";

/// The schema, as text that ends with a line break.
pub fn schema() -> String {
    let mut root = Map::new();
    for name in PROJECT_KEYS {
        root.insert((*name).to_owned(), json!({ "description": "See the documentation of projects." }));
    }
    for key in KEYS {
        insert(&mut root, "", key.path, key);
    }
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "compozy.yaml",
        "description": "A project, and how its host is to be run.",
        "type": "object",
        "additionalProperties": false,
        "properties": root,
    });
    format!("{schema:#}\n")
}

/// Puts the key below the properties of `at`, and makes the mappings on the way.
fn insert(properties: &mut Map<String, Value>, at: &str, rest: &str, key: &Key) {
    let Some((name, rest)) = rest.split_once('.') else {
        let before = properties.insert(rest.to_owned(), of_key(key));
        debug_assert!(before.is_none(), "{} is in the schema twice", key.path);
        return;
    };
    let path = if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    let section = properties.entry(name.to_owned()).or_insert_with(|| json!({}));
    // A key that is also a mapping, as `retention`, takes either.
    let section = if let Some(of_key) =
        section.get("type").filter(|kind| *kind != "object").cloned().and(Some(section.clone()))
    {
        *section = json!({ "anyOf": [of_key, {}] });
        &mut section["anyOf"][1]
    } else if section.get("anyOf").is_some() {
        &mut section["anyOf"][1]
    } else {
        section
    };
    if section.get("type").is_none() {
        let doc = SECTIONS.iter().find(|section| section.path == path).map_or("", |section| section.doc);
        *section = json!({ "description": doc, "type": "object", "additionalProperties": false, "properties": {} });
    }
    // `*`: any name.
    if rest == "*" {
        section["additionalProperties"] = of_key(key);
        return;
    }
    if let Some(below) = rest.strip_prefix("*.") {
        if !section["additionalProperties"].is_object() {
            let doc = SECTIONS.iter().find(|section| section.path == format!("{path}.*"));
            section["additionalProperties"] = json!({
                "description": doc.map_or("", |section| section.doc),
                "type": "object",
                "additionalProperties": false,
                "properties": {},
            });
        }
        let inner = section["additionalProperties"]["properties"].as_object_mut().expect("just made");
        return insert(inner, &format!("{path}.*"), below, key);
    }
    let inner = section["properties"].as_object_mut().expect("just made");
    insert(inner, &path, rest, key);
}

fn of_key(key: &Key) -> Value {
    let mut schema = of_kind(key.kind);
    if key.path.ends_with(".limits.*") {
        schema = json!({ "anyOf": [schema, { "type": "string", "pattern": LIMIT_PATTERN }] });
    }
    let fields = schema.as_object_mut().expect("an object");
    let mut doc = key.doc.to_owned();
    if let Some(range) = super::reference::bounds(key.kind) {
        doc = format!("{doc} {range}.");
    }
    if let Preset::ByMode(alone, together) = key.preset {
        doc = format!("{doc} Default: {alone}, or {together} when the mode is distributed.");
    }
    fields.insert("description".to_owned(), json!(doc));
    if let (Preset::Is(text), false) = (key.preset, matches!(key.kind, Kind::Secret)) {
        fields.insert("default".to_owned(), default(key.kind, text));
    }
    schema
}

fn default(kind: Kind, text: &str) -> Value {
    match kind {
        Kind::Switch => json!(text == "true"),
        Kind::Words(_) | Kind::Names | Kind::Paths | Kind::Texts | Kind::Folders => {
            text.split(',').filter(|item| !item.is_empty()).collect()
        }
        _ => json!(text),
    }
}

fn of_kind(kind: Kind) -> Value {
    let text = json!({ "type": "string", "minLength": 1, "maxLength": TEXT_BYTES_MAX });
    let list = |items: Value| json!({ "type": "array", "maxItems": LIST_ITEMS_MAX, "items": items });
    match kind {
        Kind::Text | Kind::Path | Kind::Listen => text,
        Kind::Name => json!({ "type": "string", "maxLength": NAME_CHARS_MAX, "pattern": NAME_PATTERN }),
        Kind::Word(words) => json!({ "enum": words }),
        Kind::Words(words) => {
            json!({ "type": "array", "uniqueItems": true, "maxItems": words.len(), "items": { "enum": words } })
        }
        Kind::Switch => json!({ "type": "boolean" }),
        Kind::Count { min, max: u64::MAX, .. } => json!({ "type": "integer", "minimum": min }),
        Kind::Count { min, max, .. } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Time { .. } => json!({ "type": "string", "pattern": TIME_PATTERN }),
        Kind::Paths | Kind::Texts => list(text),
        Kind::Names => list(json!({ "type": "string", "maxLength": NAME_CHARS_MAX, "pattern": NAME_PATTERN })),
        Kind::Url(schemes) => json!({ "type": "string", "pattern": format!("^({})://[^@/]+", schemes.join("|")) }),
        Kind::Secret => json!({ "anyOf": [text, place("env"), place("file")] }),
        Kind::Folders => list(json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["guest", "host"],
            "properties": {
                "guest": { "type": "string" },
                "host": { "type": "string" },
                "access": { "enum": ["read", "read-write"], "default": "read" },
            },
        })),
    }
}

fn place(name: &str) -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": [name],
        "properties": { (name): { "type": "string", "minLength": 1 } },
    })
}

/// For messages about bounds.
pub(crate) fn range_of_time(min: u64, max: u64) -> String {
    format!("From `{}` to `{}`", write_time(min), write_time(max))
}
