//! Values to the typed configuration. Secrets are fetched here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use crate::Problem;
use crate::config::{
    BlobsConfig, Config, EngineConfig, EngineKind, Mode, ProcessRole, RateLimit, RetentionConfig, S3Config,
    StoresConfig, TemporalConfig, TlsConfig, WorkerConfig,
};
use crate::keys::STORES;
use crate::layers::{Setting, Settings, Sources};
use crate::limits::SECRET_FILE_BYTES_MAX;
use crate::secret::{Secret, SecretPlace};
use crate::value::Value;

/// What was read, by path. A path that is not declared is a mistake of ours, which any test finds.
struct Values<'a> {
    settings: &'a Settings,
    sources: &'a Sources<'a>,
    problems: &'a mut Vec<Problem>,
}

/// Makes the configuration. Every declared key has a default or may be missing, so there always is one.
pub(crate) fn settle(settings: &Settings, sources: &Sources<'_>, problems: &mut Vec<Problem>) -> Config {
    let mut values = Values { settings, sources, problems };
    Config {
        project: None,
        mode: if values.word("mode") == "distributed" { Mode::Distributed } else { Mode::Standalone },
        engine: EngineConfig {
            kind: if values.word("engine.kind") == "temporal" { EngineKind::Temporal } else { EngineKind::Embedded },
            temporal: temporal(&mut values),
        },
        stores: StoresConfig {
            plugins: STORES.iter().map(|store| (*store, values.word(&format!("stores.{store}")))).collect(),
        },
        redis_url: values.secret("redis.url"),
        blobs: blobs(&mut values),
        roles: roles(&values),
        worker: WorkerConfig {
            plugins: values.set("worker.plugins").map(|_| values.list("worker.plugins")),
            concurrency: values.counts("worker.concurrency."),
        },
        listen: values.word("listen"),
        data_dir: values.path("data_dir").unwrap_or_default(),
        plugin_dirs: values.paths("plugin_dirs"),
        start_timeout: values.time("start_timeout").unwrap_or_default(),
        drain: values.time("drain").unwrap_or_default(),
        rate_limit: values.count("rate_limit.requests").map(|requests| RateLimit {
            requests,
            per: values.time("rate_limit.per").unwrap_or_default(),
            burst: values.count("rate_limit.burst").unwrap_or(requests),
        }),
        retention: RetentionConfig {
            success: values.time("retention.success"),
            failed: values.time("retention.failed"),
            timed_out: values.time("retention.timed_out"),
            canceled: values.time("retention.canceled"),
        },
        log: values.text("log"),
    }
}

fn temporal(values: &mut Values<'_>) -> TemporalConfig {
    TemporalConfig {
        address: values.text("engine.temporal.address"),
        namespace: values.word("engine.temporal.namespace"),
        project: values.word("engine.temporal.project"),
        api_key: values.secret("engine.temporal.api_key"),
        tls: TlsConfig {
            ca_file: values.path("engine.temporal.tls.ca_file"),
            cert_file: values.path("engine.temporal.tls.cert_file"),
            key_file: values.path("engine.temporal.tls.key_file"),
            domain: values.text("engine.temporal.tls.domain"),
        },
        managed: values.switch("engine.temporal.managed"),
        binary: values.path("engine.temporal.binary"),
        rpc_timeout: values.time("engine.temporal.rpc_timeout").unwrap_or_default(),
    }
}

fn blobs(values: &mut Values<'_>) -> BlobsConfig {
    let none = || Secret::new("");
    // All are read, so that a wrong one is told also while it is not used.
    let s3 = S3Config {
        endpoint: values.text("blobs.s3.endpoint"),
        bucket: values.word("blobs.s3.bucket"),
        region: values.word("blobs.s3.region"),
        prefix: values.word("blobs.s3.prefix"),
        access_key_id: values.secret("blobs.s3.access_key_id").unwrap_or_else(none),
        secret_access_key: values.secret("blobs.s3.secret_access_key").unwrap_or_else(none),
        allow_http: values.switch("blobs.s3.allow_http"),
    };
    let folder = values.path("blobs.folder");
    if values.word("blobs.kind") == "s3" { BlobsConfig::S3(s3) } else { BlobsConfig::Folder(folder) }
}

