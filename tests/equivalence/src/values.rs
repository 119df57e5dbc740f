//! Values that a fixture does not write out.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// What stands for something else.
const TEXT: &str = "$text";
const RUN: &str = "$run";
const ATTEMPT: &str = "$attempt";

/// What placeholders stand for.
#[derive(Debug, Default)]
pub(crate) struct Known<'a> {
    /// Ids of runs, by name.
    pub(crate) runs: Option<&'a BTreeMap<String, String>>,
    /// The number of the attempt.
    pub(crate) attempt: Option<u32>,
}

/// Puts values in the place of placeholders.
pub(crate) fn fill(value: &Value, known: &Known<'_>) -> Result<Value> {
    match value {
        Value::Object(object) => {
            if let Some((key, of)) = object.iter().next().filter(|(key, _)| object.len() == 1 && key.starts_with('$')) {
                return placeholder(key, of, known);
            }
            let filled = object.iter().map(|(key, value)| Ok((key.clone(), fill(value, known)?)));
            Ok(Value::Object(filled.collect::<Result<_>>()?))
        }
        Value::Array(items) => Ok(Value::Array(items.iter().map(|item| fill(item, known)).collect::<Result<_>>()?)),
        other => Ok(other.clone()),
    }
}

fn placeholder(key: &str, of: &Value, known: &Known<'_>) -> Result<Value> {
    match key {
        TEXT => {
            let bytes = of.as_u64().and_then(|bytes| usize::try_from(bytes).ok());
            Ok(Value::String(text(bytes.with_context(|| format!("`{TEXT}` needs a number of bytes, not {of}"))?)))
        }
        RUN => {
            let name = of.as_str().with_context(|| format!("`{RUN}` needs the name of a run, not {of}"))?;
            let id = known.runs.and_then(|runs| runs.get(name));
            Ok(Value::String(id.with_context(|| format!("there is no run `{name}`"))?.clone()))
        }
        ATTEMPT => known.attempt.map(Value::from).with_context(|| format!("`{ATTEMPT}` is for answers only")),
        other => bail!("there is no placeholder `{other}`; there are {TEXT}, {RUN} and {ATTEMPT}"),
    }
}

/// A text of so many bytes that compresses badly enough to be something.
fn text(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 16);
    let mut number = 1_u64;
    while text.len() < bytes {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        text += &format!("{number:016x}");
    }
    text.truncate(bytes);
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn placeholders_are_filled_wherever_they_stand() {
        let runs = BTreeMap::from([("other".to_owned(), "id-1".to_owned())]);
        let known = Known { runs: Some(&runs), attempt: Some(3) };
        let filled = fill(&json!({"a": [{"$run": "other"}], "b": {"$attempt": true}, "c": {"$text": 5}}), &known);
        let filled = filled.unwrap();
        assert_eq!(filled["a"], json!(["id-1"]));
        assert_eq!((&filled["b"], filled["c"].as_str().unwrap().len()), (&json!(3), 5));
        assert!(fill(&json!({"$run": "nobody"}), &known).is_err());
        assert!(fill(&json!({"$other": 1}), &known).is_err());
    }
}
