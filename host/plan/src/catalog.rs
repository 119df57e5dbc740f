//! Which plugins and actions there are, as far as a document needs to know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What plugins exist. Documents are checked against it when there is one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    /// The actions of each plugin, its default one first.
    pub plugins: BTreeMap<String, Vec<CatalogAction>>,
}

/// One action of a plugin.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CatalogAction {
    /// Its name.
    pub name: String,
    /// The JSON schema of its input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Value>,
}
