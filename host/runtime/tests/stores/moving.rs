//! `dump` and `load` of events and memories: what is large comes in pages, and a move that broke off goes on.

use compozy_runtime::stores::{DumpedMemory, Event, Keep, Lifetime, Messages, Retention, Span};

use crate::support::{Host, assert_invalid, contents, messages, ms};

const MIB: usize = 1024 * 1024;

/// Moves all streams page by page, each page twice, and calls `between` after each page. Answers the number of pages.
async fn move_events(from: &Host, to: &Host, max: u32, mut between: impl AsyncFnMut(usize)) -> usize {
    let (mut cursor, mut pages) = (None, 0);
    loop {
        let page = from.events().dump(cursor.as_deref(), max).await.unwrap();
        assert!(page.events.len() <= max as usize && page.bytes.len() <= 4 * MIB);
        for _ in 0..2 {
            to.events().load(&page.streams, &page.events, &page.bytes).await.unwrap();
        }
        pages += 1;
        between(pages).await;
        match page.next {
            Some(next) => cursor = Some(next),
            None => return pages,
        }
    }
}

async fn same_stream(from: &Host, to: &Host, stream: &str) {
    let mut after = 0;
    loop {
        let (a, b) = (
            from.events().read_after(stream, after, 1_000).await.unwrap(),
            to.events().read_after(stream, after, 1_000).await.unwrap(),
        );
        assert_eq!(format!("{:?}", a.events), format!("{:?}", b.events), "{stream}");
        assert!(a.bytes == b.bytes && a.last == b.last, "{stream}: {} and {}", a.last, b.last);
        match a.events.last() {
            Some(event) => after = event.sequence,
            None => break,
        }
    }
    let (a, b) = (from.events().state(stream).await.unwrap(), to.events().state(stream).await.unwrap());
    assert_eq!((a.length, a.first, a.last), (b.length, b.first, b.last), "{stream}");
}

#[tokio::test]
async fn streams_move_with_sequences_and_times_in_pages() {
    let (from, to) = (Host::new().await, Host::new().await);
    let events = from.events();
    let names: Vec<String> = (0..150).map(|number| format!("small{number:03}")).collect();
    for name in &names {
        for number in 0..3 {
            events.append(name, format!("{name} {number}").as_bytes()).await.unwrap();
            from.turn_clock(1);
        }
    }
    for _ in 0..40 {
        events.append("large", &vec![3; MIB / 4]).await.unwrap();
    }
    events.trim("large", Retention::Events(30)).await.unwrap();
    events.append("trimmed", b"t").await.unwrap();
    events.trim("trimmed", Retention::Events(0)).await.unwrap();
    let pages = move_events(&from, &to, 100, async |_| ()).await;
    assert!(pages >= 6, "{pages} pages of 100 events and 4 MiB");
    for name in names.iter().map(String::as_str).chain(["large", "trimmed"]) {
        same_stream(&from, &to, name).await;
    }
    assert_eq!(to.events().append("trimmed", b"t").await.unwrap(), 2);
    assert_eq!(to.events().append("large", b"t").await.unwrap(), 41);
}

#[tokio::test]
async fn a_stream_that_changes_while_it_moves_keeps_its_numbers() {
    let (from, to) = (Host::new().await, Host::new().await);
    for _ in 0..20 {
        from.events().append("s", b"e").await.unwrap();
    }
    move_events(&from, &to, 5, async |page| {
        from.events().append("s", b"late").await.unwrap();
        if page == 2 {
            // Some of what comes next is gone, and some of what was moved.
            from.events().trim("s", Retention::Events(8)).await.unwrap();
        }
    })
    .await;
    let state = to.events().state("s").await.unwrap();
    let page = to.events().read_after("s", 0, 1_000).await.unwrap();
    assert_eq!(state.length, page.events.len() as u64, "the length is exact though some numbers are missing");
    let from_page = from.events().read_after("s", 0, 1_000).await.unwrap();
    let moved: Vec<u64> = page.events.iter().map(|event| event.sequence).collect();
    assert_eq!(moved[..10], (1..=10).collect::<Vec<_>>());
    for event in &from_page.events[..7] {
        assert!(moved.contains(&event.sequence), "{}", event.sequence);
    }
    // Trimming counts what is there, not what the numbers suggest.
    assert_eq!(to.events().trim("s", Retention::Events(3)).await.unwrap(), state.length - 3);
    assert_eq!(to.events().state("s").await.unwrap().length, 3);
    let next = to.events().append("s", b"e").await.unwrap();
    assert_eq!(next, state.last + 1);
}

