//! One attempt of a task, whichever engine wants it: it cannot outlive its time, cannot panic the engine, and gets and
//! answers large values whole.

mod judge;
mod payload;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use compozy_interpreter::{Failure, Timeout};
use compozy_plan::plan::TaskPolicy;
use tokio::runtime::Handle;

pub use self::judge::{Verdict, attempt_bound, bounded as bounded_failure, judge, timed_out, too_large};
use crate::port::{Signs, TaskCall, TaskExecutor, TaskReport};
use crate::vault::{Claim, Vault};

/// Runs one attempt to its end: the executor's answer, or what kept it from answering. `bound` is the timeout that
/// `call.timeout` belongs to. Large values are read from the vault before and put away after, on `runtime`; the claim keeps
/// them until the answer is recorded.
///
/// Cancel-safe: dropped, the executor's future is dropped too.
pub async fn run(
    executor: Arc<dyn TaskExecutor>,
    call: TaskCall,
    policy: &TaskPolicy,
    bound: Timeout,
    vault: &Arc<Vault>,
    runtime: &Handle,
) -> (TaskReport, Claim) {
    let (key, attempt, timeout, signs) = (call.task.clone(), call.attempt, call.timeout, call.signs.clone());
    let heartbeat = policy.heartbeat_ms.map(Duration::from_millis);
    // The executor's future is gone when this ends, so nothing of the attempt runs after its report.
    let work = bounded(catch_panic(payload::execute(vault, runtime, executor, call)), &signs, timeout, heartbeat);
    let mut report = match work.await {
        Ok(Ok(report)) => report,
        Ok(Err(panic)) => failed(panicked(&key, &panic)),
        Err(passed) => failed(timed_out(&key, attempt, policy, passed.unwrap_or(bound))),
    };
    // The work is done: from here on its time does not count.
    let claim = payload::put_away(vault, runtime, &key, &mut report).await;
    (report, claim)
}

/// A report without an answer and without an executor.
pub fn failed(failure: Failure) -> TaskReport {
    TaskReport { result: Err(failure), ran: None }
}

/// Runs a future until it ends, its time is over (`Err(None)`), or it gave no sign of life for too long.
async fn bounded<T>(
    work: impl Future<Output = T>,
    signs: &Signs,
    timeout: Duration,
    heartbeat: Option<Duration>,
) -> Result<T, Option<Timeout>> {
    let Some(heartbeat) = heartbeat else {
        return tokio::time::timeout(timeout, work).await.map_err(|_elapsed| None);
    };
    let mut work = std::pin::pin!(work);
    let mut over = std::pin::pin!(tokio::time::sleep(timeout));
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Ok(done),
            () = &mut over => return Err(None),
            () = signs.alive() => {}
            () = tokio::time::sleep(heartbeat) => return Err(Some(Timeout::Heartbeat)),
        }
    }
}

fn panicked(task: &str, panic: &str) -> Failure {
    Failure::permanent("TASK_PANICKED", format!("the executor of task `{task}` panicked: {panic}"))
}

/// Runs a future and turns a panic into its text.
async fn catch_panic<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(move |cx| {
        // After a panic the future is not polled again, so nobody sees what it left half done.
        match std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(panic) => Poll::Ready(Err(panic_text(panic.as_ref()))),
        }
    })
    .await
}

/// What a panic said.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}
