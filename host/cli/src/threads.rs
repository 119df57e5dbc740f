//! The tokio runtime of the control side: HTTP, the engine, this program. Guests have threads of their own.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Builder;

use crate::exit::Fatal;

/// Threads of the control side, at most: it waits far more than it works. One for every two processors, because a thread that
/// is woken up wakes the next, and on a small machine that one takes the place of a guest or of the journal's writer.
const CONTROL_THREADS_MAX: usize = 2;
/// At the end, what still runs has this long before it is cut off.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Runs `work` and ends every thread when it is done.
pub(crate) fn run<T>(work: impl Future<Output = Result<T, Fatal>>) -> Result<T, Fatal> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let control = Builder::new_multi_thread()
        .thread_name("control")
        .worker_threads((processors / 2).clamp(1, CONTROL_THREADS_MAX))
        .enable_all()
        .build()
        .map_err(|error| Fatal::setup(format!("the `control` threads cannot be started: {error}")))?;
    let result = control.block_on(work);
    control.shutdown_timeout(LAST_WAIT);
    result
}
