//! The role `cache`: what holds for the built-in backend holds for the one in `examples/memory-cache` too.

use compozy_runtime::stores::{Condition, Lifetime, StoreError};

use crate::support::{Host, assert_invalid, assert_too_large, ms, odd_keys};

const ALWAYS: Condition = Condition::Always;
const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn missing_is_not_empty() {
    for host in Host::caches().await {
        let cache = host.cache();
        assert!(cache.get("k").await.unwrap().is_none());
        assert!(!cache.exists("k").await.unwrap());
        cache.set("k", b"", None, ALWAYS).await.unwrap().unwrap();
        assert_eq!(cache.get("k").await.unwrap().unwrap().value, b"");
        assert!(cache.exists("k").await.unwrap());
        assert!(cache.delete("k").await.unwrap());
        assert!(!cache.delete("k").await.unwrap());
        assert!(cache.get("k").await.unwrap().is_none());
    }
}

#[tokio::test]
async fn no_key_is_taken_for_another() {
    for host in Host::caches().await {
        let cache = host.cache();
        let keys = odd_keys();
        for key in &keys {
            cache.set(key, key.as_bytes(), None, ALWAYS).await.unwrap();
        }
        for key in &keys {
            assert_eq!(cache.get(key).await.unwrap().unwrap().value, key.as_bytes(), "{key:?}");
        }
        let mut expected = keys.clone();
        expected.sort();
        assert_eq!(cache.scan("", None, 1_000).await.unwrap().keys, expected);
        for key in &keys {
            let mut expected: Vec<_> = keys.iter().filter(|other| other.starts_with(key.as_str())).cloned().collect();
            expected.sort();
            assert_eq!(cache.scan(key, None, 1_000).await.unwrap().keys, expected, "prefix {key:?}");
            let many = cache.get_many(std::slice::from_ref(key)).await.unwrap();
            assert_eq!(many.found.len(), 1);
            assert!(many.found[0].is_some(), "{key:?}");
        }
    }
}

#[tokio::test]
async fn sizes_are_limited_by_name() {
    for host in Host::caches().await {
        let cache = host.cache();
        assert_invalid(cache.get("").await, "key is empty");
        assert_invalid(cache.set("", b"", None, ALWAYS).await, "key is empty");
        assert_too_large(cache.get(&"k".repeat(513)).await, "key_bytes", 513, 512);
        assert_too_large(cache.set(&"é".repeat(257), b"", None, ALWAYS).await, "key_bytes", 514, 512);
        assert_invalid(cache.set("k", b"", ms(0), ALWAYS).await, "at least 1 ms");
        assert_invalid(cache.expire("k", ms(0)).await, "at least 1 ms");
        assert_invalid(cache.increment("k", 1, ms(0)).await, "at least 1 ms");
        for max in [0, 1_001] {
            assert_invalid(cache.scan("", None, max).await, "1 to 1000");
            assert_invalid(cache.dump(None, max).await, "1 to 1000");
        }
        let keys: Vec<String> = (0..1_001).map(|key| key.to_string()).collect();
        assert_too_large(cache.get_many(&keys).await, "batch_items", 1_001, 1_000);
        assert_invalid(cache.scan("a", Some("b"), 1).await, "cursor");
    }
}

#[tokio::test]
async fn values_of_all_sizes_come_back_unchanged() {
    for host in Host::caches().await {
        let cache = host.cache();
        for size in [0, 1, 65_536, MIB, 16 * MIB] {
            let value: Vec<u8> = (0..size).map(|byte| (byte % 251) as u8).collect();
            cache.set("k", &value, None, ALWAYS).await.unwrap();
            assert!(cache.get("k").await.unwrap().unwrap().value == value, "{size} bytes");
        }
        let limit = 16 * MIB as u64;
        assert_too_large(cache.set("k", &vec![0; 16 * MIB + 1], None, ALWAYS).await, "value_bytes", limit + 1, limit);
    }
}

