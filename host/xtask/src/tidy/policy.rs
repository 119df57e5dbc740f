//! What is allowed in dependencies: `host/xtask/dependencies.toml`.

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    pub(super) licences: Vec<String>,
    /// Packages whose licence is acceptable though no expression says so.
    #[serde(default)]
    pub(super) licence_exceptions: Vec<LicenceException>,
    #[serde(default)]
    pub(super) duplicates: Vec<Duplicate>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LicenceException {
    pub(super) name: String,
    pub(super) reason: String,
}

/// A package that is there in several versions, and why that cannot be helped.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Duplicate {
    pub(super) names: Vec<String>,
    /// How many versions of each.
    pub(super) versions: usize,
    pub(super) reason: String,
}

/// The policy of this repository.
pub(super) fn load() -> Result<Policy> {
    parse(include_str!("../../dependencies.toml")).context("host/xtask/dependencies.toml")
}

fn parse(text: &str) -> Result<Policy> {
    let policy: Policy = toml::from_str(text)?;
    for LicenceException { name, reason } in &policy.licence_exceptions {
        if reason.trim().is_empty() {
            bail!("the licence exception for `{name}` has no reason");
        }
    }
    for Duplicate { names, versions, reason } in &policy.duplicates {
        if reason.trim().is_empty() || *versions < 2 {
            bail!("the duplicates {names:?} need a reason and a number of versions above 1");
        }
    }
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_can_be_read() {
        let policy = load().expect("reads");
        assert!(policy.licences.iter().any(|licence| licence == "MIT"));
    }

    #[test]
    fn an_exception_needs_a_reason() {
        for text in [
            "licences = []\n[[duplicates]]\nnames = [\"a\"]\nversions = 2\nreason = \" \"",
            "licences = []\n[[duplicates]]\nnames = [\"a\"]\nversions = 1\nreason = \"b\"",
            "licences = []\n[[licence_exceptions]]\nname = \"a\"\nreason = \"\"",
            "licences = []\nextra = 1",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
