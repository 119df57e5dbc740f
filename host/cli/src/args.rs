//! The command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use compozy_config::{Assignment, Given, Secret};
use compozy_runtime::Role;

use compozy_embed::StoreChoice;

pub(crate) use crate::settings::{HostArgs, ServeArgs};

/// Where a host is asked when nobody says where it listens.
pub(crate) const LISTEN: &str = "127.0.0.1:5001";

/// Runs durable YAML workflows whose tasks and stores are sandboxed WebAssembly components.
///
/// Without a command it serves HTTP, like `serve`. It needs no configuration and no other service.
#[derive(Debug, Parser)]
#[command(name = "compozy-host", version, after_help = crate::exit::help(), max_term_width = 120)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) host: HostFlags,
    #[command(flatten)]
    pub(crate) serve: ServeFlags,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Options of every command that needs the configuration. What is not given comes from the environment, `compozy.yaml` or a default.
#[derive(Debug, Clone, Args)]
pub(crate) struct HostFlags {
    /// The folder with `compozy.yaml` or workflow files, for commands that are not told a path. [default: the current folder]
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) project: Option<PathBuf>,
    /// A folder with one folder per plugin (`plugin.toml` and a `.wasm`); may be repeated.
    /// A plugin takes the place of the built-in of its name. [env: COMPOZY_PLUGIN_DIRS]
    #[arg(long, value_name = "DIR", global = true)]
    plugins: Vec<String>,
    /// Which plugin keeps a store, for example `cache=redis`; may be repeated. Stores are cache, locks, events, config-store and memory-store.
    /// [default: sqlite for each, redis when distributed] [env: COMPOZY_STORES_CACHE and so on]
    #[arg(long, value_name = "ROLE=PLUGIN", global = true)]
    store: Vec<StoreChoice>,
    /// The Redis server, for plugins that use one: `redis://[USER:PASSWORD@]HOST:PORT[/DB]`, `rediss://...` with TLS, or `redis+unix:///PATH`.
    /// [env: COMPOZY_REDIS_URL]
    #[arg(long, value_name = "URL", global = true, value_parser = secret)]
    redis_url: Option<Secret>,
    /// Where the journal, the plugins' databases and compiled code are kept. [default: .compozy] [env: COMPOZY_DATA_DIR]
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<String>,
    /// What to log on standard error, for example `debug` or `info,compozy_engine=debug`. [env: COMPOZY_LOG]
    #[arg(long, value_name = "FILTER", global = true)]
    log: Option<String>,
    /// Sets any key of the configuration, for example `drain=1m`; may be repeated. `config reference` lists the keys.
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    set: Vec<SetOption>,
}

/// `KEY=VALUE`. The value may be a secret.
#[derive(Debug, Clone)]
pub(crate) struct SetOption {
    key: String,
    value: Secret,
}

impl std::str::FromStr for SetOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self { key: key.trim().to_owned(), value: Secret::new(value) }),
            // The text is not repeated: it may be a secret whose key was forgotten.
            _ => Err("there is no `=` behind a key; write for example `drain=1m`".to_owned()),
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the argument parser wants a result")]
fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text))
}

/// Options of `serve`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServeFlags {
    /// Address and port; port 0 takes a free one. The line `listening http://...` on standard output names it.
    /// [default: 127.0.0.1:5001] [env: COMPOZY_LISTEN]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// What this process does, when several share the work: api, workflow-worker or tool-worker; may be repeated. [default: all]
    /// [env: COMPOZY_ROLES]
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
    /// After SIGTERM or Ctrl-C, running tasks have this long to end; a second signal ends at once. [default: 10s] [env: COMPOZY_DRAIN]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    drain: Option<Duration>,
}

impl ServeFlags {
    /// The first option that was given, for commands that have no use for it.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let listen = self.listen.as_ref().map(|_| "--listen");
        listen.or((!self.role.is_empty()).then_some("--role")).or(self.drain.map(|_| "--drain"))
    }

    /// What they say, as keys of the configuration.
    pub(crate) fn assignments(&self) -> Vec<Assignment> {
        let drain = self.drain.map(|drain| format!("{}ms", drain.as_millis()));
        let all = [
            self.listen.clone().map(|listen| assign("listen", Given::Text(listen), "--listen")),
            (!self.role.is_empty()).then(|| assign("roles", Given::List(self.role.clone()), "--role")),
            drain.map(|drain| assign("drain", Given::Text(drain), "--drain")),
        ];
        all.into_iter().flatten().collect()
    }
}

impl HostFlags {
    /// What they say, as keys of the configuration.
    pub(crate) fn assignments(&self) -> Vec<Assignment> {
        let Self { plugins, store, redis_url, data_dir, log, set, project: _ } = self;
        let text = |key: &str, value: &Option<String>, option| {
            value.clone().map(|value| assign(key, Given::Text(value), option))
        };
        let mut all: Vec<Assignment> = [
            (!plugins.is_empty()).then(|| assign("plugin_dirs", Given::List(plugins.clone()), "--plugins")),
            redis_url.as_ref().map(|url| assign("redis.url", Given::Text(url.expose().to_owned()), "--redis-url")),
            text("data_dir", data_dir, "--data-dir"),
            text("log", log, "--log"),
        ]
        .into_iter()
        .flatten()
        .collect();
        let stores = store.iter().map(|choice| {
            assign(&format!("stores.{}", choice.role.name()), Given::Text(choice.plugin.clone()), "--store")
        });
        all.extend(stores);
        all.extend(
            set.iter().map(|SetOption { key, value }| assign(key, Given::Text(value.expose().to_owned()), "--set")),
        );
        all
    }
}

