//! Distributed: the same projects on a real Temporal server and a real Redis server, in one process and in several.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use compozy_tests::host::{Host, command, finish};
use compozy_tests::project::Sandbox;
use compozy_tests::{eventually, guests};
use redis_test_server::Server as Redis;
use s3_test_server::{ACCESS_KEY_ID, BUCKET, S3Server, SECRET_ACCESS_KEY};
use serde_json::{Value, json};
use temporal_test_server::Server as Temporal;

use crate::payloads;
use crate::progress::Stream;

/// Steps that leave a trace outside, and how long each takes.
const STEPS: &str = "id: steps
version: 0.1.0
tools: [{id: act, plugin: witness, action: act}]
tasks:
  - {id: a, tool: act, with: {ms: 400}}
  - {id: b, tool: act, with: {ms: 400}}
  - {id: c, tool: act, with: {ms: 400, succeed_on: 2}, config: {retry_policy: {maximum_attempts: 2, initial_interval: 10ms}}}
  - {id: d, tool: act, with: {ms: 400}}
";
/// A run that somebody must tell to go on.
const HELD: &str = "id: held
version: 0.1.0
tasks:
  - {id: hold, type: wait, wait_for: go}
";

/// A project, its servers, and where all processes see large values.
struct Site {
    sandbox: Sandbox,
    temporal: Temporal,
    redis: Redis,
    /// A folder; none when the project itself says where.
    blobs: Option<PathBuf>,
}

impl Site {
    fn new(sandbox: Sandbox) -> Result<Self> {
        let blobs = sandbox.root().join("blobs");
        fs::create_dir_all(&blobs)?;
        Ok(Self { blobs: Some(blobs), ..Self::without_blobs(sandbox) })
    }

    fn without_blobs(sandbox: Sandbox) -> Self {
        Self { sandbox, temporal: Temporal::start(), redis: Redis::start(&["--appendonly", "yes"]), blobs: None }
    }

    /// The witness and its folder.
    fn with_witness() -> Result<Self> {
        let sandbox = Sandbox::new()?;
        let trace = sandbox.root().join("trace");
        fs::create_dir(&trace)?;
        guests::install(&sandbox, "witness", "")?;
        sandbox.write("project/steps.yaml", STEPS)?;
        sandbox.write("project/held.yaml", HELD)?;
        let folder = format!("{{ guest: /trace, host: \"{}\", access: read-write }}", trace.display());
        sandbox.write(
            "project/compozy.yaml",
            format!(
                "name: spread\nversion: 0.1.0\nworkflows: [{{source: ./steps.yaml}}, {{source: ./held.yaml}}]\n\
                 plugins:\n  witness:\n    grant: {{ folders: [{folder}] }}\n"
            ),
        )?;
        Self::new(sandbox)
    }

    fn options(&self) -> Vec<String> {
        let set = |key: &str, value: String| ["--set".to_owned(), format!("{key}={value}")];
        let mut options = vec!["--redis-url".to_owned(), self.redis.url()];
        options.extend(set("mode", "distributed".to_owned()));
        options.extend(set("engine.temporal.address", self.temporal.url()));
        options.extend(set("engine.temporal.rpc_timeout", "3s".to_owned()));
        if let Some(blobs) = &self.blobs {
            options.extend(set("blobs.kind", "folder".to_owned()));
            options.extend(set("blobs.folder", blobs.display().to_string()));
        }
        options
    }

    /// A process with these roles, and a data folder of its own.
    fn start(&self, name: &str, roles: &[&str]) -> Result<Host> {
        let data = self.sandbox.root().join(format!("data-{name}")).display().to_string();
        let project = self.sandbox.project().display().to_string();
        let plugins = self.sandbox.plugins().display().to_string();
        let mut arguments: Vec<String> =
            ["serve", "--listen", "127.0.0.1:0", "--project", &project, "--data-dir", &data, "--plugins", &plugins]
                .map(str::to_owned)
                .to_vec();
        arguments.extend(self.options());
        arguments.extend(roles.iter().flat_map(|role| ["--role".to_owned(), (*role).to_owned()]));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Host::launch(&self.sandbox, command(self.sandbox.root(), &arguments))
    }

