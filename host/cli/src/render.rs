//! Writes a JSON value for a person: names aligned, no quotes, no braces.

use serde_json::Value;

/// Below this depth a value is written as JSON on one line.
const DEPTH_MAX: usize = 6;
/// A list of short plain values is written on one line up to this width, in characters.
const INLINE_WIDTH_MAX: usize = 80;

/// The value as lines that end with a newline.
pub(crate) fn value(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value, 0);
    out
}

fn write(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(map) if !map.is_empty() && depth < DEPTH_MAX => {
            let plain = |v: &Value| inline(v).is_some();
            let width =
                map.iter().filter(|(_, v)| plain(v)).map(|(k, _)| printable(k).chars().count()).max().unwrap_or(0);
            for (key, item) in map {
                let key = printable(key);
                if let Some(text) = inline(item) {
                    let gap = " ".repeat(width.saturating_sub(key.chars().count()));
                    line(out, depth, &format!("{key}:{gap} {text}"));
                } else {
                    line(out, depth, &format!("{key}:"));
                    write(out, item, depth + 1);
                }
            }
        }
        Value::Array(items) if !items.is_empty() && depth < DEPTH_MAX => {
            for item in items {
                if let Some(text) = inline(item) {
                    line(out, depth, &format!("- {text}"));
                } else {
                    let start = out.len();
                    write(out, item, depth + 1);
                    // The first line of the item carries the dash in place of its indentation.
                    out.replace_range(start + depth * 2..start + depth * 2 + 2, "- ");
                }
            }
        }
        Value::String(text) if text.contains('\n') => {
            for part in text.lines() {
                line(out, depth, &printable(part));
            }
        }
        other => line(out, depth, &inline(other).unwrap_or_else(|| printable(&other.to_string()))),
    }
}

/// The value when it fits on the line of its name.
fn inline(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("-".to_owned()),
        Value::Bool(true) => Some("yes".to_owned()),
        Value::Bool(false) => Some("no".to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) if text.is_empty() => Some("\"\"".to_owned()),
        Value::String(text) if !text.contains('\n') => Some(printable(text)),
        Value::Array(items) if items.is_empty() => Some("(none)".to_owned()),
        Value::Object(map) if map.is_empty() => Some("(empty)".to_owned()),
        Value::Array(items) if items.iter().all(|i| !i.is_array() && !i.is_object()) => {
            let texts: Option<Vec<String>> = items.iter().map(inline).collect();
            let text = texts?.join(", ");
            (text.chars().count() <= INLINE_WIDTH_MAX).then_some(text)
        }
        _ => None,
    }
}

/// Values come from plugins and users: nothing in them may steer the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if c.is_control() && c != '\t' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

fn line(out: &mut String, depth: usize, text: &str) {
    out.push_str(&"  ".repeat(depth));
    out.push_str(text);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn values_read_like_text() {
        for (value, expected) in [
            (json!("plain"), "plain\n"),
            (json!(null), "-\n"),
            (json!({}), "(empty)\n"),
            (
                json!({"city": "Lisbon", "temperature_c": 21.5, "rain": false}),
                "city:          Lisbon\ntemperature_c: 21.5\nrain:          no\n",
            ),
            (json!({"a": {"b": {"c": 1}}, "d": []}), "a:\n  b:\n    c: 1\nd: (none)\n"),
            (json!({"tags": ["x", "y"], "note": "one\ntwo"}), "tags: x, y\nnote:\n  one\n  two\n"),
            (json!([{"name": "walk", "ok": true}, {"name": "swim"}]), "- name: walk\n  ok:   yes\n- name: swim\n"),
            (json!({"list": [[{"a": 1}], "b"]}), "list:\n  - - a: 1\n  - b\n"),
        ] {
            assert_eq!(super::value(&value), expected, "{value}");
        }
    }

    #[test]
    fn terminal_control_is_shown_and_not_sent() {
        assert_eq!(super::value(&json!("a\u{1b}[2Jb")), "a\\u{1b}[2Jb\n");
        assert_eq!(super::value(&json!({"k\u{7}": ["\r"]})), "k\\u{7}: \\r\n");
    }

    #[test]
    fn very_deep_values_end_as_json() {
        let deep = (0..8).fold(json!(1), |inner, _| json!({ "k": inner }));
        assert!(super::value(&deep).ends_with("            {\"k\":{\"k\":1}}\n"), "{}", super::value(&deep));
    }
}
