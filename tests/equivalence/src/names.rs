//! Takes out of a record what is different in every run: ids and times.

use std::collections::BTreeMap;

use regex::Regex;

/// What ids are called in a record.
pub(crate) struct Names {
    /// Longest first: the id of a child may begin with that of its parent.
    ids: Vec<(String, String)>,
    rules: Vec<(Regex, &'static str)>,
}

/// What is different in every run, and what takes its place. In order.
const RULES: [(&str, &str); 4] = [
    // Ids of signals that nobody gave one.
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<id>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
    // Milliseconds since 1970, in this century.
    (r"\b[1-3]\d{12}\b", "<time>"),
    // The wait that an attempt did not get is partly chance.
    (r"the next, in \d+ ms,", "the next, in <time> ms,"),
];

impl Names {
    /// Names for ids, by name.
    pub(crate) fn new(runs: &BTreeMap<String, String>) -> Self {
        let mut ids: Vec<_> = runs.iter().map(|(name, id)| (id.clone(), format!("<{name}>"))).collect();
        ids.sort_by_key(|(id, _)| std::cmp::Reverse(id.len()));
        let rule = |(pattern, by)| (Regex::new(pattern).expect("the patterns are valid"), by);
        Self { ids, rules: RULES.map(rule).into() }
    }

    /// The text with names for ids.
    pub(crate) fn plain(&self, text: &str) -> String {
        let named = self.ids.iter().fold(text.to_owned(), |text, (id, name)| text.replace(id, name));
        self.rules.iter().fold(named, |text, (pattern, by)| pattern.replace_all(&text, *by).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_times_are_taken_out_and_nothing_else() {
        let runs = [("main", "run-1"), ("main>c", "run-1/c")].map(|(name, id)| (name.to_owned(), id.to_owned()));
        let names = Names::new(&BTreeMap::from(runs));
        for (text, plain) in [
            ("run-1 and run-1/c", "<main> and <main>c>"),
            ("0190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee", "<id>"),
            (r#"{"at":1800000000123,"n":300}"#, r#"{"at":<time>,"n":300}"#),
            ("2027-01-15T08:00:00.123Z", "<time>"),
            (
                "(no attempt follows: the next, in 117 ms, would begin)",
                "(no attempt follows: the next, in <time> ms, would begin)",
            ),
            ("within its timeout of 100 ms", "within its timeout of 100 ms"),
        ] {
            assert_eq!(names.plain(text), plain);
        }
    }
}
