//! The declaration: every key there is.

use crate::key::{Key, Kind, Preset, Section};
use crate::limits::{
    CONCURRENCY_MAX, DRAIN_MS_MAX, RATE_PER_MS_MAX, RATE_REQUESTS_MAX, RPC_TIMEOUT_MS_MAX, START_TIMEOUT_MS_MAX,
    TIME_MS_MAX,
};
use Kind::{Count, Folders, Listen, Name, Names, Path, Paths, Secret, Switch, Text, Texts, Time, Url, Word, Words};
use Preset::{ByMode, Is, ProjectName, Unset};

/// The words of `mode`.
pub const MODES: &[&str] = &["standalone", "distributed"];
/// The words of `engine.kind`.
pub const ENGINES: &[&str] = &["embedded", "temporal"];
/// The words of `blobs.kind`.
pub const BLOBS: &[&str] = &["folder", "s3"];
/// The words of `roles`.
pub const ROLES: &[&str] = &["api", "workflow-worker", "tool-worker"];
/// The stores, each a key below `stores`.
pub const STORES: &[&str] = &["cache", "locks", "events", "config-store", "memory-store"];
/// What `retention` sets when it is one time.
pub const RETENTIONS: &[&str] = &["retention.success", "retention.failed", "retention.timed_out", "retention.canceled"];

const fn key(path: &'static str, kind: Kind, preset: Preset, doc: &'static str) -> Key {
    Key::new(path, kind, preset, doc)
}

const fn store(path: &'static str, doc: &'static str) -> Key {
    key(path, Name, ByMode("sqlite", "redis"), doc).example("redis").flag("--store ROLE=PLUGIN")
}

const fn kept(path: &'static str, doc: &'static str) -> Key {
    key(path, Time { min: 1, max: TIME_MS_MAX }, Unset("for ever"), doc).example("720h")
}

const FOR_TLS: &str = "nothing";
const HTTP: &[&str] = &["http", "https"];
const CONCURRENCY: Kind = Count { min: 1, max: CONCURRENCY_MAX, unit: "attempts" };
const REQUESTS: Kind = Count { min: 1, max: RATE_REQUESTS_MAX, unit: "requests" };

/// Mappings that have keys below them.
#[rustfmt::skip]
pub const SECTIONS: &[Section] = &[
    Section { path: "engine", noun: "key", doc: "What carries workflows out, and keeps what became of them." },
    Section { path: "engine.temporal", noun: "key", doc: "The Temporal server, for the engine `temporal`." },
    Section { path: "engine.temporal.tls", noun: "key", doc: "Certificates, for an address with `https://`." },
    Section { path: "stores", noun: "store", doc: "Which plugin keeps which store." },
    Section { path: "redis", noun: "key", doc: "The Redis server, for plugins that use one." },
    Section { path: "blobs", noun: "key", doc: "Where large inputs, outputs and payloads are kept." },
    Section { path: "blobs.s3", noun: "key", doc: "S3-compatible storage, for `blobs.kind: s3`." },
    Section { path: "worker", noun: "key", doc: "What a process with the role `tool-worker` does." },
    Section { path: "worker.concurrency", noun: "plugin", doc: "Attempts of a plugin's tasks that this process runs at once, by plugin." },
    Section { path: "rate_limit", noun: "key", doc: "How many requests one client may send to the HTTP interface." },
    Section { path: "retention", noun: "key", doc: "How long executions are kept after their end." },
    Section { path: "plugins", noun: "plugin", doc: "What the operator grants each plugin, and what bounds it." },
    Section { path: "plugins.*", noun: "key", doc: "One plugin." },
    Section { path: "plugins.*.grant", noun: "key", doc: "What the plugin may have, if its manifest asks for it. Nothing is granted by default." },
    Section { path: "plugins.*.grant.env", noun: "variable", doc: "The plugin's environment." },
    Section { path: "plugins.*.limits", noun: "limit", doc: "Limits by name; a plugin never gets more than is allowed here." },
];

