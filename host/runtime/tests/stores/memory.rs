//! The role `memory-store`.

use compozy_runtime::stores::{Counts, Keep, Lifetime, Message, Messages, Span};

use crate::support::{Host, assert_invalid, assert_too_large, contents, messages, ms, odd_keys};

fn pair(counts: Counts) -> (u64, u64) {
    (counts.messages, counts.tokens)
}

fn owned(contents: &[(&str, u32)]) -> Vec<(String, u32)> {
    contents.iter().map(|(content, tokens)| ((*content).to_owned(), *tokens)).collect()
}

#[tokio::test]
async fn counts_are_exact_after_every_change() {
    let host = Host::new().await;
    let memory = host.memory();
    assert_eq!(pair(memory.count("m").await.unwrap()), (0, 0));
    let abc = messages(&[("a", 1), ("", 20), ("c", u32::MAX)]);
    let max = u64::from(u32::MAX);
    assert_eq!(pair(memory.append("m", &abc, None, None).await.unwrap()), (3, 21 + max));
    assert_eq!(pair(memory.append("m", &abc, None, Some(Keep::Messages(4))).await.unwrap()), (4, 21 + 2 * max));
    assert_eq!(
        contents(&memory.read("m").await.unwrap()),
        owned(&[("c", u32::MAX), ("a", 1), ("", 20), ("c", u32::MAX)])
    );
    assert_eq!(pair(memory.trim("m", Keep::Messages(2)).await.unwrap()), (2, 20 + max));
    assert_eq!(pair(memory.trim("m", Keep::Messages(5)).await.unwrap()), (2, 20 + max), "fewer than that are there");
    assert_eq!(pair(memory.replace("m", &messages(&[("x", 7)]), None).await.unwrap()), (1, 7));
    assert_eq!(pair(memory.append("m", &abc, None, Some(Keep::Messages(2))).await.unwrap()), (2, 20 + max));
    assert_eq!(pair(memory.count("m").await.unwrap()), (2, 20 + max));
    assert_eq!(pair(memory.append("m", &abc, None, Some(Keep::Messages(0))).await.unwrap()), (0, 0));
    assert!(memory.read("m").await.unwrap().list.is_empty());
    assert!(memory.list("", None, 10).await.unwrap().keys.is_empty(), "a memory without messages is none");
    memory.append("m", &abc, None, None).await.unwrap();
    assert_eq!(pair(memory.trim("m", Keep::Messages(0)).await.unwrap()), (0, 0));
    assert_eq!(pair(memory.replace("m", &messages(&[]), None).await.unwrap()), (0, 0));
    assert!(!memory.clear("m").await.unwrap());
}

#[tokio::test]
async fn an_expired_memory_begins_with_nothing() {
    let host = Host::new().await;
    let memory = host.memory();
    memory.append("m", &messages(&[("a", 1), ("b", 2)]), ms(1_000), None).await.unwrap();
    host.turn_clock(500);
    memory.append("m", &messages(&[("c", 3)]), None, None).await.unwrap();
    assert!(matches!(memory.ttl("m").await.unwrap(), Lifetime::RemainingMs(500)), "left as it was");
    host.turn_clock(500);
    assert_eq!(pair(memory.count("m").await.unwrap()), (0, 0));
    assert!(memory.read("m").await.unwrap().list.is_empty());
    assert_eq!(memory.page("m", 0, 10).await.unwrap().total, 0);
    assert!(matches!(memory.ttl("m").await.unwrap(), Lifetime::Missing));
    assert!(!memory.expire("m", None).await.unwrap());
    assert!(memory.list("", None, 10).await.unwrap().keys.is_empty());
    assert_eq!(pair(memory.trim("m", Keep::Messages(1)).await.unwrap()), (0, 0));
    assert!(!memory.clear("m").await.unwrap());
    assert_eq!(pair(memory.append("m", &messages(&[("d", 4)]), None, None).await.unwrap()), (1, 4));
    assert!(matches!(memory.ttl("m").await.unwrap(), Lifetime::Unlimited), "the old time to live is gone too");
    assert!(memory.expire("m", ms(10)).await.unwrap());
    host.turn_clock(10);
    assert_eq!(pair(memory.replace("m", &messages(&[("e", 5)]), None).await.unwrap()), (1, 5));
    assert!(matches!(memory.ttl("m").await.unwrap(), Lifetime::Unlimited));
}

