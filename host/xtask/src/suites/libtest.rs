//! Understands what Rust's test programs print.

/// How many tests ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl Counts {
    /// Adds others to these.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// The line that ends `cargo xtask test`.
    pub(crate) fn line(self) -> String {
        let skipped = if self.skipped == 0 { String::new() } else { format!(", {} skipped", self.skipped) };
        format!("{} passed, {} failed{skipped}", self.passed, self.failed)
    }
}

/// Reads the output of several test programs, one after the other, line by line.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    counts: Counts,
    /// A program has begun and has not said its result yet.
    running: bool,
    failures: Vec<String>,
}

impl Reader {
    /// Takes the next line.
    pub(crate) fn line(&mut self, line: &str) {
        if begins(line) {
            self.crashed();
            self.running = true;
        } else if let Some(counts) = result(line) {
            self.counts.add(counts);
            self.running = false;
        } else if let Some(name) = failure(line) {
            self.failures.push(name.to_owned());
        }
    }

    /// What was counted, and the names of what failed. `exit_ok` is whether cargo found everything well: a failure that
    /// no program told of (it did not build, it was killed before it said anything) is one failure more.
    pub(crate) fn end(mut self, exit_ok: bool) -> (Counts, Vec<String>) {
        self.crashed();
        if !exit_ok && self.counts.failed == 0 {
            self.counts.failed = 1;
            self.failures.push("a suite did not build, or ended without a result".to_owned());
        }
        (self.counts, self.failures)
    }

    fn crashed(&mut self) {
        if self.running {
            self.counts.failed += 1;
            self.failures.push("a suite ended in the middle, without a result".to_owned());
            self.running = false;
        }
    }
}

/// `running 12 tests`
fn begins(line: &str) -> bool {
    let count =
        line.strip_prefix("running ").and_then(|rest| rest.strip_suffix(" tests").or(rest.strip_suffix(" test")));
    count.is_some_and(|count| count.parse::<usize>().is_ok())
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s`
fn result(line: &str) -> Option<Counts> {
    let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = Counts::default();
    for part in numbers.split(';') {
        let Some((number, what)) = part.trim().split_once(' ') else { continue };
        let Ok(number) = number.parse::<usize>() else { continue };
        match what {
            "passed" => counts.passed = number,
            "failed" => counts.failed = number,
            // What the command line leaves out was not tested either.
            "ignored" | "filtered out" => counts.skipped += number,
            _ => {}
        }
    }
    Some(counts)
}

/// `test some::name ... FAILED`
fn failure(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, exit_ok: bool) -> (Counts, Vec<String>) {
        let mut reader = Reader::default();
        text.lines().for_each(|line| reader.line(line));
        reader.end(exit_ok)
    }

    const TWO_SUITES: &str = "
running 2 tests
test a ... ok
test b::c ... ignored, needs a network
test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

running 3 tests
test d ... ok
test e ... FAILED
test src/lib.rs - f (line 3) ... FAILED
test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 4 filtered out; finished in 1.20s
";

    #[test]
    fn suites_are_summed() {
        let (counts, failures) = read(TWO_SUITES, false);
        assert_eq!(counts, Counts { passed: 2, failed: 2, skipped: 5 });
        assert_eq!(failures, ["e", "src/lib.rs - f (line 3)"]);
        assert_eq!(counts.line(), "2 passed, 2 failed, 5 skipped");
        assert_eq!(Counts { passed: 7, ..Counts::default() }.line(), "7 passed, 0 failed");
    }

    #[test]
    fn a_suite_without_a_result_is_one_failure() {
        let result = "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        for (text, expected) in [
            (format!("running 5 tests\ntest a ... ok\nrunning 1 test\n{result}"), 1),
            (format!("running 1 test\n{result}\nrunning 5 tests\ntest a ... ok"), 1),
            (format!("running 1 test\nrunning 1 test\nrunning 1 test\n{result}"), 2),
        ] {
            let (counts, _) = read(&text, false);
            assert_eq!((counts.passed, counts.failed), (1, expected), "{text}");
        }
    }

    #[test]
    fn what_did_not_build_is_one_failure() {
        assert_eq!(read("", false).0, Counts { failed: 1, ..Counts::default() });
        assert_eq!(read("", true).0, Counts::default());
    }

    #[test]
    fn what_tests_print_is_not_taken_for_results() {
        for line in [
            "  test result: ok. 1 passed",
            "running late",
            "running away tests",
            "test result: odd",
            "I test a ... FAILED",
        ] {
            assert_eq!(read(line, true), (Counts::default(), Vec::new()), "{line}");
        }
    }
}
