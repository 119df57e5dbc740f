//! Takes one event through the run until everything waits for an executor or the run has ended.
//!
//! Work is kept on a stack of steps, not on the call stack: a list of thousands of tasks that need no executor costs
//! no recursion.

use std::collections::BTreeSet;

use compozy_plan::plan::{Plan, Task, TaskKind};
use compozy_plan::schema::Violation;
use serde_json::Value;

use crate::event::{Command, Failure, TaskKey};
use crate::fault::{Fault, Place};
use crate::limits::{EVENT_TASKS_MAX, RUN_BYTES_MAX, RUN_TASKS_MAX, VALUE_DEPTH_MAX};
use crate::locate::{self, Children};
use crate::measure;
use crate::scope::Site;
use crate::state::{RunState, Status, TaskState};

/// One event's work on a run.
pub(crate) struct Machine<'p, 's> {
    pub(crate) plan: &'p Plan,
    pub(crate) state: &'s mut RunState,
    pub(crate) commands: Vec<Command>,
    steps: Vec<Step<'p>>,
    entered: usize,
    /// A limit of the run that was passed; ends the run before the next step.
    exceeded: Option<Fault>,
    /// Steps done, for tests that bound the work.
    #[cfg(test)]
    done: usize,
}

/// What is left to do. The last one pushed is done first.
enum Step<'p> {
    /// Begin a task.
    Enter(Entry<'p>),
    /// Begin the next child of a collection, or end the collection.
    Fill(TaskKey),
    /// Go on after a task that ended.
    Leave { key: TaskKey, task: &'p Task, end: End },
}

/// A task to begin.
pub(crate) struct Entry<'p> {
    pub(crate) parent: Option<TaskKey>,
    pub(crate) task: &'p Task,
    pub(crate) at: usize,
    /// The arguments that a transition gave, or why it could not.
    pub(crate) with: Option<Result<Value, Fault>>,
}

/// How a task ended.
pub(crate) enum End {
    /// With the task that a router chose.
    Success { route: Option<String> },
    /// With the failure as the container reports it: its message names the task.
    Failure(Failure),
}

/// How a task answers when it needs no executor.
#[derive(Default)]
pub(crate) struct Answer {
    /// What its `outputs` template sees as `output`; `None` for an aggregate.
    pub(crate) output: Option<Value>,
    /// The task that a router chose.
    pub(crate) route: Option<String>,
}

impl<'p, 's> Machine<'p, 's> {
    pub(crate) fn new(plan: &'p Plan, state: &'s mut RunState) -> Self {
        Self {
            plan,
            state,
            commands: Vec::new(),
            steps: Vec::new(),
            entered: 0,
            exceeded: None,
            #[cfg(test)]
            done: 0,
        }
    }

    /// The run begins.
    pub(crate) fn start(&mut self) {
        let input = std::mem::take(&mut self.state.input);
        match self.kept(&Place::Workflow, "its input", &input) {
            Ok(()) => self.state.input = input,
            Err(fault) => return self.abort(fault),
        }
        match self.plan.tasks.first() {
            Some(task) => self.push(Entry { parent: None, task, at: 0, with: None }),
            None => self.succeed(Value::Null),
        }
        self.run();
    }

    /// The executor answered.
    pub(crate) fn completed(&mut self, key: &TaskKey, output: &Value) {
        match self.planned(key) {
            Ok(task) => self.conclude(key, task, Some(output), None),
            Err(fault) => self.abort_at(key, fault),
        }
        self.run();
    }

    /// The executor gave up.
    pub(crate) fn failed(&mut self, key: &TaskKey, failure: &Failure) {
        match self.planned(key) {
            Ok(task) => {
                // Details are an extra; too deep, they would make the state unreadable.
                let details = measure::size(&failure.details).map_or(Value::Null, |_| failure.details.clone());
                let failure = Failure { details, ..failure.clone() };
                let named = Failure { message: format!("task `{key}`: {}", failure.message), ..failure.clone() };
                self.fail(key, task, failure, named);
            }
            Err(fault) => self.abort_at(key, fault),
        }
        self.run();
    }

