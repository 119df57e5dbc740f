//! `cargo xtask demo`: from nothing to a workflow that has run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::guests::{self, Which};
use crate::workspace::Workspace;
use crate::{build, process, progress, setup};

/// What is run, and with which input.
const WORKFLOW: &str = "examples/weather";
const INPUT: &str = r#"{"city":"Lisbon"}"#;

/// Sets up, builds, runs; says in the last line how it went.
pub(crate) fn run(workspace: &Workspace) -> ExitCode {
    match prepare(workspace).and_then(|host| execute(workspace, &host)) {
        Ok(end) => {
            println!("{}", end.line());
            if end.succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            println!("demo: FAILED {}", format!("{error:#}").replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

fn prepare(workspace: &Workspace) -> Result<PathBuf> {
    let toolchain = setup::guest_toolchain(workspace)?;
    guests::build(workspace, &toolchain, Which::Plugins)?;
    build::host(workspace, false)
}

/// How a run ended.
#[derive(Debug)]
struct End {
    succeeded: bool,
    exec: String,
    status: String,
    tasks: usize,
    wall_ms: u64,
    output: Value,
    failure: Option<String>,
}

impl End {
    /// Reads what `compozy-host run --json` prints. Success needs its exit code to say so too.
    fn read(json: &str, exit_ok: bool) -> Result<Self> {
        let run: Value = serde_json::from_str(json).context("the host printed no JSON")?;
        let text =
            |key: &str| run[key].as_str().map(str::to_owned).with_context(|| format!("the host's JSON has no `{key}`"));
        let tasks = run["tasks"].as_array().context("the host's JSON has no `tasks`")?;
        let status = text("status")?;
        let failure = run["failure"]["message"].as_str().map(str::to_owned);
        Ok(Self {
            succeeded: exit_ok && status == "SUCCESS",
            exec: text("exec_id")?,
            status,
            tasks: tasks.iter().filter(|task| task["status"] == "SUCCESS").count(),
            wall_ms: run["wall_ms"].as_u64().context("the host's JSON has no `wall_ms`")?,
            output: run["output"].clone(),
            failure,
        })
    }

    /// The last line of the demo.
    fn line(&self) -> String {
        let Self { exec, tasks, wall_ms, status, .. } = self;
        if self.succeeded {
            return format!("demo: SUCCESS exec={exec} tasks={tasks} wall_ms={wall_ms}");
        }
        let why = self.failure.as_deref().map(|why| format!(" {}", why.replace('\n', " "))).unwrap_or_default();
        format!("demo: FAILED exec={exec} status={status} tasks={tasks} wall_ms={wall_ms}{why}")
    }
}

fn execute(workspace: &Workspace, host: &Path) -> Result<End> {
    let data = fresh_folder(&workspace.target.join("demo"))?;
    let mut command = process::program(host, &workspace.root);
    command.args(["run", WORKFLOW, "--input", INPUT, "--json", "--data-dir"]).arg(&data);
    progress::step(&format!("compozy-host run {WORKFLOW} --input '{INPUT}'"));
    // Progress, a line for each task as it ends, goes straight to the terminal.
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cannot start the host")?;
    let json = String::from_utf8(output.stdout).context("the host did not print UTF-8")?;
    if json.trim().is_empty() {
        bail!("the host ended ({}) without a result", output.status);
    }
    let end = End::read(&json, output.status.success())?;
    if end.succeeded {
        println!("\n{}", text(&end.output).trim_end());
        println!();
    }
    Ok(end)
}

/// A folder for the data of this run. Those of earlier runs are removed, unless they are still in use.
fn fresh_folder(parent: &Path) -> Result<PathBuf> {
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    for entry in fs::read_dir(parent)?.flatten() {
        let running = Path::new("/proc").join(entry.file_name()).exists();
        if !running {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let folder = parent.join(std::process::id().to_string());
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// A result for a person: names and values, indented, without quotes and braces.
fn text(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value, 0);
    out
}

fn write(out: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    let nested = |value: &Value| {
        value.as_object().is_some_and(|map| !map.is_empty()) || value.as_array().is_some_and(|items| !items.is_empty())
    };
    let entry = |out: &mut String, lead: &str, value: &Value| {
        if nested(value) {
            out.extend([&indent, lead, "\n"]);
            write(out, value, depth + 1);
        } else {
            out.extend([&indent, lead, " ", &plain(value), "\n"]);
        }
    };
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(key, value)| entry(out, &format!("{key}:"), value));
        }
        Value::Array(items) if !items.is_empty() => items.iter().for_each(|item| entry(out, "-", item)),
        other => out.extend([&indent, &plain(other), "\n"]),
    }
}

/// A value on one line; characters that steer a terminal are shown, not sent.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => {
            text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
        }
        Value::Array(_) | Value::Object(_) => "(none)".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASKS: &str =
        r#"[{"task":"a","status":"SUCCESS"},{"task":"b","status":"FAILED"},{"task":"c","status":"SUCCESS"}]"#;

    fn end(status: &str, exit_ok: bool, more: &str) -> End {
        let json = format!(
            r#"{{"exec_id":"e1","workflow_id":"w","status":"{status}","output":{{}},"tasks":{TASKS},"wall_ms":42{more}}}"#
        );
        End::read(&json, exit_ok).expect("reads")
    }

    #[test]
    fn the_last_line_counts_the_tasks_that_ended_well() {
        assert_eq!(end("SUCCESS", true, "").line(), "demo: SUCCESS exec=e1 tasks=2 wall_ms=42");
    }

    #[test]
    fn success_needs_the_status_and_the_exit_code() {
        assert_eq!(end("SUCCESS", false, "").line(), "demo: FAILED exec=e1 status=SUCCESS tasks=2 wall_ms=42");
        let failed = end("FAILED", true, r#","failure":{"code":"X","message":"it\nbroke"}"#);
        assert!(!failed.succeeded);
        assert_eq!(failed.line(), "demo: FAILED exec=e1 status=FAILED tasks=2 wall_ms=42 it broke");
    }

    #[test]
    fn what_is_no_result_is_said() {
        for (json, missing) in [("", "no JSON"), ("{}", "tasks"), (r#"{"tasks":[],"status":"SUCCESS"}"#, "exec_id")] {
            let error = format!("{:#}", End::read(json, true).expect_err(json));
            assert!(error.contains(missing), "{error}");
        }
    }

    #[test]
    fn a_result_reads_like_text() {
        let value = serde_json::json!({"city": "Lisbon", "days": [{"rain": false}, 2], "note": "a\u{1b}b", "none": [], "gone": null});
        assert_eq!(
            text(&value),
            "city: Lisbon\ndays:\n  -\n    rain: false\n  - 2\nnote: a\\u{1b}b\nnone: (none)\ngone: -\n"
        );
        assert_eq!(text(&serde_json::json!("x")), "x\n");
    }
}
