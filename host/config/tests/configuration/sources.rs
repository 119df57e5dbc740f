//! What holds: who goes before whom, defaults of the mode, units, secrets.

use std::path::{Path, PathBuf};
use std::time::Duration;

use compozy_config::config::{BlobsConfig, EngineKind, Mode, ProcessRole, RateLimit};
use compozy_config::{Config, load, read};

use super::support::{Case, file};

#[test]
fn without_a_word_it_is_one_process_that_needs_nothing() {
    let config = Case::default().good().config;
    assert_eq!((config.mode, config.engine.kind), (Mode::Standalone, EngineKind::Embedded));
    assert_eq!(config.stores.kept_by("sqlite").len(), 5);
    assert_eq!(config.roles.len(), 3);
    assert!(!config.is_split() && config.has(ProcessRole::Api));
    assert_eq!((config.listen.as_str(), config.data_dir.as_path()), ("127.0.0.1:5001", Path::new(".compozy")));
    assert_eq!((config.start_timeout.as_secs(), config.drain.as_secs()), (30, 10));
    assert_eq!(config.blobs, BlobsConfig::Folder(None));
    let Config { redis_url, rate_limit, log, plugin_dirs, project, .. } = config;
    assert!(
        redis_url.is_none() && rate_limit.is_none() && log.is_none() && plugin_dirs.is_empty() && project.is_none()
    );
}

#[test]
fn one_word_makes_it_distributed_and_each_part_can_stay_behind() {
    let both = "engine: { temporal: { address: \"http://t:7233\" } }\nredis: { url: redis://r }\n";
    let config = file(&format!("name: shop\nmode: distributed\n{both}")).good().config;
    assert_eq!((config.mode, config.engine.kind), (Mode::Distributed, EngineKind::Temporal));
    assert_eq!(config.engine.temporal.address.as_deref(), Some("http://t:7233"));
    assert_eq!(
        (config.engine.temporal.project.as_str(), config.engine.temporal.namespace.as_str()),
        ("shop", "default")
    );
    assert_eq!(config.stores.kept_by("redis").len(), 5);
    let config = file(&format!("mode: distributed\n{both}stores: {{ cache: sqlite, locks: mine }}\n")).good().config;
    assert_eq!(config.stores.kept_by("redis"), ["events", "config-store", "memory-store"]);
    let kept = "mode: distributed\nengine: { kind: embedded }\nredis: { url: redis://r }\n";
    assert_eq!(file(kept).good().config.engine.kind, EngineKind::Embedded);
    let alone = "engine: { kind: temporal, temporal: { managed: true } }\n";
    let config = file(alone).good().config;
    assert_eq!((config.mode, config.engine.kind), (Mode::Standalone, EngineKind::Temporal));
    assert_eq!(config.engine.temporal.project, "compozy", "a project without a name");
}

/// The file says 1, the environment 2, the command line 3: for each subset, which holds.
#[test]
fn the_command_line_goes_before_the_environment_and_that_before_the_file() {
    for which in 0..8_u32 {
        let given = |bit: u32| which & bit != 0;
        let text = if given(1) { "drain: 1s\nstores: { cache: one }\n" } else { "" };
        let environment: &[_] =
            if given(2) { &[("COMPOZY_DRAIN", "2s"), ("COMPOZY_STORES_CACHE", "two")] } else { &[] };
        let flags: &[_] = if given(4) { &[("drain", "3s"), ("stores.cache", "three")] } else { &[] };
        let config = Case { file: text, environment, flags }.good().config;
        let expected = match which {
            0 => (10, "sqlite"),
            1 => (1, "one"),
            2 | 3 => (2, "two"),
            _ => (3, "three"),
        };
        assert_eq!((config.drain.as_secs(), config.stores.plugins["cache"].as_str()), expected, "{which}");
    }
    let empty = Case { file: "drain: 1s\n", environment: &[("COMPOZY_DRAIN", "")], flags: &[] };
    assert_eq!(empty.good().config.drain.as_secs(), 1, "an empty variable counts as missing");
}

#[test]
fn one_retention_stands_for_four_and_the_later_source_wins() {
    let seconds = |config: Config| {
        let kept = config.retention;
        [kept.success, kept.failed, kept.timed_out, kept.canceled].map(|time| time.map(|time| time.as_secs()))
    };
    assert_eq!(seconds(file("retention: 24h\n").good().config), [Some(86_400); 4]);
    let some = file("retention: { success: 720h, timed_out: 90s }\n").good().config;
    assert_eq!(seconds(some), [Some(2_592_000), None, Some(90), None]);
    let over = Case { file: "retention: { success: 1h }\n", environment: &[("COMPOZY_RETENTION", "2s")], flags: &[] };
    assert_eq!(seconds(over.good().config), [Some(2); 4]);
    let under = Case { file: "retention: 1h\n", environment: &[("COMPOZY_RETENTION_FAILED", "2s")], flags: &[] };
    assert_eq!(seconds(under.good().config), [Some(3_600), Some(2), Some(3_600), Some(3_600)]);
}

