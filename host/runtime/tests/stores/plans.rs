//! How SQLite carries out the plugin's statements. They are taken from its source, so that none is forgotten.

use std::path::Path;

use crate::support::Host;

/// The texts of all `statement!("...")` in a file.
fn statements(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]").next().unwrap();
    let texts = source.split("statement!(").skip(1).filter_map(|rest| {
        let text = rest.trim_start().strip_prefix('"')?;
        Some(text.split_once('"').unwrap().0.to_owned())
    });
    texts.collect()
}

fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.extend(statements(&std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// Whether a step looks at a whole table or sorts.
fn is_slow(step: &str) -> bool {
    let scan = step.strip_prefix("SCAN ").is_some_and(|rest| {
        // These have one row, or as many as a LIMIT within the statement lets through.
        let bounded = ["fence", "CONSTANT ROW", "pragma_", "both", "(subquery", "sqlite_master"];
        !bounded.iter().any(|name| rest.starts_with(name))
    });
    scan || step.contains("USE TEMP B-TREE")
}

/// The steps in which SQLite carries a statement out.
fn plan(database: &rusqlite::Connection, sql: &str) -> Vec<String> {
    let mut explain =
        database.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let unbound = vec![rusqlite::types::Null; explain.parameter_count()];
    let steps = explain.query_map(rusqlite::params_from_iter(unbound), |row| row.get(3)).unwrap();
    steps.map(Result::unwrap).collect()
}

#[tokio::test]
async fn statements_use_indexes_and_sort_nothing() {
    let host = Host::new().await;
    host.cache().health().await.unwrap();
    let database = host.database();
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/sqlite/src"), &mut found);
    assert!(found.len() > 60, "only {} statements were found", found.len());
    let (scans, sorts) =
        ("SELECT 1 FROM cache WHERE version = 1", "SELECT key FROM cache WHERE key > 1 ORDER BY version");
    for sql in [scans, sorts] {
        assert!(plan(&database, sql).iter().any(|step| is_slow(step)), "what this test looks for: {sql}");
    }
    let mut slow = Vec::new();
    for sql in &found {
        // Statistics count, up to a bound of their own.
        if sql.starts_with("SELECT count(*)") && sql.contains("LIMIT ?1") {
            continue;
        }
        let steps: Vec<String> = plan(&database, sql).into_iter().filter(|step| is_slow(step)).collect();
        if !steps.is_empty() {
            slow.push(format!("{sql}\n    {}", steps.join("\n    ")));
        }
    }
    assert!(slow.is_empty(), "{}", slow.join("\n"));
}

#[tokio::test]
async fn reading_on_is_a_range_of_the_primary_key() {
    let host = Host::new().await;
    host.events().health().await.unwrap();
    let database = host.database();
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/sqlite/src/events"), &mut found);
    let reads: Vec<&String> = found.iter().filter(|sql| sql.contains("event.sequence >= max(")).collect();
    assert_eq!(reads.len(), 2, "reading, and finding out how much of it fits");
    for sql in reads {
        let steps = plan(&database, sql);
        assert!(steps.iter().any(|step| step.contains("PRIMARY KEY (stream=? AND sequence>?)")), "{sql}\n{steps:?}");
    }
}
