//! Conditions in CEL, the Common Expression Language.
//!
//! The `cel` crate parses; what it parsed is evaluated here, for three reasons: the data of a run is read where it is and
//! not converted first, every step is counted (a parser's own evaluator knows no budget), and a missing key is reported
//! with its path and the nearest name. The tests compare the answers with those of the crate's evaluator.
//!
//! What there is: literals, lists, maps, `.` and `[...]`, `in`, `has(a.b)`, `== != < <= > >= + - * / % ! && || ?:`, the macros
//! `all exists exists_one filter map`, and the functions `size contains startsWith endsWith matches int uint double string
//! bool bytes type dyn lowerAscii upperAscii trim`. Differences from strict CEL, because the data is JSON: an integer and a
//! decimal number can be added and so on, and the result is decimal. There are no timestamps and durations: the
//! scope has none. A name with a hyphen is written in brackets: `tasks["get-weather"].output`.

mod check;
mod eval;
mod functions;
#[cfg(test)]
mod tests;
mod value;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::limits::CONDITION_BYTES_MAX;
use crate::scope::Scope;
use crate::suggest::type_name;

/// A compiled condition. Cheap to clone; serialises as its source.
#[derive(Debug, Clone)]
pub struct Condition(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: String,
    expression: cel::IdedExpr,
    references: Vec<Vec<String>>,
}

/// The kinds of condition error, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionErrorKind {
    /// The text is not CEL.
    Syntax,
    /// The text calls a function that does not exist, or with a wrong number of arguments.
    UnknownFunction,
    /// A path leads nowhere.
    MissingKey,
    /// A value is not of the type that an operation needs.
    Type,
    /// An operation has no result, for example a division by zero.
    Arithmetic,
    /// A limit was reached.
    Limit,
}

/// Why a condition cannot be compiled or evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConditionError {
    /// What kind of error.
    pub kind: ConditionErrorKind,
    /// For a person, with what to do.
    pub message: String,
}

impl ConditionError {
    pub(crate) fn new(kind: ConditionErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl Condition {
    /// Compiles a condition.
    pub fn compile(source: &str) -> Result<Self, ConditionError> {
        if source.len() > CONDITION_BYTES_MAX {
            return Err(ConditionError::new(
                ConditionErrorKind::Limit,
                format!(
                    "the condition has {} bytes but at most {CONDITION_BYTES_MAX} are allowed; compute a part of it in an aggregate task",
                    source.len()
                ),
            ));
        }
        let expression = parse(source)?;
        let references = check::check(&expression)?;
        Ok(Self(Arc::new(Inner { source: source.to_owned(), expression, references })))
    }

    /// The condition's value.
    pub fn evaluate(&self, scope: &Scope<'_>) -> Result<Value, ConditionError> {
        eval::evaluate(&self.0.expression, scope)
    }

    /// The condition's value, which must be true or false.
    pub fn is_true(&self, scope: &Scope<'_>) -> Result<bool, ConditionError> {
        match self.evaluate(scope)? {
            Value::Bool(value) => Ok(value),
            other => Err(ConditionError::new(
                ConditionErrorKind::Type,
                format!(
                    "the condition must be true or false but is {}; compare it with something, for example `... == 1`",
                    type_name(&other)
                ),
            )),
        }
    }

    /// What the condition was compiled from.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// The paths that the condition reads: for `tasks.a.output > 1` it is `tasks`, `a`, `output`. Names that a macro
    /// declares are not among them.
    pub fn references(&self) -> &[Vec<String>] {
        &self.0.references
    }
}

fn parse(source: &str) -> Result<cel::IdedExpr, ConditionError> {
    let syntax = |message: String| ConditionError::new(ConditionErrorKind::Syntax, message);
    if source.trim().is_empty() {
        return Err(syntax("the condition is empty; write an expression, for example `input.count > 3`".to_owned()));
    }
    if source.contains("{{") {
        return Err(syntax(
            "a condition is CEL and not a template; write `input.count > 3` without `{{ }}` and without the leading dot".to_owned(),
        ));
    }
    check::operators(source)?;
    // The parser is generated code that nobody here controls: a panic of it is an error of the document.
    let parsed = catch_unwind(AssertUnwindSafe(|| cel::Program::compile(source)));
    match parsed {
        Ok(Ok(program)) => Ok(program.expression().clone()),
        Ok(Err(errors)) => Err(syntax(match errors.errors.first() {
            Some(error) => {
                let (line, column) = error.pos;
                let reason = error.msg.strip_prefix("Syntax error: ").unwrap_or(&error.msg);
                format!("not a CEL expression: line {line}, column {column}: {}", shorten(reason))
            }
            None => "not a CEL expression".to_owned(),
        })),
        Err(_) => Err(syntax("not a CEL expression: the parser gave up on it; write it in another way".to_owned())),
    }
}

/// The parser lists every token that it would have taken.
fn shorten(reason: &str) -> String {
    match reason.split_once(" expecting {") {
        Some((before, _)) => before.to_owned(),
        None => crate::suggest::cut(reason),
    }
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.0.source == other.0.source
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.source.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::compile(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
