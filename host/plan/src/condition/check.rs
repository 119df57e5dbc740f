//! What is checked before a condition is ever evaluated.

use cel::IdedExpr;
use cel::common::ast::{EntryExpr, Expr};

use super::{ConditionError, ConditionErrorKind};
use crate::limits::{CONDITION_NESTING_MAX, CONDITION_OPERATORS_MAX};
use crate::suggest::{cut, nearest};

/// A function: its name, and its numbers of arguments with and without a receiver.
struct Signature {
    name: &'static str,
    /// Arguments of `x.f(...)`.
    method: &'static [usize],
    /// Arguments of `f(...)`.
    global: &'static [usize],
}

const fn signature(name: &'static str, method: &'static [usize], global: &'static [usize]) -> Signature {
    Signature { name, method, global }
}

const FUNCTIONS: &[Signature] = &[
    signature("size", &[0], &[1]),
    signature("contains", &[1], &[]),
    signature("startsWith", &[1], &[]),
    signature("endsWith", &[1], &[]),
    signature("matches", &[1], &[2]),
    signature("lowerAscii", &[0], &[]),
    signature("upperAscii", &[0], &[]),
    signature("trim", &[0], &[]),
    signature("int", &[], &[1]),
    signature("uint", &[], &[1]),
    signature("double", &[], &[1]),
    signature("string", &[], &[1]),
    signature("bool", &[], &[1]),
    signature("bytes", &[], &[1]),
    signature("type", &[], &[1]),
    signature("dyn", &[], &[1]),
];

/// Names that the parser turns into something else when they are used as they should be.
const MACROS: [(&str, &str); 6] = [
    ("has", "has(input.name)"),
    ("all", "input.list.all(x, x > 0)"),
    ("exists", "input.list.exists(x, x > 0)"),
    ("exists_one", "input.list.exists_one(x, x > 0)"),
    ("map", "input.list.map(x, x.name)"),
    ("filter", "input.list.filter(x, x > 0)"),
];

/// Bounds how deep any parser could have to go, before it is asked.
pub(super) fn operators(source: &str) -> Result<(), ConditionError> {
    let mut count = 0usize;
    let mut rest = source;
    let mut word_start = 0usize;
    while let Some(c) = rest.chars().next() {
        let at = source.len() - rest.len();
        match c {
            '"' | '\'' => rest = after_text(rest, c, is_raw(&source[word_start..at])),
            '/' if rest.starts_with("//") => rest = rest.split_once('\n').map_or("", |(_, after)| after),
            _ => {
                count += usize::from("([{.+-*/%!?:<>=&|,".contains(c));
                rest = &rest[c.len_utf8()..];
            }
        }
        if !(c.is_alphanumeric() || c == '_') {
            count += usize::from(&source[word_start..at] == "in");
            word_start = source.len() - rest.len();
        }
    }
    if count > CONDITION_OPERATORS_MAX {
        return Err(ConditionError::new(
            ConditionErrorKind::Limit,
            format!(
                "the condition has {count} operators, dots, brackets and commas but at most {CONDITION_OPERATORS_MAX} are allowed; \
                 compute a part of it in an aggregate task"
            ),
        ));
    }
    Ok(())
}

fn is_raw(prefix: &str) -> bool {
    matches!(prefix, "r" | "R" | "br" | "bR" | "Br" | "BR")
}

/// What follows the text in quotes that `rest` begins with.
fn after_text(rest: &str, quote: char, raw: bool) -> &str {
    let triple: String = std::iter::repeat_n(quote, 3).collect();
    let (open, long) = if rest.starts_with(&triple) { (3, true) } else { (1, false) };
    let body = &rest[open..];
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' && !raw {
            escaped = true;
        } else if c == quote && (!long || body[at..].starts_with(&triple)) {
            return &body[at + open..];
        } else if c == '\n' && !long {
            return &body[at..];
        }
    }
    ""
}

/// Checks functions and nesting; answers the paths that are read.
pub(super) fn check(expression: &IdedExpr) -> Result<Vec<Vec<String>>, ConditionError> {
    let mut walk = Walk { bound: Vec::new(), references: Vec::new() };
    walk.expr(&expression.expr, 0)?;
    Ok(walk.references)
}

struct Walk<'e> {
    /// Names that the macros around us declare.
    bound: Vec<&'e str>,
    references: Vec<Vec<String>>,
}

