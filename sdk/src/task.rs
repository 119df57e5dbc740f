//! Behind [`task_plugin!`](crate::task_plugin): not to be used by name.

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::bindings::task::exports::compozy::task::executor::{Action, Guest, Request, TaskError as WitError};
use crate::{Context, TaskError};

/// Makes the crate a task executor.
///
/// Each line names an action and its function; the doc comment becomes the action's description, and the first action
/// is the one that a workflow gets when it names none:
///
/// ```
/// # use compozy_sdk::{Context, TaskError};
/// fn double(input: i64, _: &Context) -> Result<i64, TaskError> {
///     input.checked_mul(2).ok_or_else(|| TaskError::failed("TOO_LARGE", format!("{input} cannot be doubled")))
/// }
/// fn now(_: (), context: &Context) -> Result<u32, TaskError> {
///     Ok(context.attempt)
/// }
///
/// compozy_sdk::task_plugin! {
///     /// Doubles a number.
///     "double" => double { schema: r#"{"type": "integer"}"# },
///     /// Tells the number of the attempt.
///     "attempt" => now,
/// }
/// # fn main() {}
/// ```
///
/// A function takes any `Deserialize` input and a [`Context`], and answers any `Serialize` output or a [`TaskError`].
/// Input that does not fit ends as `INVALID_INPUT` and names the path. `schema` is a JSON Schema, which the host can
/// show and check before it calls. Names are 1 to 64 bytes of letters, digits, `-`, `_` and `.`, checked by the compiler:
///
/// ```compile_fail
/// # use compozy_sdk::{Context, TaskError};
/// # fn double(input: i64, _: &Context) -> Result<i64, TaskError> { Ok(input * 2) }
/// compozy_sdk::task_plugin! { "not a name" => double }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! task_plugin {
    ($( $(#[doc = $doc:literal])* $name:literal => $handler:path $({ schema: $schema:expr $(,)? })? ),+ $(,)?) => {
        const _: () = {
            $(
                assert!(
                    $crate::task::is_action_name($name),
                    concat!("action `", $name, "`: a name is 1 to 64 bytes of letters, digits, `-`, `_` and `.`")
                );
            )+
            assert!($crate::task::are_unique(&[$($name),+]), "two actions have one name");

            struct TaskPlugin;

            impl $crate::task::Guest for TaskPlugin {
                fn actions() -> ::std::vec::Vec<$crate::task::Action> {
                    ::std::vec![$(
                        $crate::task::action($name, &[$($doc),*], &[$($schema)?])
                    ),+]
                }

                fn execute(
                    request: $crate::task::Request,
                ) -> ::core::result::Result<::std::vec::Vec<u8>, $crate::task::WitError> {
                    match request.action.as_str() {
                        $( $name => $crate::task::run($handler, request), )+
                        _ => ::core::result::Result::Err($crate::task::unknown(request, &[$($name),+])),
                    }
                }
            }

            $crate::task::assert_executor::<TaskPlugin>();
            #[cfg(target_family = "wasm")]
            $crate::bindings::task::export_task_executor!(TaskPlugin with_types_in $crate::bindings::task);
        };
    };
}

/// 1 to 64 bytes of letters, digits, `-`, `_` and `.`.
pub const fn is_action_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        if !matches!(bytes[i], b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.') {
            return false;
        }
        i += 1;
    }
    !bytes.is_empty() && bytes.len() <= 64
}

