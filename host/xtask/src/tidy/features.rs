//! The demo, the tests and the benchmarks share what is compiled.
//!
//! Cargo compiles a package anew for each set of features. A feature that only a development dependency asks for makes
//! `cargo test` compile that package, and all that stand on it, a second time; with wasmtime among them that is minutes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::Findings;
use crate::process;
use crate::workspace::Workspace;

/// The sets of features that each foreign package is compiled with.
type Features = BTreeMap<String, BTreeSet<BTreeSet<String>>>;

pub(super) fn check(workspace: &Workspace) -> Result<Findings> {
    // As `build::programs` selects them, and as the tests do. What only build scripts use is compiled for them alone.
    let programs = tree(workspace, &["--exclude", "xtask", "--edges", "normal"])?;
    let tests = tree(workspace, &["--edges", "normal,dev"])?;
    Ok(Findings { problems: problems(&parse(&programs), &parse(&tests)), notes: Vec::new() })
}

fn tree(workspace: &Workspace, options: &[&str]) -> Result<String> {
    let mut command = process::cargo(&workspace.root);
    command.args(["tree", "--workspace", "--prefix", "none", "--format", "{p}|{f}"]).args(options);
    process::output(&mut command)
}

/// Lines like `serde v1.0.0|default,std (*)`; packages of this repository have their folder behind the version.
fn parse(tree: &str) -> Features {
    let mut all = Features::new();
    for line in tree.lines() {
        let Some((package, features)) = line.split_once('|') else { continue };
        if package.contains(" (/") {
            continue;
        }
        let features = features.trim_end_matches("(*)").trim();
        let features = features.split(',').filter(|feature| !feature.is_empty()).map(str::to_owned).collect();
        all.entry(package.to_owned()).or_default().insert(features);
    }
    all
}

fn problems(programs: &Features, tests: &Features) -> Vec<String> {
    let mut problems = Vec::new();
    for (package, sets) in programs {
        let Some(in_tests) = tests.get(package) else { continue };
        if sets.is_subset(in_tests) {
            continue;
        }
        let (ours, theirs): (BTreeSet<_>, BTreeSet<_>) =
            (sets.iter().flatten().collect(), in_tests.iter().flatten().collect());
        let more: Vec<&str> = theirs.difference(&ours).map(|feature| feature.as_str()).collect();
        problems.push(format!(
            "{package} is compiled once for the programs and again for the tests, which add the features {more:?}; add them to \
             the package in [workspace.dependencies], or leave them out of the development dependencies"
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAMS: &str =
        "compozy-host v0.1.0 (/r/host/cli)|\nrustix v1.1.6|fs,std\nserde v1.0.0|std\nserde v1.0.0|std (*)\n\n";

    #[test]
    fn packages_that_only_tests_use_are_no_matter() {
        let tests =
            "rustix v1.1.6|fs,std\nserde v1.0.0|std\nproptest v1.0.0|std\ncompozy-host v0.1.0 (/r/host/cli)|x\n";
        assert_eq!(problems(&parse(PROGRAMS), &parse(tests)), Vec::<String>::new());
    }

    #[test]
    fn a_feature_that_only_tests_ask_for_is_named() {
        let tests = "rustix v1.1.6|fs,std,thread\nserde v1.0.0|std\n";
        let found = problems(&parse(PROGRAMS), &parse(tests));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("rustix v1.1.6 ") && found[0].contains("[\"thread\"]"), "{found:?}");
    }

    #[test]
    fn a_package_may_be_compiled_in_two_ways_for_both() {
        // For build scripts with one set of features, for the programs with another.
        let both = "syn v2.0.0 (proc-macro)|a\nsyn v2.0.0|a\nsyn v2.0.0|a,b\n";
        assert_eq!(problems(&parse(both), &parse(both)), Vec::<String>::new());
    }
}
