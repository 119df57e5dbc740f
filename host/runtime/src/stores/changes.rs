//! News: who waits for something is woken when somebody says that it has changed.
//!
//! News is a hint and never the truth: it can come for nothing, and news from other hosts can be lost. Whoever is woken looks again, and
//! looks from time to time anyway. A topic that nobody waits for costs nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The topic of a stream of events.
pub(super) fn stream_topic(stream: &str) -> String {
    format!("events/{stream}")
}

/// The topic of a lock.
pub(super) fn lock_topic(name: &str) -> String {
    format!("locks/{name}")
}

/// Topics that somebody waits for.
#[derive(Debug, Default)]
pub struct Changes {
    topics: Mutex<HashMap<String, watch::Sender<()>>>,
    /// How many listeners there are, so that news without listeners takes no lock and makes no string.
    listeners: AtomicUsize,
}

impl Changes {
    fn topics(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<()>>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes everybody who listens to the topic. The topic is only made when somebody listens at all.
    pub(super) fn announce(&self, topic: impl FnOnce() -> String) {
        if self.listeners.load(Ordering::SeqCst) > 0
            && let Some(sender) = self.topics().get(&topic())
        {
            sender.send_replace(());
        }
    }

    /// Hears everything that is said about the topic from now on.
    pub(super) fn listen(self: &Arc<Self>, topic: String) -> Listener {
        self.listeners.fetch_add(1, Ordering::SeqCst);
        let receiver = self.topics().entry(topic.clone()).or_insert_with(|| watch::Sender::new(())).subscribe();
        Listener { changes: Arc::clone(self), topic, receiver }
    }

    #[cfg(test)]
    fn topic_count(&self) -> usize {
        self.topics().len()
    }
}

/// One who listens.
#[derive(Debug)]
pub(super) struct Listener {
    changes: Arc<Changes>,
    topic: String,
    receiver: watch::Receiver<()>,
}

impl Listener {
    /// Ends when there is news that this listener has not heard. Cancel safe.
    pub(super) async fn changed(&mut self) {
        // The sender lives as long as its listeners.
        let _ = self.receiver.changed().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut topics = self.changes.topics();
        // This receiver is still counted.
        if topics.get(&self.topic).is_some_and(|sender| sender.receiver_count() <= 1) {
            topics.remove(&self.topic);
        }
        self.changes.listeners.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn hears(listener: &mut Listener) -> bool {
        tokio::time::timeout(Duration::from_millis(50), listener.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn news_is_heard_by_all_who_listen_to_the_topic_and_by_nobody_else() {
        let changes = Arc::new(Changes::default());
        let mut first = changes.listen("a".to_owned());
        let mut second = changes.listen("a".to_owned());
        let mut other = changes.listen("b".to_owned());
        changes.announce(|| "a".to_owned());
        assert!(hears(&mut first).await && hears(&mut second).await);
        assert!(!hears(&mut other).await, "another topic");
        assert!(!hears(&mut first).await, "the same news is heard once");
    }

    #[tokio::test]
    async fn news_between_listening_and_waiting_is_not_lost() {
        let changes = Arc::new(Changes::default());
        let mut listener = changes.listen("a".to_owned());
        changes.announce(|| "a".to_owned());
        changes.announce(|| "a".to_owned());
        assert!(hears(&mut listener).await);
    }

    #[tokio::test]
    async fn topics_without_listeners_are_forgotten() {
        let changes = Arc::new(Changes::default());
        changes.announce(|| panic!("nobody listens, so nobody asks for the topic"));
        let first = changes.listen("a".to_owned());
        let second = changes.listen("a".to_owned());
        drop(first);
        assert_eq!(changes.topic_count(), 1);
        drop(second);
        assert_eq!(changes.topic_count(), 0);
    }
}
