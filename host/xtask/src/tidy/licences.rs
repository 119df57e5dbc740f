//! Every dependency may be used and passed on under a licence that we accept.

use anyhow::Result;

use super::policy::{self, Policy};
use super::{Findings, dependencies, spdx};
use crate::workspace::{Package, Workspace};

pub(super) fn check(workspace: &Workspace) -> Result<Findings> {
    let policy = policy::load()?;
    let packages = dependencies::foreign(workspace)?;
    let problems = packages.iter().filter_map(|package| problem(&policy, package)).collect();
    Ok(Findings { problems, notes: Vec::new() })
}

fn problem(policy: &Policy, package: &Package) -> Option<String> {
    let Package { name, version, license, .. } = package;
    if policy.licence_exceptions.iter().any(|exception| exception.name == *name) {
        return None;
    }
    let Some(licence) = license else {
        return Some(format!(
            "{name} {version} declares no licence; read it, and list it in host/xtask/dependencies.toml"
        ));
    };
    match spdx::satisfied(licence, |term| policy.licences.iter().any(|allowed| allowed == term)) {
        Ok(true) => None,
        Ok(false) => Some(format!(
            "{name} {version} has the licence `{licence}`, which host/xtask/dependencies.toml does not allow"
        )),
        Err(error) => Some(format!("{name} {version}: the licence `{licence}` cannot be understood: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::policy::LicenceException;
    use std::path::PathBuf;

    #[test]
    fn what_is_not_allowed_is_named() {
        let exception = LicenceException { name: "known".to_owned(), reason: "read".to_owned() };
        let policy =
            Policy { licences: vec!["MIT".to_owned()], licence_exceptions: vec![exception], duplicates: Vec::new() };
        for (name, licence, expected) in [
            ("a", Some("MIT OR GPL-3.0-only"), None),
            ("a", Some("GPL-3.0-only"), Some("`GPL-3.0-only`")),
            ("a", Some("MIT AND"), Some("cannot be understood")),
            ("a", None, Some("declares no licence")),
            ("known", None, None),
        ] {
            let package = Package {
                id: String::new(),
                name: name.to_owned(),
                version: "1.0.0".to_owned(),
                license: licence.map(str::to_owned),
                source: None,
                manifest_path: PathBuf::new(),
                dependencies: Vec::new(),
                targets: Vec::new(),
            };
            let found = problem(&policy, &package);
            match expected {
                None => assert_eq!(found, None),
                Some(part) => assert!(found.as_ref().is_some_and(|found| found.contains(part)), "{found:?}"),
            }
        }
    }
}
