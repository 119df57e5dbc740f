//! The role `events`.

use std::time::Duration;

use compozy_runtime::stores::{DumpedStream, Event, EventPage, Events, Retention, Span, StreamState};

use crate::support::{Host, all, assert_invalid, assert_too_large, odd_keys, text};

fn payloads(page: &EventPage) -> Vec<(u64, String)> {
    page.events.iter().map(|event| (event.sequence, text(&page.bytes, event.payload))).collect()
}

async fn append(events: &dyn Events, stream: &str, payloads: &[&str]) -> u64 {
    let (spans, bytes) = flat(payloads);
    events.append_many(stream, &spans, &bytes).await.unwrap()
}

fn flat(payloads: &[&str]) -> (Vec<Span>, Vec<u8>) {
    let (mut spans, mut bytes) = (Vec::new(), Vec::new());
    for payload in payloads {
        spans.push(Span { offset: bytes.len() as u32, length: payload.len() as u32 });
        bytes.extend_from_slice(payload.as_bytes());
    }
    (spans, bytes)
}

fn state(length: u64, first: Option<u64>, last: u64) -> (u64, Option<u64>, u64) {
    (length, first, last)
}

async fn state_of(events: &dyn Events, stream: &str) -> (u64, Option<u64>, u64) {
    let StreamState { length, first, last } = events.state(stream).await.unwrap();
    (length, first, last)
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_begin_at_1_and_have_no_gaps_in_each_stream() {
    let host = Host::new().await;
    let events = host.events();
    assert_eq!(state_of(&*events, "a").await, state(0, None, 0));
    assert!(events.read_after("a", 0, 10).await.unwrap().events.is_empty());
    for stream in odd_keys() {
        assert_eq!(events.append(&stream, stream.as_bytes()).await.unwrap(), 1);
        assert_eq!(append(&*events, &stream, &["", "two\0\r\n"]).await, 3);
        let page = events.read_after(&stream, 0, 1_000).await.unwrap();
        let expected = [stream.as_str(), "", "two\0\r\n"].map(str::to_owned);
        assert_eq!(payloads(&page), (1..=3).zip(expected).collect::<Vec<_>>());
        assert!(page.last == 3 && page.events.is_sorted_by_key(|event| event.time_ms));
        assert_eq!(state_of(&*events, &stream).await, state(3, Some(1), 3));
    }
    for prefix in ["", "a", "a*", "{"] {
        let found = all(async |cursor| events.list(prefix, cursor.as_deref(), 2).await).await;
        assert_eq!(found, odd_keys().into_iter().filter(|key| key.starts_with(prefix)).collect::<Vec<_>>());
    }
    assert_eq!(events.stats().await.unwrap().entries, Some(odd_keys().len() as u64));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_lose_nothing() {
    let host = Host::new().await;
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let events = host.events();
            tokio::spawn(async move {
                let mut sequences = Vec::new();
                for number in 0..20 {
                    sequences.push(events.append("s", format!("{writer}-{number}").as_bytes()).await.unwrap());
                }
                sequences
            })
        })
        .collect();
    let mut sequences = Vec::new();
    for writer in writers {
        let own = writer.await.unwrap();
        assert!(own.is_sorted());
        sequences.extend(own);
    }
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=320).collect::<Vec<_>>());
    let events = host.events();
    let (mut after, mut seen) = (0, 0);
    loop {
        let page = events.read_after("s", after, 7).await.unwrap();
        assert_eq!(page.last, 320);
        let Some(last) = page.events.last() else { break };
        assert_eq!(page.events.first().unwrap().sequence, after + 1);
        seen += page.events.len();
        after = last.sequence;
    }
    assert_eq!((seen, after), (320, 320));
    assert!(events.read_after("s", u64::MAX, 7).await.unwrap().events.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trim_by_number_keeps_the_last_and_the_numbers_go_on() {
    let host = Host::new().await;
    let events = host.events();
    assert_eq!(events.trim("s", Retention::Events(1)).await.unwrap(), 0);
    append(&*events, "s", &["a", "b", "c", "d"]).await;
    assert_eq!(events.trim("s", Retention::Events(u64::MAX)).await.unwrap(), 0);
    assert_eq!(events.trim("s", Retention::Events(3)).await.unwrap(), 1);
    assert_eq!(state_of(&*events, "s").await, state(3, Some(2), 4));
    assert_eq!(payloads(&events.read_after("s", 0, 1).await.unwrap()), [(2, "b".to_owned())]);
    assert_eq!(events.trim("s", Retention::Events(0)).await.unwrap(), 3);
    assert_eq!(state_of(&*events, "s").await, state(0, None, 4));
    let page = events.read_after("s", 0, 1).await.unwrap();
    assert!(page.events.is_empty() && page.last == 4);
    assert_eq!(events.list("", None, 10).await.unwrap().keys, ["s"]);
    assert_eq!(events.append("s", b"e").await.unwrap(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trim_by_age_removes_what_is_older() {
    let host = Host::new().await;
    let events = host.events();
    // Fifty events of long ago, a second between each two.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let payload = Span { offset: 0, length: 0 };
    let old: Vec<Event> =
        (1..=50).map(|sequence| Event { sequence, time_ms: now - 1_000_000 + sequence * 1_000, payload }).collect();
    events.load(&[DumpedStream { stream: "s".into(), last: 50, events: 50 }], &old, b"").await.unwrap();
    append(&*events, "s", &["b"; 30]).await;
    assert_eq!(events.trim("s", Retention::AgeMs(2_000_000)).await.unwrap(), 0);
    assert_eq!(events.trim("s", Retention::AgeMs(u64::MAX)).await.unwrap(), 0);
    // The twentieth is this old; the machine may have stood still for some seconds.
    let trimmed = events.trim("s", Retention::AgeMs(980_000)).await.unwrap();
    assert!((20..50).contains(&trimmed), "{trimmed}");
    assert_eq!(state_of(&*events, "s").await, state(80 - trimmed, Some(trimmed + 1), 80));
    assert_eq!(events.trim("s", Retention::AgeMs(300_000)).await.unwrap(), 50 - trimmed);
    assert_eq!(state_of(&*events, "s").await, state(30, Some(51), 80));
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(events.trim("s", Retention::AgeMs(0)).await.unwrap(), 30);
    assert_eq!(state_of(&*events, "s").await, state(0, None, 80));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_is_never_smaller_than_the_one_before() {
    let host = Host::new().await;
    let events = host.events();
    let future = 4_000_000_000_000;
    let streams = [DumpedStream { stream: "s".into(), last: 1, events: 1 }];
    let event = Event { sequence: 1, time_ms: future, payload: Span { offset: 0, length: 0 } };
    events.load(&streams, &[event], b"").await.unwrap();
    events.trim("s", Retention::Events(0)).await.unwrap();
    events.append("s", b"x").await.unwrap();
    let page = events.read_after("s", 0, 1).await.unwrap();
    assert_eq!((page.events[0].sequence, page.events[0].time_ms), (2, future));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_events_are_read_in_pages_that_can_travel() {
    let host = Host::new().await;
    let events = host.events();
    let large = vec![7_u8; 3 * 1024 * 1024];
    for _ in 0..10 {
        events.append("s", &large).await.unwrap();
    }
    let largest = vec![8_u8; 16 * 1024 * 1024];
    events.append("s", &largest).await.unwrap();
    for _ in 0..2 {
        let (mut after, mut sizes) = (0, Vec::new());
        while sizes.len() < 11 {
            let page = events.read_after("s", after, 1_000).await.unwrap();
            assert_eq!(page.last, 11);
            sizes.extend(page.events.iter().map(|event| event.payload.length as usize));
            after = page.events.last().unwrap().sequence;
        }
        assert_eq!((sizes[0], sizes[9], sizes[10]), (large.len(), large.len(), largest.len()));
    }
    let allowed = largest.len() as u64;
    assert_too_large(events.append("s", &vec![0; largest.len() + 1]).await, "value_bytes", allowed + 1, allowed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_fills_in_what_is_missing_and_leaves_what_is_there() {
    let host = Host::new().await;
    let events = host.events();
    let load = async |last: u64, sequences: &[u64]| {
        let streams = [DumpedStream { stream: "s".into(), last, events: sequences.len() as u32 }];
        let payload = Span { offset: 0, length: 6 };
        let list: Vec<Event> =
            sequences.iter().map(|&sequence| Event { sequence, time_ms: 1_000 + sequence, payload }).collect();
        events.load(&streams, &list, b"loaded").await
    };
    load(0, &[]).await.unwrap();
    assert!(events.list("", None, 10).await.unwrap().keys.is_empty());
    load(9, &[]).await.unwrap();
    assert_eq!(state_of(&*events, "s").await, state(0, None, 9));
    assert_eq!(events.append("s", b"own").await.unwrap(), 10);
    load(12, &[3, 4, 10, 12]).await.unwrap();
    load(12, &[3, 4, 10, 12]).await.unwrap();
    load(2, &[1, 11]).await.unwrap();
    let page = events.read_after("s", 0, 100).await.unwrap();
    let expected = [(1, "loaded"), (3, "loaded"), (4, "loaded"), (10, "own"), (11, "loaded"), (12, "loaded")];
    assert_eq!(payloads(&page), expected.map(|(sequence, payload)| (sequence, payload.to_owned())));
    assert_eq!(events.append("s", b"next").await.unwrap(), 13);
    load(1 << 60, &[(1 << 53) + 1]).await.unwrap();
    assert_eq!(events.append("s", b"far").await.unwrap(), (1 << 60) + 1);
    assert_eq!(events.read_after("s", 1 << 53, 1).await.unwrap().events[0].sequence, (1 << 53) + 1);
    assert_invalid(load(3, &[2, 2]).await, "sequences begin at 1 and grow");
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_are_checked() {
    let host = Host::new().await;
    let events = host.events();
    assert_invalid(events.append("", b"").await, "the stream is empty");
    assert_invalid(events.append_many("s", &[], b"").await, "there are no events");
    let spans = vec![Span { offset: 0, length: 1 }; 1_001];
    assert_too_large(events.append_many("s", &spans, b"x").await, "batch_items", 1_001, 1_000);
    assert_invalid(events.append_many("s", &[Span { offset: 1, length: 1 }], b"x").await, "reaches past the end");
    assert_eq!(state_of(&*events, "s").await, state(0, None, 0));
    for max in [0, 1_001] {
        assert_invalid(events.read_after("s", 0, max).await, "1 to 1000");
    }
    assert_invalid(events.list("", Some("x"), 1).await, "cursor");
    assert_invalid(events.dump(Some("x"), 1).await, "cursor");
}
