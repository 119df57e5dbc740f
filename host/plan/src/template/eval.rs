//! Renders pieces in a scope.

use std::borrow::Cow;

use serde_json::Value;

use super::ast::{Expr, ExprKind, Piece, Slot};
use super::budget::Budget;
use super::error::{Fault, TemplateError};
use super::functions::{Arguments, Evaluation};
use super::value::{Field, Val, text_of};
use crate::blob::{BLOB_KEY, has_blob_key};
use crate::scope::{Scope, View};
use crate::suggest::hint;

type Result<T> = std::result::Result<T, TemplateError>;

/// One text being rendered.
pub(super) struct Run<'r, 's> {
    scope: &'s Scope<'s>,
    budget: &'r mut Budget,
    variables: Vec<Val<'s>>,
    /// `None`: dot is the scope.
    dot: Option<Val<'s>>,
    text: String,
}

impl<'r, 's> Run<'r, 's> {
    pub(super) fn new(scope: &'s Scope<'s>, budget: &'r mut Budget) -> Self {
        Self { scope, budget, variables: Vec::new(), dot: None, text: String::new() }
    }

    /// The value of a text that is exactly one expression.
    pub(super) fn value(mut self, expr: &Expr) -> Result<Value> {
        let value = self.eval(expr, false)?;
        if let Val::Made(made) = &value
            && has_blob_key(made)
        {
            let fault =
                Fault::of_type(format!("an object with the key `{BLOB_KEY}`, which is reserved, cannot be made"));
            return Err(fault.at(expr.offset));
        }
        written(&value, expr, self.budget)
    }

    /// The text that the pieces give.
    pub(super) fn text(mut self, pieces: &[Piece]) -> Result<String> {
        self.pieces(pieces)?;
        Ok(self.text)
    }

    fn write(&mut self, text: &str, offset: usize) -> Result<()> {
        let paid = self.budget.bytes(text.len()).and_then(|()| self.budget.write(text.len()));
        paid.map_err(|fault| fault.at(offset))?;
        self.text.push_str(text);
        Ok(())
    }

    /// One more step.
    fn step(&mut self, offset: usize) -> Result<()> {
        self.budget.step(1).map_err(|fault| fault.at(offset))
    }

    fn pieces(&mut self, pieces: &[Piece]) -> Result<()> {
        for piece in pieces {
            self.piece(piece)?;
        }
        Ok(())
    }

    /// A block: its variables end with it.
    fn scoped(&mut self, pieces: &[Piece], outer: usize) -> Result<()> {
        let done = self.pieces(pieces);
        self.variables.truncate(outer);
        done
    }

    fn piece(&mut self, piece: &Piece) -> Result<()> {
        match piece {
            Piece::Text(text) => self.write(text, 0),
            Piece::Write(expr) => {
                let value = self.eval(expr, false)?;
                let json = value.json(self.budget).map_err(|fault| fault.at(expr.offset))?;
                if !json.is_string() {
                    self.budget.charge_value(&json).map_err(|fault| fault.at(expr.offset))?;
                }
                let text = text_of(&json).into_owned();
                self.write(&text, expr.offset)
            }
            Piece::Set { slot, value } => {
                let value = self.eval(value, false)?;
                match slot {
                    Slot::New => self.variables.push(value),
                    Slot::At(at) => self.variables[*at] = value,
                }
                Ok(())
            }
            Piece::If { declare, condition, then, otherwise } => {
                let outer = self.variables.len();
                let value = self.eval(condition, false)?;
                let chosen = if value.truthy() { then } else { otherwise };
                if *declare {
                    self.variables.push(value);
                }
                self.scoped(chosen, outer)
            }
            Piece::With { declare, value, then, otherwise } => {
                let outer = self.variables.len();
                let value = self.eval(value, false)?;
                let truthy = value.truthy();
                if *declare {
                    self.variables.push(value.clone());
                }
                if !truthy {
                    return self.scoped(otherwise, outer);
                }
                let dot = self.dot.replace(value);
                let done = self.scoped(then, outer);
                self.dot = dot;
                done
            }
            Piece::Range { variables, items, body, otherwise } => self.range(*variables, items, body, otherwise),
        }
    }

