//! The table of keys is consistent, and all of it reaches the configuration.

use std::collections::BTreeSet;

use compozy_config::key::Scope;
use compozy_config::keys::find;
use compozy_config::limits::{LIST_ITEMS_MAX, NAME_CHARS_MAX, TEXT_BYTES_MAX};
use compozy_config::value::{Raw, parse};
use compozy_config::{KEYS, Kind, Preset, SECTIONS};

#[test]
fn names_are_unique_and_every_key_is_described() {
    let (mut paths, mut names) = (BTreeSet::new(), BTreeSet::new());
    for key in KEYS {
        assert!(paths.insert(key.path), "{} is declared twice", key.path);
        if let Some(name) = key.environment() {
            assert!(names.insert(name.clone()), "{name} stands for two keys");
        }
        assert!(key.doc.ends_with('.') && !key.example.is_empty(), "{} has no sentence or example", key.path);
        if let Some((section, _)) = key.path.rsplit_once('.') {
            assert!(SECTIONS.iter().any(|known| known.path == section), "`{section}` is no section");
        }
    }
}

#[test]
fn the_projects_reader_knows_the_same_keys() {
    let tops: BTreeSet<&str> = KEYS.iter().filter_map(|key| key.path.split('.').next()).collect();
    let mut theirs: BTreeSet<&str> = compozy_plan::OPERATOR_KEYS.iter().copied().collect();
    theirs.insert("plugins");
    assert_eq!(tops, theirs);
}

#[test]
fn every_default_and_every_example_is_a_value_of_its_kind() {
    for key in KEYS.iter().filter(|key| key.scope == Scope::Everywhere) {
        let texts: &[&str] = match &key.preset {
            Preset::Is(text) => &[text],
            Preset::ByMode(alone, together) => &[alone, together],
            Preset::ProjectName(other) => &[other],
            Preset::Unset(_) => &[],
        };
        for text in texts {
            assert!(parse(key.kind, Raw::Text(text)).is_ok(), "{}: {text}", key.path);
        }
    }
    // The file's own reader judges the examples: each is put where it belongs.
    for key in KEYS {
        let path = key.path.replace('*', "some_bytes");
        let mut text = String::from("name: p\n");
        let parts: Vec<&str> = path.split('.').collect();
        for (depth, part) in parts.iter().enumerate() {
            text += &format!("{}{part}:", "  ".repeat(depth));
            text += &if depth + 1 == parts.len() { format!(" {}\n", key.example) } else { "\n".to_owned() };
        }
        let loaded = super::support::file(&text).read();
        let refused = loaded.problems.iter().find(|problem| problem.code == "CONFIG_INVALID_VALUE");
        assert!(refused.is_none(), "{}: {refused:?}", key.path);
        assert!(loaded.settings.is_set(&path) || key.path == "retention", "{path}");
        let project = compozy_plan::parse_project(&compozy_plan::SourceFile { path: "c".to_owned(), text });
        assert!(project.diagnostics.is_empty(), "{}: {:?}", key.path, project.diagnostics);
    }
}

/// Every bound that the reference names is enforced, on both sides.
#[test]
fn every_bound_of_every_key_fires() {
    let fine = |kind: Kind, text: &str| parse(kind, Raw::Text(text)).is_ok();
    let mut bounded = 0;
    for key in KEYS.iter().filter(|key| key.scope == Scope::Everywhere) {
        let (good, bad): (Vec<String>, Vec<String>) = match key.kind {
            Kind::Time { min, max } => {
                let ms = |ms: u64| format!("{ms}ms");
                let below = min.checked_sub(1).map(ms);
                (vec![ms(min), ms(max)], below.into_iter().chain([ms(max + 1)]).collect())
            }
            Kind::Count { min, max, .. } => {
                (vec![min.to_string(), max.to_string()], vec![(min - 1).to_string(), (max + 1).to_string()])
            }
            Kind::Name => (vec!["x".repeat(NAME_CHARS_MAX)], vec!["x".repeat(NAME_CHARS_MAX + 1), "a b".to_owned()]),
            Kind::Text | Kind::Path | Kind::Secret => {
                (vec!["x".repeat(TEXT_BYTES_MAX)], vec!["x".repeat(TEXT_BYTES_MAX + 1), String::new()])
            }
            Kind::Names => {
                let many = |count: usize| (0..count).map(|n| format!("p{n}")).collect::<Vec<_>>().join(",");
                (vec![many(LIST_ITEMS_MAX)], vec![many(LIST_ITEMS_MAX + 1), "a,a".to_owned()])
            }
            _ => continue,
        };
        bounded += 1;
        for text in good {
            assert!(fine(key.kind, &text), "{} takes {:.80}", key.path, text);
        }
        for text in bad {
            assert!(!fine(key.kind, &text), "{} refuses {:.80}", key.path, text);
        }
    }
    assert!(bounded > 30, "{bounded}");
}

#[test]
fn names_in_paths_find_their_key() {
    for (path, key) in [
        ("engine.temporal.address", Some("engine.temporal.address")),
        ("worker.concurrency.weather", Some("worker.concurrency.*")),
        ("worker.concurrency.a.b", Some("worker.concurrency.*")),
        ("plugins.files.limits.fuel", Some("plugins.*.limits.*")),
        ("plugins.files.grant.env.LEVEL", Some("plugins.*.grant.env.*")),
        ("retention", Some("retention")),
        ("worker.concurrency", None),
        ("worker.concurrency.", None),
        ("plugins.files", None),
        ("engine", None),
        ("", None),
    ] {
        assert_eq!(find(path).map(|key| key.path), key, "{path}");
    }
}
