//! The configuration at the command line: what holds, what is wrong, and what `doctor` says of good and bad set-ups.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use compozy_tests::host::{Host, Outcome, command, finish, run};
use compozy_tests::project::{Sandbox, checkout};
use redis_test_server::Server;
use serde_json::{Value, json};

/// A sandbox with one workflow and these settings.
fn sandbox(settings: &str) -> Result<Sandbox> {
    let sandbox = Sandbox::with_workflows(&["steps"])?;
    compozy_tests::guests::install(&sandbox, "echo", "")?;
    let file = sandbox.project().join("compozy.yaml");
    let project = std::fs::read_to_string(&file)?;
    std::fs::write(&file, project + settings)?;
    Ok(sandbox)
}

fn with_environment(sandbox: &Sandbox, args: &[&str], environment: &[(&str, &str)]) -> Result<Outcome> {
    let mut prepared = command(sandbox.root(), args);
    prepared.envs(environment.iter().copied());
    finish(prepared)
}

#[test]
fn schema_and_reference_are_the_committed_ones() -> Result<()> {
    let sandbox = Sandbox::new()?;
    for (what, file) in [("schema", "compozy.schema.json"), ("reference", "REFERENCE.md")] {
        let printed = run(sandbox.root(), &["config", what])?;
        let committed = std::fs::read_to_string(checkout().join("host/config").join(file))?;
        assert_eq!((printed.code, printed.stdout == committed), (Some(0), true), "{what}");
    }
    Ok(())
}

#[test]
fn show_tells_what_holds_and_where_it_came_from_without_secrets() -> Result<()> {
    let sandbox = sandbox("drain: 1m\nlisten: 127.0.0.1:1\nredis: { url: { env: ELSEWHERE } }\nstart_timeout: 5s\n")?;
    let environment = [("ELSEWHERE", "redis://:hunter2@h"), ("COMPOZY_LISTEN", "127.0.0.1:2"), ("COMPOZY_DRAIN", "2s")];
    let args = ["--project", "project", "--set", "drain=3s", "--store", "cache=redis", "config", "show"];
    let text = with_environment(&sandbox, &args, &environment)?;
    assert_eq!(text.code, Some(0), "{text:?}");
    let json = with_environment(&sandbox, &[&args[..], &["--json"]].concat(), &environment)?;
    let document = json.json()?;
    let keys = document["keys"].as_array().context("keys")?;
    for (key, value, from) in [
        ("mode", "standalone", json!({ "from": "default" })),
        ("listen", "127.0.0.1:2", json!({ "from": "environment", "name": "COMPOZY_LISTEN" })),
        ("drain", "3s", json!({ "from": "option", "name": "--set" })),
        ("stores.cache", "redis", json!({ "from": "option", "name": "--store" })),
        ("stores.locks", "sqlite", json!({ "from": "mode" })),
        ("redis.url", "***", json!({ "from": "file", "file": "project/compozy.yaml", "line": 10, "column": 15 })),
        ("start_timeout", "5s", json!({ "from": "file", "file": "project/compozy.yaml", "line": 11, "column": 16 })),
    ] {
        let entry = keys.iter().find(|entry| entry["key"] == key).context(key)?;
        assert_eq!((&entry["value"], &entry["origin"]), (&json!(value), &from), "{key}");
        assert!(text.stdout.lines().any(|line| line.starts_with(key) && line.contains(value)), "{key}: {text:?}");
    }
    assert!(!format!("{text:?}{json:?}").contains("hunter2"));
    Ok(())
}

