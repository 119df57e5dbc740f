//! What templates and conditions see: named values, borrowed from wherever they live.

use std::collections::BTreeMap;

use serde_json::Value;

/// A value in a scope: borrowed JSON, JSON made for the occasion, or a map put together from other nodes.
#[derive(Debug, Clone)]
pub enum Node<'a> {
    /// Data that lives elsewhere.
    Value(&'a Value),
    /// Data made for this scope.
    Owned(Value),
    /// Another node, shared.
    Ref(&'a Node<'a>),
    /// An object whose fields live in different places.
    Map(BTreeMap<String, Node<'a>>),
}

impl<'a> Node<'a> {
    /// An object of the given fields.
    pub fn map<K: Into<String>>(fields: impl IntoIterator<Item = (K, Node<'a>)>) -> Self {
        Self::Map(fields.into_iter().map(|(name, node)| (name.into(), node)).collect())
    }

    /// The node without the ways to own it.
    pub(crate) fn view(&self) -> View<'_> {
        let mut node = self;
        loop {
            match node {
                Node::Value(value) => return View::Json(value),
                Node::Owned(value) => return View::Json(value),
                Node::Map(fields) => return View::Map(fields),
                Node::Ref(other) => node = other,
            }
        }
    }
}

impl From<Value> for Node<'_> {
    fn from(value: Value) -> Self {
        Self::Owned(value)
    }
}

impl<'a> From<&'a Value> for Node<'a> {
    fn from(value: &'a Value) -> Self {
        Self::Value(value)
    }
}

impl From<&str> for Node<'_> {
    fn from(text: &str) -> Self {
        Self::Owned(Value::from(text))
    }
}

/// A borrowed look at a node.
#[derive(Debug, Clone, Copy)]
pub(crate) enum View<'s> {
    /// Plain JSON.
    Json(&'s Value),
    /// An object put together from nodes.
    Map(&'s BTreeMap<String, Node<'s>>),
}

impl<'s> View<'s> {
    /// The field `name` of an object; `None` when there is none or this is no object.
    pub(crate) fn field(self, name: &str) -> Option<View<'s>> {
        match self {
            View::Json(Value::Object(fields)) => fields.get(name).map(View::Json),
            View::Json(_) => None,
            View::Map(fields) => fields.get(name).map(Node::view),
        }
    }

    /// The names of an object's fields, sorted; `None` when this is no object.
    pub(crate) fn names(self) -> Option<Vec<&'s str>> {
        match self {
            View::Json(Value::Object(fields)) => {
                let mut names: Vec<&str> = fields.keys().map(String::as_str).collect();
                names.sort_unstable();
                Some(names)
            }
            View::Json(_) => None,
            View::Map(fields) => Some(fields.keys().map(String::as_str).collect()),
        }
    }
}

/// The names that a template or condition can use. A child scope sees its parent's names and may hide them.
#[derive(Debug, Clone, Default)]
pub struct Scope<'a> {
    parent: Option<&'a Scope<'a>>,
    names: BTreeMap<String, Node<'a>>,
}

impl<'a> Scope<'a> {
    /// Without any name.
    pub fn new() -> Self {
        Self::default()
    }

    /// A scope that sees the names of this one. Copies nothing.
    pub fn child<'b>(&'b self) -> Scope<'b>
    where
        'a: 'b,
    {
        Scope { parent: Some(self), names: BTreeMap::new() }
    }

    /// Gives `name` a value; one of the same name, here or in the parent, is hidden.
    pub fn insert(&mut self, name: impl Into<String>, node: impl Into<Node<'a>>) -> &mut Self {
        self.names.insert(name.into(), node.into());
        self
    }

    /// The node of `name` in this scope itself, to change it.
    pub fn node_mut(&mut self, name: &str) -> Option<&mut Node<'a>> {
        self.names.get_mut(name)
    }

    /// The names of this scope itself.
    pub fn own_names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// Whether the name is one of this scope itself.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Whether there is something at the end of a path.
    pub fn leads_somewhere(&self, path: &[String]) -> bool {
        self.at(path).is_some()
    }

    /// What a path leads to.
    pub(crate) fn at(&self, path: &[String]) -> Option<View<'_>> {
        let (root, rest) = path.split_first()?;
        rest.iter().try_fold(self.get(root)?, |view, name| view.field(name))
    }

    /// The value of `name`.
    pub(crate) fn get(&self, name: &str) -> Option<View<'_>> {
        let mut scope = Some(self);
        while let Some(at) = scope {
            if let Some(node) = at.names.get(name) {
                return Some(node.view());
            }
            scope = at.parent;
        }
        None
    }

    /// All names, sorted, each once.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names = std::collections::BTreeSet::new();
        let mut scope = Some(self);
        while let Some(at) = scope {
            names.extend(at.names.keys().map(String::as_str));
            scope = at.parent;
        }
        names.into_iter().collect()
    }
}
