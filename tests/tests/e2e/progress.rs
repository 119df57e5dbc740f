//! Signs of life, requests to end, and what one sees of a run while it goes on.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use compozy_tests::host::{Host, command, finish};
use compozy_tests::project::Sandbox;
use compozy_tests::{PATIENCE, eventually, guests};
use serde_json::{Value, json};

/// A workflow of one task that shows signs of life, or does not.
fn beating(id: &str, tool: &str, with: &str, policy: &str) -> String {
    format!(
        "id: {id}\nversion: 0.1.0\nconfig:\n  retry_policy: {{ maximum_attempts: 1 }}\n{policy}\
         tools:\n  - {{ id: t, plugin: {tool} }}\ntasks:\n  - id: work\n    tool: t\n    with: {with}\n"
    )
}

fn sandbox() -> Result<Sandbox> {
    let sandbox = Sandbox::new()?;
    let limits = "[limits]\nwall_ms = 600_000\ncall_timeout_ms = 600_000\nfuel = 1_000_000_000_000\n";
    guests::install(&sandbox, "echo", limits)?;
    guests::install(&sandbox, "hostile", limits)?;
    let heartbeat = "  heartbeat_timeout: 500ms\n";
    for (id, tool, with, policy) in [
        ("beats", "echo, action: beat", "{ ms: 2000, every_ms: 100 }", heartbeat),
        ("silent", "echo, action: sleep", "{ ms: 600000 }", heartbeat),
        ("loops", "hostile, action: infinite_loop", "{}", heartbeat),
        ("polite", "echo, action: beat", "{ ms: 600000, every_ms: 50 }", ""),
        ("stubborn", "echo, action: beat", "{ ms: 600000, every_ms: 50, stubborn: true }", ""),
        ("endless", "hostile, action: infinite_loop", "{}", "  start_to_close_timeout: 500ms\n"),
    ] {
        sandbox.write(&format!("project/{id}.yaml"), beating(id, tool, with, policy))?;
    }
    sandbox.write("project/steps.yaml", STEPS)?;
    Ok(sandbox)
}

const STEPS: &str = "id: steps
version: 0.1.0
config:
  retry_policy: { initial_interval: 300ms, maximum_attempts: 3 }
tools:
  - { id: flaky, plugin: echo, action: flaky }
  - { id: echo, plugin: echo, action: echo }
tasks:
  - { id: gate, type: wait, wait_for: go }
  - id: both
    type: parallel
    tasks:
      - { id: one, tool: flaky, with: { succeed_on: 2 } }
      - { id: two, tool: echo }
";

fn ended(host: &Host, id: &str) -> Result<Value> {
    eventually("the run ends", || {
        let execution = host.execution(id).ok()?;
        (!["RUNNING", "WAITING"].contains(&execution["status"].as_str()?)).then_some(Ok(execution))
    })
}

/// Milliseconds of processor time that the host has taken so far.
fn busy_ms(host: &Host) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", host.process_id()))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("a name")?.1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    // Linux counts in hundredths of a second.
    Ok(ticks * 10)
}

#[test]
fn a_heartbeat_timeout_ends_only_tasks_that_stay_silent() -> Result<()> {
    let sandbox = sandbox()?;
    let host = Host::start(&sandbox)?;
    let ids: Vec<String> = ["beats", "silent", "loops"]
        .into_iter()
        .map(|id| host.start_workflow(id, &json!({})))
        .collect::<Result<_>>()?;
    let beats = ended(&host, &ids[0])?;
    assert_eq!(beats["status"], "SUCCESS", "four times as long as the timeout, but never silent: {beats:#}");
    assert!(beats["output"].as_u64().is_some_and(|beats| beats >= 5), "{beats:#}");
    for id in &ids[1..] {
        let ended = ended(&host, id)?;
        let task = &ended["tasks"][0];
        assert_eq!(
            (&task["status"], &task["failure"]["timeout"]),
            (&json!("TIMED_OUT"), &json!("heartbeat")),
            "{ended:#}"
        );
    }
    Ok(())
}

#[test]
fn a_guest_that_loops_is_really_gone_after_its_timeout() -> Result<()> {
    let sandbox = sandbox()?;
    let host = Host::start(&sandbox)?;
    let id = host.start_workflow("endless", &json!({}))?;
    let ended = ended(&host, &id)?;
    assert_eq!(ended["tasks"][0]["failure"]["timeout"], "start_to_close", "{ended:#}");
    // A loop that went on would take all of a processor.
    let before = busy_ms(&host)?;
    std::thread::sleep(Duration::from_secs(2));
    let busy = busy_ms(&host)? - before;
    assert!(busy < 1_000, "the host was busy for {busy} ms of two seconds");
    assert_eq!(host.get("/api/v0/health")?.body["engine"]["running_tasks"], 0);
    Ok(())
}

