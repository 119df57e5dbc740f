//! Going back: retry what did not succeed, or reset to a task.
//!
//! Nothing that happened is forgotten: a task that begins again is a new visit, and containers around it open again.

use compozy_plan::plan::{Plan, TaskKind};
use serde_json::Value;

use crate::event::{Failure, TaskKey, Timer};
use crate::fault::Fault;
use crate::locate;
use crate::machine::{End, Entry, Machine, Step};
use crate::state::{RunState, Status};

/// Why a run cannot go back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RewindRefused {
    /// Only a run that ended badly can be retried.
    #[error("only a run that failed, timed out or was cancelled can be retried; this one is {status}")]
    NotFailed {
        /// How it stands.
        status: &'static str,
    },
    /// The run came to no task.
    #[error("the run came to no task, so there is none to begin again; start a new one")]
    NothingBegun,
    /// There is no such task.
    #[error("the run did not come to a task `{task}`")]
    UnknownTask {
        /// The key.
        task: TaskKey,
    },
    /// Tasks that run beside others cannot be begun again alone.
    #[error("`{task}` runs beside others in `{around}`; reset to `{around}`")]
    NotInAList {
        /// The key.
        task: TaskKey,
        /// The container that is no list.
        around: TaskKey,
    },
    /// The state is not of this plan.
    #[error("the run's plan does not have `{task}`")]
    PlanMismatch {
        /// The key.
        task: TaskKey,
    },
    /// The run has used up what an engine gives a run. Only an engine says so.
    #[error("the run has {used} {what}, at most {allowed} are allowed, so it cannot go on; start a new one")]
    AtLimit {
        /// In the plural.
        what: &'static str,
        /// How many it has.
        used: u64,
        /// How many it may have.
        allowed: u64,
    },
    /// The run has not begun.
    #[error("the run has not begun")]
    NotBegun,
}

impl RewindRefused {
    /// Stable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFailed { .. } => "EXECUTION_NOT_FAILED",
            Self::NothingBegun => "NOTHING_TO_RETRY",
            Self::UnknownTask { .. } => "TASK_NOT_FOUND",
            Self::NotInAList { .. } => "RESET_NOT_POSSIBLE",
            Self::PlanMismatch { .. } => "PLAN_MISMATCH",
            Self::AtLimit { .. } => "RUN_LIMIT",
            Self::NotBegun => "EXECUTION_NOT_BEGUN",
        }
    }
}

/// Whether a run can be retried.
pub fn can_retry(state: &RunState) -> Result<(), RewindRefused> {
    if !state.status.is_terminal() || state.status == Status::Success {
        return Err(RewindRefused::NotFailed { status: state.status.name() });
    }
    if state.tasks.is_empty() { Err(RewindRefused::NothingBegun) } else { Ok(()) }
}

/// Whether a run can be reset to a task.
pub fn can_reset(plan: &Plan, state: &RunState, task: &TaskKey) -> Result<(), RewindRefused> {
    if state.status == Status::Pending {
        return Err(RewindRefused::NotBegun);
    }
    let Some(entry) = state.tasks.get(task) else {
        return Err(RewindRefused::UnknownTask { task: task.clone() });
    };
    let Some(frames) = locate::frames(plan, state, entry.parent.as_ref(), entry.at) else {
        return Err(RewindRefused::PlanMismatch { task: task.clone() });
    };
    if locate::task(plan, state, task).is_none() {
        return Err(RewindRefused::PlanMismatch { task: task.clone() });
    }
    match frames.iter().find(|frame| !matches!(frame.task.kind, TaskKind::Composite { .. })) {
        Some(frame) => Err(RewindRefused::NotInAList { task: task.clone(), around: frame.key.clone() }),
        None => Ok(()),
    }
}

impl Machine<'_, '_> {
    /// What did not succeed begins again.
    pub(crate) fn retry(&mut self) {
        self.reopen_run();
        self.start_run_timer();
        match self.revive_list(None) {
            Ok(()) => self.run(),
            Err(fault) => self.abort(fault),
        }
    }

