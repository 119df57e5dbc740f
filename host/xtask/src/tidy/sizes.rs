//! No source file that nobody can review.

use anyhow::Result;

use super::{Findings, files};
use crate::workspace::Workspace;

/// A file with more lines is refused.
const LINES_MAX: usize = 900;
/// Files with more lines are counted; they should stay rare.
const LINES_GOAL: usize = 500;
/// Files that a program wrote say so in one of the first lines.
const GENERATED: &str = concat!("@", "generated");

pub(super) fn check(workspace: &Workspace) -> Result<Findings> {
    let mut sizes = Vec::new();
    for file in files::all(&workspace.root)? {
        if file.extension().is_some_and(|extension| extension == "rs")
            && let Some(text) = files::text(&workspace.root, &file)?
        {
            sizes.extend(lines(&text).map(|lines| (file.display().to_string(), lines)));
        }
    }
    Ok(findings(sizes))
}

/// The number of lines; `None` for what a program wrote.
fn lines(text: &str) -> Option<usize> {
    let generated = text.lines().take(5).any(|line| line.contains(GENERATED));
    (!generated).then(|| text.lines().count())
}

fn findings(mut sizes: Vec<(String, usize)>) -> Findings {
    sizes.sort_by_key(|(_, lines)| *lines);
    let mut findings = Findings::default();
    for (file, lines) in sizes.iter().filter(|(_, lines)| *lines > LINES_MAX) {
        findings.problems.push(format!("{file} has {lines} lines; at most {LINES_MAX} are allowed: split it by topic"));
    }
    let long: Vec<_> = sizes
        .iter()
        .filter(|(_, lines)| *lines > LINES_GOAL)
        .map(|(file, lines)| format!("{file} ({lines})"))
        .collect();
    if !long.is_empty() {
        let (files, goal) = (long.len(), LINES_GOAL);
        findings.notes.push(format!(
            "{files} of {} files have more than {goal} lines: {}",
            sizes.len(),
            long.join(", ")
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_are_counted_and_very_long_ones_refused() {
        let found = findings(vec![("a.rs".into(), 901), ("b.rs".into(), 900), ("c.rs".into(), 500)]);
        assert_eq!(found.problems, ["a.rs has 901 lines; at most 900 are allowed: split it by topic"]);
        assert_eq!(found.notes, ["2 of 3 files have more than 500 lines: b.rs (900), a.rs (901)"]);
        assert_eq!(findings(vec![("c.rs".into(), 500)]), Findings::default());
    }

    #[test]
    fn generated_files_are_exempt() {
        assert_eq!(lines("a\nb\n"), Some(2));
        assert_eq!(lines(&format!("// {GENERATED} by x\nb\n")), None);
        assert_eq!(lines(&format!("a\na\na\na\na\n{GENERATED}")), Some(6));
    }
}