#[test]
fn a_task_that_is_asked_to_end_has_its_grace_and_no_longer() -> Result<()> {
    let sandbox = sandbox()?;
    let host = Host::start(&sandbox)?;
    for (workflow, grace_ms, at_least, at_most) in [("polite", 60_000, 0, 30_000), ("stubborn", 1_000, 1_000, 30_000)] {
        let id = host.start_workflow(workflow, &json!({}))?;
        eventually("the task runs", || (host.execution(&id).ok()?["tasks"][0]["attempts"] == 1).then_some(()));
        let begun = Instant::now();
        let body = json!({ "grace_ms": grace_ms }).to_string();
        let answer = host.post(&format!("/api/v0/executions/{id}/cancel"), &[], &body)?;
        assert_eq!(answer.status, 200, "{answer:?}");
        let ended = ended(&host, &id)?;
        assert_eq!(ended["status"], "CANCELED", "{ended:#}");
        let took = begun.elapsed().as_millis();
        assert!((at_least..at_most).contains(&took), "{workflow} took {took} ms");
        if workflow == "polite" {
            let failure = &ended["tasks"][0]["failure"]["code"];
            assert_eq!(failure, "TASK_CANCELED", "it ended by itself: {ended:#}");
        }
    }
    assert!(host.log().contains("asked to end"), "{}", host.log());
    eventually("nothing runs", || {
        (host.get("/api/v0/health").ok()?.body["engine"]["running_tasks"] == 0).then_some(())
    });
    Ok(())
}

/// Reads server-sent events as a client without any library would.
pub(crate) struct Stream(BufReader<TcpStream>);

impl Stream {
    pub(crate) fn open(host: &Host, id: &str, after: Option<u64>) -> Result<Self> {
        let mut stream = TcpStream::connect(host.address())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let last = after.map_or_else(String::new, |after| format!("Last-Event-ID: {after}\r\n"));
        write!(stream, "GET /api/v0/executions/{id}/events HTTP/1.0\r\nHost: h\r\n{last}\r\n")?;
        let mut stream = Self(BufReader::new(stream));
        let head = stream.block()?.context("a head")?;
        assert!(head.starts_with("HTTP/1.0 200") && head.contains("text/event-stream"), "{head}");
        Ok(stream)
    }

    /// Up to an empty line.
    pub(crate) fn block(&mut self) -> Result<Option<String>> {
        let mut block = String::new();
        loop {
            let at = block.len();
            if self.0.read_line(&mut block)? == 0 {
                return Ok(None);
            }
            if block[at..].trim_end().is_empty() {
                return Ok(Some(block));
            }
        }
    }

    /// Until the execution has ended.
    pub(crate) fn rest(mut self) -> Result<Vec<String>> {
        let mut blocks = Vec::new();
        while let Some(block) = self.block()? {
            blocks.push(block);
        }
        Ok(blocks)
    }
}

