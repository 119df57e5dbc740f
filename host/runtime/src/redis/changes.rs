//! Listening to the channel of a plugin while somebody waits there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use super::backoff::Backoff;
use super::connect::listen;
use super::settings::Target;

/// Messages that a receiver may be behind; who is slower loses the oldest, as anybody may.
const BEHIND: usize = 1_024;

/// The listener of one plugin.
#[derive(Debug)]
pub(super) struct Changes(Arc<Listener>);

#[derive(Debug)]
struct Listener {
    target: Target,
    channel: String,
    allowed: u64,
    topics: broadcast::Sender<Arc<str>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Listener {
    fn task(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Changes {
    pub(super) fn new(target: Target, channel: String, allowed: u64) -> Self {
        let topics = broadcast::Sender::new(BEHIND);
        Self(Arc::new(Listener { target, channel, allowed, topics, task: Mutex::default() }))
    }

    /// A receiver of topics; the first one makes the connection.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<str>> {
        let mut task = self.0.task();
        let receiver = self.0.topics.subscribe();
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            *task = Some(tokio::spawn(run(Arc::clone(&self.0))));
        }
        receiver
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        if let Some(task) = self.0.task().take() {
            task.abort();
        }
    }
}

/// Listens until nobody waits any more.
async fn run(listener: Arc<Listener>) {
    loop {
        tokio::select! {
            () = listener.topics.closed() => {}
            () = listen_for_ever(&listener) => {}
        }
        let mut task = listener.task();
        // Somebody may have come between.
        if listener.topics.receiver_count() == 0 {
            *task = None;
            return;
        }
    }
}

async fn listen_for_ever(listener: &Listener) {
    let Listener { target, channel, allowed, topics, .. } = listener;
    let mut backoff = Backoff::default();
    loop {
        match listen(target, channel, *allowed).await {
            Ok(mut connection) => {
                let begun = std::time::Instant::now();
                let mut messages = connection.on_message();
                while let Some(message) = messages.next().await {
                    if let Ok(topic) = std::str::from_utf8(message.get_payload_bytes()) {
                        // Nobody listening is no failure.
                        let _ = topics.send(Arc::from(topic));
                    }
                }
                backoff.lived(begun.elapsed());
            }
            Err(error) => {
                tracing::debug!(endpoint = %target.endpoint, %error, "nobody listens to changes on Redis; it is tried again");
            }
        }
        tokio::time::sleep(backoff.next()).await;
    }
}
