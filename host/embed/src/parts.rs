//! What was begun, in order, and how it ends in reverse.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use compozy_engine::port::Engine;
use compozy_runtime::Runtime;
use compozy_server::Lifecycle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::error::{StartError, StartProblem};

/// At the end, what still runs on the guests' threads has this long before it is cut off.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Something that was begun. Dropped without [`Part::stop`] it ends at once.
#[async_trait]
pub(crate) trait Part: Send + Sync {
    /// Ends it; work that runs has `drain` to end by itself.
    async fn stop(&mut self, drain: Duration);
}

/// What was begun, the first one first.
#[derive(Default)]
pub(crate) struct Parts(Vec<(&'static str, Box<dyn Part>)>);

impl Parts {
    pub(crate) fn push(&mut self, name: &'static str, part: impl Part + 'static) {
        self.0.push((name, Box::new(part)));
    }

    /// Ends everything, the last one first. What is left when the future is dropped can be stopped again.
    pub(crate) async fn stop(&mut self, drain: Duration) {
        while let Some((step, mut part)) = self.0.pop() {
            let begun = Instant::now();
            part.stop(drain).await;
            drop(part);
            tracing::info!(step, wall_ms = millis(begun), "stopped");
        }
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        while let Some(last) = self.0.pop() {
            drop(last);
        }
    }
}

/// Names each step of a start, times it, and knows which one did not end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress(Arc<Mutex<&'static str>>);

impl Progress {
    fn current(&self) -> std::sync::MutexGuard<'_, &'static str> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one step.
    pub(crate) async fn step<T, E: std::fmt::Display>(
        &self,
        step: &'static str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        *self.current() = step;
        let begun = Instant::now();
        let done = work.await;
        match &done {
            Ok(_) => tracing::info!(step, wall_ms = millis(begun), "started"),
            Err(error) => tracing::debug!(step, wall_ms = millis(begun), %error, "not started"),
        }
        done
    }

    /// Takes steps until a limit. `spent` of it has gone already.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        spent: Duration,
        work: impl Future<Output = Result<T, StartError>>,
    ) -> Result<T, StartError> {
        let left = limit.saturating_sub(spent);
        match tokio::time::timeout(left, work).await {
            Ok(done) => done,
            Err(_elapsed) => Err(StartProblem::TimedOut { step: *self.current(), limit }.into()),
        }
    }
}

fn millis(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// The loaded plugins.
pub(crate) struct Plugins(pub(crate) Arc<Runtime>);

impl Drop for Plugins {
    fn drop(&mut self) {
        self.0.stop();
    }
}

#[async_trait]
impl Part for Plugins {
    async fn stop(&mut self, _drain: Duration) {
        self.0.stop();
    }
}

/// The threads that run plugins, so that no guest can hold up an answer or a commit.
pub(crate) struct GuestThreads(Option<tokio::runtime::Runtime>);

impl GuestThreads {
    pub(crate) fn start(threads: usize) -> Result<(Self, tokio::runtime::Handle), StartProblem> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.thread_name("guest").worker_threads(threads).enable_all().build();
        let runtime = runtime.map_err(|error| StartProblem::Threads { reason: error.to_string() })?;
        let handle = runtime.handle().clone();
        Ok((Self(Some(runtime)), handle))
    }
}

impl Drop for GuestThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Nobody may wait here: it can be a thread of another runtime.
            runtime.shutdown_background();
        }
    }
}

#[async_trait]
impl Part for GuestThreads {
    async fn stop(&mut self, _drain: Duration) {
        let Some(runtime) = self.0.take() else { return };
        let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(LAST_WAIT)).await;
        if ended.is_err() {
            tracing::error!("the threads of the plugins could not be ended");
        }
    }
}

/// The engine, which calls plugins until it has drained.
pub(crate) struct EnginePart(pub(crate) Arc<dyn Engine>);

#[async_trait]
impl Part for EnginePart {
    async fn stop(&mut self, drain: Duration) {
        self.0.stop(drain).await;
    }
}

/// A task that goes on until it is stopped.
pub(crate) struct Background(pub(crate) JoinHandle<()>);

impl Drop for Background {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[async_trait]
impl Part for Background {
    async fn stop(&mut self, _drain: Duration) {
        self.0.abort();
        // Cut off, it answers with an error.
        drop((&mut self.0).await);
    }
}

/// The HTTP server.
pub(crate) struct Http {
    pub(crate) lifecycle: Lifecycle,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    pub(crate) server: JoinHandle<()>,
}

impl Drop for Http {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[async_trait]
impl Part for Http {
    async fn stop(&mut self, _drain: Duration) {
        self.lifecycle.stop();
        drop(self.stop.take());
        if (&mut self.server).await.is_err_and(|error| error.is_panic()) {
            tracing::error!("the HTTP server panicked");
        }
    }
}
