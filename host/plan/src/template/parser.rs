//! From a template text to pieces.

use serde_json::Value;

use super::ast::{Expr, ExprKind, Piece, Slot};
use super::error::{TemplateError, TemplateErrorKind};
use super::functions;
use super::lexer::{Token, TokenKind, tokens};
use crate::limits::{TEMPLATE_BYTES_MAX, TEMPLATE_NESTING_MAX};
use crate::suggest::{cut, hint, nearest};

type Result<T> = std::result::Result<T, TemplateError>;

/// A compiled text, and what it reads from its scope.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) pieces: Vec<Piece>,
    pub(super) references: Vec<(Vec<String>, usize)>,
}

/// Text between actions, or the inside of an action.
enum Part<'t> {
    Text(&'t str),
    Action { inside: &'t str, offset: usize },
}

/// Compiles one text.
pub(super) fn parse(text: &str) -> Result<Parsed> {
    if text.len() > TEMPLATE_BYTES_MAX {
        return Err(TemplateError::new(
            TemplateErrorKind::Limit,
            0,
            format!(
                "the template has {} bytes but at most {TEMPLATE_BYTES_MAX} are allowed; split it over several tasks",
                text.len()
            ),
        ));
    }
    let parts = split(text)?;
    let mut parser = Parser { parts, at: 0, variables: Vec::new(), references: Vec::new(), dot_moved: 0, depth: 0 };
    let (pieces, end) = parser.block()?;
    if let Some(end) = end {
        let word = end.word;
        return Err(syntax(end.offset, format!("`{word}` without an `if`, `with` or `range` that it belongs to")));
    }
    Ok(Parsed { pieces, references: parser.references })
}

fn syntax(offset: usize, message: impl Into<String>) -> TemplateError {
    TemplateError::new(TemplateErrorKind::Syntax, offset, message)
}

/// Where an action's inside ends: `}}` outside of quotes.
fn action_end(text: &str) -> Option<usize> {
    let mut quote: Option<char> = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some('"') if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(open) if c == open || (open == '"' && c == '\n') => quote = None,
            None if c == '"' || c == '`' => quote = Some(c),
            None if text[at..].starts_with("}}") => return Some(at),
            _ => {}
        }
    }
    None
}

/// Splits a text into its actions and what is between them; comments go, trim markers are applied.
fn split(text: &str) -> Result<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    let mut at = 0;
    let mut trim_next = false;
    while let Some(open) = text[at..].find("{{") {
        let open = at + open;
        let mut before = &text[at..open];
        let mut start = open + 2;
        let trim_before = text[start..].starts_with('-') && text[start + 1..].starts_with(char::is_whitespace);
        if trim_before {
            start += 1;
        }
        if trim_next {
            before = before.trim_start();
        }
        if trim_before {
            before = before.trim_end();
        }
        if !before.is_empty() {
            parts.push(Part::Text(before));
        }
        let comment = text[start..].trim_start().starts_with("/*");
        let end = if comment {
            let body = start + text[start..].find("/*").expect("a comment begins here") + 2;
            let close = text[body..]
                .find("*/")
                .ok_or_else(|| syntax(open, "the comment that begins here has no closing `*/`"))?;
            let after = body + close + 2;
            let marker = text[after..].trim_start();
            if !marker.starts_with("}}") && !marker.starts_with("-}}") {
                return Err(syntax(after, "a comment must fill its action: `{{/* comment */}}`"));
            }
            after + text[after..].find("}}").expect("the marker was seen")
        } else {
            let end = action_end(&text[start..])
                .ok_or_else(|| syntax(open, "the action that begins here has no closing `}}`; write `{{\"{{\"}}` for two braces that are just text"))?;
            start + end
        };
        let mut inside = &text[start..end];
        trim_next =
            inside.ends_with('-') && inside[..inside.len() - 1].ends_with(|c: char| c.is_whitespace() || comment);
        if trim_next {
            inside = &inside[..inside.len() - 1];
        }
        if !comment {
            parts.push(Part::Action { inside, offset: start });
        }
        at = end + 2;
    }
    let rest = if trim_next { text[at..].trim_start() } else { &text[at..] };
    if !rest.is_empty() {
        parts.push(Part::Text(rest));
    }
    Ok(parts)
}

/// The `end` or `else` that closed a block.
struct End {
    word: &'static str,
    offset: usize,
    /// What follows an `else`: `if ...` or `with ...`.
    rest: Vec<Token>,
}

