//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use compozy_runtime::Role;

use compozy_embed::StoreChoice;

/// Where a host listens when it is not told otherwise: only this machine can reach it.
pub(crate) const LISTEN: &str = "127.0.0.1:5001";
/// Where a host keeps its data when it is not told otherwise.
pub(crate) const DATA_DIR: &str = ".compozy";
/// Running tasks have this long to end after the first signal.
const DRAIN: &str = "10s";

/// Runs durable YAML workflows whose tasks and stores are sandboxed WebAssembly components.
///
/// Without a command it serves HTTP, like `serve`. It needs no configuration and no other service.
#[derive(Debug, Parser)]
#[command(name = "compozy-host", version, after_help = crate::exit::help(), max_term_width = 120)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) host: HostArgs,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Options of every command that needs plugins or data.
#[derive(Debug, Clone, Args)]
pub(crate) struct HostArgs {
    /// A folder with one folder per plugin (`plugin.toml` and a `.wasm`); may be repeated.
    /// A plugin takes the place of the built-in of its name.
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) plugins: Vec<PathBuf>,
    /// Which plugin keeps a store, for example `cache=redis`; may be repeated. Stores are cache, locks, events, config-store and memory-store.
    /// [default: sqlite for each]
    #[arg(long, value_name = "ROLE=PLUGIN", global = true)]
    pub(crate) store: Vec<StoreChoice>,
    /// The Redis server, for plugins that use one: `redis://[USER:PASSWORD@]HOST:PORT[/DB]`, `rediss://...` with TLS, or `redis+unix:///PATH`.
    #[arg(long, value_name = "URL", global = true, env = "COMPOZY_REDIS_URL", hide_env_values = true)]
    pub(crate) redis_url: Option<String>,
    /// Where the journal, the plugins' databases and compiled code are kept.
    #[arg(long, value_name = "DIR", global = true, default_value = DATA_DIR)]
    pub(crate) data_dir: PathBuf,
    /// What to log on standard error, for example `debug` or `info,compozy_engine=debug`.
    #[arg(long, value_name = "FILTER", global = true, env = "COMPOZY_LOG")]
    pub(crate) log: Option<String>,
}

/// Options of `serve`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServeArgs {
    /// Address and port; port 0 takes a free one. The line `listening http://...` on standard output names it.
    /// [default: 127.0.0.1:5001]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// The folder with `compozy.yaml` or workflow files. [default: the current folder]
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
    /// After SIGTERM or Ctrl-C, running tasks have this long to end; a second signal ends at once.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = DRAIN)]
    pub(crate) drain: Duration,
}

impl ServeArgs {
    /// The address to listen on.
    pub(crate) fn listen(&self) -> &str {
        self.listen.as_deref().unwrap_or(LISTEN)
    }
    /// The project's folder.
    pub(crate) fn project(&self) -> PathBuf {
        self.project.clone().unwrap_or_else(|| PathBuf::from("."))
    }
    /// The first option that was given, for commands that have no use for it.
    pub(crate) fn given(&self) -> Option<&'static str> {
        self.listen.as_ref().map(|_| "--listen").or_else(|| self.project.as_ref().map(|_| "--project"))
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serves HTTP until it is stopped (also what happens without a command).
    Serve(ServeArgs),
    /// Runs one workflow in the foreground and prints its output.
    Run(RunArgs),
    /// Checks a project or a workflow file and prints every problem.
    Validate(ValidateArgs),
    /// Works with plugins.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Copies the journal of a data folder to a new file, while a host works on it or not.
    Backup {
        /// The file to write; it must not exist.
        to: PathBuf,
    },
    /// Looks into the journal of a data folder, or does something to an execution of a host that runs.
    #[command(subcommand)]
    Executions(Executions),
}

