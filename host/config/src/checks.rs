//! What the values are as a whole: what is missing, and what contradicts.

use compozy_plan::{Diagnostic, Severity};

use crate::Problem;
use crate::config::{BlobsConfig, Config, EngineKind, ProcessRole};
use crate::key::Key;
use crate::keys::find;
use crate::layers::{NOWHERE, Settings};

/// The built-in that keeps stores on a Redis server.
const REDIS_PLUGIN: &str = "redis";
/// The built-in that keeps stores in the data folder.
const SQLITE_PLUGIN: &str = "sqlite";

/// Tells all that is missing and all that contradicts.
pub(crate) fn check(config: &Config, settings: &Settings, file: &str) -> Vec<Problem> {
    let mut checks = Checks { config, settings, file, problems: Vec::new() };
    checks.rate_limit();
    // What hangs on a word that was refused would be judged by the default in its place.
    if settings.was_refused("mode") || settings.was_refused("engine.kind") {
        return checks.problems;
    }
    checks.temporal();
    checks.redis();
    if !settings.was_refused("blobs.kind") {
        checks.blobs();
    }
    if !settings.was_refused("roles") {
        checks.roles();
    }
    checks.problems
}

struct Checks<'a> {
    config: &'a Config,
    settings: &'a Settings,
    file: &'a str,
    problems: Vec<Problem>,
}

/// All ways to set a key, for the end of a sentence.
fn ways(key: &Key) -> String {
    let environment = key.environment().map(|name| format!(", {name}")).unwrap_or_default();
    let option = match key.flag {
        Some(flag) => format!("or {}", flag.split(' ').next().unwrap_or(flag)),
        None => format!("or --set {}=...", key.path),
    };
    format!("set `{}` in compozy.yaml{environment}, {option}", key.path)
}

