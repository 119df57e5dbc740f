//! `cargo xtask`: everything that a developer or CI does with this repository, by one program.
//!
//! It depends on none of the host's crates, so that it is compiled in seconds and works while they do not. The exception is small: how a
//! Temporal server is found and started (`compozy-dev-server`, by way of `temporal-test-server`), which depends on nothing either.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program: results on stdout, progress on stderr"
)]

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};

mod bench;
mod build;
mod conformance;
mod crash;
mod demo;
mod equivalence;
mod guests;
mod powerloss;
mod process;
mod progress;
mod scale;
mod setup;
mod simulate;
mod suites;
mod tidy;
mod workspace;

use bench::Subject;
use workspace::Workspace;

/// Sets up, builds, tests and measures compozy-host.
///
/// `cargo xtask demo` and `cargo xtask test` need no other command before them: each does what is missing.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes this machine able to build plugins (the Rust target wasm32-wasip2) and to run all tests (a Redis and a Temporal server).
    ///
    /// Tries `rustup target add wasm32-wasip2`. Where that is refused and Debian's newer Rust packages can be had, builds
    /// the target's standard library from their sources, once. A Redis server is installed by apt where that is possible. The Temporal
    /// CLI is built from its Go modules into a cache folder, once, in about 4 minutes. Quiet and offline when there is nothing to do.
    Setup(SetupArgs),
    /// Builds the plugins, then the host with the built-in plugins in it.
    ///
    /// Each plugin's component is put beside its plugin.toml as <name>.wasm. The host is <target>/debug/compozy-host, or
    /// <target>/release/compozy-host with --release.
    Build(BuildArgs),
    /// Runs examples/weather from nothing, without network or any service.
    ///
    /// Sets up and builds what is missing first. The last line on standard output is
    /// `demo: SUCCESS exec=<id> tasks=<n> wall_ms=<n>`, where tasks counts the tasks that ended well;
    /// otherwise it begins with `demo: FAILED` and the exit code is not 0.
    Demo,
    /// Runs every test suite, tidy included.
    ///
    /// Sets up and builds what is missing first. The last line is `N passed, N failed` (and `, N skipped` when tests were
    /// ignored or left out), summed over all suites; each check of tidy counts as one test.
    Test(TestArgs),
    /// Checks formatting, lints, dependency directions, licences, duplicates, file sizes and purity.
    Tidy(TidyArgs),
    /// Tests a store backend against every rule of its roles.
    ///
    /// Builds the host and calls `compozy-host plugin test`, whose last line is `N passed, N failed`. For redis, starts a server of its own
    /// unless it is given one.
    Conformance(ConformanceArgs),
    /// Plays the same workflows on every engine, and compares what came of them.
    ///
    /// Sets up and builds what is missing first. Differences are shown side by side. The last line is `N passed, N failed`.
    Equivalence(EquivalenceArgs),
    /// Measures, each value against a baseline of the same run.
    #[command(subcommand)]
    Bench(Bench),
    /// Kills a host again and again while clients talk to it, and looks for what was lost or done twice.
    ///
    /// Builds everything first. The last line is `crash: kills=N acknowledged=A lost=0 recorded_twice=0 stuck=0`; the exit code is
    /// not 0 when one of the last three is not.
    Crash(CrashArgs),
    /// Cuts the power under the journal, on a disk that drops, tears and reorders what was not synced.
    ///
    /// The last line is `powerloss: seeds=N cuts=C acknowledged=A lost=0 damaged=0`.
    Powerloss(SeedsArgs),
    /// Runs the tests of large numbers at full size: 100,000 open runs, 10,000 items, 50,000 events.
    Scale,
    /// Runs the engine on a simulated clock, a simulated disk and simulated executors that fail and hang.
    ///
    /// The last line is `simulate: seeds=N steps=K failed=0`. A seed that fails is told with the command that repeats it.
    Simulate(SeedsArgs),
}

#[derive(Debug, Args)]
struct SetupArgs {
    /// Only this part.
    #[arg(value_enum)]
    part: Option<Part>,
}

/// What a machine needs beside Rust.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The Rust target of plugins.
    Guests,
    /// A Redis server.
    Redis,
    /// A Temporal server.
    Temporal,
}

#[derive(Debug, Args)]
struct TestArgs {
    /// Leaves out the tests that need this; they count as skipped.
    #[arg(long, value_enum, value_name = "NAME")]
    without: Vec<Service>,
}

/// Something that tests need and that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Service {
    /// A Temporal server: tests with `on_temporal` in their names.
    Temporal,
}

