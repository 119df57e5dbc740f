//! Every limit of a plugin: one table that drives `plugin.toml`, the operator's caps, error messages and documentation.
//!
//! The effective value is the smaller of what the plugin asks for (or the default) and what the operator allows (or [`Spec::max`]).

use std::collections::BTreeMap;
use std::time::Duration;

/// Names a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(usize)]
pub enum Limit {
    /// Instructions of one call.
    Fuel,
    /// Time that one call may keep a thread busy.
    WallMs,
    /// Time from begin to end of one call, waiting included.
    CallTimeoutMs,
    /// All linear memories of one instance together.
    MemoryBytes,
    /// Number of linear memories of one instance.
    Memories,
    /// All tables of one instance together.
    TableElements,
    /// Number of tables of one instance.
    Tables,
    /// Core instances inside of one component instance.
    Instances,
    /// Stack of one call.
    StackBytes,
    /// Resources that an instance holds at one moment.
    Handles,
    /// Bytes that one crossing carries from the guest to the host.
    HostcallBytes,
    /// Bytes that one call logs.
    LogBytes,
    /// A task's input.
    InputBytes,
    /// A task's output.
    OutputBytes,
    /// Random bytes of one request.
    RandomBytes,
    /// Calls of one plugin that run at once.
    Concurrency,
    /// Calls of one plugin that wait for their turn.
    QueueLength,
    /// How long a call waits for its turn.
    QueueWaitMs,
    /// A plugin's database file.
    SqlBytes,
    /// One text or blob in SQL.
    SqlValueBytes,
    /// Native memory that one SQL statement takes.
    SqlMemoryBytes,
    /// Prepared statements of one instance.
    SqlStatements,
    /// Wait for the database's write lock.
    SqlBusyMs,
    /// One call to the Redis server.
    RedisTimeoutMs,
    /// Prepared Redis scripts of one instance.
    RedisScripts,
    /// The text of one Redis script.
    RedisScriptBytes,
    /// A plugin's `.wasm` file.
    ComponentBytes,
}

/// Who may set a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// `plugin.toml`, capped by the operator.
    Plugin,
    /// The host alone: it is the same for all plugins.
    Host,
}

/// What there is to know about a limit.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Which.
    pub limit: Limit,
    /// Its name in `plugin.toml`, in errors and in the documentation.
    pub name: &'static str,
    /// What it counts.
    pub unit: &'static str,
    /// Without a word from plugin or operator.
    pub default: u64,
    /// The most that plugin and operator can ask for.
    pub max: u64,
    /// Who may set it.
    pub scope: Scope,
    /// What it bounds, for a person.
    pub meaning: &'static str,
    /// What to do about it, for a person.
    pub advice: &'static str,
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const HOUR_MS: u64 = 3_600_000;
const RAISE: &str = "raise it under [limits] in plugin.toml and, if the operator caps it, in the host's configuration";
const SLOW: &str = "let the plugin do less in one call, or raise it under [limits] in plugin.toml";

const fn spec(
    limit: Limit,
    name: &'static str,
    unit: &'static str,
    default: u64,
    max: u64,
    meaning: &'static str,
) -> Spec {
    Spec { limit, name, unit, default, max, scope: Scope::Plugin, meaning, advice: RAISE }
}

impl Spec {
    const fn host(mut self, advice: &'static str) -> Self {
        self.scope = Scope::Host;
        self.advice = advice;
        self
    }
    const fn advice(mut self, advice: &'static str) -> Self {
        self.advice = advice;
        self
    }
}

