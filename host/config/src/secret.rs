//! Values that are never shown.

use std::fmt;
use std::path::PathBuf;

/// What is shown in place of a secret.
pub const MASK: &str = "***";

/// A secret value. It has no `Display`, and `Debug` shows no part of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps it.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for whoever has to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretPlace {
    /// Here.
    Here(Secret),
    /// In a variable of the environment.
    Environment(String),
    /// In a file; a line break at its end does not count.
    File(PathBuf),
}

impl fmt::Display for SecretPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(_) => f.write_str(MASK),
            Self::Environment(name) => write!(f, "{MASK} (environment {name})"),
            Self::File(path) => write!(f, "{MASK} (file {})", path.display()),
        }
    }
}
