//! The server as its user sees it.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::supervisor::{Shared, Supervisor};
use crate::{DevServerError, HOST, Options};

/// How a development server stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It serves, or did when that was looked at last.
    Serving,
    /// It died, and is started again.
    Restarting {
        /// How it ended, for a person.
        reason: String,
    },
    /// It was stopped.
    Stopped,
}

/// A development server that runs as long as this value: dropped, it is stopped.
#[derive(Debug)]
pub struct DevServer {
    shared: Arc<Shared>,
    port: u16,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl DevServer {
    /// Starts a server and waits until it serves. When it does not, nothing is left of it.
    ///
    /// Blocks, for [`Options::start_timeout`] and some seconds at most.
    pub fn start(options: Options) -> Result<Self, DevServerError> {
        let supervisor = Supervisor::start(options)?;
        let (shared, port) = (supervisor.shared(), supervisor.port());
        let thread = std::thread::Builder::new().name("temporal-supervisor".to_owned()).spawn(|| supervisor.run());
        // Dropped with its closure when no thread can be had, a supervisor ends its server.
        let thread = thread.map_err(|error| DevServerError::NoThread { reason: error.to_string() })?;
        Ok(Self { shared, port, thread: Mutex::new(Some(thread)) })
    }

    /// The port on this machine. It does not change.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("{HOST}:{}", self.port)
    }

    /// How it stands.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// Its process id, while there is one.
    pub fn id(&self) -> Option<u32> {
        self.shared.id()
    }

    /// How often it was started again after it died.
    pub fn restarts(&self) -> u64 {
        self.shared.restarts()
    }

    /// Asks it to end, and kills it when it does not within [`Options::stop_timeout`]. Idempotent; returns when it is gone.
    pub fn stop(&self) {
        self.shared.ask_to_stop();
        let thread = self.thread.lock().expect("nobody panics while holding this").take();
        if let Some(thread) = thread {
            // A supervisor that panicked has dropped its server, which kills it.
            let _ = thread.join();
        }
    }
}

impl Drop for DevServer {
    fn drop(&mut self) {
        self.stop();
    }
}
