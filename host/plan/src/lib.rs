//! Documents in, validated plans out. Pure: no clock, no I/O, no randomness, no async.
//!
//! [`parse_project`] reads a project file and [`compile_workflow`] a workflow file of it. Both answer an [`Outcome`]:
//! every problem of the file at once, each with its place, a stable code and what to do, and the value when there is no
//! error among them.

pub mod blob;
mod catalog;
pub mod condition;
mod diagnostic;
pub mod dispatch;
pub mod limits;
pub mod plan;
mod policy;
mod project;
mod reader;
pub mod schema;
pub mod scope;
mod shared;
mod suggest;
pub mod template;
mod workflow;
mod yaml;

pub use catalog::{Catalog, CatalogAction};
pub use diagnostic::{Diagnostic, Outcome, Position, Severity};
pub use policy::parse_duration;
pub use project::{
    Folder, FolderAccess, Grant, OPERATOR_KEYS, PROJECT_KEYS, PluginSettings, Project, WorkflowSource, parse_project,
};
pub use suggest::{cut, hint, nearest};
pub use workflow::compile_workflow;
pub use yaml::{Data, Key, Node, parse_document};

/// A file's text, with its path for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// The path as a person knows it.
    pub path: String,
    /// The whole text.
    pub text: String,
}
