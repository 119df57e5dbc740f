//! Where the Redis server is and who we are there, as the operator wrote it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redis::{ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// The longest prefix, in bytes.
const PREFIX_BYTES: usize = 64;
const FORMS: &str =
    "write `redis://[user:password@]host[:port][/database]`, `rediss://...` for TLS, or `unix:///path/to/socket`";

/// Where the Redis server is.
///
/// Neither `Debug` nor any error of this module prints a password.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://`, `rediss://` (TLS), `redis+unix://` or `unix://`. May hold user, password and database.
    pub url: String,
    /// The user; takes the place of the one in the URL.
    pub user: Option<String>,
    /// The password; takes the place of the one in the URL.
    pub password: Option<String>,
    /// The number of the database; takes the place of the one in the URL.
    pub database: Option<u32>,
    /// What all keys begin with, before the plugin's name. Hosts that share a server and shall not share data have different ones.
    pub prefix: String,
    /// A file of certificates (PEM) that sign the server's, with TLS. Without it, the public authorities do.
    pub ca_file: Option<PathBuf>,
    /// How long one attempt to connect may take, TLS and password included.
    pub connect_timeout: Duration,
}

impl RedisSettings {
    /// A server, with everything else at its default.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            user: None,
            password: None,
            database: None,
            prefix: "compozy".to_owned(),
            ca_file: None,
            connect_timeout: Duration::from_secs(2),
        }
    }

    /// A server with everything else at its default, checked. Does not connect.
    pub fn parse(url: &str) -> Result<Self, RedisOpenError> {
        let settings = Self::new(url);
        settings.check().map(|()| settings)
    }

    /// Where the server is, for a person: never with a secret.
    pub fn address(&self) -> String {
        Target::new(self).map_or_else(|_| masked(&self.url), |target| target.endpoint.to_string())
    }

    /// Whether a client could be made of them. Reads the file of certificates; does not connect.
    pub fn check(&self) -> Result<(), RedisOpenError> {
        Target::new(self).map(drop)
    }
}

impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = self.password.as_ref().map(|_| "***");
        f.debug_struct("RedisSettings")
            .field("url", &masked(&self.url))
            .field("user", &self.user)
            .field("password", &password)
            .field("database", &self.database)
            .field("prefix", &self.prefix)
            .field("ca_file", &self.ca_file)
            .field("connect_timeout", &self.connect_timeout)
            .finish()
    }
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RedisOpenError {
    /// The URL cannot be read.
    #[error("the Redis URL `{url}` cannot be used: {reason}")]
    Url {
        /// The URL without its secrets.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The prefix is none.
    #[error("the Redis prefix `{0}` cannot be used: 1 to 64 of the characters A-Z a-z 0-9 . _ - are")]
    Prefix(String),
    /// The certificates cannot be read.
    #[error("the certificates for the Redis server, `{path}`, cannot be used: {reason}")]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The URL without user, password, query and fragment, which may hold secrets.
fn masked(url: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = url.split_at(start);
    let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, rest)| ("***@", rest));
    let (rest, tail) = rest.find(['?', '#']).map_or((rest, ""), |at| (&rest[..at], "?***"));
    format!("{scheme}{user}{rest}{tail}")
}

/// How the server is reached.
#[derive(Debug, Clone)]
pub(super) enum Endpoint {
    Tcp { host: String, port: u16, tls: Option<Tls> },
    Unix(PathBuf),
}

/// What TLS needs.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The settings, read and checked.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) endpoint: Endpoint,
    /// User, password and database. The crate's own `Debug` of it masks the password.
    pub(super) login: RedisConnectionInfo,
    pub(super) connect_timeout: Duration,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Target {
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, RedisOpenError> {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let prefix = &settings.prefix;
        if prefix.is_empty() || prefix.len() > PREFIX_BYTES || !prefix.chars().all(known) {
            return Err(RedisOpenError::Prefix(prefix.clone()));
        }
        let refused = |reason: String| RedisOpenError::Url { url: masked(&settings.url), reason };
        let (scheme, rest) = settings.url.split_once("://").ok_or_else(|| refused(FORMS.to_owned()))?;
        let scheme = scheme.to_ascii_lowercase();
        let tls = scheme == "rediss";
        if !tls && !["redis", "redis+unix", "unix"].contains(&scheme.as_str()) {
            return Err(refused(format!("`{scheme}` is not known; {FORMS}")));
        }
        if rest.contains('#') {
            return Err(refused("a `#` is not possible; write `%23` in a password".to_owned()));
        }
        // The crate reads the parts; TLS is ours, because it would bring the system's certificates along.
        let plain = format!("{}://{rest}", if tls { "redis" } else { scheme.as_str() });
        let info = plain.into_connection_info().map_err(|error| refused(format!("{error}; {FORMS}")))?;
        let endpoint = match info.addr() {
            ConnectionAddr::Unix(path) => Endpoint::Unix(path.clone()),
            ConnectionAddr::Tcp(host, port) => {
                let tls = if tls { Some(Tls::new(settings, host).map_err(|error| error.or(refused))?) } else { None };
                Endpoint::Tcp { host: host.clone(), port: *port, tls }
            }
            _ => return Err(refused(FORMS.to_owned())),
        };
        let mut login = info.redis_settings().clone();
        if let Some(user) = &settings.user {
            login = login.set_username(user);
        }
        if let Some(password) = &settings.password {
            login = login.set_password(password);
        }
        if let Some(database) = settings.database {
            login = login.set_db(i64::from(database));
        }
        if login.db() < 0 {
            return Err(refused(format!("there is no database {}", login.db())));
        }
        if login.username().is_some() && login.password().is_none() {
            return Err(refused("there is a user but no password".to_owned()));
        }
        let login = login.set_lib_name("compozy-host", env!("CARGO_PKG_VERSION"));
        Ok(Self { endpoint, login, connect_timeout: settings.connect_timeout })
    }
}