#[test]
fn validate_tells_every_problem_of_all_sources_at_once() -> Result<()> {
    let twice = sandbox("drain: 1s\ndrain: 2s\n")?;
    let outcome = run(twice.root(), &["config", "validate", "--project", "project"])?;
    assert!(outcome.code == Some(1) && outcome.stdout.contains("the key `drain` is already"), "{outcome:?}");
    assert_eq!(outcome.stdout.matches("error[").count(), 1, "told once: {outcome:?}");
    let gone = run(twice.root(), &["config", "validate", "--project", "nowhere"])?;
    assert!(gone.code == Some(1) && gone.stdout.contains("`nowhere` cannot be read"), "{gone:?}");

    let good = sandbox("retention: 24h\n")?;
    let outcome = run(good.root(), &["config", "validate", "--project", "project"])?;
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), ""), "{outcome:?}");

    let bad = sandbox("mode: distributed\nmodle: x\nstores: { cahce: redis }\ndrain: 10\n")?;
    let args = ["--set", "roles=apy", "config", "validate", "--project", "project"];
    let environment = [("COMPOZY_ENGINE_TEMPORAL_ADRESS", "http://t:7233")];
    let outcome = with_environment(&bad, &args, &environment)?;
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    for part in [
        "project/compozy.yaml:9:1: error[PLAN_UNKNOWN_KEY]: unknown key `modle`",
        "project/compozy.yaml:10:11: error[CONFIG_UNKNOWN_KEY]: there is no store `cahce`",
        "did you mean `cache`?",
        "project/compozy.yaml:11:8: error[CONFIG_INVALID_VALUE]: `drain` is the number 10 without a unit",
        "command line: error[CONFIG_INVALID_VALUE]: --set: `roles` cannot be `apy`",
        "did you mean `COMPOZY_ENGINE_TEMPORAL_ADDRESS`?",
        "mode `distributed` needs the address of a Temporal server",
        "COMPOZY_ENGINE_TEMPORAL_ADDRESS",
        "COMPOZY_REDIS_URL",
    ] {
        assert!(outcome.stdout.contains(part), "`{part}` is missing in {}", outcome.stdout);
    }
    let document = with_environment(&bad, &[&args[..], &["--json"]].concat(), &environment)?.json()?;
    assert_eq!(document["valid"], false);
    let lines = outcome.stdout.lines().filter(|line| line.contains("error[")).count();
    assert_eq!(document["problems"].as_array().map(Vec::len), Some(lines), "{document:#}");
    Ok(())
}

/// No command that needs the configuration goes on without it, and none hangs.
#[test]
fn distributed_without_addresses_does_not_start() -> Result<()> {
    let sandbox = sandbox("mode: distributed\n")?;
    let begun = Instant::now();
    for args in [&["serve", "--listen", "127.0.0.1:0", "--project", "project"][..], &["run", "project"]] {
        let outcome = run(sandbox.root(), &[args, &["--plugins", "plugins"]].concat())?;
        assert_eq!(outcome.code, Some(3), "{outcome:?}");
        for part in [
            "`engine.temporal.address` in compozy.yaml",
            "http://127.0.0.1:7233",
            "--redis-url",
            "redis://127.0.0.1:6379",
        ] {
            assert!(outcome.stderr.contains(part), "`{part}` is missing in {}", outcome.stderr);
        }
    }
    assert!(begun.elapsed() < Duration::from_mins(1), "longer than two starts may take");
    Ok(())
}

#[test]
fn a_host_goes_by_its_project_file() -> Result<()> {
    let sandbox = sandbox("listen: 127.0.0.1:0\ndata_dir: ../kept\nplugin_dirs: [../plugins]\ndrain: 2s\n")?;
    let host = Host::launch(&sandbox, command(sandbox.root(), &["--project", "project"]))?;
    let ended = host.run("steps", &json!({ "ms": 1 }))?;
    assert_eq!(ended["status"], "SUCCESS", "{ended:#}");
    let id = ended["exec_id"].as_str().context("an id")?.to_owned();
    assert!(sandbox.root().join("kept/journal.db").exists());
    // Commands that look find the same data folder, and say so in one sentence when its key is wrong.
    let list = run(sandbox.root(), &["executions", "list", "--project", "project"])?;
    assert!(list.code == Some(0) && list.stdout.contains(&id), "{list:?}");
    let wrong = run(sandbox.root(), &["executions", "list", "--project", "project", "--set", "data_dir="])?;
    assert!(wrong.code == Some(3) && wrong.stderr.contains("`data_dir` must be a path but is empty"), "{wrong:?}");
    let unread = run(sandbox.root(), &["executions", "list", "--project", "nowhere"])?;
    assert!(unread.code == Some(3) && unread.stderr.contains("`nowhere` cannot be read"), "{unread:?}");
    // A secret that only a host needs does not keep anybody from looking.
    let file = sandbox.project().join("compozy.yaml");
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, text + "redis: { url: { env: NOT_SET } }\n")?;
    assert_eq!(run(sandbox.root(), &["executions", "list", "--project", "project"])?.code, Some(0));
    host.terminate()?;
    assert_eq!(host.wait()?.0, Some(0));
    Ok(())
}

fn doctor(sandbox: &Sandbox, more: &[&str]) -> Result<(Option<i32>, Value, String)> {
    let args =
        [&["--project", "project", "--data-dir", "data", "--plugins", "plugins"][..], more, &["doctor"]].concat();
    let text = run(sandbox.root(), &args)?;
    let json = run(sandbox.root(), &[&args[..], &["--json"]].concat())?;
    assert_eq!(json.code, text.code, "{json:?} {text:?}");
    Ok((text.code, json.json()?, text.stdout))
}

