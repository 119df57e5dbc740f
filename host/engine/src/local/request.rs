//! From a caller's request to what the writer writes: everything that can be checked and computed before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use compozy_interpreter::{Event, TaskKey};
use compozy_plan::blob::has_blob_key;
use compozy_plan::plan::{ParentClose, Plan};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::runs::Fault;
use crate::clock::Clock;
use crate::port::{ExecutionId, Pins, StartRequest, TaskExecutor};
use crate::request::{check_input, check_start, fingerprint, json_bytes};
use crate::vault::{Claim, Vault, WholeError, too_much};
use crate::{EngineError, limits};

/// A plan as the journal keeps it.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) digest: String,
    pub(super) body: String,
    pub(super) plan: Arc<Plan>,
    /// The plugins that its runs are bound to.
    pub(super) pins: Arc<Pins>,
}

/// A checked request to start a run.
pub(super) struct Start {
    pub(super) id: ExecutionId,
    pub(super) definition: Arc<Definition>,
    pub(super) event: Event,
    pub(super) input_bytes: usize,
    pub(super) idempotency: Option<Idempotency>,
    /// The run that starts it, if one does.
    pub(super) parent: Option<Parent>,
    /// Protects what of the input is kept apart.
    pub(super) _claim: Claim,
    pub(super) priority: Option<u8>,
}

/// The run that starts a child.
#[derive(Debug, Clone)]
pub(super) struct Parent {
    pub(super) run: i64,
    pub(super) task: TaskKey,
    pub(super) close: ParentClose,
    /// How many runs the child is inside of.
    pub(super) depth: u32,
}

/// A caller's key, and what it stands for.
pub(super) struct Idempotency {
    pub(super) key: String,
    /// A digest of workflow and input. Not of the definition: a caller that repeats its request after the file was
    /// edited wants the first answer.
    pub(super) request: String,
}

/// By the address of the caller's plan. The weak reference keeps the address from being used for another.
type Known = HashMap<usize, (Weak<Plan>, Arc<Definition>)>;

/// Definitions that callers hold, so that a plan is serialised once and not for every start.
pub(super) struct Definitions {
    by_address: Mutex<Known>,
    clock: Arc<dyn Clock>,
    /// Knows the plugins.
    executor: Option<Arc<dyn TaskExecutor>>,
}

impl Definitions {
    /// The clock names the runs, and the executor knows the plugins.
    pub(super) fn new(clock: Arc<dyn Clock>, executor: Option<Arc<dyn TaskExecutor>>) -> Self {
        Self { by_address: Mutex::default(), clock, executor }
    }

    fn of(&self, plan: &Arc<Plan>) -> Result<Arc<Definition>, EngineError> {
        let address = Arc::as_ptr(plan) as usize;
        let mut known = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((weak, definition)) = known.get(&address)
            && weak.strong_count() > 0
        {
            return Ok(Arc::clone(definition));
        }
        let body = serde_json::to_string(plan.as_ref())
            .map_err(|e| EngineError::Internal(format!("workflow `{}` cannot be stored: {e}", plan.workflow)))?;
        if body.len() > limits::DEFINITION_BYTES_MAX {
            return Err(EngineError::PayloadTooLarge {
                what: format!("the definition of workflow `{}`", plan.workflow),
                used: body.len(),
                allowed: limits::DEFINITION_BYTES_MAX,
            });
        }
        let digest = hex::encode(Sha256::digest(body.as_bytes()));
        // A copy, not the caller's `Arc`: the entry must not keep itself alive.
        let pins = self.executor.as_ref().map(|executor| executor.pins(plan)).unwrap_or_default();
        let definition =
            Arc::new(Definition { digest, body, plan: Arc::new(plan.as_ref().clone()), pins: Arc::new(pins) });
        if known.len() >= limits::CACHED_DEFINITIONS_MAX {
            known.retain(|_, (weak, _)| weak.strong_count() > 0);
        }
        if known.len() < limits::CACHED_DEFINITIONS_MAX {
            known.insert(address, (Arc::downgrade(plan), Arc::clone(&definition)));
        }
        Ok(definition)
    }
}

/// A request from inside, which may refer to values that are kept apart. The outer error: one of them cannot be read.
pub(super) fn check(
    definitions: &Definitions,
    request: StartRequest,
    now_ms: u64,
    vault: &Vault,
) -> Result<Result<Start, EngineError>, Fault> {
    let checked = match &request.plan.input {
        Some(_) => check_input(&request.plan, &whole(vault, request.input.clone())?),
        None => Ok(()),
    };
    Ok(checked.and_then(|()| prepare(definitions, request, now_ms, None, Claim::default())))
}

/// A value with all that it refers to.
pub(super) fn whole(vault: &Vault, value: Value) -> Result<Value, Fault> {
    if !has_blob_key(&value) {
        return Ok(value);
    }
    vault.whole(value).map_err(|error| match error {
        WholeError::Blob(error) => Fault::Blob(error),
        WholeError::TooLarge { used } => Fault::Refused(too_much("what the input refers to", used)),
    })
}

/// Checks a request from outside against its workflow and every limit. Blocking when the input is large.
pub(super) fn take_in(
    definitions: &Definitions,
    mut request: StartRequest,
    now_ms: u64,
    vault: &Arc<Vault>,
) -> Result<Start, EngineError> {
    check_input(&request.plan, &request.input)?;
    // Of the whole input, not of what takes its place.
    let print = request.idempotency_key.is_some().then(|| fingerprint(&request.plan.workflow, &request.input));
    let what = || format!("the input of workflow `{}`", request.plan.workflow);
    let claim = vault.take_in(what, &mut request.input)?;
    prepare(definitions, request, now_ms, print, claim)
}

fn prepare(
    definitions: &Definitions,
    request: StartRequest,
    now_ms: u64,
    print: Option<String>,
    claim: Claim,
) -> Result<Start, EngineError> {
    check_start(&request)?;
    let StartRequest { plan, input, idempotency_key, priority } = request;
    let input_bytes = json_bytes(&input);
    let idempotency = idempotency_key.map(|key| Idempotency { key, request: print.unwrap_or_default() });
    let uuid = definitions.clock.id();
    let id = ExecutionId(uuid.to_string());
    let event = Event::Started {
        now_ms,
        execution_id: id.0.clone(),
        // The random half of the id.
        seed: uuid.as_u64_pair().1,
        input,
    };
    Ok(Start {
        id,
        definition: definitions.of(&plan)?,
        event,
        input_bytes,
        idempotency,
        parent: None,
        priority,
        _claim: claim,
    })
}