/// True when no two names are equal.
pub const fn are_unique(names: &[&str]) -> bool {
    let mut i = 0;
    while i < names.len() {
        let mut k = i + 1;
        while k < names.len() {
            if equal(names[i].as_bytes(), names[k].as_bytes()) {
                return false;
            }
            k += 1;
        }
        i += 1;
    }
    true
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Makes the compiler look at the plugin natively, too.
pub const fn assert_executor<T: Guest>() {}

/// One action of the list.
pub fn action(name: &str, doc: &[&str], schema: &[&str]) -> Action {
    let description = doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ").trim().to_owned();
    Action { name: name.to_owned(), description, input_schema: schema.first().map(|schema| (*schema).to_owned()) }
}

/// Runs a task's function on the host's request.
pub fn run<I: DeserializeOwned, O: Serialize>(
    handler: fn(I, &Context) -> Result<O, TaskError>,
    request: Request,
) -> Result<Vec<u8>, WitError> {
    crate::log::forward_panics();
    let (context, input) = Context::from_request(request);
    let input = parse(&input).map_err(|problem| {
        WitError::InvalidInput(format!("the input does not fit the action `{}`: {problem}", context.action))
    })?;
    let output = handler(input, &context)?;
    serde_json::to_vec(&output).map_err(|error| {
        WitError::from(TaskError::failed("OUTPUT_NOT_JSON", format!("the output has no JSON form: {error}")))
    })
}

/// The error for an action that the plugin does not have.
#[expect(clippy::needless_pass_by_value, reason = "the macro gives the request away in every arm")]
pub fn unknown(request: Request, known: &[&str]) -> WitError {
    WitError::UnknownAction(format!("there is no action `{}`; there are: {}", request.action, known.join(", ")))
}

/// Parses JSON; the error names the path and what was found there.
pub(crate) fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        // A task's input is one line, so the line and column that serde_json appends tell a person nothing.
        let message = error.into_inner().to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        if path == "." { message.to_owned() } else { format!("at `{path}`: {message}") }
    })?;
    deserializer.end().map_err(|error| format!("after the value: {error}"))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Trip {
        days: Vec<Day>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Day {
        km: u32,
    }

    #[expect(clippy::needless_pass_by_value, reason = "the form of an action")]
    fn length(trip: Trip, _: &Context) -> Result<u32, TaskError> {
        trip.days.iter().try_fold(0_u32, |sum, day| sum.checked_add(day.km)).ok_or_else(|| {
            TaskError::failed("TOO_FAR", "the sum of `km` is beyond 4294967295")
                .with_details(json!({ "days": trip.days.len() }))
        })
    }

    fn request(input: &Value) -> Request {
        Request {
            action: "length".into(),
            input: input.to_string().into_bytes(),
            config: b"null".to_vec(),
            execution_id: "e".into(),
            task: "t".into(),
            idempotency_key: "e/t".into(),
            attempt: 1,
            timeout_ms: 1_000,
        }
    }

    #[test]
    fn input_and_output_are_json() {
        let output = run(length, request(&json!({ "days": [{ "km": 3 }, { "km": 4 }] }))).unwrap();
        assert_eq!(output, b"7");
    }

    #[test]
    fn input_that_does_not_fit_is_told_by_path() {
        for (input, expected) in [
            (json!({}), "the input does not fit the action `length`: missing field `days`"),
            (
                json!({ "days": [{ "km": 1 }, { "km": "far" }] }),
                "the input does not fit the action `length`: at `days[1].km`: invalid type: string \"far\", expected u32",
            ),
            (
                json!({ "days": [{ "km": 1, "kg": 2 }] }),
                "the input does not fit the action `length`: at `days[0].kg`: unknown field `kg`, expected `km`",
            ),
        ] {
            match run(length, request(&input)).unwrap_err() {
                WitError::InvalidInput(message) => assert_eq!(message, expected),
                other => panic!("{other:?}"),
            }
        }
        let mut broken = request(&json!(null));
        broken.input = b"{} {}".to_vec();
        assert!(matches!(run(|_: Value, _| Ok(()), broken), Err(WitError::InvalidInput(_))));
    }

    #[test]
    fn a_failure_keeps_its_code_message_and_details() {
        let days = json!({ "days": [{ "km": u32::MAX }, { "km": 1 }] });
        match run(length, request(&days)).unwrap_err() {
            WitError::Failed(failure) => {
                assert_eq!(failure.code, "TOO_FAR");
                assert_eq!(failure.details.as_deref(), Some(br#"{"days":2}"#.as_slice()));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_action_that_is_not_there_is_answered_with_those_that_are() {
        let WitError::UnknownAction(message) = unknown(request(&json!({})), &["greet", "part"]) else { panic!() };
        assert_eq!(message, "there is no action `length`; there are: greet, part");
    }

    #[test]
    fn config_that_is_missing_counts_as_an_empty_object() {
        #[derive(Debug, Deserialize)]
        struct Config {
            #[serde(default)]
            live: bool,
        }
        assert!(!Context::for_tests().config::<Config>().unwrap().live);
        let context = Context::for_tests().with_config(&json!({ "live": 1 }));
        let error = context.config::<Config>().unwrap_err().to_string();
        assert_eq!(
            error,
            "INVALID_INPUT: the tool's `config`: at `live`: invalid type: integer `1`, expected a boolean"
        );
    }

    #[test]
    fn action_names_are_short_and_plain() {
        for good in ["a", "analyze_activity", "v1.read-all", &"x".repeat(64)] {
            assert!(is_action_name(good), "{good}");
        }
        for bad in ["", "a b", "ä", "a/b", &"x".repeat(65)] {
            assert!(!is_action_name(bad), "{bad}");
        }
        assert!(are_unique(&["a", "b", "ab"]) && !are_unique(&["a", "b", "a"]));
    }

    #[test]
    fn a_description_is_its_doc_comment_in_one_line() {
        let action = action("greet", &[" Greets someone", " by name."], &[]);
        assert_eq!((action.description.as_str(), action.input_schema), ("Greets someone by name.", None));
    }
}
