//! Templates: JSON whose texts may hold `{{ actions }}` in the syntax of Go's `text/template`.
//!
//! ```text
//! {{ .input.city }}                              a value of the scope
//! {{ .tasks.get-weather.output.temperature }}    names may hold hyphens
//! {{ .input.unit | default "celsius" | upper }}  functions, alone or in a pipeline
//! {{ index .input.cities 0 }}                    an item of a list
//! {{ if gt .output.n 3 }}many{{ else }}few{{ end }}
//! {{ range $i, $city := .input.cities }}{{ $i }}: {{ $city.name }}, {{ end }}
//! {{ with .input.user }}{{ .name }}{{ end }}     dot is the user in here; `$` is always the scope
//! {{ $total := add 1 2 }}{{ $total }}            variables
//! {{- /* comment */ -}}                          the hyphens trim the space around an action
//! ```
//!
//! - A text that is exactly one `{{ expression }}` keeps the value's type; anything else gives a text.
//! - A rendered text is never parsed again, neither as a template nor as JSON: data cannot become code.
//!   This differs on purpose from systems that parse a rendered text that begins with `{` or `[`.
//! - In a text, lists and objects appear as JSON, null as `null`, and numbers without a needless `.0`.
//! - A missing key is an error. As an argument of `default`, `coalesce`, `empty`, `get` and `hasKey` a path whose *last* key
//!   is missing is null instead.
//! - Keys of objects are plain texts.
//! - Nothing depends on the clock or on chance, because a run must give the same result when it is replayed.
//! - What one rendering may cost is bounded, see [`crate::limits`].

mod ast;
mod budget;
mod error;
mod eval;
mod format;
mod functions;
mod lexer;
mod parser;
mod reach;
#[cfg(test)]
mod tests;
mod value;

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use self::ast::Piece;
use self::budget::Budget;
pub use self::error::{Step, TemplateError, TemplateErrorKind};
use self::eval::Run;
use crate::blob::BLOB_KEY;
use crate::limits::TEMPLATE_VALUE_DEPTH_MAX;
use crate::scope::Scope;

/// A compiled template. Cheap to clone; serialises as its source.
#[derive(Debug, Clone)]
pub struct Template(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: Value,
    tree: Tree,
    references: Vec<Reference>,
    opaque: bool,
}

/// A path that a template reads from its scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// For `.tasks.a.output`: `tasks`, `a`, `output`.
    pub path: Vec<String>,
    /// The leaf of the tree.
    pub leaf: Vec<Step>,
    /// The place in the leaf's text, in bytes.
    pub offset: usize,
    /// Whether the leaf is exactly this path, so that the value is handed on as it is.
    pub alone: bool,
}

/// The compiled form of the JSON tree. Parts without actions stay as they are.
#[derive(Debug)]
enum Tree {
    Constant(Value),
    Text(Vec<Piece>),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Template {
    /// Compiles a JSON tree; answers the first problem.
    pub fn compile(source: &Value) -> Result<Self, TemplateError> {
        Self::compile_all(source).map_err(|mut errors| errors.remove(0))
    }

    /// Compiles a JSON tree; answers all problems, at least one, at most one per text.
    pub fn compile_all(source: &Value) -> Result<Self, Vec<TemplateError>> {
        let mut compiler = Compiler::default();
        let tree = compiler.tree(source);
        if compiler.errors.is_empty() {
            let opaque = reach::is_opaque(source, &compiler.references);
            Ok(Self(Arc::new(Inner { source: source.clone(), tree, references: compiler.references, opaque })))
        } else {
            Err(compiler.errors)
        }
    }

    /// Fills in the values of the scope.
    pub fn render(&self, scope: &Scope<'_>) -> Result<Value, TemplateError> {
        self.render_handing_on(scope, None)
    }

    /// As [`Self::render`]; a text that is exactly one path is handed on as it is in `unread`, if it is there: so a
    /// reference to a large value is passed on and the value not read.
    pub fn render_handing_on(&self, scope: &Scope<'_>, unread: Option<&Scope<'_>>) -> Result<Value, TemplateError> {
        let mut path = Vec::new();
        let rendered = render(&self.0.tree, Scopes { scope, unread }, &mut Budget::default(), &mut path);
        rendered.map_err(|error| TemplateError { path, ..error })
    }

    /// What the template was compiled from.
    pub fn source(&self) -> Value {
        self.0.source.clone()
    }

    /// The paths that the template reads, in the order of the text. Paths inside `with` and `range` that begin at
    /// their value are not among them.
    pub fn references(&self) -> &[Reference] {
        &self.0.references
    }

    /// Whether it may read of its scope what [`Self::references`] does not tell: `$s := .`, `get $ "tasks"`, `toJson .`.
    /// Errs on the safe side.
    pub fn is_opaque(&self) -> bool {
        self.0.opaque
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.0.source == other.0.source
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.source.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = Value::deserialize(deserializer)?;
        Self::compile(&source).map_err(serde::de::Error::custom)
    }
}

#[derive(Default)]
struct Compiler {
    path: Vec<Step>,
    references: Vec<Reference>,
    errors: Vec<TemplateError>,
}

impl Compiler {
    fn tree(&mut self, source: &Value) -> Tree {
        if self.path.len() > TEMPLATE_VALUE_DEPTH_MAX {
            self.error(TemplateError::of_tree(
                TemplateErrorKind::Limit,
                format!("the value is nested more than {TEMPLATE_VALUE_DEPTH_MAX} levels deep; make it flatter"),
            ));
            return Tree::Constant(Value::Null);
        }
        match source {
            Value::String(text) if text.contains("{{") => self.text(text),
            Value::Array(items) => {
                let trees: Vec<Tree> =
                    items.iter().enumerate().map(|(at, item)| self.inside(Step::Item(at), item)).collect();
                if trees.iter().all(|tree| matches!(tree, Tree::Constant(_))) {
                    return Tree::Constant(source.clone());
                }
                Tree::List(trees)
            }
            Value::Object(fields) => {
                let trees: Vec<(String, Tree)> = fields.iter().map(|(name, field)| self.field(name, field)).collect();
                if trees.iter().all(|(_, tree)| matches!(tree, Tree::Constant(_))) {
                    return Tree::Constant(source.clone());
                }
                Tree::Object(trees)
            }
            other => Tree::Constant(other.clone()),
        }
    }

