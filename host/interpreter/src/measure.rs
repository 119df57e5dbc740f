//! How large and how deep a value is. State goes to JSON and back, so neither may grow without bound.

use serde_json::Value;

use crate::limits::VALUE_DEPTH_MAX;

/// The value's size in bytes, about what it has as JSON; `None` when it is nested deeper than [`VALUE_DEPTH_MAX`].
pub(crate) fn size(value: &Value) -> Option<usize> {
    size_below(value, VALUE_DEPTH_MAX)
}

/// Whether a value is nested deeper than a run may keep: the run refuses it, so it must not be put out of its sight.
pub fn is_too_deep(value: &Value) -> bool {
    size(value).is_none()
}

fn size_below(value: &Value, levels: usize) -> Option<usize> {
    match value {
        Value::Null | Value::Bool(_) => Some(4),
        Value::Number(_) => Some(8),
        Value::String(text) => Some(text.len() + 2),
        Value::Array(items) => {
            let levels = levels.checked_sub(1)?;
            items.iter().try_fold(2, |sum, item| Some(sum + size_below(item, levels)? + 1))
        }
        Value::Object(fields) => {
            let levels = levels.checked_sub(1)?;
            fields.iter().try_fold(2, |sum, (name, field)| Some(sum + name.len() + 4 + size_below(field, levels)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::size;
    use crate::limits::VALUE_DEPTH_MAX;

    #[test]
    fn size_is_about_the_length_as_json() {
        for value in [json!(null), json!("text"), json!({"a": [1, 2, true], "b": {"c": "d"}}), json!([[], {}])] {
            let (size, length) = (size(&value).unwrap(), value.to_string().len());
            assert!(size >= length / 2 && size <= length * 4 + 8, "{value}: {size} against {length}");
        }
    }

    #[test]
    fn a_value_may_be_as_deep_as_the_limit_and_no_deeper() {
        let nested = |depth| (0..depth).fold(json!(1), |value, _| Value::Array(vec![value]));
        assert!(size(&nested(VALUE_DEPTH_MAX)).is_some());
        assert_eq!(size(&nested(VALUE_DEPTH_MAX + 1)), None);
    }
}
