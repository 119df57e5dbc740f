//! Evaluates what the parser made of a condition.

use std::collections::BTreeMap;
use std::rc::Rc;

use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, MapExpr, SelectExpr, operators};
use serde_json::Value;

use super::functions;
use super::value::{Cost, Key, V, compare_numbers, type_value};
use super::{ConditionError, ConditionErrorKind};
use crate::scope::Scope;
use crate::suggest::{cut, hint};

pub(super) type Result<T> = std::result::Result<T, ConditionError>;

pub(super) fn error(kind: ConditionErrorKind, message: impl Into<String>) -> ConditionError {
    ConditionError::new(kind, message)
}

/// The value of an expression in a scope.
pub(super) fn evaluate(expression: &IdedExpr, scope: &Scope<'_>) -> Result<Value> {
    let mut run = Run { scope, bound: Vec::new(), cost: Cost::default() };
    let value = run.eval(&expression.expr)?;
    run.cost.json(&value, 0)
}

pub(super) struct Run<'e, 's> {
    scope: &'s Scope<'s>,
    /// What macros declared, innermost last. An accumulator may hold an error, which a later item may make irrelevant.
    bound: Vec<(&'e str, Result<V<'s>>)>,
    pub(super) cost: Cost,
}

impl<'e, 's> Run<'e, 's> {
    pub(super) fn eval(&mut self, expr: &'e Expr) -> Result<V<'s>> {
        self.cost.add(1)?;
        match expr {
            Expr::Literal(literal) => self.literal(literal),
            Expr::Ident(name) => self.ident(name),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::List(list) => {
                let items = list.elements.iter().map(|element| self.eval(&element.expr));
                Ok(V::List(Rc::new(items.collect::<Result<_>>()?)))
            }
            Expr::Map(map) => self.map(map),
            Expr::Struct(_) | Expr::Unspecified => {
                Err(error(ConditionErrorKind::Syntax, "the expression is not supported"))
            }
        }
    }

    fn literal(&mut self, literal: &LiteralValue) -> Result<V<'s>> {
        Ok(match literal {
            LiteralValue::Boolean(value) => V::Bool(*value.inner()),
            LiteralValue::Int(int) => V::Int(*int.inner()),
            LiteralValue::UInt(uint) => V::Uint(*uint.inner()),
            LiteralValue::Double(double) => V::Double(*double.inner()),
            LiteralValue::Null => V::Null,
            LiteralValue::String(text) => {
                self.cost.size(text.inner().len())?;
                V::made(text.inner())
            }
            LiteralValue::Bytes(bytes) => V::Bytes(Rc::from(bytes.inner())),
        })
    }