/// All limits, in the order of [`Limit`].
#[rustfmt::skip]
pub const TABLE: [Spec; 27] = [
    spec(Limit::Fuel, "fuel", "instructions", 1_000_000_000, 1_000_000_000_000, "WebAssembly instructions of one call").advice(SLOW),
    spec(Limit::WallMs, "wall_ms", "ms", 10_000, HOUR_MS, "time that one call may keep a thread busy: its own code and its SQL, but not waiting").advice(SLOW),
    spec(Limit::CallTimeoutMs, "call_timeout_ms", "ms", 30_000, 24 * HOUR_MS, "time from begin to end of one call, waiting in the host included"),
    spec(Limit::MemoryBytes, "memory_bytes", "bytes", 64 * MIB, 4 * GIB, "linear memory of one instance, all its memories together"),
    spec(Limit::Memories, "memories", "memories", 4, 16, "number of linear memories of one instance"),
    spec(Limit::TableElements, "table_elements", "elements", 20_000, 100_000, "table elements of one instance, all its tables together"),
    spec(Limit::Tables, "tables", "tables", 16, 64, "number of tables of one instance"),
    spec(Limit::Instances, "instances", "instances", 64, 256, "core instances inside of one component instance"),
    spec(Limit::StackBytes, "stack_bytes", "bytes", 512 * KIB, 512 * KIB, "stack of one call").host("let the plugin recurse less deeply"),
    spec(Limit::Handles, "handles", "handles", 1_000, 100_000, "resources (streams, files, statements, requests) that one instance holds at one moment"),
    spec(Limit::HostcallBytes, "hostcall_bytes", "bytes", 20 * MIB, GIB, "bytes that one call between guest and host carries to the host"),
    spec(Limit::LogBytes, "log_bytes", "bytes", 64 * KIB, 64 * MIB, "bytes that one call writes to the log, stdout and stderr"),
    spec(Limit::InputBytes, "input_bytes", "bytes", 4 * MIB, 64 * MIB, "a task's input and config"),
    spec(Limit::OutputBytes, "output_bytes", "bytes", 4 * MIB, 64 * MIB, "a task's output"),
    spec(Limit::RandomBytes, "random_bytes", "bytes", MIB, 64 * MIB, "random bytes of one request"),
    spec(Limit::Concurrency, "concurrency", "calls", 32, 128, "calls of one plugin that run at once"),
    spec(Limit::QueueLength, "queue_length", "calls", 1_000, 100_000, "calls of one plugin that wait for their turn"),
    spec(Limit::QueueWaitMs, "queue_wait_ms", "ms", 30_000, 24 * HOUR_MS, "time that a call waits for its turn"),
    spec(Limit::SqlBytes, "sql_bytes", "bytes", GIB, 1024 * GIB, "the plugin's database file"),
    spec(Limit::SqlValueBytes, "sql_value_bytes", "bytes", 16 * MIB + 64 * KIB, GIB, "one text, blob or row in SQL"),
    spec(Limit::SqlMemoryBytes, "sql_memory_bytes", "bytes", 256 * MIB, 16 * GIB, "native memory that one SQL statement takes"),
    spec(Limit::SqlStatements, "sql_statements", "statements", 256, 10_000, "prepared statements of one instance"),
    spec(Limit::SqlBusyMs, "sql_busy_ms", "ms", 5_000, HOUR_MS, "wait for the write lock of the plugin's database"),
    spec(Limit::RedisTimeoutMs, "redis_timeout_ms", "ms", 2_000, HOUR_MS, "one call to the Redis server, from end to end: waiting for a connection included"),
    spec(Limit::RedisScripts, "redis_scripts", "scripts", 256, 10_000, "prepared Redis scripts of one instance"),
    spec(Limit::RedisScriptBytes, "redis_script_bytes", "bytes", 64 * KIB, MIB, "the text of one Redis script"),
    spec(Limit::ComponentBytes, "component_bytes", "bytes", 64 * MIB, 64 * MIB, "a plugin's .wasm file").host("build the plugin in release mode and strip it"),
];

const _: () = {
    let mut index = 0;
    while index < TABLE.len() {
        assert!(TABLE[index].limit as usize == index, "the table is in the order of the enum");
        assert!(TABLE[index].default <= TABLE[index].max);
        index += 1;
    }
};

impl Limit {
    /// What there is to know about it.
    pub fn spec(self) -> &'static Spec {
        &TABLE[self as usize]
    }

    /// Its name in `plugin.toml`.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// The limit of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|spec| spec.name == name).map(|spec| spec.limit)
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The limits of one plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits([u64; TABLE.len()]);

