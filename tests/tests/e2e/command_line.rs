//! A person at the command line: `run`, `validate`, `executions`, exit codes.

use anyhow::{Context, Result};
use compozy_tests::guests;
use compozy_tests::host::{self, Outcome, run};
use compozy_tests::project::Sandbox;
use serde_json::{Value, json};

fn sandbox() -> Result<Sandbox> {
    let sandbox = Sandbox::with_workflows(&["hello", "steps", "flaky", "failing"])?;
    guests::install(&sandbox, "echo", "")?;
    Ok(sandbox)
}

/// `compozy-host <args> --plugins plugins --data-dir data` in the sandbox.
fn host_run(sandbox: &Sandbox, args: &[&str]) -> Result<Outcome> {
    let mut all = args.to_vec();
    all.extend(["--plugins", "plugins", "--data-dir", "data"]);
    run(sandbox.root(), &all)
}

#[test]
fn run_prints_a_result_for_a_person_and_progress_beside_it() -> Result<()> {
    let sandbox = sandbox()?;
    let outcome = host_run(&sandbox, &["run", "project/hello.yaml", "--input", r#"{"name":"Ada"}"#])?;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(outcome.stdout, "greeting: Hello Ada!\n");
    let lines: Vec<_> = outcome.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "one line per task and one for the run: {outcome:?}");
    for part in ["ok", "greet", "basic", "echo@", "fuel"] {
        assert!(lines[0].contains(part), "{part}: {outcome:?}");
    }
    assert!(lines[1].starts_with("SUCCESS  hello  1 tasks in "), "{outcome:?}");
    assert!(!outcome.stderr.contains('\u{1b}'), "no colours outside of a terminal: {outcome:?}");
    let quiet = host_run(&sandbox, &["run", "project/hello.yaml", "--input", r#"{"name":"Ada"}"#, "--quiet"])?;
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("greeting: Hello Ada!\n", ""));
    Ok(())
}

#[test]
fn run_prints_one_document_for_machines() -> Result<()> {
    let sandbox = sandbox()?;
    sandbox.write("input.json", r#"{"name":"Grace"}"#)?;
    let args = ["run", "project", "--workflow", "hello", "--input", "@input.json", "--json"];
    let document = host_run(&sandbox, &args)?.json()?;
    assert_eq!((&document["status"], &document["workflow_id"]), (&json!("SUCCESS"), &json!("hello")), "{document:#}");
    assert_eq!(document["output"], json!({ "greeting": "Hello Grace!" }));
    assert_eq!(document["failure"], Value::Null);
    assert!(document["wall_ms"].is_u64() && document["exec_id"].is_string(), "{document:#}");
    let task = &document["tasks"][0];
    assert_eq!((&task["plugin"]["name"], &task["type"]), (&json!("echo"), &json!("basic")), "{document:#}");
    Ok(())
}

#[test]
fn a_failed_run_says_why_and_exits_with_1() -> Result<()> {
    let sandbox = sandbox()?;
    let outcome = host_run(&sandbox, &["run", "project/failing.yaml"])?;
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{outcome:?}");
    for part in ["fail", "refuse", "FAILED", "NOT_TODAY", "this task always refuses"] {
        assert!(outcome.stderr.contains(part), "{part}: {outcome:?}");
    }
    let outcome = host_run(&sandbox, &["run", "project/failing.yaml", "--json"])?;
    assert_eq!(outcome.code, Some(1));
    assert_eq!(outcome.json()?["failure"]["code"], "NOT_TODAY");
    Ok(())
}

#[test]
fn retries_are_told_while_they_happen() -> Result<()> {
    let sandbox = sandbox()?;
    let outcome = host_run(&sandbox, &["run", "project/flaky.yaml"])?;
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), "3\n"), "{outcome:?}");
    assert!(outcome.stderr.contains("attempt 1 failed with NOT_YET"), "{outcome:?}");
    assert!(outcome.stderr.contains("3 attempts"), "{outcome:?}");
    Ok(())
}

/// What a person gets wrong: the arguments, the exit code, and a part of the one sentence.
#[test]
fn mistakes_end_with_their_exit_code_and_one_sentence() -> Result<()> {
    let sandbox = sandbox()?;
    sandbox.write("broken.yaml", "id: broken\ntasks: [}\n")?;
    let cases: [(&[&str], i32, &str); 9] = [
        (&["run", "nowhere.yaml"], 3, "nowhere.yaml"),
        (&["run", "project"], 2, "--workflow"),
        (&["run", "project", "--workflow", "helo"], 2, "`hello`"),
        (&["run", "project/hello.yaml", "--input", "{name}"], 2, "not JSON"),
        (&["run", "project/hello.yaml", "--input", "@nowhere.json"], 2, "nowhere.json"),
        (&["run", "project/hello.yaml", "--input", "{}"], 1, "name"),
        (&["run", "broken.yaml"], 3, "broken.yaml:2"),
        (&["run", "project/hello.yaml", "--timeout", "soon"], 2, "90s"),
        (&["--log", "a=b=c", "run", "project/hello.yaml"], 2, "--log"),
    ];
    for (args, code, part) in cases {
        let outcome = host_run(&sandbox, args)?;
        assert_eq!(outcome.code, Some(code), "{args:?}: {outcome:?}");
        assert!(outcome.stderr.contains(part), "{args:?}: {outcome:?}");
        assert_eq!(outcome.stdout, "", "{args:?}");
        assert!(!outcome.stderr.contains("panicked"), "{args:?}: {outcome:?}");
    }
    Ok(())
}