    /// Ends the run on request, with everything in it.
    pub(crate) fn cancel(&mut self, failure: Failure) {
        self.end_all(Status::Canceled, failure);
    }

    /// Ends the run with a fault that no `on_error` may catch.
    pub(crate) fn abort(&mut self, fault: Fault) {
        self.end_all(Status::Failed, fault.into());
    }

    /// As [`Self::abort`], from a task whose executor has just answered.
    fn abort_at(&mut self, key: &TaskKey, fault: Fault) {
        let now_ms = self.state.now_ms;
        let entry = &mut self.state.tasks[key];
        entry.end(Status::Failed, now_ms);
        entry.failure = Some(fault.clone().into());
        self.abort(fault);
    }

    fn run(&mut self) {
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
    pub(crate) fn push_fill(&mut self, collection: &TaskKey) {
        if !self.steps.iter().any(|step| matches!(step, Step::Fill(key) if key == collection)) {
            self.steps.push(Step::Fill(collection.clone()));
        }
    }

    /// Begins a task: its arguments, its entry in the state, and what its type asks for.
    fn enter(&mut self, entry: Entry<'p>) -> Result<(), Fault> {
        let Entry { parent, task, at, with } = entry;
        let children = locate::children(self.plan, self.state, parent.as_ref());
        let first = match (&parent, children) {
            (Some(collection), Some(Children::Each(_))) => collection.item(at),
            _ => TaskKey::of(parent.as_ref(), &task.id),
        };
        let visit = self.state.visits_of(&first) + 1;
        let key = first.visit(visit);
        self.charge(&key)?;
        // Rendered before the visit is in the state: a loop's `tasks.<id>` is the visit before.
        let with =
            with.unwrap_or_else(|| Site::outside(&key, parent.as_ref(), at, task).arguments(self.plan, self.state));
        let (with, fault) = self.admitted(&key, task, with);
        if visit > 1 {
            self.state.visits.insert(first, visit);
        }
        let begun = TaskState::begun(task, parent, at, with, self.state.now_ms);
        self.state.tasks.insert(key.clone(), begun);
        let begun = match fault {
            Some(fault) => Err(fault),
            None => self.begin(&key, task),
        };
        match begun {
            Ok(None) => {}
            Ok(Some(answer)) => self.conclude(&key, task, answer.output.as_ref(), answer.route),
            Err(fault) => self.fail_by(&key, task, fault),
        }
        Ok(())
    }

    /// The arguments to keep, and what is wrong with them.
    fn admitted(&mut self, key: &TaskKey, task: &Task, with: Result<Value, Fault>) -> (Value, Option<Fault>) {
        let place = Place::Task(key.clone());
        let with = match with.and_then(|with| self.kept(&place, "`with`", &with).map(|()| with)) {
            Ok(with) => with,
            Err(fault) => return (Value::Null, Some(fault)),
        };
        let arguments = if with.is_null() { crate::state::no_arguments() } else { &with };
        let checked = task.input.as_ref().map_or(Ok(()), |schema| schema.validate(arguments));
        let fault = checked.err().map(|violations| Fault::InputInvalid { place, reason: joined(&violations) });
        (with, fault)
    }

    /// What a task's type does first. Answers at once unless the task waits for an executor or for children.
    fn begin(&mut self, key: &TaskKey, task: &'p Task) -> Result<Option<Answer>, Fault> {
        match &task.kind {
            TaskKind::Basic(tool) => {
                let input = self.state.tasks[key].arguments().clone();
                let (tool, policy) = (tool.clone(), task.policy.clone());
                self.commands.push(Command::ScheduleTask { task: key.clone(), tool, input, policy });
                Ok(None)
            }
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
                self.expand(key, task, collection)?;
                self.push_fill(key);
                Ok(None)
            }
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

    /// Makes a task's output of its answer and ends the task.
    pub(crate) fn conclude(&mut self, key: &TaskKey, task: &'p Task, answer: Option<&Value>, route: Option<String>) {
        match self.output_of(key, task, answer) {
            Ok(output) => {
                let now_ms = self.state.now_ms;
                let entry = &mut self.state.tasks[key];
                entry.end(Status::Success, now_ms);
                entry.output = Some(output);
                self.steps.push(Step::Leave { key: key.clone(), task, end: End::Success { route } });
            }
            Err(fault) => self.fail_by(key, task, fault),
        }
    }

    fn output_of(&mut self, key: &TaskKey, task: &'p Task, answer: Option<&Value>) -> Result<Value, Fault> {
        let output = match &task.outputs {
            Some(template) => {
                let site = Site { output: answer, ..Site::inside(key, &self.state.tasks[key], task) };
                site.render(self.plan, self.state, template, "outputs")?
            }
            None => answer.cloned().unwrap_or(Value::Null),
        };
        self.kept(&Place::Task(key.clone()), "its output", &output)?;
        if let Some(schema) = &task.output {
            schema.validate(&output).map_err(|violations| Fault::OutputInvalid {
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
        let now_ms = self.state.now_ms;
        let entry = &mut self.state.tasks[key];
        entry.end(Status::Failed, now_ms);
        entry.failure = Some(failure);
        self.steps.push(Step::Leave { key: key.clone(), task, end: End::Failure(named) });
    }

    /// The plan's task of a key.
    pub(crate) fn planned(&self, key: &TaskKey) -> Result<&'p Task, Fault> {
        locate::task(self.plan, self.state, key).ok_or_else(|| Fault::mismatch(key, "the task itself"))
    }

    /// The workflow's list ended; `last` is the output of the task that ended it.
    pub(crate) fn succeed(&mut self, last: Value) {
        // Templates see how the run ended.
        self.state.status = Status::Success;
        let output = match &self.plan.outputs {
            Some(template) => {
                Site { output: Some(&last), ..Site::default() }.render(self.plan, self.state, template, "outputs")
            }
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
        self.commands.push(Command::Finish);
    }

    /// Ends the run and all that runs in it.
    fn end_all(&mut self, status: Status, failure: Failure) {
        self.steps.clear();
        // What this very event scheduled was never seen by an engine: it is dropped, not cancelled.
        let unseen: BTreeSet<TaskKey> = std::mem::take(&mut self.commands)
            .into_iter()
            .filter_map(|command| match command {
                Command::ScheduleTask { task, .. } => Some(task),
                Command::CancelTask { .. } | Command::Finish => None,
            })
            .collect();
        let now_ms = self.state.now_ms;
        for (key, task) in &mut self.state.tasks {
            if task.status.is_terminal() {
                continue;
            }
            if task.is_scheduled() && !unseen.contains(key) {
                self.commands.push(Command::CancelTask { task: key.clone() });
            }
            task.end(Status::Canceled, now_ms);
        }
        self.finish(status, None, Some(failure));
    }
}

fn joined(violations: &[Violation]) -> String {
    violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use compozy_plan::plan::{PLAN_FORMAT, Plan, TaskPolicy};
    use serde_json::{Value, json};

    use super::Machine;
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
        let mut machine = Machine::new(&plan, &mut state);
        machine.start();
        // To fill up: the collection itself, and for each child one look and one begin.
        assert!(machine.done <= 2 * 100 + 3, "{} steps", machine.done);
        assert_eq!(machine.commands.len(), 100);
        for at in 0..ITEMS {
            let mut machine = Machine::new(&plan, &mut state);
            machine.completed(&TaskKey(format!("all[{at}]")), &json!(at));
            // The child's end, a look at the collection, the next child, a look again; at last the collection's end.
            assert!(machine.done <= 4, "{} steps for child {at}", machine.done);
            let expected = usize::from(at < ITEMS - 100 || at == ITEMS - 1);
            assert_eq!(machine.commands.len(), expected, "child {at}");
            if at == ITEMS - 1 {
                assert_eq!(machine.commands, [Command::Finish]);
            }
        }
        assert_eq!(state.status, Status::Success);
        assert_eq!(state.output.as_ref().map(|output| output["outputs"][ITEMS - 1].clone()), Some(json!(ITEMS - 1)));
    }
}
