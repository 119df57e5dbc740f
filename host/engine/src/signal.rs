//! What becomes of a signal that a task sends, whichever engine delivers it.

use compozy_interpreter::{Failure, Signal};
use compozy_plan::plan::Plan;
use serde_json::{Value, json};

use crate::EngineError;
use crate::port::ExecutionId;

/// What the sender is told: who took it, and who did not and why. `done` names what was done to those who took it.
pub fn outcome(signal: &Signal, done: &str, taken: &[Value], refused: &[Value]) -> Result<Value, Failure> {
    let facts = json!({ done: taken, "refused": refused });
    match refused.first() {
        None => Ok(facts),
        Some(first) => {
            let (count, all) = (refused.len(), refused.len() + taken.len());
            let why = first["message"].as_str().unwrap_or_default();
            let message =
                format!("the signal `{}` was not taken by {count} of {all} receivers; the first: {why}", signal.name);
            Err(Failure { details: facts, ..Failure::permanent("SIGNAL_NOT_DELIVERED", message) })
        }
    }
}

/// The answer to a signal that was to start workflows, where none waits for it.
pub fn no_trigger(signal: &str) -> Failure {
    Failure::permanent("SIGNAL_UNKNOWN", format!("no workflow has a trigger `{signal}`"))
}

/// One line of an [`outcome`]: a workflow that the signal started.
pub fn started(workflow: &str, id: &ExecutionId) -> Value {
    json!({ "workflow_id": workflow, "exec_id": id })
}

/// One line of an [`outcome`]: a workflow that the signal could not start.
pub fn not_started(workflow: &str, error: &EngineError) -> Value {
    json!({ "workflow_id": workflow, "code": error.code(), "message": error.to_string() })
}

/// One line of an [`outcome`]: an execution that could not take the signal.
pub fn not_delivered(id: &ExecutionId, error: &EngineError) -> Value {
    json!({ "exec_id": id, "code": error.code(), "message": error.to_string() })
}

/// Checks the payload of a signal, with all that it refers to, against the triggers of this name.
pub fn check_trigger(plan: &Plan, signal: &str, payload: &Value) -> Result<(), EngineError> {
    let triggers = plan.triggers.iter().filter(|trigger| trigger.name == signal);
    for schema in triggers.filter_map(|trigger| trigger.schema.as_ref()) {
        schema
            .validate(payload)
            .map_err(|violations| EngineError::InvalidInput { workflow: plan.workflow.clone(), violations })?;
    }
    Ok(())
}
