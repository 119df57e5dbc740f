//! What becomes of stores on Redis when the server is killed, paused, restarted, full or read-only while clients work: typed errors within the
//! timeout, recovery without a new host, and nothing lost that was acknowledged.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use compozy_runtime::stores::{Circuit, Condition, Message, Messages, Span, StoreError, Stores};
use compozy_runtime::{Builtin, RedisSettings, Runtime, RuntimeOptions, StoreSelection};
use redis_test_server::Server;

/// No call takes longer: its own timeout and one retry within the second after which none is begun, with room for a busy machine.
const PATIENCE: Duration = Duration::from_secs(12);
/// A server that loses nothing that it acknowledged.
const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

struct Host {
    runtime: Arc<Runtime>,
    _folder: tempfile::TempDir,
}

impl Host {
    async fn on(server: &Server) -> Self {
        let plugin = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/redis/redis.wasm");
        let component =
            std::fs::read(plugin).unwrap_or_else(|error| panic!("{plugin}: {error}; run `cargo xtask build`"));
        let folder = tempfile::tempdir().unwrap();
        let mut options = RuntimeOptions::new(folder.path());
        let manifest = Cow::Borrowed(include_str!("../../../../plugins/redis/plugin.toml"));
        options.builtins = vec![Builtin { manifest, component: Cow::Owned(component) }];
        options.default_policy.grants.redis = true;
        options.redis = Some(RedisSettings::parse(&server.url()).unwrap());
        options.stores = StoreSelection::all("redis");
        Self { runtime: Runtime::open(options).await.unwrap(), _folder: folder }
    }

    fn stores(&self) -> &Stores {
        self.runtime.stores()
    }

    async fn set(&self, key: &str) -> Result<(), StoreError> {
        let cache = self.stores().cache.clone().unwrap();
        let begun = Instant::now();
        let set = cache.set(key, b"value", None, Condition::Always).await.map(drop);
        assert!(begun.elapsed() < PATIENCE, "it hung for {:?}", begun.elapsed());
        set
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let cache = self.stores().cache.clone().unwrap();
        let begun = Instant::now();
        let entry = cache.get(key).await;
        assert!(begun.elapsed() < PATIENCE, "it hung for {:?}", begun.elapsed());
        Ok(entry?.map(|entry| entry.value))
    }