impl Checks<'_> {
    /// A problem at the place that set one of these keys; the first that was set counts.
    fn add(&mut self, severity: Severity, code: &'static str, keys: &[&str], message: String) {
        let blamed = keys.iter().find(|key| self.settings.is_set(key)).copied().unwrap_or_default();
        let problem = self.settings.problem(code, blamed, message);
        let file = if problem.file == NOWHERE { self.file.to_owned() } else { problem.file };
        self.problems.push(Diagnostic { severity, file, ..problem });
    }

    fn contradiction(&mut self, keys: &[&str], message: impl Into<String>) {
        self.add(Severity::Error, "CONFIG_CONTRADICTION", keys, message.into());
    }

    fn warning(&mut self, keys: &[&str], message: impl Into<String>) {
        self.add(Severity::Warning, "CONFIG_NOT_USED", keys, message.into());
    }

    /// The key is needed, for this reason (a sentence's begin), with an example of a value. Nothing is said of a key that
    /// was set wrongly: that has been told.
    fn needs(&mut self, path: &str, because: &[&str], reason: &str, example: &str) {
        if self.settings.is_set(path) || self.settings.was_refused(path) {
            return;
        }
        let key = find(path).expect("a declared key");
        let message = format!("{reason}: {}, for example `{example}`", ways(key));
        self.add(Severity::Error, "CONFIG_MISSING", because, message);
    }

    fn is_set(&self, path: &str) -> bool {
        self.settings.is_set(path)
    }

    /// What is to blame for the engine, in words.
    fn why_temporal(&self) -> String {
        if self.is_set("engine.kind") {
            "the engine `temporal`".to_owned()
        } else {
            format!("mode `{}`", self.config.mode)
        }
    }

    fn temporal(&mut self) {
        const ADDRESS: &str = "engine.temporal.address";
        const MANAGED: &str = "engine.temporal.managed";
        let temporal = &self.config.engine.temporal;
        let used = self.config.engine.kind == EngineKind::Temporal;
        if !used {
            let set: Vec<&str> =
                [ADDRESS, MANAGED, "engine.temporal.api_key"].into_iter().filter(|key| self.is_set(key)).collect();
            if let [first, ..] = set.as_slice() {
                self.warning(
                    &set,
                    format!("`{first}` has no effect: the engine is `embedded`; set `engine.kind: temporal` to use it"),
                );
            }
            return;
        }
        if temporal.managed && self.is_set(ADDRESS) {
            let message = "`engine.temporal.managed` starts a server of its own, but `engine.temporal.address` names another one: keep one of the two";
            self.contradiction(&[MANAGED, ADDRESS], message);
        }
        if !temporal.managed {
            let reason = format!("{} needs the address of a Temporal server", self.why_temporal());
            self.needs(ADDRESS, &["engine.kind", "mode"], &reason, "http://127.0.0.1:7233");
            if self.is_set("engine.temporal.binary") {
                self.warning(&["engine.temporal.binary"], "`engine.temporal.binary` has no effect: only a managed server is started with it (`engine.temporal.managed: true`)");
            }
        }
        self.tls();
    }

    fn tls(&mut self) {
        const CERT: &str = "engine.temporal.tls.cert_file";
        const KEY: &str = "engine.temporal.tls.key_file";
        let temporal = &self.config.engine.temporal;
        let tls = &temporal.tls;
        match (&tls.cert_file, &tls.key_file) {
            (Some(_), None) => {
                self.needs(
                    KEY,
                    &[CERT],
                    "a certificate needs its key (`engine.temporal.tls.key_file`)",
                    "certs/client.key",
                );
            }
            (None, Some(_)) => {
                self.needs(
                    CERT,
                    &[KEY],
                    "a key needs its certificate (`engine.temporal.tls.cert_file`)",
                    "certs/client.pem",
                );
            }
            _ => {}
        }
        let plain = temporal.address.as_ref().is_some_and(|address| address.starts_with("http://"));
        let paths = [CERT, KEY, "engine.temporal.tls.ca_file", "engine.temporal.tls.domain"];
        let set: Vec<&str> = paths.into_iter().filter(|path| self.is_set(path)).collect();
        if plain && let [first, ..] = set.as_slice() {
            let message = format!(
                "`{first}` is for TLS, but `engine.temporal.address` begins with `http://`: write `https://`, or take the keys below `tls` away"
            );
            self.contradiction(&set, message);
        }
        if plain && temporal.api_key.is_some() {
            let message =
                "`engine.temporal.api_key` would be sent without TLS: write `https://` in `engine.temporal.address`";
            self.contradiction(&["engine.temporal.api_key"], message);
        }
    }

    fn redis(&mut self) {
        let kept = self.config.stores.kept_by(REDIS_PLUGIN);
        if kept.is_empty() {
            return;
        }
        let are = if kept.len() == 1 { "is" } else { "are" };
        let reason = format!(
            "`{}` {are} to be kept by the plugin `{REDIS_PLUGIN}`, but no Redis server is named",
            kept.join("`, `")
        );
        let because: Vec<String> = kept.iter().map(|store| format!("stores.{store}")).collect();
        let because: Vec<&str> = because.iter().map(String::as_str).chain(["mode"]).collect();
        self.needs("redis.url", &because, &reason, "redis://127.0.0.1:6379");
    }

    fn blobs(&mut self) {
        const ENDPOINT: &str = "blobs.s3.endpoint";
        let below = ["blobs.s3.bucket", ENDPOINT, "blobs.s3.access_key_id", "blobs.s3.secret_access_key"];
        match &self.config.blobs {
            BlobsConfig::Folder(_) => {
                let set: Vec<&str> = below.into_iter().filter(|path| self.is_set(path)).collect();
                if let [first, ..] = set.as_slice() {
                    self.warning(
                        &set,
                        format!("`{first}` has no effect: `blobs.kind` is `folder`; set `blobs.kind: s3` to use it"),
                    );
                }
            }
            BlobsConfig::S3(s3) => {
                let kind = &["blobs.kind"];
                self.needs("blobs.s3.bucket", kind, "`blobs.kind: s3` needs a bucket", "compozy");
                let key = "`blobs.kind: s3` needs a key to sign requests with";
                self.needs("blobs.s3.access_key_id", kind, key, "{ env: AWS_ACCESS_KEY_ID }");
                self.needs("blobs.s3.secret_access_key", kind, key, "{ env: AWS_SECRET_ACCESS_KEY }");
                if s3.endpoint.as_ref().is_some_and(|url| url.starts_with("http://")) && !s3.allow_http {
                    let message = "`blobs.s3.endpoint` is without TLS: write `https://`, or set `blobs.s3.allow_http: true` if nobody can listen";
                    self.contradiction(&[ENDPOINT], message);
                }
                if self.is_set("blobs.folder") {
                    self.warning(&["blobs.folder"], "`blobs.folder` has no effect: `blobs.kind` is `s3`");
                }
            }
        }
    }

    fn roles(&mut self) {
        if self.config.roles.is_empty() {
            let known = ProcessRole::ALL.map(ProcessRole::name).join("`, `");
            let message =
                format!("`roles` is empty, so that this process would do nothing: name one or more of `{known}`");
            self.contradiction(&["roles"], message);
            return;
        }
        let serves = self.config.has(ProcessRole::ToolWorker);
        let worker = ["worker.plugins"];
        if !serves && self.is_set(worker[0]) {
            self.warning(&worker, "`worker.plugins` has no effect: this process is no `tool-worker`");
        }
        if !self.config.is_split() {
            return;
        }
        let has = self.config.roles.iter().map(|role| role.name()).collect::<Vec<_>>().join("`, `");
        if self.config.engine.kind == EngineKind::Embedded {
            self.contradiction(
                &["roles", "engine.kind"],
                format!("this process has only `{has}` of the roles, but the engine `embedded` lives in one process: leave `roles` out, or set `engine.kind: temporal`"),
            );
            return;
        }
        if self.config.engine.temporal.managed {
            self.contradiction(
                &["engine.temporal.managed", "roles"],
                format!("this process has only `{has}` of the roles, but a managed Temporal server is known to no other process: leave `roles` out, or set `engine.temporal.address`"),
            );
        }
        if self.config.blobs == BlobsConfig::Folder(None) && !self.settings.was_refused("blobs.folder") {
            self.contradiction(
                &["roles", "blobs.kind"],
                "the roles are split over processes, but large values would be in this process's data folder, where the others cannot see them: set `blobs.folder` to a folder that all see, or `blobs.kind: s3`",
            );
        }
        let kept = self.config.stores.kept_by(SQLITE_PLUGIN);
        if !kept.is_empty() {
            let because: Vec<String> = kept.iter().map(|store| format!("stores.{store}")).collect();
            let because: Vec<&str> = because.iter().map(String::as_str).chain(["roles"]).collect();
            let message = format!(
                "the roles are split over processes, but the plugin `{SQLITE_PLUGIN}` keeps `{}` in this process's data folder, where the others cannot see it: name a plugin that all reach, for example `{REDIS_PLUGIN}`",
                kept.join("`, `")
            );
            self.contradiction(&because, message);
        }
    }

    fn rate_limit(&mut self) {
        if self.config.rate_limit.is_some() || self.settings.was_refused("rate_limit.requests") {
            return;
        }
        let below = ["rate_limit.per", "rate_limit.burst"];
        let set: Vec<&str> = below.into_iter().filter(|path| self.is_set(path)).collect();
        if let [first, ..] = set.as_slice() {
            let reason = format!("`{first}` limits nothing without a number of requests");
            self.needs("rate_limit.requests", &set, &reason, "100");
        }
    }
}