/// Options of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// A project folder or a workflow file.
    pub(crate) path: PathBuf,
    /// Which workflow, when the project has several.
    #[arg(long, value_name = "ID")]
    pub(crate) workflow: Option<String>,
    /// The input: JSON, `@FILE`, or `-` for standard input.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub(crate) input: String,
    /// Print one JSON document on standard output instead of text.
    #[arg(long)]
    pub(crate) json: bool,
    /// Show no progress on standard error.
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Stop waiting after this long, for example `90s` or `10m`.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
}

/// Options of `validate`.
#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// A project folder or a workflow file.
    pub(crate) path: PathBuf,
    /// Print one JSON document on standard output instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to do with plugins.
#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Tests a store plugin against every rule of the roles that it exports.
    ///
    /// The last line is `N passed, N failed`. A rule that is broken shows the shortest list of steps that breaks it.
    /// The plugin's data lie in a temporary folder; on a Redis server, under a prefix of their own.
    Test(PluginTestArgs),
}

/// Options of `plugin test`.
#[derive(Debug, Args)]
pub(crate) struct PluginTestArgs {
    /// A component (`.wasm`, with or without a `plugin.toml` beside it), or the name of a built-in.
    pub(crate) plugin: String,
    /// Only this role; may be repeated. [default: all that it exports]
    #[arg(long, value_name = "ROLE", value_parser = compozy_embed::stores::role_named)]
    pub(crate) role: Vec<Role>,
    /// Only rules whose name contains this, for example `cache/ttl`.
    #[arg(long, value_name = "TEXT")]
    pub(crate) rule: Option<String>,
    /// Random operations that are compared with the model, for each role.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) operations: usize,
    /// A million operations for each role.
    #[arg(long, conflicts_with = "operations")]
    pub(crate) deep: bool,
    /// Draws other operations.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// The plugin goes by a clock of its own, not by the host's: wait for short times to live instead of turning the clock.
    /// Always so for plugins that use Redis.
    #[arg(long)]
    pub(crate) real_time: bool,
    /// The plugin keeps its data in memory only: it is not closed and opened again.
    #[arg(long)]
    pub(crate) volatile: bool,
}

/// Where the host is that is to do something.
#[derive(Debug, Clone, Args)]
pub(crate) struct Remote {
    /// The address that the host listens on.
    #[arg(long, value_name = "ADDRESS", default_value = LISTEN)]
    pub(crate) address: String,
}