fn go(host: &Host, id: &str) -> Result<()> {
    let answer = host.post(&format!("/api/v0/executions/{id}/signals"), &[], r#"{"signal_name":"go"}"#)?;
    assert_eq!(answer.status, 200, "{answer:?}");
    Ok(())
}

#[test]
fn a_stream_tells_every_event_and_goes_on_after_a_restart() -> Result<()> {
    let sandbox = sandbox()?;
    let host = Host::start(&sandbox)?;
    let id = host.start_workflow("steps", &json!({}))?;
    let mut stream = Stream::open(&host, &id, None)?;
    let first = stream.block()?.context("an event")?;
    assert!(first.starts_with("id: 1\nevent: record\ndata: {\"seq\":1,"), "{first}");
    let begun = Instant::now();
    host.terminate()?;
    assert!(stream.rest()?.iter().all(|block| !block.contains("event: end")), "the run has not ended");
    host.wait()?;
    assert!(begun.elapsed() < Duration::from_mins(1), "a reader does not hold up the stop");

    let host = Host::start(&sandbox)?;
    let stream = Stream::open(&host, &id, Some(1))?;
    go(&host, &id)?;
    let blocks = stream.rest()?;
    let journal = host.get(&format!("/api/v0/executions/{id}/journal"))?.body;
    let records = journal["records"].as_array().context("records")?;
    let told: Vec<&String> = blocks.iter().filter(|block| block.contains("event: record")).collect();
    assert_eq!(told.len(), records.len() - 1, "{blocks:?}");
    for (block, record) in told.iter().zip(&records[1..]) {
        assert!(block.starts_with(&format!("id: {}\n", record["seq"])), "{block}");
    }
    assert!(
        blocks.iter().any(|block| block.contains("\"state\":\"failed\"") && block.contains("NOT_YET")),
        "{blocks:?}"
    );
    assert_eq!(blocks.last().map(String::as_str), Some("event: end\ndata: {\"status\":\"SUCCESS\"}\n\n"));
    Ok(())
}

#[test]
fn watching_prints_each_change_and_ends_as_the_run_does() -> Result<()> {
    let sandbox = sandbox()?;
    let host = Host::start(&sandbox)?;
    let id = host.start_workflow("steps", &json!({}))?;
    let args = ["executions", "watch", &id, "--address", host.address()];
    let mut watch = command(sandbox.root(), &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(watch.stdout.take().context("piped")?);
    let mut text = String::new();
    while !text.contains("WAITING    execution of steps") {
        anyhow::ensure!(lines.read_line(&mut text)? > 0, "it ended too soon: {text}");
    }
    go(&host, &id)?;
    lines.read_to_string(&mut text)?;
    assert_eq!(watch.wait()?.code(), Some(0), "{text}");
    assert!(!text.contains('\u{1b}'), "no escape codes where there is no terminal: {text:?}");
    for expected in ["SUCCESS    both/one", "attempt 2", "SUCCESS    both/two", "SUCCESS    execution of steps"] {
        assert!(text.contains(expected), "`{expected}` is missing in\n{text}");
    }

    // A run that fails ends the watching with 1, one that is not there as well, and one who gives up with 130.
    let failing = host.start_workflow("silent", &json!({}))?;
    let watched = finish(command(sandbox.root(), &["executions", "watch", &failing, "--address", host.address()]))?;
    assert_eq!(watched.code, Some(1), "{watched:?}");
    let unknown = finish(command(sandbox.root(), &["executions", "watch", "nobody", "--address", host.address()]))?;
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    assert!(unknown.stderr.contains("EXECUTION_NOT_FOUND"), "{unknown:?}");
    Ok(())
}

#[test]
fn on_a_terminal_the_tree_is_drawn_in_place_and_ctrl_c_leaves_the_terminal_clean() -> Result<()> {
    let sandbox = sandbox()?;
    let host = Host::start(&sandbox)?;
    let id = host.start_workflow("steps", &json!({}))?;
    for colour in [true, false] {
        let binary = compozy_tests::host::binary();
        let watch = format!("{} executions watch {id} --address {}", binary.display(), host.address());
        // `script` gives the command a terminal of its own.
        let mut terminal = Command::new("script");
        terminal.args(["-qec", &watch, "/dev/null"]).env_clear().env("SHELL", "/bin/sh").current_dir(sandbox.root());
        if !colour {
            terminal.env("NO_COLOR", "1");
        }
        let mut terminal = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("util-linux")?;
        let mut keys = terminal.stdin.take().context("piped")?;
        let mut screen = terminal.stdout.take().context("piped")?;
        let mut seen = Vec::new();
        // The tree was drawn once, and then again in the same place.
        while !String::from_utf8_lossy(&seen).contains("A\r\u{1b}[J") {
            let mut part = [0; 4096];
            let read = screen.read(&mut part)?;
            anyhow::ensure!(read > 0, "it ended too soon: {:?}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&part[..read]);
        }
        keys.write_all(b"\x03")?;
        screen.read_to_end(&mut seen)?;
        assert_eq!(terminal.wait()?.code(), Some(130));
        let seen = String::from_utf8_lossy(&seen);
        assert!(seen.contains("\u{1b}[?25l") && seen.trim_end().ends_with("\u{1b}[?25h\u{1b}[0m"), "{seen:?}");
        let (painted, plain) = ("\u{1b}[33m?\u{1b}[0m gate", "? gate");
        assert!(seen.contains(if colour { painted } else { plain }), "{seen:?}");
        assert_eq!(seen.contains("\u{1b}[33m"), colour, "{seen:?}");
    }
    Ok(())
}

#[test]
fn lists_are_filtered_by_time_and_paged() -> Result<()> {
    let sandbox = sandbox()?;
    let host = Host::start(&sandbox)?;
    let ids: Vec<String> = (0..3).map(|_| host.start_workflow("steps", &json!({}))).collect::<Result<_>>()?;
    let data = sandbox.data();
    let data = data.to_str().context("UTF-8")?;
    let list = |more: &[&str]| -> Result<Value> {
        let mut args = vec!["executions", "list", "--json", "--data-dir", data];
        args.extend(more);
        let listed = finish(command(sandbox.root(), &args))?;
        assert_eq!(listed.code, Some(0), "{listed:?}");
        listed.json()
    };
    let count = |listed: &Value| listed["executions"].as_array().map_or(0, Vec::len);
    assert_eq!(count(&list(&["--since", "1h"])?), 3);
    assert_eq!(count(&list(&["--until", "1h"])?), 0);
    assert_eq!(count(&list(&["--since", "2020-01-01", "--until", "2020-01-02T00:00:00Z"])?), 0);
    let page = list(&["--limit", "2", "--workflow", "steps", "--status", "waiting"])?;
    assert_eq!((count(&page), &page["next"]), (2, &json!(ids[1])), "{page:#}");
    let rest = list(&["--limit", "2", "--before", &ids[1]])?;
    assert_eq!((count(&rest), &rest["next"]), (1, &Value::Null), "{rest:#}");
    let wrong = finish(command(sandbox.root(), &["executions", "list", "--since", "yesterday"]))?;
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    Ok(())
}
