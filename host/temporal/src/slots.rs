//! Places that tasks of many runs share (`concurrency`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use compozy_interpreter::{Failure, Slot};

/// A place that is taken until this is dropped.
pub trait TakenSlot: Send + Sync {}

/// Keeps count of places over everything that runs tasks of a project.
#[async_trait::async_trait]
pub trait Slots: Send + Sync + 'static {
    /// Takes a place; `None` when all are taken. Never waits for one. An error when nobody can say.
    async fn take(&self, slot: &Slot) -> Result<Option<Box<dyn TakenSlot>>, Failure>;
}

/// Places of one process, for an engine whose only tool worker is in it.
#[derive(Debug, Default)]
pub struct ProcessSlots {
    taken: Arc<Mutex<HashMap<String, u32>>>,
}

struct ProcessSlot {
    key: String,
    taken: Arc<Mutex<HashMap<String, u32>>>,
}

impl TakenSlot for ProcessSlot {}

impl Drop for ProcessSlot {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

#[async_trait::async_trait]
impl Slots for ProcessSlots {
    async fn take(&self, slot: &Slot) -> Result<Option<Box<dyn TakenSlot>>, Failure> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(slot.key.clone()).or_default();
        if *count >= slot.limit {
            return Ok(None);
        }
        *count += 1;
        Ok(Some(Box::new(ProcessSlot { key: slot.key.clone(), taken: Arc::clone(&self.taken) })))
    }
}

/// Takes all places that a task needs, or none.
pub(crate) async fn take_all(slots: &dyn Slots, wanted: &[Slot]) -> Result<Option<Vec<Box<dyn TakenSlot>>>, Failure> {
    let mut taken = Vec::with_capacity(wanted.len());
    for slot in wanted {
        match slots.take(slot).await? {
            Some(place) => taken.push(place),
            None => return Ok(None),
        }
    }
    Ok(Some(taken))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(key: &str, limit: u32) -> Slot {
        Slot { key: key.to_owned(), limit }
    }

    #[tokio::test]
    async fn all_places_or_none() {
        let slots = ProcessSlots::default();
        let first = take_all(&slots, &[slot("a", 2), slot("b", 1)]).await.unwrap();
        assert!(first.is_some());
        let second = take_all(&slots, &[slot("a", 2), slot("b", 1)]).await.unwrap();
        assert!(second.is_none(), "`b` is full");
        assert!(take_all(&slots, &[slot("a", 2)]).await.unwrap().is_some(), "the place of `a` was given back");
        drop(first);
        assert!(take_all(&slots, &[slot("b", 1)]).await.unwrap().is_some());
    }
}
