//! `run`: one workflow in the foreground, on the same engine and the same journal as a serving host.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use compozy_embed::Host;
use compozy_engine::EngineError;
use compozy_engine::port::{Execution, ExecutionId, StartRequest};
use compozy_interpreter::Status;
use compozy_plan::plan::Plan;
use compozy_server::view;
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;

use crate::args::{HostArgs, RunArgs};
use crate::exit::{Exit, Fatal};
use crate::host::{choose, engine_fatal, host_of};
use crate::output::{result, say};
use crate::progress::Progress;
use crate::signals::Signals;
use crate::{render, threads};

/// After the run itself has ended nothing of it is left to drain; other runs of the journal go on at the next start.
const DRAIN: Duration = Duration::from_secs(1);
/// Bytes of `--input` from a file or standard input.
const INPUT_BYTES_MAX: u64 = 1024 * 1024;

/// How the wait for a run ended.
enum End {
    Ended(Box<Execution>),
    TimedOut(Duration),
    Signal(&'static str),
}

/// Runs one workflow and prints its output.
pub(crate) fn run(host: &HostArgs, args: &RunArgs) -> Result<Exit, Fatal> {
    let input = read_input(&args.input)?;
    threads::run(run_on(host, args, input))
}

async fn run_on(host: &HostArgs, args: &RunArgs, input: Value) -> Result<Exit, Fatal> {
    let mut signals = Signals::catch()?;
    let prepared = host_of(host, &args.path)?.drain(DRAIN).prepare().await?;
    let plan = choose(prepared.workflows(), args.workflow.as_deref())?;
    let host = prepared.start().await?;
    let begun = Instant::now();
    let ended = follow(&host, plan, input, args, &mut signals).await;
    signals.force_on_next();
    host.stop().await;
    let (id, end) = ended?;
    let wall_ms = begun.elapsed().as_millis();
    match end {
        End::Ended(execution) if args.json => Ok(print_json(&execution, wall_ms)),
        End::Ended(execution) => Ok(print_text(&execution)),
        End::TimedOut(after) => {
            let data = host.data_dir().display();
            let problem = format!(
                "execution {id} has not ended within {} ms; it goes on when a host next opens `{data}`",
                after.as_millis()
            );
            Err(Fatal::new(Exit::TimedOut, problem))
        }
        End::Signal(name) => {
            let data = host.data_dir().display();
            let problem = format!("stopped by {name}; execution {id} goes on when a host next opens `{data}`");
            Err(Fatal::new(Exit::Interrupted, problem))
        }
    }
}

/// Starts the run and shows its progress until it ends, or until something else ends the wait.
async fn follow(
    host: &Host,
    plan: Arc<Plan>,
    input: Value,
    args: &RunArgs,
    signals: &mut Signals,
) -> Result<(ExecutionId, End), Fatal> {
    let begun = Instant::now();
    let mut notices = host.watch();
    let start = StartRequest { plan: plan.clone(), input, idempotency_key: None, priority: None };
    let id = host.engine().start(start).await.map_err(|error| match error {
        EngineError::InvalidInput { .. } => Fatal::new(Exit::Failed, error),
        error => engine_fatal(&error),
    })?;
    let mut progress = Progress::new(id.clone(), &plan, args.quiet);
    let waited = id.clone();
    let ended = host.engine().wait(&waited);
    let timeout = async {
        match args.timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(ended, timeout);
    let mut watching = true;
    let end = loop {
        tokio::select! {
            // In this order, so that what has happened is shown before the end is.
            biased;
            notice = notices.recv(), if watching => match notice {
                Ok(notice) => progress.notice(&notice),
                // What was missed is shown at the end.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => watching = false,
            },
            execution = &mut ended => {
                let execution = execution.map_err(|error| engine_fatal(&error))?;
                while let Ok(notice) = notices.try_recv() {
                    progress.notice(&notice);
                }
                progress.end(&execution, begun.elapsed().as_millis());
                break End::Ended(Box::new(execution));
            }
            name = signals.next() => break End::Signal(name),
            () = &mut timeout => break End::TimedOut(args.timeout.unwrap_or_default()),
        }
    };
    Ok((id, end))
}

fn print_json(execution: &Execution, wall_ms: u128) -> Exit {
    let mut document = serde_json::to_value(view::execution(execution)).unwrap_or_default();
    document["wall_ms"] = u64::try_from(wall_ms).unwrap_or(u64::MAX).into();
    result(&format!("{document:#}"));
    exit_of(execution)
}

fn print_text(execution: &Execution) -> Exit {
    if let Some(failure) = &execution.state.failure {
        say(&format!("{}: {}", failure.code, render::printable(&failure.message)));
    }
    if let Some(output) = &execution.state.output {
        result(&render::value(output));
    }
    exit_of(execution)
}

fn exit_of(execution: &Execution) -> Exit {
    if execution.state.status == Status::Success { Exit::Ok } else { Exit::Failed }
}

fn read_input(text: &str) -> Result<Value, Fatal> {
    json_argument("--input", text)
}

/// The value of an option: JSON, `@FILE`, or `-` for standard input.
pub(crate) fn json_argument(option: &str, text: &str) -> Result<Value, Fatal> {
    let usage = |problem: String| Fatal::new(Exit::Usage, problem);
    let (source, json) = if text == "-" {
        ("standard input".to_owned(), bounded(std::io::stdin().lock(), option, "standard input")?)
    } else if let Some(path) = text.strip_prefix('@') {
        let file =
            std::fs::File::open(path).map_err(|error| usage(format!("{option}: cannot open `{path}`: {error}")))?;
        (format!("`{path}`"), bounded(file, option, path)?)
    } else {
        (format!("`{text}`"), text.to_owned())
    };
    serde_json::from_str(&json).map_err(|error| usage(format!("{option}: {source} is not JSON: {error}")))
}

fn bounded(reader: impl Read, option: &str, name: &str) -> Result<String, Fatal> {
    let usage = |problem: String| Fatal::new(Exit::Usage, problem);
    let mut text = String::new();
    let read = reader.take(INPUT_BYTES_MAX + 1).read_to_string(&mut text);
    let read = read.map_err(|error| usage(format!("{option}: cannot read `{name}` as UTF-8: {error}")))?;
    if read as u64 > INPUT_BYTES_MAX {
        return Err(usage(format!("{option}: `{name}` is larger than the limit of {INPUT_BYTES_MAX} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_from_the_command_line_and_from_files() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), r#"{"a":1}"#).expect("written");
        let at = format!("@{}", file.path().display());
        for (text, expected) in
            [(r#"{"a":1}"#, Some(1)), (at.as_str(), Some(1)), ("{a:1}", None), ("@/nowhere/at/all", None)]
        {
            assert_eq!(read_input(text).ok().and_then(|v| v["a"].as_i64()), expected, "{text}");
        }
    }

    #[test]
    fn a_large_input_is_refused_with_its_limit() {
        let fatal = bounded(std::io::repeat(b' '), "--input", "it").expect_err("too large");
        assert!(fatal.to_string().contains("1048576 bytes"), "{fatal}");
    }
}
