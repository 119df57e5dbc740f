//! The role `config-store`.

use std::time::Duration;

use compozy_runtime::stores::Namespace::{Config, Metadata};

use crate::support::{Host, all, assert_invalid, assert_too_large, eventually, ms, odd_keys};

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_both_namespaces_never_meet() {
    let host = Host::new().await;
    let config = host.config();
    for id in odd_keys() {
        config.save(Config, &id, id.as_bytes(), None).await.unwrap();
        assert_eq!(config.peek(Metadata, &id).await.unwrap(), None);
        config.save(Metadata, &id, b"", ms(100_000)).await.unwrap();
        assert_eq!(config.get(Config, &id).await.unwrap().unwrap(), id.as_bytes());
        assert_eq!(config.get(Metadata, &id).await.unwrap().unwrap(), b"");
    }
    assert_eq!(config.stats().await.unwrap().entries, Some(2 * odd_keys().len() as u64));
    for id in odd_keys() {
        assert!(config.delete(Config, &id).await.unwrap() && !config.delete(Config, &id).await.unwrap());
        assert_eq!(config.get(Config, &id).await.unwrap(), None);
    }
    assert!(config.list(Config, "", None, 10).await.unwrap().keys.is_empty());
    let found = all(async |cursor| config.list(Metadata, "", cursor.as_deref(), 4).await).await;
    assert_eq!(found, odd_keys());
}

#[tokio::test(flavor = "multi_thread")]
async fn get_gives_the_full_time_to_live_back_and_peek_does_not() {
    let host = Host::new().await;
    let config = host.config();
    config.save(Config, "read", b"r", ms(2_000)).await.unwrap();
    config.save(Config, "seen", b"s", ms(2_000)).await.unwrap();
    config.save(Config, "kept", b"k", None).await.unwrap();
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(config.get(Config, "read").await.unwrap().unwrap(), b"r");
        assert_eq!(config.get(Config, "kept").await.unwrap().unwrap(), b"k");
        config.peek(Config, "seen").await.unwrap();
    }
    assert_eq!(config.peek(Config, "seen").await.unwrap(), None, "more than two seconds have passed");
    eventually("the end of what nobody reads", async || config.peek(Config, "read").await.unwrap().is_none()).await;
    assert_eq!(config.get(Config, "read").await.unwrap(), None);
    assert!(!config.delete(Config, "read").await.unwrap());
    assert_eq!(config.list(Config, "", None, 10).await.unwrap().keys, ["kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_removes_the_names_of_what_has_expired_and_no_others() {
    let host = Host::new().await;
    let config = host.config();
    for number in 0..40 {
        let id = format!("id-{number}");
        let ttl = if number % 2 == 0 { ms(30) } else { ms(600_000) };
        config.save(if number % 3 == 0 { Config } else { Metadata }, &id, b"", ttl).await.unwrap();
    }
    config.save(Config, "longer", b"", ms(30)).await.unwrap();
    config.save(Config, "longer", b"", ms(600_000)).await.unwrap();
    config.save(Config, "kept", b"", ms(30)).await.unwrap();
    config.save(Config, "kept", b"", None).await.unwrap();
    tokio::time::sleep(Duration::from_millis(80)).await;
    assert_eq!(config.stats().await.unwrap().entries, Some(42), "not swept yet");
    assert_eq!(config.sweep(5).await.unwrap(), 5);
    assert_eq!(config.sweep(1_000).await.unwrap(), 15);
    assert_eq!(config.sweep(1_000).await.unwrap(), 0);
    assert_eq!(config.stats().await.unwrap().entries, Some(22));
    let left = all(async |cursor| config.list(Config, "", cursor.as_deref(), 3).await).await;
    assert_eq!(left, ["id-15", "id-21", "id-27", "id-3", "id-33", "id-39", "id-9", "kept", "longer"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_finds_each_id_of_its_prefix_once() {
    let host = Host::new().await;
    let config = host.config();
    for id in odd_keys() {
        config.save(Config, &id, b"", None).await.unwrap();
    }
    for number in 0..100 {
        config.save(Config, &format!("many-{number:02}"), b"", None).await.unwrap();
    }
    for (prefix, count) in [("", 127), ("many-", 100), ("many-7", 10), ("a*", 1), ("a[", 1), ("b", 0)] {
        for max in [1, 9, 1_000] {
            let (mut found, mut cursor) = (Vec::new(), None);
            loop {
                let page = config.list(Config, prefix, cursor.as_deref(), max).await.unwrap();
                assert!(page.keys.len() <= max as usize);
                found.extend(page.keys);
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(found.len(), count, "{prefix} {max}");
            assert!(found.iter().all(|id| id.starts_with(prefix)));
        }
    }
    let cursor = config.list(Config, "many-", None, 1).await.unwrap().next.unwrap();
    assert_invalid(config.list(Config, "", Some(&cursor), 1).await, "cursor");
    assert_invalid(config.list(Metadata, "many-", Some(&cursor), 1).await, "cursor");
    assert_invalid(config.dump(Config, Some(&cursor), 1).await, "cursor");
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_are_checked_and_values_of_every_size_come_back() {
    let host = Host::new().await;
    let config = host.config();
    assert_invalid(config.save(Config, "", b"", None).await, "the id is empty");
    assert_invalid(config.get(Config, "").await, "the id is empty");
    assert_invalid(config.save(Config, "a", b"", ms(0)).await, "0 ms");
    assert_too_large(config.peek(Config, &"i".repeat(513)).await, "key_bytes", 513, 512);
    for size in [0, 1, 15, 16, 17, 1024 * 1024, 16 * 1024 * 1024] {
        let value = vec![b'7'; size];
        config.save(Config, "a", &value, ms(u64::MAX)).await.unwrap();
        assert!(config.get(Config, "a").await.unwrap().unwrap() == value, "{size}");
        assert!(config.peek(Config, "a").await.unwrap().unwrap() == value, "{size}");
    }
    let allowed = 16 * 1024 * 1024;
    let large = vec![0; allowed + 1];
    assert_too_large(config.save(Config, "a", &large, None).await, "value_bytes", allowed as u64 + 1, allowed as u64);
}
