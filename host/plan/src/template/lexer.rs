//! From the text between `{{` and `}}` to tokens.

use serde_json::{Number, Value};

use super::error::{TemplateError, TemplateErrorKind};
use crate::suggest::cut;

/// A token with its place, in bytes from the start of the whole text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) offset: usize,
    /// Whether blank space came before it: `(f).a` differs from `(f) .a`.
    pub(super) spaced: bool,
    pub(super) kind: TokenKind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind {
    /// A keyword or a function.
    Word(String),
    /// `.a.b`; empty for a lone dot.
    Fields(Vec<String>),
    /// `$x`; empty for a lone `$`.
    Variable(String),
    Literal(Value),
    Open,
    Close,
    Pipe,
    Declare,
    Assign,
    Comma,
}

fn is_name_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

/// Names may hold hyphens, because task ids do; there is no subtraction sign to confuse them with.
fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

/// Turns the inside of one action into tokens. `base` is its place in the whole text.
pub(super) fn tokens(inside: &str, base: usize) -> Result<Vec<Token>, TemplateError> {
    let mut lexer = Lexer { text: inside, at: 0, base };
    let mut tokens = Vec::new();
    loop {
        let before = lexer.at;
        lexer.skip(char::is_whitespace);
        let spaced = lexer.at > before || before == 0;
        let offset = base + lexer.at;
        let Some(c) = lexer.peek() else { return Ok(tokens) };
        let kind = lexer.token(c)?;
        tokens.push(Token { offset, spaced, kind });
    }
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
    base: usize,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Goes on while `wanted`, and answers what was passed.
    fn skip(&mut self, wanted: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn error(&self, message: impl Into<String>) -> TemplateError {
        TemplateError::new(TemplateErrorKind::Syntax, self.base + self.at, message)
    }

    fn token(&mut self, c: char) -> Result<TokenKind, TemplateError> {
        let next = self.rest().chars().nth(1);
        match c {
            '(' => Ok(self.punctuation(1, TokenKind::Open)),
            ')' => Ok(self.punctuation(1, TokenKind::Close)),
            '|' => Ok(self.punctuation(1, TokenKind::Pipe)),
            ',' => Ok(self.punctuation(1, TokenKind::Comma)),
            '=' => Ok(self.punctuation(1, TokenKind::Assign)),
            ':' if next == Some('=') => Ok(self.punctuation(2, TokenKind::Declare)),
            '"' => self.quoted(),
            '`' => self.raw(),
            '\'' => Err(self.error("texts are written in double quotes, not in single ones: \"text\"")),
            '$' => {
                self.at += 1;
                Ok(TokenKind::Variable(self.skip(is_name).to_owned()))
            }
            '.' if !next.is_some_and(|c| c.is_ascii_digit()) => self.fields(),
            '0'..='9' | '.' => self.number(),
            '-' | '+' if next.is_some_and(|c| c.is_ascii_digit() || c == '.') => self.number(),
            c if is_name_start(c) => Ok(TokenKind::Word(self.skip(is_name).to_owned())),
            '+' | '-' | '*' | '/' | '%' => Err(self.error(format!(
                "`{c}` is not an operator here; write a function before its arguments: `add 1 2`, `sub`, `mul`, `div`, `mod`"
            ))),
            '<' | '>' | '!' | '&' => Err(self.error(format!(
                "`{c}` is not an operator here; write a function before its arguments: `eq`, `ne`, `lt`, `le`, `gt`, `ge`, `and`, `or`, `not`"
            ))),
            '[' => Err(self.error("`[` cannot be used here; write `index .list 0` for an item and `list 1 2` for a list")),
            c => Err(self.error(format!("unexpected character `{c}`"))),
        }
    }

    fn punctuation(&mut self, bytes: usize, kind: TokenKind) -> TokenKind {
        self.at += bytes;
        kind
    }

    fn fields(&mut self) -> Result<TokenKind, TemplateError> {
        let mut fields = Vec::new();
        while self.peek() == Some('.') {
            self.at += 1;
            let name = self.skip(is_name);
            if name.is_empty() {
                if fields.is_empty() && self.peek() != Some('.') {
                    break;
                }
                return Err(self.error("a name is missing after the dot"));
            }
            fields.push(name.to_owned());
        }
        if self.peek() == Some('[') {
            return Err(self.error("`[` cannot be used here; write `index .list 0`"));
        }
        Ok(TokenKind::Fields(fields))
    }

    fn number(&mut self) -> Result<TokenKind, TemplateError> {
        let start = self.at;
        let mut end = 0;
        let rest = self.rest();
        for (at, c) in rest.char_indices() {
            let signed = at > 0 && matches!(c, '+' | '-') && rest[..at].ends_with(['e', 'E']);
            if !(c.is_ascii_alphanumeric() || c == '.' || signed || (at == 0 && matches!(c, '+' | '-'))) {
                break;
            }
            end = at + c.len_utf8();
        }
        let text = &rest[..end];
        let number = text.trim_start_matches('+');
        let value = match (number.parse::<i64>(), number.parse::<f64>()) {
            (Ok(whole), _) => Number::from(whole),
            (_, Ok(decimal)) if number.contains(['.', 'e', 'E']) => match Number::from_f64(decimal) {
                Some(number) => number,
                None => return Err(self.error(format!("`{}` is too large for a number", cut(text)))),
            },
            _ => return Err(self.error(format!("`{}` is not a number", cut(text)))),
        };
        self.at = start + end;
        Ok(TokenKind::Literal(Value::Number(value)))
    }

    fn raw(&mut self) -> Result<TokenKind, TemplateError> {
        let inside = &self.rest()[1..];
        let Some(end) = inside.find('`') else { return Err(self.error("the text that begins here has no closing `")) };
        self.at += end + 2;
        Ok(TokenKind::Literal(Value::from(&inside[..end])))
    }

    fn quoted(&mut self) -> Result<TokenKind, TemplateError> {
        let mut text = String::new();
        let rest = self.rest();
        let mut chars = rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += at + 1;
                    return Ok(TokenKind::Literal(Value::from(text)));
                }
                '\n' => break,
                '\\' => {
                    let Some((_, escape)) = chars.next() else { break };
                    match escape {
                        'n' => text.push('\n'),
                        't' => text.push('\t'),
                        'r' => text.push('\r'),
                        '"' | '\\' | '\'' => text.push(escape),
                        'u' => {
                            let code = rest.get(at + 2..at + 6).and_then(|hex| u32::from_str_radix(hex, 16).ok());
                            let Some(c) = code.and_then(char::from_u32) else {
                                return Err(self.error("`\\u` needs four hexadecimal digits of a character"));
                            };
                            text.push(c);
                            chars.nth(3);
                        }
                        other => {
                            return Err(self.error(format!(
                                "`\\{other}` is not an escape; there are \\n \\t \\r \\\" \\\\ and \\u0000"
                            )));
                        }
                    }
                }
                c => text.push(c),
            }
        }
        Err(self.error("the text that begins here has no closing quote"))
    }
}