#[derive(Debug, Args)]
struct EquivalenceArgs {
    /// Only fixtures with this in their names.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
}

#[derive(Debug, Args)]
struct CrashArgs {
    /// How often a host is killed.
    #[arg(long, value_name = "N", default_value_t = 20)]
    iterations: u64,
    /// Decides on what clients say and when hosts die.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Args)]
struct SeedsArgs {
    /// How many seeds.
    #[arg(long, value_name = "N", default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Args)]
struct BuildArgs {
    /// Optimise the host for use; takes several minutes more.
    #[arg(long)]
    release: bool,
}

#[derive(Debug, Args)]
struct TidyArgs {
    /// First let cargo correct what it can: formatting, and lints with a sure remedy.
    #[arg(long, conflicts_with = "quick")]
    fix: bool,
    /// Only the checks that compile nothing; takes seconds.
    #[arg(long)]
    quick: bool,
}

#[derive(Debug, Args)]
struct ConformanceArgs {
    /// `sqlite`, `redis`, or a component.
    #[arg(long, value_name = "sqlite|redis|PATH.wasm")]
    backend: String,
    /// A Redis server to use; keys are written under a prefix of their own.
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,
    /// A million random operations for each role.
    #[arg(long)]
    deep: bool,
    /// More for `compozy-host plugin test`, for example `--rule cache/ttl`.
    #[arg(last = true)]
    more: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// What a plugin costs: compiling, loading, instantiating, calling, and stores against plain SQL.
    Plugin(BenchArgs),
    /// What a store costs behind a plugin, with 1 and with 64 callers, against native code that does the same on SQLite and on Redis.
    ///
    /// Starts a Redis server of its own, without persistence.
    Stores(BenchArgs),
    /// What a durable run costs: a real host over HTTP, the same engine without HTTP, and the least that its rows cost by
    /// plain SQL on the same disk; growth with a backlog, restart, start, memory.
    Engine(EngineArgs),
    /// What a durable run costs on a real Temporal server: the generic workflow against one that is written by hand for the
    /// SDK, with as many steps, and against the embedded engine.
    Temporal(EngineArgs),
}

#[derive(Debug, Args)]
struct EngineArgs {
    #[command(flatten)]
    common: BenchArgs,
    /// How long each load lasts, in seconds.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Measures the program that users get (`cargo xtask build --release`); takes several minutes more to build.
    #[arg(long)]
    release: bool,
}

#[derive(Debug, Args)]
struct BenchArgs {
    /// One JSON object per line: {measure, value, unit, baseline, ratio}.
    #[arg(long)]
    json: bool,
    /// Only this measure; for `stores`, measures whose name begins so; for `engine`, one of `start`, `http`, `local`, `backlog`.
    #[arg(long, value_name = "MEASURE")]
    only: Option<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    match command {
        Command::Setup(args) => {
            let wanted = |part| args.part.is_none_or(|only| only == part);
            if wanted(Part::Guests) {
                setup::guest_toolchain(&workspace)?;
            }
            if wanted(Part::Redis) {
                setup::redis_server(&workspace)?;
            }
            if wanted(Part::Temporal) {
                setup::temporal(&workspace)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Build(args) => {
            let toolchain = setup::guest_toolchain(&workspace)?;
            let host = build::everything(&workspace, &toolchain, args.release)?;
            progress::note(&format!("the host is {}", host.display()));
            Ok(ExitCode::SUCCESS)
        }
        Command::Demo => Ok(demo::run(&workspace)),
        Command::Test(args) => Ok(suites::run(&workspace, &args.without)),
        Command::Tidy(args) => {
            if args.fix {
                tidy::fix(&workspace)?;
            }
            Ok(tidy::run(&workspace, args.quick))
        }
        Command::Conformance(args) => conformance::run(&workspace, args),
        Command::Bench(Bench::Plugin(args)) => bench::run(&workspace, Subject::Plugin, args),
        Command::Bench(Bench::Stores(args)) => {
            setup::redis_server(&workspace)?;
            bench::run(&workspace, Subject::Stores, args)
        }
        Command::Equivalence(args) => equivalence::run(&workspace, args),
        Command::Crash(args) => crash::run(&workspace, args),
        Command::Powerloss(args) => powerloss::run(&workspace, args),
        Command::Scale => scale::run(&workspace),
        Command::Simulate(args) => simulate::run(&workspace, args),
        Command::Bench(Bench::Engine(args)) => bench::engine(&workspace, args),
        Command::Bench(Bench::Temporal(args)) => bench::temporal(&workspace, args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_declaration_is_consistent_and_every_command_has_help() {
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
        }
    }
}
