//! The outbox: what one run tells another. A letter is taken, acted upon and removed in one operation.

use std::sync::Arc;

use compozy_interpreter::{Event, Failure, Signal, TaskKey, TaskState};
use compozy_plan::plan::{ParentClose, Plan};
use serde_json::{Value, json};

use super::control::{apply, control};
use super::ops::start;
use super::outside::Letter;
use super::request::{Definitions, Parent, check, whole};
use super::runs::{Fault, Runs};
use super::tx::Tx;
use crate::port::{Control, ExecutionId, StartRequest, Workflows};
use crate::signal::{check_trigger, no_trigger, not_delivered, not_started, outcome, started};
use crate::{EngineError, limits};

/// A letter with its sender.
pub(super) struct Posted {
    pub(super) id: i64,
    pub(super) from: i64,
    pub(super) body: String,
}

/// The next letters, in the order in which they were written.
pub(super) const NEXT_LETTERS: &str = "SELECT id, run, body FROM outbox ORDER BY id LIMIT ?1";

pub(super) fn next_letters(tx: &Tx<'_>, limit: usize) -> Result<Vec<Posted>, Fault> {
    let mut statement = tx.conn.prepare_cached(NEXT_LETTERS)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows =
        statement.query_map([limit], |row| Ok(Posted { id: row.get(0)?, from: row.get(1)?, body: row.get(2)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Removes a letter.
pub(super) fn remove(tx: &mut Tx<'_>, posted: &Posted) -> Result<(), Fault> {
    let rows = tx.conn.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([posted.id])?;
    tx.letters = tx.letters.saturating_sub(rows as u64);
    Ok(())
}

/// What delivery needs beside the journal.
pub(super) struct Postman<'a> {
    pub(super) workflows: &'a dyn Workflows,
    pub(super) definitions: &'a Definitions,
}

impl Postman<'_> {
    /// Does what a letter says.
    pub(super) fn deliver(&self, tx: &mut Tx<'_>, runs: &mut Runs, posted: &Posted) -> Result<(), Fault> {
        remove(tx, posted)?;
        let letter = serde_json::from_str(&posted.body)
            .map_err(|e| Fault::Run(format!("letter {} of the outbox cannot be read: {e}", posted.id)))?;
        match letter {
            Letter::StartChild { task, workflow, input, parent_close } => {
                self.start_child(tx, runs, posted.from, task, &workflow, input, parent_close)
            }
            Letter::Signal { task, to, signal } => {
                let result = match to {
                    Some(to) => send_to(tx, runs, &to, &signal)?,
                    None => self.trigger(tx, runs, &signal)?,
                };
                answer(tx, runs, posted.from, task, result)
            }
            Letter::Close { run, .. } | Letter::Succeeded { run, .. } | Letter::Failed { run, .. }
                if !exists(tx, run)? =>
            {
                tracing::debug!(run, "a letter for a run that was removed");
                Ok(())
            }
            Letter::Close { run, grace_ms, terminate } => {
                let reason = "the run that it is a part of wants it no more".to_owned();
                let wish = if terminate { Control::Terminate { reason } } else { Control::Cancel { reason, grace_ms } };
                let mut hot = runs.take(tx.conn, run)?;
                apply(tx, &mut hot, &wish)?;
                runs.put(hot);
                Ok(())
            }
            Letter::Succeeded { run, task, output } => answer(tx, runs, run, task, Ok(output)),
            Letter::Failed { run, task, failure } => answer(tx, runs, run, task, Err(failure)),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one letter")]
    fn start_child(
        &self,
        tx: &mut Tx<'_>,
        runs: &mut Runs,
        from: i64,
        task: TaskKey,
        workflow: &str,
        input: Value,
        close: ParentClose,
    ) -> Result<(), Fault> {
        let hot = runs.take(tx.conn, from)?;
        let wanted = is_awaited(hot.state.tasks.get(&task));
        let (depth, priority) = (hot.depth + 1, hot.priority);
        runs.put(hot);
        if !wanted {
            // Cancelled before it began.
            return Ok(());
        }
        if depth > limits::CHILD_DEPTH_MAX {
            return answer(tx, runs, from, task, Err(crate::run_limit::too_deep(workflow, depth)));
        }
        let Some(plan) = self.workflows.workflow(workflow) else {
            let failure = Failure::permanent("WORKFLOW_NOT_FOUND", format!("there is no workflow `{workflow}`"));
            return answer(tx, runs, from, task, Err(failure));
        };
        let request = StartRequest { plan, input, idempotency_key: None, priority };
        match check(self.definitions, request, tx.now_ms, tx.vault)? {
            Ok(mut child) => {
                child.parent = Some(Parent { run: from, task, close, depth });
                start(tx, runs, &child).map(drop)
            }
            Err(error) => answer(tx, runs, from, task, Err(Failure::permanent(error.code(), error.to_string()))),
        }
    }

    /// Starts every workflow with a trigger of the signal's name.
    fn trigger(&self, tx: &mut Tx<'_>, runs: &mut Runs, signal: &Signal) -> Result<Result<Value, Failure>, Fault> {
        let plans = self.workflows.triggered_by(&signal.name);
        if plans.is_empty() {
            return Ok(Err(no_trigger(&signal.name)));
        }
        let (mut taken, mut refused) = (Vec::new(), Vec::new());
        for plan in plans {
            let workflow = plan.workflow.clone();
            match self.start_triggered(tx, runs, &plan, signal)? {
                Ok(id) => taken.push(started(&workflow, &id)),
                Err(error) => refused.push(not_started(&workflow, &error)),
            }
        }
        Ok(outcome(signal, "started", &taken, &refused))
    }

    fn start_triggered(
        &self,
        tx: &mut Tx<'_>,
        runs: &mut Runs,
        plan: &Arc<Plan>,
        signal: &Signal,
    ) -> Result<Result<ExecutionId, EngineError>, Fault> {
        let payload = whole(tx.vault, signal.payload.clone())?;
        if let Err(error) = check_trigger(plan, &signal.name, &payload) {
            return Ok(Err(error));
        }
        // A signal without a payload starts like a request without an input.
        let input = if signal.payload.is_null() { json!({}) } else { signal.payload.clone() };
        let request = StartRequest { plan: Arc::clone(plan), input, idempotency_key: None, priority: None };
        match check(self.definitions, request, tx.now_ms, tx.vault)? {
            Ok(checked) => start(tx, runs, &checked).map(Ok),
            Err(error) => Ok(Err(error)),
        }
    }
}

/// Sends a signal to executions. One that cannot take it does not keep it from the others.
fn send_to(tx: &mut Tx<'_>, runs: &mut Runs, to: &[String], signal: &Signal) -> Result<Result<Value, Failure>, Fault> {
    let (mut delivered, mut refused) = (Vec::new(), Vec::new());
    for id in to {
        let id = ExecutionId(id.clone());
        match tx.atomically(|tx| control(tx, runs, &id, &Control::Signal(signal.clone()))) {
            Ok(()) => delivered.push(json!(id)),
            Err(Fault::Refused(error)) => refused.push(not_delivered(&id, &error)),
            Err(Fault::Run(reason)) => {
                refused.push(json!({ "exec_id": id, "code": "EXECUTION_UNREADABLE", "message": reason }));
            }
            Err(fault @ (Fault::Sql(_) | Fault::Blob(_) | Fault::Storage(_) | Fault::Unfenced)) => return Err(fault),
        }
    }
    Ok(outcome(signal, "delivered", &delivered, &refused))
}

fn exists(tx: &Tx<'_>, run: i64) -> Result<bool, Fault> {
    Ok(tx.conn.prepare_cached("SELECT 1 FROM run WHERE id = ?1")?.exists([run])?)
}

fn is_awaited(task: Option<&TaskState>) -> bool {
    task.is_some_and(TaskState::is_scheduled)
}

/// Tells a run how its task ended, if it still wants to know.
fn answer(
    tx: &mut Tx<'_>,
    runs: &mut Runs,
    run: i64,
    task: TaskKey,
    result: Result<Value, Failure>,
) -> Result<(), Fault> {
    let mut hot = runs.take(tx.conn, run)?;
    if is_awaited(hot.state.tasks.get(&task)) {
        let now_ms = tx.event_time(&hot);
        let event = match result {
            Ok(output) => Event::TaskCompleted { now_ms, task, output },
            Err(failure) => Event::TaskFailed { now_ms, task, failure: crate::attempt::bounded_failure(failure) },
        };
        tx.record(&mut hot, event, None)?;
    }
    runs.put(hot);
    Ok(())
}
