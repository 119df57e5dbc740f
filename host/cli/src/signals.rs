//! Signals: the first asks for an orderly end, the second for an immediate one.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, Fatal};

/// File larger than `ulimit -f`, on Linux. tokio has no name for it.
const SIGXFSZ: i32 = 25;

/// Catches the signals that end a process.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Held only so that a write beyond a file size limit becomes an error of that write and not the end of the process.
    _file_size: Signal,
}

impl Signals {
    /// Begins to catch them. Needs a tokio runtime.
    pub(crate) fn catch() -> Result<Self, Fatal> {
        let catch = |kind| signal(kind).map_err(|error| Fatal::setup(format!("signals cannot be caught: {error}")));
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
            _file_size: catch(SignalKind::from_raw(SIGXFSZ))?,
        })
    }

    /// Waits for the next signal and answers its name.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// From now on a further signal ends the process at once. The journal is made for that: nothing durable is lost.
    pub(crate) fn force_on_next(mut self) {
        tokio::spawn(async move {
            let name = self.next().await;
            tracing::warn!(signal = name, "second signal; ends at once");
            std::process::exit(Exit::Interrupted as i32);
        });
    }
}
