//! The Temporal server: whether it can be reached, or started.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use compozy_config::Config;
use compozy_embed::temporal_address;
use compozy_temporal::Finding;
use tokio::net::TcpStream;

use super::{Check, SERVICE_WAIT, State};

const NAME: &str = "temporal";

/// Looks at the server that the engine `temporal` would use.
pub(super) async fn check_temporal(config: &Config) -> Vec<Check> {
    let temporal = &config.engine.temporal;
    if temporal.managed {
        return vec![program(temporal.binary.as_deref())];
    }
    // An address that is missing is a problem of the configuration, and told as one.
    let Some(address) = &temporal.address else { return Vec::new() };
    let first = reachable(NAME, "engine.temporal.address", address, temporal.rpc_timeout.min(SERVICE_WAIT)).await;
    if first.state != State::Ok {
        return vec![first];
    }
    compozy_temporal::inspect(&temporal_address(config)).await.into_iter().map(told).collect()
}

fn told(finding: Finding) -> Check {
    match finding.good {
        Some(true) => Check::ok(finding.what, finding.text),
        None => Check::warning(finding.what, finding.text, "nothing to do, if that is what you expect"),
        Some(false) => Check::problem(finding.what, finding.text, "the message says what to do"),
    }
}

/// Whether somebody takes connections at a URL's host and port.
pub(super) async fn reachable(name: &'static str, key: &str, url: &str, limit: Duration) -> Check {
    let begun = Instant::now();
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let port = if scheme == "https" { 443 } else { 80 };
    let target = if has_port { authority.to_owned() } else { format!("{authority}:{port}") };
    let reason = match tokio::time::timeout(limit, TcpStream::connect(&target)).await {
        Ok(Ok(_)) => {
            return Check::ok(name, format!("`{target}` takes connections, after {} ms", begun.elapsed().as_millis()));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer".to_owned(),
    };
    let waited = begun.elapsed().as_millis();
    Check::problem(
        name,
        format!("`{target}` does not answer: {reason} (tried to connect for {waited} ms)"),
        format!("check that the server runs, host and port in `{key}`, and firewalls in between"),
    )
}

/// The program of a managed server.
fn program(binary: Option<&Path>) -> Check {
    let found = match binary {
        Some(path) => Some(path.to_owned()).filter(|path| path.is_file()),
        None => on_the_path("temporal"),
    };
    match (found, binary) {
        (Some(path), _) => Check::ok(NAME, format!("a managed server is started with `{}`", path.display())),
        (None, Some(path)) => Check::problem(
            NAME,
            format!("there is no program `{}` to start a managed server with", path.display()),
            "correct `engine.temporal.binary`, or take it away to look for `temporal` on the PATH",
        ),
        (None, None) => Check::problem(
            NAME,
            "there is no program `temporal` on the PATH to start a managed server with",
            "install the Temporal CLI, set `engine.temporal.binary`, or name a server with `engine.temporal.address`",
        ),
    }
}

fn on_the_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_tried_and_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let second = Duration::from_secs(1);
        let check = reachable(NAME, "engine.temporal.address", &format!("http://{address}/x"), second).await;
        assert_eq!(check.state, State::Ok, "{check:?}");
        drop(listener);
        let check = reachable(NAME, "engine.temporal.address", &format!("http://{address}"), second).await;
        assert_eq!(check.state, State::Problem, "{check:?}");
        for part in [address.to_string().as_str(), "tried to connect for"] {
            assert!(check.detail.contains(part), "{check:?}");
        }
        assert!(check.advice.contains("engine.temporal.address"), "{check:?}");
    }

    #[test]
    fn a_program_that_is_not_there_is_a_problem() {
        let missing = program(Some(Path::new("/nowhere/temporal")));
        assert!(missing.state == State::Problem && missing.detail.contains("/nowhere/temporal"), "{missing:?}");
        let here = std::env::current_exe().expect("a test has a program");
        assert_eq!(program(Some(&here)).state, State::Ok);
    }
}
