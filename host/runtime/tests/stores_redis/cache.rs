//! The role `cache`.

use compozy_runtime::stores::{Assignment, Condition, Lifetime, Span, StoreError};

use crate::support::{Host, all, assert_invalid, assert_too_large, eventually, ms, odd_keys};

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_is_found_under_its_own_key_only() {
    let host = Host::new().await;
    let cache = host.cache();
    for key in odd_keys() {
        assert!(cache.get(&key).await.unwrap().is_none(), "{key:?}");
        cache.set(&key, key.as_bytes(), None, Condition::Always).await.unwrap();
    }
    for key in odd_keys() {
        assert_eq!(cache.get(&key).await.unwrap().unwrap().value, key.as_bytes(), "{key:?}");
        assert!(cache.exists(&key).await.unwrap() && cache.delete(&key).await.unwrap());
        assert!(!cache.exists(&key).await.unwrap() && !cache.delete(&key).await.unwrap());
    }
    assert!(host.keys().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_size_come_back_and_larger_ones_are_refused() {
    let host = Host::new().await;
    let cache = host.cache();
    for size in [0, 1, 7, 8, 9, 64 * 1024, MIB, 16 * MIB] {
        let value: Vec<u8> = (0..size).map(|at| (at * 31 + at / 251) as u8).collect();
        let version = cache.set("k", &value, None, Condition::Always).await.unwrap().unwrap();
        let entry = cache.get("k").await.unwrap().unwrap();
        assert!(entry.value == value && entry.version == version, "{size} bytes");
    }
    let allowed = 16 * MIB as u64;
    let large = vec![0; 16 * MIB + 1];
    assert_too_large(cache.set("k", &large, None, Condition::Always).await, "value_bytes", allowed + 1, allowed);
    assert_eq!(cache.get("k").await.unwrap().unwrap().value.len(), 16 * MIB);
    assert_too_large(cache.get(&"k".repeat(513)).await, "key_bytes", 513, 512);
    assert_invalid(cache.get("").await, "the key is empty");
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_are_decided_and_written_in_one_step() {
    let host = Host::new().await;
    let cache = host.cache();
    let set = async |value: &str, condition| cache.set("k", value.as_bytes(), None, condition).await.unwrap();
    assert_eq!(set("x", Condition::IfVersion(1)).await, None);
    let first = set("a", Condition::IfAbsent).await.unwrap();
    assert_eq!(set("b", Condition::IfAbsent).await, None);
    let second = set("c", Condition::IfVersion(first)).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(set("d", Condition::IfVersion(first)).await, None);
    assert_eq!(cache.get("k").await.unwrap().unwrap().value, b"c");
    // A version is not used again after a delete.
    cache.delete("k").await.unwrap();
    set("c", Condition::Always).await.unwrap();
    assert_eq!(set("e", Condition::IfVersion(second)).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_compare_and_swap_each_success_counts() {
    let host = Host::new().await;
    let cache = host.cache();
    cache.set("n", b"0", None, Condition::Always).await.unwrap();
    let mut tasks = Vec::new();
    for _ in 0..16 {
        let cache = host.cache();
        tasks.push(tokio::spawn(async move {
            for _ in 0..10 {
                loop {
                    let entry = cache.get("n").await.unwrap().unwrap();
                    let next: u32 = String::from_utf8(entry.value).unwrap().parse::<u32>().unwrap() + 1;
                    let condition = Condition::IfVersion(entry.version);
                    if cache.set("n", next.to_string().as_bytes(), None, condition).await.unwrap().is_some() {
                        break;
                    }
                }
                cache.increment("m", 1, None).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    for key in ["n", "m"] {
        assert_eq!(cache.get(key).await.unwrap().unwrap().value, b"160");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn increments_are_exact_over_all_of_64_bits() {
    let host = Host::new().await;
    let cache = host.cache();
    for (stored, delta, sum) in [
        (None, 5, 5),
        (None, i64::MIN, i64::MIN),
        (Some("0"), -1, -1),
        (Some("-5"), 5, 0),
        (Some("999999999999999"), 1, 1_000_000_000_000_000),
        (Some("9007199254740992"), 1, 9_007_199_254_740_993),
        (Some("9223372036854775806"), 1, i64::MAX),
        (Some("-9223372036854775807"), -1, i64::MIN),
        (Some("9223372036854775807"), i64::MIN, -1),
        (Some("1"), i64::MAX - 1, i64::MAX),
    ] {
        cache.delete("k").await.unwrap();
        if let Some(stored) = stored {
            cache.set("k", stored.as_bytes(), None, Condition::Always).await.unwrap();
        }
        assert_eq!(cache.increment("k", delta, None).await.unwrap(), sum, "{stored:?} {delta}");
        assert_eq!(cache.get("k").await.unwrap().unwrap().value, sum.to_string().as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_increment_that_is_impossible_changes_nothing() {
    let host = Host::new().await;
    let cache = host.cache();
    let long = "1".repeat(MIB);
    let texts = [
        "",
        " 1",
        "1 ",
        "+1",
        "01",
        "-0",
        "1.0",
        "1e3",
        "1\0",
        "x",
        "9223372036854775808",
        "99999999999999999999",
        &long,
    ];
    for text in texts {
        let version = cache.set("k", text.as_bytes(), ms(100_000), Condition::Always).await.unwrap();
        let error = cache.increment("k", 1, None).await.unwrap_err();
        assert!(matches!(error, StoreError::WrongType(_)), "{text:.30}: {error:?}");
        let entry = cache.get("k").await.unwrap().unwrap();
        assert!(entry.value == text.as_bytes() && Some(entry.version) == version, "{text:.30}");
    }
    for (stored, delta, words) in [
        (i64::MAX, 1, "9223372036854775807 + 1 does not fit"),
        (i64::MIN, -1, "-9223372036854775808 - 1 does not fit"),
        (-2, i64::MIN, "-2 - 9223372036854775808 does not fit"),
    ] {
        let version = cache.set("k", stored.to_string().as_bytes(), ms(100_000), Condition::Always).await.unwrap();
        match cache.increment("k", delta, None).await {
            Err(StoreError::Overflow(why)) => assert!(why.contains(words), "{why}"),
            other => panic!("{other:?}"),
        }
        let entry = cache.get("k").await.unwrap().unwrap();
        assert_eq!((entry.value, Some(entry.version)), (stored.to_string().into_bytes(), version));
        assert!(matches!(cache.ttl("k").await.unwrap(), Lifetime::RemainingMs(90_000..)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_increment_gives_a_new_key_its_time_to_live_and_leaves_that_of_others() {
    let host = Host::new().await;
    let cache = host.cache();
    cache.increment("new", 1, ms(50_000)).await.unwrap();
    cache.increment("new", i64::MAX - 1, ms(900_000)).await.unwrap();
    assert!(matches!(cache.ttl("new").await.unwrap(), Lifetime::RemainingMs(1..=50_000)));
    cache.increment("kept", 1, None).await.unwrap();
    cache.increment("kept", 1, ms(1_000)).await.unwrap();
    assert!(matches!(cache.ttl("kept").await.unwrap(), Lifetime::Unlimited));
    assert_invalid(cache.increment("kept", 1, ms(0)).await, "0 ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_is_gone_for_every_operation() {
    let host = Host::new().await;
    let cache = host.cache();
    let version = cache.set("k", b"7", ms(40), Condition::Always).await.unwrap().unwrap();
    eventually("the end of the key", async || !cache.exists("k").await.unwrap()).await;
    assert!(cache.get("k").await.unwrap().is_none() && !cache.delete("k").await.unwrap());
    assert!(matches!(cache.ttl("k").await.unwrap(), Lifetime::Missing));
    assert!(!cache.expire("k", ms(1_000)).await.unwrap() && !cache.expire("k", None).await.unwrap());
    assert!(cache.scan("", None, 10).await.unwrap().keys.is_empty());
    assert!(cache.set("k", b"", None, Condition::IfVersion(version)).await.unwrap().is_none());
    assert_eq!(cache.increment("k", 1, ms(40)).await.unwrap(), 1);
    eventually("the end of the sum", async || cache.get("k").await.unwrap().is_none()).await;
    assert!(cache.set("k", b"", None, Condition::IfAbsent).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn times_to_live_are_replaced_taken_away_and_never_too_long_for_redis() {
    let host = Host::new().await;
    let cache = host.cache();
    let version = cache.set("k", b"v", ms(u64::MAX), Condition::Always).await.unwrap().unwrap();
    assert!(matches!(cache.ttl("k").await.unwrap(), Lifetime::RemainingMs(3_000_000_000_000_000..)));
    assert!(cache.expire("k", ms(20_000)).await.unwrap());
    assert!(matches!(cache.ttl("k").await.unwrap(), Lifetime::RemainingMs(10_000..=20_000)));
    assert!(cache.persist("k").await.unwrap() && cache.persist("k").await.unwrap());
    assert!(matches!(cache.ttl("k").await.unwrap(), Lifetime::Unlimited));
    assert_eq!(cache.get("k").await.unwrap().unwrap().version, version, "the version stays");
    assert!(!cache.persist("other").await.unwrap());
    cache.set("k", b"v", ms(20_000), Condition::Always).await.unwrap();
    cache.set("k", b"v", None, Condition::Always).await.unwrap();
    assert!(matches!(cache.ttl("k").await.unwrap(), Lifetime::Unlimited), "set replaces the time to live");
    assert_invalid(cache.set("k", b"", ms(0), Condition::Always).await, "at least 1 ms");
    assert_invalid(cache.expire("k", ms(0)).await, "at least 1 ms");
}

fn assignments(keys: &[String], value: &str) -> (Vec<Assignment>, Vec<u8>) {
    let span = Span { offset: 0, length: value.len() as u32 };
    (keys.iter().map(|key| Assignment { key: key.clone(), value: span }).collect(), value.as_bytes().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_are_written_and_read_in_their_order() {
    let host = Host::new().await;
    let cache = host.cache();
    let keys: Vec<String> = (0..1_000).map(|number| format!("key-{number}")).collect();
    for ttl in [None, ms(60_000)] {
        let (entries, bytes) = assignments(&keys, "value");
        cache.set_many(&entries, &bytes, ttl).await.unwrap();
        let mut asked = keys.clone();
        asked[1] = "missing".to_owned();
        asked[2] = asked[0].clone();
        let values = cache.get_many(&asked).await.unwrap();
        assert_eq!(values.found.len(), 1_000);
        assert!(values.found[1].is_none());
        assert_eq!(values.found[2].unwrap().version, values.found[0].unwrap().version);
        for found in values.found.iter().flatten() {
            assert_eq!(crate::support::text(&values.bytes, found.span), "value");
        }
        assert_eq!(matches!(cache.ttl("key-999").await.unwrap(), Lifetime::Unlimited), ttl.is_none());
    }
    let twice = vec![
        Assignment { key: "k".into(), value: Span { offset: 0, length: 1 } },
        Assignment { key: "k".into(), value: Span { offset: 1, length: 1 } },
    ];
    for ttl in [None, ms(60_000)] {
        cache.set_many(&twice, b"ab", ttl).await.unwrap();
        assert_eq!(cache.get("k").await.unwrap().unwrap().value, b"b", "the later value stays");
    }
    let (mut entries, bytes) = assignments(&["x".to_owned(), String::new()], "v");
    assert_invalid(cache.set_many(&entries, &bytes, None).await, "empty");
    assert!(cache.get("x").await.unwrap().is_none(), "all or nothing");
    entries.clear();
    assert_invalid(cache.set_many(&entries, &bytes, None).await, "1 to 1000");
    assert!(cache.get_many(&[]).await.unwrap().found.is_empty());
    let too_many: Vec<String> = (0..1_001).map(|number| number.to_string()).collect();
    assert_too_large(cache.get_many(&too_many).await, "batch_items", 1_001, 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_finds_each_key_of_its_prefix_literally() {
    let host = Host::new().await;
    let cache = host.cache();
    for key in odd_keys() {
        cache.set(&key, b"", None, Condition::Always).await.unwrap();
    }
    // The other roles' keys are not the cache's.
    host.events().append("a", b"").await.unwrap();
    for prefix in ["", "a", "a*", "a?", "a[", "{", "\0", "é", "z"] {
        for max in [1, 3, 1_000] {
            let found = all(async |cursor| cache.scan(prefix, cursor.as_deref(), max).await).await;
            let expected: Vec<String> = odd_keys().into_iter().filter(|key| key.starts_with(prefix)).collect();
            assert_eq!(found, expected, "prefix {prefix:?}, pages of {max}");
        }
    }
    for max in [0, 1_001] {
        assert_invalid(cache.scan("", None, max).await, "1 to 1000");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_keeps_its_promise_while_others_write() {
    let host = Host::new().await;
    let cache = host.cache();
    let keys: Vec<String> = (0..300).map(|number| format!("stays-{number:03}")).collect();
    let (entries, bytes) = assignments(&keys, "");
    cache.set_many(&entries, &bytes, None).await.unwrap();
    let (mut found, mut cursor, mut round) = (Vec::new(), None, 0);
    loop {
        let page = cache.scan("stays-", cursor.as_deref(), 10).await.unwrap();
        assert!(page.keys.len() <= 10);
        found.extend(page.keys);
        // The server's table grows and shrinks meanwhile.
        let others: Vec<String> = (0..200).map(|number| format!("comes-{round}-{number}")).collect();
        let (entries, bytes) = assignments(&others, "");
        cache.set_many(&entries, &bytes, None).await.unwrap();
        if round % 3 == 2 {
            for key in all(async |cursor| cache.scan("comes-", cursor.as_deref(), 1_000).await).await {
                cache.delete(&key).await.unwrap();
            }
        }
        round += 1;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    found.sort();
    found.dedup();
    assert_eq!(found, keys);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_another_call_is_refused() {
    let host = Host::new().await;
    let cache = host.cache();
    let (entries, bytes) = assignments(&odd_keys(), "");
    cache.set_many(&entries, &bytes, None).await.unwrap();
    let cursor = cache.scan("a", None, 1).await.unwrap().next.unwrap();
    assert!(cache.scan("a", Some(&cursor), 1).await.is_ok());
    assert_invalid(cache.scan("b", Some(&cursor), 1).await, "cursor");
    assert_invalid(cache.dump(Some(&cursor), 1).await, "cursor");
    for bad in ["", "0", "x", "cache-scan.1.1.1:x"] {
        assert_invalid(cache.scan("", Some(bad), 1).await, "cursor");
        assert_invalid(cache.dump(Some(bad), 1).await, "cursor");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_tells_how_it_is() {
    let host = Host::new().await;
    let cache = host.cache();
    let detail = cache.health().await.unwrap().detail;
    assert!(detail.starts_with("Redis 7.") && detail.contains("standalone") && detail.contains("AOF"), "{detail}");
    let stats = cache.stats().await.unwrap();
    assert!(stats.entries.is_none() && stats.details.iter().any(|(name, _)| name.contains("memory")), "{stats:?}");
    assert_eq!(cache.sweep(100).await.unwrap(), 0);
    assert_invalid(cache.sweep(0).await, "1 to 1000");
}
