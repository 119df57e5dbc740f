//! Operators and functions of conditions.

use std::cmp::Ordering;
use std::rc::Rc;

use cel::common::ast::operators;

use super::ConditionErrorKind as Kind;
use super::eval::{Result, error};
use super::value::{Cost, Text, V, compare_numbers, float};
use crate::suggest::cut;

/// Bytes of a compiled pattern.
const PATTERN_BYTES_MAX: usize = 64 * 1024;

/// An operator or function; what it is called on is its first argument.
pub(super) fn call<'s>(cost: &mut Cost, name: &str, arguments: &[V<'s>]) -> Result<V<'s>> {
    match (name, arguments) {
        (operators::EQUALS, [a, b]) => cost.equal(a, b, 0).map(V::Bool),
        (operators::NOT_EQUALS, [a, b]) => cost.equal(a, b, 0).map(|equal| V::Bool(!equal)),
        (operators::LESS, [a, b]) => order(cost, a, b, "<").map(|order| V::Bool(order.is_some_and(Ordering::is_lt))),
        (operators::LESS_EQUALS, [a, b]) => {
            order(cost, a, b, "<=").map(|order| V::Bool(order.is_some_and(Ordering::is_le)))
        }
        (operators::GREATER, [a, b]) => order(cost, a, b, ">").map(|order| V::Bool(order.is_some_and(Ordering::is_gt))),
        (operators::GREATER_EQUALS, [a, b]) => {
            order(cost, a, b, ">=").map(|order| V::Bool(order.is_some_and(Ordering::is_ge)))
        }
        (operators::IN, [item, of]) => is_in(cost, item, of),
        (operators::LOGICAL_NOT, [V::Bool(value)]) => Ok(V::Bool(!value)),
        (operators::LOGICAL_NOT, [other]) => {
            Err(error(Kind::Type, format!("what follows `!` must be true or false but is {}", other.described())))
        }
        (operators::NEGATE, [V::Int(int)]) => int.checked_neg().map(V::Int).ok_or_else(too_large),
        (operators::NEGATE, [V::Double(double)]) => Ok(V::Double(-double)),
        (operators::NEGATE, [other]) => {
            Err(error(Kind::Type, format!("what follows `-` must be a number but is {}", other.described())))
        }
        (operators::SUBSTRACT, [a, b]) => arithmetic(a, b, "-", i64::checked_sub, u64::checked_sub, |a, b| a - b),
        (operators::MULTIPLY, [a, b]) => arithmetic(a, b, "*", i64::checked_mul, u64::checked_mul, |a, b| a * b),
        (operators::DIVIDE, [a, b]) => {
            not_zero(b)?;
            arithmetic(a, b, "/", i64::checked_div, u64::checked_div, |a, b| a / b)
        }
        (operators::MODULO, [a, b]) => {
            not_zero(b)?;
            if matches!(a, V::Double(_)) || matches!(b, V::Double(_)) {
                return Err(error(Kind::Type, "`%` needs two integers"));
            }
            arithmetic(a, b, "%", i64::checked_rem, u64::checked_rem, |a, b| a % b)
        }
        ("size", [of]) => size(cost, of),
        ("dyn", [value]) => Ok(value.clone()),
        ("type", [value]) => Ok(V::Type(value.type_name())),
        ("int" | "uint" | "double" | "string" | "bool" | "bytes", [value]) => convert(cost, name, value),
        ("contains" | "startsWith" | "endsWith" | "matches", [V::Text(text), V::Text(part)]) => {
            cost.size(text.as_str().len() + part.as_str().len())?;
            test(cost, name, text.as_str(), part.as_str()).map(V::Bool)
        }
        ("lowerAscii" | "upperAscii" | "trim", [V::Text(text)]) => {
            cost.size(text.as_str().len())?;
            Ok(V::made(match name {
                "lowerAscii" => text.as_str().to_ascii_lowercase(),
                "upperAscii" => text.as_str().to_ascii_uppercase(),
                _ => text.as_str().trim().to_owned(),
            }))
        }
        (name, arguments) => Err(wrong_arguments(name, arguments)),
    }
}

