//! The managed development server on the real program.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use compozy_dev_server::{Backoff, DevServer, HOST, Options, State, serves};
use temporal_test_server::program;

/// Nothing here takes nearly as long.
const PATIENCE: Duration = Duration::from_mins(1);

fn options(folder: &Path) -> Options {
    Options {
        program: Some(program().expect("a Temporal CLI")),
        search_attributes: vec![("CompozyStatus".to_owned(), "Keyword".to_owned())],
        backoff: Backoff { first: Duration::from_millis(50), ..Backoff::default() },
        ..Options::new(folder)
    }
}

/// A program at this path that does what a shell script says. Written and put there by another process: what is open for writing in
/// ours, or in a child that another test starts in this moment, cannot be executed.
fn put_program(path: &Path, script: &str) {
    let mut put = Command::new("sh");
    put.args([
        "-c",
        "printf '#!/bin/sh\\n%s\\n' \"$2\" > \"$1.new\" && chmod 755 \"$1.new\" && mv \"$1.new\" \"$1\"",
        "sh",
    ]);
    assert!(put.arg(path).arg(script).status().expect("there is a shell").success());
}

fn signal(name: &str, pid: u32) {
    assert!(
        Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().expect("there is `kill`").success()
    );
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what} does not come true");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn client(server: &DevServer, arguments: &[&str]) -> bool {
    let mut command = Command::new(program().expect("a Temporal CLI"));
    command
        .args(arguments)
        .args(["--address", &server.address()])
        .output()
        .expect("the program starts")
        .status
        .success()
}

#[test]
fn on_temporal_a_managed_server_that_dies_is_started_again_with_its_data_at_the_same_address() {
    let dir = tempfile::tempdir().unwrap();
    let server = DevServer::start(options(dir.path())).unwrap();
    assert_eq!(server.state(), State::Serving);
    assert!(client(&server, &["workflow", "start", "--task-queue", "q", "--type", "t", "--workflow-id", "kept"]));
    let (port, first) = (server.port(), server.id().unwrap());
    signal("KILL", first);
    until("the server was started again", || server.restarts() == 1);
    assert_eq!((server.state(), server.port()), (State::Serving, port));
    assert_ne!(server.id(), Some(first));
    assert!(client(&server, &["workflow", "describe", "--workflow-id", "kept"]));

    let second = DevServer::start(options(dir.path())).unwrap_err();
    assert_eq!(second.code(), "DEV_SERVER_FOLDER_IN_USE");
    assert!(second.to_string().contains(&format!("(process {})", server.id().unwrap())), "{second}");

    server.stop();
    server.stop();
    assert_eq!((server.state(), server.id()), (State::Stopped, None));
    assert!(!serves(&program().unwrap(), port));

    // The next start is at the same address, unless somebody else is there.
    let again = DevServer::start(options(dir.path())).unwrap();
    assert_eq!(again.port(), port);
    assert!(client(&again, &["workflow", "describe", "--workflow-id", "kept"]));
    drop(again);
    let taken = TcpListener::bind((HOST, port)).unwrap();
    let elsewhere = DevServer::start(options(dir.path())).unwrap();
    assert_ne!(elsewhere.port(), port);
    drop(taken);
}

#[test]
fn on_temporal_a_managed_server_that_does_not_end_by_itself_is_killed_after_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let stop_timeout = Duration::from_millis(300);
    let server = DevServer::start(Options { stop_timeout, ..options(dir.path()) }).unwrap();
    let pid = server.id().unwrap();
    // A process that is stopped takes no SIGTERM.
    signal("STOP", pid);
    let begun = Instant::now();
    server.stop();
    assert!(begun.elapsed() >= stop_timeout);
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "it is gone");
}

#[test]
fn on_temporal_a_managed_server_that_does_not_come_back_is_tried_again_until_it_does_or_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("temporal");
    let real = format!("exec '{}' \"$@\"", program().unwrap().display());
    put_program(&path, &real);
    let backoff = Backoff { longest: Duration::from_millis(200), ..options(dir.path()).backoff };
    let options = Options { program: Some(path.clone()), backoff, ..options(&dir.path().join("data")) };
    let server = DevServer::start(options).unwrap();
    let break_it = || {
        put_program(&path, "exit 3");
        signal("KILL", server.id().unwrap());
    };
    let is_tried = || matches!(server.state(), State::Restarting { reason } if reason.contains("exit code 3"));

    break_it();
    until("it was tried again in vain", is_tried);
    assert_eq!((server.id(), server.restarts()), (None, 0));
    put_program(&path, &real);
    until("it serves again", || server.state() == State::Serving);
    assert_eq!(server.restarts(), 1);

    break_it();
    until("it was tried again in vain", is_tried);
    server.stop();
    assert_eq!(server.state(), State::Stopped);
}
