//! Which crate may depend on which: the map of ARCHITECTURE.md, enforced.

use std::path::Path;

use anyhow::Result;

use super::Findings;
use crate::workspace::{Package, Workspace};

/// What each crate may use of this repository. A crate in `plugins/` or `tests/guests/` may use [`SDK`] alone.
const ALLOWED: [(&str, &[&str]); 21] = [
    ("compozy-plan", &[]),
    ("compozy-config", &["compozy-plan"]),
    ("compozy-interpreter", &["compozy-plan"]),
    ("compozy-engine", &["compozy-interpreter", "compozy-plan"]),
    ("compozy-dev-server", &[]),
    ("compozy-temporal", &["compozy-engine", "compozy-interpreter", "compozy-plan", "temporal-test-server"]),
    ("compozy-runtime", &["redis-test-server"]),
    ("compozy-server", &["compozy-engine", "compozy-interpreter", "compozy-plan", "compozy-runtime"]),
    ("compozy-conformance", &["compozy-runtime", "redis-test-server"]),
    // Large values on other machines; the engine knows only its port.
    ("compozy-blobs", &["compozy-engine", "s3-test-server"]),
    (
        "compozy-embed",
        &[
            "compozy-blobs",
            "compozy-config",
            "compozy-dev-server",
            "compozy-engine",
            "compozy-interpreter",
            "compozy-plan",
            "compozy-runtime",
            "compozy-server",
            "compozy-temporal",
            "redis-test-server",
        ],
    ),
    (
        "compozy-host",
        &[
            "compozy-config",
            "compozy-conformance",
            "compozy-dev-server",
            "compozy-embed",
            "compozy-engine",
            "compozy-interpreter",
            "compozy-plan",
            "compozy-runtime",
            "compozy-server",
            "compozy-temporal",
        ],
    ),
    (
        "compozy-tests",
        &[
            "compozy-embed",
            "compozy-engine",
            "compozy-interpreter",
            "compozy-plan",
            "compozy-runtime",
            "compozy-server",
            "compozy-temporal",
            "redis-test-server",
            "s3-test-server",
            "temporal-test-server",
        ],
    ),
    // Engines are compared with the tasks that a host would run.
    (
        "compozy-equivalence",
        &[
            "compozy-embed",
            "compozy-engine",
            "compozy-interpreter",
            "compozy-plan",
            "compozy-runtime",
            "compozy-temporal",
            "temporal-test-server",
        ],
    ),
    // Proofs of the embedded engine: simulated disks, clocks and executors.
    ("compozy-proof", &["compozy-engine", "compozy-interpreter", "compozy-plan", "compozy-tests"]),
    // A real redis-server for tests and benchmarks: of the host's crates, only their tests use it.
    // As an author's own program would.
    ("embedded-example", &["compozy-embed"]),
    ("redis-test-server", &[]),
    // The same for Temporal, started as the host starts its own.
    ("temporal-test-server", &["compozy-dev-server"]),
    ("s3-test-server", &[]),
    ("compozy-sdk", &[]),
    ("xtask", &["redis-test-server", "temporal-test-server"]),
];
/// What only the tests of a crate may use of this repository, beside that.
const ALLOWED_IN_TESTS: [(&str, &str); 1] = [("compozy-temporal", "compozy-blobs")];
const SDK: &str = "compozy-sdk";

/// Foreign crates that only some may use, with the reason. `*` stands for any ending.
const RESERVED: [(&str, &[&str], &str); 4] = [
    ("wasmtime*", &["compozy-runtime", "compozy-tests"], "only the runtime knows how components are run"),
    ("temporalio-*", &["compozy-temporal", "compozy-tests"], "only the engine on Temporal knows its protocol"),
    ("axum*", &["compozy-server", "compozy-host"], "only the server knows HTTP"),
    (
        "rusqlite",
        &["compozy-engine", "compozy-proof", "compozy-runtime", "compozy-tests"],
        "only the journal and `host/sql` know SQL",
    ),
];

#[expect(clippy::unnecessary_wraps, reason = "all checks have one signature")]
pub(super) fn check(workspace: &Workspace) -> Result<Findings> {
    Ok(Findings { problems: problems(&workspace.root, &workspace.members), notes: Vec::new() })
}

