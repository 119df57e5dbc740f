//! Takes one event through the run until everything waits for somebody outside or the run has ended.
//!
//! Work is kept on a stack of steps, not on the call stack: a list of thousands of tasks that need no executor costs
//! no recursion.

use std::collections::BTreeSet;

use compozy_plan::plan::{Plan, Task, TaskKind};
use serde_json::Value;

use crate::blob::Reading;
use crate::event::{Command, Failure, TaskKey, Timer};
use crate::fault::{Fault, Place};
use crate::limits::{EVENT_TASKS_MAX, RUN_BYTES_MAX, RUN_TASKS_MAX, VALUE_DEPTH_MAX};
use crate::locate::{self, Children};
use crate::measure;
use crate::scope::{Site, World};
use crate::state::{Held, RunState, Status, TaskState};

/// One event's work on a run.
pub(crate) struct Machine<'p, 's> {
    pub(crate) plan: &'p Plan,
    pub(crate) state: &'s mut RunState,
    pub(crate) reading: &'s Reading<'s>,
    commands: Vec<Command>,
    pub(crate) steps: Vec<Step<'p>>,
    /// Tasks that this very event gave out: an engine has not seen them, so they are dropped and not cancelled.
    fresh: BTreeSet<TaskKey>,
    /// Those of them that are not wanted any more.
    dropped: BTreeSet<TaskKey>,
    entered: usize,
    /// A limit of the run that was passed; ends the run before the next step.
    exceeded: Option<Fault>,
    /// Steps done, for tests that bound the work.
    #[cfg(test)]
    done: usize,
}

/// What is left to do. The last one pushed is done first.
pub(crate) enum Step<'p> {
    /// Begin a task.
    Enter(Entry<'p>),
    /// Begin the next child of a collection or a parallel, or end it.
    Fill(TaskKey),
    /// Let a wait look at the signals that it has not seen.
    Look(TaskKey),
    /// Go on after a task that ended.
    Leave { key: TaskKey, task: &'p Task, end: End },
}

/// A task to begin.
pub(crate) struct Entry<'p> {
    pub(crate) parent: Option<TaskKey>,
    pub(crate) task: &'p Task,
    pub(crate) at: usize,
    /// The arguments that a transition gave, or why it could not.
    pub(crate) with: Option<Result<Value, Failure>>,
}

/// How a task ended.
pub(crate) enum End {
    /// With the task that a router chose.
    Success { route: Option<String> },
    /// With the failure as the container reports it: its message names the task. A wait may name the task to go to.
    Failure { failure: Failure, route: Option<String> },
}

/// How a task answers when it needs nobody outside.
#[derive(Default)]
pub(crate) struct Answer {
    /// What its `outputs` template sees as `output`; `None` for an aggregate.
    pub(crate) output: Option<Value>,
    /// The task that a router chose.
    pub(crate) route: Option<String>,
}

impl<'p, 's> Machine<'p, 's> {
    pub(crate) fn new(plan: &'p Plan, state: &'s mut RunState, reading: &'s Reading<'s>) -> Self {
        Self {
            plan,
            state,
            reading,
            commands: Vec::new(),
            steps: Vec::new(),
            fresh: BTreeSet::new(),
            dropped: BTreeSet::new(),
            entered: 0,
            exceeded: None,
            #[cfg(test)]
            done: 0,
        }
    }

