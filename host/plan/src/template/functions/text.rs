//! Texts.

use serde_json::Value;

use super::{Arguments, Function, MANY, function};
use crate::template::error::Fault;
use crate::template::format::sprintf;
use crate::template::value::{Val, text_of};

type Answer<'s> = Result<Val<'s>, Fault>;

pub(super) static TABLE: &[Function] = &[
    function("print", "VALUE...", 0, MANY, print),
    function("println", "VALUE...", 0, MANY, println),
    function("printf", "FORMAT VALUE...", 1, MANY, printf),
    function("upper", "TEXT", 1, 1, |a| map(a, str::to_uppercase)),
    function("lower", "TEXT", 1, 1, |a| map(a, str::to_lowercase)),
    function("title", "TEXT", 1, 1, |a| map(a, title)),
    function("trim", "TEXT", 1, 1, |a| map(a, |text| text.trim().to_owned())),
    function("trimAll", "CHARACTERS TEXT", 2, 2, trim_all),
    function("trimPrefix", "PREFIX TEXT", 2, 2, trim_prefix),
    function("trimSuffix", "SUFFIX TEXT", 2, 2, trim_suffix),
    function("replace", "OLD NEW TEXT", 3, 3, replace),
    function("contains", "PART TEXT", 2, 2, |a| test(a, |part, text| text.contains(part))),
    function("hasPrefix", "PREFIX TEXT", 2, 2, |a| test(a, |prefix, text| text.starts_with(prefix))),
    function("hasSuffix", "SUFFIX TEXT", 2, 2, |a| test(a, |suffix, text| text.ends_with(suffix))),
    function("join", "SEPARATOR LIST", 2, 2, join),
    function("split", "SEPARATOR TEXT", 2, 2, split),
    function("splitList", "SEPARATOR TEXT", 2, 2, split),
    function("toString", "VALUE", 1, 1, to_string),
    function("toJson", "VALUE", 1, 1, to_json),
    function("toPrettyJson", "VALUE", 1, 1, to_pretty_json),
    function("fromJson", "TEXT", 1, 1, from_json),
    function("quote", "VALUE...", 1, MANY, quote),
    function("squote", "VALUE...", 1, MANY, squote),
    function("trunc", "LENGTH TEXT", 2, 2, trunc),
    function("substr", "START END TEXT", 3, 3, substr),
    function("repeat", "COUNT TEXT", 2, 2, repeat),
    function("indent", "SPACES TEXT", 2, 2, |a| indented(a, "")),
    function("nindent", "SPACES TEXT", 2, 2, |a| indented(a, "\n")),
    function("htmlEscape", "TEXT", 1, 1, |a| map(a, html_escape)),
    function("htmlAttrEscape", "TEXT", 1, 1, |a| map(a, html_escape)),
    function("jsEscape", "TEXT", 1, 1, |a| map(a, js_escape)),
    function("urlquery", "TEXT", 1, 1, |a| map(a, url_query)),
];

impl<'s> Arguments<'_, 's> {
    fn answer_text(&mut self, text: String) -> Answer<'s> {
        self.made(Value::String(text))
    }

    /// Pays before a text of `times * each + more` bytes is made.
    fn pay(&mut self, times: usize, each: usize, more: usize) -> Result<(), Fault> {
        self.budget.bytes(times.saturating_mul(each).saturating_add(more))
    }
}

fn map<'s>(arguments: &mut Arguments<'_, 's>, change: fn(&str) -> String) -> Answer<'s> {
    let text = arguments.text(0)?;
    arguments.answer_text(change(&text))
}

fn test<'s>(arguments: &mut Arguments<'_, 's>, holds: fn(&str, &str) -> bool) -> Answer<'s> {
    let (part, text) = (arguments.text(0)?, arguments.text(1)?);
    Ok(Val::from(Value::Bool(holds(&part, &text))))
}

fn title(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut start = true;
    for c in text.chars() {
        if start {
            result.extend(c.to_uppercase());
        } else {
            result.push(c);
        }
        start = c.is_whitespace();
    }
    result
}

/// All values as texts, with a space between two that are no texts, as Go does it.
fn print<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let mut result = String::new();
    let mut after_text = true;
    for at in 0..arguments.count() {
        let value = arguments.copy(at)?;
        if !after_text && !value.is_string() {
            result.push(' ');
        }
        after_text = value.is_string();
        result.push_str(&text_of(&value));
    }
    arguments.answer_text(result)
}

fn println<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let mut parts = Vec::new();
    for at in 0..arguments.count() {
        parts.push(text_of(&arguments.copy(at)?).into_owned());
    }
    arguments.answer_text(parts.join(" ") + "\n")
}

fn printf<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let format = arguments.text(0)?;
    let mut values = Vec::new();
    for at in 1..arguments.count() {
        values.push(arguments.copy(at)?);
    }
    let text = sprintf(&format, &values).map_err(|message| arguments.fault(&message))?;
    arguments.answer_text(text)
}

fn trim_all<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let (characters, text) = (arguments.text(0)?, arguments.text(1)?);
    // Each character of the text is looked for in the set.
    arguments.pay(text.len(), characters.len() / 8, 0)?;
    arguments.answer_text(text.trim_matches(|c| characters.contains(c)).to_owned())
}

fn trim_prefix<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let (prefix, text) = (arguments.text(0)?, arguments.text(1)?);
    arguments.answer_text(text.strip_prefix(prefix.as_str()).unwrap_or(&text).to_owned())
}

