//! From a caller's request to what the writer writes: everything that can be checked and computed before.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use compozy_interpreter::{Event, TaskKey};
use compozy_plan::blob::has_blob_key;
use compozy_plan::dispatch::{PRIORITY_FIRST, PRIORITY_LAST};
use compozy_plan::plan::{ParentClose, Plan};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::runs::Fault;
use super::vault::{Claim, Vault, WholeError, too_much};
use crate::clock::Clock;
use crate::port::{Control, ExecutionId, Pins, StartRequest, TaskExecutor};
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
    let StartRequest { plan, input, idempotency_key, priority } = request;
    let input_bytes = json_bytes(&input);
    if let Some(priority) = priority.filter(|priority| !(PRIORITY_FIRST..=PRIORITY_LAST).contains(priority)) {
        return Err(EngineError::InvalidOption(format!(
            "the priority is {priority}, {PRIORITY_FIRST} (first) to {PRIORITY_LAST} (last) are allowed"
        )));
    }
    let idempotency = match idempotency_key {
        Some(key) if key.is_empty() || key.len() > limits::IDEMPOTENCY_KEY_BYTES_MAX => {
            return Err(EngineError::IdempotencyKeyLength {
                used: key.len(),
                allowed: limits::IDEMPOTENCY_KEY_BYTES_MAX,
            });
        }
        Some(key) => Some(Idempotency { key, request: print.unwrap_or_default() }),
        None => None,
    };
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

/// Checks the limits of what somebody wants to do to a run. Answers its size, in bytes.
pub(super) fn check_control(control: &Control) -> Result<usize, EngineError> {
    let (what, used, allowed) = match control {
        // Its size was looked at when it was taken in.
        Control::Signal(signal) => return Ok(json_bytes(&signal.payload)),
        Control::Cancel { grace_ms, .. } if *grace_ms > limits::CANCEL_GRACE_MS_MAX => {
            return Err(EngineError::InvalidOption(format!(
                "the grace is {grace_ms} ms, at most {} ms are allowed",
                limits::CANCEL_GRACE_MS_MAX
            )));
        }
        Control::Cancel { reason, .. } | Control::Pause { reason } | Control::Terminate { reason } => {
            ("the reason", reason.len(), limits::REASON_BYTES_MAX)
        }
        Control::Reset { task } => ("the key of the task", task.0.len(), limits::REASON_BYTES_MAX),
        Control::Resume | Control::Retry => return Ok(0),
    };
    if used > allowed {
        return Err(EngineError::PayloadTooLarge { what: what.to_owned(), used, allowed });
    }
    Ok(used)
}

/// Gives a signal without an id one of its own.
pub(super) fn named(mut control: Control) -> Control {
    if let Control::Signal(signal) = &mut control
        && signal.id.is_empty()
    {
        signal.id = Uuid::now_v7().to_string();
    }
    control
}

fn check_input(plan: &Plan, input: &Value) -> Result<(), EngineError> {
    let Some(schema) = &plan.input else { return Ok(()) };
    schema
        .validate(input)
        .map_err(|violations| EngineError::InvalidInput { workflow: plan.workflow.clone(), violations })
}

/// Equal for equal requests, whatever the order of the keys of their objects.
fn fingerprint(workflow: &str, input: &Value) -> String {
    let mut hash = Sha256::new();
    hash.update(workflow.len().to_be_bytes());
    hash.update(workflow);
    hash_value(&mut hash, input);
    hex::encode(hash.finalize())
}

fn hash_value(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Array(items) => {
            hash.update([b'[']);
            hash.update(items.len().to_be_bytes());
            for item in items {
                hash_value(hash, item);
            }
        }
        Value::Object(object) => {
            hash.update([b'{']);
            hash.update(object.len().to_be_bytes());
            let mut keys: Vec<&String> = object.keys().collect();
            keys.sort_unstable();
            for key in keys {
                hash.update(key.len().to_be_bytes());
                hash.update(key);
                hash_value(hash, &object[key]);
            }
        }
        Value::String(text) => {
            hash.update([b'"']);
            hash.update(text.len().to_be_bytes());
            hash.update(text);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            let text = value.to_string();
            hash.update([b'v']);
            hash.update(text.len().to_be_bytes());
            hash.update(text);
        }
    }
}

/// The length of a value as JSON, in bytes, without building it.
pub(super) fn json_bytes(value: &impl Serialize) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, value).expect("a JSON value serialises, and counting cannot fail");
    count.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fingerprint_ignores_the_order_of_keys_and_nothing_else() {
        let of = |text: &str| fingerprint("w", &serde_json::from_str(text).unwrap());
        assert_eq!(of(r#"{"a":1,"b":[2,{"c":3,"d":4}]}"#), of(r#"{"b":[2,{"d":4,"c":3}],"a":1}"#));
        let different =
            [r#"{"a":1}"#, r#"{"a":"1"}"#, r#"{"a":[1]}"#, "[1,2]", "[2,1]", "[[1],2]", "[[1,2]]", "null", "\"null\""];
        let mut prints: Vec<String> = different.iter().map(|text| of(text)).collect();
        prints.push(fingerprint("v", &Value::Null));
        prints.sort();
        prints.dedup();
        assert_eq!(prints.len(), different.len() + 1);
    }

    #[test]
    fn sizes_are_those_of_the_json_text() {
        for value in [json!(null), json!({"a": [1, 2.5, "ü\n"]}), json!("x".repeat(1000))] {
            assert_eq!(json_bytes(&value), value.to_string().len());
        }
    }
}