#[tokio::test]
async fn loading_keeps_the_events_that_are_there() {
    let host = Host::new().await;
    let events = host.events();
    for payload in ["own1", "own2", "own3"] {
        events.append("s", payload.as_bytes()).await.unwrap();
    }
    let event = |sequence| Event { sequence, time_ms: 5, payload: Span { offset: 0, length: 1 } };
    let stream = compozy_runtime::stores::DumpedStream { stream: "s".to_owned(), last: 9, events: 3 };
    for _ in 0..2 {
        events.load(std::slice::from_ref(&stream), &[event(3), event(6), event(7)], b"L").await.unwrap();
        let page = events.read_after("s", 0, 10).await.unwrap();
        let found: Vec<_> = page.events.iter().map(|event| (event.sequence, event.payload.length)).collect();
        assert_eq!(found, [(1, 4), (2, 4), (3, 4), (6, 1), (7, 1)]);
        let state = events.state("s").await.unwrap();
        assert_eq!((state.length, state.first, state.last), (5, Some(1), 9));
    }
    assert_eq!(events.append("s", b"e").await.unwrap(), 10);
    assert_eq!(events.trim("s", Retention::Events(2)).await.unwrap(), 4);
    // A page that is loaded once more after a trim.
    events.load(std::slice::from_ref(&stream), &[event(3), event(6), event(7)], b"L").await.unwrap();
    let state = events.state("s").await.unwrap();
    assert_eq!((state.length, state.first, state.last), (4, Some(3), 10));
}

/// Moves all memories page by page, each page twice. Answers the number of pages.
async fn move_memories(from: &Host, to: &Host, max: u32) -> usize {
    let (mut cursor, mut pages) = (None, 0);
    loop {
        let page = from.memory().dump(cursor.as_deref(), max).await.unwrap();
        assert!(page.messages.list.len() <= max as usize && page.messages.bytes.len() <= 4 * MIB);
        for _ in 0..2 {
            to.memory().load(&page.memories, &page.messages).await.unwrap();
        }
        pages += 1;
        match page.next {
            Some(next) => cursor = Some(next),
            None => return pages,
        }
    }
}

#[tokio::test]
async fn memories_move_with_counts_times_and_flags_in_pages() {
    let (from, to) = (Host::new().await, Host::new().await);
    let memory = from.memory();
    for number in 0..140 {
        let ttl = if number % 2 == 0 { ms(1_000) } else { None };
        memory.append(&format!("m{number:03}"), &messages(&[("a", number), ("b", 1)]), ttl, None).await.unwrap();
    }
    let text = "x".repeat(MIB / 4);
    for _ in 0..3 {
        memory.append("large", &messages(&[(text.as_str(), 5); 12]), None, Some(Keep::Messages(30))).await.unwrap();
    }
    memory.mark_flush_pending("flag").await.unwrap();
    memory.mark_flush_pending("m001").await.unwrap();
    memory.append("expired", &messages(&[("a", 1)]), ms(300), None).await.unwrap();
    from.turn_clock(400);
    // What the target holds before is replaced.
    to.memory().append("m000", &messages(&[("old", 1); 5]), None, None).await.unwrap();
    to.memory().mark_flush_pending("m000").await.unwrap();
    let pages = move_memories(&from, &to, 50).await;
    assert!(pages >= 6, "{pages} pages of 50 messages and 4 MiB");
    let (a, b) = (memory.list("", None, 1_000).await.unwrap(), to.memory().list("", None, 1_000).await.unwrap());
    assert_eq!((a.keys.len(), a.keys), (141, b.keys));
    for key in ["m000", "m001", "m139", "large", "expired", "flag"] {
        let (a, b) = (memory.read(key).await.unwrap(), to.memory().read(key).await.unwrap());
        assert!(contents(&a) == contents(&b), "{key}");
        let (a, b) = (memory.count(key).await.unwrap(), to.memory().count(key).await.unwrap());
        assert_eq!((a.messages, a.tokens), (b.messages, b.tokens), "{key}");
        let (a, b) = (memory.ttl(key).await.unwrap(), to.memory().ttl(key).await.unwrap());
        assert_eq!(format!("{a:?}"), format!("{b:?}"), "{key}");
        let flag = key == "flag" || key == "m001";
        assert_eq!(to.memory().is_flush_pending(key).await.unwrap(), flag, "{key}");
    }
    to.turn_clock(600);
    assert!(matches!(to.memory().ttl("m000").await.unwrap(), Lifetime::Missing), "600 ms were left");
    to.turn_clock(30 * 60_000 - 1_001);
    assert!(to.memory().is_flush_pending("flag").await.unwrap());
    to.turn_clock(1);
    assert!(!to.memory().is_flush_pending("flag").await.unwrap());
}

