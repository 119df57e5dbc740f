//! Watches the process, and starts it again when it dies.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::folder::Folder;
use crate::launch::is_free;
use crate::{DevServerError, Ended, HOST, Launch, Options, Process, State, program, serves};

/// How often a server that starts is asked whether it serves, and how soon the wish to stop is noticed.
const LOOK: Duration = Duration::from_millis(50);
/// Somebody else may take a free port between the look and the start.
const PORTS_TRIED: u32 = 3;

/// What the user and the supervisor share.
#[derive(Debug)]
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug)]
struct Inner {
    state: State,
    pid: Option<u32>,
    restarts: u64,
    stopping: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics while holding this")
    }

    pub(crate) fn state(&self) -> State {
        self.lock().state.clone()
    }

    pub(crate) fn id(&self) -> Option<u32> {
        self.lock().pid
    }

    pub(crate) fn restarts(&self) -> u64 {
        self.lock().restarts
    }

    pub(crate) fn ask_to_stop(&self) {
        self.lock().stopping = true;
        self.changed.notify_all();
    }

    fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Waits; false when the wish to stop came meanwhile.
    fn rest(&self, duration: Duration) -> bool {
        let until = Instant::now() + duration;
        let mut inner = self.lock();
        while !inner.stopping {
            let Some(left) = until.checked_duration_since(Instant::now()) else { return true };
            inner = self.changed.wait_timeout(inner, left).expect("nobody panics while holding this").0;
        }
        false
    }

    fn set(&self, state: State, pid: Option<u32>) {
        let mut inner = self.lock();
        // It begins to serve: for the first time, or again after it died.
        inner.restarts += u64::from(state == State::Serving && inner.state != State::Stopped);
        (inner.state, inner.pid) = (state, pid);
    }
}

/// Owns a server that serves.
#[derive(Debug)]
pub(crate) struct Supervisor {
    options: Options,
    launch: Launch,
    /// The server, or why there is none.
    process: Result<Process, String>,
    // After the process: the lock is given back when the server is gone.
    folder: Folder,
    shared: Arc<Shared>,
}

impl Supervisor {
    /// Starts a server and waits until it serves.
    pub(crate) fn start(options: Options) -> Result<Self, DevServerError> {
        let program = program(options.program.as_deref())?;
        let folder = Folder::take(&options.folder)?;
        let launch = Launch {
            program,
            port: 0,
            database: folder.database(),
            search_attributes: options.search_attributes.clone(),
            more: options.arguments.clone(),
        };
        let inner = Inner { state: State::Stopped, pid: None, restarts: 0, stopping: false };
        let shared = Arc::new(Shared { inner: Mutex::new(inner), changed: Condvar::new() });
        let mut this = Self { options, launch, process: Err("it was not started yet".to_owned()), folder, shared };
        for tried in 1.. {
            this.launch.port = this.folder.port()?;
            match this.launch() {
                Ok(()) => break,
                // Not ours to have: the next look finds another.
                Err(DevServerError::EndedEarly { .. }) if tried < PORTS_TRIED && !is_free(this.launch.port) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(this)
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    pub(crate) fn port(&self) -> u16 {
        self.launch.port
    }

    /// Until the wish to stop comes.
    pub(crate) fn run(mut self) {
        let mut failures = 0_u32;
        let mut begun = Instant::now();
        while let Some(reason) = self.watch() {
            if begun.elapsed() >= self.options.backoff.healthy_after {
                failures = 0;
            }
            failures = failures.saturating_add(1);
            let wait = self.options.backoff.wait(failures);
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(%reason, wait_ms, failures, "the development server is gone; it is started again");
            self.process = Err(reason.clone());
            self.shared.set(State::Restarting { reason }, None);
            if !self.shared.rest(wait) {
                break;
            }
            begun = Instant::now();
            if let Err(error) = self.launch() {
                self.process = Err(error.to_string());
            }
        }
        self.end();
    }

    /// Waits until the server is gone, and says how; `None` is the wish to stop.
    fn watch(&self) -> Option<String> {
        while !self.shared.is_stopping() {
            match &self.process {
                Err(reason) => return Some(reason.clone()),
                Ok(process) => {
                    if let Some(ended) = process.wait(LOOK) {
                        return Some(how(ended));
                    }
                }
            }
        }
        None
    }

    /// Starts the process and waits until it serves; otherwise nothing is left of it.
    fn launch(&mut self) -> Result<(), DevServerError> {
        let log = self.folder.log()?;
        let copy = log.try_clone().map_err(|error| DevServerError::FolderUnusable {
            folder: self.options.folder.clone(),
            action: "open the log",
            reason: error.to_string(),
        })?;
        let mut command = self.launch.command();
        command.stdin(self.folder.lock()?).stdout(Stdio::from(copy)).stderr(log);
        let process = Process::start(command).map_err(|error| DevServerError::ProgramRefused {
            program: self.launch.program.clone(),
            reason: error.to_string(),
        })?;
        self.folder.note(process.id())?;
        self.wait_until_it_serves(&process)?;
        self.shared.set(State::Serving, Some(process.id()));
        self.process = Ok(process);
        Ok(())
    }

    fn wait_until_it_serves(&self, process: &Process) -> Result<(), DevServerError> {
        let until = Instant::now() + self.options.start_timeout;
        loop {
            if let Some(ended) = process.ended() {
                let (log, said) = (self.folder.log_path(), self.folder.log_end());
                return Err(DevServerError::EndedEarly { how: how(ended), log, said });
            }
            if serves(&self.launch.program, self.launch.port) {
                return Ok(());
            }
            // The wish to stop ends this wait, too.
            if Instant::now() >= until || !self.shared.rest(LOOK) {
                let address = format!("{HOST}:{}", self.launch.port);
                let log = self.folder.log_path();
                return Err(DevServerError::NotReady { address, waited: self.options.start_timeout, log });
            }
        }
    }

    /// Ends the server: by its own, or by force.
    fn end(&mut self) {
        if let Ok(process) = std::mem::replace(&mut self.process, Err("it was stopped".to_owned())) {
            process.ask_to_end();
            if process.wait(self.options.stop_timeout).is_none() {
                let waited_ms = u64::try_from(self.options.stop_timeout.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(waited_ms, "the development server did not end by itself and is killed");
            }
            // Dropped here, which kills what still runs.
        }
        self.shared.set(State::Stopped, None);
    }
}

fn how(ended: Ended) -> String {
    match (ended.code(), ended.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown".to_owned(),
    }
}
