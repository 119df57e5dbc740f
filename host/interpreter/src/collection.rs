//! Collections: one task for each item of a list, several at once.

use compozy_plan::limits::COLLECTION_ITEMS_MAX;
use compozy_plan::plan::{Collection, Strategy, Task, TaskKind};
use serde_json::{Value, json};

use crate::event::TaskKey;
use crate::fault::{Fault, Place, shown};
use crate::machine::{End, Entry, Machine};
use crate::scope::{Item, Site};
use crate::state::{ChildFailure, CollectionProgress, TaskState};

impl<'p> Machine<'p, '_> {
    /// Finds the items of a collection that has just begun.
    pub(crate) fn expand(&mut self, key: &TaskKey, task: &Task, collection: &'p Collection) -> Result<(), Fault> {
        let place = || Place::Task(key.clone());
        let site = Site::inside(key, &self.state.tasks[key], task);
        let items = match site.render(self.plan, self.state, &collection.items, "items")? {
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
                    if site.is_true(self.plan, self.state, filter, "filter")? {
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
        self.state.tasks[key].progress =
            Some(CollectionProgress { count: items.len(), items, skipped, ..CollectionProgress::default() });
        Ok(())
    }

    /// Begins the next child if one may begin; ends the collection when none runs and none will begin.
    pub(crate) fn fill(&mut self, key: &TaskKey) -> Result<(), Fault> {
        let task = self.planned(key)?;
        let TaskKind::Collection(collection) = &task.kind else {
            return Err(Fault::mismatch(key, "the collection"));
        };
        let entry = &mut self.state.tasks[key];
        let Some(progress) = entry.progress.as_mut().filter(|_| !entry.status.is_terminal()) else {
            return Ok(());
        };
        let stopped = progress.first_failure.is_some() && collection.strategy == Strategy::WaitAll;
        let exhausted = stopped || progress.started >= progress.count;
        if !exhausted && progress.running < collection.parallel.max(1) as usize {
            let at = progress.started;
            progress.started += 1;
            progress.running += 1;
            self.push_fill(key);
            self.push(Entry { parent: Some(key.clone()), task: &collection.task, at, with: None });
        } else if exhausted && progress.running == 0 {
            self.settle(key, task, collection.strategy);
        }
        Ok(())
    }

    /// Counts a child that ended.
    pub(crate) fn child_ended(&mut self, collection: &TaskKey, at: usize, end: End) {
        let Some(progress) = &mut self.state.tasks[collection].progress else {
            return;
        };
        progress.running = progress.running.saturating_sub(1);
        match end {
            End::Success { .. } => progress.succeeded += 1,
            End::Failure(failure) => {
                if progress.first_failure.as_ref().is_none_or(|first| at < first.at) {
                    progress.first_failure = Some(ChildFailure { at, failure });
                }
            }
        }
        self.push_fill(collection);
    }

    /// Ends a collection of which no child runs.
    fn settle(&mut self, key: &TaskKey, task: &'p Task, strategy: Strategy) {
        let Some(progress) = &mut self.state.tasks[key].progress else {
            return;
        };
        let (count, skipped) = (progress.count, progress.skipped);
        let failed = match strategy {
            Strategy::WaitAll => progress.first_failure.take(),
            Strategy::BestEffort if progress.succeeded == 0 => progress.first_failure.take(),
            Strategy::BestEffort => None,
        };
        match (failed, strategy) {
            (Some(first), Strategy::WaitAll) => self.fail(key, task, first.failure.clone(), first.failure),
            (Some(first), Strategy::BestEffort) => {
                let (first, code) = (first.failure.message, first.failure.code);
                self.fail_by(
                    key,
                    task,
                    Fault::AllChildrenFailed { place: Place::Task(key.clone()), count, first, code },
                );
            }
            (None, _) => {
                let outputs: Vec<Value> = (0..count).map(|at| self.child_output(key, at)).collect();
                let answer = json!({ "outputs": outputs, "item_count": count, "skipped_count": skipped });
                self.conclude(key, task, Some(&answer), None);
            }
        }
    }

    fn child_output(&self, collection: &TaskKey, at: usize) -> Value {
        let child: Option<&TaskState> = self.state.tasks.get(&collection.item(at));
        child.and_then(|child| child.output.clone()).unwrap_or(Value::Null)
    }
}
