//! From callers that wait to work that does not: one thread with a runtime of its own for each store.

use std::future::Future;
use std::io;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Ends with its last operation.
#[derive(Debug)]
pub(crate) struct Bridge {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Bridge {
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().thread_name("blobs").build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("blobs".to_owned()).spawn(move || {
            // It ends when the sender is dropped.
            drop(runtime.block_on(stopped));
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Waits for the work, but not longer than the limit; then the work is dropped and the answer is `None`.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (send, answer) = mpsc::sync_channel(1);
        self.handle.spawn(async move {
            if let Ok(done) = tokio::time::timeout(limit, work).await {
                // The caller waits, and takes it.
                let _ = send.send(done);
            }
        });
        answer.recv().ok()
    }

    /// Begins work that sends what it finds; a page waits until the one before is taken. It ends when nobody takes any more.
    pub(crate) fn stream<T, F>(&self, work: impl FnOnce(tokio::sync::mpsc::Sender<T>) -> F) -> Pages<T>
    where
        T: Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (send, receive) = tokio::sync::mpsc::channel(1);
        self.handle.spawn(work(send));
        Pages(receive)
    }
}

/// Pages that are still to come.
pub(crate) struct Pages<T>(tokio::sync::mpsc::Receiver<T>);

impl<T> Pages<T> {
    /// The next one; `None` after the last.
    pub(crate) fn next(&mut self, bridge: &Bridge, limit: Duration) -> Result<Option<T>, TimedOut>
    where
        T: Send + 'static,
    {
        // The receiver goes over to the other side and comes back with the page.
        let (_, empty) = tokio::sync::mpsc::channel(1);
        let mut receive = std::mem::replace(&mut self.0, empty);
        let page = bridge.run(limit, async move {
            let page = receive.recv().await;
            (page, receive)
        });
        let Some((page, receive)) = page else { return Err(TimedOut) };
        self.0 = receive;
        Ok(page)
    }
}

/// It took longer than its limit.
#[derive(Debug)]
pub(crate) struct TimedOut;

impl Drop for Bridge {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of a blob store panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_takes_too_long_is_given_up() {
        let bridge = Bridge::start().unwrap();
        assert_eq!(bridge.run(Duration::from_mins(1), async { 5 }), Some(5));
        assert_eq!(bridge.run(Duration::from_millis(20), std::future::pending::<()>()), None);
        assert_eq!(bridge.run(Duration::from_mins(1), async { 6 }), Some(6), "the next one goes on");
    }

    #[test]
    fn it_works_on_a_thread_of_another_runtime() {
        let other = Builder::new_current_thread().build().unwrap();
        let bridge = Bridge::start().unwrap();
        assert_eq!(other.block_on(async { bridge.run(Duration::from_mins(1), async { 7 }) }), Some(7));
    }
}