#[test]
fn a_run_that_takes_too_long_goes_on_later() -> Result<()> {
    let sandbox = sandbox()?;
    let outcome =
        host_run(&sandbox, &["run", "project/steps.yaml", "--input", r#"{"ms":1500}"#, "--timeout", "300ms"])?;
    assert_eq!(outcome.code, Some(6), "{outcome:?}");
    assert!(outcome.stderr.contains("300 ms"), "{outcome:?}");
    let list = run(sandbox.root(), &["executions", "list", "--data-dir", "data", "--json"])?.json()?;
    assert_eq!(list["executions"][0]["status"], "RUNNING", "{list:#}");
    Ok(())
}

#[test]
fn validate_prints_every_problem_with_its_place() -> Result<()> {
    let sandbox = sandbox()?;
    let outcome = host_run(&sandbox, &["validate", "project"])?;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let workflow = "id: w\nversion: 0.1.0\ntools:\n  - { id: t, plugin: ehco, action: echo }\ntasks:\n  - id: a\n    tool: t\n    on_success: { next: c }\n  - id: a\n    tool: t\n  - id: b\n    type: parallel\n";
    sandbox.write("bad.yaml", workflow)?;
    let outcome = host_run(&sandbox, &["validate", "bad.yaml"])?;
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    for part in
        ["bad.yaml:7:", "`ehco`", "`echo`", "bad.yaml:8:", "`c`", "bad.yaml:9:", "bad.yaml:11:", "has no `tasks`"]
    {
        assert!(outcome.stdout.contains(part), "{part}: {outcome:?}");
    }
    let machine = host_run(&sandbox, &["validate", "bad.yaml", "--json"])?;
    assert_eq!(machine.code, Some(1));
    let document = machine.json()?;
    assert_eq!(document["valid"], false, "{document:#}");
    assert!(document["diagnostics"].as_array().is_some_and(|list| list.len() >= 4), "{document:#}");
    Ok(())
}

#[test]
fn executions_are_shown_without_a_host() -> Result<()> {
    let sandbox = sandbox()?;
    let ran = host_run(&sandbox, &["run", "project/hello.yaml", "--input", r#"{"name":"Ada"}"#, "--json"])?.json()?;
    let id = ran["exec_id"].as_str().context("an id")?;
    let offline = |args: &[&str]| run(sandbox.root(), &[&["executions"], args, &["--data-dir", "data"]].concat());
    let shown = offline(&["show", id, "--json"])?.json()?;
    assert_eq!((&shown["status"], &shown["output"]), (&ran["status"], &ran["output"]));
    let text = offline(&["show", id])?.stdout;
    assert!(text.contains(id) && text.contains("greet") && text.contains("Hello Ada!"), "{text}");
    let journal = offline(&["journal", id])?.stdout;
    assert!(journal.contains("started") && journal.contains("task_completed"), "{journal}");
    assert!(offline(&["list"])?.stdout.contains(id));
    let unknown = offline(&["show", "nothing"])?;
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    assert!(unknown.stderr.contains("`nothing`"), "{unknown:?}");
    let nowhere = run(sandbox.root(), &["executions", "list", "--data-dir", "nowhere"])?;
    assert_ne!(nowhere.code, Some(0), "{nowhere:?}");
    assert!(!sandbox.root().join("nowhere").exists(), "looking makes no data folder");
    Ok(())
}

#[test]
fn help_and_version_name_what_there_is() -> Result<()> {
    let sandbox = Sandbox::new()?;
    let help = run(sandbox.root(), &["--help"])?;
    assert_eq!(help.code, Some(0));
    for part in ["serve", "run", "validate", "executions", "--plugins", "127.0.0.1:5001", "Exit codes:", "another host"]
    {
        assert!(help.stdout.contains(part), "{part}: {}", help.stdout);
    }
    let version = run(sandbox.root(), &["--version"])?;
    assert_eq!(version.stdout, format!("compozy-host {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(run(sandbox.root(), &["sevre"])?.code, Some(2));
    assert_eq!(host::run(sandbox.root(), &["--listen", "127.0.0.1:0", "validate", "."])?.code, Some(2));
    Ok(())
}
