//! The events of a case, one a line: `done a 1`, `signal go s1 {}`, `fire sleep:a`, `cancel enough`.

use compozy_interpreter::{Command, Event, Failure, TaskKey};
use serde_json::Value;

use crate::support::Run;

/// Sends the event of a line.
pub(crate) fn act(run: &mut Run<'_>, line: &str) -> Vec<Command> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let json = |text: &str| -> Value {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("`{text}` in `{line}` is not JSON: {error}"))
    };
    match verb {
        "start" => run.start(json(rest)),
        "cancel" => run.cancel(rest),
        "ask" => {
            let (grace, reason) = rest.split_once(' ').expect("a grace in milliseconds and a reason");
            run.cancel_within(grace.parse().expect("milliseconds"), reason)
        }
        "terminate" => {
            let now_ms = run.state.now_ms;
            run.send(&Event::Terminated { now_ms, failure: Failure::permanent("TERMINATED", rest) })
        }
        "fire" => run.fire(&rest.parse().expect("a timer")),
        "signal" => {
            let mut parts = rest.splitn(3, ' ');
            let mut part = || parts.next().expect("a name, an id and a payload");
            run.signal(part(), part(), json(part()))
        }
        "pause" => run.pause(),
        "resume" => run.resume(),
        "retry" => run.retry(),
        "reset" => run.reset(rest),
        "done" => {
            let (task, output) = rest.split_once(' ').expect("a task and its output");
            run.done(&TaskKey(task.to_owned()), json(output))
        }
        "fail" => {
            let (task, rest) = rest.split_once(' ').expect("a task, a code and a message");
            let (code, message) = rest.split_once(' ').expect("a code and a message");
            run.fail(&TaskKey(task.to_owned()), Failure::permanent(code, message))
        }
        other => panic!("unknown event `{other}`"),
    }
}
