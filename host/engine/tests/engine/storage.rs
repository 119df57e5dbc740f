//! Files and folders that an engine must not use, and disks that are full.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use compozy_engine::local::LocalOptions;
use compozy_engine::port::{Engine as _, TaskExecutor};
use compozy_engine::{EngineError, ErrorKind, limits};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::common::*;

#[tokio::test]
async fn a_folder_has_one_engine_and_a_second_is_told_whose_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::echo();
    let first = open(dir.path(), &script);
    let second = refused(dir.path());
    let message = format!(
        "the data folder `{}` is in use by another host (process {}); stop it or choose another folder",
        dir.path().display(),
        std::process::id()
    );
    assert_eq!(
        (second.code(), second.kind(), second.to_string()),
        ("DATA_FOLDER_IN_USE", ErrorKind::Operator, message)
    );
    // The first does not notice.
    let id = run(&first, request(&linear(1))).await.id;
    assert_sound(&first, &id).await;
    first.stop(Duration::ZERO).await;
    let second = open(dir.path(), &script);
    assert_sound(&second, &id).await;
}

#[tokio::test]
async fn a_journal_of_a_newer_version_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::echo();
    let engine = open(dir.path(), &script);
    let id = run(&engine, request(&linear(1))).await.id;
    engine.stop(Duration::ZERO).await;
    sqlite(dir.path()).pragma_update(None, "user_version", 99).unwrap();
    let error = refused(dir.path());
    let path = dir.path().join("journal.db");
    assert_eq!(error, EngineError::JournalTooNew { path, found: 99, supported: 3 });
    // The newer version can still use it, and so can this one, were it its own.
    sqlite(dir.path()).pragma_update(None, "user_version", 3).unwrap();
    assert_sound(&open(dir.path(), &script), &id).await;
}

#[tokio::test]
async fn a_file_that_is_no_journal_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.db");
    let garbage = "minutes of the last meeting, kept under an unlucky name\n".repeat(200);
    std::fs::write(&path, &garbage).unwrap();
    let error = refused(dir.path());
    assert_eq!((error.code(), error.kind()), ("JOURNAL_CORRUPT", ErrorKind::Operator));
    assert!(error.to_string().contains("journal.db") && error.to_string().contains("move the file away"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), garbage);

    std::fs::rename(&path, dir.path().join("minutes.txt")).unwrap();
    let engine = open(dir.path(), &Script::echo());
    let id = run(&engine, request(&linear(1))).await.id;
    assert_sound(&engine, &id).await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o500)).unwrap();
    let (runtime, place) = (Handle::current(), folder.clone());
    // A thread of its own: an administrator's threads may write anywhere until they give that up.
    let opened = std::thread::spawn(move || {
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::DAC_OVERRIDE);
        set_capabilities(None, sets).unwrap();
        open_with(&place, &Script::echo(), |options| options.runtime = Some(runtime)).map(drop)
    });
    let error = opened.join().unwrap().unwrap_err();
    assert_eq!((error.code(), error.kind(), error.retryable()), ("STORAGE_UNAVAILABLE", ErrorKind::Unavailable, true));
    let (message, shown) = (error.to_string(), folder.display().to_string());
    assert!(message.contains(&shown) && message.contains("ermission denied"), "{message}");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
}

#[tokio::test]
async fn a_missing_folder_is_made_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("a/b");
    let engine = open(&folder, &Script::echo());
    assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    drop(engine);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for concurrency in [0, limits::CONCURRENCY_MAX + 1] {
        let opened = open_with(dir.path(), &Script::echo(), |options| {
            (options.concurrency, options.runtime) = (concurrency, Some(runtime.handle().clone()));
        });
        let message = format!("the concurrency is {concurrency}, 1 to 1024 attempts are allowed");
        assert_eq!(opened.err().unwrap(), EngineError::InvalidOption(message));
    }
    let outside = open_with(dir.path(), &Script::echo(), |_| {}).err().unwrap();
    assert!(outside.to_string().contains("needs a tokio runtime"), "{outside}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "refused before anything is written");
}

/// Names the folder of the process with the full disk.
const FULL_DISK: &str = "ENGINE_TEST_FULL_DISK";

#[test]
fn a_full_disk_stops_new_work_only_and_only_until_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    // The signal for a file that grows too large would end the process. A shell passes on that it is ignored.
    let output = Command::new("sh")
        .args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#])
        .arg(std::env::current_exe().unwrap())
        .args(["storage::on_a_full_disk", "--exact", "--ignored", "--nocapture"])
        .env(FULL_DISK, dir.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let trouble = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("1 passed"), "{told}\n{trouble}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process of its own: begun by the test of the full disk"]
async fn on_a_full_disk() {
    let Some(folder) = std::env::var_os(FULL_DISK) else { return };
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let script = Script::new(move |call| {
        let gate = Arc::clone(&held);
        async move {
            if call.input["gate"] == json!(true) {
                gate.acquire().await.unwrap().forget();
            }
            report(Ok(json!("fine")))
        }
    });
    let options = LocalOptions::new(Path::new(&folder), Arc::clone(&script) as Arc<dyn TaskExecutor>);
    let engine = compozy_engine::local::LocalEngine::open(options).unwrap();
    let gated = plan("tasks: [{id: a, tool: tool, with: {gate: true}}, {id: b, tool: tool}]");
    let before = engine.start(request(&gated)).await.unwrap();
    until("the first task", || script.count() == 1).await;

    let space = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(1), maximum: space.maximum }).unwrap();
    let error = engine.start(keyed(&gated, json!({}), "k")).await.unwrap_err();
    assert_eq!((error.code(), error.retryable()), ("STORAGE_UNAVAILABLE", true), "{error}");
    assert!(error.retry_after().is_some());
    let health = engine.health();
    assert!(!health.writable && health.detail.contains("nothing was written"), "{health:?}");
    // A result that comes now waits until it can be written; what is there can be read.
    gate.add_permits(2);
    let refused = engine.stats().failed_commits;
    until("another refused commit", || engine.stats().failed_commits > refused).await;
    assert_eq!(engine.execution(&before).await.unwrap().unwrap().events, 1);
    assert_eq!((engine.list(10, None).await.unwrap().len(), script.count()), (1, 1), "nothing new began");

    setrlimit(Resource::Fsize, space).unwrap();
    ended(&engine, &before).await;
    let execution = assert_sound(&engine, &before).await;
    assert_eq!(execution.attempts["a"].attempts, 1, "no result was lost");
    until("a healthy engine", || engine.health().writable).await;
    let after = run(&engine, keyed(&gated, json!({"other": true}), "k")).await.id;
    assert_sound(&engine, &after).await;
    let ids: Vec<_> = engine.list(10, None).await.unwrap().into_iter().map(|line| line.id).collect();
    assert_eq!(ids, [after, before], "the refused start left nothing, not even its key");
    engine.stop(Duration::ZERO).await;
}