#[tokio::test]
async fn an_expired_key_is_gone_for_every_operation() {
    for host in Host::caches().await {
        let cache = host.cache();
        let version = cache.set("k", b"1", ms(1_000), ALWAYS).await.unwrap().unwrap();
        cache.set("kept", b"1", None, ALWAYS).await.unwrap();
        host.turn_clock(999);
        assert!(matches!(cache.ttl("k").await.unwrap(), Lifetime::RemainingMs(1)));
        assert!(cache.exists("k").await.unwrap());
        host.turn_clock(1);
        assert!(cache.get("k").await.unwrap().is_none());
        assert!(!cache.exists("k").await.unwrap());
        assert!(matches!(cache.ttl("k").await.unwrap(), Lifetime::Missing));
        assert!(!cache.expire("k", None).await.unwrap(), "an expired key cannot be kept");
        assert!(cache.get_many(&["k".to_owned()]).await.unwrap().found[0].is_none());
        assert_eq!(cache.scan("", None, 10).await.unwrap().keys, ["kept"]);
        assert_eq!(cache.dump(None, 10).await.unwrap().entries.len(), 1);
        assert!(cache.set("k", b"2", None, Condition::IfVersion(version)).await.unwrap().is_none());
        assert!(!cache.delete("k").await.unwrap());

        cache.set("n", b"41", ms(1_000), ALWAYS).await.unwrap();
        host.turn_clock(1_000);
        assert_eq!(cache.increment("n", 1, ms(500)).await.unwrap(), 1, "an expired number counts as 0");
        assert!(matches!(cache.ttl("n").await.unwrap(), Lifetime::RemainingMs(500)));
        cache.set("a", b"old", ms(1), ALWAYS).await.unwrap();
        host.turn_clock(1);
        assert!(cache.set("a", b"new", None, Condition::IfAbsent).await.unwrap().is_some());
        assert!(matches!(cache.ttl("a").await.unwrap(), Lifetime::Unlimited));
    }
}

#[tokio::test]
async fn a_time_to_live_is_replaced_and_taken_away() {
    for host in Host::caches().await {
        let cache = host.cache();
        cache.set("k", b"v", ms(10), ALWAYS).await.unwrap();
        cache.set("k", b"v", None, ALWAYS).await.unwrap();
        assert!(matches!(cache.ttl("k").await.unwrap(), Lifetime::Unlimited));
        assert!(cache.expire("k", ms(20)).await.unwrap());
        assert!(matches!(cache.ttl("k").await.unwrap(), Lifetime::RemainingMs(20)));
        assert!(cache.expire("k", None).await.unwrap());
        host.turn_clock(u64::from(u32::MAX));
        assert!(cache.exists("k").await.unwrap());
        assert!(!cache.expire("missing", ms(20)).await.unwrap());
        assert!(cache.set("long", b"v", ms(u64::MAX / 1_000), ALWAYS).await.unwrap().is_some());
        assert!(cache.exists("long").await.unwrap());
    }
}

#[tokio::test]
async fn conditions_compare_and_versions_change_with_every_write() {
    for host in Host::caches().await {
        let cache = host.cache();
        let first = cache.set("k", b"1", None, Condition::IfAbsent).await.unwrap().unwrap();
        assert!(cache.set("k", b"x", None, Condition::IfAbsent).await.unwrap().is_none());
        assert_eq!(cache.get("k").await.unwrap().unwrap().version, first);
        let second = cache.set("k", b"1", None, Condition::IfVersion(first)).await.unwrap().unwrap();
        assert_ne!(first, second);
        for stale in [first, 0, u64::MAX] {
            assert!(cache.set("k", b"x", None, Condition::IfVersion(stale)).await.unwrap().is_none());
        }
        cache.delete("k").await.unwrap();
        assert!(cache.set("k", b"x", None, Condition::IfVersion(second)).await.unwrap().is_none());
        let again = cache.set("k", b"1", None, ALWAYS).await.unwrap().unwrap();
        assert!(again != first && again != second, "a version is never used twice");
        let before = cache.get("k").await.unwrap().unwrap().version;
        cache.increment("k", 1, None).await.unwrap();
        assert_ne!(cache.get("k").await.unwrap().unwrap().version, before);
    }
}

#[tokio::test]
async fn increments_are_checked() {
    for host in Host::caches().await {
        let cache = host.cache();
        assert_eq!(cache.increment("n", 5, ms(100)).await.unwrap(), 5);
        assert_eq!(cache.increment("n", -7, ms(900)).await.unwrap(), -2);
        assert!(matches!(cache.ttl("n").await.unwrap(), Lifetime::RemainingMs(100)), "an existing key keeps its own");
        assert_eq!(cache.get("n").await.unwrap().unwrap().value, b"-2");
        for (value, delta) in [(i64::MAX, 1), (i64::MIN, -1)] {
            let text = value.to_string();
            cache.set("n", text.as_bytes(), None, ALWAYS).await.unwrap();
            assert!(matches!(cache.increment("n", delta, None).await, Err(StoreError::Overflow(_))));
            assert_eq!(cache.get("n").await.unwrap().unwrap().value, text.as_bytes(), "unchanged");
            assert_eq!(cache.increment("n", 0, None).await.unwrap(), value);
        }
        for text in ["", "x", "1.5", "01", "+1", "-0", " 1", "1\0", "9223372036854775808", "１"] {
            cache.set("n", text.as_bytes(), None, ALWAYS).await.unwrap();
            let result = cache.increment("n", 1, None).await;
            assert!(matches!(result, Err(StoreError::WrongType(_))), "{text:?}: {result:?}");
            assert_eq!(cache.get("n").await.unwrap().unwrap().value, text.as_bytes());
        }
        cache.set("n", &[0xFF, 0xFE], None, ALWAYS).await.unwrap();
        assert!(matches!(cache.increment("n", 1, None).await, Err(StoreError::WrongType(_))));
    }
}

