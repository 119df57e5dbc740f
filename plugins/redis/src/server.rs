//! What the server tells about itself.

use compozy_sdk::redis;
use compozy_sdk::store::{HealthStatus, Statistics, StoreError};

/// The first version of Redis that numbers stream entries under a given first half (`XADD key 0-*`).
const MAJOR_MIN: u32 = 7;

/// Answers when the server can be read; says so when it is too old.
pub(crate) fn health() -> Result<HealthStatus, StoreError> {
    let info = info(&["server", "replication", "persistence", "memory"])?;
    Ok(HealthStatus { detail: describe(&info)? })
}

fn describe(info: &str) -> Result<String, StoreError> {
    let version = field(info, "redis_version").unwrap_or("of unknown version");
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < MAJOR_MIN) {
        return Err(StoreError::Unavailable(format!(
            "the server is Redis {version}; this plugin needs Redis {MAJOR_MIN} or newer"
        )));
    }
    let mut detail = format!("Redis {version}, {}", field(info, "redis_mode").unwrap_or("standalone"));
    if field(info, "role") == Some("slave") {
        detail.push_str(", replica");
    }
    detail.push_str(match field(info, "aof_enabled") {
        Some("1") => ", AOF on",
        _ => ", AOF off: what was written since the last snapshot is lost when the server dies",
    });
    // Counters of locks and heads of streams have no time to live and must not be thrown away.
    if let Some(policy) = field(info, "maxmemory_policy").filter(|policy| policy.starts_with("allkeys-")) {
        detail.push_str(&format!("; maxmemory-policy {policy} throws away what was to be kept: set noeviction"));
    }
    if field(info, "loading") == Some("1") {
        detail.push_str("; loading");
    }
    Ok(detail)
}

/// Statistics of a role that counts its entries, or does not.
pub(crate) fn statistics(entries: Option<u64>) -> Result<Statistics, StoreError> {
    let info = info(&["memory"])?;
    let mut details = Vec::new();
    for (name, key) in [("server memory, bytes", "used_memory"), ("server memory limit, bytes", "maxmemory")] {
        if let Some(value) = field(&info, key) {
            details.push((name.to_owned(), value.to_owned()));
        }
    }
    // How much of the server's memory is this role's nobody can tell without a walk over its keys.
    Ok(Statistics { entries, bytes: None, details })
}

fn info(sections: &[&str]) -> Result<String, StoreError> {
    let reply = redis::run(|commands| {
        for section in sections {
            commands.command("INFO").arg(*section);
        }
    })?;
    let mut text = String::new();
    for section in reply.iter() {
        text.push_str(&String::from_utf8_lossy(section.get()?));
        text.push('\n');
    }
    Ok(text)
}

/// A line `name:value` of `INFO`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_described_in_one_sentence() {
        let info = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrole:master\r\naof_enabled:1\r\nloading:0\r\nmaxmemory_policy:noeviction\r\n";
        let describe = |from, to| describe(&info.replace(from, to)).unwrap();
        assert_eq!(describe("", ""), "Redis 7.0.15, standalone, AOF on");
        assert_eq!(describe("role:master", "role:slave"), "Redis 7.0.15, standalone, replica, AOF on");
        assert_eq!(describe("loading:0", "loading:1"), "Redis 7.0.15, standalone, AOF on; loading");
        assert!(describe("aof_enabled:1", "aof_enabled:0").contains("AOF off"));
        assert!(describe("noeviction", "allkeys-lru").ends_with("set noeviction"));
        assert_eq!(field(info, "redis_mod"), None);
    }

    #[test]
    fn an_older_server_is_no_healthy_one() {
        let error = describe("redis_version:6.2.14\r\n").unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(why) if why.contains("6.2.14") && why.contains("Redis 7")));
    }
}
