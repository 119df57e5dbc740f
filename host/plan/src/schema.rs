//! JSON Schema.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::limits::{SCHEMA_BYTES_MAX, SCHEMA_DEPTH_MAX, SCHEMA_VIOLATIONS_MAX};
use crate::suggest::cut;

/// A compiled schema. Cheap to clone; serialises as its source.
#[derive(Debug, Clone)]
pub struct Schema(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: Value,
    validator: jsonschema::Validator,
}

/// Why a value does not fit a schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The place in the value as a JSON pointer, empty for the value itself.
    pub path: String,
    /// For a person.
    pub message: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "at `{}`: {}", self.path, self.message)
        }
    }
}

/// Why a schema cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The schema is larger than the limit.
    #[error(
        "the schema has {bytes} bytes but at most {SCHEMA_BYTES_MAX} are allowed; describe only what must be checked"
    )]
    TooLarge {
        /// Bytes of its JSON.
        bytes: usize,
    },
    /// The schema is nested deeper than the limit.
    #[error("the schema is nested more than {SCHEMA_DEPTH_MAX} levels deep; use `$defs` and `$ref`")]
    TooDeep,
    /// A reference leads out of the document.
    #[error(
        "the schema refers to `{reference}`, but only references inside the schema (`#/...`) are followed; copy the part under `$defs`"
    )]
    RemoteReference {
        /// The `$ref`.
        reference: String,
    },
    /// A reference leads to itself.
    #[error(
        "the schema's reference `{reference}` leads back to itself without anything in between; no value can be checked by it"
    )]
    ReferenceLoop {
        /// The `$ref`.
        reference: String,
    },
    /// The schema is not a schema.
    #[error("not a valid JSON schema{place}: {reason}")]
    Invalid {
        /// Where, with ` at ` before it.
        place: String,
        /// Why.
        reason: String,
    },
}

impl Schema {
    /// Compiles a schema. References out of the document are refused.
    pub fn compile(source: Value) -> Result<Self, SchemaError> {
        check_shape(&source, 0)?;
        let bytes = source.to_string().len();
        if bytes > SCHEMA_BYTES_MAX {
            return Err(SchemaError::TooLarge { bytes });
        }
        check_references(&source, &source)?;
        let validator = jsonschema::options()
            .offline()
            .should_validate_formats(true)
            // Linear time, whatever the pattern and the text.
            .with_pattern_options(jsonschema::PatternOptions::regex())
            .build(&source)
            .map_err(|error| SchemaError::Invalid {
                place: match error.instance_path().as_str() {
                    "" => String::new(),
                    path => format!(" at `{path}`"),
                },
                reason: cut_long(&error.to_string()),
            })?;
        Ok(Self(Arc::new(Inner { source, validator })))
    }

    /// Whether the value fits; if not, what is wrong with it, at most [`SCHEMA_VIOLATIONS_MAX`] points.
    pub fn validate(&self, value: &Value) -> Result<(), Vec<Violation>> {
        let violations: Vec<Violation> = self
            .0
            .validator
            .iter_errors(value)
            .take(SCHEMA_VIOLATIONS_MAX)
            .map(|error| {
                let full = error.to_string();
                // The value is shown only when it is short enough to be read.
                let message = if full.chars().count() <= 200 { full } else { error.masked().to_string() };
                Violation { path: error.instance_path().as_str().to_owned(), message: cut_long(&message) }
            })
            .collect();
        if violations.is_empty() { Ok(()) } else { Err(violations) }
    }

    /// What the schema was compiled from.
    pub fn source(&self) -> &Value {
        &self.0.source
    }
}