    /// Waits until writes work again; the host is the same.
    async fn recovered(&self) {
        let begun = Instant::now();
        while let Err(error) = self.set("probe").await {
            assert!(error.retryable(), "{error:?}");
            assert!(begun.elapsed() < Duration::from_mins(1), "no recovery: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[track_caller]
fn assert_away(result: Result<(), StoreError>) {
    let error = result.expect_err("the server cannot take it");
    let code = error.code().to_owned();
    assert!(code == "STORE_UNAVAILABLE" || code == "STORE_CIRCUIT_OPEN", "{code}: {error}");
    assert!(error.retryable(), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_is_an_outage_and_its_restart_the_end_of_it() {
    let mut server = Server::start(&DURABLE);
    let host = Host::on(&server).await;
    host.set("k").await.unwrap();
    server.kill();
    for _ in 0..8 {
        assert_away(host.set("k2").await);
    }
    let status = host.runtime.roles().into_iter().find(|role| role.role == "cache").unwrap();
    assert_ne!(status.circuit, Circuit::Closed, "five failures in a row open the circuit");
    let begun = Instant::now();
    assert_away(host.set("k2").await);
    assert!(begun.elapsed() < Duration::from_secs(1), "an open circuit answers at once");
    server.restart();
    host.recovered().await;
    assert_eq!(host.get("k").await.unwrap().as_deref(), Some(b"value".as_slice()));
    let status = host.runtime.roles().into_iter().find(|role| role.role == "cache").unwrap();
    assert_eq!(status.circuit, Circuit::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_server_holds_nobody_up_beyond_the_timeout() {
    let mut server = Server::start(&[]);
    let host = Host::on(&server).await;
    host.set("k").await.unwrap();
    server.pause();
    assert_away(host.set("k").await);
    assert_away(host.get("k").await.map(drop));
    server.resume();
    host.recovered().await;
    assert!(host.get("k").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_takes_no_writes_and_still_answers_reads() {
    let server = Server::start(&["--maxmemory-policy", "noeviction"]);
    let host = Host::on(&server).await;
    host.set("k").await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_away(host.set("k2").await);
    assert!(host.get("k").await.unwrap().is_some(), "reads go on");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    host.recovered().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_became_a_replica_takes_no_writes_until_it_is_none() {
    let server = Server::start(&[]);
    let host = Host::on(&server).await;
    host.set("k").await.unwrap();
    // Nobody listens there; a replica without its master still answers reads, and refuses writes.
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    assert_away(host.set("k2").await);
    assert!(host.get("k").await.unwrap().is_some(), "reads go on");
    server.command(&["REPLICAOF", "NO", "ONE"]);
    host.recovered().await;
}

/// What clients were told, while the server was killed and started again under them.
#[derive(Default)]
struct Told {
    increments: AtomicU64,
    events: AtomicU64,
    messages: AtomicU64,
    refused: AtomicU64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed_under_load() {
    const CLIENTS: usize = 8;
    const KILLS: usize = 3;
    let mut server = Server::start(&DURABLE);
    let host = Host::on(&server).await;
    let (told, stop) = (Arc::new(Told::default()), Arc::new(AtomicBool::new(false)));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let (stores, told, stop) = (host.stores().clone(), Arc::clone(&told), Arc::clone(&stop));
        clients.spawn(async move { work(&stores, &told, &stop).await });
    }
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.kill();
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.restart();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    host.recovered().await;
    stop.store(true, Ordering::SeqCst);
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
    let Told { increments, events, messages, refused } = &*told;
    let told = |count: &AtomicU64| count.load(Ordering::SeqCst);
    let stores = host.stores();
    let sum = stores.cache.as_ref().unwrap().increment("sum", 0, None).await.unwrap().cast_unsigned();
    let log = stores.events.as_ref().unwrap().state("log").await.unwrap();
    let talk = stores.memory.as_ref().unwrap().count("talk").await.unwrap();
    // A call that failed may have taken place: then there is more than was acknowledged, never less.
    assert!(sum >= told(increments), "{} increments were acknowledged, {sum} are there", told(increments));
    assert!(log.length >= told(events), "{} events were acknowledged, {} are there", told(events), log.length);
    assert!(
        talk.messages >= told(messages),
        "{} messages were acknowledged, {} are there",
        told(messages),
        talk.messages
    );
    let refused = told(refused);
    assert!(sum <= told(increments) + refused && log.length <= told(events) + refused, "nothing counts twice");
    assert_eq!(log.length, log.last, "sequences have no gap");
    assert_eq!(talk.tokens, 3 * talk.messages, "counts are exact");
    assert!(told(increments) > 100 && refused > 0, "the clients worked, and met the outage");
}

async fn work(stores: &Stores, told: &Told, stop: &AtomicBool) {
    let (cache, events, memory) =
        (stores.cache.clone().unwrap(), stores.events.clone().unwrap(), stores.memory.clone().unwrap());
    let message =
        Messages { list: vec![Message { span: Span { offset: 0, length: 2 }, tokens: 3 }], bytes: b"hi".to_vec() };
    while !stop.load(Ordering::SeqCst) {
        let results = [
            (cache.increment("sum", 1, None).await.map(drop), &told.increments),
            (events.append("log", b"event").await.map(drop), &told.events),
            (memory.append("talk", &message, None, None).await.map(drop), &told.messages),
        ];
        for (result, count) in results {
            match result {
                Ok(()) => drop(count.fetch_add(1, Ordering::SeqCst)),
                Err(error) => {
                    assert!(error.retryable(), "{error:?}");
                    told.refused.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }
}
