//! What a plugin may touch: what its manifest requests, intersected with what the operator grants. Nothing by default.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;

/// A store that tasks can use through `compozy:host/stores`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreKind {
    /// Values by key.
    Cache,
    /// Configurations by id.
    Config,
    /// Conversations.
    Memory,
}

impl StoreKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cache, Self::Config, Self::Memory];

    /// Its name in `plugin.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Config => "config",
            Self::Memory => "memory",
        }
    }

    /// The store of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What may be done in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Read only.
    Read,
    /// Read and write.
    ReadWrite,
}

impl Access {
    /// Its name in `plugin.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::ReadWrite => "read-write",
        }
    }
}

/// A scheme, a host and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// TLS or not.
    pub tls: bool,
    /// A name in lower case, or an IP address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Origin {
    /// Reads `https://host[:port]`. The error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = || format!("`{text}` is no origin: write `https://host` or `http://host:port`, without a path");
        let (scheme, rest) = text.split_once("://").ok_or_else(form)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(form()),
        };
        Self::from_authority(tls, rest.strip_suffix('/').unwrap_or(rest)).ok_or_else(form)
    }

    /// Reads `host[:port]`, the port defaulting to the scheme's.
    pub(crate) fn from_authority(tls: bool, authority: &str) -> Option<Self> {
        let default_port = if tls { 443 } else { 80 };
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, tail) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, if tail.is_empty() { None } else { Some(tail.strip_prefix(':')?) })
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port != 0)?,
            None => default_port,
        };
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || !host.chars().all(known) {
            return None;
        }
        Some(Self { tls, host: host.trim_end_matches('.').to_ascii_lowercase(), port })
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let default_port = if self.tls { 443 } else { 80 };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        write!(f, "{scheme}://{host}")?;
        if self.port == default_port { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// A folder of the host that a plugin may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderGrant {
    /// Where it is on the host.
    pub host: PathBuf,
    /// The most that may be done in it.
    pub access: Access,
}

/// What the operator grants to a plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Keys of its own on the operator's Redis server.
    pub redis: bool,
    /// A database file of its own.
    pub sql: bool,
    /// Stores of the host.
    pub stores: BTreeSet<StoreKind>,
    /// Environment variables with the operator's values.
    pub env: BTreeMap<String, String>,
    /// Where outgoing HTTP may go.
    pub http: BTreeSet<Origin>,
    /// Folders by the path under which the plugin sees them.
    pub folders: BTreeMap<String, FolderGrant>,
}

/// What a manifest requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requested {
    /// Keys of its own on the operator's Redis server.
    pub redis: bool,
    /// A database file of its own.
    pub sql: bool,
    /// Stores of the host.
    pub stores: BTreeSet<StoreKind>,
    /// Names of environment variables.
    pub env: BTreeSet<String>,
    /// Where outgoing HTTP shall go.
    pub http: BTreeSet<Origin>,
    /// Folders by the path under which the plugin sees them.
    pub folders: BTreeMap<String, Access>,
}

/// What a plugin has.
#[derive(Debug, Clone, Default)]
pub struct Effective {
    /// Keys of its own on the operator's Redis server.
    pub redis: bool,
    /// A database file of its own.
    pub sql: bool,
    /// Stores of the host.
    pub stores: BTreeSet<StoreKind>,
    /// Environment variables.
    pub env: Vec<(String, String)>,
    /// Where outgoing HTTP may go.
    pub http: BTreeSet<Origin>,
    /// Folders: the path in the plugin, the path on the host, what may be done.
    pub folders: Vec<(String, PathBuf, Access)>,
    /// All of it for a person.
    pub granted: Vec<String>,
    /// Requested but not granted, for a person.
    pub denied: Vec<String>,
}

impl Effective {
    /// What is both requested and granted.
    pub fn intersect(requested: &Requested, grants: &Grants) -> Self {
        let mut has =
            Self { redis: requested.redis && grants.redis, sql: requested.sql && grants.sql, ..Self::default() };
        if requested.redis {
            has.note(grants.redis, "redis".to_owned());
        }
        if requested.sql {
            has.note(grants.sql, "sql".to_owned());
        }
        for kind in &requested.stores {
            let granted = grants.stores.contains(kind);
            has.note(granted, format!("stores {}", kind.name()));
            if granted {
                has.stores.insert(*kind);
            }
        }
        for name in &requested.env {
            let value = grants.env.get(name);
            has.note(value.is_some(), format!("env {name}"));
            has.env.extend(value.map(|value| (name.clone(), value.clone())));
        }
        for origin in &requested.http {
            let granted = grants.http.contains(origin);
            has.note(granted, format!("http {origin}"));
            if granted {
                has.http.insert(origin.clone());
            }
        }
        for (guest, wanted) in &requested.folders {
            has.folder(guest, *wanted, grants.folders.get(guest));
        }
        has
    }

