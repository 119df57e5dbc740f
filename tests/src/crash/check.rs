//! What the last host knows, against what clients and tasks know.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::client::{Clients, Said};
use super::{Report, project};
use crate::host::{self, Host};
use crate::project::Sandbox;

/// No execution needs nearly so long once nobody kills its host.
const STUCK_AFTER: Duration = Duration::from_mins(2);
/// Children of one execution of `family`.
const LEAVES: usize = 2;

/// Attempt and token of everything that really happened, by `<execution>/<task>`.
type Effects = HashMap<String, Vec<(u64, String)>>;

/// Lets everything end, and compares.
pub(super) fn check(sandbox: &Sandbox, host: Host, clients: &mut Clients) -> Result<Report> {
    let mut report = Report::default();
    clients.finish(host.address())?;
    report.acknowledged = clients.acknowledged();
    let listed = wait_for_all(&host, &mut report)?;
    report.executions = listed.len();
    for said in &clients.said {
        starts_once(&host, said, &listed, &mut report)?;
    }
    numbers(&clients.said, &listed, &mut report);
    let effects = effects(sandbox, &mut report)?;
    report.attempts = effects.values().map(Vec::len).sum();
    for id in listed.keys() {
        recorded_once(&host, id, &effects, &mut report)?;
    }
    for key in effects.keys() {
        let execution = key.split_once('/').map_or(key.as_str(), |(execution, _)| execution);
        if !listed.contains_key(execution) {
            report.lost.push(format!("{key} left a trace, and there is no such execution"));
        }
    }
    for said in &clients.said {
        signals_once(&host, said, &mut report)?;
    }
    host.terminate()?;
    host.wait()?;
    verify(sandbox, &mut report)?;
    Ok(report)
}

