//! Which plugin: name, version, digest.

use serde::Serialize;

/// Hexadecimal digits of a digest that people are shown.
const SHORT_DIGITS: usize = 12;

/// Names exactly one build of one plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// The name in `plugin.toml`.
    pub name: String,
    /// The version in `plugin.toml`.
    pub version: String,
    /// SHA-256 of the component, 64 hexadecimal digits.
    pub digest: String,
}

impl Identity {
    /// The beginning of the digest, enough for a person.
    pub fn short_digest(&self) -> &str {
        self.digest.get(..SHORT_DIGITS).unwrap_or(&self.digest)
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` {} (sha256 {})", self.name, self.version, self.short_digest())
    }
}
