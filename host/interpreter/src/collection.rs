//! Collections: the items that they run over. How children run beside each other is in `fan`.

use compozy_plan::limits::COLLECTION_ITEMS_MAX;
use compozy_plan::plan::{Collection, Task};
use serde_json::Value;

use crate::event::TaskKey;
use crate::fault::{Fault, Place, shown};
use crate::machine::Machine;
use crate::scope::{Item, Site};
use crate::state::CollectionProgress;

impl<'p> Machine<'p, '_> {
    /// Finds the items of a collection.
    pub(crate) fn expand(
        &mut self,
        key: &TaskKey,
        task: &Task,
        collection: &'p Collection,
    ) -> Result<CollectionProgress, Fault> {
        let place = || Place::Task(key.clone());
        let site = Site::inside(key, &self.state.tasks[key], task);
        let items = match self.reading.opened(site.render(self.world(), &collection.items, "items")?) {
            Value::Array(items) => items,
            other => return Err(Fault::ItemsNotAList { place: place(), found: shown(&other) }),
        };
        let count = items.len();
        if count > COLLECTION_ITEMS_MAX {
            return Err(Fault::ItemsTooMany { place: place(), count, limit: COLLECTION_ITEMS_MAX });
        }
        let items = match &collection.filter {
            None => items,
            Some(filter) => {
                let mut kept = Vec::new();
                for (at, item) in items.into_iter().enumerate() {
                    let site = Site { item: Some(Item { collection, value: &item, at }), ..site };
                    if site.is_true(self.world(), filter, "filter")? {
                        kept.push(item);
                    }
                }
                kept
            }
        };
        let skipped = count - items.len();
        for item in &items {
            self.kept(&place(), "an item", item)?;
        }
        Ok(CollectionProgress { count: items.len(), items, skipped, ..CollectionProgress::default() })
    }
}