/// The workflow and the status of every execution, once all have ended.
fn wait_for_all(host: &Host, report: &mut Report) -> Result<BTreeMap<String, (String, String)>> {
    let begun = Instant::now();
    loop {
        let listed = list(host)?;
        let open: Vec<&String> =
            listed.iter().filter(|(_, (_, status))| !is_terminal(status)).map(|(id, _)| id).collect();
        if open.is_empty() {
            return Ok(listed);
        }
        if begun.elapsed() > STUCK_AFTER {
            for id in open {
                let (workflow, status) = &listed[id];
                report.stuck.push(format!("execution {id} of `{workflow}` is {status} for {STUCK_AFTER:?}"));
            }
            return Ok(listed);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn is_terminal(status: &str) -> bool {
    ["SUCCESS", "FAILED", "TIMED_OUT", "CANCELED"].contains(&status)
}

fn list(host: &Host) -> Result<BTreeMap<String, (String, String)>> {
    let mut listed = BTreeMap::new();
    let mut before = String::new();
    loop {
        let page = host.get(&format!("/api/v0/executions?limit=1000{before}"))?;
        ensure!(page.status == 200, "{page:?}");
        for line in page.body["executions"].as_array().context("a list")? {
            let text = |name: &str| line[name].as_str().map(str::to_owned).context("a text");
            let twice = listed.insert(text("exec_id")?, (text("workflow_id")?, text("status")?));
            ensure!(twice.is_none(), "an execution is listed twice: {line}");
        }
        match page.body["next"].as_str() {
            Some(next) => before = format!("&before={next}"),
            None => return Ok(listed),
        }
    }
}

/// An acknowledged start is there, under the id that was told, and its key still stands for it.
fn starts_once(
    host: &Host,
    said: &Said,
    listed: &BTreeMap<String, (String, String)>,
    report: &mut Report,
) -> Result<()> {
    let (key, id) = (&said.talk.key, said.execution.as_deref().context("everything was acknowledged")?);
    if let Some(word) = said.forgotten {
        report.lost.push(format!("{key} was acknowledged as {id}, which was not there for {word:?}"));
    }
    if !listed.contains_key(id) {
        report.lost.push(format!("the start {key} was acknowledged as {id}, which is not there"));
        return Ok(());
    }
    let again = said.start(host.address())?;
    if again.body["exec_id"] != id {
        report.recorded_twice.push(format!("the start {key} was {id} and is {again:?}"));
    }
    let execution = host.execution(id)?;
    if execution["status"] != "SUCCESS" || !said.is_expected(&execution["output"]) {
        let (status, output) = (&execution["status"], cut(&execution["output"]));
        report.lost.push(format!("{key} ({}) ended as {status} with {output}", said.talk.workflow));
    }
    Ok(())
}

fn cut(value: &Value) -> String {
    value.to_string().chars().take(200).collect()
}

/// As many executions as starts, and as many children as their parents ask for.
fn numbers(said: &[Said], listed: &BTreeMap<String, (String, String)>, report: &mut Report) {
    let mut wanted: BTreeMap<&str, usize> = BTreeMap::new();
    for said in said {
        *wanted.entry(said.talk.workflow).or_default() += 1;
        if said.talk.workflow == "family" {
            *wanted.entry("leaf").or_default() += LEAVES;
        }
    }
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    for (workflow, _) in listed.values() {
        *found.entry(workflow).or_default() += 1;
    }
    for (workflow, wanted) in &wanted {
        let found = found.get(workflow).copied().unwrap_or_default();
        match found.cmp(wanted) {
            std::cmp::Ordering::Less => report.lost.push(format!("{wanted} of `{workflow}` began, {found} are there")),
            std::cmp::Ordering::Greater => {
                report.recorded_twice.push(format!("{wanted} of `{workflow}` began, {found} are there"));
            }
            std::cmp::Ordering::Equal => {}
        }
    }
}

/// Reads the traces. No attempt may have run twice.
fn effects(sandbox: &Sandbox, report: &mut Report) -> Result<Effects> {
    let mut effects = Effects::new();
    for line in project::traces(sandbox).lines() {
        let mut parts = line.rsplitn(3, ' ');
        let (Some(token), Some(attempt), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            anyhow::bail!("`{line}` is no trace");
        };
        let attempt: u64 = attempt.parse().with_context(|| format!("`{line}`"))?;
        let of_task = effects.entry(key.to_owned()).or_default();
        if of_task.iter().any(|(found, _)| *found == attempt) {
            report.recorded_twice.push(format!("attempt {attempt} of {key} ran twice"));
        }
        of_task.push((attempt, token.to_owned()));
    }
    Ok(effects)
}

/// The journal has no gap, each task ends in it once, and what it says of a task really happened.
fn recorded_once(host: &Host, id: &str, effects: &Effects, report: &mut Report) -> Result<()> {
    let records = journal(host, id)?;
    let seqs: Vec<u64> = records.iter().filter_map(|record| record["seq"].as_u64()).collect();
    if seqs != (1..=records.len() as u64).collect::<Vec<_>>() {
        report.lost.push(format!("the journal of {id} has gaps: {seqs:?}"));
    }
    let mut ends = BTreeSet::new();
    let ended = ["task_completed", "task_failed"];
    for record in records.iter().filter(|record| ended.iter().any(|kind| record["event"]["kind"] == *kind)) {
        let task = record["event"]["task"].as_str().context("an end of a task names it")?;
        if !ends.insert(task.to_owned()) {
            report.recorded_twice.push(format!("the end of {id}/{task} is recorded twice"));
        }
    }
    let execution = host.execution(id)?;
    for task in execution["tasks"].as_array().context("tasks")? {
        let name = task["task"].as_str().context("a task's key")?;
        if task["type"] != "basic" || task["status"] != "SUCCESS" || !task["child"].is_null() {
            continue;
        }
        let key = format!("{id}/{name}");
        let answered = (task["output"]["attempt"].as_u64(), task["output"]["token"].as_str());
        let happened = effects.get(&key).is_some_and(|effects| {
            effects.iter().any(|(attempt, token)| (Some(*attempt), Some(token.as_str())) == answered)
        });
        if !happened {
            report.lost.push(format!("{key} is recorded as {}, which never happened", cut(&task["output"])));
        }
        if !ends.contains(name) || task["attempts"].as_u64() != answered.0 {
            report.lost.push(format!("{key} is a success that its journal does not have, or of another attempt"));
        }
    }
    Ok(())
}

fn journal(host: &Host, id: &str) -> Result<Vec<Value>> {
    let mut answer = host.get(&format!("/api/v0/executions/{id}/journal"))?;
    ensure!(answer.status == 200, "{answer:?}");
    match answer.body["records"].take() {
        Value::Array(records) => Ok(records),
        other => anyhow::bail!("no records of {id}: {other}"),
    }
}

fn signals_once(host: &Host, said: &Said, report: &mut Report) -> Result<()> {
    if said.talk.workflow != "gather" {
        return Ok(());
    }
    let id = said.execution.as_deref().context("everything was acknowledged")?;
    if said.forgotten.is_some() {
        return Ok(());
    }
    let records = journal(host, id)?;
    for number in 1..=2 {
        let signal = said.signal_id(number);
        let count = records.iter().filter(|record| record["event"]["signal"]["id"] == signal.as_str()).count();
        match count {
            0 => report.lost.push(format!("the signal {signal} is not in the journal of {id}")),
            1 => {}
            _ => report.recorded_twice.push(format!("the signal {signal} is {count} times in the journal of {id}")),
        }
    }
    Ok(())
}

/// Takes every execution through its journal again, on the folder that the last host left.
fn verify(sandbox: &Sandbox, report: &mut Report) -> Result<()> {
    let data = sandbox.data();
    let data = data.to_str().context("UTF-8")?;
    let verified = host::run(sandbox.root(), &["executions", "verify", "--all", "--data-dir", data])?;
    if verified.code != Some(0) {
        let tail: Vec<&str> = verified.stdout.lines().rev().take(5).collect();
        report.lost.push(format!("journals do not lead to what is recorded: {} {tail:?}", verified.stderr.trim()));
    }
    Ok(())
}
