//! A real `redis-server` for tests: on a free port, with a temporary folder, stopped by its process id when the test ends.
//!
//! ```no_run
//! let mut server = redis_test_server::Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
//! println!("{}", server.url());
//! server.kill(); // SIGKILL, as a crash
//! server.restart(); // same port, same folder
//! ```
//!
//! The server that is started has no users and no password unless the arguments say so. It never stores anything outside of its folder.

#![expect(clippy::missing_panics_doc, reason = "helpers of tests panic as tests do")]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take to answer. Far beyond what a slow machine needs.
const PATIENCE: Duration = Duration::from_secs(30);
/// What to do when there is no server.
const INSTALL: &str = "`redis-server` is not on the PATH: install it (Debian: `apt-get install redis-server`; macOS: `brew install redis`)";

/// A `redis-server` of one test.
#[derive(Debug)]
pub struct Server {
    child: Option<Child>,
    paused: bool,
    port: u16,
    tls_port: Option<u16>,
    arguments: Vec<String>,
    folder: tempfile::TempDir,
}

impl Server {
    /// Starts a server with further arguments (as on its command line) and waits until it answers.
    pub fn start(arguments: &[&str]) -> Self {
        Self::in_folder(tempfile::tempdir().expect("a temporary folder"), None, arguments)
    }

    /// As [`Server::start`], with a TLS port beside the plain one. The folder must hold the files that the arguments name.
    pub fn start_tls(folder: tempfile::TempDir, arguments: &[&str]) -> Self {
        Self::in_folder(folder, Some(free_port()), arguments)
    }

    fn in_folder(folder: tempfile::TempDir, tls_port: Option<u16>, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        // Somebody else may take a free port between the look and the start.
        let mut server = Self { child: None, paused: false, port: 0, tls_port, arguments, folder };
        for _ in 0..5 {
            server.port = free_port();
            if server.launch() {
                return server;
            }
        }
        panic!("redis-server does not start: {}", server.log());
    }

    /// The plain port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The TLS port, when it was started with one.
    pub fn tls_port(&self) -> Option<u16> {
        self.tls_port
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("redis.log")).unwrap_or_default()
    }

    /// Ends the process at once, as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child of ours can be killed");
            child.wait().expect("a child of ours can be waited for");
        }
        self.paused = false;
    }

    /// Starts it again on the same port and folder, and waits until it answers.
    pub fn restart(&mut self) {
        self.kill();
        let begun = Instant::now();
        while !self.launch() {
            assert!(begun.elapsed() < PATIENCE, "redis-server does not start again: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Starts it again without waiting until it answers (it may be loading its data).
    pub fn restart_without_waiting(&mut self) {
        self.kill();
        self.child = Some(self.spawn());
    }

    /// Stops the process where it is (SIGSTOP): connections stay open and nothing answers.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
        self.paused = true;
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
        self.paused = false;
    }

    /// Sends one command as the default user and answers the raw reply (RESP), which must come in one piece of at most 64 KiB.
    pub fn command(&self, arguments: &[&str]) -> String {
        let arguments: Vec<&[u8]> = arguments.iter().map(|argument| argument.as_bytes()).collect();
        let reply = exchange(self.port, &arguments).expect("the server answers");
        String::from_utf8_lossy(&reply).into_owned()
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the server runs");
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(id, signal).expect("a child of ours takes signals");
    }

    /// Starts the process; whether it answered.
    fn launch(&mut self) -> bool {
        let mut child = self.spawn();
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if exchange(self.port, &[b"PING"]).is_ok_and(|reply| ready(&reply)) {
                self.child = Some(child);
                return true;
            }
            if child.try_wait().expect("a child of ours can be asked").is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        child.kill().expect("a child of ours can be killed");
        child.wait().expect("a child of ours can be waited for");
        false
    }

    fn spawn(&self) -> Child {
        let log = File::options().create(true).append(true).open(self.folder.path().join("redis.log"));
        let log = log.expect("a log file in the temporary folder");
        let mut command = Command::new("redis-server");
        command.current_dir(self.folder.path()).args(["--port", &self.port.to_string()]);
        command.args(["--bind", "127.0.0.1", "--daemonize", "no", "--save", "", "--unixsocket"]).arg(self.socket());
        command.args(["--dir", "."]);
        if let Some(port) = self.tls_port {
            command.args(["--tls-port", &port.to_string()]);
        }
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
        match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => panic!("{INSTALL}"),
            Err(error) => panic!("redis-server cannot be started: {error}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGKILL also ends a stopped process.
        self.kill();
    }
}

/// Alive and not loading: an answer that is refused for want of a password or a right is good enough.
fn ready(reply: &[u8]) -> bool {
    reply.starts_with(b"+PONG") || reply.starts_with(b"-NOAUTH") || reply.starts_with(b"-NOPERM")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

fn exchange(port: u16, arguments: &[&[u8]]) -> std::io::Result<Vec<u8>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut request = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        request.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        request.extend_from_slice(argument);
        request.extend_from_slice(b"\r\n");
    }
    stream.write_all(&request)?;
    let mut reply = vec![0; 64 * 1024];
    let length = stream.read(&mut reply)?;
    reply.truncate(length);
    Ok(reply)
}
