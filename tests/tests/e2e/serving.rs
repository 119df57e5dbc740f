//! Clients over HTTP, well-behaved and not.

use anyhow::Result;
use compozy_tests::host::Host;
use compozy_tests::http;
use compozy_tests::project::Sandbox;
use compozy_tests::{eventually, guests};
use serde_json::json;

const START: &str = "/api/v0/workflows/hello/executions";

fn sandbox() -> Result<Sandbox> {
    let sandbox = Sandbox::with_workflows(&["hello", "flaky", "failing", "late"])?;
    guests::install(&sandbox, "echo", "")?;
    Ok(sandbox)
}

#[test]
fn a_start_is_accepted_and_runs_to_its_output() -> Result<()> {
    let sandbox = sandbox()?;
    let host = Host::start(&sandbox)?;
    let answer = host.try_start("hello", &json!({ "name": "Ada" }))?;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(answer.body["workflow_id"], "hello");
    let location = answer.header("location").expect("a Location").to_owned();
    assert_eq!(answer.body["exec_url"], location.as_str());
    let id = answer.body["exec_id"].as_str().expect("an id");
    assert_eq!(location, format!("/api/v0/executions/{id}"));

    let ended = host.ended(id)?;
    assert_eq!(ended["status"], "SUCCESS", "{ended:#}");
    assert_eq!(ended["output"], json!({ "greeting": "Hello Ada!" }));
    let task = &ended["tasks"][0];
    assert_eq!((&task["id"], &task["attempts"], &task["plugin"]["name"]), (&json!("greet"), &json!(1), &json!("echo")));
    assert_eq!(task["plugin"]["digest"].as_str().map(str::len), Some(64), "{task:#}");
    assert!(task["fuel"].as_u64() > Some(0), "{task:#}");
    let journal = host.get(&format!("{location}/journal"))?;
    assert_eq!(journal.body["records"].as_array().map(|r| r.len() as u64), ended["events"].as_u64());
    Ok(())
}

/// Method, path, headers, body; then the status, the code and a part of the detail.
type Refusal<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, u16, &'a str, &'a str);

