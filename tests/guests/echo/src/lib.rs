//! The plugin `echo`: does what it is told. The suites use it wherever a task must behave.
#![expect(clippy::needless_pass_by_value, clippy::unnecessary_wraps, reason = "the form of an action")]

use std::thread;
use std::time::Duration;

use compozy_sdk::{Context, TaskError, info, stores, task_plugin};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

task_plugin! {
    /// Answers its input.
    "echo" => echo,
    /// Adds numbers.
    "add" => add { schema: ADD_SCHEMA },
    /// Computes for about `ms` milliseconds, then answers the number of rounds.
    "slow" => slow,
    /// Sleeps for `ms` milliseconds.
    "sleep" => sleep,
    /// Works for `ms` milliseconds with a sign of life every `every_ms`; ends when it is asked to, unless `stubborn`.
    "beat" => beat,
    /// Answers the text that the test put into the component.
    "version" => version,
    /// Fails with `code` and `message`; with `retryable: true` in such a way that it is tried again.
    "fail" => fail,
    /// Fails, as something that may pass, until attempt `succeed_on`.
    "flaky" => flaky,
    /// Writes `lines` lines to the log.
    "log" => log,
    /// Answers what the task knows about its attempt, and its config.
    "context" => context,
    /// Counts in the cache under `key` and answers the count, and what the last call left there.
    "stores" => use_stores,
}

const ADD_SCHEMA: &str = r#"{
  "type": "object",
  "required": ["numbers"],
  "additionalProperties": false,
  "properties": { "numbers": { "type": "array", "items": { "type": "integer" } } }
}"#;

fn echo(input: Value, _: &Context) -> Result<Value, TaskError> {
    Ok(input)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Numbers {
    numbers: Vec<i64>,
}

fn add(input: Numbers, _: &Context) -> Result<i64, TaskError> {
    input.numbers.iter().try_fold(0_i64, |sum, number| sum.checked_add(*number)).ok_or_else(|| {
        TaskError::failed("SUM_TOO_LARGE", format!("the sum of {:?} does not fit 64 bits", input.numbers))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Span {
    ms: u64,
}

fn slow(input: Span, _: &Context) -> Result<u64, TaskError> {
    let start = std::time::Instant::now();
    let mut rounds = 0_u64;
    while start.elapsed() < Duration::from_millis(input.ms) {
        for _ in 0..1_000 {
            rounds = std::hint::black_box(rounds + 1);
        }
    }
    Ok(rounds)
}

fn sleep(input: Span, _: &Context) -> Result<u64, TaskError> {
    thread::sleep(Duration::from_millis(input.ms));
    Ok(input.ms)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Beats {
    ms: u64,
    every_ms: u64,
    #[serde(default)]
    stubborn: bool,
}

fn beat(input: Beats, context: &Context) -> Result<u64, TaskError> {
    let start = std::time::Instant::now();
    let mut beats = 0_u64;
    while start.elapsed() < Duration::from_millis(input.ms) {
        thread::sleep(Duration::from_millis(input.every_ms));
        beats += 1;
        match context.heartbeat(format_args!("beat {beats}")) {
            Ok(()) => {}
            Err(_) if input.stubborn => {}
            Err(canceled) => {
                info!("asked to end", task = context.task, beats = beats);
                return Err(canceled.into());
            }
        }
    }
    Ok(beats)
}

/// Of a fixed length, so that a test can write another text in its place: that makes another component of the same code.
static VERSION: &str = "echo-version-one";

fn version(_: Value, _: &Context) -> Result<String, TaskError> {
    Ok(std::hint::black_box(VERSION).to_owned())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    retryable: bool,
    #[serde(default)]
    retry_after_ms: Option<u64>,
}

fn fail(input: Fault, _: &Context) -> Result<(), TaskError> {
    if !input.retryable {
        return Err(TaskError::failed(input.code, input.message));
    }
    let error = TaskError::unavailable(input.code, input.message);
    Err(match input.retry_after_ms {
        Some(ms) => error.retry_after(Duration::from_millis(ms)),
        None => error,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Flaky {
    succeed_on: u32,
}

fn flaky(input: Flaky, context: &Context) -> Result<u32, TaskError> {
    if context.attempt < input.succeed_on {
        let message = format!("attempt {} fails, as asked; attempt {} will not", context.attempt, input.succeed_on);
        return Err(TaskError::unavailable("NOT_YET", message));
    }
    Ok(context.attempt)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lines {
    lines: u32,
}

fn log(input: Lines, context: &Context) -> Result<u32, TaskError> {
    for line in 0..input.lines {
        info!("a line, as asked", line = line, task = context.task);
    }
    Ok(input.lines)
}

#[derive(Serialize)]
struct Known {
    execution_id: String,
    task: String,
    idempotency_key: String,
    attempt: u32,
    timeout_ms: u128,
    config: Value,
}

fn context(_: Value, context: &Context) -> Result<Known, TaskError> {
    Ok(Known {
        execution_id: context.execution_id.clone(),
        task: context.task.clone(),
        idempotency_key: context.idempotency_key.clone(),
        attempt: context.attempt,
        timeout_ms: context.timeout.as_millis(),
        config: context.config()?,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    key: String,
}

fn use_stores(input: Key, context: &Context) -> Result<Value, TaskError> {
    let count = stores::cache::increment(&format!("{}/count", input.key), 1, None)?;
    let last_key = format!("{}/last", input.key);
    let last = stores::cache::get(&last_key)?.map(|entry| String::from_utf8_lossy(&entry.value).into_owned());
    stores::cache::set(&last_key, context.idempotency_key.as_bytes(), None)?;
    Ok(json!({ "count": count, "last": last }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_that_does_not_fit_is_an_error() {
        let context = Context::for_tests();
        assert_eq!(add(Numbers { numbers: vec![1, 2, 3] }, &context).unwrap(), 6);
        assert_eq!(add(Numbers { numbers: vec![i64::MAX, 1] }, &context).unwrap_err().code(), "SUM_TOO_LARGE");
    }

    #[test]
    fn the_stores_answer_only_inside_the_host() {
        let error = use_stores(Key { key: "k".into() }, &Context::for_tests()).unwrap_err();
        assert_eq!(error.code(), "STORE_DENIED");
    }
}
