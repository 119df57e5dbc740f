//! `cargo xtask conformance`: the public suite of stores on one backend.

use std::path::Path;
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result};
use redis_test_server::Server;

use crate::workspace::Workspace;
use crate::{ConformanceArgs, build, process, progress, setup};

/// What a server needs for what it acknowledged to survive a crash.
pub(crate) const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];
const REDIS: &str = "redis";

/// Builds what is missing, and hands over; the exit code is that of the suite.
pub(crate) fn run(workspace: &Workspace, args: &ConformanceArgs) -> Result<ExitCode> {
    let toolchain = setup::guest_toolchain(workspace)?;
    let host = build::everything(workspace, &toolchain, false)?;
    let mut command = process::program(host, &workspace.root);
    // A path is meant as the caller sees it.
    let backend = match Path::new(&args.backend) {
        path if path.is_file() => path.canonicalize()?.into_os_string(),
        _ => args.backend.clone().into(),
    };
    command.args(["plugin", "test"]).arg(backend).args(&args.more);
    if args.deep {
        command.arg("--deep");
    }
    let mut server = None;
    if args.backend == REDIS && args.redis_url.is_none() {
        setup::redis_server(workspace)?;
        server = Some(Server::start(&DURABLE));
    }
    if let Some(url) = args.redis_url.clone().or_else(|| server.as_ref().map(Server::url)) {
        // Not as an argument: it may hold a password, which every process could read there.
        command.env("COMPOZY_REDIS_URL", url);
    }
    progress::step(&process::line(&command));
    let status = command.stdin(Stdio::null()).status().context("cannot start the host")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