fn cut_long(text: &str) -> String {
    match text.char_indices().nth(400) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn check_shape(source: &Value, depth: usize) -> Result<(), SchemaError> {
    if depth > SCHEMA_DEPTH_MAX {
        return Err(SchemaError::TooDeep);
    }
    match source {
        Value::Array(items) => items.iter().try_for_each(|item| check_shape(item, depth + 1)),
        Value::Object(fields) => fields.values().try_for_each(|field| check_shape(field, depth + 1)),
        _ => Ok(()),
    }
}

/// The reference of a schema object, whatever its draft calls it.
fn reference(schema: &Value) -> Option<&str> {
    ["$ref", "$dynamicRef", "$recursiveRef"].into_iter().find_map(|key| schema.get(key)?.as_str())
}

fn check_references(schema: &Value, root: &Value) -> Result<(), SchemaError> {
    if let Some(reference) = reference(schema) {
        if !reference.starts_with('#') {
            return Err(SchemaError::RemoteReference { reference: cut(reference) });
        }
        check_loop(reference, root)?;
    }
    match schema {
        Value::Array(items) => items.iter().try_for_each(|item| check_references(item, root)),
        Value::Object(fields) => fields.values().try_for_each(|field| check_references(field, root)),
        _ => Ok(()),
    }
}

/// Keywords whose schemas check the same value, so that a reference back through them never ends.
const SAME_VALUE: [&str; 7] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else"];

/// Follows what checks the same value from `start`; coming to a place twice on one way is a loop.
fn check_loop(start: &str, root: &Value) -> Result<(), SchemaError> {
    let looped = || SchemaError::ReferenceLoop { reference: cut(start) };
    // References that are being followed: entered, and left again when all below is known to end.
    let mut done: std::collections::BTreeSet<&str> = std::collections::BTreeSet::new();
    let mut stack: Vec<(&str, bool)> = vec![(start, false)];
    let mut open: Vec<&str> = Vec::new();
    while let Some((reference, leaving)) = stack.pop() {
        if leaving {
            open.pop();
            done.insert(reference);
            continue;
        }
        if open.contains(&reference) {
            return Err(looped());
        }
        if done.contains(reference) {
            continue;
        }
        open.push(reference);
        stack.push((reference, true));
        let Some(target) = resolve(reference, root) else { continue };
        let mut next = Vec::new();
        same_value_references(target, &mut next);
        stack.extend(next.into_iter().map(|reference| (reference, false)));
    }
    Ok(())
}

fn resolve<'v>(reference: &str, root: &'v Value) -> Option<&'v Value> {
    let pointer = reference.strip_prefix('#')?;
    if pointer.is_empty() || pointer.starts_with('/') { root.pointer(pointer) } else { None }
}

fn same_value_references<'v>(schema: &'v Value, found: &mut Vec<&'v str>) {
    found.extend(reference(schema));
    for key in SAME_VALUE {
        match schema.get(key) {
            Some(Value::Array(schemas)) => schemas.iter().for_each(|schema| same_value_references(schema, found)),
            Some(schema) => same_value_references(schema, found),
            None => {}
        }
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.0.source == other.0.source
    }
}

impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.source.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::compile(Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Schema, SchemaError};

    #[test]
    fn violations_name_path_and_reason() {
        let schema = Schema::compile(json!({
            "type": "object",
            "properties": {"city": {"type": "string", "minLength": 1}, "days": {"type": "integer"}},
            "required": ["city"]
        }))
        .expect("compiles");
        assert!(schema.validate(&json!({"city": "Lisbon"})).is_ok());
        let violations = schema.validate(&json!({"city": "", "days": "x"})).expect_err("two problems");
        let paths: Vec<&str> = violations.iter().map(|violation| violation.path.as_str()).collect();
        assert_eq!(paths, ["/city", "/days"]);
        let missing = schema.validate(&json!({})).expect_err("missing");
        assert!(missing[0].to_string().contains("\"city\" is a required property"), "{}", missing[0]);
    }

    #[test]
    fn schemas_that_cannot_be_used() {
        let compile = |source| Schema::compile(source).expect_err("refused");
        assert!(matches!(compile(json!({"$ref": "https://example.com/x.json"})), SchemaError::RemoteReference { .. }));
        assert!(matches!(
            compile(json!({"properties": {"a": {"$ref": "other.json#/a"}}})),
            SchemaError::RemoteReference { .. }
        ));
        assert!(matches!(compile(json!({"$ref": "#"})), SchemaError::ReferenceLoop { .. }));
        let circle = json!({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"});
        assert!(matches!(compile(circle), SchemaError::ReferenceLoop { .. }));
        assert!(matches!(compile(json!({"type": "objct"})), SchemaError::Invalid { .. }));
        assert!(matches!(compile(json!({"description": "x".repeat(300_000)})), SchemaError::TooLarge { .. }));
        let mut deep = json!({});
        for _ in 0..60 {
            deep = json!({"not": deep});
        }
        assert!(matches!(compile(deep), SchemaError::TooDeep));
    }

    #[test]
    fn a_schema_may_refer_to_itself_for_parts() {
        let tree = json!({"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}});
        let schema = Schema::compile(tree.clone()).expect("compiles");
        assert!(schema.validate(&json!({"children": [{"children": []}]})).is_ok());
        assert!(schema.validate(&json!({"children": [{"children": 3}]})).is_err());
        assert_eq!(serde_json::to_value(&schema).expect("JSON"), tree);
    }

    #[test]
    fn only_the_first_violations_are_listed() {
        let schema = Schema::compile(json!({"items": {"type": "string"}})).expect("compiles");
        let violations = schema.validate(&json!(vec![1; 100])).expect_err("numbers");
        assert_eq!(violations.len(), super::SCHEMA_VIOLATIONS_MAX);
    }
}
