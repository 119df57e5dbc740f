//! `doctor`: everything that a host needs, looked at in one go, with what to do about what is wrong.
//!
//! - `machine`: the data folder, its disk, open files; `redis`, `temporal`, `blobs`: services; `plugins`: they load, and their limits fire
//!
//! Nothing is changed: probes are removed again, and plugins open their databases in a temporary folder.

mod blobs;
mod machine;
mod plugins;
mod redis;
mod temporal;

use std::future::Future;
use std::time::{Duration, Instant};

use compozy_config::config::EngineKind;
use compozy_plan::Severity;
use serde::Serialize;
use serde_json::json;

use crate::args::HostArgs;
use crate::exit::{Exit, Fatal};
use crate::output::{result, say};
use crate::{config, threads};

/// How long one service is waited for, when the start may take longer.
const SERVICE_WAIT: Duration = Duration::from_secs(5);

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// As it should be.
    Ok,
    /// It works, and could go wrong later.
    Warning,
    /// It does not work, or data will be lost.
    Problem,
}

/// What was looked at.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Check {
    /// What, in a word or two.
    pub(crate) name: &'static str,
    /// How it stands.
    pub(crate) state: State,
    /// What was found.
    pub(crate) detail: String,
    /// What to do; empty when there is nothing to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) advice: String,
}

impl Check {
    pub(crate) fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, state: State::Ok, detail: detail.into(), advice: String::new() }
    }

    pub(crate) fn warning(name: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, state: State::Warning, detail: detail.into(), advice: advice.into() }
    }

    pub(crate) fn problem(name: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, state: State::Problem, detail: detail.into(), advice: advice.into() }
    }
}

/// Looks at everything and prints it.
pub(crate) fn doctor(host: &HostArgs, as_json: bool) -> Result<Exit, Fatal> {
    let mut checks = configuration(host);
    // A refused key stands at its default here. What can be looked at is looked at all the same.
    checks.extend(machine::check(&host.data_dir));
    checks.extend(threads::run(async { Ok(Box::pin(services(host)).await) })?);
    print(&checks, as_json);
    let healthy = checks.iter().all(|check| check.state != State::Problem);
    Ok(if healthy { Exit::Ok } else { Exit::Failed })
}

async fn services(host: &HostArgs) -> Vec<Check> {
    let config = &host.loaded.config;
    let limit = config.start_timeout.min(SERVICE_WAIT);
    let redis = async {
        match &config.redis_url {
            Some(url) => in_time("redis", config.start_timeout, redis::check(url, limit)).await,
            None => Vec::new(),
        }
    };
    let temporal = async {
        match config.engine.kind {
            EngineKind::Temporal => in_time("temporal", config.start_timeout, temporal::check_temporal(config)).await,
            EngineKind::Embedded => Vec::new(),
        }
    };
    let blobs = in_time("blobs", config.start_timeout, blobs::check_blobs(config));
    let (redis, temporal, blobs) = tokio::join!(redis, temporal, blobs);
    // Alone: compiling keeps every processor busy.
    let plugins = plugins::check(host).await;
    [redis, temporal, blobs, plugins].concat()
}

/// Whatever a service does, the answer comes within `start_timeout`.
async fn in_time(name: &'static str, limit: Duration, checks: impl Future<Output = Vec<Check>>) -> Vec<Check> {
    let begun = Instant::now();
    tokio::time::timeout(limit, checks).await.unwrap_or_else(|_| {
        let detail = format!("no end after {} ms (`start_timeout`)", begun.elapsed().as_millis());
        vec![Check::problem(
            name,
            detail,
            "check that the service is not overloaded, and that nothing in between holds packets back",
        )]
    })
}

fn configuration(host: &HostArgs) -> Vec<Check> {
    const NAME: &str = "configuration";
    let checks: Vec<Check> = config::problems(host)
        .into_iter()
        .map(|problem| {
            let advice = problem.help.clone().unwrap_or_default();
            let place = if problem.line > 0 { format!(":{}:{}", problem.line, problem.column) } else { String::new() };
            let detail = format!("{}{place}: [{}] {}", problem.file, problem.code, problem.message);
            match problem.severity {
                Severity::Error => Check::problem(NAME, detail, advice),
                Severity::Warning => Check::warning(NAME, detail, advice),
            }
        })
        .collect();
    if !checks.is_empty() {
        return checks;
    }
    let from = host.file.as_ref().map_or("no project file", |file| file.path.as_str());
    vec![Check::ok(NAME, format!("{from}, mode `{}`", host.loaded.config.mode))]
}

fn print(checks: &[Check], as_json: bool) {
    let count = |state: State| checks.iter().filter(|check| check.state == state).count();
    let (problems, warnings) = (count(State::Problem), count(State::Warning));
    if as_json {
        let document = json!({ "ok": problems == 0, "problems": problems, "warnings": warnings, "checks": checks });
        return result(&format!("{document:#}"));
    }
    for Check { name, state, detail, advice } in checks {
        let state = match state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Problem => "problem",
        };
        let advice = if advice.is_empty() { String::new() } else { format!("; {advice}") };
        result(&format!("{state:<8} {name:<14} {detail}{advice}"));
    }
    let plural = |n: usize| if n == 1 { "" } else { "s" };
    say(&format!("{problems} problem{}, {warnings} warning{}", plural(problems), plural(warnings)));
}
