//! Values while a condition is evaluated: JSON stays where it is.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

use super::{ConditionError, ConditionErrorKind};
use crate::limits::CONDITION_COST_MAX;
use crate::scope::View;

/// A text: in the scope, or made.
#[derive(Debug, Clone)]
pub(super) enum Text<'s> {
    Borrowed(&'s str),
    Made(Rc<str>),
}

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Made(text) => text,
        }
    }
}

/// The key of a map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Bool(bool),
    Int(i128),
    Text(String),
}

#[derive(Debug, Clone)]
pub(super) enum V<'s> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Text<'s>),
    Bytes(Rc<[u8]>),
    /// A list of JSON.
    Items(&'s [Value]),
    /// A list that was made.
    List(Rc<Vec<V<'s>>>),
    /// An object of the scope.
    Object(View<'s>),
    /// A map that was made.
    Map(Rc<BTreeMap<Key, V<'s>>>),
    Type(&'static str),
}

pub(super) fn is_type_name(name: &str) -> bool {
    type_value(name).is_some()
}

/// The type that an identifier means.
pub(super) fn type_value(name: &str) -> Option<&'static str> {
    ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"]
        .into_iter()
        .find(|known| *known == name)
}

impl<'s> V<'s> {
    pub(super) fn of(view: View<'s>) -> Self {
        match view {
            View::Json(Value::Null) => V::Null,
            View::Json(Value::Bool(value)) => V::Bool(*value),
            View::Json(Value::Number(number)) => match (number.as_i64(), number.as_u64()) {
                (Some(int), _) => V::Int(int),
                (None, Some(uint)) => V::Uint(uint),
                (None, None) => V::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            View::Json(Value::String(text)) => V::Text(Text::Borrowed(text)),
            View::Json(Value::Array(items)) => V::Items(items),
            View::Json(Value::Object(_)) | View::Map(_) => V::Object(view),
        }
    }

    pub(super) fn made(text: impl Into<Rc<str>>) -> Self {
        V::Text(Text::Made(text.into()))
    }

    /// With its article, for messages.
    pub(super) fn described(&self) -> &'static str {
        match self {
            V::Null => "null",
            V::Bool(_) => "a boolean",
            V::Int(_) | V::Uint(_) => "an integer",
            V::Double(_) => "a decimal number",
            V::Text(_) => "a text",
            V::Bytes(_) => "bytes",
            V::Items(_) | V::List(_) => "a list",
            V::Object(_) | V::Map(_) => "an object",
            V::Type(_) => "a type",
        }
    }

    /// As CEL names it.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            V::Null => "null_type",
            V::Bool(_) => "bool",
            V::Int(_) => "int",
            V::Uint(_) => "uint",
            V::Double(_) => "double",
            V::Text(_) => "string",
            V::Bytes(_) => "bytes",
            V::Items(_) | V::List(_) => "list",
            V::Object(_) | V::Map(_) => "map",
            V::Type(_) => "type",
        }
    }

    /// The items of a list.
    pub(super) fn list(&self) -> Option<Items<'_, 's>> {
        match self {
            V::Items(items) => Some(Items::Json(items)),
            V::List(items) => Some(Items::Made(items)),
            _ => None,
        }
    }

    /// The key that this value can be.
    pub(super) fn key(&self) -> Option<Key> {
        match self {
            V::Bool(value) => Some(Key::Bool(*value)),
            V::Int(int) => Some(Key::Int(i128::from(*int))),
            V::Uint(uint) => Some(Key::Int(i128::from(*uint))),
            V::Double(double) if double.fract() == 0.0 && double.abs() < 1e18 => Some(Key::Int(*double as i128)),
            V::Text(text) => Some(Key::Text(text.as_str().to_owned())),
            _ => None,
        }
    }
}

/// A list of either kind.
#[derive(Clone, Copy)]
pub(super) enum Items<'v, 's> {
    Json(&'s [Value]),
    Made(&'v [V<'s>]),
}

impl<'s> Items<'_, 's> {
    pub(super) fn len(&self) -> usize {
        match self {
            Items::Json(items) => items.len(),
            Items::Made(items) => items.len(),
        }
    }

    pub(super) fn get(&self, at: usize) -> Option<V<'s>> {
        match self {
            Items::Json(items) => items.get(at).map(|item| V::of(View::Json(item))),
            Items::Made(items) => items.get(at).cloned(),
        }
    }
}

/// Counts what one evaluation costs.
#[derive(Debug, Default)]
pub(super) struct Cost(u64);

/// Values nested deeper than this are not compared or returned.
const DEPTH_MAX: usize = 200;

impl Cost {
    pub(super) fn add(&mut self, cost: usize) -> Result<(), ConditionError> {
        self.0 = self.0.saturating_add(cost as u64);
        if self.0 > CONDITION_COST_MAX {
            return Err(ConditionError::new(
                ConditionErrorKind::Limit,
                format!(
                    "the condition costs more than {CONDITION_COST_MAX} steps on this data; visit fewer items, or compute a part of it in a task"
                ),
            ));
        }
        Ok(())
    }

    /// A text or a list of this size is read or made.
    pub(super) fn size(&mut self, size: usize) -> Result<(), ConditionError> {
        self.add(size / 32)
    }

