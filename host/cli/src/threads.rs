//! Two tokio runtimes: one for HTTP and the engine, one for guests, so that no guest can hold up an answer or a commit.

use std::future::Future;
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::exit::Fatal;

/// Threads of the control side: it waits far more than it works.
const CONTROL_THREADS: usize = 2;
/// At the end, what still runs has this long before it is cut off.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Runs `work` on the control side and ends every thread when it is done. `work` gets the guests' side.
pub(crate) fn run<T, F: Future<Output = Result<T, Fatal>>>(work: impl FnOnce(Handle) -> F) -> Result<T, Fatal> {
    let guests = runtime("guest", available_parallelism().map_or(1, usize::from))?;
    let control = runtime("control", CONTROL_THREADS)?;
    let result = control.block_on(work(guests.handle().clone()));
    guests.shutdown_timeout(LAST_WAIT);
    control.shutdown_timeout(LAST_WAIT);
    result
}

fn runtime(name: &'static str, threads: usize) -> Result<Runtime, Fatal> {
    Builder::new_multi_thread()
        .thread_name(name)
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|error| Fatal::setup(format!("the `{name}` threads cannot be started: {error}")))
}