fn trim_suffix<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let (suffix, text) = (arguments.text(0)?, arguments.text(1)?);
    arguments.answer_text(text.strip_suffix(suffix.as_str()).unwrap_or(&text).to_owned())
}

fn replace<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let (old, new, text) = (arguments.text(0)?, arguments.text(1)?, arguments.text(2)?);
    let times = if old.is_empty() { text.chars().count() + 1 } else { text.matches(old.as_str()).count() };
    arguments.pay(times, new.len(), text.len())?;
    arguments.answer_text(text.replace(&old, &new))
}

fn join<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let (separator, list) = (arguments.text(0)?, arguments.list(1)?);
    arguments.pay(list.len(), separator.len(), 0)?;
    let parts: Vec<_> = list.iter().map(text_of).collect();
    arguments.answer_text(parts.join(&separator))
}

fn split<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let (separator, text) = (arguments.text(0)?, arguments.text(1)?);
    let parts = if separator.is_empty() { text.chars().count() } else { text.matches(separator.as_str()).count() + 1 };
    arguments.pay(parts, 16, text.len())?;
    let parts = if separator.is_empty() {
        text.chars().map(|c| Value::from(c.to_string())).collect()
    } else {
        text.split(separator.as_str()).map(Value::from).collect()
    };
    arguments.made(Value::Array(parts))
}

fn to_string<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let value = arguments.copy(0)?;
    arguments.answer_text(text_of(&value).into_owned())
}

fn to_json<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let value = arguments.copy(0)?;
    arguments.answer_text(value.to_string())
}

fn to_pretty_json<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let value = arguments.copy(0)?;
    arguments.answer_text(format!("{value:#}"))
}

fn from_json<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let text = arguments.text(0)?;
    match serde_json::from_str(&text) {
        Ok(value) => arguments.made(value),
        Err(error) => Err(arguments.fault(&format!("the text is not JSON: {error}"))),
    }
}

fn quoted<'s>(arguments: &mut Arguments<'_, 's>, quote: fn(&str) -> String) -> Answer<'s> {
    let mut parts = Vec::new();
    for at in 0..arguments.count() {
        let value = arguments.copy(at)?;
        if !value.is_null() {
            parts.push(quote(&text_of(&value)));
        }
    }
    arguments.answer_text(parts.join(" "))
}

fn quote<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    quoted(arguments, |text| Value::from(text).to_string())
}

fn squote<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    quoted(arguments, |text| format!("'{text}'"))
}

/// The first characters, or with a negative length the last.
fn trunc<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let (length, text) = (arguments.integer(0)?, arguments.text(1)?);
    let wanted = usize::try_from(length.unsigned_abs()).unwrap_or(usize::MAX);
    let skipped = if length < 0 { text.chars().count().saturating_sub(wanted) } else { 0 };
    let cut: String = text.chars().skip(skipped).take(wanted).collect();
    arguments.answer_text(cut)
}

/// Characters from START up to END; a negative END is the end of the text.
fn substr<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let (start, end, text) = (arguments.integer(0)?, arguments.integer(1)?, arguments.text(2)?);
    let start = usize::try_from(start.max(0)).unwrap_or(usize::MAX);
    let end = usize::try_from(end).unwrap_or(usize::MAX);
    let cut: String = text.chars().skip(start).take(end.saturating_sub(start)).collect();
    arguments.answer_text(cut)
}

fn repeat<'s>(arguments: &mut Arguments<'_, 's>) -> Answer<'s> {
    let (count, text) = (arguments.integer(0)?, arguments.text(1)?);
    let Ok(count) = usize::try_from(count) else { return Err(arguments.fault("COUNT must not be negative")) };
    // An empty text costs nothing, however often; otherwise the budget bounds the count.
    if text.is_empty() {
        return arguments.answer_text(String::new());
    }
    arguments.pay(count, text.len(), 0)?;
    arguments.answer_text(text.repeat(count))
}

fn indented<'s>(arguments: &mut Arguments<'_, 's>, before: &str) -> Answer<'s> {
    let (spaces, text) = (arguments.integer(0)?, arguments.text(1)?);
    let Some(spaces) = usize::try_from(spaces).ok().filter(|spaces| *spaces <= 100) else {
        return Err(arguments.fault("SPACES must be 0 to 100"));
    };
    let space = " ".repeat(spaces);
    arguments.pay(text.lines().count(), spaces, text.len())?;
    let lines: Vec<String> = text.split('\n').map(|line| format!("{space}{line}")).collect();
    arguments.answer_text(format!("{before}{}", lines.join("\n")))
}

fn html_escape(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => result.push_str("&lt;"),
            '>' => result.push_str("&gt;"),
            '&' => result.push_str("&amp;"),
            '"' => result.push_str("&#34;"),
            '\'' => result.push_str("&#39;"),
            c => result.push(c),
        }
    }
    result
}

/// For a JavaScript text in quotes, also one inside HTML.
fn js_escape(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => result.push_str("\\\\"),
            '\'' => result.push_str("\\'"),
            '"' => result.push_str("\\\""),
            '<' | '>' | '&' | '=' | '\u{2028}' | '\u{2029}' => result.extend(format!("\\u{:04X}", c as u32).chars()),
            c if c < ' ' => result.extend(format!("\\u{:04X}", c as u32).chars()),
            c => result.push(c),
        }
    }
    result
}

fn url_query(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => result.push('+'),
            b'-' | b'_' | b'.' | b'~' => result.push(byte as char),
            byte if byte.is_ascii_alphanumeric() => result.push(byte as char),
            byte => result.extend(format!("%{byte:02X}").chars()),
        }
    }
    result
}
