//! Licence expressions: `MIT OR (Apache-2.0 WITH LLVM-exception AND Unicode-3.0)`.

/// A deeper expression is refused: nobody writes one in earnest.
const DEPTH_MAX: usize = 16;

/// Whether the expression can be met with licences that `allowed` accepts. A licence with an exception is asked for as
/// `licence WITH exception`. The old spelling `MIT/Apache-2.0` means `OR`.
pub(super) fn satisfied(expression: &str, allowed: impl Fn(&str) -> bool) -> Result<bool, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut parser = Parser { words: spaced.split_whitespace().collect(), at: 0, allowed: &allowed };
    let result = parser.any(0)?;
    match parser.peek() {
        None => Ok(result),
        Some(word) => Err(format!("`{word}` is not expected")),
    }
}

struct Parser<'a> {
    words: Vec<&'a str>,
    at: usize,
    allowed: &'a dyn Fn(&str) -> bool,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(word);
        self.at += usize::from(found);
        found
    }

    fn any(&mut self, depth: usize) -> Result<bool, String> {
        let mut result = self.all(depth)?;
        while self.take("OR") {
            result |= self.all(depth)?;
        }
        Ok(result)
    }

    /// `AND` binds more tightly than `OR`.
    fn all(&mut self, depth: usize) -> Result<bool, String> {
        let mut result = self.term(depth)?;
        while self.take("AND") {
            result &= self.term(depth)?;
        }
        Ok(result)
    }

    fn term(&mut self, depth: usize) -> Result<bool, String> {
        if self.take("(") {
            if depth >= DEPTH_MAX {
                return Err(format!("it is nested more than {DEPTH_MAX} deep"));
            }
            let result = self.any(depth + 1)?;
            return if self.take(")") { Ok(result) } else { Err("a `)` is missing".to_owned()) };
        }
        let licence = self.name()?;
        if self.take("WITH") {
            let exception = self.name()?;
            return Ok((self.allowed)(&format!("{licence} WITH {exception}")));
        }
        Ok((self.allowed)(licence))
    }

    fn name(&mut self) -> Result<&'a str, String> {
        let word = self.peek().ok_or("a licence is missing at the end")?;
        let is_name = !["AND", "OR", "WITH", "(", ")"].contains(&word)
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "-.+:".contains(c));
        if !is_name {
            return Err(format!("`{word}` stands where a licence should be"));
        }
        self.at += 1;
        Ok(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str) -> Result<bool, String> {
        satisfied(expression, |term| ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].contains(&term))
    }

    #[test]
    fn expressions() {
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("GPL-2.0+", false),
            ("MIT OR GPL-3.0-only", true),
            ("GPL-3.0-only OR MIT", true),
            ("MIT AND GPL-3.0-only", false),
            ("MIT AND ISC", true),
            ("MIT/Apache-2.0", true),
            ("Apache-2.0 / GPL-2.0-only", false),
            // `AND` binds more tightly.
            ("MIT OR GPL-3.0-only AND BSD-2-Clause", true),
            ("GPL-3.0-only AND BSD-2-Clause OR MIT", true),
            ("(MIT OR GPL-3.0-only) AND BSD-2-Clause", false),
            ("(MIT OR GPL-3.0-only) AND (ISC OR BSD-2-Clause)", true),
            ("((MIT))", true),
            // An exception makes another licence.
            ("Apache-2.0", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("MIT WITH LLVM-exception", false),
            ("Apache-2.0 WITH LLVM-exception AND MIT", true),
        ] {
            assert_eq!(check(expression), Ok(expected), "{expression}");
        }
    }

    #[test]
    fn what_is_no_expression() {
        for expression in ["", "MIT OR", "OR MIT", "(MIT", "MIT)", "MIT ISC", "MIT WITH", "AND", "M!T", "()"] {
            assert!(check(expression).is_err(), "{expression}");
        }
        let deep = format!("{}MIT{}", "(".repeat(100_000), ")".repeat(100_000));
        assert!(check(&deep).expect_err("too deep").contains("nested more than 16"));
    }
}