fn state(document: &Value, name: &str) -> String {
    let checks = document["checks"].as_array().map_or(&[][..], Vec::as_slice);
    let worst = checks.iter().filter(|check| check["name"] == name).filter_map(|check| check["state"].as_str());
    worst
        .max_by_key(|state| ["ok", "warning", "problem"].iter().position(|known| known == state))
        .unwrap_or("-")
        .to_owned()
}

#[test]
fn doctor_finds_nothing_wrong_with_a_good_set_up_and_leaves_nothing_behind() -> Result<()> {
    let server = Server::start(&["--appendonly", "yes", "--maxmemory-policy", "noeviction"]);
    let sandbox = sandbox(&format!(
        "stores: {{ cache: redis }}\nredis: {{ url: \"{}\" }}\nblobs: {{ folder: ../blobs }}\n",
        server.url()
    ))?;
    std::fs::create_dir(sandbox.root().join("blobs"))?;
    let (code, document, text) = doctor(&sandbox, &[])?;
    assert_eq!((code, &document["ok"]), (Some(0), &json!(true)), "{document:#}");
    for name in
        ["configuration", "data folder", "redis", "redis data", "redis memory", "blobs", "plugins", "plugin limits"]
    {
        assert_eq!(state(&document, name), "ok", "{name}: {document:#}");
        assert!(text.lines().any(|line| line.starts_with("ok ") && line.contains(name)), "{name}: {text}");
    }
    for name in ["disk", "free space", "open files"] {
        assert_ne!(state(&document, name), "-", "{name}: {document:#}");
    }
    assert!(!sandbox.data().exists(), "a look makes no data folder");
    assert_eq!(std::fs::read_dir(sandbox.root().join("blobs"))?.count(), 0);
    Ok(())
}

#[test]
fn doctor_tells_what_to_do_about_a_bad_set_up() -> Result<()> {
    let server = Server::start(&["--appendonly", "no", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let sandbox = sandbox("drain: soon\nblobs: { folder: ../gone }\n")?;
    sandbox.write("data", "a file where a folder should be")?;
    let (code, document, text) = doctor(&sandbox, &["--redis-url", &server.url()])?;
    assert_eq!((code, &document["ok"]), (Some(1), &json!(false)), "{document:#}");
    for (name, words) in [
        ("configuration", &["project/compozy.yaml:8:8", "`drain`", "`30s`"][..]),
        ("data folder", &["cannot be written", "--data-dir"]),
        ("redis data", &["`appendonly no`", "loses everything", "set `appendonly yes`"]),
        ("redis memory", &["100 MiB", "allkeys-lru", "set `maxmemory-policy noeviction`"]),
        ("blobs", &["there is no folder", "gone", "`blobs.folder`"]),
    ] {
        assert_eq!(state(&document, name), "problem", "{name}: {document:#}");
        let line = text.lines().find(|line| line.starts_with("problem") && line.contains(name)).unwrap_or_default();
        for part in words {
            assert!(line.contains(part), "`{part}` is missing in {line}");
        }
    }
    assert_eq!(
        (state(&document, "redis").as_str(), state(&document, "plugins").as_str()),
        ("ok", "ok"),
        "{document:#}"
    );
    Ok(())
}

#[test]
fn doctor_tells_of_services_that_do_not_answer_and_does_not_hang() -> Result<()> {
    let mut server = Server::start(&[]);
    let sandbox = sandbox(
        "engine: { kind: temporal, temporal: { address: \"http://127.0.0.1:1\" } }\nstart_timeout: 1s\nblobs:\n  kind: s3\n  \
         s3: { endpoint: \"https://127.0.0.1:1\", bucket: b, access_key_id: a, secret_access_key: hunter2 }\n",
    )?;
    let url = server.url().replace("redis://", "redis://:hunter2@");
    server.pause();
    let (code, document, text) = doctor(&sandbox, &["--redis-url", &url])?;
    server.resume();
    assert_eq!(code, Some(1), "{document:#}");
    for (name, words) in [
        ("redis", &[server.url()["redis://".len()..].to_owned().as_str(), "no answer within", "`redis.url`"][..]),
        ("temporal", &["`127.0.0.1:1` does not answer", "refused", "`engine.temporal.address`"]),
        ("blobs", &["`127.0.0.1:1` does not answer", "`blobs.s3.endpoint`"]),
    ] {
        let line = text.lines().find(|line| line.starts_with(&format!("problem  {name} "))).unwrap_or_default();
        for part in words {
            assert!(line.contains(part), "`{part}` is missing in {line}\n{text}");
        }
        assert!(line.contains("tried"), "{line}");
    }
    assert!(!format!("{document}{text}").contains("hunter2"), "{text}");
    Ok(())
}
