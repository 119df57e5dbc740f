//! Waiting for locks and events, and holding locks, over the real store plugin.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod events;
mod locks;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use compozy_runtime::{Builtin, Clock, Runtime, RuntimeOptions};

/// Real time, which can be turned on top.
#[derive(Debug, Default)]
struct Turned(AtomicU64);

impl Clock for Turned {
    fn now_ms(&self) -> u64 {
        compozy_runtime::SystemClock.now_ms() + self.0.load(Ordering::SeqCst)
    }
}

struct Host {
    runtime: Arc<Runtime>,
    clock: Arc<Turned>,
    _folder: tempfile::TempDir,
}

impl Host {
    async fn new() -> Self {
        let plugin = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/sqlite/sqlite.wasm");
        let component =
            std::fs::read(plugin).unwrap_or_else(|error| panic!("{plugin}: {error}; run `cargo xtask build`"));
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(Turned::default());
        let mut options = RuntimeOptions::new(folder.path());
        let manifest = Cow::Borrowed(include_str!("../../../../plugins/sqlite/plugin.toml"));
        options.builtins = vec![Builtin { manifest, component: Cow::Owned(component) }];
        options.default_policy.grants.sql = true;
        options.clock = Arc::clone(&clock) as _;
        let runtime = Runtime::open(options).await.unwrap();
        Self { runtime, clock, _folder: folder }
    }

    fn turn_clock(&self, by: Duration) {
        self.clock.0.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }
}
