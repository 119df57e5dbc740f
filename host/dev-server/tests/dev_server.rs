//! What goes wrong with a development server, without one: programs that are missing, end, or never serve; and children of parents that die.
//! With a real server it is tested in `tests/temporal-server`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use compozy_dev_server::{DevServer, DevServerError, Options, Process};

/// Nothing here takes nearly as long.
const PATIENCE: Duration = Duration::from_mins(1);
/// Set for the process that [`helper_that_is_killed`] is.
const HELPER: &str = "DEV_SERVER_TEST_HELPER";

/// A program that does what a shell script says.
fn program(folder: &Path, script: &str) -> PathBuf {
    let path = folder.join("program");
    // Written by another process: a child that some other test starts in this moment would hold our file open for writing, and what is open for
    // writing cannot be executed.
    let mut write = Command::new("sh");
    write.args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$2\" > \"$1\" && chmod 755 \"$1\"", "sh"]).arg(&path).arg(script);
    assert!(write.status().expect("there is a shell").success());
    path
}

fn options(folder: &Path, program: PathBuf) -> Options {
    Options { program: Some(program), start_timeout: Duration::from_millis(300), ..Options::new(folder.join("data")) }
}

fn is_running(pid: u32) -> bool {
    // A dead process that nobody has taken note of is a zombie.
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what} does not come true");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_program_that_is_missing_is_named_and_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("nowhere");
    let error = DevServer::start(options(dir.path(), missing.clone())).unwrap_err();
    assert_eq!(error, DevServerError::ProgramMissing { path: missing });
    assert!(!dir.path().join("data").exists());
}

#[test]
fn a_program_that_cannot_be_executed_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = program(dir.path(), "exit 0");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let error = DevServer::start(options(dir.path(), path)).unwrap_err();
    assert_eq!((error.code(), error.retryable()), ("DEV_SERVER_PROGRAM", false), "{error}");
}

#[test]
fn a_program_that_ends_is_told_with_its_code_and_its_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = program(dir.path(), "echo cannot open the database >&2; exit 3");
    let begun = Instant::now();
    let error = DevServer::start(Options { start_timeout: PATIENCE, ..options(dir.path(), path) }).unwrap_err();
    assert!(begun.elapsed() < PATIENCE, "nobody waits for a program that is gone");
    assert_eq!(error.code(), "DEV_SERVER_ENDED");
    let text = error.to_string();
    assert!(text.contains("exit code 3") && text.contains("says: cannot open the database"), "{text}");
}

#[test]
fn a_program_that_never_serves_is_ended_after_the_time_and_its_folder_is_free_again() {
    let dir = tempfile::tempdir().unwrap();
    let path =
        program(dir.path(), "[ \"$1\" = operator ] && exit 1\necho $$ > \"$(dirname \"$0\")/pid\"\nexec sleep 600");
    for _ in 0..2 {
        let error = DevServer::start(options(dir.path(), path.clone())).unwrap_err();
        assert_eq!((error.code(), error.retryable()), ("DEV_SERVER_NOT_READY", true), "{error}");
        let pid: u32 = fs::read_to_string(dir.path().join("pid")).unwrap().trim().parse().unwrap();
        assert!(!is_running(pid), "nothing is left of it");
    }
}

#[test]
fn a_process_that_an_old_lock_file_names_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut stranger = Command::new("sleep");
    stranger.arg("600");
    let stranger = Process::start(stranger).unwrap();
    fs::create_dir(dir.path().join("data")).unwrap();
    fs::write(dir.path().join("data/server.lock"), format!("{}\n", stranger.id())).unwrap();
    let path = program(dir.path(), "exit 3");
    let error = DevServer::start(options(dir.path(), path)).unwrap_err();
    assert_eq!(error.code(), "DEV_SERVER_ENDED", "it was started: {error}");
    assert!(stranger.wait(Duration::from_millis(100)).is_none(), "the stranger runs on");
}

/// Not a test by itself: the process that the next one starts and kills.
#[test]
fn helper_that_is_killed() {
    let Some(file) = std::env::var_os(HELPER) else { return };
    let mut command = Command::new("sleep");
    command.arg("600");
    // From a thread that ends: the child must not die with that.
    let child = std::thread::spawn(|| Process::start(command).unwrap()).join().unwrap();
    fs::write(PathBuf::from(file), child.id().to_string()).unwrap();
    std::thread::sleep(PATIENCE);
}

#[cfg(target_os = "linux")]
#[test]
fn a_child_dies_with_its_parent_however_that_dies() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_that_is_killed"])
        .env(HELPER, &file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = || fs::read_to_string(&file).ok().and_then(|text| text.parse().ok());
    until("the child runs", || pid().is_some_and(is_running));
    std::thread::sleep(Duration::from_millis(100));
    assert!(is_running(pid().unwrap()), "the end of a thread is not the end of the parent");
    parent.kill().unwrap();
    parent.wait().unwrap();
    until("the child is gone", || !is_running(pid().unwrap()));
}
