//! One version of each dependency, but for those that are listed with a reason.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::policy::{self, Policy};
use super::{Findings, dependencies};
use crate::workspace::{Package, Workspace};

type Versions = BTreeMap<String, BTreeSet<String>>;

pub(super) fn check(workspace: &Workspace) -> Result<Findings> {
    Ok(findings(&policy::load()?, &versions(&dependencies::foreign(workspace)?)))
}

fn versions(packages: &[Package]) -> Versions {
    let mut versions = Versions::new();
    for package in packages {
        versions.entry(package.name.clone()).or_default().insert(package.version.clone());
    }
    versions
}

fn findings(policy: &Policy, found: &Versions) -> Findings {
    let mut findings = Findings::default();
    let allowed = |name: &str| {
        let listed = policy.duplicates.iter().filter(|duplicate| duplicate.names.iter().any(|listed| listed == name));
        listed.map(|duplicate| duplicate.versions).max().unwrap_or(1)
    };
    for (name, versions) in found.iter().filter(|(name, versions)| versions.len() > allowed(name)) {
        let list = versions.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        findings.problems.push(format!(
            "{name} is there in {} versions ({list}), {} allowed; bring them together, or list it with the reason in \
             host/xtask/dependencies.toml (`cargo tree --invert {name}@<version>` shows who uses it)",
            versions.len(),
            allowed(name)
        ));
    }
    for name in policy.duplicates.iter().flat_map(|duplicate| &duplicate.names) {
        let count = found.get(name).map_or(0, BTreeSet::len);
        if count < allowed(name) {
            findings.notes.push(format!("host/xtask/dependencies.toml allows more versions of {name} than there are"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::policy::Duplicate;

    fn found(list: &[(&str, &[&str])]) -> Versions {
        list.iter().map(|(name, all)| ((*name).to_owned(), all.iter().map(|one| (*one).to_owned()).collect())).collect()
    }

    #[test]
    fn only_listed_duplicates_pass() {
        let duplicate = Duplicate { names: vec!["syn".into(), "old".into()], versions: 2, reason: "macros".into() };
        let policy = Policy { licences: Vec::new(), licence_exceptions: Vec::new(), duplicates: vec![duplicate] };

        let fine = findings(
            &policy,
            &found(&[("syn", &["2.0.1", "3.0.0"]), ("old", &["1.0.0", "2.0.0"]), ("serde", &["1.0.0"])]),
        );
        assert_eq!(fine, Findings::default());

        let more = findings(&policy, &found(&[("syn", &["1.0.0", "2.0.1", "3.0.0"]), ("serde", &["0.9.0", "1.0.0"])]));
        assert_eq!(more.problems.len(), 2, "{more:?}");
        assert!(more.problems[0].starts_with("serde is there in 2 versions (0.9.0, 1.0.0), 1 allowed"), "{more:?}");
        assert!(more.problems[1].starts_with("syn is there in 3 versions"), "{more:?}");
        assert_eq!(more.notes, ["host/xtask/dependencies.toml allows more versions of old than there are"]);
    }
}
