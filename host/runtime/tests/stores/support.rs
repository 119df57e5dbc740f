//! A runtime with the store plugin and a clock that stands until it is turned.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use compozy_runtime::stores::{Cache, ConfigStore, Events, Locks, MemoryStore, Message, Messages, Span, StoreError};
use compozy_runtime::{Builtin, Clock, Runtime, RuntimeOptions, StoreSelection};

/// A clock that is turned by hand.
#[derive(Debug)]
pub(crate) struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Which plugin fills the roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// The built-in one, with all roles.
    Sqlite,
    /// The one of `examples/memory-cache`, with the role `cache`.
    MemoryCache,
}

/// The stores of a fresh host, on an empty folder.
pub(crate) struct Host {
    backend: Backend,
    clock: Arc<TestClock>,
    folder: tempfile::TempDir,
    runtime: Arc<Runtime>,
}

impl Backend {
    fn builtin(self) -> Builtin {
        let (manifest, built) = match self {
            Self::Sqlite => (include_str!("../../../../plugins/sqlite/plugin.toml"), "plugins/sqlite/sqlite.wasm"),
            Self::MemoryCache => (
                include_str!("../../../../examples/memory-cache/plugin.toml"),
                "examples/memory-cache/memory-cache.wasm",
            ),
        };
        let chosen = std::env::var_os("COMPOZY_SQLITE_WASM").filter(|_| self == Self::Sqlite).map(PathBuf::from);
        let path = chosen.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(built));
        let component = std::fs::read(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; build it with `cargo xtask build`", path.display()));
        Builtin { manifest: Cow::Borrowed(manifest), component: Cow::Owned(component) }
    }
}

async fn open(backend: Backend, folder: &std::path::Path, clock: Arc<TestClock>) -> Arc<Runtime> {
    // Compiled once for all tests of this process.
    static CODE: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    let code = CODE.get_or_init(|| tempfile::tempdir().unwrap());
    let mut options = RuntimeOptions::new(folder);
    options.builtins = vec![backend.builtin()];
    if backend == Backend::MemoryCache {
        options.stores = StoreSelection { cache: Some("memory-cache".to_owned()), ..StoreSelection::none() };
    }
    options.code_cache_dir = Some(code.path().to_owned());
    options.default_policy.grants.sql = true;
    options.clock = clock;
    Runtime::open(options).await.unwrap()
}

impl Host {
    pub(crate) async fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap()).await
    }

    /// A host for each backend that has the role `cache`.
    pub(crate) async fn caches() -> [Self; 2] {
        let memory = Self::with(Backend::MemoryCache, tempfile::tempdir().unwrap()).await;
        [Self::new().await, memory]
    }

    /// A host on a folder that may hold something already.
    pub(crate) async fn on(folder: tempfile::TempDir) -> Self {
        Self::with(Backend::Sqlite, folder).await
    }

    async fn with(backend: Backend, folder: tempfile::TempDir) -> Self {
        let clock = Arc::new(TestClock(AtomicU64::new(1_700_000_000_000)));
        let runtime = open(backend, folder.path(), Arc::clone(&clock)).await;
        Self { backend, clock, folder, runtime }
    }

    /// The same folder after the host was stopped and started.
    pub(crate) async fn reopened(self) -> Self {
        let Self { backend, clock, folder, runtime } = self;
        drop(runtime);
        let runtime = open(backend, folder.path(), Arc::clone(&clock)).await;
        Self { backend, clock, folder, runtime }
    }

    /// A connection of the test's own to the plugin's database.
    pub(crate) fn database(&self) -> rusqlite::Connection {
        connect(self.folder.path())
    }

    pub(crate) fn turn_clock(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    pub(crate) fn cache(&self) -> Arc<dyn Cache> {
        self.runtime.stores().cache.clone().unwrap()
    }

    pub(crate) fn config(&self) -> Arc<dyn ConfigStore> {
        self.runtime.stores().config.clone().unwrap()
    }

    pub(crate) fn locks(&self) -> Arc<dyn Locks> {
        self.runtime.stores().locks.clone().unwrap()
    }

    pub(crate) fn events(&self) -> Arc<dyn Events> {
        self.runtime.stores().events.clone().unwrap()
    }

    pub(crate) fn memory(&self) -> Arc<dyn MemoryStore> {
        self.runtime.stores().memory.clone().unwrap()
    }
}

/// Where the host keeps the database of the plugin `sqlite`.
pub(crate) fn database_file(folder: &std::path::Path) -> PathBuf {
    folder.join("plugins/sqlite/store.db")
}

fn connect(folder: &std::path::Path) -> rusqlite::Connection {
    // The host's own way of working with files: any other could not open the file at the same time.
    rusqlite::Connection::open_with_flags_and_vfs(database_file(folder), rusqlite::OpenFlags::default(), "unix-excl")
        .unwrap()
}

/// Keys that a careless backend mixes up or trips over.
pub(crate) fn odd_keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "a",
        "A",
        "a%",
        "a_",
        "a*",
        "a?",
        "a[b]",
        "a\\",
        "{a}",
        "a'b",
        "a\"b",
        "a;--",
        "a\n",
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
    ]
    .map(str::to_owned)
    .to_vec();
    keys.push("k".repeat(512));
    keys.push("é".repeat(256));
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
    let content = |message: &Message| {
        let start = message.span.offset as usize;
        let bytes = &messages.bytes[start..start + message.span.length as usize];
        (String::from_utf8(bytes.to_vec()).unwrap(), message.tokens)
    };
    messages.list.iter().map(content).collect()
}

#[track_caller]
pub(crate) fn assert_too_large<T: std::fmt::Debug>(result: Result<T, StoreError>, name: &str, used: u64, allowed: u64) {
    match result {
        Err(StoreError::TooLarge { limit, used: found, allowed: most }) => {
            assert_eq!((limit.as_str(), found, most), (name, used, allowed));
        }
        other => panic!("not too large: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn assert_invalid<T: std::fmt::Debug>(result: Result<T, StoreError>, words: &str) {
    match result {
        Err(StoreError::InvalidArgument(why)) => assert!(why.contains(words), "{why}"),
        other => panic!("not an invalid argument: {other:?}"),
    }
}
