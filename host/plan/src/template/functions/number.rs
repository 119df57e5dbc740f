//! Arithmetic. Integers stay integers; one decimal argument makes the result decimal.

use serde_json::{Number, Value};

use super::{Arguments, Function, MANY, function};
use crate::suggest::cut;
use crate::template::error::Fault;
use crate::template::value::Val;

type Answer<'s> = Result<Val<'s>, Fault>;

pub(super) static TABLE: &[Function] = &[
    function("add", "A B...", 1, MANY, add),
    function("sub", "A B", 2, 2, sub),
    function("mul", "A B...", 1, MANY, mul),
    function("div", "A B", 2, 2, div),
    function("mod", "A B", 2, 2, modulo),
    function("add1", "A", 1, 1, add1),
    function("max", "A B...", 1, MANY, max),
    function("min", "A B...", 1, MANY, min),
    function("round", "NUMBER DIGITS", 1, 2, round),
    function("floor", "NUMBER", 1, 1, floor),
    function("ceil", "NUMBER", 1, 1, ceil),
    function("int", "VALUE", 1, 1, int),
    function("int64", "VALUE", 1, 1, int),
    function("float64", "VALUE", 1, 1, float64),
];

/// A number as arithmetic sees it.
#[derive(Debug, Clone, Copy)]
enum Num {
    Int(i64),
    Float(f64),
}

impl Num {
    fn float(self) -> f64 {
        match self {
            Num::Int(int) => int as f64,
            Num::Float(float) => float,
        }
    }
}

impl<'s> Arguments<'_, 's> {
    fn number(&mut self, at: usize) -> Result<Num, Fault> {
        let number = match self.json(at)?.as_ref() {
            Value::Number(number) => number.as_i64().map(Num::Int).or_else(|| number.as_f64().map(Num::Float)),
            _ => None,
        };
        number.ok_or_else(|| self.wrong(at, "a number (`int` and `float64` make one of a text)"))
    }

    fn answer(&self, number: Num) -> Answer<'s> {
        match number {
            Num::Int(int) => Ok(Val::from(Value::from(int))),
            Num::Float(float) => match Number::from_f64(float) {
                Some(number) => Ok(Val::from(Value::Number(number))),
                None => Err(self.fault("the result is too large for a number")),
            },
        }
    }

    fn whole(&self, float: f64) -> Answer<'s> {
        // Every integer up to here is exact in a decimal number.
        if float.abs() <= 9_007_199_254_740_992.0 {
            self.answer(Num::Int(float as i64))
        } else {
            self.answer(Num::Float(float))
        }
    }

    fn fold(&mut self, int: fn(i64, i64) -> Option<i64>, float: fn(f64, f64) -> f64) -> Answer<'s> {
        let mut total = self.number(0)?;
        for at in 1..self.count() {
            let next = self.number(at)?;
            total = match (total, next) {
                (Num::Int(a), Num::Int(b)) => match int(a, b) {
                    Some(result) => Num::Int(result),
                    None => return Err(self.fault("the result does not fit into 64 bits")),
                },
                (a, b) => Num::Float(float(a.float(), b.float())),
            };
        }
        self.answer(total)
    }

    fn divisor(&mut self) -> Result<(), Fault> {
        if self.number(1)?.float() == 0.0 {
            return Err(self.fault("division by zero"));
        }
        Ok(())
    }
}

fn add<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    arguments.fold(i64::checked_add, |a, b| a + b)
}

fn sub<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    arguments.fold(i64::checked_sub, |a, b| a - b)
}

fn mul<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    arguments.fold(i64::checked_mul, |a, b| a * b)
}

/// Two integers: without the remainder, as in Go.
fn div<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    arguments.divisor()?;
    arguments.fold(i64::checked_div, |a, b| a / b)
}

fn modulo<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    arguments.divisor()?;
    arguments.fold(i64::checked_rem, |a, b| a % b)
}

fn add1<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    arguments.values.push(Val::from(Value::from(1)));
    add(arguments)
}

fn max<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    arguments.fold(|a, b| Some(a.max(b)), f64::max)
}

fn min<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    arguments.fold(|a, b| Some(a.min(b)), f64::min)
}

fn round<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let digits = if arguments.count() == 2 { arguments.integer(1)? } else { 0 };
    if !(0..=15).contains(&digits) {
        return Err(arguments.fault("the number of digits must be 0 to 15"));
    }
    let number = arguments.number(0)?;
    if let Num::Int(_) = number {
        return arguments.answer(number);
    }
    if digits == 0 {
        return arguments.whole(number.float().round());
    }
    let factor = 10f64.powi(digits as i32);
    let scaled = number.float() * factor;
    let rounded = if scaled.is_finite() { scaled.round() / factor } else { number.float() };
    arguments.answer(Num::Float(rounded))
}

fn floor<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    match arguments.number(0)? {
        number @ Num::Int(_) => arguments.answer(number),
        Num::Float(float) => arguments.whole(float.floor()),
    }
}

fn ceil<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    match arguments.number(0)? {
        number @ Num::Int(_) => arguments.answer(number),
        Num::Float(float) => arguments.whole(float.ceil()),
    }
}

/// An integer of a number (cut), a text or a boolean.
fn int<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let number = match arguments.json(0)?.as_ref() {
        Value::Number(number) => {
            number.as_i64().map(|int| int as f64).or_else(|| number.as_f64()).map(|float| (float, number.as_i64()))
        }
        Value::Bool(value) => Some((f64::from(u8::from(*value)), Some(i64::from(*value)))),
        Value::String(text) => {
            let text = text.trim();
            let exact = text.parse::<i64>().ok();
            exact.map(|int| int as f64).or_else(|| text.parse::<f64>().ok()).map(|float| (float, exact))
        }
        _ => None,
    };
    match number {
        Some((_, Some(exact))) => arguments.answer(Num::Int(exact)),
        Some((float, None)) if float.is_finite() && float.abs() < 9.2e18 => {
            arguments.answer(Num::Int(float.trunc() as i64))
        }
        _ => Err(not_a_number(arguments)),
    }
}

fn float64<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let number = match arguments.json(0)?.as_ref() {
        Value::Number(number) => number.as_f64(),
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        Value::String(text) => text.trim().parse::<f64>().ok().filter(|float| float.is_finite()),
        _ => None,
    };
    match number {
        Some(float) => arguments.answer(Num::Float(float)),
        None => Err(not_a_number(arguments)),
    }
}

fn not_a_number(arguments: &mut Arguments<'_, '_>) -> Fault {
    let text = match arguments.json(0).as_deref() {
        Ok(Value::String(text)) => Some(cut(text)),
        _ => None,
    };
    match text {
        Some(text) => arguments.fault(&format!("`{text}` is not a number, or too large for one")),
        None => arguments.wrong(0, "a number, a text or a boolean"),
    }
}