    fn traces(&self) -> String {
        fs::read_to_string(self.sandbox.root().join("trace/effects")).unwrap_or_default()
    }
}

/// The end of an execution, however it stands meanwhile and whoever is away meanwhile.
fn end_of(host: &Host, id: &str) -> Value {
    eventually(&format!("end of {id}; log:\n{}", host.log()), || {
        let body = host.execution(id).ok()?;
        ["SUCCESS", "FAILED", "CANCELED", "TIMED_OUT"].contains(&body["status"].as_str()?).then_some(body)
    })
}

/// Every task ended well, with an answer of an attempt that really was, and no answer is there twice.
fn assert_sound(site: &Site, executions: &[Value]) {
    let traces = site.traces();
    let left: HashSet<&str> = traces.lines().filter_map(|line| line.rsplit(' ').next()).collect();
    let mut seen = HashSet::new();
    for execution in executions {
        assert_eq!(execution["status"], "SUCCESS", "{execution:#}");
        let tasks = execution["tasks"].as_array().expect("tasks");
        assert_eq!(tasks.len(), 4, "{execution:#}");
        for task in tasks {
            let token = task["output"]["token"].as_str().expect("a token");
            assert!(left.contains(token), "nobody outside saw {token}: {task:#}");
            assert!(seen.insert(token.to_owned()), "{token} was recorded twice");
        }
    }
}