#[tokio::test]
async fn a_page_of_a_memory_goes_where_it_belongs() {
    let host = Host::new().await;
    let memory = host.memory();
    let dumped =
        |offset, messages| DumpedMemory { key: "m".to_owned(), ttl_ms: None, flush_pending_ms: None, offset, messages };
    let abc = messages(&[("a", 1), ("b", 2), ("c", 3)]);
    assert_invalid(memory.load(&[dumped(1, 3)], &abc).await, "in order");
    assert_invalid(memory.load(&[dumped(0, 2)], &abc).await, "2 messages, but 3");
    memory.load(&[dumped(0, 3)], &abc).await.unwrap();
    memory.load(&[dumped(2, 1)], &messages(&[("d", 4)])).await.unwrap();
    assert_eq!(
        contents(&memory.read("m").await.unwrap()).iter().map(|(text, _)| text.as_str()).collect::<String>(),
        "abd"
    );
    memory.load(&[dumped(1, 0)], &messages(&[])).await.unwrap();
    let counts = memory.count("m").await.unwrap();
    assert_eq!((counts.messages, counts.tokens), (1, 1));
    memory.load(&[dumped(0, 0)], &messages(&[])).await.unwrap();
    assert!(memory.list("", None, 10).await.unwrap().keys.is_empty());
}

#[tokio::test]
async fn a_cursor_of_one_call_is_none_of_another() {
    let host = Host::new().await;
    let empty = Messages { list: Vec::new(), bytes: Vec::new() };
    host.memory().load(&[], &empty).await.unwrap();
    host.memory().append("m1", &messages(&[("a", 1), ("b", 1)]), None, None).await.unwrap();
    host.memory().append("m2", &messages(&[("a", 1)]), None, None).await.unwrap();
    for stream in ["s1", "s2"] {
        host.events().append(stream, b"e").await.unwrap();
        host.cache().set(stream, b"v", None, compozy_runtime::stores::Condition::Always).await.unwrap();
    }
    let cursors = [
        host.cache().scan("", None, 1).await.unwrap().next.unwrap(),
        host.cache().dump(None, 1).await.unwrap().next.unwrap(),
        host.events().list("", None, 1).await.unwrap().next.unwrap(),
        host.events().dump(None, 1).await.unwrap().next.unwrap(),
        host.memory().list("", None, 1).await.unwrap().next.unwrap(),
        host.memory().dump(None, 1).await.unwrap().next.unwrap(),
        "rubbish".to_owned(),
    ];
    for (index, cursor) in cursors.iter().enumerate() {
        let cursor = Some(cursor.as_str());
        let taken = [
            host.cache().scan("", cursor, 1).await.is_ok(),
            host.cache().dump(cursor, 1).await.is_ok(),
            host.events().list("", cursor, 1).await.is_ok(),
            host.events().dump(cursor, 1).await.is_ok(),
            host.memory().list("", cursor, 1).await.is_ok(),
            host.memory().dump(cursor, 1).await.is_ok(),
        ];
        for (call, taken) in taken.into_iter().enumerate() {
            assert_eq!(taken, call == index, "cursor {cursor:?}, call {call}");
        }
    }
}
