//! What every engine checks of a request before it does anything.

use std::io;

use compozy_plan::dispatch::{PRIORITY_FIRST, PRIORITY_LAST};
use compozy_plan::plan::Plan;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::port::{Control, StartRequest};
use crate::{EngineError, limits};

/// Checks priority and idempotency key of a request to start a run.
pub fn check_start(request: &StartRequest) -> Result<(), EngineError> {
    let priorities = PRIORITY_FIRST..=PRIORITY_LAST;
    if let Some(priority) = request.priority.filter(|priority| !priorities.contains(priority)) {
        return Err(EngineError::InvalidOption(format!(
            "the priority is {priority}, {PRIORITY_FIRST} (first) to {PRIORITY_LAST} (last) are allowed"
        )));
    }
    match &request.idempotency_key {
        Some(key) if key.is_empty() || key.len() > limits::IDEMPOTENCY_KEY_BYTES_MAX => {
            Err(EngineError::IdempotencyKeyLength { used: key.len(), allowed: limits::IDEMPOTENCY_KEY_BYTES_MAX })
        }
        _ => Ok(()),
    }
}

/// Checks the limits of what somebody wants to do to a run. Answers its size, in bytes.
pub fn check_control(control: &Control) -> Result<usize, EngineError> {
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
pub fn named(mut control: Control) -> Control {
    if let Control::Signal(signal) = &mut control
        && signal.id.is_empty()
    {
        signal.id = Uuid::now_v7().to_string();
    }
    control
}

/// Checks an input against its workflow's schema.
pub fn check_input(plan: &Plan, input: &Value) -> Result<(), EngineError> {
    let Some(schema) = &plan.input else { return Ok(()) };
    schema
        .validate(input)
        .map_err(|violations| EngineError::InvalidInput { workflow: plan.workflow.clone(), violations })
}

/// A digest of workflow and input: equal for equal requests, whatever the order of the keys of their objects.
pub fn fingerprint(workflow: &str, input: &Value) -> String {
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
pub fn json_bytes(value: &impl Serialize) -> usize {
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
