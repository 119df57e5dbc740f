//! The Redis server: whether it answers, whether it is new enough, and whether it keeps what it is given.

use std::time::Duration;

use compozy_config::Secret;
use compozy_runtime::RedisSettings;
use compozy_runtime::redis::{InspectError, RedisFacts, inspect};

use super::Check;

/// The oldest version that the plugin `redis` works with: major, minor.
const VERSION_MIN: (u32, u32) = (7, 0);
const NAME: &str = "redis";
const PERSISTENCE: &str = "redis data";
const MEMORY: &str = "redis memory";

/// Asks the server.
pub(super) async fn check(url: &Secret, limit: Duration) -> Vec<Check> {
    // What cannot be read is a problem of the configuration, and told as one.
    let Ok(settings) = RedisSettings::parse(url.expose()) else { return Vec::new() };
    let settings = RedisSettings { connect_timeout: limit, ..settings };
    match inspect(&settings, limit).await {
        Ok(facts) => judge(&facts),
        Err(error @ InspectError::Settings(_)) => vec![Check::problem(NAME, error.to_string(), "")],
        Err(error @ InspectError::Away { .. }) => {
            let advice =
                "check that the server runs, host, port, user and password in `redis.url`, and firewalls in between";
            vec![Check::problem(NAME, error.to_string(), advice)]
        }
    }
}

fn judge(facts: &RedisFacts) -> Vec<Check> {
    vec![version(facts), persistence(facts), memory(facts)]
}

fn version(facts: &RedisFacts) -> Check {
    let RedisFacts { address, version, ping, .. } = facts;
    let mut numbers = version.split('.').map(|part| part.parse().unwrap_or_default());
    let found: (u32, u32) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let (major, minor) = VERSION_MIN;
    let detail = format!("{address} answers within {:.1} ms, version {version}", ping.as_secs_f64() * 1e3);
    if found < VERSION_MIN {
        return Check::problem(
            NAME,
            detail,
            format!("the plugin `redis` needs {major}.{minor} or newer: upgrade the server"),
        );
    }
    Check::ok(NAME, detail)
}

fn persistence(facts: &RedisFacts) -> Check {
    let snapshots = facts.snapshots.as_deref();
    if !facts.append_only {
        let (detail, state): (_, fn(&'static str, String, String) -> Check) = match snapshots {
            Some("") => (
                "`appendonly no` and no snapshots: a restart of the server loses everything".to_owned(),
                Check::problem,
            ),
            Some(save) => (
                format!(
                    "`appendonly no`, snapshots by `save {save}`: a crash of the server loses what came since the last one"
                ),
                Check::problem,
            ),
            None => (
                "`appendonly no`: a crash of the server loses what came since the last snapshot, if there is any"
                    .to_owned(),
                Check::problem,
            ),
        };
        let advice = "set `appendonly yes` and `appendfsync everysec` (or `always`) on the server; locks, events and memory are to survive";
        return state(PERSISTENCE, detail, advice.to_owned());
    }
    match facts.append_sync.as_deref() {
        Some("no") => Check::warning(
            PERSISTENCE,
            "`appendfsync no`: a failure of power loses what the system had not yet written, up to half a minute",
            "set `appendfsync everysec`, or `always` when nothing may be lost",
        ),
        Some("always") => Check::ok(PERSISTENCE, "`appendfsync always`: what was acknowledged is kept"),
        Some(sync) => {
            Check::ok(PERSISTENCE, format!("`appendfsync {sync}`: a crash of the server loses about a second at most"))
        }
        None => Check::ok(PERSISTENCE, "`appendonly yes`; this user may not ask for `appendfsync`"),
    }
}

fn memory(facts: &RedisFacts) -> Check {
    let RedisFacts { memory_max, eviction, .. } = facts;
    let bound =
        if *memory_max == 0 { "no limit".to_owned() } else { format!("at most {} MiB", memory_max / 1024 / 1024) };
    let detail = format!("{bound}, `maxmemory-policy {eviction}`");
    if eviction == "noeviction" || eviction.is_empty() {
        return Check::ok(MEMORY, detail);
    }
    let advice = "set `maxmemory-policy noeviction`: locks, events and memory must not go before their time";
    if *memory_max == 0 {
        Check::warning(
            MEMORY,
            format!("{detail}: as soon as there is a limit, the server throws away keys of its choice"),
            advice,
        )
    } else {
        Check::problem(MEMORY, format!("{detail}: when it is full, the server throws away keys of its choice"), advice)
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    fn facts() -> RedisFacts {
        RedisFacts {
            address: "h:1".to_owned(),
            version: "7.2.4".to_owned(),
            append_only: true,
            append_sync: Some("everysec".to_owned()),
            eviction: "noeviction".to_owned(),
            ..RedisFacts::default()
        }
    }

    fn states(facts: &RedisFacts) -> Vec<State> {
        judge(facts).iter().map(|check| check.state).collect()
    }

    #[test]
    fn a_server_that_would_lose_data_is_a_problem() {
        use State::{Ok, Problem, Warning};
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(states(&facts()), [Ok, Ok, Ok]);
        for version in ["6.2.14", "5", ""] {
            assert_eq!(states(&RedisFacts { version: version.to_owned(), ..facts() })[0], Problem, "{version}");
        }
        assert_eq!(states(&RedisFacts { version: "10.0.0".to_owned(), ..facts() })[0], Ok);
        for (append_only, sync, save, expected) in [
            (false, text("always"), text(""), Problem),
            (false, text("always"), text("3600 1"), Problem),
            (false, None, None, Problem),
            (true, text("no"), text(""), Warning),
            (true, text("always"), text(""), Ok),
            (true, None, None, Ok),
        ] {
            let given = RedisFacts { append_only, append_sync: sync, snapshots: save, ..facts() };
            assert_eq!(states(&given)[1], expected, "{given:?}");
        }
        for (memory_max, policy, expected) in [
            (0, "allkeys-lru", Warning),
            (1 << 30, "allkeys-lru", Problem),
            (1 << 30, "volatile-ttl", Problem),
            (1 << 30, "noeviction", Ok),
        ] {
            let given = RedisFacts { memory_max, eviction: policy.to_owned(), ..facts() };
            assert_eq!(states(&given)[2], expected, "{given:?}");
        }
    }
}
