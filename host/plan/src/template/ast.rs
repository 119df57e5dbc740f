//! The compiled form of a template text.

use serde_json::Value;

use super::functions::Function;

/// A piece of a template text.
#[derive(Debug)]
pub(super) enum Piece {
    Text(String),
    /// Writes a value.
    Write(Expr),
    /// `$x := value` (a new slot) or `$x = value`.
    Set {
        slot: Slot,
        value: Expr,
    },
    If {
        declare: bool,
        condition: Expr,
        then: Vec<Piece>,
        otherwise: Vec<Piece>,
    },
    /// Dot becomes the value, when it is not empty.
    With {
        declare: bool,
        value: Expr,
        then: Vec<Piece>,
        otherwise: Vec<Piece>,
    },
    /// Dot becomes each item.
    Range {
        variables: u8,
        items: Expr,
        body: Vec<Piece>,
        otherwise: Vec<Piece>,
    },
}

/// Where a variable lives: the position on the stack of variables.
#[derive(Debug, Clone, Copy)]
pub(super) enum Slot {
    New,
    At(usize),
}

/// An expression with the place in its text where it began.
#[derive(Debug)]
pub(super) struct Expr {
    /// In bytes, from the start of the text.
    pub(super) offset: usize,
    pub(super) kind: ExprKind,
}

#[derive(Debug)]
pub(super) enum ExprKind {
    Literal(Value),
    /// `.` and what follows it.
    Dot(Vec<String>),
    /// `$` and what follows it: the scope, wherever dot is.
    Root(Vec<String>),
    /// `$name` and what follows it.
    Variable {
        name: String,
        slot: usize,
        fields: Vec<String>,
    },
    /// `(...)` with fields.
    Fields {
        of: Box<Expr>,
        fields: Vec<String>,
    },
    Call {
        function: &'static Function,
        arguments: Vec<Expr>,
    },
}
