//! A simulated engine, and checks that hold between any two events.
#![allow(dead_code, reason = "each test file uses a part of it")]

mod apart;

use std::collections::BTreeMap;

use compozy_interpreter::{
    Command, Event, Failure, NoBlobs, RunState, Signal, Status, TaskKey, TaskState, Timer, advance,
};
use compozy_plan::plan::Plan;
use serde_json::{Value, json};

use self::apart::Apart;

/// Hands events to a run and checks everything that must hold after each.
pub(crate) struct Run<'p> {
    /// What the run goes by.
    pub(crate) plan: &'p Plan,
    /// As it stands.
    pub(crate) state: RunState,
    /// Went through JSON after every event; must never differ.
    stored: RunState,
    /// The same with references in the place of values; must never differ.
    apart: Apart,
    now_ms: u64,
    /// Scheduled, not answered and not cancelled, in the order of scheduling.
    pub(crate) open: Vec<TaskKey>,
    /// Timers that run, in the order in which they were started.
    pub(crate) timers: Vec<Timer>,
    /// Every event that was sent, with what it was answered.
    pub(crate) history: Vec<(Event, Vec<Command>)>,
}

impl<'p> Run<'p> {
    /// A run before its first event.
    pub(crate) fn new(plan: &'p Plan) -> Self {
        Self {
            plan,
            state: RunState::new(),
            stored: RunState::new(),
            apart: Apart::default(),
            now_ms: 1_000,
            open: Vec::new(),
            timers: Vec::new(),
            history: Vec::new(),
        }
    }

    /// The first event.
    pub(crate) fn start(&mut self, input: Value) -> Vec<Command> {
        let now_ms = self.tick();
        self.send(&Event::Started { now_ms, execution_id: "exec-1".to_owned(), seed: 7, input })
    }

    /// An executor's answer.
    pub(crate) fn done(&mut self, task: &TaskKey, output: Value) -> Vec<Command> {
        let now_ms = self.tick();
        self.send(&Event::TaskCompleted { now_ms, task: task.clone(), output })
    }

    /// An executor's failure.
    pub(crate) fn fail(&mut self, task: &TaskKey, failure: Failure) -> Vec<Command> {
        let now_ms = self.tick();
        self.send(&Event::TaskFailed { now_ms, task: task.clone(), failure })
    }

    /// Somebody's wish to end at once.
    pub(crate) fn cancel(&mut self, reason: &str) -> Vec<Command> {
        self.cancel_within(0, reason)
    }

    /// Somebody's wish to end within a time.
    pub(crate) fn cancel_within(&mut self, grace_ms: u64, reason: &str) -> Vec<Command> {
        let now_ms = self.tick();
        self.send(&Event::CancelRequested { now_ms, reason: reason.to_owned(), grace_ms })
    }

    /// A timer's time has come.
    pub(crate) fn fire(&mut self, timer: &Timer) -> Vec<Command> {
        let now_ms = self.tick();
        self.send(&Event::TimerFired { now_ms, timer: timer.clone() })
    }

    /// Somebody says something.
    pub(crate) fn signal(&mut self, name: &str, id: &str, payload: Value) -> Vec<Command> {
        let now_ms = self.tick();
        let signal = Signal { name: name.to_owned(), payload, id: id.to_owned(), source: "test".to_owned() };
        self.send(&Event::SignalReceived { now_ms, signal })
    }

    pub(crate) fn pause(&mut self) -> Vec<Command> {
        let now_ms = self.tick();
        self.send(&Event::PauseRequested { now_ms, reason: "a look".to_owned() })
    }

    pub(crate) fn resume(&mut self) -> Vec<Command> {
        let now_ms = self.tick();
        self.send(&Event::ResumeRequested { now_ms })
    }

    pub(crate) fn retry(&mut self) -> Vec<Command> {
        let now_ms = self.tick();
        self.send(&Event::RetryRequested { now_ms })
    }

    pub(crate) fn reset(&mut self, task: &str) -> Vec<Command> {
        let now_ms = self.tick();
        self.send(&Event::ResetRequested { now_ms, task: TaskKey(task.to_owned()) })
    }

    fn tick(&mut self) -> u64 {
        self.now_ms += 10;
        self.now_ms
    }

    /// Any event.
    pub(crate) fn send(&mut self, event: &Event) -> Vec<Command> {
        let before = self.state.clone();
        let commands = advance(self.plan, &mut self.state, event, &NoBlobs).expect("nothing is kept apart");
        let again = advance(self.plan, &mut self.stored, event, &NoBlobs).expect("nothing is kept apart");
        assert_eq!(commands, again, "a state that was stored leads elsewhere");
        let text = serde_json::to_string(&self.state).expect("a state is JSON");
        let stored = serde_json::to_string(&self.stored).expect("a state is JSON");
        assert_eq!(text, stored, "a state that was stored becomes another");
        self.stored = serde_json::from_str(&text).expect("a state comes back from JSON");
        assert_eq!(self.stored, self.state, "a state comes back from JSON as another");
        self.apart.follow(self.plan, event, &self.state, &commands);
        self.check(&before, event, &commands);
        self.history.push((event.clone(), commands.clone()));
        commands
    }

