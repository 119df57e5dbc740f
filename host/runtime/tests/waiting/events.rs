//! Streams for those who wait.

use std::time::{Duration, Instant};

use compozy_runtime::stores::{EVENT_WAIT_MAX, EventFeed, Retention, StoreError};

use super::Host;

const SECOND: Duration = Duration::from_secs(1);

fn feed(host: &Host) -> EventFeed {
    host.runtime.stores().event_feed.clone().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_waits_for_the_first_event_and_no_longer() {
    let host = Host::new().await;
    let (feed, events) = (feed(&host), host.runtime.stores().events.clone().unwrap());
    let begun = Instant::now();
    let page = feed.read_after("s", 0, 10, Duration::from_millis(150)).await.unwrap();
    assert!(page.events.is_empty() && begun.elapsed() >= Duration::from_millis(150));

    let waiting = tokio::spawn({
        let feed = feed.clone();
        async move { feed.read_after("s", 0, 10, 60 * SECOND).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(events.append("other", b"x").await.unwrap(), 1);
    assert!(!waiting.is_finished(), "another stream");
    events.append("s", b"first").await.unwrap();
    let page = tokio::time::timeout(10 * SECOND, waiting).await.expect("woken").unwrap().unwrap();
    assert_eq!((page.events[0].sequence, page.bytes.as_slice()), (1, b"first".as_slice()));

    let refused = feed.read_after("s", 0, 10, EVENT_WAIT_MAX + SECOND).await;
    assert!(matches!(refused, Err(StoreError::InvalidArgument(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_subscriber_gets_every_event_once_and_holds_up_no_writer() {
    const WRITERS: usize = 8;
    const EACH: usize = 100;
    let host = Host::new().await;
    let events = host.runtime.stores().events.clone().unwrap();
    let mut subscription = feed(&host).subscribe("s", 0);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let events = events.clone();
        writers.spawn(async move {
            for number in 0..EACH {
                events.append("s", format!("{writer}/{number}").as_bytes()).await.unwrap();
            }
        });
    }
    let mut next = [0; WRITERS];
    for sequence in 1..=(WRITERS * EACH) as u64 {
        if sequence.is_multiple_of(100) {
            // The writers go on meanwhile.
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        let event = tokio::time::timeout(20 * SECOND, subscription.next()).await.expect("it comes").unwrap();
        assert_eq!((event.sequence, event.missed), (sequence, 0));
        let text = String::from_utf8(event.payload).unwrap();
        let (writer, number) = text.split_once('/').unwrap();
        let writer: usize = writer.parse().unwrap();
        assert_eq!(number.parse::<usize>().unwrap(), next[writer], "each writer's own order is kept");
        next[writer] += 1;
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    assert_eq!(subscription.position(), (WRITERS * EACH) as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_too_late_is_told_how_much_it_missed() {
    let host = Host::new().await;
    let events = host.runtime.stores().events.clone().unwrap();
    for number in 0..10_u8 {
        events.append("s", &[number]).await.unwrap();
    }
    assert_eq!(events.trim("s", Retention::Events(4)).await.unwrap(), 6);
    let mut subscription = feed(&host).subscribe("s", 2);
    let event = subscription.next().await.unwrap();
    assert_eq!((event.sequence, event.missed, event.payload.as_slice()), (7, 4, [6].as_slice()));
    let event = subscription.next().await.unwrap();
    assert_eq!((event.sequence, event.missed), (8, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_idle_streams_costs_next_to_nothing() {
    let host = Host::new().await;
    let calls = || host.runtime.plugins().iter().map(|plugin| plugin.counts.calls).sum::<u64>();
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..500 {
        let mut subscription = feed(&host).subscribe(format!("s/{number}"), 0);
        waiting.spawn(async move { subscription.next().await.map(|event| event.sequence) });
    }
    // Each looks once before and once after it began to listen.
    tokio::time::sleep(SECOND).await;
    let before = calls();
    tokio::time::sleep(2 * SECOND).await;
    let asked = calls() - before;
    assert!(asked <= 1_000, "500 waiting readers asked {asked} times in 2 s");
    assert!(host.runtime.idle_instances() <= 40, "waiting holds no instance");
    let events = host.runtime.stores().events.clone().unwrap();
    for number in 0..500 {
        events.append(&format!("s/{number}"), b"now").await.unwrap();
    }
    while let Some(sequence) = tokio::time::timeout(30 * SECOND, waiting.join_next()).await.expect("all are woken") {
        assert_eq!(sequence.unwrap().unwrap(), 1);
    }
}
