//! Shows how two records differ.

use std::fmt::Write as _;

/// Equal lines that are shown around a difference.
const CONTEXT: usize = 2;
/// The width of a column, in characters. Longer lines stand below each other.
const COLUMN: usize = 76;

/// Both texts side by side where they differ; `None` when they are equal. `left` and `right` are the headings.
pub fn side_by_side((left, one): (&str, &[String]), (right, other): (&str, &[String])) -> Option<String> {
    if one == other {
        return None;
    }
    let rows = rows(one, other);
    let mut text = row(Some(left), Some(right), '|');
    let _ = writeln!(text, "{}", "-".repeat(2 * COLUMN + 3));
    let near = |at: usize| {
        let around = at.saturating_sub(CONTEXT)..(at + CONTEXT + 1).min(rows.len());
        rows[around].iter().any(|(one, other)| one != other)
    };
    let mut hidden = false;
    for (at, (one, other)) in rows.iter().enumerate() {
        if near(at) {
            let mark = match (one, other) {
                (Some(_), None) => '<',
                (None, Some(_)) => '>',
                (one, other) if one == other => ' ',
                _ => '|',
            };
            text += &row(*one, *other, mark);
        } else if !hidden {
            text += "...\n";
        }
        hidden = !near(at);
    }
    Some(text)
}

type Row<'a> = (Option<&'a str>, Option<&'a str>);

/// Pairs equal lines by their longest common subsequence; what lies between is paired in order.
fn rows<'a>(one: &'a [String], other: &'a [String]) -> Vec<Row<'a>> {
    let mut lengths = vec![vec![0_usize; other.len() + 1]; one.len() + 1];
    for a in (0..one.len()).rev() {
        for b in (0..other.len()).rev() {
            lengths[a][b] =
                if one[a] == other[b] { lengths[a + 1][b + 1] + 1 } else { lengths[a + 1][b].max(lengths[a][b + 1]) };
        }
    }
    let (mut rows, mut a, mut b) = (Vec::new(), 0, 0);
    let (mut lefts, mut rights) = (Vec::new(), Vec::new());
    while a < one.len() || b < other.len() {
        if a < one.len() && b < other.len() && one[a] == other[b] {
            pair(&mut rows, &mut lefts, &mut rights);
            rows.push((Some(one[a].as_str()), Some(other[b].as_str())));
            (a, b) = (a + 1, b + 1);
        } else if b == other.len() || (a < one.len() && lengths[a + 1][b] >= lengths[a][b + 1]) {
            lefts.push(one[a].as_str());
            a += 1;
        } else {
            rights.push(other[b].as_str());
            b += 1;
        }
    }
    pair(&mut rows, &mut lefts, &mut rights);
    rows
}

fn pair<'a>(rows: &mut Vec<Row<'a>>, lefts: &mut Vec<&'a str>, rights: &mut Vec<&'a str>) {
    for at in 0..lefts.len().max(rights.len()) {
        rows.push((lefts.get(at).copied(), rights.get(at).copied()));
    }
    lefts.clear();
    rights.clear();
}

fn row(one: Option<&str>, other: Option<&str>, mark: char) -> String {
    let (one, other) = (one.unwrap_or_default(), other.unwrap_or_default());
    let width = |text: &str| text.chars().count();
    if width(one) <= COLUMN && width(other) <= COLUMN {
        let space = " ".repeat(COLUMN - width(one));
        return format!("{one}{space} {mark} {other}").trim_end().to_owned() + "\n";
    }
    if mark == ' ' {
        return format!("{one}\n");
    }
    let below = |side: char, text: &str| if text.is_empty() { String::new() } else { format!("{side} {text}\n") };
    below('<', one) + &below('>', other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn what_is_equal_has_no_difference() {
        assert_eq!(side_by_side(("a", &lines("1 2")), ("b", &lines("1 2"))), None);
    }

    #[test]
    fn lines_that_differ_stand_beside_each_other() {
        let shown = side_by_side(("a", &lines("1 2 3 4 5 6")), ("b", &lines("1 2 3 4 x 6 7"))).unwrap();
        let shown: Vec<String> =
            shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(shown[0], "a | b");
        assert_eq!(shown[2..], ["...", "3 3", "4 4", "5 | x", "6 6", "> 7"]);
    }

    #[test]
    fn long_lines_stand_below_each_other() {
        let long = "x".repeat(COLUMN + 1);
        let shown = side_by_side(("a", std::slice::from_ref(&long)), ("b", &[])).unwrap();
        assert!(shown.ends_with(&format!("< {long}\n")), "{shown}");
    }
}
