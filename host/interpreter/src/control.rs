//! What people do to a run: pause, resume, cancel.

use compozy_plan::plan::{Task, TaskKind};
use serde_json::{Value, json};

use crate::event::{Command, Failure, TaskKey, Timeout, Timer};
use crate::fault::Fault;
use crate::locate;
use crate::machine::{End, Entry, Machine, Step};
use crate::state::{Held, Status};

impl<'p> Machine<'p, '_> {
    /// Nothing begins until the run is resumed.
    pub(crate) fn pause(&mut self, reason: &str) {
        self.state.paused = Some(reason.to_owned());
    }

    /// Begins what was held back.
    pub(crate) fn resume(&mut self) {
        self.state.paused = None;
        let fans = self.state.tasks.iter().filter(|(_, task)| !task.status.is_terminal() && task.progress.is_some());
        let mut fans: Vec<TaskKey> = fans.map(|(key, _)| key.clone()).collect();
        // Steps are done from the last to the first.
        fans.reverse();
        for fan in &fans {
            self.push_fill(fan);
        }
        for held in std::mem::take(&mut self.state.held).into_iter().rev() {
            let Held { parent, at, with, fault } = held;
            let children = locate::children(self.plan, self.state, parent.as_ref());
            let Some(task) = children.and_then(|children| children.get(at)) else {
                let key = parent.unwrap_or_else(|| TaskKey(String::new()));
                return self.abort(Fault::mismatch(&key, "a task that was held back"));
            };
            let with = fault.map(Err).or_else(|| with.map(Ok));
            self.push(Entry { parent, task, at, with });
        }
        self.run();
    }

    /// Ends the run on request: at once, or as soon as what runs has ended by itself, at the latest after the grace.
    pub(crate) fn cancel(&mut self, reason: &str, grace_ms: u64) {
        let failure = Failure::permanent("CANCELED", reason);
        if grace_ms == 0 || self.state.active == 0 {
            return self.end_all(Status::Canceled, failure);
        }
        self.state.held.clear();
        self.state.paused = None;
        let now_ms = self.state.now_ms;
        let mut asked = Vec::new();
        for (key, task) in &mut self.state.tasks {
            if task.is_scheduled() {
                asked.push(key.clone());
            } else if task.status == Status::Waiting {
                task.end(Status::Canceled, now_ms);
            }
        }
        self.state.waits.clear();
        self.stop_timers();
        for task in asked {
            self.command(Command::AskTaskToEnd { task, grace_ms });
        }
        self.state.canceling = Some(failure);
        self.start_timer(Timer::Grace, grace_ms);
    }

    fn stop_timers(&mut self) {
        let timers: Vec<Timer> = self.state.timers.keys().filter_map(|text| text.parse().ok()).collect();
        for timer in timers {
            self.stop_timer(timer);
        }
    }

    /// A task ended in the grace: it is recorded, and nothing follows from it.
    pub(crate) fn ended_in_grace(
        &mut self,
        key: &TaskKey,
        status: Status,
        output: Option<&Value>,
        failure: Option<Failure>,
    ) {
        self.close(key, status, failure);
        self.state.tasks[key].output = output.cloned();
        if self.state.active == 0 {
            self.end_canceled();
        }
    }

    /// The grace is over, or nothing runs any more.
    fn end_canceled(&mut self) {
        let failure = self.state.canceling.take();
        let failure = failure.unwrap_or_else(|| Failure::permanent("CANCELED", "the run was cancelled"));
        self.end_all(Status::Canceled, failure);
    }

    /// A timer's time has come.
    pub(crate) fn fired(&mut self, timer: &Timer) {
        self.state.timers.remove(&timer.to_string());
        match timer {
            Timer::Workflow => {
                let limit_ms = self.plan.timeout_ms.unwrap_or_default();
                let message = format!("the run did not end within its workflow timeout of {limit_ms} ms");
                return self.end_all(Status::TimedOut, Failure::timed_out(Timeout::Workflow, message));
            }
            Timer::Grace => return self.end_canceled(),
            Timer::Sleep { task } => self.awake(task),
            Timer::Wait { task } => self.wait_over(task),
            Timer::Task { task } => self.task_over(task),
        }
        self.run();
    }

    /// The sleep after a task is over.
    fn awake(&mut self, key: &TaskKey) {
        let Some(asleep) = self.state.tasks.get_mut(key).and_then(|entry| entry.asleep.take()) else { return };
        match self.planned(key) {
            Ok(task) => {
                let end = End::Success { route: asleep.route };
                self.steps.push(Step::Leave { key: key.clone(), task, end });
            }
            Err(fault) => self.abort(fault),
        }
    }

    /// A task with all that is in it took too long.
    fn task_over(&mut self, key: &TaskKey) {
        let task = match self.planned(key) {
            Ok(task) => task,
            Err(fault) => return self.abort(fault),
        };
        let Some(entry) = self.state.tasks.get(key).filter(|entry| !entry.status.is_terminal()) else { return };
        if entry.is_scheduled() {
            self.take_back(key);
        }
        let why = Failure::permanent("CANCELED", format!("the time of task `{key}` around it is over"));
        self.cancel_children(key, &why);
        let limit_ms = task.timeout_ms.unwrap_or_default();
        self.time_out(key, task, Timeout::StartToClose, limit_ms, None);
    }

    fn time_out(&mut self, key: &TaskKey, task: &'p Task, timeout: Timeout, limit_ms: u64, route: Option<String>) {
        let name = timeout.name();
        let message = format!("task `{key}` did not end within its {name} timeout of {limit_ms} ms");
        let details = json!({ "timeout": name, "limit_ms": limit_ms });
        let failure = Failure { details, ..Failure::timed_out(timeout, message) };
        self.fail_to(key, task, failure.clone(), failure, route);
    }

    /// No signal came in time.
    fn wait_over(&mut self, key: &TaskKey) {
        let task = match self.planned(key) {
            Ok(task) => task,
            Err(fault) => return self.abort(fault),
        };
        let Some(entry) = self.state.tasks.get(key).filter(|entry| !entry.status.is_terminal()) else { return };
        let limit_ms = entry.wait.as_ref().map_or(0, |wait| wait.timeout_ms);
        let why = Failure::permanent("CANCELED", format!("the wait `{key}` around it is over"));
        self.cancel_children(key, &why);
        let route = match &task.kind {
            TaskKind::Wait(wait) => wait.on_timeout.clone(),
            _ => None,
        };
        self.time_out(key, task, Timeout::Wait, limit_ms, route);
    }
}
