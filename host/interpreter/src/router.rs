//! Routers: a condition's value chooses the next task.

use compozy_plan::condition::Condition;
use compozy_plan::plan::Task;
use indexmap::IndexMap;
use serde_json::{Value, json};

use crate::event::TaskKey;
use crate::fault::{Fault, Place, listed, shown};
use crate::machine::{Answer, Machine};
use crate::scope::Site;

impl Machine<'_, '_> {
    /// Looks the condition's value up in the routes.
    pub(crate) fn route(
        &self,
        key: &TaskKey,
        task: &Task,
        condition: &Condition,
        routes: &IndexMap<String, String>,
    ) -> Result<Answer, Fault> {
        let site = Site::inside(key, &self.state.tasks[key], task);
        let value = site.evaluate(self.world(), condition, "condition")?;
        let place = || Place::Task(key.clone());
        let text = route_name(&value).ok_or_else(|| Fault::Condition {
            place: place(),
            field: "condition",
            reason: format!("its value is {}, but a route is a text, a number, true or false", shown(&value)),
        })?;
        let Some(route) = routes.get(&text) else {
            let (value, known) = (crate::fault::cut(&text), listed(routes.keys()));
            return Err(Fault::RouteNotFound { place: place(), value, known });
        };
        let output = json!({ "condition": text, "route_taken": route, "router_type": "conditional" });
        Ok(Answer { output: Some(output), route: Some(route.clone()) })
    }
}

/// The text that is looked up: a text as it is, `true` and `false`, a whole number without decimals.
fn route_name(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) => match number.as_f64() {
            // Below 2^53 every whole number is exact.
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0 => {
                Some((float as i64).to_string())
            }
            _ => Some(number.to_string()),
        },
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::route_name;

    #[test]
    fn the_route_of_a_value_is_its_text() {
        let cases = [
            (json!("has_clothes"), Some("has_clothes")),
            (json!(""), Some("")),
            (json!(true), Some("true")),
            (json!(7), Some("7")),
            (json!(7.0), Some("7")),
            (json!(-0.0), Some("0")),
            (json!(7.5), Some("7.5")),
            (json!(u64::MAX), Some("18446744073709551615")),
            (json!(null), None),
            (json!([1]), None),
            (json!({}), None),
        ];
        for (value, expected) in cases {
            assert_eq!(route_name(&value).as_deref(), expected, "{value}");
        }
    }
}
