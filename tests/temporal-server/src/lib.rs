//! A real Temporal server for tests: on a free port, with its database in a temporary folder, stopped by its process id when the test ends.
//!
//! ```no_run
//! let shared = temporal_test_server::shared(); // one for all tests of this process; nobody kills it
//! println!("{}", shared.url());
//!
//! let mut own = temporal_test_server::Server::start();
//! own.kill(); // SIGKILL, as a crash
//! own.restart(); // same port, same database
//! own.pause(); // SIGSTOP
//! own.resume();
//! ```
//!
//! `cargo xtask setup temporal` makes sure that there is a program; [`program`] says where it is looked for.

#![expect(clippy::missing_panics_doc, reason = "helpers of tests panic as tests do")]

mod found;

use std::fs::File;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use compozy_dev_server::{Launch, Process, free_port, serves};

pub use found::{OVERRIDE, VERSION, cached, program};

/// How long a server may take to serve. Far beyond what a slow machine needs.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether it serves.
const LOOK: Duration = Duration::from_millis(20);
/// Somebody else may take a free port between the look and the start.
const PORTS_TRIED: usize = 5;
/// What the host's engine records of each run, for lists.
const SEARCH_ATTRIBUTES: [&str; 3] = ["CompozyWorkflow", "CompozyStatus", "CompozyDefinition"];

/// A server of one test.
#[derive(Debug)]
pub struct Server {
    process: Option<Process>,
    launch: Launch,
    folder: tempfile::TempDir,
}

/// One server for all tests of this process. It is started by the first who asks, and ends with the process.
pub fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| {
        let server = Server::start();
        remove_after_us(server.folder());
        server
    })
}

impl Server {
    /// Starts a server and waits until it serves.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// As [`Server::start`], with further arguments of `temporal server start-dev`.
    pub fn start_with(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let launch = Launch {
            program: program().unwrap_or_else(|reason| panic!("{reason}")),
            port: 0,
            database: folder.path().join("temporal.db"),
            search_attributes: SEARCH_ATTRIBUTES.map(|name| (name.to_owned(), "Keyword".to_owned())).to_vec(),
            more: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        };
        let mut server = Self { process: None, launch, folder };
        for _ in 0..PORTS_TRIED {
            server.launch.port = free_port().expect("a free port");
            server.restart_without_waiting();
            if server.wait_until_it_serves() {
                return server;
            }
        }
        panic!("the Temporal server does not start: {}", server.log());
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.launch.port
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.running().id()
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("temporal.log")).unwrap_or_default()
    }

    /// Whether it serves now. A server that is paused does not; that takes 5 s to find out.
    pub fn serves(&self) -> bool {
        serves(&self.launch.program, self.port())
    }

    /// Calls the program as a client of this server, for example `temporal workflow list`.
    pub fn client(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.launch.program);
        command.args(arguments).args(["--address", &self.address()]).stdin(Stdio::null());
        command.output().expect("the program that served can be called")
    }

    /// Ends the process at once, as a crash does. No effect on one that was killed.
    pub fn kill(&mut self) {
        // Dropping kills and waits; SIGKILL also ends a stopped process.
        self.process = None;
    }

    /// Starts it again on the same port and database, and waits until it serves.
    pub fn restart(&mut self) {
        self.restart_without_waiting();
        assert!(self.wait_until_it_serves(), "the Temporal server does not start again: {}", self.log());
    }

    /// Starts it again without waiting until it serves.
    pub fn restart_without_waiting(&mut self) {
        self.kill();
        let log = File::options().create(true).append(true).open(self.folder.path().join("temporal.log"));
        let log = log.expect("a log file in the temporary folder");
        let mut command = self.launch.command();
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
        self.process = Some(Process::start(command).expect("the program can be started"));
    }

    /// Stops the process where it is (SIGSTOP): connections stay open and nothing answers.
    pub fn pause(&mut self) {
        self.running().pause();
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&mut self) {
        self.running().resume();
    }

    /// False when it ended before it served.
    fn wait_until_it_serves(&self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if self.running().ended().is_some() {
                return false;
            }
            if self.serves() {
                return true;
            }
            std::thread::sleep(LOOK);
        }
        panic!("the Temporal server does not serve within {} s: {}", PATIENCE.as_secs(), self.log());
    }

    fn running(&self) -> &Process {
        self.process.as_ref().expect("the server runs")
    }
}

/// Removes a folder when this process has ended. What is static is never dropped, so somebody else must do it: a shell that waits for
/// the end of its input, which is a pipe from us.
fn remove_after_us(folder: &Path) {
    // The server dies when we do; what it was writing in that moment may need the second try.
    let script = "read _; rm -rf -- \"$1\" 2>/dev/null || { sleep 1; rm -rf -- \"$1\"; }";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("there is a shell");
    // Dropped, the pipe would be closed now.
    std::mem::forget(child);
}
