//! Which failures are followed by another attempt, and which timeouts end a guest that would never end by itself.

use anyhow::Result;
use compozy_tests::host::Host;
use compozy_tests::project::Sandbox;
use compozy_tests::{eventually, guests};
use redis_test_server::Server;
use serde_json::{Value, json};

fn workflow(id: &str, tool: &str, with: &str, config: &str) -> String {
    format!(
        "id: {id}\nversion: 0.1.0\nconfig:\n{config}tools:\n  - {{ id: t, plugin: {tool} }}\n\
         tasks:\n  - id: work\n    tool: t\n    with: {with}\n"
    )
}

/// Patient with guests that loop, so that nothing but a timeout ends one.
const PATIENT: &str = "[limits]\nwall_ms = 600_000\ncall_timeout_ms = 600_000\nfuel = 1_000_000_000_000\n";
const RETRIES: &str = "  retry_policy: { initial_interval: 50ms, maximum_interval: 200ms, maximum_attempts: 100 }\n";

#[test]
fn a_trap_and_a_limit_are_not_tried_again() -> Result<()> {
    let sandbox = Sandbox::new()?;
    guests::install(&sandbox, "hostile", "[limits]\nfuel = 10_000_000\n")?;
    for action in ["panic", "infinite_loop"] {
        let text = workflow(action, &format!("hostile, action: {action}"), "{}", RETRIES);
        sandbox.write(&format!("project/{action}.yaml"), text)?;
    }
    let host = Host::start(&sandbox)?;
    for (id, code) in [("panic", "PLUGIN_TRAP"), ("infinite_loop", "PLUGIN_LIMIT")] {
        let ended = host.run(id, &json!({}))?;
        assert_eq!((&ended["status"], &ended["failure"]["code"]), (&json!("FAILED"), &json!(code)), "{ended:#}");
        assert_eq!(ended["tasks"][0]["attempts"], 1, "{ended:#}");
    }
    Ok(())
}

#[test]
fn a_backend_that_is_away_is_tried_again_until_it_is_back() -> Result<()> {
    let sandbox = Sandbox::new()?;
    guests::install(&sandbox, "echo", "")?;
    sandbox.write("project/counts.yaml", workflow("counts", "echo, action: stores", "{ key: k }", RETRIES))?;
    let settings = "name: p\nversion: 0.1.0\nworkflows: [{ source: ./counts.yaml }]\n\
                    plugins:\n  echo:\n    grant: { stores: [cache] }\n";
    sandbox.write("project/compozy.yaml", settings)?;
    let mut server = Server::start(&[]);
    let url = server.url();
    server.kill();
    let host = Host::start_with(&sandbox, &["--store", "cache=redis", "--redis-url", &url])?;
    let id = host.start_workflow("counts", &json!({}))?;
    let task = eventually("two attempts have failed", || {
        let task = host.execution(&id).ok()?["tasks"][0].clone();
        (task["attempts"].as_u64()? > 2).then_some(task)
    });
    assert!(task["last_failure"].as_str().is_some_and(|failure| failure.starts_with("STORE_UNAVAILABLE")), "{task:#}");
    server.restart();
    let ended = host.ended(&id)?;
    assert_eq!((&ended["status"], &ended["output"]["count"]), (&json!("SUCCESS"), &json!(1)), "{ended:#}");
    Ok(())
}

#[test]
fn each_timeout_says_which_it_was_and_ends_a_guest_that_loops() -> Result<()> {
    let once = "  retry_policy: { maximum_attempts: 1 }\n";
    let cases = [
        ("start-to-close", "start_to_close_timeout", "start_to_close"),
        ("schedule-to-close", "schedule_to_close_timeout", "schedule_to_close"),
        ("heartbeat", "heartbeat_timeout", "heartbeat"),
        ("workflow", "workflow_timeout", "workflow"),
    ];
    let sandbox = Sandbox::new()?;
    guests::install(&sandbox, "hostile", PATIENT)?;
    for (id, key, _) in cases {
        let config = format!("{once}  {key}: 400ms\n");
        sandbox.write(&format!("project/{id}.yaml"), workflow(id, "hostile, action: infinite_loop", "{}", &config))?;
    }
    let host = Host::start(&sandbox)?;
    for (id, _, name) in cases {
        let ended = host.run(id, &json!({}))?;
        let failure = if name == "workflow" { &ended["failure"] } else { &ended["tasks"][0]["failure"] };
        assert_eq!(failure["timeout"], name, "{ended:#}");
        let message = failure["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains(name) || message.contains(&name.replace('_', "-")), "{message}");
        nothing_runs(&host);
    }
    Ok(())
}

fn nothing_runs(host: &Host) {
    eventually("nothing runs", || {
        let health: Value = host.get("/api/v0/health").ok()?.body;
        (health["engine"]["running_tasks"] == 0).then_some(())
    });
}