/// What to look at in a journal, and what to do to an execution.
#[derive(Debug, Subcommand)]
pub(crate) enum Executions {
    /// Executions, the newest first.
    List {
        /// Only those that stand like this, for example `failed` or `waiting`.
        #[arg(long)]
        status: Option<String>,
        /// Only those of this workflow.
        #[arg(long, value_name = "ID")]
        workflow: Option<String>,
        /// Only those that began before this one: the last of the page before.
        #[arg(long, value_name = "ID")]
        before: Option<String>,
        /// Only those that began at this time or later: a time (`2026-01-31T09:05:00Z`), a day, or how long ago (`2h`).
        #[arg(long, value_name = "TIME", value_parser = moment)]
        since: Option<u64>,
        /// Only those that began before this time.
        #[arg(long, value_name = "TIME", value_parser = moment)]
        until: Option<u64>,
        /// How many at most.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// Print one JSON document instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Says something to an execution.
    Signal {
        /// The execution's id.
        id: String,
        /// The signal's name.
        name: String,
        /// What it carries: JSON, `@FILE`, or `-` for standard input.
        #[arg(long, value_name = "JSON", default_value = "null")]
        payload: String,
        /// Names the signal: a second one of the same key has no effect.
        #[arg(long)]
        key: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Begins nothing new until the execution is resumed.
    Pause {
        /// The execution's id.
        id: String,
        /// For whoever looks at it later.
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Lets a paused execution go on.
    Resume {
        /// The execution's id.
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Asks what runs to end, and ends it by force after the grace.
    Cancel {
        /// The execution's id.
        id: String,
        /// For whoever looks at it later.
        #[arg(long)]
        reason: Option<String>,
        /// How long what runs may take to end; `0s` ends it at once.
        #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
        grace: Duration,
        #[command(flatten)]
        remote: Remote,
    },
    /// Ends an execution at once, as failed.
    Terminate {
        /// The execution's id.
        id: String,
        /// For whoever looks at it later.
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Begins again what ended badly.
    Retry {
        /// The execution's id.
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Goes back to a task and on from there.
    Reset {
        /// The execution's id.
        id: String,
        /// The task's key, as `show` prints it.
        task: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Removes executions that ended longer ago than this.
    Prune {
        /// For example `720h`.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        older_than: Duration,
        #[command(flatten)]
        remote: Remote,
    },
    /// Takes executions through their journals again and tells the first difference of each.
    Verify {
        /// The execution's id.
        #[arg(required_unless_present_any = ["all", "file"])]
        id: Option<String>,
        /// Every execution of the journal.
        #[arg(long, conflicts_with = "id")]
        all: bool,
        /// One that was exported; needs neither host nor journal.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["id", "all"])]
        file: Option<PathBuf>,
    },
    /// Draws the tasks of an execution as they go on, until it ends; the exit code says how it ended.
    ///
    /// On a terminal the tree is drawn in place (without colours when `NO_COLOR` is set), elsewhere each change is a line.
    /// Ctrl-C ends the watching, not the execution.
    Watch {
        /// The execution's id.
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Writes all that is recorded of an execution as one JSON document, which `verify --file` can check anywhere.
    Export {
        /// The execution's id.
        id: String,
        /// The file to write; it must not exist. [default: standard output]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// One execution with its tasks.
    Show {
        /// The execution's id.
        id: String,
        /// Print one JSON document instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Every record of one execution's journal, one per line.
    Journal {
        /// The execution's id.
        id: String,
        /// Print one JSON document per line instead of text.
        #[arg(long)]
        json: bool,
    },
}

/// A number with `ms`, `s`, `m` or `h`; without a unit, seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "ms" => 1,
        "s" | "" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("`{unit}` is no unit of time; use ms, s, m or h, for example `90s`")),
    };
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is no time; write for example `90s`"))?;
    number.checked_mul(factor).map(Duration::from_millis).ok_or_else(|| format!("`{text}` is too long"))
}

/// A time as it is written, or so long ago; milliseconds since 1970.
fn moment(text: &str) -> Result<u64, String> {
    if let Some(ms) = compozy_server::time::parse_rfc3339(text) {
        return Ok(ms);
    }
    let ago = duration(text).map_err(|_| {
        format!(
            "`{text}` is no time; write for example `2026-01-31T09:05:00Z`, `2026-01-31`, or `2h` for two hours ago"
        )
    })?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(u64::try_from(now.saturating_sub(ago).as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_declaration_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("90s", Some(90_000)),
            ("5", Some(5_000)),
            ("250ms", Some(250)),
            ("10m", Some(600_000)),
            ("1h", Some(3_600_000)),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("1d", None),
            ("99999999999999999h", None),
        ] {
            assert_eq!(duration(text).ok(), expected.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn shared_options_stand_before_or_after_the_command() {
        for line in ["compozy-host --plugins p --data-dir d run x", "compozy-host run x --plugins p --data-dir d"] {
            let cli = Cli::try_parse_from(line.split(' ')).expect(line);
            assert_eq!(cli.host.plugins, [PathBuf::from("p")], "{line}");
            assert_eq!(cli.host.data_dir, PathBuf::from("d"), "{line}");
        }
    }

    #[test]
    fn without_a_command_it_takes_the_options_of_serve() {
        let cli = Cli::try_parse_from(["compozy-host", "--plugins", "./plugins"]).expect("parses");
        assert!(cli.command.is_none());
        assert_eq!(cli.serve.listen(), LISTEN);
        assert_eq!(cli.host.data_dir, PathBuf::from(DATA_DIR));
        assert_eq!(cli.serve.drain, Duration::from_secs(10));
    }
}
