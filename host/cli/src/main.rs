//! `compozy-host`: the binary. What a host is and in which order it begins is in `compozy-embed`.
//!
//! - `args`, `exit`, `output`, `logging`, `signals`: what the process is to its caller
//! - `settings`: what it is told; `host`: from that to the library, and its refusals as the end of the process
//! - `serve`, `run`, `validate`, `config`, `doctor`, `plugin_test`, `executions`, `control`, `watch`: one file or folder per command;
//!   `tree` draws for the last

mod args;
mod config;
mod control;
mod doctor;
mod executions;
mod exit;
mod host;
mod logging;
mod output;
mod plugin_test;
mod progress;
mod records;
mod render;
mod run;
mod serve;
mod settings;
mod signals;
mod threads;
mod tree;
mod validate;
mod watch;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command, HostArgs, PluginCommand};
use crate::exit::{Exit, Fatal};

/// Values are made on one thread and dropped on another all day long; the system's allocator is slow at that.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let exit = dispatch(Cli::parse()).unwrap_or_else(|fatal| {
        for problem in &fatal.problems {
            output::say(problem);
        }
        fatal.exit
    });
    exit.into()
}

fn dispatch(cli: Cli) -> Result<Exit, Fatal> {
    let Cli { host: flags, serve, command } = cli;
    let usage = |problem: String| Err(Fatal::new(Exit::Usage, problem));
    if let (Some(option), Some(_)) = (serve.given(), &command) {
        return usage(format!("`{option}` belongs to `serve`; write it after that command, or leave the command out"));
    }
    let (command, serve) = match command {
        Some(Command::Serve(serve)) => (None, serve),
        other => (other, serve),
    };
    let path = command.as_ref().and_then(Command::path);
    if let (Some(path), Some(_)) = (path, &flags.project) {
        return usage(format!("the project is `{}` already; leave --project out", path.display()));
    }
    // Judging a plugin has nothing to do with any project, and least of all with its Redis server.
    let path = match (&command, path) {
        (Some(Command::Plugin(_)), _) => None,
        (_, path) => Some(path.or(flags.project.as_deref()).unwrap_or(Path::new("."))),
    };
    let host = HostArgs::read(path, &flags, &serve);
    let default_log = if command.is_none() { logging::SERVE_LOG } else { logging::COMMAND_LOG };
    logging::start(host.loaded.config.log.as_deref(), default_log)?;
    let Some(command) = command else { return serve::serve(&host, &host.serve()) };
    match command {
        Command::Serve(_) => serve::serve(&host, &host.serve()),
        Command::Run(run) => run::run(&host, &run),
        Command::Validate(validate) => validate::validate(&host, &validate),
        Command::Config(command) => config::config(&host, command),
        Command::Doctor { json } => doctor::doctor(&host, json),
        Command::Plugin(PluginCommand::Test(test)) => {
            host.need(&["redis.url"])?;
            plugin_test::test(&host, &test)
        }
        Command::Backup { to } => {
            host.need(&["data_dir"])?;
            executions::backup(&host, &to)
        }
        Command::Executions(mut what) => {
            host.need(&["data_dir", "listen"])?;
            what.ask_at(&host.loaded.config.listen);
            executions::look(&host, &what)
        }
    }
}