#[tokio::test]
async fn pages_tell_the_total_of_the_same_moment() {
    let host = Host::new().await;
    let memory = host.memory();
    let names: Vec<String> = (0..25).map(|number| format!("m{number}")).collect();
    let all: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    memory.append("m", &messages(&all), None, Some(Keep::Messages(20))).await.unwrap();
    for (offset, limit, expected) in
        [(0, 5, 5..10), (5, 1_000, 10..25), (19, 2, 24..25), (20, 1, 0..0), (u64::MAX, 1, 0..0)]
    {
        let page = memory.page("m", offset, limit).await.unwrap();
        assert_eq!(page.total, 20);
        assert_eq!(contents(&page.messages), owned(&all[expected]), "offset {offset}, limit {limit}");
    }
    assert_invalid(memory.page("m", 0, 0).await, "`limit`");
    assert_invalid(memory.page("m", 0, 1_001).await, "`limit`");
}

#[tokio::test]
async fn the_flush_flag_holds_for_thirty_minutes() {
    let host = Host::new().await;
    let memory = host.memory();
    assert!(!memory.is_flush_pending("m").await.unwrap());
    assert!(memory.mark_flush_pending("m").await.unwrap());
    assert!(!memory.mark_flush_pending("m").await.unwrap(), "someone else flushes");
    host.turn_clock(30 * 60_000 - 1);
    assert!(memory.is_flush_pending("m").await.unwrap());
    host.turn_clock(1);
    assert!(!memory.is_flush_pending("m").await.unwrap());
    assert!(!memory.clear_flush_pending("m").await.unwrap());
    assert!(memory.mark_flush_pending("m").await.unwrap());
    assert!(memory.clear_flush_pending("m").await.unwrap());
    assert!(memory.mark_flush_pending("m").await.unwrap());
    memory.append("m", &messages(&[("a", 1)]), None, None).await.unwrap();
    assert!(memory.clear("m").await.unwrap());
    assert!(!memory.is_flush_pending("m").await.unwrap());
}

#[tokio::test]
async fn arguments_are_checked() {
    let host = Host::new().await;
    let memory = host.memory();
    let one = messages(&[("a", 1)]);
    assert_invalid(memory.append("", &one, None, None).await, "key is empty");
    assert_invalid(memory.append("m", &messages(&[]), None, None).await, "no messages");
    assert_invalid(memory.append("m", &one, ms(0), None).await, "at least 1 ms");
    assert_too_large(
        memory.append("m", &messages(&vec![("a", 1); 1_001]), None, None).await,
        "batch_items",
        1_001,
        1_000,
    );
    assert_too_large(memory.replace(&"m".repeat(513), &one, None).await, "key_bytes", 513, 512);
    let beyond = Messages { list: vec![Message { span: Span { offset: 1, length: 1 }, tokens: 0 }], bytes: vec![0] };
    assert_invalid(memory.append("m", &beyond, None, None).await, "past the end");
    assert_eq!(pair(memory.count("m").await.unwrap()), (0, 0), "nothing was written");
}

#[tokio::test]
async fn a_message_of_the_largest_size_comes_back() {
    let host = Host::new().await;
    let large = "x".repeat(16 * 1024 * 1024);
    for _ in 0..2 {
        host.memory().append("m", &messages(&[(&large, 1)]), None, None).await.unwrap();
        let page = host.memory().page("m", 0, 1).await.unwrap();
        assert!(page.messages.bytes == large.as_bytes());
    }
    let page = host.memory().dump(None, 1_000).await.unwrap();
    assert_eq!((page.messages.list.len(), page.next.is_some()), (1, true), "it travels alone");
    host.memory().load(&page.memories, &page.messages).await.unwrap();
}

#[tokio::test]
async fn odd_keys_are_memories_of_their_own() {
    let host = Host::new().await;
    let memory = host.memory();
    for key in odd_keys() {
        memory.append(&key, &messages(&[(&key, 3)]), None, None).await.unwrap();
    }
    let mut expected = odd_keys();
    expected.sort();
    assert_eq!(memory.list("", None, 1_000).await.unwrap().keys, expected);
    for key in odd_keys() {
        assert_eq!(contents(&memory.read(&key).await.unwrap()), [(key, 3)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_appends_lose_nothing() {
    let host = Host::new().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let memory = host.memory();
        tasks.spawn(async move {
            for _ in 0..25 {
                memory.append("m", &messages(&[("a", 2), ("b", 3)]), None, None).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let host = host.reopened().await;
    assert_eq!(pair(host.memory().count("m").await.unwrap()), (400, 1_000));
    let all = contents(&host.memory().page("m", 0, 1_000).await.unwrap().messages);
    assert!(all.chunks(2).all(|two| two[0].0 == "a" && two[1].0 == "b"), "an append is one step");
}
