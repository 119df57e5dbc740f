//! Large values: kept apart by the engine, handed on by reference, and read only by who looks into them.
//!
//! Reading one is pure: the reference names it by the digest of what it is. Where one cannot be read, what was computed is
//! void, and the engine does the event again, or ends the run.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;

use compozy_plan::blob::{BlobRef, has_blob_key};
use compozy_plan::condition::Condition;
use compozy_plan::schema::{Schema, Violation};
use compozy_plan::scope::{Node, Scope};
use compozy_plan::template::Template;
use serde_json::Value;

use crate::limits::READ_BYTES_MAX;

/// Why a value that is kept apart cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// It is gone or damaged. Another attempt does not help.
    #[error("the value {digest} of {bytes} bytes, which the run refers to, is lost: {reason}", digest = blob.digest, bytes = blob.bytes)]
    Lost {
        /// Which.
        blob: BlobRef,
        /// For a person.
        reason: String,
    },
    /// It cannot be read now.
    #[error("the value {digest} of {bytes} bytes cannot be read now: {reason}", digest = blob.digest, bytes = blob.bytes)]
    Unavailable {
        /// Which.
        blob: BlobRef,
        /// For a person.
        reason: String,
    },
}

/// Reads values that are kept apart.
pub trait Blobs {
    /// The value of a reference. The same reference gives the same value, always.
    fn load(&self, blob: &BlobRef) -> Result<Arc<Value>, BlobError>;
}

/// For runs of which nothing is kept apart.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoBlobs;

impl Blobs for NoBlobs {
    fn load(&self, blob: &BlobRef) -> Result<Arc<Value>, BlobError> {
        Err(BlobError::Lost { blob: blob.clone(), reason: "nothing is kept apart here".to_owned() })
    }
}

/// Reads during one event, and remembers what could not be read.
pub(crate) struct Reading<'b> {
    blobs: &'b dyn Blobs,
    failed: RefCell<Option<BlobError>>,
    /// What one look may still read, in bytes.
    left: Cell<u64>,
    exceeded: Cell<bool>,
}

impl<'b> Reading<'b> {
    pub(crate) fn new(blobs: &'b dyn Blobs) -> Self {
        Self { blobs, failed: RefCell::new(None), left: Cell::new(READ_BYTES_MAX), exceeded: Cell::new(false) }
    }

    /// The first that could not be read.
    pub(crate) fn failed(&self) -> Option<BlobError> {
        self.failed.borrow().clone()
    }

    /// Another template, condition or schema looks at something.
    fn begin(&self) {
        self.left.set(READ_BYTES_MAX);
        self.exceeded.set(false);
    }

    /// The last look wanted more than [`READ_BYTES_MAX`]: what it got is not all.
    pub(crate) fn exceeded(&self) -> bool {
        self.exceeded.get()
    }

    fn load(&self, blob: &BlobRef) -> Value {
        let Some(left) = self.left.get().checked_sub(blob.bytes) else {
            self.exceeded.set(true);
            return Value::Null;
        };
        self.left.set(left);
        match self.blobs.load(blob) {
            Ok(value) => Arc::unwrap_or_clone(value),
            Err(error) => {
                self.failed.borrow_mut().get_or_insert(error);
                Value::Null
            }
        }
    }

    /// Reads what is at the end of a path and on the way to it.
    fn value_at(&self, value: &mut Value, path: &[String]) {
        // What is kept apart refers to nothing itself.
        if let Some(blob) = BlobRef::of(value) {
            *value = self.load(&blob);
        }
        match (value, path) {
            (Value::Object(fields), [name, rest @ ..]) => {
                if let Some(field) = fields.get_mut(name) {
                    self.value_at(field, rest);
                }
            }
            (Value::Object(fields), []) => fields.values_mut().for_each(|field| self.value_at(field, path)),
            (Value::Array(items), _) => items.iter_mut().for_each(|item| self.value_at(item, &[])),
            _ => {}
        }
    }

    fn node_at(&self, node: &mut Node<'_>, path: &[String]) {
        match (node, path) {
            (Node::Map(fields), [name, rest @ ..]) => {
                if let Some(field) = fields.get_mut(name) {
                    self.node_at(field, rest);
                }
            }
            (Node::Map(fields), []) => fields.values_mut().for_each(|field| self.node_at(field, path)),
            (Node::Owned(value), path) => self.value_at(value, path),
            (node @ Node::Value(_), path) => {
                let Node::Value(value) = &*node else { return };
                if needs_reading(value, path) {
                    let mut read = (*value).clone();
                    self.value_at(&mut read, path);
                    *node = Node::Owned(read);
                }
            }
            (node @ Node::Ref(_), path) => {
                let Node::Ref(other) = &*node else { return };
                let mut own = (*other).clone();
                self.node_at(&mut own, path);
                *node = own;
            }
        }
    }

    /// A value with all that it refers to.
    pub(crate) fn whole(&self, mut value: Value) -> Value {
        self.begin();
        if has_blob_key(&value) {
            self.value_at(&mut value, &[]);
        }
        value
    }

    /// A value whose own reference is read, and not those in it.
    pub(crate) fn opened(&self, value: Value) -> Value {
        self.begin();
        match BlobRef::of(&value) {
            Some(blob) => self.load(&blob),
            None => value,
        }
    }

    /// Checks a value, with all that it refers to, against a schema.
    pub(crate) fn validate(&self, schema: &Schema, value: &Value) -> Result<(), Vec<Violation>> {
        if !has_blob_key(value) {
            return schema.validate(value);
        }
        let whole = self.whole(value.clone());
        if self.exceeded() {
            let message = format!("refers to more than {READ_BYTES_MAX} bytes, the most that are looked at");
            return Err(vec![Violation { path: String::new(), message }]);
        }
        schema.validate(&whole)
    }

    /// The scope with everything read that a condition looks at.
    pub(crate) fn for_condition<'a>(&self, mut scope: Scope<'a>, condition: &Condition) -> Scope<'a> {
        self.begin();
        for path in condition.references() {
            self.scope_at(&mut scope, path);
        }
        scope
    }

    /// The scope with everything read that a template looks into. What it only hands on is not read.
    pub(crate) fn for_template<'a>(&self, unread: &Scope<'a>, template: &Template, everything: bool) -> Scope<'a> {
        self.begin();
        let mut scope = unread.clone();
        if everything {
            let names: BTreeSet<String> = scope.own_names().map(str::to_owned).collect();
            for name in names {
                self.scope_at(&mut scope, &[name]);
            }
            return scope;
        }
        for reference in template.references() {
            // A path that is alone ends at a value to hand on, unless it leads through one that is kept apart.
            if !(reference.alone && unread.leads_somewhere(&reference.path)) {
                self.scope_at(&mut scope, &reference.path);
            }
        }
        scope
    }

    fn scope_at(&self, scope: &mut Scope<'_>, path: &[String]) {
        if let Some((root, rest)) = path.split_first()
            && let Some(node) = scope.node_mut(root)
        {
            self.node_at(node, rest);
        }
    }
}

/// Whether a reference is on the way along a path, or anywhere at its end.
fn needs_reading(value: &Value, path: &[String]) -> bool {
    if BlobRef::of(value).is_some() {
        return true;
    }
    match (value, path) {
        (Value::Object(fields), [name, rest @ ..]) => fields.get(name).is_some_and(|field| needs_reading(field, rest)),
        _ => has_blob_key(value),
    }
}
