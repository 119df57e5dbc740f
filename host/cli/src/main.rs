//! `compozy-host`: the binary. What a host is and in which order it begins is in `compozy-embed`.
//!
//! - `args`, `exit`, `output`, `logging`, `signals`: what the process is to its caller
//! - `host`: from the command line to the library, and its refusals as the end of the process
//! - `serve`, `run`, `validate`, `plugin_test`, `executions`, `control`, `watch`: one file per command; `tree` draws for the last

mod args;
mod control;
mod executions;
mod exit;
mod host;
mod logging;
mod output;
mod plugin_test;
mod progress;
mod render;
mod run;
mod serve;
mod signals;
mod threads;
mod tree;
mod validate;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command, PluginCommand};
use crate::exit::{Exit, Fatal};

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
    let Cli { host, serve, command } = cli;
    if let (Some(option), Some(_)) = (serve.given(), &command) {
        let problem = format!("`{option}` belongs to `serve`; write it after that command, or leave the command out");
        return Err(Fatal::new(Exit::Usage, problem));
    }
    let default_log =
        if matches!(command, None | Some(Command::Serve(_))) { logging::SERVE_LOG } else { logging::COMMAND_LOG };
    logging::start(host.log.as_deref(), default_log)?;
    match command {
        None => serve::serve(&host, &serve),
        Some(Command::Serve(serve)) => serve::serve(&host, &serve),
        Some(Command::Run(run)) => run::run(&host, &run),
        Some(Command::Validate(validate)) => validate::validate(&host, &validate),
        Some(Command::Plugin(PluginCommand::Test(test))) => plugin_test::test(&host, &test),
        Some(Command::Backup { to }) => executions::backup(&host, &to),
        Some(Command::Executions(what)) => executions::look(&host, &what),
    }
}
