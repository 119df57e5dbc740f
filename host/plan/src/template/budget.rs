//! What one rendering may cost.

use serde_json::Value;

use super::error::Fault;
use crate::limits::{TEMPLATE_OUTPUT_BYTES_MAX, TEMPLATE_STEPS_MAX, TEMPLATE_VALUE_DEPTH_MAX};

/// Bytes that count as one step.
const BYTES_PER_STEP: u64 = 64;
/// What a value costs beside its text, in bytes.
const NODE_BYTES: usize = 16;

/// Counts the steps and the output of one rendering.
#[derive(Debug, Default)]
pub(super) struct Budget {
    steps: u64,
    /// Bytes that do not make a whole step yet.
    loose_bytes: u64,
    output: usize,
}

impl Budget {
    /// Takes `steps` more steps.
    pub(super) fn step(&mut self, steps: u64) -> Result<(), Fault> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > TEMPLATE_STEPS_MAX {
            return Err(Fault::limit(format!(
                "the template needs more than {TEMPLATE_STEPS_MAX} steps; let a task with a plugin do work of this size"
            )));
        }
        Ok(())
    }

    /// Handles `bytes` more bytes.
    pub(super) fn bytes(&mut self, bytes: usize) -> Result<(), Fault> {
        self.loose_bytes = self.loose_bytes.saturating_add(bytes as u64);
        let steps = self.loose_bytes / BYTES_PER_STEP;
        self.loose_bytes %= BYTES_PER_STEP;
        self.step(steps)
    }

    /// Makes or copies a value.
    pub(super) fn charge_value(&mut self, value: &Value) -> Result<(), Fault> {
        self.walk(value, 0).map(|_| ())
    }

    /// A value becomes part of the result.
    pub(super) fn write_value(&mut self, value: &Value) -> Result<(), Fault> {
        let size = self.walk(value, 0)?;
        self.write(size)
    }

    /// `bytes` of text become part of the result.
    pub(super) fn write(&mut self, bytes: usize) -> Result<(), Fault> {
        self.output = self.output.saturating_add(bytes);
        if self.output > TEMPLATE_OUTPUT_BYTES_MAX {
            return Err(Fault::limit(format!(
                "the rendered template has more than {TEMPLATE_OUTPUT_BYTES_MAX} bytes; select the part that the task needs"
            )));
        }
        Ok(())
    }

    /// The value's size in bytes. Stops as soon as the budget is used up.
    fn walk(&mut self, value: &Value, depth: usize) -> Result<usize, Fault> {
        if depth > TEMPLATE_VALUE_DEPTH_MAX {
            return Err(Self::too_deep());
        }
        let mut size = NODE_BYTES
            + match value {
                Value::String(text) => text.len(),
                Value::Object(fields) => fields.keys().map(String::len).sum(),
                _ => 0,
            };
        self.bytes(size)?;
        match value {
            Value::Array(items) => {
                for item in items {
                    size += self.walk(item, depth + 1)?;
                }
            }
            Value::Object(fields) => {
                for field in fields.values() {
                    size += self.walk(field, depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(size)
    }

    pub(super) fn too_deep() -> Fault {
        Fault::limit(format!(
            "a value is nested more than {TEMPLATE_VALUE_DEPTH_MAX} levels deep; select the part that the task needs"
        ))
    }
}