impl<'e> Walk<'e> {
    fn expr(&mut self, expr: &'e Expr, depth: usize) -> Result<(), ConditionError> {
        if depth > CONDITION_NESTING_MAX {
            return Err(ConditionError::new(
                ConditionErrorKind::Limit,
                format!(
                    "the condition is nested more than {CONDITION_NESTING_MAX} levels deep; compute a part of it in an aggregate task"
                ),
            ));
        }
        if let Some(path) = path(expr) {
            if !self.bound.contains(&path[0].as_str()) && !super::value::is_type_name(&path[0]) {
                self.references.push(path);
            }
            return Ok(());
        }
        let depth = depth + 1;
        match expr {
            Expr::Call(call) => {
                function(&call.func_name, call.target.is_some(), call.args.len())?;
                call.target.iter().try_for_each(|target| self.expr(&target.expr, depth))?;
                call.args.iter().try_for_each(|argument| self.expr(&argument.expr, depth))
            }
            Expr::Comprehension(comprehension) => {
                self.expr(&comprehension.iter_range.expr, depth)?;
                self.expr(&comprehension.accu_init.expr, depth)?;
                let outer = self.bound.len();
                self.bound.extend([comprehension.iter_var.as_str(), comprehension.accu_var.as_str()]);
                self.bound.extend(comprehension.iter_var2.as_deref());
                self.expr(&comprehension.loop_cond.expr, depth)?;
                self.expr(&comprehension.loop_step.expr, depth)?;
                self.expr(&comprehension.result.expr, depth)?;
                self.bound.truncate(outer);
                Ok(())
            }
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.expr(&element.expr, depth)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.expr(&entry.key.expr, depth)?;
                    self.expr(&entry.value.expr, depth)
                }
                EntryExpr::StructField(field) => self.expr(&field.value.expr, depth),
            }),
            Expr::Select(select) => self.expr(&select.operand.expr, depth),
            Expr::Struct(message) => Err(ConditionError::new(
                ConditionErrorKind::Syntax,
                format!(
                    "`{}{{...}}` makes a message, and there are none; write a map: `{{\"key\": value}}`",
                    cut(&message.type_name)
                ),
            )),
            Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Ok(()),
        }
    }
}

/// The path that an expression spells: `a.b["c"]` is `a`, `b`, `c`. A presence test is no path: what it tests may be missing.
fn path(expr: &Expr) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut at = expr;
    loop {
        match at {
            Expr::Ident(name) => {
                names.push(name.clone());
                names.reverse();
                return Some(names);
            }
            Expr::Select(select) if !select.test => {
                names.push(select.field.clone());
                at = &select.operand.expr;
            }
            Expr::Call(call) if call.func_name == cel::common::ast::operators::INDEX => match call.args.as_slice() {
                [of, IdedExpr { expr: Expr::Literal(cel::common::ast::LiteralValue::String(name)), .. }] => {
                    names.push(name.inner().to_owned());
                    at = &of.expr;
                }
                _ => return None,
            },
            _ => return None,
        }
    }
}

fn function(name: &str, method: bool, arguments: usize) -> Result<(), ConditionError> {
    // Operators are spelled with characters that no name has.
    if name.contains(|c: char| !(c.is_alphanumeric() || c == '_')) || name.starts_with('_') {
        return Ok(());
    }
    let unknown = |message| Err(ConditionError::new(ConditionErrorKind::UnknownFunction, message));
    let Some(signature) = FUNCTIONS.iter().find(|signature| signature.name == name) else {
        if let Some((_, example)) = MACROS.iter().find(|(known, _)| *known == name) {
            return unknown(format!("`{name}` is used like this: `{example}`"));
        }
        if matches!(name, "timestamp" | "duration" | "now") {
            return unknown(format!(
                "the function `{name}` is not available: conditions know no time, so that a run can be replayed"
            ));
        }
        let names = FUNCTIONS.iter().map(|signature| signature.name).chain(MACROS.iter().map(|(name, _)| *name));
        let all: Vec<&str> = names.collect();
        return unknown(match nearest(name, all.iter().copied()) {
            Some(near) => format!("unknown function `{}`; did you mean `{near}`?", cut(name)),
            None => format!("unknown function `{}`; there are {}", cut(name), all.join(", ")),
        });
    };
    let (fits, other) =
        if method { (signature.method, signature.global) } else { (signature.global, signature.method) };
    if fits.contains(&arguments) {
        return Ok(());
    }
    unknown(match (method, fits.first(), other.first()) {
        (_, Some(wanted), _) => format!("`{name}` takes {wanted} argument(s) and got {arguments}"),
        (true, None, _) => format!("`{name}` is called with its value in the brackets: `{name}(x)`"),
        (false, None, _) => format!("`{name}` is called on a value: `x.{name}(...)`"),
    })
}
