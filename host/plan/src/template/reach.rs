//! What a template reads beyond the paths in its text.

use serde_json::Value;

use super::Reference;

/// Whether the whole scope, or its tasks, may be read in a way that is no path.
pub(super) fn is_opaque(source: &Value, references: &[Reference]) -> bool {
    let text = source.to_string();
    let known = references.iter().filter(|reference| reference.path.first().is_some_and(|name| name == "tasks"));
    has_lone_root(&text) || text.matches("tasks").count() > known.count()
}

/// True when a template's text may hold a `.` or `$` that stands alone, which is the whole scope. Errs on the safe side.
fn has_lone_root(text: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let after = chars.peek().copied().unwrap_or(' ');
        let alone = match c {
            '.' => !is_name(before) && !matches!(before, ')' | '$' | '.') && !is_name(after),
            '$' => !is_name(after) && after != '.',
            _ => false,
        };
        if alone {
            return true;
        }
        before = c;
    }
    false
}
