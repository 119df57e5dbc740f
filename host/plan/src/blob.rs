//! References to large values. A value above a size is kept apart under the digest of its JSON, and a small object stands
//! for it wherever it was: the claim check. Only engines make such objects; data from outside that looks like one is
//! refused, so that nobody can refer to what was never handed to them.

use serde_json::{Value, json};

/// The key of the object that stands for a value. Reserved: no data from outside may have it.
pub const BLOB_KEY: &str = "$compozy:blob";

/// A value that is kept apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobRef {
    /// SHA-256 of the value's JSON, 64 hexadecimal digits in lower case.
    pub digest: String,
    /// The length of its JSON, in bytes.
    pub bytes: u64,
}

impl BlobRef {
    /// What `value` refers to; `None` when it is a value like any other.
    pub fn of(value: &Value) -> Option<Self> {
        let fields = value.as_object().filter(|fields| fields.len() == 1)?;
        let about = fields.get(BLOB_KEY)?;
        let digest = about.get("sha256")?.as_str()?;
        let hexadecimal = digest.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        (digest.len() == 64 && hexadecimal)
            .then_some(())
            .and(about.get("bytes")?.as_u64())
            .map(|bytes| Self { digest: digest.to_owned(), bytes })
    }

    /// The object that stands for the value.
    pub fn to_value(&self) -> Value {
        json!({ BLOB_KEY: { "sha256": self.digest, "bytes": self.bytes } })
    }

    /// All references in `value`, in the order of the text.
    pub fn all(value: &Value) -> Vec<Self> {
        let mut found = Vec::new();
        collect(value, &mut found);
        found
    }
}

fn collect(value: &Value, found: &mut Vec<BlobRef>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(fields) => match BlobRef::of(value) {
            Some(blob) => found.push(blob),
            None => fields.values().for_each(|field| collect(field, found)),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether an object in `value` has the reserved key: it refers to a value that is kept apart, or pretends to.
pub fn has_blob_key(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(has_blob_key),
        Value::Object(fields) => fields.contains_key(BLOB_KEY) || fields.values().any(has_blob_key),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reference_is_what_an_engine_wrote_and_nothing_else() {
        let blob = BlobRef { digest: "0a".repeat(32), bytes: 70_000 };
        assert_eq!(BlobRef::of(&blob.to_value()), Some(blob.clone()));
        let strange = [
            json!({ BLOB_KEY: { "sha256": "0A".repeat(32), "bytes": 1 } }),
            json!({ BLOB_KEY: { "sha256": "0a", "bytes": 1 } }),
            json!({ BLOB_KEY: { "sha256": "0a".repeat(32) } }),
            json!({ BLOB_KEY: { "sha256": "0a".repeat(32), "bytes": 1 }, "other": 1 }),
            json!({ BLOB_KEY: null }),
        ];
        for value in strange {
            assert_eq!(BlobRef::of(&value), None, "{value}");
            assert!(has_blob_key(&json!({ "deep": [value] })));
        }
        assert!(!has_blob_key(&json!({ "text": BLOB_KEY, "list": [BLOB_KEY] })));
        assert_eq!(BlobRef::all(&json!({ "a": [blob.to_value(), 1], "b": blob.to_value() })), [blob.clone(), blob]);
    }
}