fn wrong_arguments(name: &str, arguments: &[V<'_>]) -> super::ConditionError {
    let types: Vec<_> = arguments.iter().map(V::described).collect();
    let message = if name.starts_with(|c: char| c.is_alphabetic()) {
        format!("`{name}` needs texts but got {}", types.join(" and "))
    } else {
        format!("the operator `{}` is not supported", name.trim_matches(['_', '@']))
    };
    error(Kind::Type, message)
}

fn too_large() -> super::ConditionError {
    error(Kind::Arithmetic, "the result does not fit into 64 bits")
}

fn not_zero(divisor: &V<'_>) -> Result<()> {
    if matches!(divisor, V::Int(0) | V::Uint(0)) {
        return Err(error(Kind::Arithmetic, "division by zero"));
    }
    Ok(())
}

/// `+` of numbers, texts and lists. A list that nobody else holds grows in place.
pub(super) fn add<'s>(cost: &mut Cost, a: V<'s>, b: V<'s>) -> Result<V<'s>> {
    match (a, b) {
        (V::Text(a), V::Text(b)) => {
            cost.size(a.as_str().len() + b.as_str().len())?;
            Ok(V::made(format!("{}{}", a.as_str(), b.as_str())))
        }
        (V::Bytes(a), V::Bytes(b)) => {
            cost.size(a.len() + b.len())?;
            Ok(V::Bytes([a.as_ref(), b.as_ref()].concat().into()))
        }
        (V::List(mut a), b @ (V::List(_) | V::Items(_))) => {
            let more = b.list().expect("matched a list");
            let copied = if Rc::strong_count(&a) > 1 { a.len() } else { 0 };
            cost.add(copied + more.len())?;
            Rc::make_mut(&mut a).extend((0..more.len()).filter_map(|at| more.get(at)));
            Ok(V::List(a))
        }
        (V::Items(a), b @ (V::List(_) | V::Items(_))) => {
            cost.add(a.len())?;
            let a = a.iter().map(|item| V::of(crate::scope::View::Json(item))).collect();
            add(cost, V::List(Rc::new(a)), b)
        }
        (a, b) => arithmetic(&a, &b, "+", i64::checked_add, u64::checked_add, |a, b| a + b),
    }
}

fn arithmetic<'s>(
    a: &V<'s>,
    b: &V<'s>,
    sign: &str,
    int: fn(i64, i64) -> Option<i64>,
    uint: fn(u64, u64) -> Option<u64>,
    double: fn(f64, f64) -> f64,
) -> Result<V<'s>> {
    match (a, b) {
        (V::Int(a), V::Int(b)) => int(*a, *b).map(V::Int).ok_or_else(too_large),
        (V::Uint(a), V::Uint(b)) => uint(*a, *b).map(V::Uint).ok_or_else(too_large),
        // JSON has one type of number: a whole one and a decimal one go together.
        (V::Double(_), _) | (_, V::Double(_)) => match (float(a), float(b)) {
            (Some(a), Some(b)) => Ok(V::Double(double(a, b))),
            _ => Err(no_operation(a, b, sign)),
        },
        _ => Err(no_operation(a, b, sign)),
    }
}

fn no_operation(a: &V<'_>, b: &V<'_>, sign: &str) -> super::ConditionError {
    let help = match (a, b) {
        (V::Int(_) | V::Uint(_), V::Int(_) | V::Uint(_)) => {
            "; `int(x)` makes a signed and `uint(x)` an unsigned integer"
        }
        (V::Text(_), _) | (_, V::Text(_)) => "; `string(x)` makes a text, `int(x)` and `double(x)` a number",
        _ => "",
    };
    error(Kind::Type, format!("`{sign}` cannot be used on {} and {}{help}", a.described(), b.described()))
}

/// `None` for a number that has no order, that is NaN.
fn order(cost: &mut Cost, a: &V<'_>, b: &V<'_>, sign: &str) -> Result<Option<Ordering>> {
    match (a, b) {
        (V::Text(a), V::Text(b)) => {
            cost.size(a.as_str().len().min(b.as_str().len()))?;
            Ok(Some(a.as_str().cmp(b.as_str())))
        }
        (V::Bool(a), V::Bool(b)) => Ok(Some(a.cmp(b))),
        (V::Bytes(a), V::Bytes(b)) => Ok(Some(a.cmp(b))),
        (V::Int(_) | V::Uint(_) | V::Double(_), V::Int(_) | V::Uint(_) | V::Double(_)) => Ok(compare_numbers(a, b)),
        _ => Err(no_operation(a, b, sign)),
    }
}

fn is_in<'s>(cost: &mut Cost, item: &V<'s>, of: &V<'s>) -> Result<V<'s>> {
    if let Some(items) = of.list() {
        for at in 0..items.len() {
            if let Some(other) = items.get(at)
                && cost.equal(item, &other, 0)?
            {
                return Ok(V::Bool(true));
            }
        }
        return Ok(V::Bool(false));
    }
    match (of, item.key()) {
        (V::Map(fields), Some(key)) => Ok(V::Bool(fields.contains_key(&key))),
        (V::Object(view), _) => match item {
            V::Text(name) => Ok(V::Bool(view.field(name.as_str()).is_some())),
            _ => Ok(V::Bool(false)),
        },
        (V::Map(_), None) => Ok(V::Bool(false)),
        _ => {
            Err(error(Kind::Type, format!("`in` needs a list or an object on its right but it is {}", of.described())))
        }
    }
}

