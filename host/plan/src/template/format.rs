//! `printf`.

use serde_json::Value;

use super::value::text_of;

/// Characters that a padded value may be wide, and digits after the point.
const WIDTH_MAX: usize = 1000;

/// One `%` with its flags.
#[derive(Default)]
struct Verb {
    left: bool,
    zero: bool,
    plus: bool,
    width: usize,
    precision: Option<usize>,
}

/// Formats as Go does, for the verbs that make sense for JSON.
pub(super) fn sprintf(format: &str, values: &[Value]) -> Result<String, String> {
    let mut result = String::new();
    let mut values_left = values.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            result.push(c);
            continue;
        }
        let mut verb = Verb::default();
        while let Some(flag) = chars.next_if(|c| matches!(c, '-' | '0' | '+')) {
            match flag {
                '-' => verb.left = true,
                '0' => verb.zero = true,
                _ => verb.plus = true,
            }
        }
        verb.width = number(&mut chars)?.unwrap_or(0);
        if chars.next_if_eq(&'.').is_some() {
            verb.precision = Some(number(&mut chars)?.unwrap_or(0));
        }
        let letter = chars.next().ok_or("the format ends in the middle of a `%`; write `%%` for a percent sign")?;
        if letter == '%' {
            result.push('%');
            continue;
        }
        if !matches!(letter, 's' | 'd' | 'v' | 'q' | 'f' | 't' | 'x') {
            return Err(format!("`%{letter}` is not supported; there are %s %d %v %q %f %t %x and %%"));
        }
        let value = values_left.next().ok_or_else(|| format!("there is no value for `%{letter}`"))?;
        result.push_str(&verb.pad(verb.text(letter, value)?, letter));
    }
    match values_left.count() {
        0 => Ok(result),
        left => Err(format!("{left} more value(s) than the format has verbs")),
    }
}

fn number(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Option<usize>, String> {
    let mut number = None;
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        let next = number.unwrap_or(0) * 10 + digit as usize - '0' as usize;
        if next > WIDTH_MAX {
            return Err(format!("a width or precision is at most {WIDTH_MAX}"));
        }
        number = Some(next);
    }
    Ok(number)
}

impl Verb {
    fn text(&self, letter: char, value: &Value) -> Result<String, String> {
        let wrong = |wanted: &str| {
            let found = crate::suggest::type_name(value);
            Err(format!("`%{letter}` needs {wanted} but the value is {found}; `%v` takes any value"))
        };
        let sign = |text: String, negative: bool| if self.plus && !negative { format!("+{text}") } else { text };
        Ok(match (letter, value) {
            ('s', Value::String(text)) => match self.precision {
                Some(length) => text.chars().take(length).collect(),
                None => text.clone(),
            },
            ('s' | 'v', value) => text_of(value).into_owned(),
            ('q', value) => Value::from(text_of(value)).to_string(),
            ('t', Value::Bool(value)) => value.to_string(),
            ('t', _) => return wrong("a boolean"),
            ('d' | 'x', Value::Number(number)) => {
                let whole =
                    number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15);
                match number.as_i64().or(whole.map(|float| float as i64)) {
                    Some(int) if letter == 'd' => sign(int.to_string(), int < 0),
                    Some(int) => format!("{int:x}"),
                    None => return wrong("an integer"),
                }
            }
            ('d' | 'x', _) => return wrong("an integer"),
            ('f', Value::Number(number)) => {
                let float = number.as_f64().unwrap_or(0.0);
                sign(format!("{float:.*}", self.precision.unwrap_or(6)), float < 0.0)
            }
            _ => return wrong("a number"),
        })
    }

    fn pad(&self, text: String, letter: char) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        if missing == 0 {
            return text;
        }
        if self.left {
            return text + &" ".repeat(missing);
        }
        if self.zero && matches!(letter, 'd' | 'f' | 'x') {
            let digits = text.trim_start_matches(['-', '+']);
            let sign = &text[..text.len() - digits.len()];
            return format!("{sign}{}{digits}", "0".repeat(missing));
        }
        " ".repeat(missing) + &text
    }
}
