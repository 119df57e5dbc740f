//! What a definition says is what happens, seen over HTTP with real plugins: edits, races, pauses, signals.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use compozy_tests::host::Host;
use compozy_tests::project::Sandbox;
use compozy_tests::{eventually, guests};
use serde_json::{Value, json};

/// A project with one workflow, `it`, and the plugin `echo`.
fn sandbox(tasks: &str) -> Result<Sandbox> {
    let sandbox = Sandbox::new()?;
    guests::install(&sandbox, "echo", "")?;
    sandbox.write("project/compozy.yaml", "name: one\nversion: 0.1.0\nworkflows:\n  - source: ./it.yaml\n")?;
    define(&sandbox, tasks)?;
    Ok(sandbox)
}

fn define(sandbox: &Sandbox, tasks: &str) -> Result<()> {
    let tools = "tools:\n  - {id: echo, plugin: echo, action: echo}\n  - {id: sleep, plugin: echo, action: sleep}\n";
    sandbox.write("project/it.yaml", format!("id: it\nversion: 0.1.0\n{tools}{tasks}"))?;
    Ok(())
}

fn tell(host: &Host, id: &str, verb: &str, body: &Value) -> Result<()> {
    let answer = host.post(&format!("/api/v0/executions/{id}/{verb}"), &[], &body.to_string())?;
    ensure!(answer.status == 200, "{verb}: {answer:?}");
    Ok(())
}

fn stands(host: &Host, id: &str, status: &str) -> Value {
    eventually(&format!("execution {id} is {status}"), || {
        host.execution(id).ok().filter(|execution| execution["status"] == status)
    })
}

const WAITS: &str = "tasks:
  - {id: w, type: wait, wait_for: go}
  - {id: last, tool: echo, with: {said: FIRST}}
";

#[test]
fn an_edited_file_affects_new_executions_only() -> Result<()> {
    let sandbox = sandbox(WAITS)?;
    let host = Host::start(&sandbox)?;
    let before = host.start_workflow("it", &json!({}))?;
    stands(&host, &before, "WAITING");
    host.kill()?;

    define(&sandbox, &WAITS.replace("FIRST", "second"))?;
    let host = Host::start(&sandbox)?;
    let after = host.start_workflow("it", &json!({}))?;
    for id in [&before, &after] {
        tell(&host, id, "signals", &json!({ "signal_name": "go" }))?;
    }
    assert_eq!(stands(&host, &before, "SUCCESS")["output"], json!({ "said": "FIRST" }));
    assert_eq!(stands(&host, &after, "SUCCESS")["output"], json!({ "said": "second" }));
    for id in [&before, &after] {
        let verified = host.get(&format!("/api/v0/executions/{id}/verify"))?;
        assert_eq!(verified.body["verified"], true, "{verified:?}");
    }
    Ok(())
}

#[test]
fn a_race_is_as_quick_as_its_winner_and_interrupts_the_others() -> Result<()> {
    let sandbox = sandbox(
        "tasks:
  - id: all
    type: parallel
    strategy: race
    tasks:
      - {id: quick, tool: sleep, with: {ms: 20}}
      - {id: slow, tool: sleep, with: {ms: 600000}}
  - {id: last, tool: echo, with: {done: true}}
",
    )?;
    let host = Host::start(&sandbox)?;
    let begun = Instant::now();
    let ended = host.run("it", &json!({}))?;
    assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", begun.elapsed());
    assert_eq!(ended["status"], "SUCCESS", "{ended:#}");
    let tasks = ended["tasks"].as_array().context("tasks")?;
    let slow = tasks.iter().find(|task| task["task"] == "all/slow").context("the loser is recorded")?;
    assert_eq!(slow["status"], "CANCELED", "{slow:#}");
    // Nothing holds its place in the plugin any more: the host ends at once, without a drain.
    host.terminate()?;
    let begun = Instant::now();
    assert_eq!(host.wait()?.0, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    Ok(())
}

#[test]
fn a_paused_execution_begins_nothing_until_it_is_resumed() -> Result<()> {
    let sandbox = sandbox(
        "tasks:
  - {id: w, type: wait, wait_for: go}
  - {id: last, tool: echo, with: {done: true}}
",
    )?;
    let host = Host::start(&sandbox)?;
    let id = host.start_workflow("it", &json!({}))?;
    // Before the wait exists or after it: the signal is kept.
    tell(&host, &id, "pause", &json!({ "reason": "a look" }))?;
    tell(&host, &id, "pause", &json!({}))?;
    tell(&host, &id, "signals", &json!({ "signal_name": "go", "signal_id": "s" }))?;
    tell(&host, &id, "signals", &json!({ "signal_name": "go", "signal_id": "s" }))?;
    stands(&host, &id, "PAUSED");
    std::thread::sleep(Duration::from_millis(200));
    let held = stands(&host, &id, "PAUSED");
    let tasks = held["tasks"].as_array().context("tasks")?;
    assert!(tasks.iter().all(|task| task["task"] != "last"), "{held:#}");
    host.kill()?;

    let host = Host::start(&sandbox)?;
    stands(&host, &id, "PAUSED");
    tell(&host, &id, "resume", &json!({}))?;
    assert_eq!(stands(&host, &id, "SUCCESS")["output"], json!({ "done": true }));
    Ok(())
}
