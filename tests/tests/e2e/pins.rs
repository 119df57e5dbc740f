//! A run goes on with what it began with: its definition and the builds of its plugins, whatever becomes of the files.

use std::fs;

use anyhow::{Context, Result};
use compozy_tests::host::{self, Host};
use compozy_tests::project::Sandbox;
use compozy_tests::{eventually, guests};
use serde_json::{Value, json};

const WORKFLOW: &str = "id: bound
version: 0.1.0
tools:
  - { id: version, plugin: echo, action: version }
tasks:
  - { id: first, tool: version }
  - { id: approval, type: wait, wait_for: go }
  - { id: second, tool: version }
outputs:
  first: \"{{ .tasks.first.output }}\"
  second: \"{{ .tasks.second.output }}\"
";
const OLD: &str = "echo-version-one";
const NEW: &str = "echo-version-two";

fn sandbox() -> Result<Sandbox> {
    let sandbox = Sandbox::new()?;
    guests::install(&sandbox, "echo", "")?;
    sandbox.write("project/bound.yaml", WORKFLOW)?;
    Ok(sandbox)
}

/// Puts another build of the plugin in its place: the same code with another answer.
fn replace_plugin(sandbox: &Sandbox) -> Result<()> {
    let path = sandbox.plugins().join("echo/echo.wasm");
    let mut wasm = fs::read(&path)?;
    let found: Vec<usize> = (0..wasm.len()).filter(|at| wasm[*at..].starts_with(OLD.as_bytes())).collect();
    anyhow::ensure!(!found.is_empty(), "the guest has no version to change");
    for at in found {
        wasm[at..at + NEW.len()].copy_from_slice(NEW.as_bytes());
    }
    fs::write(&path, wasm)?;
    Ok(())
}

fn begin(host: &Host) -> Result<String> {
    let id = host.start_workflow("bound", &json!({}))?;
    waits(host, &id);
    Ok(id)
}

fn waits(host: &Host, id: &str) {
    eventually("the run waits", || (host.execution(id).ok()?["status"] == "WAITING").then_some(()));
}