    fn check(&mut self, before: &RunState, event: &Event, commands: &[Command]) {
        let state = &self.state;
        assert!(state.now_ms >= before.now_ms, "time went back");
        let rewinds = matches!(event, Event::RetryRequested { .. } | Event::ResetRequested { .. });
        if before.status.is_terminal() && !rewinds {
            assert_eq!((state, commands), (before, [].as_slice()), "{event:?} changed a run that has ended");
        }
        if let Event::TaskCompleted { task, .. } | Event::TaskFailed { task, .. } = event {
            if !before.tasks.get(task).is_some_and(TaskState::is_scheduled) {
                assert_eq!((state, commands), (before, [].as_slice()), "{event:?} is for nobody");
            }
            self.open.retain(|open| open != task);
        }
        if let Event::TimerFired { timer, .. } = event {
            self.timers.retain(|open| open != timer);
        }
        for command in commands {
            match command {
                Command::ScheduleTask { task, .. }
                | Command::StartChild { task, .. }
                | Command::SendSignal { task, .. } => {
                    assert!(state.tasks[task].is_scheduled(), "{task} was scheduled but does not run");
                    assert!(!before.tasks.contains_key(task), "{task} was scheduled before");
                    self.open.push(task.clone());
                }
                Command::CancelTask { task } => {
                    assert!(self.open.contains(task), "{task} was cancelled but does not run");
                    self.open.retain(|open| open != task);
                }
                Command::AskTaskToEnd { task, .. } => assert!(self.open.contains(task), "{task} does not run"),
                Command::StartTimer { timer, fire_at_ms } => {
                    assert!(*fire_at_ms >= state.now_ms, "{timer} is due before it begins");
                    assert!(!self.timers.contains(timer), "{timer} runs already");
                    self.timers.push(timer.clone());
                }
                Command::CancelTimer { timer } => {
                    // One that was started and stopped by the same event is told in that order.
                    assert!(self.timers.contains(timer), "{timer} does not run");
                    self.timers.retain(|open| open != timer);
                }
                Command::Finish => assert!(state.status.is_terminal(), "finished while {:?}", state.status),
            }
        }
        self.check_end(before, commands);
        let scheduled: Vec<TaskKey> = self.state.scheduled().map(|(key, _)| key.clone()).collect();
        assert_eq!(scheduled, sorted_like(&self.state, &self.open), "the state forgot what is scheduled");
        assert_eq!(self.state.active, scheduled.len(), "the state counts what is scheduled");
        if self.state.status.is_terminal() {
            self.timers.clear();
        }
        let mut timers: Vec<String> = self.timers.iter().map(ToString::to_string).collect();
        timers.sort_unstable();
        assert_eq!(self.state.timers.keys().cloned().collect::<Vec<_>>(), timers, "the state forgot a timer");
        for timer in &self.timers {
            assert_eq!(timer.to_string().parse().as_ref(), Ok(timer), "a timer's text names it");
        }
        let waiting = self.state.tasks.iter().filter(|(_, task)| task.status == Status::Waiting);
        let mut waits = self.state.waits.clone();
        waits.sort_by_key(|key| self.state.tasks.get_index_of(key));
        assert_eq!(waiting.map(|(key, _)| key.clone()).collect::<Vec<_>>(), waits, "the state forgot a wait");
        match self.state.status {
            Status::Running => assert!(!scheduled.is_empty(), "the run waits for nothing"),
            Status::Waiting => {
                assert!(scheduled.is_empty());
                assert!(!waits.is_empty() || !self.timers.is_empty(), "the run waits for nothing");
            }
            _ => {}
        }
    }

    fn check_end(&self, before: &RunState, commands: &[Command]) {
        let state = &self.state;
        let ends = commands.iter().filter(|command| **command == Command::Finish).count();
        // A run that goes back may end again at once.
        let ended = state.status.is_terminal() && (!before.status.is_terminal() || !commands.is_empty());
        assert_eq!(ends, usize::from(ended), "a run finishes exactly once");
        if ended {
            assert_eq!(commands.last(), Some(&Command::Finish), "nothing comes after the finish");
            assert!(state.tasks.values().all(|task| task.status.is_terminal()), "a task outlives its run");
            assert!(self.open.is_empty(), "scheduled tasks outlive their run: {:?}", self.open);
            assert_eq!(state.output.is_some(), state.status == Status::Success);
            assert_eq!(state.failure.is_some(), state.status != Status::Success);
        }
    }

    /// What the run came to, without the order and the times.
    pub(crate) fn summary(&self) -> Value {
        let tasks: BTreeMap<&str, Value> = self
            .state
            .tasks
            .iter()
            .map(|(key, task)| {
                let facts = json!([task.status, task.with, task.output, task.failure]);
                (key.0.as_str(), facts)
            })
            .collect();
        json!({ "status": self.state.status, "output": self.state.output, "failure": self.state.failure, "tasks": tasks })
    }
}

fn sorted_like(state: &RunState, keys: &[TaskKey]) -> Vec<TaskKey> {
    let mut keys = keys.to_vec();
    keys.sort_by_key(|key| state.tasks.get_index_of(key));
    keys
}

/// An executor that always does the same with the same task: some fail, the others answer what depends on their input.
pub(crate) fn execute(key: &TaskKey, input: &Value, failing_percent: u64) -> Result<Value, Failure> {
    let hash = fnv(&format!("{key} {input}"));
    if hash % 100 < failing_percent {
        return Err(Failure::permanent("BROKEN", format!("{key} broke")));
    }
    Ok(json!({ "key": key, "sum": hash % 1_000, "flag": hash.is_multiple_of(2) }))
}

fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
