//! The plugin `witness`: each attempt leaves a line outside the host before it answers, so that a test can compare what
//! really happened with what was recorded.

use std::fs::OpenOptions;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use compozy_sdk::{Context, TaskError, task_plugin};
use serde::{Deserialize, Serialize};
use serde_json::Value;

task_plugin! {
    /// Writes `<idempotency key> <attempt> <token>` to the trace, works for `ms` milliseconds, and answers the token and
    /// `carry`. Before attempt `succeed_on` it fails, as something that may pass.
    "act" => act,
}

/// Where the host shows the granted folder.
const TRACE: &str = "/trace";
/// The file in it, a line for each attempt.
const FILE: &str = "effects";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Act {
    #[serde(default)]
    ms: u64,
    #[serde(default)]
    succeed_on: u32,
    #[serde(default)]
    carry: Value,
}

#[derive(Serialize)]
struct Acted {
    /// Told nowhere but in the trace and in this answer.
    token: String,
    attempt: u32,
    carry: Value,
}

fn act(input: Act, context: &Context) -> Result<Acted, TaskError> {
    let token = token();
    leave(Path::new(TRACE), &line(context, &token))?;
    thread::sleep(Duration::from_millis(input.ms));
    if context.attempt < input.succeed_on {
        let message = format!("attempt {} fails, as asked; attempt {} will not", context.attempt, input.succeed_on);
        return Err(TaskError::unavailable("NOT_YET", message));
    }
    Ok(Acted { token, attempt: context.attempt, carry: input.carry })
}

/// Random keys of a hasher are the randomness that every target has.
fn token() -> String {
    format!("{:016x}", RandomState::new().hash_one(0_u8))
}

fn line(context: &Context, token: &str) -> String {
    format!("{} {} {token}\n", context.idempotency_key, context.attempt)
}

/// One write at the end of the file: lines of attempts that run side by side do not mix.
fn leave(folder: &Path, line: &str) -> Result<(), TaskError> {
    let file = OpenOptions::new().append(true).create(true).open(folder.join(FILE));
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .map_err(|error| TaskError::failed("NO_TRACE", format!("the trace cannot be written: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attempt_leaves_one_line_of_its_own() {
        let context = Context::for_tests();
        let folder = std::env::temp_dir().join(format!("witness-{}-{}", std::process::id(), token()));
        std::fs::create_dir(&folder).unwrap();
        let lines = [line(&context, &token()), line(&context, &token())];
        for line in &lines {
            leave(&folder, line).unwrap();
        }
        assert_ne!(lines[0], lines[1]);
        assert_eq!(std::fs::read_to_string(folder.join(FILE)).unwrap(), lines.concat());
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(leave(&folder, "x").unwrap_err().code(), "NO_TRACE");
    }
}
