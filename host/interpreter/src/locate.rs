//! From a place in the run's state to the same place in the plan.

use compozy_plan::plan::{Collection, Plan, Task, TaskKind};

use crate::event::TaskKey;
use crate::limits::ANCESTORS_MAX;
use crate::state::{RunState, TaskState};

/// What a container runs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Children<'p> {
    /// The workflow itself or a composite.
    List(&'p [Task]),
    /// A collection.
    Each(&'p Collection),
    /// A parallel: tasks beside each other.
    Beside(&'p [Task]),
    /// The processor of a wait.
    Processor(&'p Task),
}

impl<'p> Children<'p> {
    /// `None` for a task without children.
    pub(crate) fn of(task: &'p Task) -> Option<Self> {
        match &task.kind {
            TaskKind::Composite { tasks } => Some(Self::List(tasks)),
            TaskKind::Collection(collection) => Some(Self::Each(collection)),
            TaskKind::Parallel(parallel) => Some(Self::Beside(&parallel.tasks)),
            TaskKind::Wait(wait) => wait.processor.as_ref().map(Self::Processor),
            TaskKind::Basic(_)
            | TaskKind::Router { .. }
            | TaskKind::Aggregate
            | TaskKind::Signal(_)
            | TaskKind::Memory(_)
            | TaskKind::Workflow(_) => None,
        }
    }

    /// The task at a place; in a collection it is the same for every item.
    pub(crate) fn get(self, at: usize) -> Option<&'p Task> {
        match self {
            Self::List(tasks) | Self::Beside(tasks) => tasks.get(at),
            Self::Each(collection) => Some(&collection.task),
            Self::Processor(task) => Some(task),
        }
    }
}

/// One container around a place of the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'p, 's> {
    /// The container's key.
    pub(crate) key: &'s TaskKey,
    /// The container in the state.
    pub(crate) state: &'s TaskState,
    /// The container in the plan.
    pub(crate) task: &'p Task,
    /// The place, in the container, of the child that leads to where we are.
    pub(crate) child_at: usize,
}

/// The containers from `container` outwards to the workflow, outermost first. `child_at` is the place in `container`.
/// `None` when state and plan do not belong together.
pub(crate) fn frames<'p, 's>(
    plan: &'p Plan,
    state: &'s RunState,
    container: Option<&'s TaskKey>,
    child_at: usize,
) -> Option<Vec<Frame<'p, 's>>> {
    let mut path = Vec::new();
    let (mut next, mut at) = (container, child_at);
    while let Some(key) = next {
        if path.len() == ANCESTORS_MAX {
            return None;
        }
        let (key, task) = state.tasks.get_key_value(key)?;
        path.push((key, task, at));
        (next, at) = (task.parent.as_ref(), task.at);
    }
    let mut children = Children::List(&plan.tasks);
    let mut frames = Vec::with_capacity(path.len());
    for (key, state, child_at) in path.into_iter().rev() {
        let task = children.get(state.at)?;
        if task.id != state.id || task.kind.name() != state.kind {
            return None;
        }
        frames.push(Frame { key, state, task, child_at });
        children = Children::of(task)?;
    }
    Some(frames)
}

/// What `container` runs; `None` is the workflow. Answers `None` when state and plan do not belong together.
pub(crate) fn children<'p>(plan: &'p Plan, state: &RunState, container: Option<&TaskKey>) -> Option<Children<'p>> {
    match frames(plan, state, container, 0)?.last() {
        Some(innermost) => Children::of(innermost.task),
        None => Some(Children::List(&plan.tasks)),
    }
}

/// A task of the state in the plan. `None` when state and plan do not belong together.
pub(crate) fn task<'p>(plan: &'p Plan, state: &RunState, key: &TaskKey) -> Option<&'p Task> {
    let entry = state.tasks.get(key)?;
    let task = children(plan, state, entry.parent.as_ref())?.get(entry.at)?;
    (task.id == entry.id && task.kind.name() == entry.kind).then_some(task)
}
