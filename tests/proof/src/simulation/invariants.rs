//! What must hold whenever the engine is at rest.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use compozy_engine::port::{Execution, JournalRecord};
use compozy_interpreter::{Status, TaskState};

/// What is known of a run, from the times that it was looked at.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Its journal. What is in it stays.
    pub(super) journal: Vec<JournalRecord>,
    /// When its timers are due.
    pub(super) timers: BTreeMap<String, u64>,
    /// The tasks that ended.
    ended: BTreeSet<String>,
    /// When which task's next attempt is due, and how many there were.
    delayed: BTreeMap<String, (u64, u32)>,
    pub(super) status: Option<Status>,
}

/// What else is to be known for a look at a run.
pub(super) struct Around<'a> {
    /// The latest time that the clock showed since the last look.
    pub(super) now_ms: u64,
    /// The tasks of this run that an executor works on.
    pub(super) worked_on: &'a BTreeSet<String>,
    /// No further attempt may begin.
    pub(super) full: bool,
    /// What executors answered for this run, by task.
    pub(super) answers: &'a BTreeMap<String, BTreeSet<String>>,
    /// The status of every run.
    pub(super) all: &'a BTreeMap<String, Status>,
}

impl Known {
    /// Looks at a run, and remembers what it saw.
    pub(super) fn look(
        &mut self,
        execution: &Execution,
        journal: Vec<JournalRecord>,
        around: &Around<'_>,
    ) -> Result<()> {
        let id = &execution.id;
        let kept = journal.get(..self.journal.len());
        ensure!(kept == Some(&self.journal), "the journal of {id} is not what it was, with more at its end");
        let seqs: Vec<u64> = journal.iter().map(|record| record.seq).collect();
        let events = execution.events;
        ensure!(
            seqs == (1..=events).collect::<Vec<_>>(),
            "the {events} events of {id} are numbered {seqs:?}: {journal:?}"
        );
        ensure!(journal.is_sorted_by_key(|record| record.at_ms), "the journal of {id} goes back in time");
        for record in &journal[self.journal.len()..] {
            self.new_record(record, execution, around).with_context(|| format!("event {} of {id}", record.seq))?;
        }
        self.attempts(execution, around)?;
        ensure!(
            self.status.is_none_or(|before| before != Status::Success
                || execution.state.status == before
                || self.rewound(&journal)),
            "{id} had ended well and goes on"
        );
        if !execution.state.status.is_terminal() {
            moves(execution, around).with_context(|| format!("{id} is stuck as {}", execution.state.status.name()))?;
        }
        self.journal = journal;
        self.timers.clone_from(&execution.state.timers);
        self.status = Some(execution.state.status);
        Ok(())
    }

    /// Whether somebody made it go back since the last look.
    fn rewound(&self, journal: &[JournalRecord]) -> bool {
        let rewinds = ["retry_requested", "reset_requested"];
        journal[self.journal.len()..].iter().any(|record| rewinds.iter().any(|kind| record.event["kind"] == *kind))
    }

    fn new_record(&mut self, record: &JournalRecord, execution: &Execution, around: &Around<'_>) -> Result<()> {
        let event = &record.event;
        match event["kind"].as_str().unwrap_or_default() {
            kind @ ("task_completed" | "task_failed") => {
                let task = event["task"].as_str().context("an end of a task names it")?;
                ensure!(self.ended.insert(task.to_owned()), "the end of {task} is recorded twice");
                let is_child = execution.children.contains_key(task);
                if kind == "task_completed"
                    && !is_child
                    && let Some(token) = event["output"]["token"].as_str()
                {
                    let given = around.answers.get(task).is_some_and(|answers| answers.contains(token));
                    ensure!(given, "{task} is recorded with {token}, which nobody answered");
                }
            }
            "timer_fired" => {
                let timer: compozy_interpreter::Timer = serde_json::from_value(event["timer"].clone())?;
                if let Some(due) = self.timers.get(&timer.to_string()) {
                    ensure!(*due <= around.now_ms, "{timer} fired {} ms too early", due - around.now_ms);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// No attempt begins before its time.
    fn attempts(&mut self, execution: &Execution, around: &Around<'_>) -> Result<()> {
        for (task, (due, count)) in &self.delayed {
            let now = execution.attempts.get(task).map_or(0, |record| record.attempts);
            ensure!(now >= *count, "{task} of {} had {count} attempts and has {now}", execution.id);
            ensure!(now == *count || *due <= around.now_ms, "attempt {now} of {task} began before {due}");
        }
        let delayed = execution
            .attempts
            .iter()
            .filter_map(|(task, record)| Some((task.clone(), (record.next_attempt_at_ms?, record.attempts))));
        self.delayed = delayed.collect();
        Ok(())
    }
}

/// Something must be left that can happen to a run that has not ended.
fn moves(execution: &Execution, around: &Around<'_>) -> Result<()> {
    let state = &execution.state;
    for (timer, due) in &state.timers {
        ensure!(*due > around.now_ms, "its timer {timer} is due since {} ms", around.now_ms - due);
    }
    let scheduled: Vec<_> = state.tasks.iter().filter(|(_, task)| TaskState::is_scheduled(task)).collect();
    for (key, task) in &scheduled {
        let key = key.0.as_str();
        match task.kind.as_str() {
            "workflow" => {
                let child = execution.children.get(key).with_context(|| format!("{key} has started no child"))?;
                let status = around.all.get(&child.0).with_context(|| format!("the child {child} is gone"))?;
                ensure!(!status.is_terminal(), "the child of {key} has ended as {}", status.name());
            }
            "signal" => anyhow::bail!("the signal of {key} is not delivered"),
            _ => {
                let delayed = execution.attempts.get(key).and_then(|record| record.next_attempt_at_ms);
                let waits = delayed.is_some_and(|due| due > around.now_ms);
                ensure!(waits || around.full || around.worked_on.contains(key), "nobody works on {key}");
            }
        }
    }
    let waits = !scheduled.is_empty() || !state.timers.is_empty() || !state.waits.is_empty() || state.paused.is_some();
    ensure!(waits, "nothing can happen to it any more");
    Ok(())
}
