//! What survives: SIGKILL, SIGTERM, a full disk, a second host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};
use compozy_tests::host::{self, Host, command};
use compozy_tests::project::Sandbox;
use compozy_tests::{eventually, guests};
use serde_json::{Value, json};

fn sandbox() -> Result<Sandbox> {
    let sandbox = Sandbox::with_workflows(&["hello", "steps"])?;
    guests::install(&sandbox, "echo", "")?;
    Ok(sandbox)
}

/// The journal as the command line shows it, without a host.
fn journal(sandbox: &Sandbox, id: &str) -> Result<Vec<Value>> {
    let data = sandbox.data();
    let data = data.to_str().context("UTF-8")?;
    let shown = host::run(sandbox.root(), &["executions", "journal", id, "--data-dir", data, "--json"])?;
    assert_eq!(shown.code, Some(0), "{shown:?}");
    shown.stdout.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn completed(journal: &[Value]) -> Vec<&str> {
    let completed = journal.iter().filter(|record| record["event"]["kind"] == "task_completed");
    completed.filter_map(|record| record["event"]["task"].as_str()).collect()
}

#[test]
fn a_host_killed_between_two_tasks_goes_on_where_it_was() -> Result<()> {
    let sandbox = sandbox()?;
    let host = Host::start(&sandbox)?;
    let id = host.start_workflow("steps", &json!({ "ms": 400 }))?;
    eventually("the second task has ended", || {
        let execution = host.execution(&id).ok()?;
        (execution["tasks"][1]["status"] == "SUCCESS").then_some(())
    });
    host.kill()?;

    let before = journal(&sandbox, &id)?;
    let done_before = completed(&before);
    assert!(done_before.starts_with(&["one", "two"]) && done_before.len() < 5, "killed in mid-run: {done_before:?}");

    let host = Host::start(&sandbox)?;
    let ended = host.ended(&id)?;
    assert_eq!(ended["status"], "SUCCESS", "{ended:#}");
    // A task that had been recorded was not run again: each counter was stepped by one task, once.
    assert_eq!(ended["output"], json!({ "first": 1, "last": 1 }));
    host.terminate()?;
    host.wait()?;

    let after = journal(&sandbox, &id)?;
    assert_eq!(after[..before.len()], before[..], "what was recorded stays as it was");
    assert_eq!(completed(&after), ["one", "two", "three", "four", "five"], "each task is recorded once");
    let numbers: Vec<_> = after.iter().filter_map(|record| record["seq"].as_u64()).collect();
    assert_eq!(numbers, (1..=after.len() as u64).collect::<Vec<_>>(), "without gaps");
    Ok(())
}

#[test]
fn nothing_that_was_acknowledged_is_lost_in_a_crash() -> Result<()> {
    let sandbox = sandbox()?;
    let mut acknowledged = Vec::new();
    for _ in 0..3 {
        let host = Host::start(&sandbox)?;
        for n in 0..5 {
            acknowledged.push(host.start_workflow("hello", &json!({ "name": n.to_string() }))?);
        }
        host.kill()?;
    }
    let host = Host::start(&sandbox)?;
    for id in &acknowledged {
        assert_eq!(host.ended(id)?["status"], "SUCCESS");
    }
    Ok(())
}

#[test]
fn sigterm_lets_running_tasks_end_and_leaves_nothing_behind() -> Result<()> {
    let sandbox = sandbox()?;
    let host = Host::start(&sandbox)?;
    let id = host.start_workflow("steps", &json!({ "ms": 600 }))?;
    eventually("the second task runs", || {
        let execution = host.execution(&id).ok()?;
        (execution["tasks"][1]["status"] == "RUNNING").then_some(())
    });
    host.terminate()?;
    let (code, _) = host.wait()?;
    assert_eq!(code, Some(0));
    let names: Vec<_> = walk(&sandbox.data())?;
    assert!(!names.iter().any(|name| name.ends_with("-wal") || name.ends_with("-shm")), "{names:?}");

    let recorded = journal(&sandbox, &id)?;
    assert!(completed(&recorded).contains(&"two"), "the task that ran was let to its end: {recorded:?}");
    let host = Host::start(&sandbox)?;
    assert_eq!(host.ended(&id)?["status"], "SUCCESS", "and the run goes on at the next start");
    Ok(())
}

#[test]
fn a_second_signal_ends_a_host_that_drains() -> Result<()> {
    let sandbox = sandbox()?;
    let host = Host::start_with(&sandbox, &["--drain", "10m"])?;
    let id = host.start_workflow("steps", &json!({ "ms": 100_000 }))?;
    eventually("the second task runs", || {
        let execution = host.execution(&id).ok()?;
        (execution["tasks"][1]["status"] == "RUNNING").then_some(())
    });
    host.terminate()?;
    eventually("the drain begins", || host.log().contains("SIGTERM").then_some(()));
    host.terminate()?;
    let (code, _) = host.wait()?;
    assert_eq!(code, Some(130));
    Ok(())
}

fn walk(folder: &std::path::Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.extend(walk(&entry.path())?);
        } else {
            names.push(entry.path().display().to_string());
        }
    }
    Ok(names)
}

