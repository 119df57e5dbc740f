//! A start that fails says all that is wrong, and undoes what it began.

use std::sync::Arc;
use std::time::{Duration, Instant};

use compozy_embed::{EngineChoice, EngineFactory, EngineParts, HostBuilder, StartError, StartProblem, StoreChoice};
use compozy_engine::EngineError;
use compozy_engine::port::Engine;

use crate::common::small;
use crate::held::{alone, eventually_as, held};

/// An engine that does not come.
struct Absent {
    /// It never answers, or refuses at once.
    hangs: bool,
}

#[async_trait::async_trait]
impl EngineFactory for Absent {
    fn name(&self) -> &'static str {
        "absent"
    }

    async fn open(&self, _parts: EngineParts) -> Result<Arc<dyn Engine>, EngineError> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        Err(EngineError::BackendUnavailable {
            backend: "Temporal server".to_owned(),
            address: "127.0.0.1:1".to_owned(),
            reason: "connection refused".to_owned(),
            retry_after: Duration::from_secs(1),
        })
    }
}

async fn refused(builder: HostBuilder) -> StartError {
    match builder.start().await {
        Ok(host) => panic!("{host:?} started"),
        Err(error) => error,
    }
}

fn codes(error: &StartError) -> Vec<&'static str> {
    error.problems.iter().map(StartProblem::code).collect()
}

pub(crate) fn whatever_fails_nothing_is_left_and_the_next_start_succeeds() {
    let data = tempfile::tempdir().expect("a folder");
    let other = tempfile::tempdir().expect("a folder");
    let broken = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(broken.path().join("bad")).expect("made");
    std::fs::write(broken.path().join("bad/plugin.toml"), "name = \"bad\"\nversion = \"0.1.0\"\n").expect("written");
    std::fs::write(broken.path().join("bad/bad.wasm"), b"no component").expect("written");
    let file = other.path().join("file");
    std::fs::write(&file, b"no folder").expect("written");
    let absent = |hangs| EngineChoice::Other(Arc::new(Absent { hangs }));
    alone(async {
        small(data.path()).listen("127.0.0.1:0").start().await.expect("it starts").stop().await;
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = taken.local_addr().expect("a port").to_string();
        // An owner of its own, in this process.
        let owner = small(other.path()).start().await.expect("it starts");
        tokio::time::sleep(Duration::from_millis(200)).await;
        let before = held();
        let listening = || small(data.path()).listen("127.0.0.1:0");
        let redis: StoreChoice = "cache=redis".parse().expect("a choice");
        let cases: [(HostBuilder, &str, &str); 9] = [
            (small(data.path()).listen(&port), "LISTEN_REFUSED", "choose another address"),
            (small(&file).listen("127.0.0.1:0"), "STORAGE_UNAVAILABLE", "cannot be written"),
            (listening().workflow("bad.yaml", "id: bad\ntasks: [{ id: a, tool: nothing }]\n"), "", "bad.yaml"),
            (listening().project("/nowhere/at/all"), "PROJECT_FILE_UNREADABLE", "/nowhere/at/all"),
            (listening().plugins(broken.path()), "", "bad"),
            (listening().store(redis), "CONFIG_MISSING", "no Redis server is named"),
            (small(other.path()).listen("127.0.0.1:0"), "DATA_FOLDER_IN_USE", "in use by another host"),
            (listening().engine(absent(false)), "BACKEND_UNAVAILABLE", "`127.0.0.1:1`"),
            (
                listening().engine(absent(true)).start_timeout(Duration::from_secs(3)),
                "START_TIMEOUT",
                "`engine` has not ended",
            ),
        ];
        for (builder, code, words) in cases {
            let begun = Instant::now();
            let error = refused(builder).await;
            assert!(codes(&error).iter().any(|found| code.is_empty() || *found == code), "{code}: {error}");
            assert!(error.to_string().contains(words), "{words}: {error}");
            assert!(begun.elapsed() < Duration::from_secs(30), "{code} took {:?}", begun.elapsed());
            eventually_as(&before).await;
        }
        assert!(owner.health().ready, "the other host goes on");
        owner.stop().await;
        small(data.path()).listen("127.0.0.1:0").start().await.expect("it starts").stop().await;
    });
}