fn go_on(host: &Host, id: &str) -> Result<Value> {
    let answer = host.post(&format!("/api/v0/executions/{id}/signals"), &[], r#"{"signal_name":"go"}"#)?;
    assert_eq!(answer.status, 200, "{answer:?}");
    eventually("the run ends", || {
        let execution = host.execution(id).ok()?;
        (!["RUNNING", "WAITING"].contains(&execution["status"].as_str()?)).then_some(Ok(execution))
    })
}

fn end(host: Host) -> Result<()> {
    host.terminate()?;
    host.wait().map(drop)
}

fn digest_of(execution: &Value) -> Result<String> {
    Ok(execution["plugins"]["echo"].as_str().context("a digest")?.to_owned())
}

fn archived(sandbox: &Sandbox) -> Vec<String> {
    let entries = fs::read_dir(sandbox.data().join("archive/echo")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_run_that_waited_calls_the_build_that_it_began_with_and_a_new_run_the_new_one() -> Result<()> {
    let sandbox = sandbox()?;
    let host = Host::start(&sandbox)?;
    let waiting = begin(&host)?;
    let old = digest_of(&host.execution(&waiting)?)?;
    end(host)?;

    replace_plugin(&sandbox)?;
    let host = Host::start(&sandbox)?;
    let fresh = begin(&host)?;
    let new = digest_of(&host.execution(&fresh)?)?;
    assert_ne!(old, new);
    let ended = go_on(&host, &waiting)?;
    assert_eq!(ended["output"], json!({ "first": OLD, "second": OLD }), "{ended:#}");
    assert_eq!(ended["tasks"][2]["plugin"]["digest"], old);
    let ended = go_on(&host, &fresh)?;
    assert_eq!(ended["output"], json!({ "first": NEW, "second": NEW }), "{ended:#}");
    end(host)?;

    // Nobody needs the old build any more.
    assert_eq!(archived(&sandbox).len(), 2);
    let host = Host::start(&sandbox)?;
    eventually("the archive is cleaned", || (archived(&sandbox) == [new.clone()]).then_some(()));
    end(host)
}

#[test]
fn a_build_that_is_nowhere_to_be_found_is_one_clear_failure_and_a_retry_goes_on_when_it_is_back() -> Result<()> {
    let sandbox = sandbox()?;
    let host = Host::start(&sandbox)?;
    let waiting = begin(&host)?;
    let old = digest_of(&host.execution(&waiting)?)?;
    end(host)?;

    let component = sandbox.plugins().join("echo/echo.wasm");
    let kept = fs::read(&component)?;
    replace_plugin(&sandbox)?;
    fs::remove_dir_all(sandbox.data().join("archive"))?;
    let host = Host::start(&sandbox)?;
    let ended = go_on(&host, &waiting)?;
    assert_eq!((&ended["status"], &ended["failure"]["code"]), (&json!("FAILED"), &json!("PLUGIN_PIN_MISSING")));
    let message = ended["failure"]["message"].as_str().context("a message")?;
    assert!(message.contains("`echo`") && message.contains(&old) && message.contains("retry"), "{message}");
    assert_eq!(ended["tasks"][2]["attempts"], 1, "another attempt would not help: {ended:#}");
    end(host)?;

    fs::write(&component, kept)?;
    let host = Host::start(&sandbox)?;
    let answer = host.post(&format!("/api/v0/executions/{waiting}/retry"), &[], "{}")?;
    assert_eq!(answer.status, 200, "{answer:?}");
    let ended = host.ended(&waiting)?;
    assert_eq!(ended["output"], json!({ "first": OLD, "second": OLD }), "{ended:#}");
    end(host)
}

#[test]
fn an_edited_workflow_file_is_for_new_runs_only() -> Result<()> {
    let sandbox = sandbox()?;
    let host = Host::start(&sandbox)?;
    let waiting = begin(&host)?;
    end(host)?;
    sandbox.write("project/bound.yaml", WORKFLOW.replace("second: \"{{", "later: \"{{"))?;
    let host = Host::start(&sandbox)?;
    let fresh = begin(&host)?;
    let old = go_on(&host, &waiting)?;
    let new = go_on(&host, &fresh)?;
    assert_eq!(old["output"], json!({ "first": OLD, "second": OLD }));
    assert_eq!(new["output"], json!({ "first": OLD, "later": OLD }));
    assert_ne!(old["definition"], new["definition"]);
    end(host)
}

#[test]
fn an_export_is_verified_anywhere() -> Result<()> {
    let sandbox = sandbox()?;
    let host = Host::start(&sandbox)?;
    let id = begin(&host)?;
    go_on(&host, &id)?;
    let data = sandbox.data();
    let data = data.to_str().context("UTF-8")?;
    let exported =
        host::run(sandbox.root(), &["executions", "export", &id, "--data-dir", data, "--output", "run.json"])?;
    assert_eq!(exported.code, Some(0), "{exported:?}");
    let again = host::run(sandbox.root(), &["executions", "export", &id, "--data-dir", data, "--output", "run.json"])?;
    assert_eq!(again.code, Some(3), "an export overwrites nothing: {again:?}");
    end(host)?;
    fs::remove_dir_all(sandbox.data())?;

    let verify = |file: &str| host::run(sandbox.root(), &["executions", "verify", "--file", file]);
    let sound = verify("run.json")?;
    assert_eq!((sound.code, sound.stdout.as_str()), (Some(0), "verify: executions=1 different=0\n"), "{sound:?}");
    let mut document: Value = serde_json::from_slice(&fs::read(sandbox.root().join("run.json"))?)?;
    assert_eq!(document["pins"]["echo"].as_str().map(str::len), Some(64), "{document:#}");
    let events = document["events"].as_array_mut().context("events")?;
    let last = events.len() - 1;
    events[last]["event"]["output"] = json!("forged");
    sandbox.write("forged.json", document.to_string())?;
    let forged = verify("forged.json")?;
    assert_eq!(forged.code, Some(1), "{forged:?}");
    let line = forged.stdout.lines().next().unwrap_or_default();
    let seq = last + 1;
    let expected =
        format!("{id}: event {seq} (task_completed): task second: output: recorded is \"{OLD}\", computed \"forged\"");
    assert_eq!(line, expected);
    Ok(())
}
