//! Kills a host again and again while clients talk to it, and then looks for what it lost or did twice.
//!
//! - `plan` draws from a seed what clients say, and when the host is killed.
//! - `client` says it, repeats what was not acknowledged, and keeps a log of what was.
//! - `project` is what runs: every kind of work that a crash could break.
//! - `check` compares what the host knows in the end with that log and with the traces that its tasks left outside.

mod check;
mod client;
mod plan;
mod project;

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::host::{Host, command};
use crate::project::{Sandbox, copy};
use client::Clients;
use plan::Plan;

/// What to do.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How often the host is killed.
    pub kills: usize,
    /// Decides on what clients say and when the host is killed.
    pub seed: u64,
    /// Tell on standard error how far it is.
    pub verbose: bool,
    /// Put the data folder back once, to what it was when the middle host began: the check must find that out.
    pub forget: bool,
}

/// What came out.
#[derive(Debug, Default)]
pub struct Report {
    /// Hosts that were killed.
    pub kills: usize,
    /// Requests that a host acknowledged: starts, signals, pauses, resumes.
    pub acknowledged: usize,
    /// Executions that were looked at in the end, children included.
    pub executions: usize,
    /// Attempts that left a trace.
    pub attempts: usize,
    /// What was acknowledged and is not there, or is there and wrong.
    pub lost: Vec<String>,
    /// What is recorded twice.
    pub recorded_twice: Vec<String>,
    /// What never came to an end.
    pub stuck: Vec<String>,
}

impl Report {
    /// Whether all is as it must be.
    pub fn is_sound(&self) -> bool {
        self.lost.is_empty() && self.recorded_twice.is_empty() && self.stuck.is_empty()
    }

    /// Everything that is not as it must be, for a person.
    pub fn problems(&self) -> impl Iterator<Item = String> + '_ {
        let named = |kind: &'static str, problems: &'_ [String]| {
            problems.iter().map(move |problem| format!("{kind}: {problem}")).collect::<Vec<_>>()
        };
        let all =
            [named("lost", &self.lost), named("recorded twice", &self.recorded_twice), named("stuck", &self.stuck)];
        all.into_iter().flatten()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, acknowledged, lost, recorded_twice, stuck, .. } = self;
        let (lost, twice, stuck) = (lost.len(), recorded_twice.len(), stuck.len());
        write!(f, "crash: kills={kills} acknowledged={acknowledged} lost={lost} recorded_twice={twice} stuck={stuck}")
    }
}

/// Kills hosts, lets the last one finish, and compares.
#[expect(clippy::print_stderr, reason = "progress of a command that takes minutes")]
pub fn run(options: Options) -> Result<Report> {
    let sandbox = project::sandbox()?;
    let plan = Plan::draw(options.seed, options.kills);
    let mut clients = Clients::new(&plan);
    let mut kills = 0;
    let begun = Instant::now();
    for (round, stage) in plan.rounds.iter().enumerate() {
        let kept = (options.forget && round == options.kills / 2).then(|| keep(&sandbox)).transpose()?;
        if let Some(ms) = stage.in_start_ms {
            kill_while_it_starts(&sandbox, Duration::from_millis(ms))?;
        } else {
            let host = Host::start(&sandbox)?;
            let address = host.address().to_owned();
            clients.talk(&address, round, Duration::from_millis(stage.after_ms), || host.kill())?;
        }
        if let Some(kept) = kept {
            fs::remove_dir_all(sandbox.data())?;
            fs::rename(kept, sandbox.data())?;
        }
        kills += 1;
        if options.verbose && kills % 25 == 0 {
            let (took, acknowledged) = (begun.elapsed().as_secs(), clients.acknowledged());
            eprintln!("{kills} of {} kills, {acknowledged} acknowledged, {took} s", options.kills);
        }
    }
    let host = Host::start(&sandbox)?;
    let mut report = check::check(&sandbox, host, &mut clients)?;
    report.kills = kills;
    Ok(report)
}

/// A copy of the data folder, beside it.
fn keep(sandbox: &Sandbox) -> Result<PathBuf> {
    let kept = sandbox.root().join("kept");
    copy(&sandbox.data(), &kept)?;
    Ok(kept)
}

/// A host may die while it takes over what the one before it left.
fn kill_while_it_starts(sandbox: &Sandbox, after: Duration) -> Result<()> {
    let (project, data, plugins) = (sandbox.project(), sandbox.data(), sandbox.plugins());
    let text = |path: &'_ std::path::Path| path.to_str().map(str::to_owned).context("a path in UTF-8");
    let (project, data, plugins) = (text(&project)?, text(&data)?, text(&plugins)?);
    let args = ["--listen", "127.0.0.1:0", "--project", &project, "--data-dir", &data, "--plugins", &plugins];
    let mut child =
        command(sandbox.root(), &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("start the host")?;
    std::thread::sleep(after);
    let ended = child.try_wait()?;
    child.kill()?;
    child.wait()?;
    ensure!(ended.is_none(), "a host ended by itself while it started: {ended:?}");
    Ok(())
}