    fn deep(depth: usize) -> Result<(), ConditionError> {
        if depth > DEPTH_MAX {
            return Err(ConditionError::new(
                ConditionErrorKind::Limit,
                format!("a value in the condition is nested more than {DEPTH_MAX} levels deep"),
            ));
        }
        Ok(())
    }

    /// Numbers are equal by value; values of different types are not equal.
    pub(super) fn equal(&mut self, a: &V<'_>, b: &V<'_>, depth: usize) -> Result<bool, ConditionError> {
        Self::deep(depth)?;
        self.add(1)?;
        if let (Some(a), Some(b)) = (a.list(), b.list()) {
            if a.len() != b.len() {
                return Ok(false);
            }
            for at in 0..a.len() {
                let (Some(a), Some(b)) = (a.get(at), b.get(at)) else { return Ok(false) };
                if !self.equal(&a, &b, depth + 1)? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        Ok(match (a, b) {
            (V::Null, V::Null) => true,
            (V::Bool(a), V::Bool(b)) => a == b,
            (V::Text(a), V::Text(b)) => {
                self.size(a.as_str().len().min(b.as_str().len()))?;
                a.as_str() == b.as_str()
            }
            (V::Bytes(a), V::Bytes(b)) => a == b,
            (V::Type(a), V::Type(b)) => a == b,
            (V::Object(_) | V::Map(_), V::Object(_) | V::Map(_)) => return self.equal_maps(a, b, depth),
            _ => compare_numbers(a, b) == Some(Ordering::Equal),
        })
    }

    fn equal_maps(&mut self, a: &V<'_>, b: &V<'_>, depth: usize) -> Result<bool, ConditionError> {
        let (a, b) = (self.fields(a)?, self.fields(b)?);
        if a.len() != b.len() {
            return Ok(false);
        }
        for (key, a) in &a {
            let Some(b) = b.get(key) else { return Ok(false) };
            if !self.equal(a, b, depth + 1)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The fields of an object or map, paid for; empty for anything else.
    pub(super) fn fields<'s>(&mut self, of: &V<'s>) -> Result<BTreeMap<Key, V<'s>>, ConditionError> {
        match of {
            V::Map(fields) => {
                self.size(fields.len() * 32)?;
                Ok(fields.as_ref().clone())
            }
            V::Object(view) => {
                let names = view.names().unwrap_or_default();
                self.add(names.len())?;
                let field = |name: &str| view.field(name).map(|field| (Key::Text(name.to_owned()), V::of(field)));
                Ok(names.into_iter().filter_map(field).collect())
            }
            _ => Ok(BTreeMap::new()),
        }
    }

    /// The value as JSON.
    pub(super) fn json(&mut self, value: &V<'_>, depth: usize) -> Result<Value, ConditionError> {
        Self::deep(depth)?;
        self.add(1)?;
        if let Some(items) = value.list() {
            let items = (0..items.len()).filter_map(|at| items.get(at)).map(|item| self.json(&item, depth + 1));
            return items.collect::<Result<Vec<_>, _>>().map(Value::Array);
        }
        Ok(match value {
            V::Bool(value) => Value::Bool(*value),
            V::Int(int) => Value::from(*int),
            V::Uint(uint) => Value::from(*uint),
            V::Double(double) => match serde_json::Number::from_f64(*double) {
                Some(number) => Value::Number(number),
                None => {
                    return Err(ConditionError::new(
                        ConditionErrorKind::Arithmetic,
                        format!("the condition's value {double} is no JSON number"),
                    ));
                }
            },
            V::Text(text) => {
                self.size(text.as_str().len())?;
                Value::from(text.as_str())
            }
            V::Bytes(_) => {
                return Err(ConditionError::new(
                    ConditionErrorKind::Type,
                    "bytes cannot be the result of a condition; use `string(...)`",
                ));
            }
            V::Type(name) => Value::from(*name),
            V::Object(_) | V::Map(_) => {
                let mut object = serde_json::Map::new();
                for (key, field) in self.fields(value)? {
                    let name = match key {
                        Key::Text(name) => name,
                        Key::Int(int) => int.to_string(),
                        Key::Bool(value) => value.to_string(),
                    };
                    object.insert(name, self.json(&field, depth + 1)?);
                }
                Value::Object(object)
            }
            V::Null | V::Items(_) | V::List(_) => Value::Null,
        })
    }
}

/// By value, whatever the types of number are. `None` when one is no number, or not comparable.
pub(super) fn compare_numbers(a: &V<'_>, b: &V<'_>) -> Option<Ordering> {
    let whole = |v: &V<'_>| match v {
        V::Int(int) => Some(i128::from(*int)),
        V::Uint(uint) => Some(i128::from(*uint)),
        V::Double(double) if double.fract() == 0.0 && double.abs() < 1e30 => Some(*double as i128),
        _ => None,
    };
    if let (Some(a), Some(b)) = (whole(a), whole(b)) {
        return Some(a.cmp(&b));
    }
    float(a)?.partial_cmp(&float(b)?)
}

pub(super) fn float(v: &V<'_>) -> Option<f64> {
    match v {
        V::Int(int) => Some(*int as f64),
        V::Uint(uint) => Some(*uint as f64),
        V::Double(double) => Some(*double),
        _ => None,
    }
}