    fn range(&mut self, variables: u8, items: &Expr, body: &[Piece], otherwise: &[Piece]) -> Result<()> {
        let of = self.eval(items, false)?;
        let entries = self.entries(&of).map_err(|fault| fault.at(items.offset))?;
        let outer = self.variables.len();
        if entries.is_empty() {
            return self.scoped(otherwise, outer);
        }
        let dot = self.dot.take();
        for (key, item) in entries {
            self.step(items.offset)?;
            if variables == 2 {
                self.variables.push(Val::from(key));
            }
            if variables > 0 {
                self.variables.push(item.clone());
            }
            self.dot = Some(item);
            self.scoped(body, outer)?;
        }
        self.dot = dot;
        Ok(())
    }

    /// What a range goes over: a list with positions, an object with sorted names.
    fn entries(&mut self, of: &Val<'s>) -> std::result::Result<Vec<(Value, Val<'s>)>, Fault> {
        let budget = &mut *self.budget;
        let wrong = |found: &str| Fault::of_type(format!("`range` needs a list or an object but got {found}"));
        match of {
            Val::View(View::Map(fields)) => {
                Ok(fields.iter().map(|(name, node)| (Value::from(name.as_str()), Val::View(node.view()))).collect())
            }
            Val::View(View::Json(value)) => match value {
                Value::Null => Ok(Vec::new()),
                Value::Array(items) => {
                    budget.bytes(items.len())?;
                    Ok(items
                        .iter()
                        .enumerate()
                        .map(|(at, item)| (Value::from(at), Val::View(View::Json(item))))
                        .collect())
                }
                Value::Object(fields) => {
                    budget.bytes(fields.len())?;
                    let names = View::Json(value).names().unwrap_or_default();
                    Ok(names
                        .into_iter()
                        .map(|name| (Value::from(name), Val::View(View::Json(&fields[name]))))
                        .collect())
                }
                _ => Err(wrong(of.type_name())),
            },
            Val::Made(value) => {
                budget.charge_value(value)?;
                match value.as_ref() {
                    Value::Null => Ok(Vec::new()),
                    Value::Array(items) => Ok(items
                        .iter()
                        .enumerate()
                        .map(|(at, item)| (Value::from(at), Val::from(item.clone())))
                        .collect()),
                    Value::Object(fields) => {
                        let names = View::Json(value).names().unwrap_or_default();
                        Ok(names.into_iter().map(|name| (Value::from(name), Val::from(fields[name].clone()))).collect())
                    }
                    _ => Err(wrong(of.type_name())),
                }
            }
        }
    }

