//! Tasks that a process does for the runs which it drives itself.
//!
//! A task goes to the queue of its plugin, where whoever has the plugin takes it. Where the process that drives the run has
//! it, and a free place for it, the task goes to the queue of the run instead: Temporal then hands it out with the answer to
//! the workflow task (an eager activity), without a way through a queue. Whoever gets such a task and cannot do it now
//! says so at once, and the run gives it to the plugin's queue.
//!
//! Only the name of a queue depends on this, which no replay compares: a replay in another process may choose otherwise.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places of a plugin that stay for its queue, so that tasks of other processes do not wait for those of this one.
const KEPT_FREE: usize = 4;
/// How long a task of a plugin's queue waits for a place that a run of this process took from it. Far less than an
/// attempt may say nothing.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// How long the runs of this process use the plugins' queues alone after a task of theirs came to a process without its
/// plugin: the server has no eager activities then, or not now.
const MISLED: Duration = Duration::from_mins(1);

/// Tasks that one workflow task may keep: the library reserves no more places for it.
pub(crate) const KEPT_MAX: usize = 3;

/// The plugins that this process runs tasks of, and the places of each.
#[derive(Debug, Default)]
pub(crate) struct Places {
    by_plugin: BTreeMap<String, Arc<Semaphore>>,
    misled: Mutex<Option<Instant>>,
}

/// Why a process does not do a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// It does not have the plugin.
    NotServed,
    /// All places of the plugin are taken.
    Full,
}

impl Places {
    pub(crate) fn new(plugins: impl IntoIterator<Item = (String, usize)>) -> Self {
        let places = |(plugin, places)| (plugin, Arc::new(Semaphore::new(places)));
        Self { by_plugin: plugins.into_iter().map(places).collect(), misled: Mutex::default() }
    }

    /// Whether a run that is driven here should keep a task of this plugin.
    pub(crate) fn keeps(&self, plugin: &str) -> bool {
        let room = self.by_plugin.get(plugin).is_some_and(|places| places.available_permits() > KEPT_FREE);
        room && self.misled().is_none_or(|at| at.elapsed() > MISLED)
    }

    /// A task that a run of this process kept came to one without its plugin.
    pub(crate) fn was_misled(&self) {
        *self.misled.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn misled(&self) -> Option<Instant> {
        *self.misled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a task that a run kept: at once, or not at all.
    pub(crate) fn take_now(&self, plugin: &str) -> Result<OwnedSemaphorePermit, NoPlace> {
        let places = self.by_plugin.get(plugin).ok_or(NoPlace::NotServed)?;
        Arc::clone(places).try_acquire_owned().map_err(|_| NoPlace::Full)
    }

    /// A place for a task of the plugin's queue. Cancel-safe.
    pub(crate) async fn take(&self, plugin: &str) -> Result<OwnedSemaphorePermit, NoPlace> {
        let places = self.by_plugin.get(plugin).ok_or(NoPlace::NotServed)?;
        match tokio::time::timeout(WAIT_MAX, Arc::clone(places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(NoPlace::Full),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn runs_keep_tasks_while_there_are_places_to_spare_and_never_take_more_than_there_are() {
        let places = Places::new([("echo".to_owned(), KEPT_FREE + 2)]);
        let mut taken = Vec::new();
        for left in [true, true, false] {
            assert_eq!(places.keeps("echo"), left, "{} taken", taken.len());
            taken.push(places.take_now("echo").unwrap());
        }
        while let Ok(place) = places.take_now("echo") {
            taken.push(place);
        }
        assert_eq!(taken.len(), KEPT_FREE + 2);
        assert_eq!(places.take("echo").await.unwrap_err(), NoPlace::Full);
        let mut waiting = Box::pin(places.take("echo"));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        taken.pop();
        // Who waits goes before who would take it at once.
        assert_eq!(places.take_now("echo").unwrap_err(), NoPlace::Full);
        drop(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn what_is_not_served_is_not_kept_and_a_process_that_was_misled_keeps_nothing() {
        let places = Places::new([("echo".to_owned(), 64)]);
        assert!(!places.keeps("weather"));
        assert_eq!(places.take_now("weather").unwrap_err(), NoPlace::NotServed);
        assert_eq!(places.take("weather").await.unwrap_err(), NoPlace::NotServed);
        places.was_misled();
        assert!(!places.keeps("echo"));
        // What comes nevertheless is done.
        assert!(places.take_now("echo").is_ok());
    }
}