impl Default for Limits {
    fn default() -> Self {
        Self(TABLE.map(|spec| spec.default))
    }
}

impl Limits {
    /// What holds for a plugin: its own wish or the default, and never more than the operator's cap.
    pub fn effective(wanted: &BTreeMap<Limit, u64>, caps: &BTreeMap<Limit, u64>) -> Self {
        Self(TABLE.map(|spec| {
            let wish = wanted.get(&spec.limit).copied().unwrap_or(spec.default);
            let cap = caps.get(&spec.limit).copied().unwrap_or(spec.max);
            wish.min(cap).min(spec.max)
        }))
    }

    /// The value of a limit, in its unit.
    pub fn get(&self, limit: Limit) -> u64 {
        self.0[limit as usize]
    }

    /// As a size on this machine.
    pub fn size(&self, limit: Limit) -> usize {
        usize::try_from(self.get(limit)).unwrap_or(usize::MAX)
    }

    /// A limit in milliseconds as a duration.
    pub fn duration(&self, limit: Limit) -> Duration {
        Duration::from_millis(self.get(limit))
    }
}

/// A limit that was exceeded. A host function returns it as its error to end the call of its guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("limit `{limit}` exceeded: used {used} {unit}, allowed {allowed} {unit}", unit = limit.spec().unit)]
pub struct LimitHit {
    /// Which.
    pub limit: Limit,
    /// How much was used or asked for, in the limit's unit.
    pub used: u64,
    /// How much is allowed, in the limit's unit.
    pub allowed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_caps_what_a_plugin_wants() {
        let wanted = BTreeMap::from([(Limit::Fuel, 5_000), (Limit::LogBytes, 10)]);
        let caps = BTreeMap::from([(Limit::Fuel, 2_000), (Limit::MemoryBytes, 1_000)]);
        let limits = Limits::effective(&wanted, &caps);
        assert_eq!(limits.get(Limit::Fuel), 2_000);
        assert_eq!(limits.get(Limit::LogBytes), 10);
        assert_eq!(limits.get(Limit::MemoryBytes), 1_000, "a cap also lowers a default");
        assert_eq!(limits.get(Limit::WallMs), 10_000);
    }

    #[test]
    fn nobody_goes_over_the_hard_maximum() {
        let much = BTreeMap::from([(Limit::TableElements, u64::MAX), (Limit::StackBytes, u64::MAX)]);
        let limits = Limits::effective(&much, &much);
        assert_eq!(limits.get(Limit::TableElements), 100_000);
        assert_eq!(limits.get(Limit::StackBytes), 512 * 1024);
    }

    #[test]
    fn the_readme_lists_each_limit_with_its_default() {
        let readme = include_str!("../../../README.md");
        let (_, rest) = readme.split_once("### Limits").expect("the section about limits");
        let (section, _) = rest.split_once("## Exit codes").expect("the section behind it");
        for spec in &TABLE {
            let row = format!("| `{}` | {} {} |", spec.name, thousands(spec.default), spec.unit);
            assert!(section.contains(&row), "README.md lacks `{row}`");
        }
        assert_eq!(section.lines().filter(|line| line.starts_with("| `")).count(), TABLE.len(), "rows without a limit");
    }

    fn thousands(number: u64) -> String {
        let digits = number.to_string();
        let comma = |(at, digit): (usize, char)| (at > 0 && (digits.len() - at).is_multiple_of(3), digit);
        digits.chars().enumerate().map(comma).fold(String::new(), |mut text, (comma, digit)| {
            if comma {
                text.push(',');
            }
            text.push(digit);
            text
        })
    }

    #[test]
    fn each_limit_is_found_by_its_name() {
        for spec in &TABLE {
            assert_eq!(Limit::from_name(spec.name), Some(spec.limit));
        }
        assert_eq!(Limit::from_name("fule"), None);
    }
}