struct Parser<'t> {
    parts: Vec<Part<'t>>,
    at: usize,
    /// Names of the variables in scope; the position is the slot.
    variables: Vec<String>,
    references: Vec<(Vec<String>, usize)>,
    /// Blocks around us in which dot is not the scope.
    dot_moved: usize,
    /// Blocks around us.
    depth: usize,
}

const KEYWORDS: [&str; 5] = ["if", "with", "range", "else", "end"];
const REFUSED: [&str; 5] = ["break", "continue", "define", "template", "block"];

impl Parser<'_> {
    /// Pieces up to the `end` or `else` of this block, or the end of the text.
    fn block(&mut self) -> Result<(Vec<Piece>, Option<End>)> {
        let mut pieces = Vec::new();
        while self.at < self.parts.len() {
            self.at += 1;
            let (inside, offset) = match &self.parts[self.at - 1] {
                Part::Text(text) => {
                    pieces.push(Piece::Text((*text).to_owned()));
                    continue;
                }
                Part::Action { inside, offset } => (*inside, *offset),
            };
            let mut tokens = tokens(inside, offset)?;
            let Some(first) = tokens.first() else { return Err(syntax(offset, "the action is empty")) };
            let first_offset = first.offset;
            let word = match &first.kind {
                TokenKind::Word(word) if KEYWORDS.contains(&word.as_str()) => word.clone(),
                TokenKind::Word(word) if REFUSED.contains(&word.as_str()) => {
                    return Err(syntax(
                        first_offset,
                        format!("`{word}` is not supported; there are if, with and range"),
                    ));
                }
                _ => {
                    pieces.push(self.action(&tokens)?);
                    continue;
                }
            };
            let rest = tokens.split_off(1);
            match word.as_str() {
                "end" if rest.is_empty() => return Ok((pieces, Some(End { word: "end", offset: first_offset, rest }))),
                "end" => return Err(syntax(rest[0].offset, "`end` stands alone: `{{ end }}`")),
                "else" => return Ok((pieces, Some(End { word: "else", offset: first_offset, rest }))),
                word => pieces.push(self.control(word, &rest, first_offset)?),
            }
        }
        Ok((pieces, None))
    }

    /// An action that is no block: an assignment or a value to write.
    fn action(&mut self, tokens: &[Token]) -> Result<Piece> {
        if let [Token { kind: TokenKind::Variable(name), offset, .. }, Token { kind, .. }, rest @ ..] = tokens {
            if *kind == TokenKind::Declare {
                let value = self.pipeline(rest, *offset)?;
                self.declare(name, *offset)?;
                return Ok(Piece::Set { slot: Slot::New, value });
            }
            if *kind == TokenKind::Assign {
                let value = self.pipeline(rest, *offset)?;
                let slot = self.slot(name, *offset)?;
                return Ok(Piece::Set { slot: Slot::At(slot), value });
            }
        }
        Ok(Piece::Write(self.pipeline(tokens, tokens[0].offset)?))
    }

    fn declare(&mut self, name: &str, offset: usize) -> Result<()> {
        if name.is_empty() {
            return Err(syntax(offset, "the variable needs a name: `$name := ...`"));
        }
        self.variables.push(name.to_owned());
        Ok(())
    }

    fn slot(&self, name: &str, offset: usize) -> Result<usize> {
        self.variables.iter().rposition(|known| known == name).ok_or_else(|| {
            let names: Vec<&str> = self.variables.iter().map(String::as_str).collect();
            TemplateError::new(
                TemplateErrorKind::UnknownVariable,
                offset,
                format!("unknown variable `${}`; {}", cut(name), hint(name, "variables known here", &names)),
            )
        })
    }

    fn control(&mut self, word: &str, header: &[Token], offset: usize) -> Result<Piece> {
        self.depth += 1;
        if self.depth > TEMPLATE_NESTING_MAX {
            return Err(Self::too_deep(offset));
        }
        let outer = self.variables.len();
        let piece = match word {
            "range" => self.range(header, offset)?,
            _ => self.conditional(word, header, offset)?,
        };
        self.variables.truncate(outer);
        self.depth -= 1;
        Ok(piece)
    }

    fn too_deep(offset: usize) -> TemplateError {
        TemplateError::new(
            TemplateErrorKind::Limit,
            offset,
            format!(
                "the template is nested more than {TEMPLATE_NESTING_MAX} levels deep; use variables or several tasks"
            ),
        )
    }

    /// `if` and `with`.
    fn conditional(&mut self, word: &str, header: &[Token], offset: usize) -> Result<Piece> {
        let (declared, tokens) = match header {
            [
                Token { kind: TokenKind::Variable(name), offset, .. },
                Token { kind: TokenKind::Declare, .. },
                rest @ ..,
            ] => (Some((name, *offset)), rest),
            _ => (None, header),
        };
        if tokens.is_empty() {
            return Err(syntax(offset, format!("`{word}` needs a value: `{{{{ {word} .input.name }}}}`")));
        }
        let value = self.pipeline(tokens, offset)?;
        if let Some((name, at)) = declared {
            self.declare(name, at)?;
        }
        let declare = declared.is_some();
        let moves = usize::from(word == "with");
        self.dot_moved += moves;
        let then = self.branch(word, offset);
        self.dot_moved -= moves;
        let (then, end) = then?;
        let otherwise = match end {
            Some(rest) => self.otherwise(word, &rest, offset)?,
            None => Vec::new(),
        };
        Ok(if word == "with" {
            Piece::With { declare, value, then, otherwise }
        } else {
            Piece::If { declare, condition: value, then, otherwise }
        })
    }

    fn range(&mut self, header: &[Token], offset: usize) -> Result<Piece> {
        let outer = self.variables.len();
        let (names, tokens): (Vec<(&String, usize)>, &[Token]) = match header {
            [
                Token { kind: TokenKind::Variable(a), offset: a_at, .. },
                Token { kind: TokenKind::Comma, .. },
                Token { kind: TokenKind::Variable(b), offset: b_at, .. },
                Token { kind: TokenKind::Declare, .. },
                rest @ ..,
            ] => (vec![(a, *a_at), (b, *b_at)], rest),
            [
                Token { kind: TokenKind::Variable(a), offset: a_at, .. },
                Token { kind: TokenKind::Declare, .. },
                rest @ ..,
            ] => (vec![(a, *a_at)], rest),
            _ => (Vec::new(), header),
        };
        if tokens.is_empty() {
            return Err(syntax(offset, "`range` needs a list: `{{ range $index, $item := .input.items }}`"));
        }
        let items = self.pipeline(tokens, offset)?;
        for (name, at) in &names {
            self.declare(name, *at)?;
        }
        self.dot_moved += 1;
        let body = self.branch("range", offset);
        self.dot_moved -= 1;
        let (body, end) = body?;
        // The variables of a range exist in its body only.
        self.variables.truncate(outer);
        let otherwise = match end {
            Some(rest) => self.otherwise("range", &rest, offset)?,
            None => Vec::new(),
        };
        Ok(Piece::Range { variables: names.len() as u8, items, body, otherwise })
    }

    /// A branch up to its `end` (`None`) or `else` (what follows the word).
    fn branch(&mut self, word: &str, offset: usize) -> Result<(Vec<Piece>, Option<Vec<Token>>)> {
        let outer = self.variables.len();
        let (pieces, end) = self.block()?;
        self.variables.truncate(outer);
        match end {
            None => Err(syntax(offset, format!("the `{word}` that begins here has no `{{{{ end }}}}`"))),
            Some(End { word: "end", .. }) => Ok((pieces, None)),
            Some(End { rest, .. }) => Ok((pieces, Some(rest))),
        }
    }

    /// What follows an `else`, up to the `end`.
    fn otherwise(&mut self, word: &str, rest: &[Token], offset: usize) -> Result<Vec<Piece>> {
        match rest {
            [] => {
                let (pieces, more) = self.branch(word, offset)?;
                if more.is_some() {
                    return Err(syntax(offset, format!("the `{word}` that begins here has two `else`")));
                }
                Ok(pieces)
            }
            [Token { kind: TokenKind::Word(next), offset, .. }, header @ ..]
                if next == "if" || (next == "with" && word == "with") =>
            {
                Ok(vec![self.control(next, header, *offset)?])
            }
            [token, ..] => Err(syntax(token.offset, "after `else` comes nothing or `if`")),
        }
    }

    fn pipeline(&mut self, tokens: &[Token], offset: usize) -> Result<Expr> {
        let mut cursor = Cursor { tokens, at: 0, end: tokens.last().map_or(offset, |token| token.offset + 1) };
        let (expr, _) = self.expression(&mut cursor, 0)?;
        match cursor.peek() {
            None => Ok(expr),
            Some(token) => Err(match &token.kind {
                TokenKind::Close => syntax(token.offset, "`)` without `(`"),
                TokenKind::Assign => {
                    syntax(token.offset, "`=` assigns to a variable (`$x = 1`); to compare, write `eq .a .b`")
                }
                TokenKind::Declare => {
                    syntax(token.offset, "`:=` declares a variable at the start of an action: `{{ $x := 1 }}`")
                }
                _ => syntax(token.offset, "unexpected text here; put a nested call in parentheses: `f (g .x)`"),
            }),
        }
    }

    /// Commands joined by `|`. Answers the expression and how deep it is nested.
    fn expression(&mut self, cursor: &mut Cursor<'_>, parens: usize) -> Result<(Expr, usize)> {
        let (mut expr, mut depth) = self.command(cursor, None, parens)?;
        while let Some(Token { kind: TokenKind::Pipe, .. }) = cursor.peek() {
            cursor.at += 1;
            (expr, depth) = self.command(cursor, Some((expr, depth)), parens)?;
        }
        Ok((expr, depth))
    }

    /// A function with its arguments, or a lone operand. `piped` becomes the last argument.
    fn command(
        &mut self,
        cursor: &mut Cursor<'_>,
        piped: Option<(Expr, usize)>,
        parens: usize,
    ) -> Result<(Expr, usize)> {
        let Some(first) = cursor.peek() else {
            return Err(syntax(cursor.end, "a value is missing at the end of the action"));
        };
        let offset = first.offset;
        let TokenKind::Word(word) = &first.kind else {
            if piped.is_some() {
                return Err(syntax(offset, "after `|` comes a function: `.input.name | upper`"));
            }
            let operand = self.operand(cursor, parens)?;
            return match cursor.peek() {
                Some(token)
                    if !matches!(
                        token.kind,
                        TokenKind::Pipe | TokenKind::Close | TokenKind::Assign | TokenKind::Declare
                    ) =>
                {
                    Err(syntax(
                        token.offset,
                        "a function is missing before the first of these values, for example `print .a .b`",
                    ))
                }
                _ => Ok(operand),
            };
        };
        if let Some(value) = constant(word) {
            if piped.is_some() {
                return Err(syntax(offset, format!("after `|` comes a function, and `{word}` is a value")));
            }
            cursor.at += 1;
            return Ok((Expr { offset, kind: ExprKind::Literal(value) }, 1));
        }
        cursor.at += 1;
        let function = find_function(word, offset)?;
        let mut arguments = Vec::new();
        let mut deepest = 0;
        while let Some(token) = cursor.peek() {
            if matches!(
                token.kind,
                TokenKind::Pipe | TokenKind::Close | TokenKind::Assign | TokenKind::Declare | TokenKind::Comma
            ) {
                break;
            }
            let (argument, depth) = self.operand(cursor, parens)?;
            arguments.push(argument);
            deepest = deepest.max(depth);
        }
        if let Some((expr, depth)) = piped {
            arguments.push(expr);
            deepest = deepest.max(depth);
        }
        if deepest >= TEMPLATE_NESTING_MAX {
            return Err(Self::too_deep(offset));
        }
        function
            .check_arity(arguments.len())
            .map_err(|message| TemplateError::new(TemplateErrorKind::Arguments, offset, message))?;
        self.index_reference(function.name, &arguments);
        Ok((Expr { offset, kind: ExprKind::Call { function, arguments } }, deepest + 1))
    }

    /// `index .tasks "id"` reads `.tasks.id`.
    fn index_reference(&mut self, function: &str, arguments: &[Expr]) {
        let [of, keys @ ..] = arguments else { return };
        let path = match &of.kind {
            ExprKind::Dot(path) if self.dot_moved == 0 => path,
            ExprKind::Root(path) => path,
            _ => return,
        };
        if function != "index" {
            return;
        }
        let keys = keys.iter().map_while(|key| match &key.kind {
            ExprKind::Literal(Value::String(key)) => Some(key.clone()),
            _ => None,
        });
        let path: Vec<String> = path.iter().cloned().chain(keys).collect();
        self.references.push((path, of.offset));
    }

    fn operand(&mut self, cursor: &mut Cursor<'_>, parens: usize) -> Result<(Expr, usize)> {
        let Some(token) = cursor.next() else { return Err(syntax(cursor.end, "a value is missing")) };
        let offset = token.offset;
        let kind = match &token.kind {
            TokenKind::Literal(value) => ExprKind::Literal(value.clone()),
            TokenKind::Fields(fields) => {
                if self.dot_moved == 0 && !fields.is_empty() {
                    self.references.push((fields.clone(), offset));
                }
                ExprKind::Dot(fields.clone())
            }
            TokenKind::Variable(name) => {
                let fields = cursor.attached_fields();
                if name.is_empty() {
                    if !fields.is_empty() {
                        self.references.push((fields.clone(), offset));
                    }
                    ExprKind::Root(fields)
                } else {
                    ExprKind::Variable { name: name.clone(), slot: self.slot(name, offset)?, fields }
                }
            }
            TokenKind::Word(word) => {
                if let Some(value) = constant(word) {
                    ExprKind::Literal(value)
                } else {
                    // A function without arguments, as in `append list 1`.
                    let function = find_function(word, offset)?;
                    function.check_arity(0).map_err(|message| {
                        TemplateError::new(
                            TemplateErrorKind::Arguments,
                            offset,
                            format!("{message}; put a call with arguments in parentheses: `({word} ...)`"),
                        )
                    })?;
                    ExprKind::Call { function, arguments: Vec::new() }
                }
            }
            TokenKind::Open => return self.parenthesised(cursor, offset, parens),
            TokenKind::Close => return Err(syntax(offset, "a value is missing before `)`")),
            TokenKind::Pipe => return Err(syntax(offset, "a value is missing before `|`")),
            TokenKind::Comma => {
                return Err(syntax(offset, "arguments are separated by spaces, not by commas: `f .a .b`"));
            }
            TokenKind::Assign | TokenKind::Declare => {
                return Err(syntax(offset, "a variable is missing before this: `$name := ...`"));
            }
        };
        Ok((Expr { offset, kind }, 1))
    }

    fn parenthesised(&mut self, cursor: &mut Cursor<'_>, offset: usize, parens: usize) -> Result<(Expr, usize)> {
        if parens >= TEMPLATE_NESTING_MAX {
            return Err(Self::too_deep(offset));
        }
        let (inner, depth) = self.expression(cursor, parens + 1)?;
        match cursor.next() {
            Some(Token { kind: TokenKind::Close, .. }) => {}
            Some(token) => return Err(syntax(token.offset, "`)` is missing before this")),
            None => return Err(syntax(offset, "the `(` that begins here has no `)`")),
        }
        let fields = cursor.attached_fields();
        if fields.is_empty() {
            return Ok((inner, depth));
        }
        Ok((Expr { offset, kind: ExprKind::Fields { of: Box::new(inner), fields } }, depth + 1))
    }
}

