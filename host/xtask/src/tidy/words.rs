//! No text that must not be published: unfinished work, debugging, and paths of somebody's machine.

use anyhow::Result;

use super::{Findings, files};
use crate::workspace::Workspace;

/// What must not be in a file, and why. Written in two parts, so that this file passes its own check.
const FORBIDDEN: [(&str, &str); 6] = [
    (concat!("to", "do!("), "unfinished: do it, or leave it out and say so in the documentation"),
    (concat!("unimple", "mented!("), "unfinished: return an error that says what is not supported"),
    (concat!("db", "g!("), "left over from debugging"),
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/ro", "ot/"), "a path of one machine"),
    (concat!("<<<", "<<<< "), "an unresolved merge"),
];

pub(super) fn check(workspace: &Workspace) -> Result<Findings> {
    let mut findings = Findings::default();
    for file in files::all(&workspace.root)? {
        if let Some(text) = files::text(&workspace.root, &file)? {
            findings.problems.extend(problems(&text).map(|problem| format!("{}:{problem}", file.display())));
        }
    }
    Ok(findings)
}

/// `<line>: <what is wrong>`
fn problems(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().zip(1..).flat_map(|(line, number)| {
        let found = FORBIDDEN.iter().filter(move |(word, _)| stands_alone(line, word));
        found.map(move |(word, why)| format!("{number}: `{word}`: {why}"))
    })
}

/// Whether `word` is in the line and is not the end of a longer word: a folder `home/...` within a path is no machine's.
fn stands_alone(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}' | '*'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_forbidden_text_is_found_with_its_line() {
        for (word, why) in FORBIDDEN {
            let found: Vec<_> = problems(&format!("fine\nlet x = \"{word}\";\n")).collect();
            assert_eq!(found, [format!("2: `{word}`: {why}")]);
        }
    }

    #[test]
    fn parts_of_longer_words_and_paths_are_fine() {
        let (todo, root) = (FORBIDDEN[0].0, FORBIDDEN[4].0);
        for line in [format!("my_{todo})"), format!("chroot{root}x"), format!("./a{root}b"), "a task to do!".to_owned()]
        {
            assert_eq!(problems(&line).count(), 0, "{line}");
        }
        assert_eq!(problems(&format!("in {root}x and ../a{root}")).count(), 1);
    }
}