#[test]
fn a_second_host_on_the_same_data_folder_is_refused_in_one_sentence() -> Result<()> {
    let sandbox = sandbox()?;
    let host = Host::start(&sandbox)?;
    let data = sandbox.data();
    let data = data.to_str().context("UTF-8")?;
    for args in [
        vec!["--data-dir", data, "--listen", "127.0.0.1:0"],
        vec!["run", "project/hello.yaml", "--data-dir", data, "--plugins", "plugins", "--input", r#"{"name":"x"}"#],
    ] {
        let second = host::run(sandbox.root(), &args)?;
        assert_eq!(second.code, Some(4), "{second:?}");
        // Beside what the log says of the steps of the start.
        let sentences: Vec<&str> = second.stderr.lines().filter(|line| !line.contains(" INFO ")).collect();
        assert_eq!(sentences.len(), 1, "{second:?}");
        assert!(second.stderr.contains("is in use by another host (process "), "{second:?}");
    }
    assert_eq!(host.run("hello", &json!({ "name": "Ada" }))?["status"], "SUCCESS", "the first goes on");
    Ok(())
}

#[test]
fn a_full_disk_acknowledges_nothing_and_passes() -> Result<()> {
    let sandbox = sandbox()?;
    let host = Host::start(&sandbox)?;
    let first = host.run("hello", &json!({ "name": "before" }))?;
    host.limit_file_size(Some(4096))?;
    let refused = host.try_start("hello", &json!({ "name": "during" }))?;
    assert_eq!((refused.status, refused.code()), (503, "STORAGE_UNAVAILABLE"), "{refused:?}\n{}", host.log());
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    let health = host.get("/api/v0/health")?.body;
    assert_eq!(health["status"], "degraded", "{health:#}");
    assert_eq!(host.get("/readyz")?.status, 503);
    let id = first["exec_id"].as_str().context("an id")?;
    assert_eq!(host.execution(id)?["status"], "SUCCESS", "what is there can still be read");

    host.limit_file_size(None)?;
    let after = host.run("hello", &json!({ "name": "after" }))?;
    assert_eq!(after["output"]["greeting"], "Hello after!");
    let list = host.get("/api/v0/executions")?.body;
    let listed = list["executions"].as_array().map(Vec::len);
    assert_eq!(listed, Some(2), "the start that was refused left no execution: {list:#}");
    Ok(())
}

#[test]
fn a_data_folder_that_cannot_be_written_is_refused_at_the_start() -> Result<()> {
    let sandbox = sandbox()?;
    let data = sandbox.data();
    fs::create_dir(&data)?;
    fs::set_permissions(&data, fs::Permissions::from_mode(0o555))?;
    let mut command =
        command(sandbox.root(), &["--data-dir", data.to_str().context("UTF-8")?, "--listen", "127.0.0.1:0"]);
    if rustix::process::geteuid().is_root() {
        // Permissions do not bind root, so the host runs as nobody, from a place that nobody can read.
        let copy = sandbox.root().join("compozy-host");
        fs::copy(host::binary(), &copy)?;
        fs::set_permissions(sandbox.root(), fs::Permissions::from_mode(0o755))?;
        let mut unprivileged = std::process::Command::new(copy);
        unprivileged.args(command.get_args()).current_dir(sandbox.root()).env_clear().uid(65_534).gid(65_534);
        command = unprivileged;
    }
    let refused = host::finish(command)?;
    assert_eq!(refused.code, Some(5), "{refused:?}");
    assert!(refused.stderr.contains("data") && refused.stderr.contains("ermission denied"), "{refused:?}");
    Ok(())
}