    fn ident(&mut self, name: &str) -> Result<V<'s>> {
        if let Some((_, bound)) = self.bound.iter().rev().find(|(known, _)| *known == name) {
            return bound.clone();
        }
        if let Some(view) = self.scope.get(name) {
            return Ok(V::of(view));
        }
        if let Some(of_type) = type_value(name) {
            return Ok(V::Type(of_type));
        }
        let names = self.scope.names();
        let hint = hint(name, "names known here", &names);
        Err(error(ConditionErrorKind::MissingKey, format!("`{}` does not exist; {hint}", cut(name))))
    }

    fn select(&mut self, select: &'e SelectExpr) -> Result<V<'s>> {
        let of = self.eval(&select.operand.expr)?;
        let found = Self::field(&of, &Key::Text(select.field.clone()));
        match found {
            Some(found) if !select.test => Ok(found),
            found @ (Some(_) | None) if select.test => match of {
                V::Object(_) | V::Map(_) => Ok(V::Bool(found.is_some())),
                other => Err(error(
                    ConditionErrorKind::Type,
                    format!("`has(...)` needs an object before `.{}` but it is {}", select.field, other.described()),
                )),
            },
            _ => Err(self.missing(&of, &select.operand.expr, &select.field)),
        }
    }

    fn field(of: &V<'s>, key: &Key) -> Option<V<'s>> {
        match (of, key) {
            (V::Object(view), Key::Text(name)) => view.field(name).map(V::of),
            (V::Map(fields), key) => fields.get(key).cloned(),
            _ => None,
        }
    }

    fn missing(&mut self, of: &V<'s>, operand: &Expr, name: &str) -> ConditionError {
        let place = shown(operand);
        match self.cost.fields(of) {
            Err(limit) => limit,
            Ok(fields) if matches!(of, V::Object(_) | V::Map(_)) => {
                let names: Vec<String> = fields.into_keys().map(|key| key_text(&key)).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let mut hint = hint(name, "keys there", &names);
                let hyphenated = format!("{name}-");
                if let Some(whole) = names.iter().find(|known| known.starts_with(&hyphenated)) {
                    hint = format!("a name with a hyphen is written `[\"{whole}\"]`");
                }
                error(
                    ConditionErrorKind::MissingKey,
                    format!(
                        "`{place}.{}` does not exist: `{place}` has no `{}`; {hint}; `has(...)` asks whether a key exists",
                        cut(name),
                        cut(name)
                    ),
                )
            }
            Ok(_) => error(
                ConditionErrorKind::MissingKey,
                format!(
                    "`{place}.{}` does not exist: `{place}` is {} and has no `{}`",
                    cut(name),
                    of.described(),
                    cut(name)
                ),
            ),
        }
    }

    fn map(&mut self, map: &'e MapExpr) -> Result<V<'s>> {
        let mut fields = BTreeMap::new();
        for entry in &map.entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else {
                return Err(error(ConditionErrorKind::Syntax, "the expression is not supported"));
            };
            let key = self.eval(&entry.key.expr)?;
            let Some(key) = key.key() else {
                return Err(error(
                    ConditionErrorKind::Type,
                    format!("the key of a map must be a text, an integer or a boolean but is {}", key.described()),
                ));
            };
            let value = self.eval(&entry.value.expr)?;
            let shown = key_text(&key);
            if fields.insert(key, value).is_some() {
                return Err(error(ConditionErrorKind::Type, format!("the map has the key `{}` twice", cut(&shown))));
            }
        }
        Ok(V::Map(Rc::new(fields)))
    }

    fn comprehension(&mut self, comprehension: &'e ComprehensionExpr) -> Result<V<'s>> {
        let range = self.eval(&comprehension.iter_range.expr)?;
        // Over an object the macros visit its keys.
        let keys;
        let items = match (&range, range.list()) {
            (_, Some(items)) => items,
            (V::Object(_) | V::Map(_), None) => {
                let fields = self.cost.fields(&range)?;
                keys = V::List(Rc::new(fields.into_keys().map(key_value).collect()));
                keys.list().expect("it was just made a list")
            }
            (other, None) => {
                return Err(error(
                    ConditionErrorKind::Type,
                    format!(
                        "`all`, `exists`, `exists_one`, `filter` and `map` need a list or an object but got {}",
                        other.described()
                    ),
                ));
            }
        };
        let accumulator = self.eval(&comprehension.accu_init.expr);
        let outer = self.bound.len();
        self.bound.push((&comprehension.accu_var, accumulator));
        let result = self.turns(comprehension, items, outer);
        self.bound.truncate(outer);
        result
    }

    fn turns(
        &mut self,
        comprehension: &'e ComprehensionExpr,
        items: super::value::Items<'_, 's>,
        accumulator: usize,
    ) -> Result<V<'s>> {
        for at in 0..items.len() {
            if let V::Bool(false) = self.eval(&comprehension.loop_cond.expr)? {
                break;
            }
            let Some(item) = items.get(at) else { break };
            self.bound.push((&comprehension.iter_var, Ok(item)));
            let next = self.eval(&comprehension.loop_step.expr);
            self.bound.truncate(accumulator + 1);
            match next {
                // Only the logical operators can do without the value of an item.
                Err(limit) if limit.kind == ConditionErrorKind::Limit => return Err(limit),
                next => self.bound[accumulator].1 = next,
            }
        }
        self.eval(&comprehension.result.expr)
    }

    fn call(&mut self, call: &'e CallExpr) -> Result<V<'s>> {
        let name = call.func_name.as_str();
        match (name, call.args.as_slice()) {
            (operators::CONDITIONAL, [condition, then, otherwise]) => match self.eval(&condition.expr)? {
                V::Bool(true) => self.eval(&then.expr),
                V::Bool(false) => self.eval(&otherwise.expr),
                other => Err(error(
                    ConditionErrorKind::Type,
                    format!("what stands before `?` must be true or false but is {}", other.described()),
                )),
            },
            (operators::LOGICAL_AND, [a, b]) => self.logical(&a.expr, &b.expr, false),
            (operators::LOGICAL_OR, [a, b]) => self.logical(&a.expr, &b.expr, true),
            (operators::NOT_STRICTLY_FALSE, [a]) => match self.eval(&a.expr) {
                Ok(V::Bool(value)) => Ok(V::Bool(value)),
                Err(limit) if limit.kind == ConditionErrorKind::Limit => Err(limit),
                _ => Ok(V::Bool(true)),
            },
            (operators::ADD, [a, b]) => {
                let left = self.operand(&a.expr)?;
                let right = self.eval(&b.expr)?;
                functions::add(&mut self.cost, left, right)
            }
            (operators::INDEX, [of, key]) => self.index(&of.expr, &key.expr),
            _ => {
                let mut arguments = Vec::with_capacity(call.args.len() + 1);
                for argument in call.target.iter().map(|target| &target.expr).chain(call.args.iter().map(|a| &a.expr)) {
                    arguments.push(self.eval(argument)?);
                }
                functions::call(&mut self.cost, name, &arguments)
            }
        }
    }

    /// The left side of `+`. An accumulator is taken out, so that it can grow in place.
    fn operand(&mut self, expr: &'e Expr) -> Result<V<'s>> {
        if let Expr::Ident(name) = expr
            && name.starts_with('@')
            && let Some((_, bound)) = self.bound.iter_mut().rev().find(|(known, _)| *known == name)
        {
            return std::mem::replace(bound, Ok(V::Null));
        }
        self.eval(expr)
    }

    /// `&&` and `||`: the value that decides wins, even over an error on the other side.
    fn logical(&mut self, a: &'e Expr, b: &'e Expr, decides: bool) -> Result<V<'s>> {
        let first = self.truth(a, decides);
        match first {
            Ok(value) if value == decides => return Ok(V::Bool(decides)),
            Err(limit) if limit.kind == ConditionErrorKind::Limit => return Err(limit),
            _ => {}
        }
        match (first, self.truth(b, decides)) {
            (_, Ok(value)) if value == decides => Ok(V::Bool(decides)),
            (_, Err(limit)) if limit.kind == ConditionErrorKind::Limit => Err(limit),
            (Err(problem), _) | (_, Err(problem)) => Err(problem),
            (Ok(_), Ok(value)) => Ok(V::Bool(value)),
        }
    }

    fn truth(&mut self, expr: &'e Expr, or: bool) -> Result<bool> {
        match self.eval(expr)? {
            V::Bool(value) => Ok(value),
            other => {
                let operator = if or { "||" } else { "&&" };
                Err(error(
                    ConditionErrorKind::Type,
                    format!(
                        "both sides of `{operator}` must be true or false, and `{}` is {}",
                        shown(expr),
                        other.described()
                    ),
                ))
            }
        }
    }

    fn index(&mut self, of_expr: &'e Expr, key_expr: &'e Expr) -> Result<V<'s>> {
        let of = self.eval(of_expr)?;
        let key = self.eval(key_expr)?;
        if let Some(items) = of.list() {
            let at = match &key {
                V::Int(_) | V::Uint(_) | V::Double(_) => {
                    (0..items.len()).len().checked_sub(1).and_then(|last| position(&key, last))
                }
                other => {
                    return Err(error(
                        ConditionErrorKind::Type,
                        format!(
                            "an item of a list is found by its position, an integer from 0, and not by {}",
                            other.described()
                        ),
                    ));
                }
            };
            return at.and_then(|at| items.get(at)).ok_or_else(|| {
                let message = format!(
                    "`{}` has {} items, counted from 0, and none at the position asked for",
                    shown(of_expr),
                    items.len()
                );
                error(ConditionErrorKind::MissingKey, message)
            });
        }
        let Some(key) = key.key() else {
            return Err(error(ConditionErrorKind::Type, format!("{} cannot be a key", key.described())));
        };
        match Self::field(&of, &key) {
            Some(found) => Ok(found),
            None => Err(self.missing(&of, of_expr, &key_text(&key))),
        }
    }
}

fn position(key: &V<'_>, last: usize) -> Option<usize> {
    let zero = V::Int(0);
    let last = V::Uint(last as u64);
    if compare_numbers(key, &zero)?.is_lt() || compare_numbers(key, &last)?.is_gt() {
        return None;
    }
    match key {
        V::Int(int) => usize::try_from(*int).ok(),
        V::Uint(uint) => usize::try_from(*uint).ok(),
        V::Double(double) if double.fract() == 0.0 => usize::try_from(*double as i64).ok(),
        _ => None,
    }
}

fn key_text(key: &Key) -> String {
    match key {
        Key::Text(name) => name.clone(),
        Key::Int(int) => int.to_string(),
        Key::Bool(value) => value.to_string(),
    }
}

fn key_value<'s>(key: Key) -> V<'s> {
    match key {
        Key::Text(name) => V::made(name),
        Key::Bool(value) => V::Bool(value),
        Key::Int(int) => i64::try_from(int).map_or_else(|_| V::Uint(u64::try_from(int).unwrap_or(u64::MAX)), V::Int),
    }
}

/// A path as it was written, other expressions as `(...)`.
fn shown(expr: &Expr) -> String {
    let mut names = Vec::new();
    let mut at = expr;
    loop {
        match at {
            Expr::Ident(name) => {
                names.push(name.as_str());
                break;
            }
            Expr::Select(select) => {
                names.push(select.field.as_str());
                at = &select.operand.expr;
            }
            _ => {
                names.push("(...)");
                break;
            }
        }
    }
    names.reverse();
    cut(&names.join("."))
}
