//! Conditions in CEL.

use serde::{Deserialize, Serialize};

/// A compiled condition.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Condition(String);