    /// Goes back to a task, with the arguments that it had.
    pub(crate) fn reset(&mut self, key: &TaskKey) {
        let timers: Vec<Timer> = self.state.timers.keys().filter_map(|text| text.parse().ok()).collect();
        for timer in timers.into_iter().filter(|timer| *timer != Timer::Workflow) {
            self.stop_timer(timer);
        }
        self.close_all();
        let asleep: Vec<TaskKey> =
            self.state.tasks.iter().filter(|(_, task)| task.asleep.is_some()).map(|(key, _)| key.clone()).collect();
        for key in asleep {
            self.state.tasks[&key].asleep = None;
        }
        self.reopen_run();
        if !self.state.timers.contains_key(&Timer::Workflow.to_string()) {
            self.start_run_timer();
        }
        let parent = |key: &TaskKey| self.state.tasks[key].parent.clone();
        let around: Vec<TaskKey> = std::iter::successors(parent(key), parent).collect();
        for container in around {
            if let Err(fault) = self.reopen(&container) {
                return self.abort(fault);
            }
        }
        match self.enter_again(key) {
            Ok(()) => self.run(),
            Err(fault) => self.abort(fault),
        }
    }

    fn reopen_run(&mut self) {
        self.state.status = Status::Running;
        self.state.output = None;
        self.state.failure = None;
        self.state.canceling = None;
    }

    /// Opens a container again.
    fn reopen(&mut self, key: &TaskKey) -> Result<(), Fault> {
        let task = self.planned(key)?;
        let entry = &mut self.state.tasks[key];
        entry.status = Status::Running;
        entry.ended_at_ms = None;
        entry.output = None;
        entry.failure = None;
        self.start_task_timer(key, task);
        Ok(())
    }

    /// Goes on with the list of a container where it ended.
    fn revive_list(&mut self, container: Option<&TaskKey>) -> Result<(), Fault> {
        let last = self.state.tasks.iter().rev().find(|(_, task)| task.parent.as_ref() == container);
        let Some((key, entry)) = last.map(|(key, entry)| (key.clone(), entry)) else {
            return match container {
                // It ended before its first task began.
                Some(container) => self.enter_again(container),
                None => Ok(()),
            };
        };
        if entry.status != Status::Success {
            return self.revive(&key);
        }
        let asleep = entry.asleep.clone();
        self.state.tasks[&key].asleep = None;
        let task = self.planned(&key)?;
        if asleep.is_none() && matches!(task.kind, TaskKind::Router { .. }) {
            return self.enter_again(&key);
        }
        // It ended well; what came after it did not, or was held back.
        let route = asleep.and_then(|asleep| asleep.route);
        self.steps.push(Step::Leave { key, task, end: End::Success { route } });
        Ok(())
    }

    /// Lets a task that ended badly go on from where it ended, or begins it again.
    pub(crate) fn revive(&mut self, key: &TaskKey) -> Result<(), Fault> {
        let task = self.planned(key)?;
        let begun = self.state.tasks[key].progress.is_some() || !self.latest_children(key).is_empty();
        match &task.kind {
            TaskKind::Composite { .. } if begun => {
                self.reopen(key)?;
                self.revive_list(Some(key))
            }
            TaskKind::Collection(_) | TaskKind::Parallel(_) if begun => {
                self.reopen(key)?;
                self.refill(key, task)
            }
            _ => self.enter_again(key),
        }
    }

    /// Begins a task again, as a new visit with the arguments of the last one.
    fn enter_again(&mut self, key: &TaskKey) -> Result<(), Fault> {
        let task = self.planned(key)?;
        let entry = &self.state.tasks[key];
        let with: Option<Result<Value, Failure>> = Some(entry.with.clone()).filter(|with| !with.is_null()).map(Ok);
        self.push(Entry { parent: entry.parent.clone(), task, at: entry.at, with });
        Ok(())
    }
}
