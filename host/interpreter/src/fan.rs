//! Children beside each other: those of a collection, one for each item, and those of a parallel.

use compozy_plan::plan::{Parallel, Strategy, Task, TaskKind};
use serde_json::{Map, Value, json};

use crate::event::{Failure, TaskKey};
use crate::fault::{Fault, Place};
use crate::locate::Children;
use crate::machine::{End, Entry, Machine};
use crate::state::{ChildFailure, CollectionProgress, Status, TaskState};

/// What both kinds have in common.
#[derive(Clone, Copy)]
struct Fan<'p> {
    children: Children<'p>,
    parallel: u32,
    strategy: Strategy,
}

impl<'p> Fan<'p> {
    fn of(key: &TaskKey, task: &'p Task) -> Result<Self, Fault> {
        match &task.kind {
            TaskKind::Collection(fan) => {
                Ok(Self { children: Children::Each(fan), parallel: fan.parallel, strategy: fan.strategy })
            }
            TaskKind::Parallel(fan) => {
                Ok(Self { children: Children::Beside(&fan.tasks), parallel: fan.parallel, strategy: fan.strategy })
            }
            _ => Err(Fault::mismatch(key, "the collection or parallel")),
        }
    }

    /// The key of the first visit of the child at a place.
    fn child(self, key: &TaskKey, at: usize) -> Option<TaskKey> {
        match self.children {
            Children::Each(_) => Some(key.item(at)),
            _ => self.children.get(at).map(|task| TaskKey::of(Some(key), &task.id)),
        }
    }
}

