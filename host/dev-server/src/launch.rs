//! How the program is called.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

/// Where it listens: nobody outside of this machine has business with it.
pub const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// What makes a development server quick. By default its history service looks at its queue 20 times a second at most, which makes a
/// run of three short tasks take a third of a second; and SQLite syncs five times as often without the write-ahead log.
const TUNING: [&str; 6] = [
    "--dynamic-config-value",
    "history.transferProcessorMaxPollRPS=2000",
    "--dynamic-config-value",
    "system.enableActivityEagerExecution=true",
    "--sqlite-pragma",
    "journal_mode=WAL",
];

/// One call of `temporal server start-dev`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// The port on [`HOST`].
    pub port: u16,
    /// The database file; made when it is missing.
    pub database: PathBuf,
    /// Search attributes that the server shall know, each with its type: `("CompozyStatus", "Keyword")`.
    pub search_attributes: Vec<(String, String)>,
    /// Further arguments.
    pub more: Vec<String>,
}

impl Launch {
    /// The command, without streams.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(self.arguments());
        // What a user has set for the client must not change the server.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("TEMPORAL_")) {
                command.env_remove(name);
            }
        }
        command
    }

    fn arguments(&self) -> Vec<OsString> {
        let text = ["server", "start-dev", "--headless", "--log-level", "error", "--ip"];
        let mut arguments: Vec<OsString> = text.into_iter().map(OsString::from).collect();
        arguments.extend([HOST.to_string(), "--port".to_owned(), self.port.to_string()].map(OsString::from));
        arguments.extend(["--db-filename".into(), self.database.clone().into_os_string()]);
        arguments.extend(TUNING.map(OsString::from));
        for (name, kind) in &self.search_attributes {
            arguments.extend(["--search-attribute".into(), format!("{name}={kind}").into()]);
        }
        arguments.extend(self.more.iter().map(OsString::from));
        arguments
    }
}

/// A port that nobody listens on now. Somebody else may take it before it is used.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((HOST, 0))?.local_addr()?.port())
}

/// Whether a server could listen on a port now.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((HOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_has_address_file_and_attributes() {
        let launch = Launch {
            program: "/bin/temporal".into(),
            port: 7,
            database: "/data/temporal.db".into(),
            search_attributes: vec![("CompozyStatus".to_owned(), "Keyword".to_owned())],
            more: vec!["--log-level".to_owned(), "warn".to_owned()],
        };
        let line: Vec<_> = launch.arguments().into_iter().map(|argument| argument.into_string().unwrap()).collect();
        let line = line.join(" ");
        for part in [
            "server start-dev --headless",
            "--ip 127.0.0.1 --port 7",
            "--db-filename /data/temporal.db",
            "--sqlite-pragma journal_mode=WAL",
            "--search-attribute CompozyStatus=Keyword",
        ] {
            assert!(line.contains(part), "{line}");
        }
        assert!(line.ends_with("--log-level warn"), "what is given last wins: {line}");
    }
}
