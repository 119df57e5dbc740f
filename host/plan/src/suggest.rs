//! Hints for people: the nearest valid name, and lists of names that stay readable.

/// Names that a message lists; further ones are counted.
const NAMES_SHOWN_MAX: usize = 20;
/// Characters of an offending value that a message shows.
const VALUE_SHOWN_CHARS_MAX: usize = 80;

/// The candidate that `name` was most likely meant to be; `None` when nothing is near.
pub fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let name_chars = name.chars().count();
    // A comparison costs the product of the lengths; a text this long is no misspelt name.
    if name_chars > 100 {
        return None;
    }
    let folded = name.to_lowercase();
    let allowed = (name_chars / 3).clamp(1, 4);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        if candidate.len() > 200 {
            continue;
        }
        let distance = strsim::damerau_levenshtein(&folded, &candidate.to_lowercase());
        if distance <= allowed && distance < candidate.chars().count() && best.is_none_or(|(found, _)| distance < found)
        {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// `did you mean ...?`, or the list of what there is.
pub fn hint(name: &str, what: &str, candidates: &[&str]) -> String {
    match nearest(name, candidates.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? {what}: {}", listed(candidates)),
        None if candidates.is_empty() => format!("{what}: none"),
        None => format!("{what}: {}", listed(candidates)),
    }
}

/// Names for a message, a long list cut.
pub(crate) fn listed(names: &[&str]) -> String {
    let mut text =
        names.iter().take(NAMES_SHOWN_MAX).map(|name| format!("`{}`", cut(name))).collect::<Vec<_>>().join(", ");
    if names.len() > NAMES_SHOWN_MAX {
        text = format!("{text} and {} more", names.len() - NAMES_SHOWN_MAX);
    }
    text
}

/// A value for a message: one line, a long one cut.
pub fn cut(text: &str) -> String {
    let mut shown = String::new();
    for (at, c) in text.chars().enumerate() {
        if at == VALUE_SHOWN_CHARS_MAX {
            shown.push_str("...");
            break;
        }
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A JSON value's type with its article, as messages name it.
pub(crate) fn type_name(value: &serde_json::Value) -> &'static str {
    use serde_json::Value;
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