    /// `lenient`: a path whose last key is missing is null.
    fn eval(&mut self, expr: &Expr, lenient: bool) -> Result<Val<'s>> {
        self.step(expr.offset)?;
        match &expr.kind {
            ExprKind::Literal(value) => {
                self.budget.charge_value(value).map_err(|fault| fault.at(expr.offset))?;
                Ok(Val::from(value.clone()))
            }
            ExprKind::Dot(fields) => match self.dot.clone() {
                None => self.in_scope(fields, ".", lenient, expr.offset),
                Some(dot) => self.follow(dot, fields, "", lenient).map_err(|fault| fault.at(expr.offset)),
            },
            ExprKind::Root(fields) => self.in_scope(fields, "$.", lenient, expr.offset),
            ExprKind::Variable { name, slot, fields } => {
                let value = self.variables[*slot].clone();
                self.follow(value, fields, &format!("${name}"), lenient).map_err(|fault| fault.at(expr.offset))
            }
            ExprKind::Fields { of, fields } => {
                let value = self.eval(of, false)?;
                self.follow(value, fields, "(...)", lenient).map_err(|fault| fault.at(expr.offset))
            }
            ExprKind::Call { function, arguments } => self.call(expr, function, arguments),
        }
    }

    fn call(
        &mut self,
        expr: &Expr,
        function: &'static super::functions::Function,
        arguments: &[Expr],
    ) -> Result<Val<'s>> {
        if let Evaluation::UntilTruthIs(stop) = function.evaluation {
            let mut last = Val::null();
            for argument in arguments {
                last = self.eval(argument, false)?;
                if last.truthy() == stop {
                    break;
                }
            }
            return Ok(last);
        }
        let lenient = function.evaluation == Evaluation::MissingIsNull;
        let mut values = Vec::with_capacity(arguments.len());
        for argument in arguments {
            values.push(self.eval(argument, lenient)?);
        }
        let mut arguments = Arguments { function, values, budget: self.budget };
        (function.run)(&mut arguments).map_err(|fault| fault.at(expr.offset))
    }

    fn in_scope(&mut self, fields: &[String], prefix: &str, lenient: bool, offset: usize) -> Result<Val<'s>> {
        let Some((root, rest)) = fields.split_first() else {
            let fault = Fault::of_type("the whole scope is no value; name a part of it, for example `.input`");
            return Err(fault.at(offset));
        };
        let path = format!("{prefix}{root}");
        match self.scope.get(root) {
            Some(view) => self.follow(Val::View(view), rest, &path, lenient).map_err(|fault| fault.at(offset)),
            None if lenient && rest.is_empty() => Ok(Val::null()),
            None => {
                let full = full_path(&path, rest);
                let names = self.scope.names();
                let hint = hint(root, "names known here", &names);
                Err(Fault::missing(format!("`{full}` does not exist: there is no `{root}`; {hint}")).at(offset))
            }
        }
    }

    /// Goes from a value along its fields.
    fn follow(
        &mut self,
        mut at: Val<'s>,
        fields: &[String],
        prefix: &str,
        lenient: bool,
    ) -> std::result::Result<Val<'s>, Fault> {
        for (position, name) in fields.iter().enumerate() {
            self.budget.step(1)?;
            match at.field(name, self.budget)? {
                Field::Found(next) => at = next,
                Field::Missing if lenient && position + 1 == fields.len() => return Ok(Val::null()),
                Field::Missing => {
                    let names = at.names();
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    return Err(Fault::missing(format!(
                        "`{}` does not exist: {} has no `{name}`; {}",
                        full_path(prefix, fields),
                        place(prefix, &fields[..position]),
                        hint(name, "keys there", &names)
                    )));
                }
                Field::NotAnObject(found) => {
                    return Err(Fault::missing(format!(
                        "`{}` does not exist: {} is {found} and has no `{name}`{}",
                        full_path(prefix, fields),
                        place(prefix, &fields[..position]),
                        if found == "a list" {
                            "; for an item of a list write `index`, for all of them `range`"
                        } else {
                            ""
                        }
                    )));
                }
            }
        }
        Ok(at)
    }
}

/// A value of a scope as it is.
pub(super) fn handed_on(view: View<'_>, expr: &Expr, budget: &mut Budget) -> Result<Value> {
    written(&Val::View(view), expr, budget)
}

fn written(value: &Val<'_>, expr: &Expr, budget: &mut Budget) -> Result<Value> {
    let json = value.json(budget).map_err(|fault| fault.at(expr.offset))?;
    budget.write_value(&json).map_err(|fault| fault.at(expr.offset))?;
    Ok(json.into_owned())
}

fn full_path(prefix: &str, fields: &[String]) -> String {
    let mut path = prefix.to_owned();
    for field in fields {
        path.push('.');
        path.push_str(field);
    }
    path
}

fn place(prefix: &str, fields: &[String]) -> Cow<'static, str> {
    let path = full_path(prefix, fields);
    if path.is_empty() { Cow::Borrowed("the current value") } else { Cow::Owned(format!("`{path}`")) }
}
