//! The role `events`.

use compozy_runtime::stores::{DumpedStream, Event, EventPage, Retention, Span};

use crate::support::{Host, assert_invalid, assert_too_large, odd_keys};

const MIB: usize = 1024 * 1024;

/// Payloads in one flat buffer.
fn flat<T: AsRef<[u8]>>(payloads: &[T]) -> (Vec<Span>, Vec<u8>) {
    let (mut spans, mut bytes) = (Vec::new(), Vec::new());
    for payload in payloads {
        let payload = payload.as_ref();
        spans.push(Span { offset: bytes.len() as u32, length: payload.len() as u32 });
        bytes.extend_from_slice(payload);
    }
    (spans, bytes)
}

fn payload(bytes: &[u8], span: Span) -> &[u8] {
    &bytes[span.offset as usize..(span.offset + span.length) as usize]
}

/// Sequences and payloads as text.
fn list(page: &EventPage) -> Vec<(u64, String)> {
    let text = |event: &Event| String::from_utf8(payload(&page.bytes, event.payload).to_vec()).unwrap();
    page.events.iter().map(|event| (event.sequence, text(event))).collect()
}

async fn state(host: &Host, stream: &str) -> (u64, Option<u64>, u64) {
    let state = host.events().state(stream).await.unwrap();
    (state.length, state.first, state.last)
}

#[tokio::test]
async fn sequences_have_no_gaps_and_streams_do_not_meet() {
    let host = Host::new().await;
    let events = host.events();
    assert_eq!(state(&host, "a").await, (0, None, 0));
    let page = events.read_after("a", 0, 10).await.unwrap();
    assert_eq!((page.events.len(), page.last), (0, 0));
    for (stream, sequence) in [("a", 1), ("a", 2), ("b", 1), ("a", 3)] {
        assert_eq!(events.append(stream, format!("{stream}{sequence}").as_bytes()).await.unwrap(), sequence);
    }
    let (spans, bytes) = flat(&["x", "", "z"]);
    assert_eq!(events.append_many("a", &spans, &bytes).await.unwrap(), 6);
    assert_eq!(events.append_many("new", &spans, &bytes).await.unwrap(), 3);
    assert_eq!(state(&host, "a").await, (6, Some(1), 6));
    for (after, max, expected) in [
        (0, 2, vec![(1, "a1"), (2, "a2")]),
        (2, 3, vec![(3, "a3"), (4, "x"), (5, "")]),
        (5, 10, vec![(6, "z")]),
        (6, 10, vec![]),
        (u64::MAX, 10, vec![]),
    ] {
        let page = events.read_after("a", after, max).await.unwrap();
        let expected: Vec<_> = expected.into_iter().map(|(sequence, text)| (sequence, text.to_owned())).collect();
        assert_eq!((list(&page), page.last), (expected, 6), "after {after}");
    }
    for stream in odd_keys() {
        assert_eq!(events.append(&stream, stream.as_bytes()).await.unwrap(), if stream == "a" { 7 } else { 1 });
    }
    let mut expected = odd_keys();
    expected.extend(["b".to_owned(), "new".to_owned()]);
    expected.sort();
    assert_eq!(events.list("", None, 1_000).await.unwrap().keys, expected);
    assert_eq!(events.list("a%", None, 1_000).await.unwrap().keys, ["a%"]);
}

#[tokio::test]
async fn time_never_goes_back() {
    let host = Host::new().await;
    let events = host.events();
    events.append("s", b"1").await.unwrap();
    host.turn_clock(5_u64.wrapping_neg());
    events.append("s", b"2").await.unwrap();
    let (spans, bytes) = flat(&["3", "4"]);
    events.append_many("s", &spans, &bytes).await.unwrap();
    events.trim("s", Retention::Events(0)).await.unwrap();
    events.append("s", b"5").await.unwrap();
    host.turn_clock(7);
    events.append("s", b"6").await.unwrap();
    let times: Vec<u64> =
        events.read_after("s", 0, 10).await.unwrap().events.iter().map(|event| event.time_ms).collect();
    assert_eq!(times, [1_700_000_000_000, 1_700_000_000_002], "also after all events were trimmed");
}

#[tokio::test]
async fn trimming_keeps_the_newest_and_the_numbers_go_on() {
    let host = Host::new().await;
    let events = host.events();
    for _ in 0..10 {
        events.append("s", b"e").await.unwrap();
        host.turn_clock(100);
    }
    let keep = [
        (Retention::Events(10), 0, (10, Some(1), 10)),
        (Retention::Events(u64::MAX), 0, (10, Some(1), 10)),
        (Retention::AgeMs(u64::MAX), 0, (10, Some(1), 10)),
        (Retention::Events(8), 2, (8, Some(3), 10)),
        (Retention::AgeMs(700), 1, (7, Some(4), 10)),
        (Retention::AgeMs(699), 1, (6, Some(5), 10)),
        (Retention::Events(0), 6, (0, None, 10)),
        (Retention::Events(0), 0, (0, None, 10)),
        (Retention::AgeMs(0), 0, (0, None, 10)),
    ];
    for (keep, removed, expected) in keep {
        assert_eq!(events.trim("s", keep).await.unwrap(), removed, "{keep:?}");
        assert_eq!(state(&host, "s").await, expected, "{keep:?}");
    }
    assert_eq!(events.trim("missing", Retention::Events(0)).await.unwrap(), 0);
    let host = host.reopened().await;
    assert_eq!(host.events().append("s", b"e").await.unwrap(), 11);
    assert_eq!(state(&host, "s").await, (1, Some(11), 11));
    let page = host.events().read_after("s", 2, 10).await.unwrap();
    assert_eq!(page.events[0].sequence, 11, "a gap tells that events were trimmed");
}

