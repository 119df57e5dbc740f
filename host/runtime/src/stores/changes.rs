//! News: who waits for something is woken when somebody says that it has changed.
//!
//! News is a hint and never the truth: it can come for nothing, and news from other hosts can be lost. Whoever is woken looks again, and
//! looks from time to time anyway. A topic that nobody waits for costs nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

/// The topic of a stream of events.
pub(super) fn stream_topic(stream: &str) -> String {
    format!("events/{stream}")
}

/// The topic of a lock.
pub(super) fn lock_topic(name: &str) -> String {
    format!("locks/{name}")
}

/// How long news from other hosts is still listened to when nobody waits any more: who waited once often waits again.
const LINGER: Duration = Duration::from_secs(30);

/// Where news from other hosts comes from. Each call answers a receiver of topics.
pub(crate) type Remote = Box<dyn Fn() -> broadcast::Receiver<Arc<str>> + Send + Sync>;

/// Topics that somebody waits for.
#[derive(Default)]
pub struct Changes {
    topics: Mutex<HashMap<String, watch::Sender<()>>>,
    /// How many listeners there are, so that news without listeners takes no lock and makes no string.
    listeners: AtomicUsize,
    /// Set once, before anybody listens.
    remotes: OnceLock<Vec<Remote>>,
    /// Runs while somebody waits, one for each remote.
    forwarders: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").field("listeners", &self.listeners).finish_non_exhaustive()
    }
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

    /// Whether nobody waits; if so, the next listener starts the forwarding anew.
    fn idle(&self) -> bool {
        // Under the lock of `forward`, which counts its listener before it looks.
        let mut forwarders = self.forwarders.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = self.listeners.load(Ordering::SeqCst) == 0;
        if idle {
            forwarders.clear();
        }
        idle
    }

    fn announce_all(&self) {
        for sender in self.topics().values() {
            sender.send_replace(());
        }
    }

    /// Listens to other hosts too, while somebody waits.
    pub(crate) fn connect(&self, remotes: Vec<Remote>) {
        let set = self.remotes.set(remotes);
        debug_assert!(set.is_ok(), "set once");
    }

    /// Makes sure that news from other hosts is heard.
    fn forward(self: &Arc<Self>) {
        let remotes = self.remotes.get().map_or(&[][..], Vec::as_slice);
        if remotes.is_empty() {
            return;
        }
        let mut forwarders = self.forwarders.lock().unwrap_or_else(PoisonError::into_inner);
        if forwarders.iter().any(|forwarder| !forwarder.is_finished()) {
            return;
        }
        let forward = |remote: &Remote| tokio::spawn(forward(Arc::downgrade(self), remote()));
        *forwarders = remotes.iter().map(forward).collect();
    }

    /// Hears everything that is said about the topic from now on.
    pub(super) fn listen(self: &Arc<Self>, topic: String) -> Listener {
        self.listeners.fetch_add(1, Ordering::SeqCst);
        self.forward();
        let receiver = self.topics().entry(topic.clone()).or_insert_with(|| watch::Sender::new(())).subscribe();
        Listener { changes: Arc::clone(self), topic, receiver }
    }

    #[cfg(test)]
    fn topic_count(&self) -> usize {
        self.topics().len()
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        for forwarder in self.forwarders.get_mut().unwrap_or_else(PoisonError::into_inner) {
            forwarder.abort();
        }
    }
}

/// Passes news from other hosts on, until nobody has waited for a while.
async fn forward(changes: Weak<Changes>, mut topics: broadcast::Receiver<Arc<str>>) {
    loop {
        let heard = tokio::time::timeout(LINGER, topics.recv()).await;
        let Some(changes) = changes.upgrade() else { return };
        match heard {
            Ok(Ok(topic)) => changes.announce(|| topic.to_string()),
            // Some were lost, and nobody knows which.
            Ok(Err(broadcast::error::RecvError::Lagged(_))) => changes.announce_all(),
            Ok(Err(broadcast::error::RecvError::Closed)) => return,
            Err(_) if changes.idle() => return,
            Err(_) => {}
        }
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
    async fn news_from_other_hosts_is_heard_while_somebody_waits() {
        let sender: broadcast::Sender<Arc<str>> = broadcast::Sender::new(4);
        let changes = Arc::new(Changes::default());
        let remote = sender.clone();
        changes.connect(vec![Box::new(move || remote.subscribe())]);
        assert_eq!(sender.receiver_count(), 0, "nobody waits yet");
        let mut listener = changes.listen("a".to_owned());
        sender.send("a".into()).unwrap();
        assert!(hears(&mut listener).await);
        // More than the channel holds: the topic may be among those that were lost.
        for _ in 0..20 {
            sender.send("b".into()).unwrap();
        }
        assert!(hears(&mut listener).await, "in doubt, everybody is woken");
        drop((listener, changes));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(sender.receiver_count(), 0, "and the listening ends");
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
