//! In which order tasks begin, and how many at once: what a plan says, for the engine to enforce.

use serde::{Deserialize, Serialize};

use crate::template::Template;

/// The most urgent priority.
pub const PRIORITY_FIRST: u8 = 1;
/// The priority of a task when nobody says anything.
pub const PRIORITY_DEFAULT: u8 = 3;
/// The least urgent priority.
pub const PRIORITY_LAST: u8 = 5;

/// How a task waits for its turn.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DispatchPolicy {
    /// [`PRIORITY_FIRST`] to [`PRIORITY_LAST`], if the task says so itself. Else that of the run counts, which is
    /// [`crate::plan::Plan::priority`] unless its start said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// All of them must leave room.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<ConcurrencyLimit>,
}

impl DispatchPolicy {
    /// True when the task says nothing.
    pub fn is_default(&self) -> bool {
        self.priority.is_none() && self.limits.is_empty()
    }
}

/// How many attempts may run at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConcurrencyLimit {
    /// Among which tasks it is counted: those of the same scope and the same rendered key, in all runs.
    pub scope: String,
    /// Renders to the key; `None` counts the whole scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Template>,
    /// Attempts at once, 1 to [`crate::limits::CONCURRENCY_LIMIT_MAX`].
    pub limit: u32,
}
