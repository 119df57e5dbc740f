//! When a task may begin: the limits of its plan, with their keys rendered.

use compozy_plan::dispatch::ConcurrencyLimit;
use compozy_plan::limits::CONCURRENCY_KEY_BYTES_MAX;
use compozy_plan::plan::Task;
use serde_json::Value;

use crate::event::{Dispatch, Slot, TaskKey};
use crate::fault::{Fault, Place, shown};
use crate::machine::Machine;
use crate::scope::Site;

const FIELD: &str = "concurrency.key";

impl Machine<'_, '_> {
    /// What holds the task back until its turn.
    pub(crate) fn dispatch(&self, key: &TaskKey, task: &Task) -> Result<Dispatch, Fault> {
        let limits = &task.dispatch.limits;
        let slots = limits.iter().map(|limit| self.slot(key, task, limit)).collect::<Result<_, Fault>>()?;
        Ok(Dispatch { priority: task.dispatch.priority, slots })
    }

    fn slot(&self, key: &TaskKey, task: &Task, limit: &ConcurrencyLimit) -> Result<Slot, Fault> {
        let ConcurrencyLimit { scope, key: template, limit } = limit;
        let Some(template) = template else { return Ok(Slot { key: scope.clone(), limit: *limit }) };
        let site = Site::inside(key, &self.state.tasks[key], task);
        let value = site.render_whole(self.world(), template, FIELD)?;
        let text = match &value {
            Value::String(text) if !text.is_empty() && text.len() <= CONCURRENCY_KEY_BYTES_MAX => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            _ => {
                let wanted = "a text of 1 to 255 bytes, a number or a boolean";
                return Err(Fault::WrongValue {
                    place: Place::Task(key.clone()),
                    field: FIELD,
                    wanted,
                    found: shown(&value),
                });
            }
        };
        Ok(Slot { key: format!("{scope}/{text}"), limit: *limit })
    }
}

const _: () = assert!(CONCURRENCY_KEY_BYTES_MAX == 255);