    fn field(&mut self, name: &str, field: &Value) -> (String, Tree) {
        let tree = self.inside(Step::Field(name.to_owned()), field);
        if name.contains("{{") {
            self.error(TemplateError::of_tree(
                TemplateErrorKind::Syntax,
                "the name of a key cannot be a template; build the object with `dict`",
            ));
        }
        if name == BLOB_KEY {
            self.error(TemplateError::of_tree(
                TemplateErrorKind::Syntax,
                format!("the key `{BLOB_KEY}` is reserved; give it another name"),
            ));
        }
        (name.to_owned(), tree)
    }

    fn inside(&mut self, step: Step, source: &Value) -> Tree {
        self.path.push(step);
        let tree = self.tree(source);
        self.path.pop();
        tree
    }

    fn text(&mut self, text: &str) -> Tree {
        match parser::parse(text) {
            Ok(parsed) => {
                let leaf = &self.path;
                let alone = matches!(parsed.pieces.as_slice(), [Piece::Write(expr)] if lone_path(expr).is_some());
                self.references.extend(parsed.references.into_iter().map(|(path, offset)| Reference {
                    path,
                    leaf: leaf.clone(),
                    offset,
                    alone,
                }));
                Tree::Text(parsed.pieces)
            }
            Err(error) => {
                self.error(error);
                Tree::Constant(Value::Null)
            }
        }
    }

    fn error(&mut self, error: TemplateError) {
        self.errors.push(TemplateError { path: self.path.clone(), ..error });
    }
}

/// The path from the scope that an expression is, if it is nothing else.
fn lone_path(expr: &ast::Expr) -> Option<&[String]> {
    match &expr.kind {
        ast::ExprKind::Dot(fields) | ast::ExprKind::Root(fields) if !fields.is_empty() => Some(fields),
        _ => None,
    }
}

/// What a rendering reads.
#[derive(Clone, Copy)]
struct Scopes<'s> {
    scope: &'s Scope<'s>,
    unread: Option<&'s Scope<'s>>,
}

/// After an error `path` is the leaf where it happened.
fn render(tree: &Tree, scopes: Scopes<'_>, budget: &mut Budget, path: &mut Vec<Step>) -> Result<Value, TemplateError> {
    match tree {
        Tree::Constant(value) => {
            let paid = budget.charge_value(value).and_then(|()| budget.write_value(value));
            paid.map_err(|fault| TemplateError::of_tree(fault.kind, fault.message))?;
            Ok(value.clone())
        }
        Tree::Text(pieces) => match pieces.as_slice() {
            [Piece::Write(expr)] => match lone_path(expr).and_then(|path| scopes.unread?.at(path)) {
                Some(found) => eval::handed_on(found, expr, budget),
                None => Run::new(scopes.scope, budget).value(expr),
            },
            pieces => Run::new(scopes.scope, budget).text(pieces).map(Value::String),
        },
        Tree::List(trees) => {
            let mut items = Vec::with_capacity(trees.len());
            for (at, tree) in trees.iter().enumerate() {
                path.push(Step::Item(at));
                items.push(render(tree, scopes, budget, path)?);
                path.pop();
            }
            Ok(Value::Array(items))
        }
        Tree::Object(trees) => {
            let mut fields = Map::new();
            for (name, tree) in trees {
                path.push(Step::Field(name.clone()));
                fields.insert(name.clone(), render(tree, scopes, budget, path)?);
                path.pop();
            }
            Ok(Value::Object(fields))
        }
    }
}