    fn folder(&mut self, guest: &str, wanted: Access, grant: Option<&FolderGrant>) {
        let Some(grant) = grant else {
            return self.note(false, format!("folder {guest} ({})", wanted.name()));
        };
        let access = wanted.min(grant.access);
        self.note(true, format!("folder {guest} ({})", access.name()));
        if access < wanted {
            self.note(false, format!("folder {guest} ({})", wanted.name()));
        }
        self.folders.push((guest.to_owned(), grant.host.clone(), access));
    }

    fn note(&mut self, granted: bool, what: String) {
        if granted { &mut self.granted } else { &mut self.denied }.push(what);
    }
}

/// The sentence for something that a plugin tries without having it.
pub(crate) fn why_denied(plugin: &str, what: &str, requested: bool) -> String {
    if requested {
        format!("`{what}` was requested by plugin `{plugin}` but not granted: grant it in the host's configuration")
    } else {
        format!("plugin `{plugin}` does not request `{what}`: add it under [capabilities] in its plugin.toml")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::parse(text).expect(text)
    }

    #[test]
    fn nothing_is_granted_that_was_not_requested_and_the_reverse() {
        let everything = Grants {
            redis: true,
            sql: true,
            stores: StoreKind::ALL.into(),
            env: BTreeMap::from([("TOKEN".into(), "x".into())]),
            http: [origin("https://a.example")].into(),
            folders: BTreeMap::from([("/data".into(), FolderGrant { host: "/srv".into(), access: Access::ReadWrite })]),
        };
        let nothing_wanted = Effective::intersect(&Requested::default(), &everything);
        assert!(nothing_wanted.granted.is_empty() && !nothing_wanted.sql && nothing_wanted.http.is_empty());
        assert!(nothing_wanted.folders.is_empty() && nothing_wanted.env.is_empty() && nothing_wanted.stores.is_empty());

        let wanted = Requested {
            redis: false,
            sql: true,
            stores: [StoreKind::Cache].into(),
            env: ["TOKEN".to_owned(), "HOME".to_owned()].into(),
            http: [origin("https://a.example"), origin("http://a.example")].into(),
            folders: BTreeMap::from([("/data".into(), Access::Read)]),
        };
        let none = Effective::intersect(&wanted, &Grants::default());
        assert_eq!(
            none.denied,
            [
                "sql",
                "stores cache",
                "env HOME",
                "env TOKEN",
                "http http://a.example",
                "http https://a.example",
                "folder /data (read)"
            ]
        );
        assert!(none.granted.is_empty());

        let some = Effective::intersect(&wanted, &everything);
        assert_eq!(some.denied, ["env HOME", "http http://a.example"]);
        assert_eq!(some.folders[0].2, Access::Read, "no more than was requested");
    }

    #[test]
    fn a_folder_is_given_with_the_lesser_access_and_the_rest_is_told() {
        let wanted = Requested { folders: BTreeMap::from([("/d".into(), Access::ReadWrite)]), ..Requested::default() };
        let grants = Grants {
            folders: BTreeMap::from([("/d".into(), FolderGrant { host: "/x".into(), access: Access::Read })]),
            ..Grants::default()
        };
        let has = Effective::intersect(&wanted, &grants);
        assert_eq!(has.folders[0].2, Access::Read);
        assert_eq!(has.denied, ["folder /d (read-write)"]);
    }

    #[test]
    fn origins_are_compared_by_their_parts() {
        assert_eq!(origin("HTTPS://Api.Example/"), origin("https://api.example:443"));
        assert_eq!(origin("http://127.0.0.1:8080").to_string(), "http://127.0.0.1:8080");
        assert_eq!(origin("http://[::1]:80").to_string(), "http://[::1]");
        assert_eq!(origin("https://a.example."), origin("https://a.example"));
        for bad in [
            "a.example",
            "ftp://a",
            "https://",
            "https://a/b",
            "https://a:0",
            "https://u@a",
            "http://a:x",
            "https://*.a",
        ] {
            assert!(Origin::parse(bad).is_err(), "{bad}");
        }
    }
}