    /// What templates and conditions read from.
    pub(crate) fn world(&self) -> World<'_> {
        World { plan: self.plan, state: self.state, reading: self.reading }
    }

    /// What is to be done.
    pub(crate) fn into_commands(mut self) -> Vec<Command> {
        let ended = self.state.status.is_terminal();
        let dropped = std::mem::take(&mut self.dropped);
        self.commands.retain(|command| match command {
            Command::ScheduleTask { task, .. }
            | Command::StartChild { task, .. }
            | Command::SendSignal { task, .. } => !dropped.contains(task),
            // A run that ended has no timers.
            Command::StartTimer { .. } | Command::CancelTimer { .. } => !ended,
            Command::CancelTask { .. } | Command::AskTaskToEnd { .. } | Command::Finish => true,
        });
        self.commands
    }

    /// The run begins.
    pub(crate) fn start(&mut self) {
        let input = std::mem::take(&mut self.state.input);
        match self.kept(&Place::Workflow, "its input", &input) {
            Ok(()) => self.state.input = input,
            Err(fault) => return self.abort(fault),
        }
        self.start_run_timer();
        match self.plan.tasks.first() {
            Some(task) => self.push(Entry { parent: None, task, at: 0, with: None }),
            None => self.succeed(Value::Null),
        }
        self.run();
    }

    /// The timeout of the run counts from now.
    pub(crate) fn start_run_timer(&mut self) {
        if let Some(limit_ms) = self.plan.timeout_ms {
            self.start_timer(Timer::Workflow, limit_ms);
        }
    }

    /// Somebody outside answered.
    pub(crate) fn completed(&mut self, key: &TaskKey, output: &Value) {
        if self.state.canceling.is_some() {
            return self.ended_in_grace(key, Status::Success, Some(output), None);
        }
        match self.planned(key) {
            Ok(task) => self.conclude(key, task, Some(output), None),
            Err(fault) => self.abort_at(key, fault),
        }
        self.run();
    }

    /// Somebody outside gave up.
    pub(crate) fn failed(&mut self, key: &TaskKey, failure: &Failure) {
        // Details are an extra; too deep, they would make the state unreadable.
        let details = measure::size(&failure.details).map_or(Value::Null, |_| failure.details.clone());
        let failure = Failure { details, ..failure.clone() };
        if self.state.canceling.is_some() {
            return self.ended_in_grace(key, Status::Canceled, None, Some(failure));
        }
        match self.planned(key) {
            Ok(task) => {
                let named = Failure { message: format!("task `{key}`: {}", failure.message), ..failure.clone() };
                self.fail(key, task, failure, named);
            }
            Err(fault) => self.abort_at(key, fault),
        }
        self.run();
    }

    pub(crate) fn run(&mut self) {
        loop {
            if let Some(fault) = self.exceeded.take() {
                self.abort(fault);
            }
            let Some(step) = self.steps.pop() else {
                break;
            };
            #[cfg(test)]
            {
                self.done += 1;
            }
            let done = match step {
                Step::Enter(entry) => self.enter(entry),
                Step::Fill(key) => self.fill(&key),
                Step::Look(key) => self.look(&key),
                Step::Leave { key, task, end } => self.leave(&key, task, end),
            };
            if let Err(fault) = done {
                self.abort(fault);
            }
        }
    }

    pub(crate) fn push(&mut self, entry: Entry<'p>) {
        self.steps.push(Step::Enter(entry));
    }

    /// Looks at a collection again, unless that is going to happen anyway.
    pub(crate) fn push_fill(&mut self, fan: &TaskKey) {
        if !self.steps.iter().any(|step| matches!(step, Step::Fill(key) if key == fan)) {
            self.steps.push(Step::Fill(fan.clone()));
        }
    }

    /// True when the container of a task has ended: what was left to do in it is void.
    pub(crate) fn is_void(&self, parent: Option<&TaskKey>) -> bool {
        parent.is_some_and(|parent| self.state.tasks.get(parent).is_none_or(|entry| entry.status.is_terminal()))
    }

    /// Begins a task: its condition, its arguments, its entry in the state, and what its type asks for.
    fn enter(&mut self, entry: Entry<'p>) -> Result<(), Fault> {
        if self.is_void(entry.parent.as_ref()) {
            return Ok(());
        }
        if self.state.paused.is_some() {
            self.hold(entry);
            return Ok(());
        }
        let Entry { parent, task, at, with } = entry;
        let children = locate::children(self.plan, self.state, parent.as_ref());
        let first = match (&parent, children) {
            (Some(collection), Some(Children::Each(_))) => collection.item(at),
            _ => TaskKey::of(parent.as_ref(), &task.id),
        };
        let visit = self.state.visits_of(&first) + 1;
        let key = first.visit(visit);
        self.charge(&key)?;
        // Evaluated before the visit is in the state: a loop's `tasks.<id>` is the visit before.
        let site = Site::outside(&key, parent.as_ref(), at, task);
        let wanted = task
            .condition
            .as_ref()
            .map_or(Ok(true), |condition| site.is_true(self.world(), condition, "condition").map_err(Failure::from));
        let with = match &wanted {
            Ok(true) => with.unwrap_or_else(|| site.arguments(self.world()).map_err(Failure::from)),
            Ok(false) | Err(_) => Ok(Value::Null),
        };
        let (with, failure) = match (&wanted, with) {
            (Ok(true), Ok(with)) => self.admitted(&key, task, with),
            (Ok(_), with) => (Value::Null, with.err()),
            (Err(failure), _) => (Value::Null, Some(failure.clone())),
        };
        if visit > 1 {
            self.state.visits.insert(first, visit);
        }
        let begun = TaskState::begun(task, parent, at, with, self.state.now_ms);
        self.state.tasks.insert(key.clone(), begun);
        match failure {
            Some(failure) => self.fail(&key, task, failure.clone(), failure),
            None if wanted == Ok(false) => self.skip(key, task),
            None => match self.begin(&key, task) {
                Ok(None) => self.start_task_timer(&key, task),
                Ok(Some(answer)) => self.conclude(&key, task, answer.output.as_ref(), answer.route),
                Err(fault) => self.fail_by(&key, task, fault),
            },
        }
        Ok(())
    }

    /// Keeps a task for the time after the pause.
    fn hold(&mut self, entry: Entry<'p>) {
        let Entry { parent, at, with, .. } = entry;
        let (with, fault) = match with {
            None => (None, None),
            Some(Ok(with)) => (Some(with), None),
            Some(Err(failure)) => (None, Some(failure)),
        };
        self.state.held.push(Held { parent, at, with, fault });
    }

    /// A task whose condition is false counts as if it were not there.
    fn skip(&mut self, key: TaskKey, task: &'p Task) {
        self.close(&key, Status::Success, None);
        self.state.tasks[&key].skipped = true;
        self.steps.push(Step::Leave { key, task, end: End::Success { route: None } });
    }

    /// The arguments to keep, and what is wrong with them.
    fn admitted(&mut self, key: &TaskKey, task: &Task, with: Value) -> (Value, Option<Failure>) {
        let place = Place::Task(key.clone());
        if let Err(fault) = self.kept(&place, "`with`", &with) {
            return (Value::Null, Some(fault.into()));
        }
        let arguments = if with.is_null() { crate::state::no_arguments() } else { &with };
        let checked = task.input.as_ref().map_or(Ok(()), |schema| self.reading.validate(schema, arguments));
        let fault =
            checked.err().map(|violations| Fault::InputInvalid { place, reason: crate::fault::joined(&violations) });
        (with, fault.map(Failure::from))
    }

    /// What a task's type does first. Answers at once unless the task waits for somebody.
    fn begin(&mut self, key: &TaskKey, task: &'p Task) -> Result<Option<Answer>, Fault> {
        match &task.kind {
            TaskKind::Basic(tool) => {
                let input = self.state.tasks[key].arguments().clone();
                let (tool, policy) = (tool.clone(), task.policy.clone());
                let dispatch = self.dispatch(key, task)?;
                self.give_out(key, Command::ScheduleTask { task: key.clone(), tool, input, policy, dispatch });
                Ok(None)
            }
            TaskKind::Memory(memory) => self.remember(key, task, memory).map(|()| None),
            TaskKind::Workflow(child) => {
                let input = self.state.tasks[key].arguments().clone();
                let (workflow, parent_close) = (child.workflow.clone(), child.parent_close);
                self.give_out(key, Command::StartChild { task: key.clone(), workflow, input, parent_close });
                Ok(None)
            }
            TaskKind::Signal(signal) => self.send(key, task, signal).map(|()| None),
            TaskKind::Wait(wait) => self.wait(key, task, wait).map(|()| None),
            TaskKind::Router { condition, routes } => self.route(key, task, condition, routes).map(Some),
            TaskKind::Aggregate => Ok(Some(Answer::default())),
            TaskKind::Composite { tasks } => {
                let Some(first) = tasks.first() else {
                    return Ok(Some(Answer { output: Some(Value::Object(serde_json::Map::new())), route: None }));
                };
                self.push(Entry { parent: Some(key.clone()), task: first, at: 0, with: None });
                Ok(None)
            }
            TaskKind::Collection(collection) => {
                let progress = self.expand(key, task, collection)?;
                self.state.tasks[key].progress = Some(progress);
                self.push_fill(key);
                Ok(None)
            }
            TaskKind::Parallel(parallel) => {
                self.spread(key, parallel);
                self.push_fill(key);
                Ok(None)
            }
        }
    }

    /// Gives a task to somebody outside.
    pub(crate) fn give_out(&mut self, key: &TaskKey, command: Command) {
        self.state.tasks[key].status = Status::Running;
        self.state.active += 1;
        self.fresh.insert(key.clone());
        self.commands.push(command);
    }

    /// Takes a task back from somebody outside.
    pub(crate) fn take_back(&mut self, key: &TaskKey) {
        if self.fresh.remove(key) {
            self.dropped.insert(key.clone());
        } else {
            self.commands.push(Command::CancelTask { task: key.clone() });
        }
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.commands.push(command);
    }

    /// Starts a timer.
    pub(crate) fn start_timer(&mut self, timer: Timer, wait_ms: u64) {
        let fire_at_ms = self.state.now_ms.saturating_add(wait_ms);
        self.state.timers.insert(timer.to_string(), fire_at_ms);
        self.commands.push(Command::StartTimer { timer, fire_at_ms });
    }

    /// Stops a timer, if it runs.
    pub(crate) fn stop_timer(&mut self, timer: Timer) {
        if !self.state.timers.is_empty() && self.state.timers.remove(&timer.to_string()).is_some() {
            self.commands.push(Command::CancelTimer { timer });
        }
    }

    /// Starts the timeout of a task that makes no attempts of its own.
    pub(crate) fn start_task_timer(&mut self, key: &TaskKey, task: &Task) {
        if let Some(limit_ms) = task.timeout_ms {
            self.start_timer(Timer::Task { task: key.clone() }, limit_ms);
        }
    }

    /// Counts a task that is about to begin.
    fn charge(&mut self, key: &TaskKey) -> Result<(), Fault> {
        let place = || Place::Task(key.clone());
        if self.state.tasks.len() >= RUN_TASKS_MAX {
            return Err(Fault::RunTooLong { place: place(), limit: RUN_TASKS_MAX });
        }
        if self.entered >= EVENT_TASKS_MAX {
            return Err(Fault::EventTooLong { place: place(), limit: EVENT_TASKS_MAX });
        }
        self.entered += 1;
        Ok(())
    }

    /// Counts a value that the state is about to keep. Too deep fails the task, too much in all ends the run.
    pub(crate) fn kept(&mut self, place: &Place, what: &'static str, value: &Value) -> Result<(), Fault> {
        let Some(size) = measure::size(value) else {
            return Err(Fault::ValueTooDeep { place: place.clone(), what, limit: VALUE_DEPTH_MAX });
        };
        self.state.bytes = self.state.bytes.saturating_add(size);
        if self.state.bytes > RUN_BYTES_MAX {
            self.exceeded.get_or_insert(Fault::RunTooLarge { place: place.clone(), what, limit: RUN_BYTES_MAX });
        }
        Ok(())
    }

    /// The plan's task of a key.
    pub(crate) fn planned(&self, key: &TaskKey) -> Result<&'p Task, Fault> {
        locate::task(self.plan, self.state, key).ok_or_else(|| Fault::mismatch(key, "the task itself"))
    }
}

