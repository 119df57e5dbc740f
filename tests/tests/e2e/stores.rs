//! Which plugin keeps what: by command line, environment and project file; on a real Redis; and the public suite at the command line.

use anyhow::{Context, Result};
use compozy_tests::guests;
use compozy_tests::host::{Host, command, finish, run};
use compozy_tests::project::Sandbox;
use redis_test_server::Server;
use serde_json::json;

fn sandbox() -> Result<Sandbox> {
    let sandbox = Sandbox::with_workflows(&["hello"])?;
    guests::install(&sandbox, "echo", "")?;
    Ok(sandbox)
}

#[test]
fn a_role_is_kept_on_redis_when_it_is_told_so_and_the_others_are_not() -> Result<()> {
    let (sandbox, server) = (sandbox()?, Server::start(&[]));
    let options = ["--store", "cache=redis", "--store", "events=redis", "--redis-url", &server.url()];
    let host = Host::start_with(&sandbox, &options)?;
    let health = host.get("/api/v0/health")?.body;
    let plugin = |role: &str| health["stores"][role]["plugin"]["name"].clone();
    let kept = ["cache", "locks", "events", "config-store", "memory-store"].map(plugin);
    assert_eq!(json!(kept), json!(["redis", "sqlite", "redis", "sqlite", "sqlite"]), "{health:#}");
    Ok(())
}

#[test]
fn the_address_may_come_from_the_environment_and_is_never_shown() -> Result<()> {
    let (sandbox, server) = (sandbox()?, Server::start(&["--requirepass", "s3cret-word"]));
    let url = server.url().replace("redis://", "redis://:s3cret-word@");
    let mut check = command(
        sandbox.root(),
        &[
            "run",
            "project/hello.yaml",
            "--input",
            r#"{"name":"Ada"}"#,
            "--store",
            "cache=redis",
            "--plugins",
            "plugins",
            "--log",
            "debug",
        ],
    );
    check.env("COMPOZY_REDIS_URL", &url);
    let outcome = finish(check)?;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(!format!("{outcome:?}").contains("s3cret-word"), "{outcome:?}");
    let help = run(sandbox.root(), &["--help"])?;
    assert!(help.stdout.contains("COMPOZY_REDIS_URL") && !help.stdout.contains("s3cret"), "{help:?}");
    Ok(())
}

/// What an operator gets wrong: options, settings, and parts of the one sentence.
#[test]
fn a_wrong_setting_is_one_clear_sentence() -> Result<()> {
    let cases: &[(&[&str], &str, &[&str])] = &[
        (
            &["--store", "cache=redis"],
            "",
            &["`cache` is to be kept by the plugin `redis`", "COMPOZY_REDIS_URL", "--redis-url"],
        ),
        (&["--store", "cahce=sqlite"], "", &["there is no store `cahce`", "cache, locks, events"]),
        (&["--store", "cache"], "", &["`cache` names no role and plugin", "cache=redis"]),
        (&["--store", "cache=echo"], "", &["`compozy:store/cache`", "`echo`", "does not export it", "sqlite"]),
        (&["--store", "cache=gone"], "", &["`gone`", "is not installed"]),
        (&["--store", "cache=sqlite", "--store", "cache=gone"], "", &["`cache` twice"]),
        (&["--redis-url", "http://a:s3cret@b", "--store", "locks=redis"], "", &["redis://"]),
        (&[], "stores: { locks: redis }\n", &["`locks` is to be kept"]),
        (&[], "stores: { lock: redis }\n", &["compozy.yaml:", "there is no store `lock`"]),
        (&[], "redis: { url: { env: NOT_SET } }\n", &["NOT_SET"]),
        (&[], "redis: { url: { file: gone } }\n", &["`redis.url`", "gone"]),
    ];
    for (options, settings, words) in cases {
        let sandbox = sandbox()?;
        let file = sandbox.project().join("compozy.yaml");
        let project = std::fs::read_to_string(&file).unwrap_or_default();
        std::fs::write(&file, project + settings)?;
        let mut args = vec!["run", "project", "--workflow", "hello", "--plugins", "plugins"];
        args.extend(*options);
        let outcome = run(sandbox.root(), &args)?;
        assert!(outcome.code.is_some_and(|code| code != 0), "{options:?} {settings}: {outcome:?}");
        for part in *words {
            assert!(outcome.stderr.contains(part), "{options:?} {settings}: `{part}` is missing in {}", outcome.stderr);
        }
        assert!(!outcome.stderr.contains("s3cret"), "{outcome:?}");
    }
    Ok(())
}

#[test]
fn a_host_starts_without_its_redis_and_recovers_when_it_comes() -> Result<()> {
    let (sandbox, mut server) = (sandbox()?, Server::start(&[]));
    let url = server.url();
    server.kill();
    let host = Host::start_with(&sandbox, &["--store", "cache=redis", "--redis-url", &url])?;
    let health = host.get("/api/v0/health")?.body;
    assert_eq!(health["stores"]["cache"]["plugin"]["name"], "redis", "{health:#}");
    server.restart();
    Ok(())
}

#[test]
fn the_public_suite_judges_a_plugin_at_the_command_line() -> Result<()> {
    let sandbox = sandbox()?;
    let args = ["plugin", "test", "sqlite", "--role", "cache", "--rule", "cache/", "--operations", "300"];
    let outcome = run(sandbox.root(), &args)?;
    let last = outcome.stdout.lines().last().context("a last line")?;
    assert!(outcome.code == Some(0) && last.ends_with(" passed, 0 failed"), "{outcome:?}");
    assert!(outcome.stdout.lines().any(|line| line.starts_with("ok    cache/")), "{outcome:?}");
    for (args, words) in [
        (["plugin", "test", "gone.wasm"].as_slice(), "`gone.wasm` cannot be read"),
        (&["plugin", "test", "weather"], "no role of a store"),
        (&["plugin", "test", "sqlite", "--role", "cach"], "there is no store `cach`"),
        (&["plugin", "test", "redis"], "--redis-url"),
    ] {
        let outcome = run(sandbox.root(), args)?;
        assert!(outcome.code.is_some_and(|code| code != 0) && outcome.stderr.contains(words), "{args:?}: {outcome:?}");
    }
    Ok(())
}
