//! `cargo xtask bench`: builds what is measured, then hands over to the program that measures.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use redis_test_server::Server;

use crate::guests::{self, Which};
use crate::workspace::Workspace;
use crate::{BenchArgs, EngineArgs};
use crate::{build, process, progress, setup};

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject {
    /// Plugins.
    Plugin,
    /// Stores.
    Stores,
}

impl Subject {
    /// The program that measures, an example of the package compozy-runtime.
    fn program(self) -> &'static str {
        match self {
            Self::Plugin => "bench_plugin",
            Self::Stores => "bench_stores",
        }
    }
}

/// Runs the measurements; their exit code is ours.
pub(crate) fn run(workspace: &Workspace, subject: Subject, args: &BenchArgs) -> Result<ExitCode> {
    let toolchain = setup::guest_toolchain(workspace)?;
    guests::build(workspace, &toolchain, Which::All)?;
    let mut command = measuring(workspace, subject.program(), args, false)?;
    // Without persistence: what is measured is the way to the server and not its disk.
    let server = matches!(subject, Subject::Stores).then(|| Server::start(&[]));
    if let Some(server) = &server {
        command.args(["--redis-url", &server.url()]);
    }
    hand_over(command)
}

/// Measures the engine; the host that it starts is built first.
pub(crate) fn engine(workspace: &Workspace, args: &EngineArgs) -> Result<ExitCode> {
    let toolchain = setup::guest_toolchain(workspace)?;
    let host = build::everything(workspace, &toolchain, args.release)?;
    let mut command = measuring(workspace, "bench_engine", &args.common, args.release)?;
    command.arg("--host").arg(host).args(["--seconds", &args.seconds.to_string()]);
    hand_over(command)
}

/// Measures runs on a development server of Temporal.
pub(crate) fn temporal(workspace: &Workspace, args: &EngineArgs) -> Result<ExitCode> {
    let toolchain = setup::guest_toolchain(workspace)?;
    guests::build(workspace, &toolchain, Which::All)?;
    setup::temporal(workspace)?;
    let mut command = measuring(workspace, "bench_temporal", &args.common, args.release)?;
    command.args(["--seconds", &args.seconds.to_string()]);
    hand_over(command)
}

/// The program that measures, with what all of them take.
fn measuring(workspace: &Workspace, program: &str, args: &BenchArgs, release: bool) -> Result<Command> {
    let program = progress::timed("building the benchmark", || build::example(workspace, program, release))?;
    let mut command = process::program(program, &workspace.root);
    command.arg("--scratch").arg(workspace.target.join("bench"));
    if args.json {
        command.arg("--json");
    }
    if let Some(only) = &args.only {
        command.args(["--only", only]);
    }
    Ok(command)
}

fn hand_over(mut command: Command) -> Result<ExitCode> {
    progress::step(&process::line(&command));
    let status = command.stdin(Stdio::null()).status().context("cannot start the benchmark")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