fn roles(values: &Values<'_>) -> BTreeSet<ProcessRole> {
    let named = values.list("roles");
    ProcessRole::ALL.into_iter().filter(|role| named.iter().any(|name| name == role.name())).collect()
}

impl Values<'_> {
    fn setting(&self, path: &str) -> &Setting {
        self.settings.get(path).unwrap_or_else(|| panic!("`{path}` is not declared"))
    }

    fn set(&self, path: &str) -> Option<&Value> {
        self.setting(path).value.as_ref()
    }

    fn text(&self, path: &str) -> Option<String> {
        match self.set(path)? {
            Value::Text(text) => Some(text.clone()),
            other => panic!("`{path}` is no text but {other:?}"),
        }
    }

    fn word(&self, path: &str) -> String {
        self.text(path).unwrap_or_default()
    }

    fn switch(&self, path: &str) -> bool {
        matches!(self.set(path), Some(Value::Switch(true)))
    }

    fn count(&self, path: &str) -> Option<u32> {
        match self.set(path)? {
            Value::Count(count) => Some(u32::try_from(*count).unwrap_or(u32::MAX)),
            other => panic!("`{path}` is no count but {other:?}"),
        }
    }

    fn counts(&self, start: &str) -> BTreeMap<String, u32> {
        let below = self.settings.iter().filter_map(|(path, setting)| Some((path.strip_prefix(start)?, setting)));
        let counts = below.filter_map(|(name, setting)| match setting.value {
            Some(Value::Count(count)) => Some((name.to_owned(), u32::try_from(count).unwrap_or(u32::MAX))),
            _ => None,
        });
        counts.collect()
    }

    fn time(&self, path: &str) -> Option<Duration> {
        match self.set(path)? {
            Value::Time(ms) => Some(Duration::from_millis(*ms)),
            other => panic!("`{path}` is no time but {other:?}"),
        }
    }

    fn path(&self, path: &str) -> Option<PathBuf> {
        match self.set(path)? {
            Value::Path(found) => Some(found.clone()),
            other => panic!("`{path}` is no path but {other:?}"),
        }
    }

    fn paths(&self, path: &str) -> Vec<PathBuf> {
        match self.set(path) {
            Some(Value::Paths(paths)) => paths.clone(),
            other => panic!("`{path}` is no list of paths but {other:?}"),
        }
    }

    fn list(&self, path: &str) -> Vec<String> {
        match self.set(path) {
            Some(Value::List(items)) => items.clone(),
            other => panic!("`{path}` is no list but {other:?}"),
        }
    }

    fn secret(&mut self, path: &str) -> Option<Secret> {
        let setting = self.setting(path);
        let Some(Value::Secret(place)) = &setting.value else { return None };
        let fetched = match place {
            SecretPlace::Here(secret) => Ok(secret.expose().to_owned()),
            SecretPlace::Environment(name) => {
                self.sources.environment.get(name).filter(|value| !value.is_empty()).cloned().ok_or_else(|| {
                    format!("`{path}` is to come from the environment variable {name}, which is not set or not UTF-8")
                })
            }
            SecretPlace::File(file) => {
                let shown = file.display();
                match (self.sources.read_secret)(file) {
                    Ok(text) if text.len() > SECRET_FILE_BYTES_MAX => Err(format!(
                        "`{path}` is to come from the file `{shown}`, which has more than {SECRET_FILE_BYTES_MAX} bytes"
                    )),
                    Ok(text) => match text.trim_end_matches(['\r', '\n']) {
                        "" => Err(format!("`{path}` is to come from the file `{shown}`, which is empty")),
                        text => Ok(text.to_owned()),
                    },
                    Err(reason) => {
                        Err(format!("`{path}` is to come from the file `{shown}`, which cannot be read: {reason}"))
                    }
                }
            }
        };
        match fetched {
            Ok(value) => Some(Secret::new(value)),
            Err(message) => {
                let problem = self.settings.problem("CONFIG_SECRET_MISSING", path, message);
                self.problems.push(problem);
                None
            }
        }
    }
}
