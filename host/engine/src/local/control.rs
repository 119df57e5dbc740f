//! What callers do to a run: signals, pause, cancel, retry and so on. Doing it twice is doing it once.

use compozy_interpreter::{Event, Failure, RewindRefused, can_reset, can_retry, check_signal, is_timely};

use super::runs::{Fault, Hot, Runs};
use super::tx::Tx;
use crate::EngineError;
use crate::port::{Control, ExecutionId};
use crate::vault::Vault;

/// Does something to a run.
pub(super) fn control(tx: &mut Tx<'_>, runs: &mut Runs, id: &ExecutionId, control: &Control) -> Result<(), Fault> {
    let Some(row) = tx.find_run(id)? else {
        return Err(Fault::Refused(EngineError::ExecutionNotFound { id: id.clone() }));
    };
    let mut hot = runs.take(tx.conn, row)?;
    let done = apply(tx, &mut hot, control);
    // A run that was refused something is as it was.
    if matches!(done, Ok(()) | Err(Fault::Refused(_))) {
        runs.put(hot);
    }
    done
}

/// Records the event of a control, unless it would change nothing.
pub(super) fn apply(tx: &mut Tx<'_>, hot: &mut Hot, control: &Control) -> Result<(), Fault> {
    check(hot, control, tx.vault)?;
    let now_ms = tx.event_time(hot);
    let event = match control.clone() {
        Control::Signal(signal) => Event::SignalReceived { now_ms, signal },
        Control::Pause { reason } => Event::PauseRequested { now_ms, reason },
        Control::Resume => Event::ResumeRequested { now_ms },
        Control::Cancel { reason, grace_ms } => Event::CancelRequested { now_ms, reason, grace_ms },
        Control::Terminate { reason } => {
            Event::Terminated { now_ms, failure: Failure::permanent("TERMINATED", reason) }
        }
        Control::Retry => Event::RetryRequested { now_ms },
        Control::Reset { task } => Event::ResetRequested { now_ms, task },
    };
    if is_timely(&hot.plan, &hot.state, &event, tx.vault.as_ref())? {
        tx.record(hot, event, None)?;
    }
    Ok(())
}

fn rewind_refused(id: ExecutionId, reason: RewindRefused) -> Fault {
    Fault::Refused(EngineError::RewindRefused { id, reason })
}

/// Whether it can be done. What was done before can be done again, without effect.
fn check(hot: &Hot, control: &Control, vault: &Vault) -> Result<(), Fault> {
    let id = || hot.id.clone();
    if matches!(control, Control::Retry | Control::Reset { .. })
        && let Some((what, used, allowed)) = hot.at_limit()
    {
        return Err(rewind_refused(id(), RewindRefused::AtLimit { what, used, allowed }));
    }
    match control {
        Control::Signal(signal) => check_signal(&hot.plan, &hot.state, signal, vault)?
            .map_err(|reason| Fault::Refused(EngineError::SignalRefused { id: id(), reason })),
        Control::Retry => can_retry(&hot.state).map_err(|reason| rewind_refused(id(), reason)),
        Control::Reset { task } => {
            can_reset(&hot.plan, &hot.state, task).map_err(|reason| rewind_refused(id(), reason))
        }
        Control::Pause { .. } | Control::Resume if hot.state.status.is_terminal() => {
            let status = hot.state.status.name();
            Err(Fault::Refused(EngineError::ExecutionEnded { id: id(), status, operation: control.name() }))
        }
        Control::Pause { .. } | Control::Resume | Control::Cancel { .. } | Control::Terminate { .. } => Ok(()),
    }
}