#[cfg(test)]
mod tests {
    use compozy_plan::plan::{PLAN_FORMAT, Plan, TaskPolicy};
    use serde_json::{Value, json};

    use super::Machine;
    use crate::blob::{NoBlobs, Reading};
    use crate::event::{Command, TaskKey};
    use crate::state::{RunState, Status};

    fn plan(items: usize, parallel: u32) -> Plan {
        let child = json!({
            "id": "each", "is_final": false, "policy": TaskPolicy::default(), "with": { "item": "{{ .item }}" },
            "kind": { "type": "basic", "id": "tool", "plugin": "p", "action": null, "config": null },
        });
        let collection = json!({
            "type": "collection", "items": vec![Value::from(1); items], "item_var": "item", "index_var": "index",
            "parallel": parallel, "strategy": "wait_all", "task": child,
        });
        serde_json::from_value(json!({
            "format": PLAN_FORMAT, "workflow": "w", "version": "", "description": "", "env": {},
            "project": { "name": "p", "version": "", "description": "" },
            "tasks": [{ "id": "all", "is_final": false, "policy": TaskPolicy::default(), "kind": collection }],
        }))
        .expect("the format of plans")
    }

    /// The steps that one event costs must not depend on how many children there are.
    #[test]
    fn the_end_of_one_child_costs_a_few_steps() {
        const ITEMS: usize = 10_000;
        let plan = plan(ITEMS, 100);
        let mut state = RunState { status: Status::Running, ..RunState::new() };
        let reading = Reading::new(&NoBlobs);
        let mut machine = Machine::new(&plan, &mut state, &reading);
        machine.start();
        // To fill up: the collection itself, and for each child one look and one begin.
        assert!(machine.done <= 2 * 100 + 3, "{} steps", machine.done);
        assert_eq!(machine.commands.len(), 100);
        for at in 0..ITEMS {
            let mut machine = Machine::new(&plan, &mut state, &reading);
            machine.completed(&TaskKey(format!("all[{at}]")), &json!(at));
            // The child's end, a look at the collection, the next child, a look again; at last the collection's end.
            assert!(machine.done <= 4, "{} steps for child {at}", machine.done);
            let expected = usize::from(at < ITEMS - 100 || at == ITEMS - 1);
            assert_eq!(machine.commands.len(), expected, "child {at}");
            if at == ITEMS - 1 {
                assert_eq!(machine.into_commands(), [Command::Finish]);
            }
        }
        assert_eq!(state.status, Status::Success);
        assert_eq!(state.output.as_ref().map(|output| output["outputs"][ITEMS - 1].clone()), Some(json!(ITEMS - 1)));
    }
}
