//! A runtime with the plugin `redis` and a server of its own.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use compozy_runtime::stores::{
    Cache, ConfigStore, Events, KeyPage, Locks, MemoryStore, Message, Messages, Result, Span, StoreError,
};
use compozy_runtime::{Builtin, RedisSettings, Runtime, RuntimeOptions, StoreSelection};
use redis_test_server::Server;

/// The stores of a fresh host on an empty server.
pub(crate) struct Host {
    pub(crate) server: Server,
    _folder: tempfile::TempDir,
    runtime: Arc<Runtime>,
}

fn component() -> Vec<u8> {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/redis/redis.wasm");
    let path = std::env::var_os("COMPOZY_REDIS_WASM").map_or_else(|| built.into(), PathBuf::from);
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; build it with `cargo xtask build`", path.display()))
}

impl Host {
    pub(crate) async fn new() -> Self {
        // Compiled once for all tests of this process.
        static CODE: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
        let code = CODE.get_or_init(|| tempfile::tempdir().unwrap());
        let server = Server::start(&[]);
        let folder = tempfile::tempdir().unwrap();
        let manifest = include_str!("../../../../plugins/redis/plugin.toml");
        let mut options = RuntimeOptions::new(folder.path());
        options.builtins = vec![Builtin { manifest: Cow::Borrowed(manifest), component: Cow::Owned(component()) }];
        options.code_cache_dir = Some(code.path().to_owned());
        options.default_policy.grants.redis = true;
        options.redis = Some(RedisSettings::new(server.url()));
        options.stores = StoreSelection::all("redis");
        let runtime = Runtime::open(options).await.unwrap();
        Self { server, _folder: folder, runtime }
    }

    pub(crate) fn cache(&self) -> Arc<dyn Cache> {
        self.runtime.stores().cache.clone().unwrap()
    }

    pub(crate) fn locks(&self) -> Arc<dyn Locks> {
        self.runtime.stores().locks.clone().unwrap()
    }

    pub(crate) fn events(&self) -> Arc<dyn Events> {
        self.runtime.stores().events.clone().unwrap()
    }

    pub(crate) fn config(&self) -> Arc<dyn ConfigStore> {
        self.runtime.stores().config.clone().unwrap()
    }

    pub(crate) fn memory(&self) -> Arc<dyn MemoryStore> {
        self.runtime.stores().memory.clone().unwrap()
    }

    /// All keys on the server, without what the host puts before them.
    pub(crate) fn keys(&self) -> Vec<String> {
        let reply = self.server.command(&["KEYS", "*"]);
        let mut keys: Vec<String> =
            reply.lines().filter_map(|line| line.strip_prefix("compozy:redis:")).map(str::to_owned).collect();
        keys.sort();
        keys
    }
}

/// Asks until the answer is yes. Expiry has no other signal than time.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let begun = Instant::now();
    while !ask().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what} does not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// All pages of a list.
pub(crate) async fn all<F: Future<Output = Result<KeyPage>>>(mut page: impl FnMut(Option<String>) -> F) -> Vec<String> {
    let (mut keys, mut cursor) = (Vec::new(), None);
    loop {
        let page = page(cursor).await.unwrap();
        keys.extend(page.keys);
        cursor = page.next;
        if cursor.is_none() {
            keys.sort();
            keys.dedup();
            return keys;
        }
    }
}

/// Keys that a careless backend mixes up or trips over.
pub(crate) fn odd_keys() -> Vec<String> {
    let plain = [
        "a",
        "A",
        "a%",
        "a_",
        "a*",
        "a?",
        "a[b]",
        "a\\",
        "{a}",
        "{}",
        "a}b{",
        "a'b",
        "a:b",
        "a;--",
        "a\r\n",
        " a",
        "a ",
        "\0",
        "a\0",
        "a\0b",
        "ä",
        "a\u{308}",
        "日本語",
        "🦀",
        "\u{10FFFF}",
    ];
    let mut keys: Vec<String> = plain.map(str::to_owned).to_vec();
    keys.push("k".repeat(512));
    keys.push("é".repeat(256));
    keys.sort();
    keys
}

#[expect(clippy::unnecessary_wraps, reason = "the form of an argument")]
pub(crate) const fn ms(ms: u64) -> Option<Duration> {
    Some(Duration::from_millis(ms))
}

/// Messages of these contents and costs in one flat buffer.
pub(crate) fn messages(contents: &[(&str, u32)]) -> Messages {
    let mut flat = Messages { list: Vec::new(), bytes: Vec::new() };
    for (content, tokens) in contents {
        let span = Span { offset: flat.bytes.len() as u32, length: content.len() as u32 };
        flat.bytes.extend_from_slice(content.as_bytes());
        flat.list.push(Message { span, tokens: *tokens });
    }
    flat
}

/// What `messages` made flat.
pub(crate) fn contents(messages: &Messages) -> Vec<(String, u32)> {
    let content = |message: &Message| (text(&messages.bytes, message.span), message.tokens);
    messages.list.iter().map(content).collect()
}

/// The text of a span.
pub(crate) fn text(bytes: &[u8], span: Span) -> String {
    let start = span.offset as usize;
    String::from_utf8(bytes[start..start + span.length as usize].to_vec()).unwrap()
}

#[track_caller]
pub(crate) fn assert_too_large<T: std::fmt::Debug>(result: Result<T>, name: &str, used: u64, allowed: u64) {
    match result {
        Err(StoreError::TooLarge { limit, used: found, allowed: most }) => {
            assert_eq!((limit.as_str(), found, most), (name, used, allowed));
        }
        other => panic!("not too large: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn assert_invalid<T: std::fmt::Debug>(result: Result<T>, words: &str) {
    match result {
        Err(StoreError::InvalidArgument(why)) => assert!(why.contains(words), "{why}"),
        other => panic!("not an invalid argument: {other:?}"),
    }
}
