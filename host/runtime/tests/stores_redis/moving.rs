//! How roles move: page by page from one server to another, with values, versions and times.

use std::time::Duration;

use compozy_runtime::stores::Namespace::{Config, Metadata};
use compozy_runtime::stores::{Attempt, Condition, Keep, Lifetime, Retention};

use crate::support::{Host, contents, messages, ms, odd_keys, text};

/// Values from nothing to more than a page of a dump.
fn value(number: usize) -> String {
    "v".repeat([0, 1, 100, 70_000, 3_000_000][number % 5])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_moves_with_versions_and_times() {
    let (from, to) = (Host::new().await, Host::new().await);
    let (old, new) = (from.cache(), to.cache());
    for (number, key) in odd_keys().iter().enumerate() {
        let ttl = if number % 2 == 0 { ms(600_000) } else { None };
        old.set(key, value(number).as_bytes(), ttl, Condition::Always).await.unwrap();
    }
    new.set("a", b"replaced", ms(1_000), Condition::Always).await.unwrap();
    for max in [1, 7, 1_000] {
        let mut cursor = None;
        loop {
            let page = old.dump(cursor.as_deref(), max).await.unwrap();
            assert!(page.entries.len() <= max as usize);
            assert!(page.entries.len() == 1 || page.bytes.len() <= 4 * 1024 * 1024);
            new.load(&page.entries, &page.bytes).await.unwrap();
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        for key in odd_keys() {
            let (before, after) = (old.get(&key).await.unwrap().unwrap(), new.get(&key).await.unwrap().unwrap());
            assert!(before.value == after.value && before.version == after.version, "{key:?}");
            match (old.ttl(&key).await.unwrap(), new.ttl(&key).await.unwrap()) {
                (Lifetime::Unlimited, Lifetime::Unlimited) => {}
                (Lifetime::RemainingMs(before), Lifetime::RemainingMs(after)) => {
                    assert!(before.abs_diff(after) < 60_000, "{key:?}: {before} ms and {after} ms");
                }
                other => panic!("{key:?}: {other:?}"),
            }
            new.delete(&key).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_move_with_holders_and_their_tokens_go_on() {
    let (from, to) = (Host::new().await, Host::new().await);
    let (old, new) = (from.locks(), to.locks());
    let ttl = Duration::from_mins(10);
    for name in odd_keys() {
        for _ in 0..3 {
            if let Some(state) = old.inspect(&name).await.unwrap() {
                old.release(&name, state.lease.token).await.unwrap();
            }
            old.acquire(&name, ttl, &name).await.unwrap();
        }
    }
    let mut cursor = None;
    let greatest = loop {
        let page = old.dump(cursor.as_deref(), 4).await.unwrap();
        assert!(page.locks.len() <= 4);
        new.load(&page.locks, page.greatest_token).await.unwrap();
        cursor = page.next;
        if cursor.is_none() {
            break page.greatest_token;
        }
    };
    for name in odd_keys() {
        let (before, after) = (old.inspect(&name).await.unwrap().unwrap(), new.inspect(&name).await.unwrap().unwrap());
        assert_eq!((&before.holder, before.lease.token), (&after.holder, after.lease.token));
        assert!(after.lease.token <= greatest && after.lease.remaining_ms > 500_000);
        assert!(new.release(&name, after.lease.token).await.unwrap());
        let Attempt::Acquired(lease) = new.acquire(&name, ttl, "").await.unwrap() else { panic!("{name:?} is held") };
        assert!(lease.token > greatest);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_move_with_their_numbers_and_times() {
    let (from, to) = (Host::new().await, Host::new().await);
    let (old, new) = (from.events(), to.events());
    for (number, stream) in odd_keys().iter().enumerate() {
        for event in 0..number {
            old.append(stream, format!("{event}").as_bytes()).await.unwrap();
        }
        old.append(stream, value(number).as_bytes()).await.unwrap();
        if number % 4 == 3 {
            old.trim(stream, Retention::Events((number % 3) as u64)).await.unwrap();
        }
    }
    for max in [1, 5, 1_000] {
        // The second round repeats what is there already.
        let mut cursor = None;
        loop {
            let page = old.dump(cursor.as_deref(), max).await.unwrap();
            assert!(page.events.len() <= max as usize);
            assert_eq!(page.streams.iter().map(|stream| stream.events as usize).sum::<usize>(), page.events.len());
            new.load(&page.streams, &page.events, &page.bytes).await.unwrap();
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        for stream in odd_keys() {
            let (before, after) = (old.state(&stream).await.unwrap(), new.state(&stream).await.unwrap());
            assert_eq!((before.length, before.first, before.last), (after.length, after.first, after.last));
            let mut at = 0;
            loop {
                let before = old.read_after(&stream, at, 100).await.unwrap();
                let after = new.read_after(&stream, at, before.events.len().max(1) as u32).await.unwrap();
                assert_eq!(before.last, after.last);
                for (one, other) in before.events.iter().zip(&after.events) {
                    assert_eq!((one.sequence, one.time_ms), (other.sequence, other.time_ms));
                    assert!(text(&before.bytes, one.payload) == text(&after.bytes, other.payload));
                }
                let Some(last) = after.events.last() else { break };
                at = last.sequence;
            }
            assert_eq!(at, if after.length == 0 { 0 } else { after.last });
        }
    }
    assert_eq!(new.append("a", b"").await.unwrap(), old.append("a", b"").await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn configurations_move_with_full_and_remaining_times() {
    let (from, to) = (Host::new().await, Host::new().await);
    let (old, new) = (from.config(), to.config());
    for (number, id) in odd_keys().iter().enumerate() {
        let ttl = if number % 2 == 0 { ms(600_000) } else { None };
        old.save(Config, id, value(number).as_bytes(), ttl).await.unwrap();
        old.save(Metadata, id, b"other", None).await.unwrap();
    }
    old.save(Config, "short", b"s", ms(3_000)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    for namespace in [Config, Metadata] {
        let mut cursor = None;
        loop {
            let page = old.dump(namespace, cursor.as_deref(), 6).await.unwrap();
            assert!(page.entries.len() <= 6);
            if let Some(entry) = page.entries.iter().find(|entry| entry.id == "short") {
                assert_eq!(entry.ttl_ms, Some(3_000));
                assert!(entry.remaining_ms.unwrap() <= 2_700);
            }
            new.load(namespace, &page.entries, &page.bytes).await.unwrap();
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        for id in odd_keys() {
            assert!(old.peek(namespace, &id).await.unwrap() == new.peek(namespace, &id).await.unwrap(), "{id:?}");
        }
    }
    // The full time comes back with a get, as before the move.
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(new.get(Config, "short").await.unwrap().unwrap(), b"s");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memories_move_with_times_and_flush_flags() {
    let (from, to) = (Host::new().await, Host::new().await);
    let (old, new) = (from.memory(), to.memory());
    for (number, key) in odd_keys().iter().enumerate() {
        if number % 5 == 4 {
            old.mark_flush_pending(key).await.unwrap();
            continue;
        }
        let list: Vec<(String, u32)> = (0..=number as u32).map(|at| (format!("{key}{at}"), at)).collect();
        let list: Vec<(&str, u32)> = list.iter().map(|(content, tokens)| (content.as_str(), *tokens)).collect();
        old.append(key, &messages(&list), Some(Duration::from_mins(10)).filter(|_| number % 2 == 0), None)
            .await
            .unwrap();
        old.append(key, &messages(&[(&value(number), 9)]), None, Some(Keep::Messages(20))).await.unwrap();
        if number % 3 == 0 {
            old.mark_flush_pending(key).await.unwrap();
        }
    }
    new.append("a", &messages(&[("replaced", 1); 30]), ms(1_000), None).await.unwrap();
    new.mark_flush_pending("a").await.unwrap();
    for max in [1, 6, 1_000] {
        let mut cursor = None;
        loop {
            let page = old.dump(cursor.as_deref(), max).await.unwrap();
            assert!(page.messages.list.len() <= max as usize);
            let sum: usize = page.memories.iter().map(|memory| memory.messages as usize).sum();
            assert_eq!(sum, page.messages.list.len());
            new.load(&page.memories, &page.messages).await.unwrap();
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        for key in odd_keys() {
            assert!(contents(&old.read(&key).await.unwrap()) == contents(&new.read(&key).await.unwrap()), "{key:?}");
            let (before, after) = (old.count(&key).await.unwrap(), new.count(&key).await.unwrap());
            assert_eq!((before.messages, before.tokens), (after.messages, after.tokens), "{key:?}");
            assert_eq!(old.is_flush_pending(&key).await.unwrap(), new.is_flush_pending(&key).await.unwrap(), "{key:?}");
            let kind = |lifetime| match lifetime {
                Lifetime::Missing => 0,
                Lifetime::Unlimited => 1,
                Lifetime::RemainingMs(left) => left / 300_000 + 2,
            };
            assert_eq!(kind(old.ttl(&key).await.unwrap()), kind(new.ttl(&key).await.unwrap()), "{key:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trim_between_two_pages_makes_a_dump_neither_skip_nor_repeat() {
    let (from, to) = (Host::new().await, Host::new().await);
    let (old, new) = (from.memory(), to.memory());
    let list: Vec<(String, u32)> = (0..30).map(|at| (format!("{at}"), at)).collect();
    let list: Vec<(&str, u32)> = list.iter().map(|(content, tokens)| (content.as_str(), *tokens)).collect();
    old.append("m", &messages(&list), None, None).await.unwrap();
    let page = old.dump(None, 10).await.unwrap();
    new.load(&page.memories, &page.messages).await.unwrap();
    old.append("m", &messages(&[("new", 1)]), None, Some(Keep::Messages(26))).await.unwrap();
    let mut cursor = page.next;
    while let Some(text) = cursor {
        let page = old.dump(Some(&text), 7).await.unwrap();
        new.load(&page.memories, &page.messages).await.unwrap();
        cursor = page.next;
    }
    let mut expected = contents(&messages(&list));
    expected.push(("new".to_owned(), 1));
    assert_eq!(contents(&new.read("m").await.unwrap()), expected);
    assert_eq!(new.count("m").await.unwrap().tokens, (0..30).sum::<u64>() + 1);
}
