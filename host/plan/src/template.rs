//! Templates: see the module's tests for the grammar.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A compiled template.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Template(Value);
