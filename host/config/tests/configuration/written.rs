//! What is written about the configuration: committed pages, and what `config show` prints.
//! `UPDATE_CONFIG_PAGES=1 cargo test --workspace --test configuration` writes the pages anew; read the difference.

use std::path::Path;

use compozy_config::{reference, schema};
use serde_json::Value;

use super::support::{Case, file};

fn committed(name: &str, now: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("UPDATE_CONFIG_PAGES").is_some() {
        std::fs::write(&path, now).expect("written");
    }
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(before == now, "{name} is not what the declaration says; run this test with UPDATE_CONFIG_PAGES=1");
}

#[test]
fn the_schema_is_what_is_committed() {
    committed("compozy.schema.json", &schema());
}

#[test]
fn the_reference_is_what_is_committed() {
    committed("REFERENCE.md", &reference());
}

/// The schema says the same as the reader, so that an editor does not mislead.
#[test]
fn the_schema_accepts_what_the_reader_accepts_and_refuses_what_it_refuses() {
    let document: Value = serde_json::from_str(&schema()).expect("JSON");
    let schema = jsonschema::validator_for(&document).expect("a schema");
    let good = [
        "name: p\nmode: distributed\n",
        "retention: 24h\n",
        "retention: { success: 24h, failed: 1h30m }\n",
        "stores: { cache: redis }\nredis: { url: { env: A } }\n",
        "redis: { url: { file: a } }\n",
        "roles: [api, tool-worker]\nengine: { kind: temporal, temporal: { managed: true, tls: { domain: x } } }\n",
        "worker: { plugins: [a], concurrency: { a: 3, b: 4 } }\n",
        "plugins: { files: { grant: { sql: true, folders: [{ guest: /a, host: b }] }, limits: { fuel: 3, memory_bytes: 64MiB }, concurrency: 2 } }\n",
        "rate_limit: { requests: 5, per: 1s }\nlisten: 0.0.0.0:80\ndrain: 0s\nplugin_dirs: [a, b]\n",
    ];
    let bad = [
        "mod: standalone\n",
        "mode: both\n",
        "retention: 7\n",
        "retention: { cancelled: 1h }\n",
        "stores: { lock: redis }\n",
        "redis: { url: { environment: A } }\n",
        "roles: [api, api]\n",
        "roles: api\n",
        "worker: { concurrency: { a: 0 } }\n",
        "plugins: { files: { grant: { network: true } } }\n",
        "engine: temporal\n",
        "engine: { temporal: { address: 127.0.0.1 } }\n",
        "drain: 10\n",
    ];
    for (text, fine) in good.iter().map(|text| (text, true)).chain(bad.iter().map(|text| (text, false))) {
        let node =
            compozy_plan::parse_document(&compozy_plan::SourceFile { path: String::new(), text: (*text).to_owned() });
        let value = node.value.expect("YAML").json();
        assert_eq!(schema.is_valid(&value), fine, "{text}");
        let refused = file(text).read().problems.iter().any(|problem| {
            matches!(problem.code, "CONFIG_INVALID_VALUE" | "CONFIG_INVALID_SECRET" | "CONFIG_UNKNOWN_KEY")
        });
        let source = compozy_plan::SourceFile { path: String::new(), text: format!("{text}version: 0.1.0\n") };
        let unknown =
            compozy_plan::parse_project(&source).diagnostics.iter().any(|problem| problem.code == "PLAN_UNKNOWN_KEY");
        assert_eq!(!(refused || unknown), fine, "{text}");
    }
}

#[test]
fn every_value_is_shown_with_its_place_and_secrets_are_not() {
    let loaded = Case {
        file: "name: shop\nredis: { url: redis://:hunter2@h }\nengine:\n  temporal: { api_key: { env: KEY } }\nplugins: { files: { grant: { sql: true } } }\n",
        environment: &[("COMPOZY_DRAIN", "90s"), ("KEY", "hunter3")],
        flags: &[("listen", "0.0.0.0:1"), ("worker.concurrency.files", "4")],
    }
    .read();
    let text = loaded.settings.to_text();
    let line = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{key} in\n{text}"));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for (key, expected) in [
        ("mode", "mode standalone default"),
        ("stores.cache", "stores.cache sqlite default of the mode"),
        ("drain", "drain 1m30s COMPOZY_DRAIN"),
        ("listen", "listen 0.0.0.0:1 --set"),
        ("worker.concurrency", "worker.concurrency.files 4 --set"),
        ("redis.url", "redis.url *** p/compozy.yaml:2"),
        ("engine.temporal.api_key", "engine.temporal.api_key *** (environment KEY) p/compozy.yaml:4"),
        ("engine.temporal.project", "engine.temporal.project shop default"),
        ("plugins.files.grant.sql", "plugins.files.grant.sql true p/compozy.yaml:5"),
        ("rate_limit.requests", "rate_limit.requests (no limit) default"),
    ] {
        assert_eq!(line(key), expected);
    }
    let json = loaded.settings.to_json();
    let of = |key: &str| json.as_array().and_then(|all| all.iter().find(|entry| entry["key"] == key)).cloned();
    let url = of("redis.url").expect("there");
    assert_eq!(
        (&url["value"], &url["origin"]["line"], &url["origin"]["from"]),
        (&"***".into(), &2.into(), &"file".into())
    );
    let everything = format!("{text}{json}{loaded:?}");
    assert!(!everything.contains("hunter"), "{everything}");
}
