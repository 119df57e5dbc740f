//! `cargo xtask bench`: builds what is measured, then hands over to the program that measures.

use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result};

use redis_test_server::Server;

use crate::BenchArgs;
use crate::guests::{self, Which};
use crate::workspace::Workspace;
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
    let program = progress::timed("building the benchmark", || build::example(workspace, subject.program()))?;
    let mut command = process::program(program, &workspace.root);
    command.arg("--scratch").arg(workspace.target.join("bench"));
    if args.json {
        command.arg("--json");
    }
    if let Some(only) = &args.only {
        command.args(["--only", only]);
    }
    // Without persistence: what is measured is the way to the server and not its disk.
    let server = matches!(subject, Subject::Stores).then(|| Server::start(&[]));
    if let Some(server) = &server {
        command.args(["--redis-url", &server.url()]);
    }
    progress::step(&process::line(&command));
    let status = command.stdin(Stdio::null()).status().context("cannot start the benchmark")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
