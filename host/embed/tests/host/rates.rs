//! How often one client may ask: counted by one host, or by several together.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use compozy_embed::{Host, HostBuilder, Mode, RateLimit, SharedRates, StoreChoice};
use compozy_engine::Clock;
use compozy_server::client::{Answer, get};
use compozy_server::{RateLimiter as _, Verdict};
use redis_test_server::Server;

use crate::common::small;

fn per_hour(requests: u32) -> RateLimit {
    RateLimit::new(NonZeroU32::new(requests).expect("not zero"), Duration::from_hours(1))
}

async fn ask(host: &Host, path: &str) -> Answer {
    get(&host.address().expect("it listens").to_string(), path).await.expect("an answer")
}

fn on_redis(builder: HostBuilder, server: &Server) -> HostBuilder {
    let cache: StoreChoice = "cache=redis".parse().expect("a choice");
    builder.redis_url(server.url()).store(cache).mode(Mode::Distributed).listen("127.0.0.1:0")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_host_counts_for_itself_and_health_is_always_told() {
    let data = tempfile::tempdir().expect("a folder");
    let host = small(data.path()).listen("127.0.0.1:0").rate_limit(per_hour(3)).start().await.expect("it starts");
    for _ in 0..3 {
        assert_eq!(ask(&host, "/api/v0/workflows").await.status, 200);
    }
    let refused = ask(&host, "/api/v0/workflows").await;
    assert_eq!((refused.status, &refused.body["code"]), (429, &"RATE_LIMITED".into()), "{refused:?}");
    let detail = refused.body["detail"].as_str().unwrap_or_default();
    for words in ["127.0.0.1", "3 requests per 3600000 ms", "`rate_limit`"] {
        assert!(detail.contains(words), "{words}: {detail}");
    }
    for path in ["/livez", "/readyz", "/api/v0/health"] {
        assert_eq!(ask(&host, path).await.status, 200, "{path}");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_on_one_cache_count_together_and_admit_all_when_it_is_away() {
    let (one, two) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let mut server = Server::start(&[]);
    let first = on_redis(small(one.path()), &server).rate_limit(per_hour(6)).start().await.expect("it starts");
    let second = on_redis(small(two.path()), &server).rate_limit(per_hour(6)).start().await.expect("it starts");
    for _ in 0..3 {
        assert_eq!(ask(&first, "/api/v0/workflows").await.status, 200);
        assert_eq!(ask(&second, "/api/v0/workflows").await.status, 200);
    }
    for host in [&first, &second] {
        let refused = ask(host, "/api/v0/workflows").await;
        assert_eq!((refused.status, &refused.body["code"]), (429, &"RATE_LIMITED".into()), "{refused:?}");
    }
    server.pause();
    for host in [&first, &second] {
        assert_eq!(ask(host, "/api/v0/workflows").await.status, 200, "nobody can count");
        assert_eq!(ask(host, "/readyz").await.status, 200);
    }
    server.resume();
    first.stop().await;
    second.stop().await;
}

/// Stands still until it is set.
#[derive(Default)]
struct Held(AtomicU64);

impl Clock for Held {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_window_slides_and_refusals_do_not_count() {
    let data = tempfile::tempdir().expect("a folder");
    let options = compozy_runtime::RuntimeOptions {
        builtins: compozy_embed::builtins::builtins(|name| name == "sqlite"),
        policies: [("sqlite".to_owned(), sql())].into(),
        ..compozy_runtime::RuntimeOptions::new(data.path())
    };
    let runtime = compozy_runtime::Runtime::open(options).await.expect("the built-in");
    let cache = runtime.stores().cache.clone().expect("a cache");
    let clock = Arc::new(Held::default());
    let limit = RateLimit::new(NonZeroU32::new(10).expect("not zero"), Duration::from_secs(1_000));
    let rates = SharedRates::at(limit, cache, Arc::clone(&clock) as _);
    let admitted = async |at_s: u64, tries: u32| {
        clock.0.store(at_s * 1_000, Ordering::Relaxed);
        let mut admitted = 0;
        for _ in 0..tries {
            admitted += u32::from(rates.admit("client").await == Verdict::Admitted);
        }
        admitted
    };
    assert_eq!(admitted(5_000, 30).await, 10, "all at once");
    // Half of the ten overlap, although twenty more were refused.
    assert_eq!(admitted(6_500, 30).await, 5);
    let Verdict::Limited { retry_after } = rates.admit("client").await else { panic!("there was room") };
    assert_eq!(retry_after, Duration::from_secs(100), "then one of ten less overlaps");
    assert_eq!(admitted(6_600, 30).await, 1);
    assert_eq!(rates.admit("other").await, Verdict::Admitted);
    // Long after: nothing overlaps.
    assert_eq!(admitted(9_000, 30).await, 10);
    runtime.stop();
}

fn sql() -> compozy_runtime::PluginPolicy {
    let mut policy = compozy_runtime::PluginPolicy::default();
    policy.grants.sql = true;
    policy
}