fn problems(root: &Path, members: &[Package]) -> Vec<String> {
    let mut problems = Vec::new();
    for package in members {
        let name = package.name.as_str();
        let Some(allowed) = allowed(root, package) else {
            problems.push(format!(
                "`{name}` has no place in the dependency map; give it one in host/xtask/src/tidy/edges.rs and in ARCHITECTURE.md"
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let used = dependency.name.as_str();
            let ours = members.iter().any(|member| member.name == used);
            let in_tests = dependency.kind.as_deref() == Some("dev") && ALLOWED_IN_TESTS.contains(&(name, used));
            if ours && !in_tests && !allowed.contains(&used) {
                let may =
                    if allowed.is_empty() { "no crate of this repository".to_owned() } else { allowed.join(", ") };
                problems.push(format!("`{name}` depends on `{used}`, which points the wrong way; it may use: {may}"));
            }
            for (pattern, users, reason) in RESERVED {
                if matches(pattern, used) && !users.contains(&name) {
                    problems.push(format!("`{name}` depends on `{used}`: {reason} ({})", users.join(", ")));
                }
            }
        }
    }
    problems
}

fn allowed(root: &Path, package: &Package) -> Option<&'static [&'static str]> {
    let folder = package.folder();
    if folder.starts_with(root.join("plugins")) || folder.starts_with(root.join("tests/guests")) {
        return Some(&[SDK]);
    }
    ALLOWED.iter().find(|(name, _)| *name == package.name).map(|(_, allowed)| *allowed)
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn package(folder: &str, name: &str, uses: &[&str]) -> Package {
        Package {
            id: name.to_owned(),
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            license: None,
            source: None,
            manifest_path: Path::new("/r").join(folder).join("Cargo.toml"),
            dependencies: uses.iter().map(|name| Dependency { name: (*name).to_owned(), kind: None }).collect(),
            targets: Vec::new(),
        }
    }

    fn found(packages: &[Package]) -> Vec<String> {
        problems(Path::new("/r"), packages)
    }

    #[test]
    fn the_map_allows_what_it_shows() {
        let packages = [
            package("host/plan", "compozy-plan", &["serde"]),
            package("host/interpreter", "compozy-interpreter", &["compozy-plan"]),
            package("host/engine", "compozy-engine", &["compozy-interpreter", "rusqlite"]),
            package("host/runtime", "compozy-runtime", &["wasmtime", "wasmtime-wasi", "rusqlite"]),
            package("host/server", "compozy-server", &["compozy-engine", "compozy-runtime", "axum"]),
            package("host/cli", "compozy-host", &["compozy-server", "compozy-engine", "compozy-runtime"]),
            package("sdk", "compozy-sdk", &[]),
            package("plugins/new", "plugin-new", &["compozy-sdk", "serde"]),
        ];
        assert_eq!(found(&packages), Vec::<String>::new());
    }

    #[test]
    fn each_wrong_edge_is_named() {
        for (folder, name, uses, parts) in [
            ("host/plan", "compozy-plan", "compozy-interpreter", ["`compozy-plan`", "no crate of this repository"]),
            ("host/runtime", "compozy-runtime", "compozy-engine", ["`compozy-engine`", "wrong way"]),
            (
                "host/engine",
                "compozy-engine",
                "compozy-runtime",
                ["`compozy-runtime`", "compozy-interpreter, compozy-plan"],
            ),
            ("host/xtask", "xtask", "compozy-plan", ["`xtask`", "wrong way"]),
            ("plugins/a", "plugin-a", "compozy-plan", ["`plugin-a`", "compozy-sdk"]),
            ("host/server", "compozy-server", "wasmtime-wasi-http", ["`wasmtime-wasi-http`", "only the runtime"]),
            ("host/engine", "compozy-engine", "axum", ["`axum`", "only the server"]),
            ("host/cli", "compozy-host", "rusqlite", ["`rusqlite`", "SQL"]),
        ] {
            let others = ["compozy-plan", "compozy-interpreter", "compozy-engine", "compozy-runtime"];
            let others = others.iter().filter(|other| **other != name);
            let mut packages: Vec<_> = others.map(|other| package("host/x", other, &[])).collect();
            packages.push(package(folder, name, &[uses]));
            let problems = found(&packages);
            assert_eq!(problems.len(), 1, "{name} -> {uses}: {problems:?}");
            assert!(parts.iter().all(|part| problems[0].contains(part)), "{problems:?}");
        }
    }

    #[test]
    fn what_only_tests_may_use_no_product_may() {
        let mut temporal = package("host/temporal", "compozy-temporal", &["compozy-blobs"]);
        let blobs = package("host/blobs", "compozy-blobs", &[]);
        let problems = found(&[temporal.clone(), blobs.clone()]);
        assert!(problems.len() == 1 && problems[0].contains("wrong way"), "{problems:?}");
        temporal.dependencies[0].kind = Some("dev".to_owned());
        assert_eq!(found(&[temporal, blobs]), Vec::<String>::new());
    }

    #[test]
    fn a_crate_without_a_place_is_refused() {
        let problems = found(&[package("host/odd", "compozy-odd", &[])]);
        assert!(problems.len() == 1 && problems[0].contains("`compozy-odd` has no place"), "{problems:?}");
    }
}
