//! How tasks and runs end.

use compozy_plan::plan::Task;
use serde_json::Value;

use crate::event::{Command, Failure, TaskKey, Timer};
use crate::fault::{Fault, Place, joined};
use crate::locate::{self, Children};
use crate::machine::{End, Machine, Step};
use crate::scope::Site;
use crate::state::{Asleep, Status};

impl<'p> Machine<'p, '_> {
    /// Makes a task's output of its answer and ends the task.
    pub(crate) fn conclude(&mut self, key: &TaskKey, task: &'p Task, answer: Option<&Value>, route: Option<String>) {
        match self.output_of(key, task, answer) {
            Ok(output) => {
                self.close(key, Status::Success, None);
                self.state.tasks[key].output = Some(output);
                match task.sleep_ms {
                    Some(sleep_ms) => {
                        self.state.tasks[key].asleep = Some(Asleep { route });
                        self.start_timer(Timer::Sleep { task: key.clone() }, sleep_ms);
                    }
                    None => self.steps.push(Step::Leave { key: key.clone(), task, end: End::Success { route } }),
                }
            }
            Err(fault) => self.fail_by(key, task, fault),
        }
    }

    fn output_of(&mut self, key: &TaskKey, task: &'p Task, answer: Option<&Value>) -> Result<Value, Fault> {
        let output = match &task.outputs {
            Some(template) => {
                let site = Site { output: answer, ..Site::inside(key, &self.state.tasks[key], task) };
                site.render(self.world(), template, "outputs")?
            }
            None => answer.cloned().unwrap_or(Value::Null),
        };
        self.kept(&Place::Task(key.clone()), "its output", &output)?;
        if let Some(schema) = &task.output {
            self.reading.validate(schema, &output).map_err(|violations| Fault::OutputInvalid {
                place: Place::Task(key.clone()),
                reason: joined(&violations),
            })?;
        }
        Ok(output)
    }

    pub(crate) fn fail_by(&mut self, key: &TaskKey, task: &'p Task, fault: Fault) {
        let failure = Failure::from(fault);
        self.fail(key, task, failure.clone(), failure);
    }

    /// Ends a task badly. `named` is the failure as it is reported further out.
    pub(crate) fn fail(&mut self, key: &TaskKey, task: &'p Task, failure: Failure, named: Failure) {
        self.fail_to(key, task, failure, named, None);
    }

    /// As [`Self::fail`], and names the task to go to.
    pub(crate) fn fail_to(
        &mut self,
        key: &TaskKey,
        task: &'p Task,
        failure: Failure,
        named: Failure,
        route: Option<String>,
    ) {
        let status = if failure.timeout.is_some() { Status::TimedOut } else { Status::Failed };
        self.close(key, status, Some(failure));
        // Only the task itself timed out, not what is around it.
        let failure = Failure { timeout: None, ..named };
        self.steps.push(Step::Leave { key: key.clone(), task, end: End::Failure { failure, route } });
    }

    /// Ends a task, with its timers.
    pub(crate) fn close(&mut self, key: &TaskKey, status: Status, failure: Option<Failure>) {
        let now_ms = self.state.now_ms;
        let entry = &mut self.state.tasks[key];
        let (scheduled, waiting) = (entry.is_scheduled(), entry.status == Status::Waiting);
        entry.end(status, now_ms);
        entry.failure = failure;
        if scheduled {
            self.state.active = self.state.active.saturating_sub(1);
        }
        if waiting {
            self.state.waits.retain(|wait| wait != key);
            self.stop_timer(Timer::Wait { task: key.clone() });
        }
        self.stop_timer(Timer::Task { task: key.clone() });
    }

    /// Ends a task and all that is in it, because nobody wants its result any more.
    pub(crate) fn cancel_tree(&mut self, key: &TaskKey, why: &Failure) {
        let Some(entry) = self.state.tasks.get(key) else { return };
        if entry.asleep.is_some() {
            self.stop_timer(Timer::Sleep { task: key.clone() });
            self.state.tasks[key].asleep = None;
        }
        let entry = &self.state.tasks[key];
        if entry.status.is_terminal() {
            return;
        }
        if entry.is_scheduled() {
            self.take_back(key);
        }
        self.cancel_children(key, why);
        self.close(key, Status::Canceled, Some(why.clone()));
    }

    /// Ends all that is in a task.
    pub(crate) fn cancel_children(&mut self, key: &TaskKey, why: &Failure) {
        for child in self.latest_children(key) {
            self.cancel_tree(&child, why);
        }
    }

    /// The latest visit of every child of a container that the run came to.
    pub(crate) fn latest_children(&self, key: &TaskKey) -> Vec<TaskKey> {
        let children = locate::children(self.plan, self.state, Some(key));
        let firsts: Vec<TaskKey> = match children {
            None => Vec::new(),
            Some(Children::List(tasks) | Children::Beside(tasks)) => {
                tasks.iter().map(|task| TaskKey::of(Some(key), &task.id)).collect()
            }
            Some(Children::Processor(task)) => vec![TaskKey::of(Some(key), &task.id)],
            Some(Children::Each(_)) => {
                let started = self.state.tasks[key].progress.as_ref().map_or(0, |progress| progress.started);
                (0..started).map(|at| key.item(at)).collect()
            }
        };
        let latest = firsts.into_iter().map(|first| self.state.latest(&first));
        latest.filter(|child| self.state.tasks.contains_key(child)).collect()
    }

    /// The workflow's list ended; `last` is the output of the task that ended it.
    pub(crate) fn succeed(&mut self, last: Value) {
        // Templates see how the run ended.
        self.state.status = Status::Success;
        let output = match &self.plan.outputs {
            Some(template) => Site { output: Some(&last), ..Site::default() }.render(self.world(), template, "outputs"),
            None => Ok(last),
        };
        let output = output.and_then(|output| self.kept(&Place::Workflow, "its output", &output).map(|()| output));
        match output {
            Ok(output) => self.finish(Status::Success, Some(output), None),
            Err(fault) => self.finish(Status::Failed, None, Some(fault.into())),
        }
    }

    pub(crate) fn finish(&mut self, status: Status, output: Option<Value>, failure: Option<Failure>) {
        self.state.status = status;
        self.state.output = output;
        self.state.failure = failure;
        self.state.timers.clear();
        self.state.waits.clear();
        self.state.paused = None;
        self.state.canceling = None;
        self.command(Command::Finish);
    }

    /// Ends the run with a fault that no `on_error` may catch.
    pub(crate) fn abort(&mut self, fault: Fault) {
        self.end_all(Status::Failed, fault.into());
    }

    /// As [`Self::abort`], from a task whose answer has just come.
    pub(crate) fn abort_at(&mut self, key: &TaskKey, fault: Fault) {
        self.close(key, Status::Failed, Some(fault.clone().into()));
        self.abort(fault);
    }

    /// Ends the run and all that runs in it.
    pub(crate) fn end_all(&mut self, status: Status, failure: Failure) {
        self.close_all();
        self.finish(status, None, Some(failure));
    }

    /// Ends all that runs. What was asleep stays so: a retry goes on from there.
    pub(crate) fn close_all(&mut self) {
        self.steps.clear();
        self.state.held.clear();
        let now_ms = self.state.now_ms;
        let mut scheduled = Vec::new();
        for (key, task) in &mut self.state.tasks {
            if task.status.is_terminal() {
                continue;
            }
            if task.is_scheduled() {
                scheduled.push(key.clone());
            }
            task.end(Status::Canceled, now_ms);
        }
        for key in scheduled {
            self.take_back(&key);
        }
        self.state.active = 0;
        self.state.waits.clear();
    }
}