/// Every key, in the order of the reference.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("mode", Word(MODES), Is("standalone"),
        "What everything else takes as its default: one process without any service, or Temporal and Redis.")
        .example("distributed"),

    key("engine.kind", Word(ENGINES), ByMode("embedded", "temporal"),
        "The engine: the one inside of this process, which keeps its journal in the data folder, or a Temporal server.")
        .example("temporal"),
    key("engine.temporal.address", Url(HTTP), Unset("required by the engine `temporal`, unless it is managed"),
        "Where the Temporal server's frontend listens; `https://` for TLS.")
        .example("http://127.0.0.1:7233"),
    key("engine.temporal.namespace", Name, Is("default"),
        "The namespace on the Temporal server. It must exist.")
        .example("production"),
    key("engine.temporal.project", Name, ProjectName("compozy"),
        "What the names of task queues begin with. Processes of one project must say the same, and two projects in one namespace must not.")
        .example("shop"),
    key("engine.temporal.api_key", Secret, Unset("none is sent"),
        "The API key that is sent with every request.")
        .example("{ env: TEMPORAL_API_KEY }"),
    key("engine.temporal.tls.ca_file", Path, Unset("the public authorities"),
        "Certificates (PEM) of the authorities that may sign the server's.")
        .example("certs/ca.pem"),
    key("engine.temporal.tls.cert_file", Path, Unset(FOR_TLS),
        "The certificate (PEM) that this process shows to the server.")
        .example("certs/client.pem"),
    key("engine.temporal.tls.key_file", Path, Unset(FOR_TLS),
        "The key (PEM) of that certificate.")
        .example("certs/client.key"),
    key("engine.temporal.tls.domain", Text, Unset("the host of the address"),
        "The name that the server's certificate must have, when it is not the host of the address.")
        .example("temporal.example.com"),
    key("engine.temporal.managed", Switch, Is("false"),
        "Start a development server as a child of this process, with its database in the data folder, and stop it at the end.")
        .example("true"),
    key("engine.temporal.binary", Path, Unset("`temporal` on the PATH"),
        "The Temporal command line program that a managed server is started with.")
        .example("/usr/local/bin/temporal"),
    key("engine.temporal.rpc_timeout", Time { min: 100, max: RPC_TIMEOUT_MS_MAX }, Is("10s"),
        "How long one request to the Temporal server may take, before it is tried again or given up.")
        .example("5s"),

    store("stores.cache", "The plugin that keeps the cache."),
    store("stores.locks", "The plugin that keeps locks."),
    store("stores.events", "The plugin that keeps streams of events."),
    store("stores.config-store", "The plugin that keeps configuration entries of workflows."),
    store("stores.memory-store", "The plugin that keeps conversations (memory tasks)."),

    key("redis.url", Secret, Unset("required when a store is kept by `redis`"),
        "The Redis server (7.0 or newer): `redis://[USER:PASSWORD@]HOST:PORT[/DB]`, `rediss://...` with TLS, or `redis+unix:///PATH`.")
        .example("{ env: MY_REDIS_URL }").flag("--redis-url URL"),

    key("blobs.kind", Word(BLOBS), Is("folder"),
        "What keeps values above 64 KiB: a folder, or S3-compatible storage.")
        .example("s3"),
    key("blobs.folder", Path, Unset("`blobs` in the data folder"),
        "The folder, for `blobs.kind: folder`. Processes with different roles must all see it.")
        .example("/mnt/shared/blobs"),
    key("blobs.s3.endpoint", Url(HTTP), Unset("that of AWS for the region"),
        "Where the storage answers, when it is not AWS.")
        .example("https://minio.example.com"),
    key("blobs.s3.bucket", Name, Unset("required by `blobs.kind: s3`"),
        "The bucket. It must exist.")
        .example("compozy"),
    key("blobs.s3.region", Name, Is("us-east-1"),
        "The bucket's region.")
        .example("eu-central-1"),
    key("blobs.s3.prefix", Text, Unset("no prefix"),
        "What the names of all objects begin with.")
        .example("shop/"),
    key("blobs.s3.access_key_id", Secret, Unset("required by `blobs.kind: s3`"),
        "The id of the key that requests are signed with.")
        .example("{ env: AWS_ACCESS_KEY_ID }"),
    key("blobs.s3.secret_access_key", Secret, Unset("required by `blobs.kind: s3`"),
        "The key itself.")
        .example("{ file: secrets/s3 }"),
    key("blobs.s3.allow_http", Switch, Is("false"),
        "Allow an endpoint without TLS.")
        .example("true"),

    key("roles", Words(ROLES), Is("api,workflow-worker,tool-worker"),
        "What this process does: `api` serves HTTP, `workflow-worker` decides what comes next, `tool-worker` runs plugins. The embedded engine needs all three.")
        .example("[tool-worker]").flag("--role ROLE"),
    key("worker.plugins", Names, Unset("all that are loaded"),
        "The plugins whose tasks this process takes as a `tool-worker`.")
        .example("[weather, files]"),
    key("worker.concurrency.*", CONCURRENCY, Unset("what the plugin's own limits allow"),
        "Attempts of this plugin's tasks that this process runs at once.")
        .example("4"),

    key("listen", Listen, Is("127.0.0.1:5001"),
        "Address and port of the HTTP interface; port 0 takes a free one. By default only this machine can reach it.")
        .example("0.0.0.0:5001").flag("--listen ADDRESS"),
    key("data_dir", Path, Is(".compozy"),
        "Where the journal, the plugins' databases and compiled code are kept. One host at a time works on it.")
        .example("/var/lib/compozy").flag("--data-dir DIR"),
    key("plugin_dirs", Paths, Is(""),
        "Folders with one folder per plugin (`plugin.toml` and a `.wasm`). A plugin takes the place of the built-in of its name.")
        .example("[plugins]").flag("--plugins DIR"),
    key("start_timeout", Time { min: 100, max: START_TIMEOUT_MS_MAX }, Is("30s"),
        "How long the start may take; services that are required must answer within it.")
        .example("1m"),
    key("drain", Time { min: 0, max: DRAIN_MS_MAX }, Is("10s"),
        "After SIGTERM or Ctrl-C, running tasks have this long to end; a second signal ends at once.")
        .example("1m").flag("--drain TIME"),

    key("rate_limit.requests", REQUESTS, Unset("no limit"),
        "Requests that one client address may send within `rate_limit.per`; further ones are answered with 429.")
        .example("100"),
    key("rate_limit.per", Time { min: 100, max: RATE_PER_MS_MAX }, Is("1s"),
        "The time over which requests are counted.")
        .example("1m"),
    key("rate_limit.burst", REQUESTS, Unset("as many as `rate_limit.requests`"),
        "Requests that may come at once, after a pause.")
        .example("200"),

    kept("retention", "One time for all that have ended, in place of the four below."),
    kept("retention.success", "Executions that ended well."),
    kept("retention.failed", "Executions that failed."),
    kept("retention.timed_out", "Executions that took too long."),
    kept("retention.canceled", "Executions that were cancelled."),

    key("log", Text, Unset("`info` when serving, `warn` else"),
        "What to log on standard error: a level, or a level by target.")
        .example("info,compozy_engine=debug").flag("--log FILTER"),

    key("plugins.*.grant.redis", Switch, Is("false"),
        "Keys on the Redis server, under the plugin's own prefix.").example("true").in_file(),
    key("plugins.*.grant.sql", Switch, Is("false"),
        "A private SQL database.").example("true").in_file(),
    key("plugins.*.grant.stores", Texts, Is(""),
        "Stores that the plugin's tasks may use: `cache`, `config` and `memory`.").example("[cache]").in_file(),
    key("plugins.*.grant.http", Texts, Is(""),
        "Origins for outgoing HTTP: scheme and host.").example("[\"https://api.example.com\"]").in_file(),
    key("plugins.*.grant.folders", Folders, Is(""),
        "Folders of the host: `guest` (what the plugin sees), `host` (relative to the project file) and `access` (`read` or `read-write`).")
        .example("[{ guest: /data, host: ./results, access: read-write }]").in_file(),
    key("plugins.*.grant.env.*", Text, Unset("nothing"),
        "A variable of the plugin's environment.").example("eu").in_file(),
    key("plugins.*.limits.*", Count { min: 1, max: u64::MAX, unit: "in the limit's unit" }, Unset("the limit's own maximum"),
        "A limit of the plugin. Names that end with `_bytes` take sizes such as `64MiB` too, those that end with `_ms` times such as `5s`.")
        .example("64MiB").in_file(),
    key("plugins.*.concurrency", CONCURRENCY, Unset("what the plugin's own limits allow"),
        "Attempts of this plugin's tasks that run at once, over all executions.").example("4").in_file(),
];

/// The key of this path, with names in it.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path).or_else(|| KEYS.iter().find(|key| key.matches(path)))
}