fn constant(word: &str) -> Option<Value> {
    match word {
        "true" => Some(Value::Bool(true)),
        "false" => Some(Value::Bool(false)),
        "nil" | "null" => Some(Value::Null),
        _ => None,
    }
}

fn find_function(word: &str, offset: usize) -> Result<&'static functions::Function> {
    if let Some(function) = functions::find(word) {
        return Ok(function);
    }
    let message = if let Some(reason) = functions::refused(word) {
        format!("the function `{word}` is not available: {reason}")
    } else if KEYWORDS.contains(&word) {
        format!("`{word}` must stand at the start of its own action: `{{{{ {word} ... }}}}`")
    } else {
        let near = nearest(word, functions::names());
        match near {
            Some(near) => format!("unknown function `{}`; did you mean `{near}`?", cut(word)),
            None => {
                format!("unknown function `{}`; to read a value, begin with a dot: `.input.{}`", cut(word), cut(word))
            }
        }
    };
    Err(TemplateError::new(TemplateErrorKind::UnknownFunction, offset, message))
}

struct Cursor<'c> {
    tokens: &'c [Token],
    at: usize,
    /// The place just after the last token.
    end: usize,
}

impl<'c> Cursor<'c> {
    fn peek(&self) -> Option<&'c Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<&'c Token> {
        let token = self.tokens.get(self.at)?;
        self.at += 1;
        Some(token)
    }

    /// Fields that follow without a space, as in `$x.a` and `(f).a`.
    fn attached_fields(&mut self) -> Vec<String> {
        match self.peek() {
            Some(Token { kind: TokenKind::Fields(fields), spaced: false, .. }) if !fields.is_empty() => {
                self.at += 1;
                fields.clone()
            }
            _ => Vec::new(),
        }
    }
}
