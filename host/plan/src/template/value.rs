//! Values while a template is rendered: borrowed from the scope as long as possible.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Number, Value};

use super::budget::Budget;
use super::error::Fault;
use crate::scope::{Node, View};
use crate::suggest::type_name;

/// A value: seen in the scope, or made by a function.
#[derive(Debug, Clone)]
pub(super) enum Val<'s> {
    View(View<'s>),
    Made(Rc<Value>),
}

impl<'s> Val<'s> {
    pub(super) fn null() -> Self {
        Self::View(View::Json(&Value::Null))
    }

    /// Plain JSON; an object put together from nodes is copied, at a price.
    pub(super) fn json(&self, budget: &mut Budget) -> Result<Cow<'_, Value>, Fault> {
        match self {
            Val::View(View::Json(value)) => Ok(Cow::Borrowed(value)),
            Val::Made(value) => Ok(Cow::Borrowed(value)),
            Val::View(View::Map(fields)) => Ok(Cow::Owned(copy_map(fields, budget, 0)?)),
        }
    }

    /// A field of an object. A copy out of a made value is paid for.
    pub(super) fn field(&self, name: &str, budget: &mut Budget) -> Result<Field<'s>, Fault> {
        match self {
            Val::View(view @ (View::Map(_) | View::Json(Value::Object(_)))) => {
                Ok(view.field(name).map_or(Field::Missing, |found| Field::Found(Val::View(found))))
            }
            Val::View(View::Json(other)) => Ok(Field::NotAnObject(type_name(other))),
            Val::Made(value) => match value.as_ref() {
                Value::Object(fields) => match fields.get(name) {
                    Some(field) => Ok(Field::Found(Val::copied(field, budget)?)),
                    None => Ok(Field::Missing),
                },
                other => Ok(Field::NotAnObject(type_name(other))),
            },
        }
    }

    /// A copy of a value, paid for.
    pub(super) fn copied(value: &Value, budget: &mut Budget) -> Result<Val<'s>, Fault> {
        budget.charge_value(value)?;
        Ok(Val::Made(Rc::new(value.clone())))
    }

    /// The names of an object's fields, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        match self {
            Val::View(view) => view.names().unwrap_or_default().into_iter().map(str::to_owned).collect(),
            Val::Made(value) => View::Json(value).names().unwrap_or_default().into_iter().map(str::to_owned).collect(),
        }
    }

    /// As `if` sees it: null, false, 0 and whatever is empty are not true.
    pub(super) fn truthy(&self) -> bool {
        match self {
            Val::View(View::Json(value)) => truthy(value),
            Val::View(View::Map(fields)) => !fields.is_empty(),
            Val::Made(value) => truthy(value),
        }
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Val::View(View::Json(value)) => type_name(value),
            Val::View(View::Map(_)) => "an object",
            Val::Made(value) => type_name(value),
        }
    }
}

/// What is found under a name.
pub(super) enum Field<'s> {
    Found(Val<'s>),
    Missing,
    /// The type of what is there instead of an object.
    NotAnObject(&'static str),
}

impl From<Value> for Val<'_> {
    fn from(value: Value) -> Self {
        Self::Made(Rc::new(value))
    }
}

fn copy_map(fields: &BTreeMap<String, Node<'_>>, budget: &mut Budget, depth: usize) -> Result<Value, Fault> {
    if depth > crate::limits::TEMPLATE_VALUE_DEPTH_MAX {
        return Err(Budget::too_deep());
    }
    let mut object = Map::new();
    for (name, node) in fields {
        let value = match node.view() {
            View::Json(value) => {
                budget.charge_value(value)?;
                value.clone()
            }
            View::Map(fields) => copy_map(fields, budget, depth + 1)?,
        };
        object.insert(name.clone(), value);
    }
    Ok(Value::Object(object))
}

pub(super) fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// A value as text: texts as they are, numbers without a needless `.0`, lists and objects as JSON.
pub(super) fn text_of(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Number(number) => Cow::Owned(number_text(number)),
        other => Cow::Owned(other.to_string()),
    }
}

pub(super) fn number_text(number: &Number) -> String {
    match number.as_f64() {
        Some(decimal) if number.is_f64() && decimal.fract() == 0.0 && decimal.abs() < 1e15 => format!("{decimal:.0}"),
        _ => number.to_string(),
    }
}
