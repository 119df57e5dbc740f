//! The same run with its values kept apart: what looks into them must not be able to tell.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use compozy_interpreter::{BlobError, Blobs, Command, Event, RunState, advance, is_too_deep};
use compozy_plan::blob::BlobRef;
use compozy_plan::plan::Plan;
use serde_json::Value;

/// Runs larger than this, in bytes, are not followed: references count less towards the limits of a run.
const BYTES_MAX: usize = 1024 * 1024;

/// A run whose events carry references.
#[derive(Default)]
pub(crate) struct Apart {
    state: Option<RunState>,
    blobs: Kept,
}

#[derive(Default)]
struct Kept(RefCell<BTreeMap<String, Value>>);

impl Blobs for Kept {
    fn load(&self, blob: &BlobRef) -> Result<Arc<Value>, BlobError> {
        let value = self.0.borrow()[&blob.digest].clone();
        Ok(Arc::new(value))
    }
}

impl Kept {
    /// Puts some of the parts of a value away: which, depends on what they are.
    fn put_away(&self, value: &mut Value) {
        let text = value.to_string();
        let print = text.bytes().fold(7_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
        if print % 3 == 0 && !value.is_null() {
            let blob = BlobRef { digest: format!("{print:064x}"), bytes: text.len() as u64 };
            let reference = blob.to_value();
            self.0.borrow_mut().insert(blob.digest, std::mem::replace(value, reference));
            return;
        }
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.put_away(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.put_away(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn whole(&self, value: &mut Value) {
        if let Some(blob) = BlobRef::of(value) {
            *value = self.0.borrow()[&blob.digest].clone();
        }
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.whole(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.whole(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

impl Apart {
    /// Takes the other run through the same event, and compares.
    pub(crate) fn follow(&mut self, plan: &Plan, event: &Event, known: &RunState, commands: &[Command]) {
        if self.state.is_none() && matches!(event, Event::Started { .. }) && known.seed != 0 {
            self.state = Some(RunState::new());
        }
        let Some(state) = &mut self.state else { return };
        if known.bytes > BYTES_MAX {
            self.state = None;
            return;
        }
        let mut event = event.clone();
        if let Some(payload) = event.payload_mut() {
            // An engine leaves what is too deep as it is, for the run to refuse.
            if !is_too_deep(payload) {
                self.blobs.put_away(payload);
            }
        }
        let ours = advance(plan, state, &event, &self.blobs).expect("everything is kept");
        let json = |value: &dyn erased::Json| {
            let mut value = value.json();
            self.blobs.whole(&mut value);
            value
        };
        assert_eq!(json(&ours), json(&commands.to_vec()), "values that are kept apart lead elsewhere");
        let mut normal = state.clone();
        (normal.has_blobs, normal.bytes) = (known.has_blobs, known.bytes);
        assert_eq!(json(&normal), json(known), "values that are kept apart make another run");
    }
}

mod erased {
    use serde::Serialize;
    use serde_json::Value;

    /// What is JSON.
    pub(super) trait Json {
        fn json(&self) -> Value;
    }

    impl<T: Serialize> Json for T {
        fn json(&self) -> Value {
            serde_json::to_value(self).expect("JSON")
        }
    }
}
