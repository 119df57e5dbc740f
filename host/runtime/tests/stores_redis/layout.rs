//! What lies on the server, and what happens to it from outside.

use std::time::Duration;

use compozy_runtime::RedisSettings;
use compozy_runtime::limits::Limits;
use compozy_runtime::redis::RedisClient;
use compozy_runtime::stores::Namespace::Config;
use compozy_runtime::stores::{Attempt, Condition, StoreError};

use crate::support::{Host, messages, ms};

/// The part of a key that decides about its slot in a cluster.
fn tag(key: &str) -> &str {
    let (start, end) = (key.find('{').unwrap(), key.find('}').unwrap());
    &key[start..=end]
}

#[tokio::test(flavor = "multi_thread")]
async fn all_keys_of_a_name_are_in_one_slot_whatever_the_name() {
    let host = Host::new().await;
    for name in ["a", "{b}", "}{"] {
        host.events().append(name, b"").await.unwrap();
        host.memory().append(name, &messages(&[("", 1)]), ms(60_000), None).await.unwrap();
        host.memory().mark_flush_pending(name).await.unwrap();
        host.config().save(Config, name, b"", ms(60_000)).await.unwrap();
        host.locks().acquire(name, Duration::from_mins(1), "").await.unwrap();
        host.cache().set(name, b"", None, Condition::Always).await.unwrap();
        let keys = host.keys();
        for (letter, count) in [('e', 3), ('m', 6), ('k', 3), ('l', 2), ('c', 1)] {
            let role: Vec<&String> = keys.iter().filter(|key| key.starts_with(&format!("{{{letter}"))).collect();
            assert_eq!(role.len(), count, "{role:?}");
            assert!(role.iter().all(|key| tag(key) == tag(role[0])), "{role:?}");
        }
        assert_eq!(keys.len(), 15, "{keys:?}");
        host.server.command(&["FLUSHALL"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_work_on_after_the_server_forgot_them() {
    let host = Host::new().await;
    let locks = host.locks();
    let Attempt::Acquired(lease) = locks.acquire("a", Duration::from_mins(1), "").await.unwrap() else { panic!() };
    assert!(host.server.command(&["SCRIPT", "FLUSH"]).starts_with("+OK"));
    assert!(locks.refresh("a", lease.token, Duration::from_mins(1)).await.unwrap());
    assert!(locks.release("a", lease.token).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_refuses_writes_as_a_whole_and_says_that_it_may_pass() {
    let host = Host::new().await;
    let (cache, memory, events) = (host.cache(), host.memory(), host.events());
    memory.append("m", &messages(&[("a", 1), ("b", 2)]), None, None).await.unwrap();
    events.append("s", b"a").await.unwrap();
    assert!(host.server.command(&["CONFIG", "SET", "maxmemory", "1"]).starts_with("+OK"));
    let refused = |error: StoreError| assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    refused(cache.set("k", b"", None, Condition::Always).await.unwrap_err());
    refused(memory.append("m", &messages(&[("c", 3)]), None, None).await.unwrap_err());
    refused(memory.replace("m", &messages(&[("c", 3)]), None).await.unwrap_err());
    refused(events.append("s", b"b").await.unwrap_err());
    let counts = memory.count("m").await.unwrap();
    assert_eq!((counts.messages, counts.tokens, memory.read("m").await.unwrap().list.len()), (2, 3, 2));
    assert_eq!(events.state("s").await.unwrap().last, 1);
    assert!(host.server.command(&["CONFIG", "SET", "maxmemory", "0"]).starts_with("+OK"));
    // The circuit breaker may want to look once more first.
    crate::support::eventually("the server's recovery", async || events.append("s", b"b").await.is_ok()).await;
    assert_eq!(events.state("s").await.unwrap().last, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_somebody_else_has_written_is_told() {
    let host = Host::new().await;
    let cache = host.cache();
    cache.set("k", b"", None, Condition::Always).await.unwrap();
    let key = format!("compozy:redis:{}", host.keys()[0]);
    assert!(host.server.command(&["SET", &key, "short"]).starts_with("+OK"));
    assert!(matches!(cache.get("k").await, Err(StoreError::Internal(why)) if why.contains("somebody else")));
    host.server.command(&["DEL", &key]);
    assert!(host.server.command(&["LPUSH", &key, "x"]).starts_with(":1"));
    assert!(matches!(cache.get("k").await, Err(StoreError::WrongType(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn appended_streams_and_released_locks_are_announced() {
    let host = Host::new().await;
    let settings = RedisSettings::new(host.server.url());
    let client = RedisClient::new(&settings, "redis", Limits::default()).unwrap();
    let mut topics = client.subscribe();
    // The listener's connection takes a moment; what is announced before is lost.
    loop {
        host.events().append("first", b"").await.unwrap();
        if tokio::time::timeout(Duration::from_millis(20), topics.recv()).await.is_ok() {
            break;
        }
    }
    host.events().append("{s}:1", b"").await.unwrap();
    let Attempt::Acquired(lease) = host.locks().acquire("a", Duration::from_mins(1), "").await.unwrap() else {
        panic!()
    };
    assert!(!host.locks().release("a", lease.token + 1).await.unwrap());
    assert!(host.locks().release("a", lease.token).await.unwrap());
    let mut heard = Vec::new();
    while heard.len() < 2 {
        let topic = topics.recv().await.unwrap();
        heard.extend(Some(topic.to_string()).filter(|topic| topic != "events/first"));
    }
    assert_eq!(heard, ["events/{s}:1", "locks/a"]);
}
