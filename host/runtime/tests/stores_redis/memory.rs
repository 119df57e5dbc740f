//! The role `memory-store`.

use compozy_runtime::stores::{Counts, Keep, Lifetime, MemoryStore, Messages};

use crate::support::{Host, all, assert_invalid, assert_too_large, contents, eventually, messages, ms, odd_keys};

fn pair(counts: Counts) -> (u64, u64) {
    (counts.messages, counts.tokens)
}

fn owned(contents: &[(&str, u32)]) -> Vec<(String, u32)> {
    contents.iter().map(|(content, tokens)| ((*content).to_owned(), *tokens)).collect()
}

async fn append(memory: &dyn MemoryStore, key: &str, contents: &[(&str, u32)]) -> (u64, u64) {
    pair(memory.append(key, &messages(contents), None, None).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_back_in_order_with_their_tokens() {
    let host = Host::new().await;
    let memory = host.memory();
    for key in odd_keys() {
        assert_eq!(pair(memory.count(&key).await.unwrap()), (0, 0));
        assert!(memory.read(&key).await.unwrap().list.is_empty());
        assert_eq!(append(&*memory, &key, &[(&key, 1), ("", 0)]).await, (2, 1));
        assert_eq!(append(&*memory, &key, &[("3;4;\0\r\n", u32::MAX)]).await, (3, 1 + u64::from(u32::MAX)));
        let expected = owned(&[(&key, 1), ("", 0), ("3;4;\0\r\n", u32::MAX)]);
        assert_eq!(contents(&memory.read(&key).await.unwrap()), expected, "{key:?}");
        assert_eq!(pair(memory.count(&key).await.unwrap()), (3, 1 + u64::from(u32::MAX)));
    }
    for prefix in ["", "a", "a*", "\0"] {
        let found = all(async |cursor| memory.list(prefix, cursor.as_deref(), 2).await).await;
        assert_eq!(found, odd_keys().into_iter().filter(|key| key.starts_with(prefix)).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_a_slice_with_the_total() {
    let host = Host::new().await;
    let memory = host.memory();
    let all: Vec<(String, u32)> = (0..250).map(|number| (format!("message {number}"), number)).collect();
    let all: Vec<(&str, u32)> = all.iter().map(|(content, tokens)| (content.as_str(), *tokens)).collect();
    append(&*memory, "m", &all).await;
    for _ in 0..2 {
        for (offset, limit) in [(0, 1), (0, 250), (0, 1_000), (1, 3), (249, 5), (250, 5), (u64::MAX, 5)] {
            let page = memory.page("m", offset, limit).await.unwrap();
            let from = usize::try_from(offset).unwrap().min(250);
            let to = (from + limit as usize).min(250);
            assert_eq!((page.total, contents(&page.messages)), (250, owned(&all[from..to])), "{offset} {limit}");
        }
    }
    for offset in [0, 3] {
        let page = memory.page("none", offset, 5).await.unwrap();
        assert!(page.total == 0 && page.messages.list.is_empty());
    }
    for limit in [0, 1_001] {
        assert_invalid(memory.page("m", 0, limit).await, "`limit`");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trim_keeps_the_last_messages_or_the_last_tokens() {
    let host = Host::new().await;
    let memory = host.memory();
    let all = [("a", 5), ("b", 0), ("c", 3), ("d", 0), ("e", 2), ("f", 0)];
    for (keep, left) in [
        (Keep::Messages(9), 0),
        (Keep::Messages(6), 0),
        (Keep::Messages(2), 4),
        (Keep::Messages(0), 6),
        (Keep::Tokens(u64::MAX), 0),
        (Keep::Tokens(10), 0),
        (Keep::Tokens(9), 1),
        (Keep::Tokens(5), 1),
        (Keep::Tokens(4), 3),
        (Keep::Tokens(1), 5),
        (Keep::Tokens(0), 5),
    ] {
        let expected = owned(&all[left..]);
        let counts = (expected.len() as u64, expected.iter().map(|(_, tokens)| u64::from(*tokens)).sum());
        memory.clear("m").await.unwrap();
        append(&*memory, "m", &all).await;
        assert_eq!(pair(memory.trim("m", keep).await.unwrap()), counts, "{keep:?}");
        assert_eq!(contents(&memory.read("m").await.unwrap()), expected, "{keep:?}");
        memory.clear("m").await.unwrap();
        append(&*memory, "m", &all[..3]).await;
        let appended = memory.append("m", &messages(&all[3..]), None, Some(keep)).await.unwrap();
        assert_eq!((pair(appended), pair(memory.count("m").await.unwrap())), (counts, counts), "{keep:?}");
        assert_eq!(contents(&memory.read("m").await.unwrap()), expected, "{keep:?}");
    }
    assert_eq!(pair(memory.trim("none", Keep::Messages(1)).await.unwrap()), (0, 0));
    memory.append("m", &messages(&[("x", 1)]), ms(60_000), Some(Keep::Messages(0))).await.unwrap();
    assert!(matches!(memory.ttl("m").await.unwrap(), Lifetime::Missing), "without messages there is nothing");
    assert!(memory.list("", None, 10).await.unwrap().keys.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_memory_is_trimmed_exactly() {
    let host = Host::new().await;
    let memory = host.memory();
    let batch: Vec<(&str, u32)> = vec![("x", 3); 1_000];
    append(&*memory, "m", &batch).await;
    append(&*memory, "m", &batch).await;
    assert_eq!(pair(memory.trim("m", Keep::Tokens(3_500)).await.unwrap()), (1_166, 3_498));
    assert_eq!(pair(memory.trim("m", Keep::Messages(7)).await.unwrap()), (7, 21));
    assert_eq!(memory.read("m").await.unwrap().list.len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_keep_the_counts_exact() {
    let host = Host::new().await;
    let writers: Vec<_> = (0..16)
        .map(|writer: u32| {
            let memory = host.memory();
            tokio::spawn(async move {
                for _ in 0..20 {
                    let keep = Some(Keep::Messages(50)).filter(|_| writer.is_multiple_of(2));
                    memory.append("m", &messages(&[("x", writer), ("y", 1)]), ms(60_000), keep).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let memory = host.memory();
    let all = contents(&memory.read("m").await.unwrap());
    let tokens = all.iter().map(|(_, tokens)| u64::from(*tokens)).sum();
    assert_eq!(pair(memory.count("m").await.unwrap()), (all.len() as u64, tokens));
}

#[tokio::test(flavor = "multi_thread")]
async fn times_to_live_stay_until_they_are_set() {
    let host = Host::new().await;
    let memory = host.memory();
    assert!(!memory.expire("m", ms(1_000)).await.unwrap() && !memory.expire("m", None).await.unwrap());
    memory.append("m", &messages(&[("a", 1)]), ms(60_000), None).await.unwrap();
    let limited = async || matches!(memory.ttl("m").await.unwrap(), Lifetime::RemainingMs(30_000..=60_000));
    append(&*memory, "m", &[("b", 1)]).await;
    assert!(limited().await, "append without a time leaves it");
    memory.replace("m", &messages(&[("c", 4)]), None).await.unwrap();
    assert!(limited().await, "replace without a time leaves it");
    memory.append("m", &messages(&[("d", 1)]), None, Some(Keep::Messages(1))).await.unwrap();
    assert!(limited().await, "a trim leaves it");
    assert_eq!(contents(&memory.read("m").await.unwrap()), owned(&[("d", 1)]));
    assert!(memory.expire("m", None).await.unwrap());
    assert!(matches!(memory.ttl("m").await.unwrap(), Lifetime::Unlimited));
    memory.replace("m", &messages(&[("e", 1)]), ms(40)).await.unwrap();
    eventually("the end of the memory", async || memory.read("m").await.unwrap().list.is_empty()).await;
    assert_eq!(pair(memory.count("m").await.unwrap()), (0, 0));
    assert!(matches!(memory.ttl("m").await.unwrap(), Lifetime::Missing));
    assert!(!memory.expire("m", None).await.unwrap());
    assert!(memory.list("", None, 10).await.unwrap().keys.is_empty());
    assert_eq!((memory.sweep(10).await.unwrap(), memory.sweep(10).await.unwrap()), (1, 0));
    assert_eq!(memory.stats().await.unwrap().entries, Some(0));
    assert!(!memory.clear("m").await.unwrap());
    assert_eq!(append(&*memory, "m", &[("f", 1)]).await, (1, 1), "counts begin anew");
    assert!(matches!(memory.ttl("m").await.unwrap(), Lifetime::Unlimited));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_takes_the_place_of_all() {
    let host = Host::new().await;
    let memory = host.memory();
    append(&*memory, "m", &[("a", 1), ("b", 2)]).await;
    assert_eq!(pair(memory.replace("m", &messages(&[("c", 9)]), None).await.unwrap()), (1, 9));
    assert_eq!(contents(&memory.read("m").await.unwrap()), owned(&[("c", 9)]));
    assert_eq!(pair(memory.replace("m", &messages(&[]), ms(1_000)).await.unwrap()), (0, 0));
    assert!(memory.list("", None, 10).await.unwrap().keys.is_empty());
    assert_eq!(pair(memory.replace("m", &messages(&[("d", 1)]), ms(60_000)).await.unwrap()), (1, 1));
    assert!(matches!(memory.ttl("m").await.unwrap(), Lifetime::RemainingMs(_)));
    assert!(memory.clear("m").await.unwrap() && !memory.clear("m").await.unwrap());
    assert!(host.keys().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_flush_flag_is_a_thing_of_its_own() {
    let host = Host::new().await;
    let memory = host.memory();
    assert!(!memory.is_flush_pending("m").await.unwrap() && !memory.clear_flush_pending("m").await.unwrap());
    let marks: Vec<_> = (0..16)
        .map(|_| {
            let memory = host.memory();
            tokio::spawn(async move { memory.mark_flush_pending("m").await.unwrap() })
        })
        .collect();
    let mut set = 0;
    for mark in marks {
        set += u32::from(mark.await.unwrap());
    }
    assert_eq!(set, 1, "someone else flushes");
    let reply = host.server.command(&["PTTL", &format!("compozy:redis:{}", host.keys()[0])]);
    let left: u64 = reply.trim_start_matches(':').trim().parse().unwrap();
    assert!((1_790_000..=1_800_000).contains(&left), "{left}");
    assert!(memory.is_flush_pending("m").await.unwrap());
    assert_eq!(pair(memory.count("m").await.unwrap()), (0, 0));
    assert!(memory.list("", None, 10).await.unwrap().keys.is_empty());
    append(&*memory, "m", &[("a", 1)]).await;
    memory.trim("m", Keep::Messages(0)).await.unwrap();
    assert!(memory.is_flush_pending("m").await.unwrap(), "the flag outlives the messages");
    assert!(!memory.clear("m").await.unwrap() && !memory.is_flush_pending("m").await.unwrap());
    assert!(memory.mark_flush_pending("m").await.unwrap() && memory.clear_flush_pending("m").await.unwrap());
    assert!(memory.mark_flush_pending("m").await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_are_checked() {
    let host = Host::new().await;
    let memory = host.memory();
    assert_invalid(memory.append("m", &messages(&[]), None, None).await, "there are no messages");
    assert_invalid(memory.append("", &messages(&[("a", 1)]), None, None).await, "the key is empty");
    assert_invalid(memory.append("m", &messages(&[("a", 1)]), ms(0), None).await, "0 ms");
    assert_too_large(
        memory.append("m", &messages(&vec![("", 0); 1_001]), None, None).await,
        "batch_items",
        1_001,
        1_000,
    );
    let mut broken = messages(&[("a", 1)]);
    broken.list[0].span.length = 2;
    assert_invalid(memory.replace("m", &broken, None).await, "reaches past the end");
    assert_eq!(pair(memory.count("m").await.unwrap()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_come_back_and_what_cannot_travel_is_told() {
    let host = Host::new().await;
    let memory = host.memory();
    let content = "x".repeat(16 * 1024 * 1024);
    for tokens in 0..2 {
        append(&*memory, "m", &[(&content, tokens)]).await;
    }
    for offset in 0..2 {
        let page = memory.page("m", offset, 1).await.unwrap();
        assert!(page.total == 2 && contents(&page.messages)[0].0 == content);
    }
    match memory.read("m").await {
        Err(compozy_runtime::stores::StoreError::TooLarge { limit, .. }) => assert_eq!(limit, "hostcall_bytes"),
        other => panic!("{:?}", other.map(|Messages { list, .. }| list.len())),
    }
}