#[test]
fn lists_and_maps_can_be_written_everywhere() {
    let shared = "engine: { kind: temporal, temporal: { address: \"http://t:1\" } }\nblobs: { folder: /s }\nredis: { url: redis://r }\n\
                  stores: { cache: redis, locks: redis, events: redis, config-store: redis, memory-store: redis }\n";
    let cases = [
        Case {
            file: &format!(
                "{shared}roles: [tool-worker]\nworker: {{ plugins: [a, b], concurrency: {{ a: 2, b: 3 }} }}\n"
            ),
            ..Case::default()
        }
        .good(),
        Case {
            file: shared,
            environment: &[
                ("COMPOZY_ROLES", "tool-worker"),
                ("COMPOZY_WORKER_PLUGINS", "a, b"),
                ("COMPOZY_WORKER_CONCURRENCY", "a=2, b=3"),
            ],
            flags: &[],
        }
        .good(),
        Case {
            file: shared,
            environment: &[],
            flags: &[
                ("roles", "tool-worker"),
                ("worker.plugins", "a,b"),
                ("worker.concurrency.a", "2"),
                ("worker.concurrency.b", "3"),
            ],
        }
        .good(),
    ];
    for loaded in cases {
        let config = loaded.config;
        assert_eq!(config.roles.into_iter().collect::<Vec<_>>(), [ProcessRole::ToolWorker]);
        assert_eq!(config.worker.plugins, Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(
            config.worker.concurrency.into_iter().collect::<Vec<_>>(),
            [("a".to_owned(), 2), ("b".to_owned(), 3)]
        );
    }
}

#[test]
fn paths_are_seen_from_where_they_are_written() {
    let text = "data_dir: data\nplugin_dirs: [a, /b]\nblobs: { folder: ../blobs }\n";
    let config = file(text).good().config;
    assert_eq!(config.data_dir, Path::new("p/data"));
    assert_eq!(config.plugin_dirs, [PathBuf::from("p/a"), PathBuf::from("/b")]);
    assert_eq!(config.blobs, BlobsConfig::Folder(Some(PathBuf::from("p/../blobs"))));
    let elsewhere = Case { file: text, environment: &[("COMPOZY_DATA_DIR", "here")], flags: &[("plugin_dirs", "c,d")] };
    let config = elsewhere.good().config;
    assert_eq!(
        (config.data_dir, config.plugin_dirs),
        (PathBuf::from("here"), vec![PathBuf::from("c"), PathBuf::from("d")])
    );
}

#[test]
fn units_are_read() {
    for (text, ms) in [("500ms", 500), ("1m30s", 90_000), ("1.5s", 1_500), ("1h", 3_600_000), ("0s", 0)] {
        assert_eq!(file(&format!("drain: {text}\n")).good().config.drain, Duration::from_millis(ms), "{text}");
    }
    let limit = file("rate_limit: { requests: 100, per: 1m, burst: 5 }\n").good().config.rate_limit;
    assert_eq!(limit, Some(RateLimit { requests: 100, per: Duration::from_mins(1), burst: 5 }));
    let limit = file("rate_limit: { requests: 7 }\n").good().config.rate_limit;
    assert_eq!(limit, Some(RateLimit { requests: 7, per: Duration::from_secs(1), burst: 7 }));
}

#[test]
fn a_secret_comes_from_where_it_is_said_to_be() {
    let url = |case: Case<'_>| case.good().config.redis_url.map(|secret| secret.expose().to_owned());
    for (text, expected) in [
        ("redis: { url: redis://here }\n", "redis://here"),
        ("redis: { url: { env: ELSEWHERE } }\n", "from-the-environment"),
        ("redis: { url: { file: secrets/one } }\n", "from-a-file"),
    ] {
        let case = Case { file: text, environment: &[("ELSEWHERE", "from-the-environment")], flags: &[] };
        assert_eq!(url(case).as_deref(), Some(expected), "{text}");
    }
    let over = Case {
        file: "redis: { url: { file: gone } }\n",
        environment: &[("COMPOZY_REDIS_URL", "redis://env")],
        flags: &[],
    };
    assert_eq!(url(over).as_deref(), Some("redis://env"), "what is not used is not looked for");
}

#[test]
fn s3_is_read_whole() {
    let text = "blobs:\n  kind: s3\n  s3: { endpoint: \"http://m:9000\", bucket: b, prefix: x/, access_key_id: { env: ID }, secret_access_key: { file: secrets/one }, allow_http: true }\n";
    let config = Case { file: text, environment: &[("ID", "me")], flags: &[] }.good().config;
    let BlobsConfig::S3(s3) = config.blobs else { panic!("{:?}", config.blobs) };
    assert_eq!(
        (s3.endpoint.as_deref(), s3.bucket.as_str(), s3.region.as_str()),
        (Some("http://m:9000"), "b", "us-east-1")
    );
    assert_eq!(
        (s3.prefix.as_str(), s3.access_key_id.expose(), s3.secret_access_key.expose()),
        ("x/", "me", "from-a-file")
    );
    assert!(s3.allow_http);
}

#[test]
fn load_answers_a_configuration_or_all_problems() {
    let sources = |environment| compozy_config::Sources {
        file: None,
        folder: Path::new(""),
        environment,
        flags: &[],
        read_secret: &|_| Err("none".to_owned()),
    };
    let good = [("COMPOZY_DRAIN".to_owned(), "5s".to_owned())].into();
    assert_eq!(load(&sources(&good)).map(|config| config.drain.as_secs()), Ok(5));
    let bad = [("COMPOZY_DRAIN".to_owned(), "5".to_owned()), ("COMPOZY_MODE".to_owned(), "x".to_owned())].into();
    assert_eq!(load(&sources(&bad)).map_err(|problems| problems.len()), Err(2));
    assert_eq!(read(&sources(&bad)).config.drain.as_secs(), 10, "what was refused stands at its default");
}
