//! Comparing and choosing.
#![expect(clippy::unnecessary_wraps, reason = "every function of the table has the same signature")]

use std::cmp::Ordering;

use serde_json::Value;

use super::{Arguments, Evaluation, Function, MANY, function, lenient};
use crate::template::error::Fault;
use crate::template::value::Val;

type Answer<'s> = Result<Val<'s>, Fault>;

pub(super) static TABLE: &[Function] = &[
    function("eq", "A B...", 2, MANY, eq),
    function("ne", "A B", 2, 2, ne),
    function("lt", "A B", 2, 2, lt),
    function("le", "A B", 2, 2, le),
    function("gt", "A B", 2, 2, gt),
    function("ge", "A B", 2, 2, ge),
    Function {
        name: "and",
        usage: "A B...",
        min: 1,
        max: MANY,
        evaluation: Evaluation::UntilTruthIs(false),
        run: last,
    },
    Function { name: "or", usage: "A B...", min: 1, max: MANY, evaluation: Evaluation::UntilTruthIs(true), run: last },
    function("not", "A", 1, 1, not),
    lenient("default", "OTHERWISE VALUE", 2, 2, default),
    lenient("coalesce", "A B...", 1, MANY, coalesce),
    lenient("empty", "VALUE", 1, 1, empty),
    function("ternary", "IF_TRUE IF_FALSE CONDITION", 3, 3, ternary),
    function("kindOf", "VALUE", 1, 1, kind_of),
];

/// `and` and `or` are evaluated before they would be called.
fn last<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let last = arguments.count() - 1;
    Ok(arguments.take(last))
}

/// Numbers are equal by value, whether they are written as integers or decimals.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => compare_numbers(a, b) == Some(Ordering::Equal),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

fn compare_numbers(a: &Value, b: &Value) -> Option<Ordering> {
    if let (Some(a), Some(b)) = (a.as_i64(), b.as_i64()) {
        return Some(a.cmp(&b));
    }
    if let (Some(a), Some(b)) = (a.as_u64(), b.as_u64()) {
        return Some(a.cmp(&b));
    }
    a.as_f64()?.partial_cmp(&b.as_f64()?)
}

fn equals(arguments: &mut Arguments<'_, '_>) -> Result<bool, Fault> {
    let first = arguments.copy(0)?;
    for at in 1..arguments.count() {
        let other = arguments.copy(at)?;
        if equal(&first, &other) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn eq<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    Ok(Val::from(Value::Bool(equals(arguments)?)))
}

fn ne<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    Ok(Val::from(Value::Bool(!equals(arguments)?)))
}

fn order(arguments: &mut Arguments<'_, '_>) -> Result<Ordering, Fault> {
    let (a, b) = (arguments.copy(0)?, arguments.copy(1)?);
    let order = match (&a, &b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(_), Value::Number(_)) => compare_numbers(&a, &b),
        _ => None,
    };
    order.ok_or_else(|| {
        let (a, b) = (arguments.values[0].type_name(), arguments.values[1].type_name());
        arguments.fault(&format!("only two numbers or two texts have an order, and these are {a} and {b}"))
    })
}

fn lt<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    Ok(Val::from(Value::Bool(order(arguments)?.is_lt())))
}

fn le<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    Ok(Val::from(Value::Bool(order(arguments)?.is_le())))
}

fn gt<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    Ok(Val::from(Value::Bool(order(arguments)?.is_gt())))
}

fn ge<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    Ok(Val::from(Value::Bool(order(arguments)?.is_ge())))
}

fn not<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    Ok(Val::from(Value::Bool(!arguments.values[0].truthy())))
}

/// The value, unless it is empty (null, false, 0, "" or without items).
fn default<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let at = usize::from(arguments.values[1].truthy());
    Ok(arguments.take(at))
}

fn coalesce<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    match arguments.values.iter().position(Val::truthy) {
        Some(at) => Ok(arguments.take(at)),
        None => Ok(Val::null()),
    }
}

fn empty<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    Ok(Val::from(Value::Bool(!arguments.values[0].truthy())))
}

fn ternary<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let at = usize::from(!arguments.values[2].truthy());
    Ok(arguments.take(at))
}

fn kind_of<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let kind = match arguments.json(0)?.as_ref() {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    Ok(Val::from(Value::from(kind)))
}