#[test]
fn what_the_api_refuses_it_refuses_by_name() -> Result<()> {
    let sandbox = sandbox()?;
    let host = Host::start(&sandbox)?;
    let big = format!(r#"{{"input":{{"name":"{}"}}}}"#, "x".repeat(17_000_000));
    let json_type = ("content-type", "application/json");
    let cases: [Refusal<'_>; 10] = [
        ("POST", START, &[json_type], "{not json", 400, "INVALID_JSON", "line 1 column 2"),
        ("POST", START, &[json_type], r#"{"input":{"name":7}}"#, 400, "INVALID_INPUT", "/name"),
        ("POST", START, &[json_type], r#"{"input":{"name":"x","tiems":2}}"#, 400, "INVALID_INPUT", "tiems"),
        ("POST", START, &[json_type], "{}", 400, "INVALID_INPUT", "name"),
        ("POST", START, &[json_type], &big, 413, "PAYLOAD_TOO_LARGE", "16842752 bytes"),
        ("POST", START, &[("content-type", "text/yaml")], "input: 1", 415, "UNSUPPORTED_MEDIA_TYPE", "text/yaml"),
        ("POST", "/api/v0/workflows/helo/executions", &[json_type], "{}", 404, "WORKFLOW_NOT_FOUND", "`hello`"),
        ("GET", "/api/v0/executions/nothing", &[], "", 404, "EXECUTION_NOT_FOUND", "`nothing`"),
        ("GET", "/api/v1/health", &[], "", 404, "ROUTE_NOT_FOUND", "/api/v0"),
        ("DELETE", START, &[], "", 405, "METHOD_NOT_ALLOWED", "`DELETE`"),
    ];
    for (method, path, headers, body, status, code, detail) in cases {
        let answer = http::send(host.address(), method, path, headers, body.as_bytes())?;
        assert_eq!((answer.status, answer.code()), (status, code), "{method} {path}: {answer:?}");
        assert!(answer.detail().contains(detail), "{method} {path}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    }
    let answer = host.try_start("hello", &json!({ "name": "", "times": 0 }))?;
    let mut paths: Vec<_> =
        answer.body["violations"].as_array().expect("a list").iter().map(|v| v["path"].clone()).collect();
    paths.sort_by_key(ToString::to_string);
    assert_eq!(paths, ["/input/name", "/input/times"], "every violation, with its path in the body: {answer:?}");
    let list = host.get("/api/v0/executions")?;
    assert_eq!(list.body["executions"], json!([]), "nothing of all that was started");
    Ok(())
}

#[test]
fn an_idempotency_key_names_one_start() -> Result<()> {
    let sandbox = sandbox()?;
    let host = Host::start(&sandbox)?;
    let start = |header: &str, name: &str| {
        host.post(START, &[(header, "order-7")], &json!({ "input": { "name": name } }).to_string())
    };
    let first = start("idempotency-key", "Ada")?;
    let again = start("x-idempotency-key", "Ada")?;
    assert_eq!((first.status, again.status), (202, 202), "{again:?}");
    assert_eq!(first.body["exec_id"], again.body["exec_id"]);
    let other = start("idempotency-key", "Grace")?;
    assert_eq!((other.status, other.code()), (409, "IDEMPOTENCY_KEY_REUSED"), "{other:?}");
    assert_eq!(other.body["exec_id"], first.body["exec_id"]);
    Ok(())
}

#[test]
fn retries_failures_and_timeouts_are_those_of_the_plan() -> Result<()> {
    let sandbox = sandbox()?;
    let host = Host::start(&sandbox)?;
    let flaky = host.run("flaky", &json!({}))?;
    assert_eq!((&flaky["status"], &flaky["tasks"][0]["attempts"]), (&json!("SUCCESS"), &json!(3)), "{flaky:#}");
    let failing = host.run("failing", &json!({}))?;
    assert_eq!((&failing["status"], &failing["tasks"][0]["attempts"]), (&json!("FAILED"), &json!(1)), "{failing:#}");
    assert_eq!(failing["failure"]["code"], "NOT_TODAY", "{failing:#}");
    let late = host.run("late", &json!({}))?;
    assert_eq!(late["tasks"][0]["attempts"], 1, "{late:#}");
    let message = late["failure"]["message"].as_str().expect("a message");
    assert!(message.contains("200 ms"), "names its bound: {message}");
    Ok(())
}

#[test]
fn health_names_what_is_active() -> Result<()> {
    let sandbox = sandbox()?;
    let host = Host::start(&sandbox)?;
    let health = host.get("/api/v0/health")?.body;
    assert_eq!((&health["status"], &health["mode"]), (&json!("ok"), &json!("standalone")), "{health:#}");
    assert_eq!((&health["engine"]["engine"], &health["engine"]["writable"]), (&json!("embedded"), &json!(true)));
    for role in ["cache", "locks", "events", "config-store", "memory-store"] {
        let store = &health["stores"][role];
        assert_eq!(
            (&store["plugin"]["name"], &store["circuit"]),
            (&json!("sqlite"), &json!("closed")),
            "{role}: {store}"
        );
    }
    let plugins = health["plugins"].as_array().expect("a list");
    let names: Vec<_> = plugins.iter().map(|p| p["name"].as_str().unwrap_or_default()).collect();
    assert_eq!(names, ["echo", "files", "sqlite", "weather"]);
    for plugin in plugins {
        assert_eq!(plugin["digest"].as_str().map(str::len), Some(64), "{plugin:#}");
        assert!(plugin["roles"].as_array().is_some_and(|roles| !roles.is_empty()), "{plugin:#}");
    }
    assert_eq!(host.get("/livez")?.status, 200);
    assert_eq!(host.get("/readyz")?.status, 200);
    Ok(())
}

#[test]
fn a_host_without_workflows_serves_all_the_same() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let host = Host::start(&sandbox)?;
    assert_eq!(host.get("/api/v0/workflows")?.body, json!({ "workflows": [] }));
    let answer = host.try_start("hello", &json!({}))?;
    assert_eq!((answer.status, answer.code()), (404, "WORKFLOW_NOT_FOUND"));
    Ok(())
}

#[test]
fn many_executions_at_once_all_end() -> Result<()> {
    let sandbox = sandbox()?;
    let host = Host::start(&sandbox)?;
    let ids: Result<Vec<_>> =
        (0..40).map(|n| host.start_workflow("hello", &json!({ "name": n.to_string() }))).collect();
    for (n, id) in ids?.iter().enumerate() {
        assert_eq!(host.ended(id)?["output"]["greeting"], format!("Hello {n}!"));
    }
    let idle = eventually("no open execution", || {
        let health = host.get("/api/v0/health").ok()?.body;
        (health["engine"]["open_executions"] == 0).then_some(health)
    });
    assert_eq!(idle["engine"]["running_tasks"], 0);
    Ok(())
}