fn size<'s>(cost: &mut Cost, of: &V<'s>) -> Result<V<'s>> {
    let size = match of {
        V::Text(text) => {
            cost.size(text.as_str().len())?;
            text.as_str().chars().count()
        }
        V::Bytes(bytes) => bytes.len(),
        V::Items(items) => items.len(),
        V::List(items) => items.len(),
        V::Map(fields) => fields.len(),
        V::Object(view) => view.names().map_or(0, |names| names.len()),
        other => {
            return Err(error(
                Kind::Type,
                format!("`size` needs a text, a list or an object but got {}", other.described()),
            ));
        }
    };
    Ok(V::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

fn test(cost: &mut Cost, name: &str, text: &str, part: &str) -> Result<bool> {
    Ok(match name {
        "contains" => text.contains(part),
        "startsWith" => text.starts_with(part),
        "endsWith" => text.ends_with(part),
        _ => {
            // To compile a pattern costs far more than to use it.
            cost.add(100 + part.len())?;
            cost.size(text.len().saturating_mul(part.len()))?;
            let pattern =
                regex::RegexBuilder::new(part).size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX).build();
            let pattern = pattern.map_err(|problem| {
                let reason = match problem {
                    regex::Error::CompiledTooBig(_) => {
                        format!("it needs more than {PATTERN_BYTES_MAX} bytes when compiled")
                    }
                    other => cut(&other.to_string()),
                };
                error(Kind::Type, format!("`{}` is not a usable pattern: {reason}", cut(part)))
            })?;
            pattern.is_match(text)
        }
    })
}

fn convert<'s>(cost: &mut Cost, to: &str, value: &V<'s>) -> Result<V<'s>> {
    if let V::Text(text) = value {
        cost.size(text.as_str().len())?;
    }
    let converted = match (to, value) {
        ("int", V::Int(_))
        | ("uint", V::Uint(_))
        | ("double", V::Double(_))
        | ("bool", V::Bool(_))
        | ("bytes", V::Bytes(_))
        | ("string", V::Text(_)) => Some(value.clone()),
        ("int", V::Uint(uint)) => i64::try_from(*uint).ok().map(V::Int),
        ("int", V::Double(double)) if double.abs() < 9.2e18 => Some(V::Int(double.trunc() as i64)),
        ("int", V::Text(text)) => text.as_str().parse().ok().map(V::Int),
        ("uint", V::Int(int)) => u64::try_from(*int).ok().map(V::Uint),
        #[expect(clippy::cast_sign_loss, reason = "the guard keeps negative numbers out")]
        ("uint", V::Double(double)) if *double >= 0.0 && *double < 1.8e19 => Some(V::Uint(double.trunc() as u64)),
        ("uint", V::Text(text)) => text.as_str().parse().ok().map(V::Uint),
        ("double", V::Int(_) | V::Uint(_)) => float(value).map(V::Double),
        ("double", V::Text(text)) => text.as_str().parse().ok().map(V::Double),
        ("string", V::Int(int)) => Some(V::made(int.to_string())),
        ("string", V::Uint(uint)) => Some(V::made(uint.to_string())),
        ("string", V::Double(double)) => Some(V::made(double.to_string())),
        ("string", V::Bool(value)) => Some(V::made(value.to_string())),
        ("string", V::Bytes(bytes)) => std::str::from_utf8(bytes).ok().map(V::made),
        ("bytes", V::Text(text)) => Some(V::Bytes(Rc::from(text.as_str().as_bytes()))),
        ("bool", V::Text(text)) => match text.as_str() {
            "true" | "True" | "TRUE" | "t" | "1" => Some(V::Bool(true)),
            "false" | "False" | "FALSE" | "f" | "0" => Some(V::Bool(false)),
            _ => None,
        },
        _ => None,
    };
    converted.ok_or_else(|| match value {
        V::Text(Text::Borrowed(_) | Text::Made(_)) if to != "string" => {
            let V::Text(text) = value else { return too_large() };
            error(Kind::Type, format!("`{to}` cannot read `{}`", cut(text.as_str())))
        }
        other => error(Kind::Type, format!("`{to}` cannot be made of {}, or it is out of range", other.described())),
    })
}