/// Why TLS cannot be set up: what the URL or what the file is to blame for.
enum TlsError {
    Name(String),
    File(RedisOpenError),
}

impl TlsError {
    fn or(self, refused: impl FnOnce(String) -> RedisOpenError) -> RedisOpenError {
        match self {
            Self::Name(reason) => refused(reason),
            Self::File(error) => error,
        }
    }
}

impl Tls {
    fn new(settings: &RedisSettings, host: &str) -> Result<Self, TlsError> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| TlsError::Name(format!("`{host}` is no name that a certificate can have")))?;
        let mut roots = RootCertStore::empty();
        match &settings.ca_file {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(path) => {
                let bad = |reason: String| TlsError::File(RedisOpenError::Certificates { path: path.clone(), reason });
                let certificates = CertificateDer::pem_file_iter(path).map_err(|error| bad(error.to_string()))?;
                for certificate in certificates {
                    let certificate = certificate.map_err(|error| bad(error.to_string()))?;
                    roots.add(certificate).map_err(|error| bad(error.to_string()))?;
                }
                if roots.is_empty() {
                    return Err(bad("it holds no certificate in PEM form".to_owned()));
                }
            }
        }
        let provider = Arc::new(crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions of TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { config: Arc::new(config), name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_shows_a_password() {
        for url in [
            "redis://user:sekret@h:1/x",
            "redis://:sekret@h:99999",
            "redis://user:se/kret:sekret@h:1/x",
            "rediss://user:sekret@:1",
            "http://user:sekret@h",
            "redis://user:sekret@h/1#sekret",
            "unix:relative?pass=sekret",
            "unix://h/p?db=x&pass=sekret",
            "redis://user:sekret@",
            "user:sekret@h:1",
        ] {
            let settings = RedisSettings { password: Some("sekret".into()), ..RedisSettings::new(url) };
            assert!(!format!("{settings:?}").contains("sekret"), "{settings:?}");
            let error = settings.check().expect_err(url).to_string();
            assert!(!error.contains("sekret"), "{error}");
        }
        let good = RedisSettings::new("redis://user:sekret@h:1/2");
        let target = Target::new(&good).unwrap();
        assert!(!format!("{target:?} {good:?} {:?}", target.login).contains("sekret"));
    }

    #[test]
    fn the_parts_of_a_url_are_read_and_settings_beside_it_win() {
        let target = Target::new(&RedisSettings::new("redis://u:p%40ss@h.example:7000/3")).unwrap();
        assert_eq!(target.endpoint.to_string(), "h.example:7000");
        let login = &target.login;
        assert_eq!((login.username(), login.password(), login.db()), (Some("u"), Some("p@ss"), 3));
        let settings = RedisSettings {
            user: Some("other".into()),
            password: Some("new".into()),
            database: Some(5),
            ..RedisSettings::new("redis://u:p@[::1]/3")
        };
        let target = Target::new(&settings).unwrap();
        assert_eq!(target.endpoint.to_string(), "[::1]:6379");
        let login = &target.login;
        assert_eq!((login.username(), login.password(), login.db()), (Some("other"), Some("new"), 5));
        for url in ["unix:///run/redis.sock?db=2", "redis+unix:///run/redis.sock?db=2"] {
            let target = Target::new(&RedisSettings::new(url)).unwrap();
            assert_eq!((target.endpoint.to_string().as_str(), target.login.db()), ("/run/redis.sock", 2));
        }
        let tls = Target::new(&RedisSettings::new("rediss://h.example")).unwrap();
        assert!(matches!(tls.endpoint, Endpoint::Tcp { tls: Some(_), port: 6379, .. }));
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        for (url, words) in [
            ("localhost:6379", "write `redis://"),
            ("http://h", "`http` is not known"),
            ("redis://h/-1", "no database -1"),
            ("redis://h/x", "database"),
            ("redis://u@h", "no password"),
        ] {
            let error = RedisSettings::new(url).check().unwrap_err().to_string();
            assert!(error.contains(words), "{url}: {error}");
        }
        for prefix in ["", "a:b", "a{b", "a*"] {
            let settings = RedisSettings { prefix: prefix.into(), ..RedisSettings::new("redis://h") };
            assert!(settings.check().unwrap_err().to_string().contains("prefix"), "{prefix}");
        }
        let settings = RedisSettings { ca_file: Some("/does/not/exist".into()), ..RedisSettings::new("rediss://h") };
        assert!(settings.check().unwrap_err().to_string().contains("/does/not/exist"));
    }
}
