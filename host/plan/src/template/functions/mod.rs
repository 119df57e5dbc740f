//! The functions of templates: what Go has built in, and the part of Sprig that gives the same answer every time.

mod data;
mod logic;
mod number;
mod text;

use std::borrow::Cow;

use serde_json::Value;

use super::budget::Budget;
use super::error::Fault;
use super::value::{Val, text_of};
use crate::suggest::type_name;

/// How the arguments of a function are evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evaluation {
    /// All of them.
    All,
    /// All of them; a path whose last key is missing is null.
    MissingIsNull,
    /// One after the other until one is as true as this; that one is the answer.
    UntilTruthIs(bool),
}

/// A function of the table.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: &'static str,
    /// The arguments, for messages.
    usage: &'static str,
    min: usize,
    max: usize,
    pub(super) evaluation: Evaluation,
    pub(super) run: Run,
}

type Run = for<'a, 's> fn(&mut Arguments<'a, 's>) -> Result<Val<'s>, Fault>;

/// Any number of arguments.
const MANY: usize = usize::MAX;

/// A function whose arguments are all evaluated.
const fn function(name: &'static str, usage: &'static str, min: usize, max: usize, run: Run) -> Function {
    Function { name, usage, min, max, evaluation: Evaluation::All, run }
}

/// A function for which a missing last key is null.
const fn lenient(name: &'static str, usage: &'static str, min: usize, max: usize, run: Run) -> Function {
    Function { name, usage, min, max, evaluation: Evaluation::MissingIsNull, run }
}

impl Function {
    /// Why this number of arguments cannot be.
    pub(super) fn check_arity(&self, given: usize) -> Result<(), String> {
        if (self.min..=self.max).contains(&given) {
            return Ok(());
        }
        let wants = match (self.min, self.max) {
            (min, max) if min == max => min.to_string(),
            (min, MANY) => format!("at least {min}"),
            (min, max) => format!("{min} to {max}"),
        };
        let plural = if wants == "1" || wants == "at least 1" { "argument" } else { "arguments" };
        Err(format!("`{}` takes {wants} {plural} and got {given}; write `{} {}`", self.name, self.name, self.usage))
    }
}

fn tables() -> [&'static [Function]; 4] {
    [logic::TABLE, text::TABLE, number::TABLE, data::TABLE]
}

/// The function of this name.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    tables().into_iter().flatten().find(|function| function.name == name)
}

/// All names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    tables().into_iter().flatten().map(|function| function.name)
}

/// Why a function that Sprig has is not offered.
pub(super) fn refused(name: &str) -> Option<&'static str> {
    match name {
        "now" | "date" | "dateInZone" | "date_modify" | "dateModify" | "ago" | "unixEpoch" | "htmlDate"
        | "htmlDateInZone" | "toDate" | "mustToDate" | "duration" | "durationRound" => Some(
            "it depends on the clock, and a run must give the same result when it is replayed; pass a time in the input",
        ),
        "uuidv4" | "uuid" | "randAlpha" | "randNumeric" | "randAlphaNum" | "randAscii" | "randInt" | "randBytes"
        | "shuffle" | "genPrivateKey" | "genCA" | "genSelfSignedCert" | "genSignedCert" | "bcrypt" | "htpasswd"
        | "encryptAES" => {
            Some("it is random, and a run must give the same result when it is replayed; let a task make the value")
        }
        "env" | "expandenv" => {
            Some("templates do not see the host's environment; name values in `config.env` and read `.env.NAME`")
        }
        "getHostByName" => Some("templates do not use the network; let a task do it"),
        "tpl" | "include" => Some("data is never evaluated as a template"),
        "fail" => Some("let a router decide instead"),
        "call" | "html" | "js" => Some("use htmlEscape, jsEscape or a function of the list"),
        _ => None,
    }
}

/// The evaluated arguments of one call.
pub(super) struct Arguments<'a, 's> {
    pub(super) function: &'static Function,
    pub(super) values: Vec<Val<'s>>,
    pub(super) budget: &'a mut Budget,
}

impl<'s> Arguments<'_, 's> {
    fn count(&self) -> usize {
        self.values.len()
    }

    /// The argument as it is; null takes its place.
    fn take(&mut self, at: usize) -> Val<'s> {
        std::mem::replace(&mut self.values[at], Val::null())
    }

    fn json(&mut self, at: usize) -> Result<Cow<'_, Value>, Fault> {
        self.values[at].json(self.budget)
    }

    fn wrong(&self, at: usize, wanted: &str) -> Fault {
        self.wrong_type(at, wanted, self.values[at].type_name())
    }

    fn wrong_type(&self, at: usize, wanted: &str, found: &str) -> Fault {
        Fault::of_type(format!(
            "`{} {}`: argument {} must be {wanted} but is {found}",
            self.function.name,
            self.function.usage,
            at + 1
        ))
    }

    fn fault(&self, message: &str) -> Fault {
        Fault::of_type(format!("`{} {}`: {message}", self.function.name, self.function.usage))
    }

    /// A text; numbers and booleans as they are written.
    fn text(&mut self, at: usize) -> Result<String, Fault> {
        let text = match self.json(at)?.as_ref() {
            Value::Null | Value::Array(_) | Value::Object(_) => None,
            scalar => Some(text_of(scalar).into_owned()),
        };
        let Some(text) = text else { return Err(self.wrong(at, "a text")) };
        self.budget.bytes(text.len())?;
        Ok(text)
    }

    fn integer(&mut self, at: usize) -> Result<i64, Fault> {
        let integer = match self.json(at)?.as_ref() {
            Value::Number(number) => match number.as_f64() {
                Some(decimal) if number.is_f64() && decimal.fract() == 0.0 && decimal.abs() < 9e15 => {
                    Some(decimal as i64)
                }
                _ => number.as_i64(),
            },
            _ => None,
        };
        integer.ok_or_else(|| self.wrong(at, "an integer (`int` makes one)"))
    }

    fn list(&mut self, at: usize) -> Result<Vec<Value>, Fault> {
        let Arguments { values, budget, .. } = &mut *self;
        let value = values[at].json(budget)?;
        if let Value::Array(items) = value.as_ref() {
            budget.charge_value(&value)?;
            return Ok(items.clone());
        }
        let found = type_name(&value);
        Err(self.wrong_type(at, "a list", found))
    }

    fn object(&mut self, at: usize) -> Result<serde_json::Map<String, Value>, Fault> {
        let Arguments { values, budget, .. } = &mut *self;
        let value = values[at].json(budget)?;
        if let Value::Object(fields) = value.as_ref() {
            budget.charge_value(&value)?;
            return Ok(fields.clone());
        }
        let found = type_name(&value);
        Err(self.wrong_type(at, "an object", found))
    }

    /// A copy of an argument.
    fn copy(&mut self, at: usize) -> Result<Value, Fault> {
        let Arguments { values, budget, .. } = &mut *self;
        let value = values[at].json(budget)?;
        budget.charge_value(&value)?;
        Ok(value.into_owned())
    }

    /// A result that was made: it is paid for, and not nested too deeply.
    fn made(&mut self, value: Value) -> Result<Val<'s>, Fault> {
        self.budget.charge_value(&value)?;
        Ok(Val::from(value))
    }
}