impl<'p> Machine<'p, '_> {
    /// Prepares the children of a parallel.
    pub(crate) fn spread(&mut self, key: &TaskKey, parallel: &Parallel) {
        let progress = CollectionProgress { count: parallel.tasks.len(), ..CollectionProgress::default() };
        self.state.tasks[key].progress = Some(progress);
    }

    /// Begins the next child if one may begin; ends the whole when no child runs and none will begin.
    pub(crate) fn fill(&mut self, key: &TaskKey) -> Result<(), Fault> {
        let task = self.planned(key)?;
        let fan = Fan::of(key, task)?;
        let paused = self.state.paused.is_some();
        let entry = &mut self.state.tasks[key];
        let Some(progress) = entry.progress.as_mut().filter(|_| !entry.status.is_terminal()) else {
            return Ok(());
        };
        let stopped = match fan.strategy {
            Strategy::WaitAll | Strategy::FailFast => progress.first_failure.is_some(),
            Strategy::Race => progress.winner.is_some(),
            Strategy::BestEffort => false,
        };
        let exhausted = stopped || (progress.started >= progress.count && progress.again.is_empty());
        if !exhausted {
            if paused || progress.running >= fan.parallel.max(1) as usize {
                return Ok(());
            }
            progress.running += 1;
            let again = progress.again.pop();
            let at = again.unwrap_or(progress.started);
            if again.is_none() {
                progress.started += 1;
            }
            self.push_fill(key);
            return self.begin_child(key, fan, at, again.is_some());
        }
        if progress.running == 0 {
            self.settle(key, task, fan);
        }
        Ok(())
    }

    fn begin_child(&mut self, key: &TaskKey, fan: Fan<'p>, at: usize, again: bool) -> Result<(), Fault> {
        // A child that was held back by a pause has not begun.
        let begun = fan.child(key, at).map(|first| self.state.latest(&first));
        if again && let Some(child) = begun.filter(|child| self.state.tasks.contains_key(child)) {
            return self.revive(&child);
        }
        let task = fan.children.get(at).ok_or_else(|| Fault::mismatch(key, "one of its children"))?;
        self.push(Entry { parent: Some(key.clone()), task, at, with: None });
        Ok(())
    }

    /// Counts a child that ended, and cancels the others when that decides the whole.
    pub(crate) fn child_ended(&mut self, key: &TaskKey, child: &TaskKey, at: usize, end: End) -> Result<(), Fault> {
        let fan = Fan::of(key, self.planned(key)?)?;
        let skipped = self.state.tasks[child].skipped;
        let Some(progress) = &mut self.state.tasks[key].progress else {
            return Ok(());
        };
        progress.running = progress.running.saturating_sub(1);
        let mut decided = None;
        match end {
            End::Success { .. } if skipped => {}
            End::Success { .. } => {
                progress.succeeded += 1;
                if fan.strategy == Strategy::Race {
                    progress.winner = Some(at);
                    decided = Some(format!("task `{child}` won the race"));
                }
            }
            End::Failure { failure, .. } => {
                if progress.first_failure.as_ref().is_none_or(|first| at < first.at) {
                    progress.first_failure = Some(ChildFailure { at, failure });
                }
                if fan.strategy == Strategy::FailFast {
                    decided = Some(format!("task `{child}` failed, and `{key}` fails with its first failure"));
                }
            }
        }
        if let Some(reason) = decided {
            progress.running = 0;
            self.cancel_children(key, &Failure::permanent("CANCELED", reason));
        }
        self.push_fill(key);
        Ok(())
    }

    /// Ends a collection or a parallel of which no child runs.
    fn settle(&mut self, key: &TaskKey, task: &'p Task, fan: Fan<'p>) {
        let Some(progress) = &mut self.state.tasks[key].progress else {
            return;
        };
        let (count, skipped, winner) = (progress.count, progress.skipped, progress.winner);
        let all = matches!(fan.strategy, Strategy::WaitAll | Strategy::FailFast);
        let failed = if all || progress.succeeded == 0 { progress.first_failure.take() } else { None };
        match failed {
            Some(first) if all => self.fail(key, task, first.failure.clone(), first.failure),
            Some(first) => {
                let (first, code) = (first.failure.message, first.failure.code);
                let place = Place::Task(key.clone());
                self.fail_by(key, task, Fault::AllChildrenFailed { place, count, first, code });
            }
            None => {
                let answer = match fan.children {
                    Children::Each(_) => self.outputs_of_items(key, count, skipped, winner),
                    _ => self.outputs_by_id(key, fan, count),
                };
                self.conclude(key, task, Some(&answer), None);
            }
        }
    }

    fn outputs_of_items(&self, key: &TaskKey, count: usize, skipped: usize, winner: Option<usize>) -> Value {
        let output = |at| self.ended_well(&key.item(at)).and_then(|child| child.output.clone());
        let outputs: Vec<Value> = (0..count).map(|at| output(at).unwrap_or(Value::Null)).collect();
        let mut answer = json!({ "outputs": outputs, "item_count": count, "skipped_count": skipped });
        if let Some(winner) = winner {
            answer["winner"] = Value::from(winner);
        }
        answer
    }

    fn outputs_by_id(&self, key: &TaskKey, fan: Fan<'_>, count: usize) -> Value {
        let mut outputs = Map::new();
        for at in 0..count {
            let (Some(task), Some(child)) = (fan.children.get(at), fan.child(key, at)) else { continue };
            if let Some(output) = self.ended_well(&child).and_then(|child| child.output.clone()) {
                outputs.insert(task.id.clone(), output);
            }
        }
        Value::Object(outputs)
    }

    /// The latest visit of a task, if it succeeded.
    fn ended_well(&self, first: &TaskKey) -> Option<&TaskState> {
        self.state.tasks.get(&self.state.latest(first)).filter(|child| child.status == Status::Success)
    }

    /// Lets a collection or a parallel that ended badly go on: the children that did not succeed begin again.
    pub(crate) fn refill(&mut self, key: &TaskKey, task: &'p Task) -> Result<(), Fault> {
        let fan = Fan::of(key, task)?;
        let old = self.state.tasks[key].progress.clone().unwrap_or_default();
        let mut progress = match &task.kind {
            // The same items as before: they depend on nothing that a retry changes.
            TaskKind::Collection(collection) => self.expand(key, task, collection)?,
            _ => CollectionProgress { count: old.count, ..CollectionProgress::default() },
        };
        progress.started = old.started.min(progress.count);
        for at in (0..progress.started).rev() {
            let Some(first) = fan.child(key, at) else { continue };
            match self.ended_well(&first) {
                Some(child) => progress.succeeded += usize::from(!child.skipped),
                None => progress.again.push(at),
            }
        }
        self.state.tasks[key].progress = Some(progress);
        self.push_fill(key);
        Ok(())
    }
}
