//! Waits: a signal is taken by the first wait that likes it, once.

use compozy_plan::parse_duration;
use compozy_plan::plan::{Plan, Task, TaskKind, Wait};
use serde_json::{Value, json};

use crate::event::{TaskKey, Timer};
use crate::fault::{Fault, Place, shown};
use crate::machine::{End, Entry, Machine, Step};
use crate::scope::Site;
use crate::signal::signal_value;
use crate::state::{Received, Status, WaitProgress};

impl<'p> Machine<'p, '_> {
    /// Begins to wait; looks first at what came before.
    pub(crate) fn wait(&mut self, key: &TaskKey, task: &'p Task, wait: &Wait) -> Result<(), Fault> {
        let mut timeout_ms = 0;
        if let Some(template) = &wait.timeout {
            let site = Site::inside(key, &self.state.tasks[key], task);
            let value = site.render_whole(self.world(), template, "timeout")?;
            timeout_ms = milliseconds(&value).ok_or_else(|| Fault::WrongValue {
                place: Place::Task(key.clone()),
                field: "timeout",
                wanted: "a duration like `30s`, or a number of milliseconds, more than 0",
                found: shown(&value),
            })?;
            self.start_timer(Timer::Wait { task: key.clone() }, timeout_ms);
        }
        let entry = &mut self.state.tasks[key];
        entry.status = Status::Waiting;
        entry.wait = Some(WaitProgress { name: wait.name.clone(), timeout_ms, ..WaitProgress::default() });
        self.state.waits.push(key.clone());
        self.steps.push(Step::Look(key.clone()));
        Ok(())
    }

    /// Keeps a signal, and lets those that wait for it look at it, the one that began first first.
    pub(crate) fn received(&mut self, signal: &crate::event::Signal) {
        let place = Place::Workflow;
        if self.kept(&place, "a signal", &signal.payload).is_err() {
            return;
        }
        self.state.signals += 1;
        self.state.signal_ids.insert(signal.id.clone());
        let (number, at_ms) = (self.state.signals, self.state.now_ms);
        self.state.inbox.push(Received { number, at_ms, signal: signal.clone() });
        for key in self.state.waits.iter().rev() {
            let wait = self.state.tasks[key].wait.as_ref();
            if wait.is_some_and(|wait| wait.name == signal.name && wait.looking.is_none()) {
                self.steps.push(Step::Look(key.clone()));
            }
        }
        self.run();
    }

    /// Looks at the next signal that a wait has not seen.
    pub(crate) fn look(&mut self, key: &TaskKey) -> Result<(), Fault> {
        let task = self.planned(key)?;
        let TaskKind::Wait(wait) = &task.kind else {
            return Err(Fault::mismatch(key, "the wait"));
        };
        loop {
            let Some(progress) = self.state.tasks[key].wait.as_mut().filter(|wait| wait.looking.is_none()) else {
                return Ok(());
            };
            let next = self.state.inbox.partition_point(|received| received.number <= progress.seen);
            let next = self.state.inbox[next..].iter().find(|received| received.signal.name == wait.name);
            let Some(received) = next.cloned() else { return Ok(()) };
            progress.seen = received.number;
            if let Some(processor) = &wait.processor {
                progress.looking = Some(received);
                self.push(Entry { parent: Some(key.clone()), task: processor, at: 0, with: None });
                return Ok(());
            }
            if self.judge(key, task, wait, &received, None) {
                return Ok(());
            }
        }
    }

    /// The processor of a wait has looked at a signal.
    pub(crate) fn processed(&mut self, key: &TaskKey, processor: &TaskKey, end: End) -> Result<(), Fault> {
        let task = self.planned(key)?;
        let TaskKind::Wait(wait) = &task.kind else {
            return Err(Fault::mismatch(key, "the wait"));
        };
        if let End::Failure { failure, .. } = end {
            self.fail(key, task, failure.clone(), failure);
            return Ok(());
        }
        let looking = self.state.tasks[key].wait.as_mut().and_then(|wait| wait.looking.take());
        let output = self.state.tasks[processor].output.clone().unwrap_or(Value::Null);
        // Another wait may have taken the signal meanwhile.
        let received = looking.filter(|looking| self.place_of(looking.number).is_some());
        if received.is_none_or(|received| !self.judge(key, task, wait, &received, Some(&output))) {
            self.steps.push(Step::Look(key.clone()));
        }
        Ok(())
    }

    /// Takes the signal if the condition says so. True when the wait is over.
    fn judge(
        &mut self,
        key: &TaskKey,
        task: &'p Task,
        wait: &Wait,
        received: &Received,
        processor: Option<&Value>,
    ) -> bool {
        let signal = signal_value(self.plan, received);
        let site = Site { signal: Some(&signal), processor, ..Site::inside(key, &self.state.tasks[key], task) };
        let liked =
            wait.condition.as_ref().map_or(Ok(true), |condition| site.is_true(self.world(), condition, "condition"));
        match liked {
            Ok(false) => return false,
            Ok(true) => {
                if let Some(place) = self.place_of(received.number) {
                    self.state.inbox.remove(place);
                }
                let mut answer = json!({ "wait_status": "completed", "signal": signal });
                if let Some(processor) = processor {
                    answer["processor_output"] = processor.clone();
                }
                self.conclude(key, task, Some(&answer), None);
            }
            Err(fault) => self.fail_by(key, task, fault),
        }
        true
    }

    fn place_of(&self, number: u64) -> Option<usize> {
        self.state.inbox.binary_search_by_key(&number, |received| received.number).ok()
    }
}

/// The waits of a plan for signals of this name, and the other names that it waits for.
pub(crate) fn waits_for<'p>(plan: &'p Plan, name: &str) -> (Vec<&'p Wait>, Vec<&'p str>) {
    let (mut fitting, mut names) = (Vec::new(), Vec::new());
    let mut open: Vec<&'p Task> = plan.tasks.iter().rev().collect();
    while let Some(task) = open.pop() {
        match &task.kind {
            TaskKind::Wait(wait) => {
                if wait.name == name {
                    fitting.push(wait.as_ref());
                } else if !names.contains(&wait.name.as_str()) {
                    names.push(wait.name.as_str());
                }
                open.extend(&wait.processor);
            }
            TaskKind::Composite { tasks } => open.extend(tasks.iter().rev()),
            TaskKind::Parallel(parallel) => open.extend(parallel.tasks.iter().rev()),
            TaskKind::Collection(collection) => open.push(&collection.task),
            TaskKind::Basic(_)
            | TaskKind::Router { .. }
            | TaskKind::Aggregate
            | TaskKind::Signal(_)
            | TaskKind::Memory(_)
            | TaskKind::Workflow(_) => {}
        }
    }
    (fitting, names)
}

fn milliseconds(value: &Value) -> Option<u64> {
    let ms = match value {
        Value::String(text) => parse_duration(text).ok()?,
        Value::Number(number) => number.as_u64()?,
        _ => return None,
    };
    (1..=compozy_plan::limits::DURATION_MS_MAX).contains(&ms).then_some(ms)
}