fn assign(key: &str, value: Given, option: &'static str) -> Assignment {
    Assignment { key: key.to_owned(), value, option }
}

impl Command {
    /// The path of the project, for commands that are told one.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Run(run) => Some(&run.path),
            Self::Validate(validate) => Some(&validate.path),
            _ => None,
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serves HTTP until it is stopped (also what happens without a command).
    Serve(ServeFlags),
    /// Runs one workflow in the foreground and prints its output.
    Run(RunArgs),
    /// Checks a project or a workflow file and prints every problem.
    Validate(ValidateArgs),
    /// Shows, checks and describes the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Checks everything that a host needs, and tells what to do about what is wrong.
    ///
    /// One line for each check: ok, warning or problem. The exit code is 1 when there is a problem.
    Doctor {
        /// Print one JSON document instead of text.
        #[arg(long)]
        json: bool,
    },
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

/// What to do with the configuration.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Prints every key with its value and where that came from. Secrets are masked.
    Show {
        /// Print one JSON document instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Prints everything that is wrong with the configuration and the project file.
    Validate {
        /// Print one JSON document instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Prints the JSON schema of `compozy.yaml`, for editors.
    Schema,
    /// Prints the reference of all keys, in Markdown.
    Reference,
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
    /// The address that the host listens on. [default: what `listen` says in the configuration]
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
}

impl Remote {
    /// The address.
    pub(crate) fn address(&self) -> &str {
        self.address.as_deref().unwrap_or(LISTEN)
    }
}

impl Executions {
    /// Asks the host that listens there, unless the command says otherwise.
    pub(crate) fn ask_at(&mut self, listen: &str) {
        let remote = match self {
            Self::Signal { remote, .. }
            | Self::Pause { remote, .. }
            | Self::Resume { remote, .. }
            | Self::Cancel { remote, .. }
            | Self::Terminate { remote, .. }
            | Self::Retry { remote, .. }
            | Self::Reset { remote, .. }
            | Self::Prune { remote, .. }
            | Self::Watch { remote, .. } => remote,
            Self::List { .. }
            | Self::Verify { .. }
            | Self::Export { .. }
            | Self::Show { .. }
            | Self::Journal { .. } => {
                return;
            }
        };
        // A host that takes any free port says itself which one it was.
        let named = listen.rsplit_once(':').filter(|(_, port)| *port != "0");
        if let (None, Some((host, port))) = (&remote.address, named) {
            let host = if host == "0.0.0.0" || host == "[::]" { "127.0.0.1" } else { host };
            remote.address = Some(format!("{host}:{port}"));
        }
    }
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
            let assigned = cli.host.assignments();
            let keys: Vec<&str> = assigned.iter().map(|assignment| assignment.key.as_str()).collect();
            assert_eq!(keys, ["plugin_dirs", "data_dir"], "{line}");
            assert_eq!(assigned[0].value, Given::List(vec!["p".to_owned()]), "{line}");
        }
    }

    #[test]
    fn without_a_command_it_takes_the_options_of_serve() {
        let cli = Cli::try_parse_from(["compozy-host", "--plugins", "./plugins"]).expect("parses");
        assert!(cli.command.is_none());
        assert!(cli.serve.assignments().is_empty() && cli.serve.given().is_none());
    }

    #[test]
    fn every_option_of_the_declaration_exists_and_sets_its_key() {
        let declared = compozy_config::KEYS.iter().filter_map(|key| Some((key.path, key.flag?.split(' ').next()?)));
        for (path, option) in declared {
            let value = match option {
                "--store" => format!("{}=x", path.rsplit('.').next().expect("a name")),
                "--drain" => "5s".to_owned(),
                _ => "x".to_owned(),
            };
            let cli = Cli::try_parse_from(["compozy-host", option, &value]).expect(option);
            let assigned = [cli.host.assignments(), cli.serve.assignments()].concat();
            assert_eq!(assigned.len(), 1, "{option}");
            assert_eq!((assigned[0].key.as_str(), assigned[0].option), (path, option));
        }
    }

    #[test]
    fn a_host_is_asked_where_it_listens_unless_the_command_says_otherwise() {
        for (line, listen, expected) in [
            ("resume e", "127.0.0.1:7", "127.0.0.1:7"),
            ("resume e", "0.0.0.0:7", "127.0.0.1:7"),
            ("resume e", "[::]:7", "127.0.0.1:7"),
            ("resume e", "127.0.0.1:0", LISTEN),
            ("resume e --address h:1", "127.0.0.1:7", "h:1"),
        ] {
            let cli = Cli::try_parse_from(format!("compozy-host executions {line}").split(' ')).expect(line);
            let Some(Command::Executions(mut what)) = cli.command else { panic!("{line}") };
            what.ask_at(listen);
            let Executions::Resume { remote, .. } = what else { panic!("{line}") };
            assert_eq!(remote.address(), expected, "{line} {listen}");
        }
    }

    #[test]
    fn secrets_of_the_command_line_are_not_shown() {
        let line = ["compozy-host", "--redis-url", "hunter2", "--set", "engine.temporal.api_key=hunter3"];
        let cli = Cli::try_parse_from(line).expect("parses");
        let shown = format!("{cli:?}{:?}", cli.host.assignments());
        assert!(!shown.contains("hunter"), "{shown}");
        let error = Cli::try_parse_from(["compozy-host", "--set", "drain"]).expect_err("refused").to_string();
        assert!(error.contains("drain=1m"), "{error}");
    }
}
