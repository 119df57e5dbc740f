//! Hosts that are killed at any moment: what they had acknowledged holds, and every task is recorded once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use compozy_engine::EngineError;
use compozy_engine::port::{Engine as _, ExecutionId, StartRequest};
use compozy_plan::plan::Plan;
use serde_json::json;

use crate::common::*;

/// Names the folder of a host that is to be killed.
const FOLDER: &str = "ENGINE_TEST_CRASH_FOLDER";
/// The round of that host.
const ROUND: &str = "ENGINE_TEST_CRASH_ROUND";
/// How many hosts are killed; set it for a longer test.
const ROUNDS: &str = "ENGINE_TEST_CRASH_ROUNDS";
const ROUNDS_DEFAULT: usize = 20;
/// Runs that each host starts.
const RUNS: usize = 3;

/// Seven scheduled tasks per run, in a chain, side by side, and inside others. One attempt may fail, so a lost attempt
/// that counted as failed would end its run.
fn workload() -> Arc<Plan> {
    plan(
        "config: {retry_policy: {maximum_attempts: 1}}
tasks:
  - {id: first, tool: tool}
  - {id: each, type: collection, items: [1, 2, 3], task: {id: one, tool: tool, with: {item: '{{ .item }}'}}}
  - {id: box, type: composite, tasks: [{id: a, tool: tool}, {id: b, tool: tool}]}
  - {id: last, tool: tool, with: {hangs: '{{ .input.hangs }}'}}",
    )
}

fn start(plan: &Arc<Plan>, round: usize, run: usize) -> (String, StartRequest) {
    let key = format!("{round}-{run}");
    // The last task of a host's last run hangs until that host is killed.
    (key.clone(), keyed(plan, json!({"hangs": run == RUNS - 1}), &key))
}

/// What the outside world saw: a line for each attempt that ran, in a file that no engine knows.
struct World(PathBuf);

impl World {
    fn of(folder: &Path) -> Self {
        Self(folder.join("outside"))
    }

    fn write(&self, file: &str, line: &str) {
        let path = self.0.with_extension(file);
        let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn read(&self, file: &str) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(self.0.with_extension(file)).unwrap_or_default();
        // A line of a killed host may be cut off.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().filter_map(|line| line.split_once(' ')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
    }

    /// An executor that leaves its traces outside.
    fn script(self, hang: bool) -> Arc<Script> {
        let world = Arc::new(self);
        Script::new(move |call| {
            let world = Arc::clone(&world);
            async move {
                world.write("effects", &format!("{} {}", call.idempotency_key, call.attempt));
                if hang && call.attempt == 1 && call.input["hangs"] == json!(true) {
                    world.write("hangs", &format!("{} x", call.idempotency_key));
                    return std::future::pending().await;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
                report(Ok(json!({"key": call.idempotency_key})))
            }
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process of its own: begun, and killed, by the test of the crash"]
async fn a_host_to_be_killed() {
    let (Some(folder), Ok(round)) = (std::env::var_os(FOLDER), std::env::var(ROUND)) else { return };
    let folder = PathBuf::from(folder);
    let engine = open(&folder, &World::of(&folder).script(true));
    let plan = workload();
    for run in 0..RUNS {
        let (key, request) = start(&plan, round.parse().unwrap(), run);
        let id = engine.start(request).await.unwrap();
        World::of(&folder).write("started", &format!("{key} {id}"));
    }
    // Not for ever, should nobody be left to kill it.
    tokio::time::sleep(Duration::from_mins(5)).await;
}

/// A host that does not outlive its test.
struct Host(Child);

impl Host {
    fn begin(folder: &Path, round: usize) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["crash::a_host_to_be_killed", "--exact", "--ignored", "--nocapture"])
            .env(FOLDER, folder)
            .env(ROUND, round.to_string())
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // SIGKILL. One that has ended already needs none.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kills_at_any_moment_every_task_is_recorded_once() {
    let rounds = std::env::var(ROUNDS).map_or(ROUNDS_DEFAULT, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let (world, plan) = (World::of(folder), workload());
    for round in 0..rounds {
        let (effects, hanging) = (world.read("effects").len(), world.read("hangs").len());
        let host = Host::begin(folder, round);
        if round % 2 == 0 {
            let last = start(&plan, round, RUNS - 1).0;
            until("all starts", || world.read("started").iter().any(|(key, _)| *key == last)).await;
            until("an attempt that hangs", || world.read("hangs").len() > hanging).await;
            let path = folder.to_path_buf();
            assert_eq!(refused(folder), EngineError::DataFolderInUse { folder: path, pid: Some(host.0.id()) });
        } else {
            // Somewhere in the middle: each host has at least `RUNS` times seven attempts to make.
            let more = 1 + round * 5 % (RUNS * 7);
            until("some attempts", || world.read("effects").len() >= effects + more).await;
        }
        drop(host);
    }

    let engine = open(folder, &World::of(folder).script(false));
    let started: BTreeMap<String, String> = world.read("started").into_iter().collect();
    assert!(started.len() >= rounds.div_ceil(2) * RUNS, "{} starts were acknowledged", started.len());
    let mut ids = BTreeSet::new();
    for (round, run) in (0..rounds).flat_map(|round| (0..RUNS).map(move |run| (round, run))) {
        let (key, request) = start(&plan, round, run);
        let id = engine.start(request).await.unwrap();
        if let Some(acknowledged) = started.get(&key) {
            assert_eq!(&id.0, acknowledged, "the start `{key}` was acknowledged and lost");
        }
        ids.insert(id);
    }
    assert_eq!(ids.len(), rounds * RUNS);
    assert_eq!(engine.list(1000, None).await.unwrap().len(), ids.len(), "no run beside them");
    let mut attempts = BTreeMap::new();
    for id in &ids {
        ended(&engine, id).await;
        for (task, record) in assert_sound(&engine, id).await.attempts {
            attempts.insert(format!("{id}/{task}"), record.attempts);
        }
    }
    assert_eq!(attempts.len(), rounds * RUNS * 7);
    compare(&attempts, &world.read("effects"));
    for (key, _) in world.read("hangs") {
        assert!(attempts[&key] > 1, "the attempt of {key} that was killed is followed by another");
    }
}

/// No attempt ran twice, each task's last attempt is the one that is recorded, and none ran after it.
fn compare(recorded: &BTreeMap<String, u32>, effects: &[(String, String)]) {
    let mut seen: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for (key, attempt) in effects {
        seen.entry(key).or_default().push(attempt.parse().unwrap());
    }
    for (key, attempts) in &seen {
        assert!(attempts.is_sorted_by(|a, b| a < b), "{key} ran as {attempts:?}");
        assert_eq!(attempts.last(), recorded.get(*key), "{key}");
    }
    assert_eq!(seen.len(), recorded.len(), "every task left its trace");
}

#[tokio::test]
async fn a_copy_of_a_working_journal_goes_on_like_one_of_a_killed_host() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::never();
    let engine = open(dir.path(), &script);
    let id: ExecutionId = engine.start(request(&linear(2))).await.unwrap();
    until("the first attempt", || script.count() == 1).await;
    let copy = tempfile::tempdir().unwrap();
    for name in ["journal.db", "journal.db-wal"] {
        std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let restored = open(copy.path(), &Script::echo());
    ended(&restored, &id).await;
    assert_eq!(assert_sound(&restored, &id).await.attempts["t0"].attempts, 2);
    assert_eq!(engine.execution(&id).await.unwrap().unwrap().events, 1, "the first host's journal is its own");
}
