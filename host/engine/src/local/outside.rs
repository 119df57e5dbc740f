//! What reaches beyond one run's journal: timers, other runs, and requests to end.

use compozy_interpreter::{Event, Failure, Signal, Status, TaskKey, TaskState};
use compozy_plan::plan::ParentClose;
use rusqlite::OptionalExtension as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::runs::{Fault, Hot};
use super::tx::{Effect, OPEN_TASK, Tx, clamp, to_json};

/// The child runs of a run that have not ended, and what is to become of them.
pub(super) const OPEN_CHILDREN: &str = "SELECT id, parent_close FROM run INDEXED BY run_parent
    WHERE parent = ?1 AND ended_at_ms IS NULL";
/// The same of one task.
pub(super) const OPEN_CHILD: &str = "SELECT id, parent_close FROM run INDEXED BY run_parent
    WHERE parent = ?1 AND parent_task = ?2 AND ended_at_ms IS NULL";

/// What one run tells another, or the engine tells a run because of another.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Letter {
    /// Start another workflow as a task of the sender.
    StartChild { task: TaskKey, workflow: String, input: Value, parent_close: ParentClose },
    /// Send a signal, and answer the sender's task.
    Signal { task: TaskKey, to: Option<Vec<String>>, signal: Signal },
    /// End the run `run`, because the sender wants it no more.
    Close { run: i64, grace_ms: u64, terminate: bool },
    /// The sender, a child of `run`, has ended well.
    Succeeded { run: i64, task: TaskKey, output: Value },
    /// The sender, a child of `run`, has ended otherwise.
    Failed { run: i64, task: TaskKey, failure: Failure },
}

/// The timer of a task that waits for a slot.
pub(super) fn waits_until(task: i64) -> String {
    format!("slot:{task}")
}

/// The task of such a timer.
pub(super) fn waiting_task(timer: &str) -> Option<i64> {
    timer.strip_prefix("slot:")?.parse().ok()
}

impl Tx<'_> {
    pub(super) fn start_timer(&mut self, run: i64, timer: &str, fire_ms: u64) -> Result<(), Fault> {
        let fire_ms = clamp(fire_ms);
        self.conn
            .prepare_cached(
                "INSERT INTO timer(run, id, fire_ms) VALUES (?1, ?2, ?3)
                 ON CONFLICT(run, id) DO UPDATE SET fire_ms = excluded.fire_ms",
            )?
            .execute((run, timer, fire_ms))?;
        self.first_timer = Some(self.first_timer.map_or(fire_ms, |first| first.min(fire_ms)));
        Ok(())
    }

    pub(super) fn stop_timer(&self, run: i64, timer: &str) -> Result<(), Fault> {
        self.conn.prepare_cached("DELETE FROM timer WHERE run = ?1 AND id = ?2")?.execute((run, timer))?;
        Ok(())
    }

    /// Puts a letter into the outbox; it is taken in this transaction or a later one, also after a crash.
    pub(super) fn post(&mut self, run: i64, letter: &Letter) -> Result<(), Fault> {
        self.conn.prepare_cached("INSERT INTO outbox(run, body) VALUES (?1, ?2)")?.execute((run, to_json(letter)?))?;
        self.letters += 1;
        Ok(())
    }

    /// Closes the child runs of a run that have not ended: those of one task, or all.
    pub(super) fn close_children(&mut self, hot: &Hot, only: Option<&TaskKey>) -> Result<(), Fault> {
        let has_children = |task: &TaskState| task.kind == "workflow";
        let may_be = match only {
            Some(key) => hot.state.tasks.get(key).is_some_and(has_children),
            None => hot.state.tasks.values().any(has_children),
        };
        if !may_be {
            return Ok(());
        }
        for (run, close) in self.open_children(hot.row, only)? {
            let terminate = match close {
                ParentClose::Abandon => continue,
                ParentClose::Terminate => true,
                ParentClose::Cancel => false,
            };
            self.post(hot.row, &Letter::Close { run, grace_ms: 0, terminate })?;
        }
        Ok(())
    }

    fn open_children(&self, run: i64, only: Option<&TaskKey>) -> Result<Vec<(i64, ParentClose)>, Fault> {
        let mut statement = self.conn.prepare_cached(if only.is_some() { OPEN_CHILD } else { OPEN_CHILDREN })?;
        let mut rows = match only {
            Some(key) => statement.query((run, &key.0))?,
            None => statement.query([run])?,
        };
        let mut children = Vec::new();
        while let Some(row) = rows.next()? {
            let close: Option<String> = row.get(1)?;
            let close = close.and_then(|close| serde_json::from_value(Value::String(close)).ok()).unwrap_or_default();
            children.push((row.get(0)?, close));
        }
        Ok(children)
    }

    /// Asks whoever works on a task to end. Answers the event of a task that nobody works on.
    pub(super) fn ask_to_end(&mut self, hot: &Hot, task: TaskKey, grace_ms: u64) -> Result<Option<Event>, Fault> {
        for (run, _) in self.open_children(hot.row, Some(&task))? {
            self.post(hot.row, &Letter::Close { run, grace_ms, terminate: false })?;
        }
        let row: Option<(i64, String, u64)> = self
            .conn
            .prepare_cached(OPEN_TASK)?
            .query_row((hot.row, &task.0), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((id, state, _)) = row else { return Ok(None) };
        if state == "running" {
            self.effects.push(Effect::Ask(id));
            return Ok(None);
        }
        self.cancel_tasks(hot.row, Some(&task))?;
        let failure = Failure::permanent("CANCELED", format!("task `{task}` waited for its next attempt"));
        Ok(Some(Event::TaskFailed { now_ms: self.event_time(hot), task, failure }))
    }

    /// Tells the run that started this one how it ended.
    pub(super) fn tell_parent(&mut self, hot: &Hot) -> Result<(), Fault> {
        let Some((run, task)) = hot.parent.clone() else { return Ok(()) };
        let letter = match (hot.state.status, &hot.state.failure) {
            (Status::Success, _) => {
                Letter::Succeeded { run, task, output: hot.state.output.clone().unwrap_or(Value::Null) }
            }
            (status, failure) => {
                let (code, message) = match failure {
                    Some(failure) => (failure.code.clone(), failure.message.clone()),
                    None => (status.name().to_owned(), "without a reason".to_owned()),
                };
                let message = format!("run {} of workflow `{}`: {message}", hot.id, hot.plan.workflow);
                let details = serde_json::json!({ "execution": hot.id.0, "status": status.name() });
                Letter::Failed { run, task, failure: Failure { details, ..Failure::permanent(code, message) } }
            }
        };
        self.post(hot.row, &letter)
    }

    /// A run that had ended goes on.
    pub(super) fn reopen(&mut self, hot: &Hot) -> Result<(), Fault> {
        self.conn
            .prepare_cached("UPDATE run SET status = ?2, ended_at_ms = NULL WHERE id = ?1")?
            .execute((hot.row, Status::Running.name()))?;
        self.effects.push(Effect::RunStarted);
        Ok(())
    }
}