#[tokio::test]
async fn rows_of_trimmed_events_go_in_bounded_steps() {
    let host = Host::new().await;
    let (spans, bytes) = flat(&vec![[7_u8; 10]; 1_000]);
    for _ in 0..5 {
        host.events().append_many("s", &spans, &bytes).await.unwrap();
    }
    let rows = || host.database().query_row("SELECT count(*) FROM event", [], |row| row.get::<_, u64>(0)).unwrap();
    assert_eq!(host.events().trim("s", Retention::Events(10)).await.unwrap(), 4_990);
    assert_eq!(rows(), 10);
    // As if the host had stopped in the middle of a trim: rows below the floor, which nobody may see.
    host.database().execute("UPDATE stream SET floor = 4996", []).unwrap();
    assert_eq!(state(&host, "s").await, (5, Some(4_996), 5_000));
    assert_eq!(host.events().read_after("s", 0, 10).await.unwrap().events.len(), 5);
    assert_eq!(rows(), 10);
    assert_eq!(host.events().trim("s", Retention::Events(5)).await.unwrap(), 0, "they count as trimmed already");
    assert_eq!(rows(), 5);
}

#[tokio::test]
async fn large_events_come_in_shorter_pages() {
    let host = Host::new().await;
    let events = host.events();
    let large = vec![1_u8; 3 * MIB];
    for _ in 0..8 {
        events.append("s", &large).await.unwrap();
    }
    events.append("s", &vec![2; 16 * MIB]).await.unwrap();
    let (mut after, mut pages) = (0, 0);
    while after < 9 {
        let page = events.read_after("s", after, 1_000).await.unwrap();
        assert_eq!(page.events[0].sequence, after + 1);
        after = page.events.last().unwrap().sequence;
        pages += 1;
    }
    assert!(pages > 2, "24 MiB do not travel at once");
}

#[tokio::test]
async fn arguments_are_checked() {
    let host = Host::new().await;
    let events = host.events();
    assert_invalid(events.append("", b"").await, "stream is empty");
    assert_too_large(events.append(&"s".repeat(513), b"").await, "key_bytes", 513, 512);
    let limit = 16 * MIB;
    assert_too_large(events.append("s", &vec![0; limit + 1]).await, "value_bytes", limit as u64 + 1, limit as u64);
    assert_invalid(events.append_many("s", &[], b"").await, "no events");
    let (spans, bytes) = flat(&vec!["e"; 1_001]);
    assert_too_large(events.append_many("s", &spans, &bytes).await, "batch_items", 1_001, 1_000);
    assert_invalid(events.append_many("s", &[Span { offset: 1, length: 1 }], b"e").await, "past the end");
    assert_eq!(state(&host, "s").await, (0, None, 0), "nothing was written");
    for max in [0, 1_001] {
        assert_invalid(events.read_after("s", 0, max).await, "1 to 1000");
        assert_invalid(events.list("", None, max).await, "1 to 1000");
        assert_invalid(events.dump(None, max).await, "1 to 1000");
    }
    let event = |sequence| Event { sequence, time_ms: 1, payload: Span { offset: 0, length: 1 } };
    let stream = |events| [DumpedStream { stream: "s".to_owned(), last: 5, events }];
    for (name, count, list) in [
        ("1 events", 1, vec![]),
        ("1 events", 1, vec![event(1), event(2)]),
        ("begin with 1", 1, vec![event(0)]),
        ("grow", 2, vec![event(2), event(2)]),
        ("greatest", 1, vec![event(u64::MAX)]),
    ] {
        assert_invalid(events.load(&stream(count), &list, b"e").await, name);
    }
    assert!(events.list("", None, 10).await.unwrap().keys.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_appends_lose_and_repeat_nothing() {
    let host = Host::new().await;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let events = host.events();
        tasks.spawn(async move {
            let mut sequences = Vec::new();
            for number in 0..25 {
                let text = format!("{writer}:{number}");
                if number % 5 == 0 {
                    let (spans, bytes) = flat(&[&text, &text]);
                    let last = events.append_many("s", &spans, &bytes).await.unwrap();
                    sequences.extend([last - 1, last]);
                } else {
                    sequences.push(events.append("s", text.as_bytes()).await.unwrap());
                }
            }
            sequences
        });
    }
    let mut sequences: Vec<u64> = tasks.join_all().await.into_iter().flatten().collect();
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=240).collect::<Vec<_>>());
    let page = host.events().read_after("s", 0, 1_000).await.unwrap();
    assert_eq!(page.events.iter().map(|event| event.sequence).collect::<Vec<_>>(), sequences);
}
