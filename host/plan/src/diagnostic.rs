//! Problems of documents, for people and for programs.

use serde::Serialize;

use crate::limits::DIAGNOSTICS_MAX;
use crate::suggest::cut;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The document cannot be used.
    Error,
    /// The document can be used, but probably does not do what was meant.
    Warning,
}

/// One problem of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// Stable, for example `PLAN_UNKNOWN_KEY`.
    pub code: &'static str,
    /// What is wrong, for a person.
    pub message: String,
    /// The file's path, as it was given.
    pub file: String,
    /// From 1; 0 when the problem has no place.
    pub line: u64,
    /// From 1; 0 when the problem has no place.
    pub column: u64,
    /// The offending value, cut when it is long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {severity}[{}]: {}", self.code, self.message)?;
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

/// What became of a document: a value when there is no error, and all problems in the order of the file.
#[derive(Debug, Clone)]
pub struct Outcome<T> {
    /// `None` when there is an error among the diagnostics.
    pub value: Option<T>,
    /// Errors and warnings.
    pub diagnostics: Vec<Diagnostic>,
}

/// A place in a file, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The column, in characters.
    pub column: u64,
}

/// Collects the problems of one file.
#[derive(Debug)]
pub(crate) struct Problems {
    file: String,
    found: Vec<Diagnostic>,
    /// Problems beyond the limit.
    dropped: usize,
    errors: usize,
}

impl Problems {
    pub(crate) fn new(file: &str) -> Self {
        Self { file: file.to_owned(), found: Vec::new(), dropped: 0, errors: 0 }
    }

    pub(crate) fn error(&mut self, at: Position, code: &'static str, message: impl Into<String>) -> Added<'_> {
        self.errors += 1;
        self.add(Severity::Error, at, code, message.into())
    }

    pub(crate) fn warning(&mut self, at: Position, code: &'static str, message: impl Into<String>) -> Added<'_> {
        self.add(Severity::Warning, at, code, message.into())
    }

    fn add(&mut self, severity: Severity, at: Position, code: &'static str, message: String) -> Added<'_> {
        let (line, column) = (at.line, at.column);
        let diagnostic =
            Diagnostic { severity, code, message, file: self.file.clone(), line, column, value: None, help: None };
        // An alias repeats what it stands for, and its problems.
        if self.found.contains(&diagnostic) {
            return Added(None);
        }
        if self.found.len() >= DIAGNOSTICS_MAX {
            self.dropped += 1;
            return Added(None);
        }
        self.found.push(diagnostic);
        Added(self.found.last_mut())
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// The outcome with this value, which is dropped when there was an error.
    pub(crate) fn outcome<T>(mut self, value: Option<T>) -> Outcome<T> {
        self.found.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        if self.dropped > 0 {
            self.found.push(Diagnostic {
                severity: Severity::Warning,
                code: "PLAN_MORE_PROBLEMS",
                message: format!("{} more problems are not listed", self.dropped),
                file: self.file.clone(),
                line: 0,
                column: 0,
                value: None,
                help: Some("correct those above and check again".to_owned()),
            });
        }
        let value = if self.errors == 0 { value } else { None };
        Outcome { value, diagnostics: self.found }
    }
}

/// A problem that can still be told more about.
pub(crate) struct Added<'p>(Option<&'p mut Diagnostic>);

impl Added<'_> {
    pub(crate) fn value(mut self, value: &str) -> Self {
        if let Some(diagnostic) = &mut self.0 {
            diagnostic.value = Some(cut(value));
        }
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        if let Some(diagnostic) = &mut self.0 {
            diagnostic.help = Some(help.into());
        }
        self
    }

    pub(crate) fn maybe_help(self, help: Option<String>) -> Self {
        match help {
            Some(help) => self.help(help),
            None => self,
        }
    }
}
