//! What the background does, and what reads must not do: writing.

use compozy_runtime::stores::{Assignment, Attempt, Condition, Keep, Namespace, Span};

use crate::support::{Host, messages, ms};

const ALWAYS: Condition = Condition::Always;

fn count(host: &Host, table: &str) -> u32 {
    host.database().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

/// Changes whenever another connection has written.
fn version(database: &rusqlite::Connection) -> i64 {
    database.query_row("PRAGMA data_version", [], |row| row.get(0)).unwrap()
}

/// Sweeps one role.
async fn sweep(host: &Host, role: &str, max: u32) -> u32 {
    match role {
        "cache" => host.cache().sweep(max).await,
        "locks" => host.locks().sweep(max).await,
        "config" => host.config().sweep(max).await,
        _ => host.memory().sweep(max).await,
    }
    .unwrap()
}

async fn fill(host: &Host) {
    let one = messages(&[("a", 1)]);
    for number in 0..30 {
        let (old, new) = (format!("old{number}"), format!("new{number}"));
        for (key, ttl) in [(&old, 10), (&new, 1_000)] {
            host.cache().set(key, b"v", ms(ttl), ALWAYS).await.unwrap();
            host.locks().acquire(key, ms(ttl).unwrap(), "").await.unwrap();
            host.config().save(Namespace::Config, key, b"v", ms(ttl)).await.unwrap();
            host.memory().append(key, &one, ms(ttl), None).await.unwrap();
        }
        host.config().save(Namespace::Metadata, &new, b"v", None).await.unwrap();
    }
}

#[tokio::test]
async fn a_sweep_removes_what_has_expired_in_bounded_steps() {
    let host = Host::new().await;
    fill(&host).await;
    let tables = [("cache", "cache", 60), ("locks", "lock", 60), ("config", "config", 90), ("memory", "memory", 60)];
    for (role, table, before) in tables {
        assert_eq!(sweep(&host, role, 1_000).await, 0, "{role}: nothing has expired yet");
        assert_eq!(count(&host, table), before, "{role}");
    }
    host.turn_clock(10);
    for (role, table, before) in tables {
        assert_eq!(count(&host, table), before, "{role}: only a sweep removes");
        for (max, removed) in [(7, 7), (20, 20), (1_000, 3), (1_000, 0)] {
            assert_eq!(sweep(&host, role, max).await, removed, "{role}");
        }
        assert_eq!(count(&host, table), before - 30, "{role}");
    }
}

#[tokio::test]
async fn a_large_memory_shrinks_from_sweep_to_sweep() {
    let host = Host::new().await;
    let memory = host.memory();
    memory.append("m", &messages(&[("a", 3); 25]), ms(10), None).await.unwrap();
    memory.append("other", &messages(&[("a", 1)]), None, None).await.unwrap();
    memory.mark_flush_pending("m").await.unwrap();
    host.turn_clock(10);
    assert_eq!(memory.sweep(10).await.unwrap(), 10);
    assert_eq!(count(&host, "message"), 16);
    // A clock that is turned back shows a part of it, with counts that are exact.
    host.turn_clock(1_u64.wrapping_neg());
    let counts = memory.count("m").await.unwrap();
    assert_eq!((counts.messages, counts.tokens), (15, 45));
    host.turn_clock(1);
    assert_eq!(memory.sweep(1_000).await.unwrap(), 15);
    assert_eq!((count(&host, "message"), count(&host, "memory"), count(&host, "flush")), (1, 1, 1));
    host.turn_clock(30 * 60_000);
    assert_eq!(memory.sweep(1_000).await.unwrap(), 1, "the flush flag");
    assert_eq!(count(&host, "flush"), 0);
}

#[tokio::test]
async fn reads_write_nothing() {
    let host = Host::new().await;
    fill(&host).await;
    host.events().append("s", b"e").await.unwrap();
    host.memory().mark_flush_pending("old1").await.unwrap();
    host.turn_clock(10);
    let database = host.database();
    let before = version(&database);
    for key in ["old1", "new1", "missing"] {
        host.cache().get(key).await.unwrap();
        host.cache().get_many(&[key.to_owned()]).await.unwrap();
        host.cache().exists(key).await.unwrap();
        host.cache().ttl(key).await.unwrap();
        host.locks().inspect(key).await.unwrap();
        host.config().peek(Namespace::Config, key).await.unwrap();
        host.config().get(Namespace::Metadata, key).await.unwrap();
        host.memory().read(key).await.unwrap();
        host.memory().page(key, 0, 10).await.unwrap();
        host.memory().count(key).await.unwrap();
        host.memory().ttl(key).await.unwrap();
        host.memory().is_flush_pending(key).await.unwrap();
        host.events().read_after(key, 0, 10).await.unwrap();
        host.events().state(key).await.unwrap();
    }
    assert!(matches!(host.locks().acquire("new1", ms(1).unwrap(), "").await.unwrap(), Attempt::Held(_)));
    host.cache().scan("", None, 10).await.unwrap();
    host.cache().dump(None, 10).await.unwrap();
    host.locks().dump(None, 10).await.unwrap();
    host.config().list(Namespace::Config, "", None, 10).await.unwrap();
    host.config().dump(Namespace::Config, None, 10).await.unwrap();
    host.memory().list("", None, 10).await.unwrap();
    host.memory().dump(None, 10).await.unwrap();
    host.events().list("", None, 10).await.unwrap();
    host.events().dump(None, 10).await.unwrap();
    host.events().trim("s", compozy_runtime::stores::Retention::Events(1)).await.unwrap();
    for detail in [
        host.cache().health().await.unwrap().detail,
        host.locks().health().await.unwrap().detail,
        host.events().health().await.unwrap().detail,
        host.config().health().await.unwrap().detail,
        host.memory().health().await.unwrap().detail,
    ] {
        assert!(detail.contains("SQLite"), "{detail}");
    }
    assert_eq!(version(&database), before);
    host.config().get(Namespace::Config, "new1").await.unwrap();
    assert_ne!(version(&database), before, "the only read that writes: it resets the time to live");
}

#[tokio::test]
async fn a_sweep_with_nothing_to_do_does_not_write() {
    let host = Host::new().await;
    fill(&host).await;
    let database = host.database();
    let before = version(&database);
    for role in ["cache", "locks", "config", "memory"] {
        assert_eq!(sweep(&host, role, 1_000).await, 0);
    }
    assert_eq!(version(&database), before);
}

#[tokio::test]
async fn statistics_count_entries_and_bytes() {
    let host = Host::new().await;
    fill(&host).await;
    for stream in ["a", "b"] {
        host.events().append(stream, b"e").await.unwrap();
    }
    host.memory().append("new1", &messages(&[("b", 1)]), None, Some(Keep::Tokens(100))).await.unwrap();
    for (stats, entries, detail) in [
        (host.cache().stats().await.unwrap(), 60, None),
        (host.locks().stats().await.unwrap(), 60, Some(("greatest_token", "60"))),
        (host.events().stats().await.unwrap(), 2, Some(("events", "2"))),
        (host.config().stats().await.unwrap(), 90, None),
        (host.memory().stats().await.unwrap(), 60, Some(("messages", "61"))),
    ] {
        assert_eq!(stats.entries, Some(entries));
        assert!(stats.bytes.unwrap() >= 4_096);
        let Some((name, value)) = detail else { continue };
        assert!(stats.details.contains(&(name.to_owned(), value.to_owned())), "{:?}", stats.details);
    }
}

#[tokio::test]
async fn many_values_are_written_in_one_step() {
    let host = Host::new().await;
    let cache = host.cache();
    for count in [1, 8, 64, 65, 1_000] {
        let mut bytes = Vec::new();
        let mut entries = Vec::new();
        for number in 0..count {
            let value = format!("v{number}:{count}");
            let value_span = Span { offset: bytes.len() as u32, length: value.len() as u32 };
            bytes.extend_from_slice(value.as_bytes());
            entries.push(Assignment { key: format!("k{number}"), value: value_span });
        }
        cache.set_many(&entries, &bytes, ms(100)).await.unwrap();
        for number in [0, count / 2, count - 1] {
            let entry = cache.get(&format!("k{number}")).await.unwrap().unwrap();
            assert_eq!(entry.value, format!("v{number}:{count}").as_bytes());
        }
    }
    let twice = |offset| Assignment { key: "twice".to_owned(), value: Span { offset, length: 1 } };
    cache.set_many(&[twice(0), twice(1)], b"ab", None).await.unwrap();
    assert_eq!(cache.get("twice").await.unwrap().unwrap().value, b"b", "the later value stays");
    let keys: Vec<String> = (0..1_000).map(|number| format!("k{number}")).collect();
    let values = cache.get_many(&keys).await.unwrap();
    let versions: std::collections::BTreeSet<u64> =
        values.found.iter().map(|found| found.as_ref().unwrap().version).collect();
    assert_eq!(versions.len(), 1_000, "each has a version of its own");
    host.turn_clock(100);
    assert_eq!(cache.scan("", None, 10).await.unwrap().keys, ["twice"]);

    // One bad entry among many: nothing is written.
    let database = host.database();
    let before = version(&database);
    let mut entries: Vec<_> = (0..999).map(|_| twice(0)).collect();
    entries.push(Assignment { key: String::new(), value: Span { offset: 0, length: 1 } });
    crate::support::assert_invalid(cache.set_many(&entries, b"ab", None).await, "key is empty");
    entries.push(twice(0));
    crate::support::assert_too_large(cache.set_many(&entries, b"ab", None).await, "batch_items", 1_001, 1_000);
    crate::support::assert_invalid(cache.set_many(&[], b"", None).await, "no entries");
    crate::support::assert_invalid(cache.set_many(&[twice(2)], b"ab", None).await, "past the end");
    assert_eq!(version(&database), before);
    // More bytes than one crossing carries in one statement.
    let large: Vec<_> = (0..8_u32)
        .map(|number| Assignment { key: format!("l{number}"), value: Span { offset: number, length: 2 * 1024 * 1024 } })
        .collect();
    let bytes: Vec<u8> = (0..2 * 1024 * 1024 + 8_u32).map(|byte| (byte % 251) as u8).collect();
    cache.set_many(&large, &bytes, None).await.unwrap();
    for number in [0, 7] {
        let value = cache.get(&format!("l{number}")).await.unwrap().unwrap().value;
        assert!(value == bytes[number..number + 2 * 1024 * 1024]);
    }
}

#[tokio::test]
async fn a_memory_is_trimmed_by_tokens() {
    let host = Host::new().await;
    let memory = host.memory();
    let all = messages(&[("a", 10), ("b", 0), ("c", 5), ("d", 1), ("e", 0)]);
    for (tokens, kept) in [(16, "abcde"), (15, "bcde"), (6, "bcde"), (5, "de"), (1, "de"), (0, "e")] {
        memory.replace("m", &all, None).await.unwrap();
        let counts = memory.trim("m", Keep::Tokens(tokens)).await.unwrap();
        let found = crate::support::contents(&memory.read("m").await.unwrap());
        assert_eq!(found.iter().map(|(text, _)| text.as_str()).collect::<String>(), kept, "{tokens} tokens");
        let sum: u64 = found.iter().map(|(_, tokens)| u64::from(*tokens)).sum();
        assert_eq!((counts.messages, counts.tokens), (kept.len() as u64, sum));
    }
    let counts = memory.append("m", &all, None, Some(Keep::Tokens(6))).await.unwrap();
    assert_eq!((counts.messages, counts.tokens), (4, 6), "trimmed in the step that appends");
    memory.clear("m").await.unwrap();
    let large: Vec<_> = (0..1_000).map(|_| ("x", 1)).collect();
    for _ in 0..3 {
        memory.append("m", &messages(&large), None, None).await.unwrap();
    }
    let counts = memory.trim("m", Keep::Tokens(500)).await.unwrap();
    assert_eq!((counts.messages, counts.tokens), (500, 500));
    assert_eq!(
        memory.append("m", &messages(&[("big", 501)]), None, Some(Keep::Tokens(500))).await.unwrap().messages,
        0
    );
    assert!(memory.list("", None, 10).await.unwrap().keys.is_empty());
}