#[test]
fn the_weather_example_answers_the_same_in_both_modes_on_temporal() -> Result<()> {
    let site = Site::new(Sandbox::with_example("weather")?)?;
    let run = |data: &str, more: &[String]| -> Result<Value> {
        let mut arguments: Vec<String> = [
            "run",
            "project",
            "--workflow",
            "weather",
            "--input",
            r#"{"city":"Lisbon"}"#,
            "--json",
            "--data-dir",
            data,
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.extend_from_slice(more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let outcome = finish(command(site.sandbox.root(), &arguments))?;
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        outcome.json()
    };
    let (alone, spread) = (run("data-1", &[])?, run("data-2", &site.options())?);
    assert_eq!(alone["output"], spread["output"]);
    let names = |document: &Value| {
        document["tasks"].as_array().map(|tasks| tasks.iter().map(|t| t["task"].clone()).collect::<Vec<_>>())
    };
    assert_eq!(names(&alone), names(&spread));
    Ok(())
}

#[test]
fn workers_that_are_killed_lose_no_execution_and_nothing_is_recorded_twice_on_temporal() -> Result<()> {
    let site = Site::with_witness()?;
    let api = site.start("api", &["api"])?;
    let workflows = site.start("workflows", &["workflow-worker"])?;
    let tools = site.start("tools", &["tool-worker"])?;
    let started: Vec<String> = (0..6).map(|_| api.start_workflow("steps", &json!({}))).collect::<Result<_>>()?;
    eventually("attempts run", || (site.traces().lines().count() >= 3).then_some(()));
    tools.kill()?;
    // While nobody runs tasks, starts are taken all the same.
    let late = api.start_workflow("steps", &json!({}))?;
    let tools = site.start("tools-2", &["tool-worker"])?;
    eventually("attempts run again", || (site.traces().lines().count() >= 10).then_some(()));
    workflows.kill()?;
    let away = eventually("nobody answers for runs", || {
        let answer = api.get(&format!("/api/v0/executions/{late}")).ok()?;
        (answer.status == 503).then_some(answer)
    });
    assert_eq!(away.code(), "WORKER_UNAVAILABLE", "{away:?}");
    assert!(away.header("retry-after").is_some(), "{away:?}");
    let workflows = site.start("workflows-2", &["workflow-worker"])?;
    let ended: Vec<Value> = started.iter().chain([&late]).map(|id| end_of(&api, id)).collect();
    assert_sound(&site, &ended);
    let shown = ended.iter().flat_map(|one| one["tasks"].as_array().cloned().unwrap_or_default());
    assert!(shown.into_iter().any(|task| task["attempts"].as_u64() >= Some(2)), "lost attempts are shown");
    for host in [tools, workflows, api] {
        host.terminate()?;
        assert_eq!(host.wait()?.0, Some(0));
    }
    Ok(())
}

#[test]
fn a_stream_goes_on_at_another_api_process_on_temporal() -> Result<()> {
    let site = Site::with_witness()?;
    let workers = site.start("workers", &["workflow-worker", "tool-worker"])?;
    let api = site.start("api", &["api"])?;
    let id = api.start_workflow("held", &json!({}))?;
    let mut stream = Stream::open(&api, &id, None)?;
    let first = stream.block()?.context("an event")?;
    assert!(first.starts_with("id: 1\nevent: record\n"), "{first}");
    api.kill()?;
    let api = site.start("api-2", &["api"])?;
    let stream = Stream::open(&api, &id, Some(1))?;
    let answer = api.post(&format!("/api/v0/executions/{id}/signals"), &[], r#"{"signal_name":"go"}"#)?;
    assert_eq!(answer.status, 200, "{answer:?}");
    let blocks = stream.rest()?;
    let records: Vec<&String> = blocks.iter().filter(|block| block.contains("event: record")).collect();
    assert!(records.len() == 1 && records[0].starts_with("id: 2\n"), "{blocks:?}");
    assert_eq!(blocks.last().map(String::as_str), Some("event: end\ndata: {\"status\":\"SUCCESS\"}\n\n"));
    // A worker has no API, and says so.
    let refused = workers.get("/api/v0/workflows")?;
    assert!(refused.status == 404 && refused.detail().contains("role `api`"), "{refused:?}");
    assert_eq!(workers.get("/readyz")?.status, 200);
    Ok(())
}

#[test]
fn servers_that_die_or_do_not_answer_delay_executions_and_lose_none_on_temporal() -> Result<()> {
    let mut site = Site::with_witness()?;
    let host = site.start("all", &[])?;
    let started: Vec<String> = (0..4).map(|_| host.start_workflow("steps", &json!({}))).collect::<Result<_>>()?;
    eventually("attempts run", || (site.traces().lines().count() >= 2).then_some(()));
    site.temporal.kill();
    let begun = Instant::now();
    let refused = host.try_start("steps", &json!({}))?;
    assert_eq!((refused.status, refused.code()), (503, "BACKEND_UNAVAILABLE"), "{refused:?}");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "no request hangs");
    let state = |name: &str| {
        let health = host.get("/api/v0/health").ok()?.body;
        let services = health["services"].as_array()?.clone();
        let found =
            services.into_iter().find(|service| service["service"].as_str().is_some_and(|it| it.contains(name)))?;
        found["state"].as_str().map(str::to_owned)
    };
    eventually("health says that Temporal is away", || (state("Temporal")? == "down").then_some(()));
    assert_eq!(host.get("/readyz")?.status, 503);
    assert_eq!(host.get("/livez")?.status, 200);
    site.temporal.restart();
    // Redis is away too, which these workflows do not need.
    site.redis.kill();
    eventually("health says that Redis is away", || (state("Redis")? == "down").then_some(()));
    let ended: Vec<Value> = started.iter().map(|id| end_of(&host, id)).collect();
    assert_sound(&site, &ended);
    site.redis.restart();
    eventually("all is well again", || {
        (state("Redis")? == "up" && state("Temporal")? == "up" && host.get("/readyz").ok()?.status == 200).then_some(())
    });
    // Both stand still for longer than anybody waits for them.
    let held: Vec<String> = (0..2).map(|_| host.start_workflow("steps", &json!({}))).collect::<Result<_>>()?;
    site.temporal.pause();
    site.redis.pause();
    std::thread::sleep(Duration::from_secs(20));
    site.temporal.resume();
    site.redis.resume();
    let ended: Vec<Value> = held.iter().map(|id| end_of(&host, id)).collect();
    assert_sound(&site, &ended);
    Ok(())
}

#[test]
fn large_values_go_through_s3_from_process_to_process_on_temporal() -> Result<()> {
    let mut s3 = S3Server::start()?;
    let sandbox = payloads::sandbox(payloads::LARGE)?;
    sandbox.write(
        "project/compozy.yaml",
        format!(
            "name: payloads\nversion: 0.1.0\nworkflows: [{{source: ./relay.yaml}}]\nblobs:\n  kind: s3\n  s3: {{ endpoint: \"{}\", \
             bucket: {BUCKET}, access_key_id: {ACCESS_KEY_ID}, secret_access_key: {SECRET_ACCESS_KEY}, allow_http: true }}\n",
            s3.endpoint()
        ),
    )?;
    let site = Site::without_blobs(sandbox);
    let api = site.start("api", &["api"])?;
    let _workers = site.start("workers", &["workflow-worker", "tool-worker"])?;
    let doc = "large ".repeat(payloads::LARGEST / 6);
    let answer = api.try_start("relay", &json!({ "doc": doc }))?;
    assert_eq!(answer.status, 202, "{answer:?}");
    let id = answer.body["exec_id"].as_str().context("an id")?.to_owned();
    let ended = end_of(&api, &id);
    assert_eq!(ended["status"], "SUCCESS", "{}", ended["failure"]);
    assert!(ended["output"]["doc"] == doc.as_str(), "the output is whole");
    let reference = &ended["tasks"][4]["output"]["doc"]["$compozy:blob"];
    let digest = reference["sha256"].as_str().context("what a task answered is shown as a reference")?;
    let path = format!("/api/v0/executions/{id}/blobs/{digest}");
    assert!(api.get(&path)?.body == Value::String(doc.clone()), "and can be had by it");

    // Without the storage, what is small goes on, and what is large is refused until it is back.
    s3.stop();
    let small = api.start_workflow("relay", &json!({ "doc": "small" }))?;
    assert_eq!(end_of(&api, &small)["output"]["doc"], "small");
    let other = json!({ "doc": format!("another {doc}")[..doc.len()] });
    let begun = Instant::now();
    let refused = api.try_start("relay", &other)?;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.header("retry-after").is_some() && begun.elapsed() < Duration::from_secs(30), "{refused:?}");
    s3.restart()?;
    assert_eq!(api.try_start("relay", &other)?.status, 202);
    Ok(())
}

#[test]
fn a_managed_server_lives_and_dies_with_its_host_on_temporal() -> Result<()> {
    let sandbox = Sandbox::with_example("weather")?;
    let program = temporal_test_server::program().map_err(anyhow::Error::msg)?.display().to_string();
    let binary = format!("engine.temporal.binary={program}");
    let options = ["--set", "engine.kind=temporal", "--set", "engine.temporal.managed=true", "--set", &binary];
    let host = Host::start_with(&sandbox, &options)?;
    let ended = host.run("weather", &json!({"city": "Lisbon"}))?;
    assert_eq!(ended["status"], "SUCCESS", "{ended:#}");
    let id = ended["exec_id"].as_str().context("an id")?.to_owned();
    let health = host.get("/api/v0/health")?.body;
    assert_eq!(
        (&health["mode"], &health["engine"]["engine"]),
        (&json!("standalone"), &json!("temporal")),
        "{health:#}"
    );
    let server =
        health["services"][0]["address"].as_str().context("an address")?.trim_start_matches("http://").to_owned();
    host.terminate()?;
    assert_eq!(host.wait()?.0, Some(0));
    assert!(std::net::TcpStream::connect(&server).is_err(), "the server has ended with its host");
    let again = Host::start_with(&sandbox, &options)?;
    assert_eq!(again.execution(&id)?["output"], ended["output"], "what was recorded is there after a restart");
    Ok(())
}
