//! The suite on the built-in Redis plugin and real servers, by real time: each backend is a server of its own with an append-only file
//! that is synchronised at every write, and to reopen it is to kill it (SIGKILL) and start it again.
//!
//! The component is built by `cargo xtask build`; `COMPOZY_REDIS_WASM` names another file. `COMPOZY_CONFORMANCE_OPERATIONS`
//! asks for more random operations per role than 10,000.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests may panic and print as tests do")]

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use compozy_conformance::{Backend, Options, Report, Subject, Suite};
use compozy_runtime::stores::Stores;
use compozy_runtime::{Builtin, RedisSettings, Role, Runtime, RuntimeOptions, StoreSelection};
use redis_test_server::Server;

fn component() -> &'static [u8] {
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    COMPONENT.get_or_init(|| {
        let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/redis/redis.wasm");
        let path = std::env::var_os("COMPOZY_REDIS_WASM").map_or_else(|| built.into(), PathBuf::from);
        std::fs::read(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; build it with `cargo xtask build`", path.display()))
    })
}

async fn runtime(folder: &Path, code: &Path, url: String) -> Result<Arc<Runtime>, String> {
    let manifest = include_str!("../../../../plugins/redis/plugin.toml");
    let mut options = RuntimeOptions::new(folder);
    options.builtins = vec![Builtin { manifest: Cow::Borrowed(manifest), component: Cow::Borrowed(component()) }];
    options.code_cache_dir = Some(code.to_owned());
    options.default_policy.grants.redis = true;
    options.redis = Some(RedisSettings::new(url));
    options.stores = StoreSelection::all("redis");
    Runtime::open(options).await.map_err(|error| error.to_string())
}

/// Opens runtimes, each with a server of its own.
struct Redis {
    code: tempfile::TempDir,
}

struct Opened {
    // Before the server: it is closed first.
    runtime: Option<Arc<Runtime>>,
    server: Server,
    folder: tempfile::TempDir,
    code: PathBuf,
}

#[async_trait]
impl Subject for Redis {
    async fn open(&self) -> Result<Box<dyn Backend>, String> {
        let start = || Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
        let server = tokio::task::block_in_place(start);
        let (folder, code) = (tempfile::tempdir().unwrap(), self.code.path().to_owned());
        let runtime = runtime(folder.path(), &code, server.url()).await?;
        Ok(Box::new(Opened { runtime: Some(runtime), server, folder, code }))
    }
}

#[async_trait]
impl Backend for Opened {
    fn stores(&self) -> Stores {
        self.runtime.as_ref().map(|runtime| Stores::clone(runtime.stores())).unwrap_or_default()
    }

    async fn reopen(&mut self) -> Result<bool, String> {
        tokio::task::block_in_place(|| self.server.kill());
        drop(self.runtime.take());
        tokio::task::block_in_place(|| self.server.restart());
        self.runtime = Some(runtime(self.folder.path(), &self.code, self.server.url()).await?);
        Ok(true)
    }
}

async fn conforms(role: Role) {
    let subject = Redis { code: tempfile::tempdir().unwrap() };
    let asked = std::env::var("COMPOZY_CONFORMANCE_OPERATIONS").ok().and_then(|count| count.parse().ok());
    let options = Options {
        operations: asked.unwrap_or(10_000),
        filter: std::env::var("COMPOZY_CONFORMANCE_FILTER").ok(),
        ..Options::default()
    };
    let mut print = |report: &Report| println!("{report}");
    let summary = Suite::new(options).run(&subject, &[role], &mut print).await.unwrap();
    println!("{summary}");
    assert_eq!(summary.failed(), 0, "see the failures above");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cache_conforms() {
    conforms(Role::Cache).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_locks_conform() {
    conforms(Role::Locks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_events_conform() {
    conforms(Role::Events).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_config_store_conforms() {
    conforms(Role::ConfigStore).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_store_conforms() {
    conforms(Role::MemoryStore).await;
}
