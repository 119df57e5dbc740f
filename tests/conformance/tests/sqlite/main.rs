//! The suite on the built-in SQLite plugin, with a clock that is turned; and what is left of it after a SIGKILL.
//!
//! The component is built by `cargo xtask build`; `COMPOZY_SQLITE_WASM` names another file. `COMPOZY_CONFORMANCE_OPERATIONS`
//! asks for more random operations per role than 10,000.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests may panic and print as tests do")]

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use compozy_conformance::{Backend, ManualClock, Options, Report, Subject, Suite};
use compozy_runtime::stores::Stores;
use compozy_runtime::{Builtin, Clock, Role, Runtime, RuntimeOptions};

mod killed;

fn component() -> &'static [u8] {
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    COMPONENT.get_or_init(|| {
        let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/sqlite/sqlite.wasm");
        let path = std::env::var_os("COMPOZY_SQLITE_WASM").map_or_else(|| built.into(), PathBuf::from);
        std::fs::read(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; build it with `cargo xtask build`", path.display()))
    })
}

/// A runtime on this folder; the component is compiled once for all that share a folder of code.
async fn runtime(folder: &Path, code: &Path, clock: Arc<dyn Clock>) -> Result<Arc<Runtime>, String> {
    let manifest = include_str!("../../../../plugins/sqlite/plugin.toml");
    let mut options = RuntimeOptions::new(folder);
    options.builtins = vec![Builtin { manifest: Cow::Borrowed(manifest), component: Cow::Borrowed(component()) }];
    options.code_cache_dir = Some(code.to_owned());
    options.default_policy.grants.sql = true;
    options.clock = clock;
    Runtime::open(options).await.map_err(|error| error.to_string())
}

/// Opens runtimes on empty folders.
struct Sqlite {
    clock: Arc<ManualClock>,
    code: tempfile::TempDir,
}

struct Opened {
    clock: Arc<ManualClock>,
    code: PathBuf,
    folder: tempfile::TempDir,
    runtime: Option<Arc<Runtime>>,
}

#[async_trait]
impl Subject for Sqlite {
    async fn open(&self) -> Result<Box<dyn Backend>, String> {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::clone(&self.clock));
        let runtime = runtime(folder.path(), self.code.path(), clock.clone()).await?;
        Ok(Box::new(Opened { clock, code: self.code.path().to_owned(), folder, runtime: Some(runtime) }))
    }
}

#[async_trait]
impl Backend for Opened {
    fn stores(&self) -> Stores {
        self.runtime.as_ref().map(|runtime| Stores::clone(runtime.stores())).unwrap_or_default()
    }

    async fn reopen(&mut self) -> Result<bool, String> {
        drop(self.runtime.take());
        self.runtime = Some(runtime(self.folder.path(), &self.code, self.clock.clone()).await?);
        Ok(true)
    }
}

async fn conforms(role: Role) {
    let clock = Arc::new(ManualClock::default());
    let subject = Sqlite { clock: clock.clone(), code: tempfile::tempdir().unwrap() };
    let asked = std::env::var("COMPOZY_CONFORMANCE_OPERATIONS").ok().and_then(|count| count.parse().ok());
    let options = Options {
        operations: asked.unwrap_or(10_000),
        clock: Some(clock),
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
