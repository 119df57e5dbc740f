//! JSON Schema.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A compiled schema.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Schema(Value);
