//! The role `config-store`.

use compozy_runtime::stores::Namespace::{Config, Metadata};

use crate::support::{Host, assert_invalid, assert_too_large, ms, odd_keys};

#[tokio::test]
async fn get_resets_the_time_to_live_and_peek_does_not() {
    let host = Host::new().await;
    let store = host.config();
    store.save(Config, "read", b"v", ms(1_000)).await.unwrap();
    store.save(Config, "peeked", b"v", ms(1_000)).await.unwrap();
    for _ in 0..3 {
        host.turn_clock(900);
        assert_eq!(store.get(Config, "read").await.unwrap().unwrap(), b"v");
    }
    assert!(store.peek(Config, "peeked").await.unwrap().is_none(), "nobody got it in time");
    store.save(Config, "peeked", b"v", ms(1_000)).await.unwrap();
    host.turn_clock(999);
    assert_eq!(store.peek(Config, "peeked").await.unwrap().unwrap(), b"v");
    assert_eq!(store.list(Config, "", None, 10).await.unwrap().keys, ["peeked", "read"]);
    host.turn_clock(1);
    for id in ["peeked", "read"] {
        assert!(store.get(Config, id).await.unwrap().is_none(), "get must not wake what has expired");
        assert!(!store.delete(Config, id).await.unwrap());
    }
    assert!(store.list(Config, "", None, 10).await.unwrap().keys.is_empty());
    assert!(store.dump(Config, None, 10).await.unwrap().entries.is_empty());
}

#[tokio::test]
async fn an_id_without_time_to_live_is_kept() {
    let host = Host::new().await;
    let store = host.config();
    store.save(Config, "id", b"", ms(1)).await.unwrap();
    store.save(Config, "id", b"", None).await.unwrap();
    host.turn_clock(1 << 40);
    assert_eq!(store.get(Config, "id").await.unwrap().unwrap(), b"");
    host.turn_clock(1 << 40);
    assert_eq!(store.get(Config, "id").await.unwrap().unwrap(), b"");
    assert!(store.delete(Config, "id").await.unwrap());
    assert!(store.get(Config, "id").await.unwrap().is_none());
}

#[tokio::test]
async fn namespaces_and_odd_ids_never_meet() {
    let host = Host::new().await;
    let store = host.config();
    for id in odd_keys() {
        store.save(Config, &id, id.as_bytes(), None).await.unwrap();
        store.save(Metadata, &id, b"meta", None).await.unwrap();
    }
    let mut expected = odd_keys();
    expected.sort();
    for namespace in [Config, Metadata] {
        assert_eq!(store.list(namespace, "", None, 1_000).await.unwrap().keys, expected);
    }
    for id in odd_keys() {
        assert_eq!(store.get(Config, &id).await.unwrap().unwrap(), id.as_bytes(), "{id:?}");
        assert!(store.delete(Config, &id).await.unwrap());
        assert_eq!(store.peek(Metadata, &id).await.unwrap().unwrap(), b"meta", "{id:?}");
    }
}

#[tokio::test]
async fn arguments_are_checked() {
    let host = Host::new().await;
    let store = host.config();
    assert_invalid(store.get(Config, "").await, "id is empty");
    assert_invalid(store.save(Config, "", b"", None).await, "id is empty");
    assert_invalid(store.save(Config, "a", b"", ms(0)).await, "at least 1 ms");
    assert_too_large(store.save(Config, &"a".repeat(513), b"", None).await, "key_bytes", 513, 512);
    let limit = 16 * 1024 * 1024;
    let large = vec![0; limit + 1];
    assert_too_large(store.save(Config, "a", &large, None).await, "value_bytes", limit as u64 + 1, limit as u64);
}

#[tokio::test]
async fn a_list_comes_in_pages_and_a_dump_keeps_full_and_remaining_times() {
    let (from, to) = (Host::new().await, Host::new().await);
    let store = from.config();
    for id in 0..5 {
        store.save(Config, &format!("i{id}"), b"v", ms(1_000)).await.unwrap();
    }
    let first = store.list(Config, "i", None, 3).await.unwrap();
    let second = store.list(Config, "i", first.next.as_deref(), 3).await.unwrap();
    assert_eq!((first.keys.len(), second.keys, second.next), (3, vec!["i3".to_owned(), "i4".to_owned()], None));

    from.turn_clock(400);
    let page = store.dump(Config, None, 10).await.unwrap();
    to.config().load(Config, &page.entries, &page.bytes).await.unwrap();
    to.turn_clock(599);
    assert!(to.config().peek(Config, "i0").await.unwrap().is_some());
    assert!(to.config().get(Config, "i1").await.unwrap().is_some());
    to.turn_clock(1);
    assert!(to.config().peek(Config, "i0").await.unwrap().is_none(), "600 ms were left");
    to.turn_clock(998);
    assert!(to.config().peek(Config, "i1").await.unwrap().is_some(), "reset to the full 1,000 ms");
}
