//! Lists of tasks, the workflow's own and those of composites: what comes after a task.

use compozy_plan::plan::{Task, Transition};
use serde_json::Value;

use crate::event::{Failure, TaskKey};
use crate::fault::Fault;
use crate::locate::{self, Children};
use crate::machine::{End, Entry, Machine};
use crate::scope::Site;
use crate::state::Status;

impl<'p> Machine<'p, '_> {
    /// Goes on after a task that ended: to the next one of its list, or to what its container says.
    pub(crate) fn leave(&mut self, key: &TaskKey, task: &'p Task, end: End) -> Result<(), Fault> {
        let entry = &self.state.tasks[key];
        let (parent, at, skipped) = (entry.parent.clone(), entry.at, entry.skipped);
        if self.is_void(parent.as_ref()) {
            return Ok(());
        }
        let children = locate::children(self.plan, self.state, parent.as_ref())
            .ok_or_else(|| Fault::mismatch(key, "the container of the task"))?;
        let tasks = match (children, &parent) {
            (Children::List(tasks), _) => tasks,
            (Children::Each(_) | Children::Beside(_), Some(fan)) => return self.child_ended(fan, key, at, end),
            (Children::Processor(_), Some(wait)) => return self.processed(wait, key, end),
            (_, None) => return Err(Fault::mismatch(key, "the container of the task")),
        };
        let (transition, target) = match end {
            // As if it were not there: whatever it says of what comes next does not count.
            End::Success { .. } if skipped => (None, following(tasks, at)),
            End::Success { route } => {
                let transition = task.on_success.as_ref();
                (transition, after_success(key, task, tasks, at, route.as_deref())?)
            }
            End::Failure { route: Some(route), .. } => (None, Some(place_of(key, tasks, &route)?)),
            End::Failure { failure, route: None } => {
                let Some(transition) = &task.on_error else {
                    return self.list_failed(parent.as_ref(), failure);
                };
                (Some(transition), after_failure(key, task, tasks, at, transition)?)
            }
        };
        let Some(at) = target else {
            return self.list_ended(parent.as_ref(), key);
        };
        let with = transition.and_then(|transition| self.given(key, task, transition));
        self.push(Entry { parent, task: &tasks[at], at, with });
        Ok(())
    }

    /// The arguments that a transition gives to the next task.
    fn given(&self, key: &TaskKey, task: &'p Task, transition: &'p Transition) -> Option<Result<Value, Failure>> {
        let template = transition.with.as_ref()?;
        let entry = &self.state.tasks[key];
        let field = if entry.status == Status::Success { "on_success.with" } else { "on_error.with" };
        let site = Site { output: entry.output.as_ref(), ..Site::inside(key, entry, task) };
        Some(site.render(self.world(), template, field).map_err(Failure::from))
    }

    /// A list came to its end with the task `last`.
    fn list_ended(&mut self, container: Option<&TaskKey>, last: &TaskKey) -> Result<(), Fault> {
        let Some(composite) = container else {
            let output = self.state.tasks[last].output.clone().unwrap_or(Value::Null);
            self.succeed(output);
            return Ok(());
        };
        let task = self.planned(composite)?;
        let Some(Children::List(tasks)) = Children::of(task) else {
            return Err(Fault::mismatch(composite, "the composite"));
        };
        let mut output = serde_json::Map::with_capacity(tasks.len());
        for child in tasks {
            let latest = self.state.latest(&TaskKey::of(Some(composite), &child.id));
            if let Some(value) = self.state.tasks.get(&latest).and_then(|child| child.output.clone()) {
                output.insert(child.id.clone(), value);
            }
        }
        self.conclude(composite, task, Some(&Value::Object(output)), None);
        Ok(())
    }

    /// A task of a list failed and nothing in the list handles it.
    fn list_failed(&mut self, container: Option<&TaskKey>, failure: Failure) -> Result<(), Fault> {
        match container {
            Some(composite) => {
                let task = self.planned(composite)?;
                self.fail(composite, task, failure.clone(), failure);
            }
            None => self.finish(Status::Failed, None, Some(failure)),
        }
        Ok(())
    }
}

/// The place after a task that succeeded; `None` ends the list.
///
/// A router's choice comes first, then `final`, then `on_success.next`, then the order of the list.
fn after_success(
    key: &TaskKey,
    task: &Task,
    tasks: &[Task],
    at: usize,
    route: Option<&str>,
) -> Result<Option<usize>, Fault> {
    let next = task.on_success.as_ref().and_then(|transition| transition.next.as_deref());
    match (route, next) {
        (Some(route), _) => place_of(key, tasks, route).map(Some),
        (None, _) if task.is_final => Ok(None),
        (None, Some(next)) => place_of(key, tasks, next).map(Some),
        (None, None) => Ok(following(tasks, at)),
    }
}

/// The place after a task that failed and has an `on_error`; `None` ends the list.
fn after_failure(
    key: &TaskKey,
    task: &Task,
    tasks: &[Task],
    at: usize,
    on_error: &Transition,
) -> Result<Option<usize>, Fault> {
    match &on_error.next {
        Some(next) => place_of(key, tasks, next).map(Some),
        None if task.is_final => Ok(None),
        None => Ok(following(tasks, at)),
    }
}

fn following(tasks: &[Task], at: usize) -> Option<usize> {
    (at + 1 < tasks.len()).then_some(at + 1)
}

fn place_of(from: &TaskKey, tasks: &[Task], id: &str) -> Result<usize, Fault> {
    tasks
        .iter()
        .position(|task| task.id == id)
        .ok_or_else(|| Fault::mismatch(from, &format!("the task `{id}` that comes after it")))
}
