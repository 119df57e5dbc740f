//! What can be wrong with a template, when it is compiled and when it is rendered.

/// A step from the root of a template's JSON tree towards a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Into the field of an object.
    Field(String),
    /// Into the item of a list.
    Item(usize),
}

/// The kinds of template error, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateErrorKind {
    /// The text is not a template.
    Syntax,
    /// The text calls a function that does not exist.
    UnknownFunction,
    /// The text uses a `$variable` that does not exist there.
    UnknownVariable,
    /// A function got too few or too many arguments.
    Arguments,
    /// A path leads nowhere.
    MissingKey,
    /// A value is not of the type that a function needs.
    Type,
    /// A limit was reached.
    Limit,
}

impl TemplateErrorKind {
    /// Stable name.
    pub fn code(self) -> &'static str {
        match self {
            Self::Syntax => "TEMPLATE_SYNTAX",
            Self::UnknownFunction => "TEMPLATE_UNKNOWN_FUNCTION",
            Self::UnknownVariable => "TEMPLATE_UNKNOWN_VARIABLE",
            Self::Arguments => "TEMPLATE_ARGUMENTS",
            Self::MissingKey => "TEMPLATE_MISSING_KEY",
            Self::Type => "TEMPLATE_TYPE",
            Self::Limit => "TEMPLATE_LIMIT",
        }
    }
}

/// Why a template cannot be compiled or rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// What kind of error.
    pub kind: TemplateErrorKind,
    /// For a person, with what to do.
    pub message: String,
    /// The leaf of the tree, empty for a template that is one text.
    pub path: Vec<Step>,
    /// The place in the leaf's text, in bytes.
    pub offset: Option<usize>,
}

impl TemplateError {
    pub(super) fn new(kind: TemplateErrorKind, offset: usize, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), path: Vec::new(), offset: Some(offset) }
    }

    /// An error of the tree and not of one text.
    pub(super) fn of_tree(kind: TemplateErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), path: Vec::new(), offset: None }
    }

    /// The leaf as a person writes it: `a.b[2]`.
    pub fn leaf(&self) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Field(name) if text.is_empty() => text.push_str(name),
                Step::Field(name) => {
                    text.push('.');
                    text.push_str(name);
                }
                Step::Item(at) => text = format!("{text}[{at}]"),
            }
        }
        text
    }
}

impl std::fmt::Display for TemplateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.path.is_empty() {
            write!(f, "in `{}`: ", self.leaf())?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for TemplateError {}

/// An error whose place is not known yet.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: TemplateErrorKind,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn of_type(message: impl Into<String>) -> Self {
        Self { kind: TemplateErrorKind::Type, message: message.into() }
    }

    pub(super) fn missing(message: impl Into<String>) -> Self {
        Self { kind: TemplateErrorKind::MissingKey, message: message.into() }
    }

    pub(super) fn limit(message: impl Into<String>) -> Self {
        Self { kind: TemplateErrorKind::Limit, message: message.into() }
    }

    pub(super) fn at(self, offset: usize) -> TemplateError {
        TemplateError::new(self.kind, offset, self.message)
    }
}
