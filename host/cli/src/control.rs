//! `executions signal|pause|resume|cancel|terminate|retry|reset`: asks a host that runs, over its own API.

use std::time::{SystemTime, UNIX_EPOCH};

use compozy_server::API;
use compozy_server::client::{self, path_part};
use serde_json::{Value, json};

use crate::args::Executions;
use crate::exit::{Exit, Fatal};
use crate::output::result;
use crate::render::printable;
use crate::run::json_argument;

/// What a host is asked.
#[derive(Debug, PartialEq)]
pub(crate) struct Request {
    address: String,
    path: String,
    body: Value,
}

/// The request of a command; `None` for those that only look.
pub(crate) fn request(what: &Executions) -> Result<Option<Request>, Fatal> {
    if let Executions::Prune { older_than, remote } = what {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let before = u64::try_from(now.saturating_sub(*older_than).as_millis()).unwrap_or(u64::MAX);
        let (address, path) = (remote.address().to_owned(), format!("{API}/executions/prune"));
        return Ok(Some(Request { address, path, body: json!({ "ended_before_ms": before }) }));
    }
    let (id, operation, body, remote) = match what {
        Executions::List { .. }
        | Executions::Show { .. }
        | Executions::Journal { .. }
        | Executions::Prune { .. }
        | Executions::Watch { .. }
        | Executions::Export { .. }
        | Executions::Verify { .. } => return Ok(None),
        Executions::Signal { id, name, payload, key, remote } => {
            let body =
                json!({ "signal_name": name, "payload": json_argument("--payload", payload)?, "signal_id": key });
            (id, "signals", body, remote)
        }
        Executions::Pause { id, reason, remote } => (id, "pause", json!({ "reason": reason }), remote),
        Executions::Resume { id, remote } => (id, "resume", json!({}), remote),
        Executions::Cancel { id, reason, grace, remote } => {
            let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
            (id, "cancel", json!({ "reason": reason, "grace_ms": grace_ms }), remote)
        }
        Executions::Terminate { id, reason, remote } => (id, "terminate", json!({ "reason": reason }), remote),
        Executions::Retry { id, remote } => (id, "retry", json!({}), remote),
        Executions::Reset { id, task, remote } => (id, "reset", json!({ "task": task }), remote),
    };
    let path = format!("{API}/executions/{}/{operation}", path_part(id));
    Ok(Some(Request { address: remote.address().to_owned(), path, body }))
}

/// Asks, and prints what was done.
pub(crate) async fn send(request: Request) -> Result<Exit, Fatal> {
    let Request { address, path, body } = request;
    let answer = client::post(&address, &path, &body).await.map_err(|error| {
        Fatal::setup(format!("the host at `{address}` cannot be asked: {error}; name another one with --address"))
    })?;
    let field = |name: &str| answer.body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    if answer.status == 200 {
        let what = match answer.body.get("removed") {
            Some(removed) => format!("removed={removed}"),
            None => printable(&field("exec_id")),
        };
        result(&format!("{} {what}", field("operation")));
        return Ok(Exit::Ok);
    }
    Err(Fatal::new(Exit::Failed, format!("{}: {}", printable(&field("code")), printable(&field("detail")))))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn asked(line: &str) -> Option<Request> {
        let cli = Cli::try_parse_from(line.split(' ')).expect(line);
        let Some(Command::Executions(what)) = cli.command else { panic!("{line}") };
        request(&what).expect(line)
    }

    #[test]
    fn commands_become_requests() {
        let cases = [
            (
                "signal e1 go --payload {\"n\":1} --key k",
                "signals",
                json!({ "signal_name": "go", "payload": { "n": 1 }, "signal_id": "k" }),
            ),
            ("signal e1 go", "signals", json!({ "signal_name": "go", "payload": null, "signal_id": null })),
            ("pause e1 --reason look", "pause", json!({ "reason": "look" })),
            ("resume e1", "resume", json!({})),
            ("cancel e1 --grace 250ms", "cancel", json!({ "reason": null, "grace_ms": 250 })),
            ("terminate e1", "terminate", json!({ "reason": null })),
            ("retry e1", "retry", json!({})),
            ("reset e1 a[1]/b#2", "reset", json!({ "task": "a[1]/b#2" })),
        ];
        for (line, operation, body) in cases {
            let request = asked(&format!("compozy-host executions {line} --address h:1"));
            let path = format!("/api/v0/executions/e1/{operation}");
            assert_eq!(request, Some(Request { address: "h:1".to_owned(), path, body }), "{line}");
        }
        assert_eq!(asked("compozy-host executions list --status failed"), None);
        assert_eq!(asked("compozy-host executions verify --all"), None);
    }
}