#[tokio::test]
async fn many_keys_are_answered_in_their_order() {
    for host in Host::caches().await {
        let cache = host.cache();
        for key in 0..300 {
            cache.set(&format!("k{key}"), format!("v{key}").as_bytes(), None, ALWAYS).await.unwrap();
        }
        for count in [0, 1, 8, 9, 64, 65, 256, 257, 1_000] {
            let keys: Vec<String> = (0..count).map(|index| format!("k{}", (index * 7) % 350)).collect();
            let values = cache.get_many(&keys).await.unwrap();
            assert_eq!(values.found.len(), count);
            for (key, found) in keys.iter().zip(&values.found) {
                let number: usize = key[1..].parse().unwrap();
                let value = found.map(|found| {
                    let start = found.span.offset as usize;
                    values.bytes[start..start + found.span.length as usize].to_vec()
                });
                assert_eq!(value, (number < 300).then(|| format!("v{number}").into_bytes()), "{key}");
            }
        }
    }
}

#[tokio::test]
async fn a_scan_returns_each_key_that_stays_whatever_is_written() {
    for host in Host::caches().await {
        let cache = host.cache();
        for key in 0..100 {
            cache.set(&format!("s:{key:03}"), b"v", None, ALWAYS).await.unwrap();
        }
        cache.set("t", b"v", None, ALWAYS).await.unwrap();
        let (mut seen, mut cursor, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = cache.scan("s:", cursor.as_deref(), 7).await.unwrap();
            assert!(page.keys.len() <= 7);
            // Removes keys that were returned, and adds some before and after.
            if let Some(first) = page.keys.first() {
                cache.delete(first).await.unwrap();
            }
            cache.set(&format!("s:000{pages}"), b"v", None, ALWAYS).await.unwrap();
            seen.extend(page.keys);
            pages += 1;
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        for key in 0..100 {
            assert!(seen.contains(&format!("s:{key:03}")), "{key}");
        }
        assert!(seen.iter().all(|key| key.starts_with("s:")));
        let exact = cache.scan("t", None, 1).await.unwrap();
        assert!(exact.next.is_none(), "a full last page is the last");
    }
}

#[tokio::test]
async fn a_dump_loads_with_versions_and_times_to_live_into_another_backend() {
    let [sqlite, memory] = Host::caches().await;
    let [other_sqlite, other_memory] = Host::caches().await;
    // From each to each.
    for (from, to) in [(&sqlite, &other_memory), (&memory, &other_sqlite), (&other_memory, &other_sqlite)] {
        move_cache(from, to).await;
    }
}

async fn move_cache(from: &Host, to: &Host) {
    let cache = from.cache();
    for key in 0..25 {
        let ttl = if key % 2 == 0 { ms(1_000 + key) } else { None };
        cache.set(&format!("k{key:02}"), &vec![key as u8; 400_000], ttl, ALWAYS).await.unwrap();
    }
    let (mut cursor, mut entries) = (None, 0);
    loop {
        let page = cache.dump(cursor.as_deref(), 10).await.unwrap();
        assert!(page.bytes.len() < 5 * MIB, "a page ends before it is too large to travel");
        entries += page.entries.len();
        to.cache().load(&page.entries, &page.bytes).await.unwrap();
        to.cache().load(&page.entries, &page.bytes).await.unwrap();
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    assert_eq!(entries, 25);
    for key in 0..25_u64 {
        let name = format!("k{key:02}");
        let (old, new) = (cache.get(&name).await.unwrap().unwrap(), to.cache().get(&name).await.unwrap().unwrap());
        assert_eq!(old.version, new.version);
        assert!(old.value == new.value);
        let lifetimes = (cache.ttl(&name).await.unwrap(), to.cache().ttl(&name).await.unwrap());
        assert_eq!(format!("{:?}", lifetimes.0), format!("{:?}", lifetimes.1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_increments_lose_nothing() {
    for host in Host::caches().await {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let cache = host.cache();
            tasks.spawn(async move {
                for _ in 0..50 {
                    cache.increment("n", 1, None).await.unwrap();
                }
            });
        }
        tasks.join_all().await;
        assert_eq!(host.cache().increment("n", 0, None).await.unwrap(), 400);
    }
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let host = Host::new().await;
    host.cache().set("k", b"v", ms(1_000), ALWAYS).await.unwrap();
    let host = host.reopened().await;
    assert_eq!(host.cache().get("k").await.unwrap().unwrap().value, b"v");
    host.turn_clock(1_000);
    let host = host.reopened().await;
    assert!(host.cache().get("k").await.unwrap().is_none());
    assert!(host.cache().health().await.unwrap().detail.contains("SQLite"));
}
