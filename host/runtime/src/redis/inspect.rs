//! A look at a server from outside of plugins, for the operator: what it is, and what it does with data.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;

use super::connect::{Connected, connect};
use super::settings::{RedisSettings, Target};

/// An answer that is looked at, in bytes. `INFO` has some kilobytes.
const REPLY_BYTES_MAX: u64 = 1024 * 1024;

/// What a server says of itself. What its user may not ask for is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedisFacts {
    /// Where it is, for messages: host and port, or a socket. No password.
    pub address: String,
    /// The version, for example `7.2.4`.
    pub version: String,
    /// How long a `PING` took.
    pub ping: Duration,
    /// Whether every write is appended to a file.
    pub append_only: bool,
    /// When the appended file reaches the disk: `always`, `everysec` or `no`.
    pub append_sync: Option<String>,
    /// When snapshots are made, as in `save`; empty for never.
    pub snapshots: Option<String>,
    /// The memory that data may take, in bytes; 0 is no limit.
    pub memory_max: u64,
    /// What it does when that is full, for example `noeviction`.
    pub eviction: String,
}

/// Why a server could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// The settings are no address.
    #[error("{0}")]
    Settings(String),
    /// It does not answer.
    #[error("the Redis server at `{address}` does not answer: {reason} (tried to connect and to log in for {} ms)", waited.as_millis())]
    Away {
        /// Where.
        address: String,
        /// What happened. Never a password.
        reason: String,
        /// How long it was tried.
        waited: Duration,
    },
}

/// Asks a server what it is. Takes no longer than `limit`.
pub async fn inspect(settings: &RedisSettings, limit: Duration) -> Result<RedisFacts, InspectError> {
    let target = Target::new(settings).map_err(|error| InspectError::Settings(error.to_string()))?;
    let begun = Instant::now();
    let target = Target { connect_timeout: target.connect_timeout.min(limit), ..target };
    let address = target.endpoint.to_string();
    let away = |reason: String| InspectError::Away { address: address.clone(), reason, waited: begun.elapsed() };
    let Connected { connection, mut driver, .. } =
        connect(&target, "inspect", REPLY_BYTES_MAX).await.map_err(|error| away(error.to_string()))?;
    let asked = tokio::time::timeout(limit.saturating_sub(begun.elapsed()), async {
        tokio::select! {
            () = driver.as_mut() => Err("the server closed the connection".to_owned()),
            facts = ask(connection) => facts,
        }
    });
    match asked.await {
        Ok(Ok(facts)) => Ok(RedisFacts { address, ..facts }),
        Ok(Err(reason)) => Err(away(reason)),
        Err(_) => Err(away(format!("it took the connection, but gave no answer within {} ms", limit.as_millis()))),
    }
}

async fn ask(mut connection: MultiplexedConnection) -> Result<RedisFacts, String> {
    let begun = Instant::now();
    let pong: Result<String, _> = redis::cmd("PING").query_async(&mut connection).await;
    pong.map_err(|error| error.to_string())?;
    let ping = begun.elapsed();
    let info: String = redis::cmd("INFO").query_async(&mut connection).await.map_err(|error| error.to_string())?;
    let told: HashMap<&str, &str> = info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
    let text = |name: &str| told.get(name).copied().unwrap_or_default().to_owned();
    // A user for plugins may not ask for these.
    let mut config = HashMap::new();
    for name in ["appendfsync", "save"] {
        let found: Result<HashMap<String, String>, _> =
            redis::cmd("CONFIG").arg("GET").arg(name).query_async(&mut connection).await;
        config.extend(found.unwrap_or_default());
    }
    Ok(RedisFacts {
        address: String::new(),
        version: text("redis_version"),
        ping,
        append_only: text("aof_enabled") == "1",
        append_sync: config.remove("appendfsync"),
        snapshots: config.remove("save"),
        memory_max: text("maxmemory").parse().unwrap_or_default(),
        eviction: text("maxmemory_policy"),
    })
}
