//! How a host is to be run: one declaration of every key, and all that follows from it.
//!
//! [`KEYS`] declares each key once: path, kind, default, bounds, meaning. From it come
//!
//! - the reader ([`read`], [`load`]): defaults, then the project file, then the environment, then the command line, each over the one before
//! - the names in the environment ([`Key::environment`]), and `--set KEY=VALUE`
//! - the JSON schema ([`schema()`]) and the reference page ([`reference()`])
//! - what holds and where it came from ([`Settings::to_text`], [`Settings::to_json`]), secrets masked
//!
//! Pure but for [`process`]: the file's text, the environment and the command line come in as values, and whoever asks reads the files of
//! secrets.
//!
//! # Layout
//!
//! - [`key`], [`keys`]: the declaration
//! - [`value`]: texts and parts of a document to values; [`layers`]: who said what
//! - [`config`]: the typed result; `settle` makes it of the values, `checks` judges it as a whole
//! - `schema`, `reference`, `show`: what is written for people and editors
//! - [`process`]: the environment of this process, and files of secrets

mod checks;
pub mod config;
pub mod key;
pub mod keys;
pub mod layers;
pub mod limits;
pub mod process;
mod reference;
mod schema;
pub mod secret;
mod settle;
mod show;
pub mod value;

pub use compozy_plan::Diagnostic as Problem;
use compozy_plan::Severity;

pub use config::Config;
pub use key::{Key, Kind, Preset};
pub use keys::{KEYS, SECTIONS};
pub use layers::{Assignment, Given, Origin, Settings, Sources};
pub use reference::reference;
pub use schema::schema;
pub use secret::Secret;

/// What the sources say, as far as it can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What holds. A key whose value was refused stands at its default.
    pub config: Config,
    /// Every key with its value and where that came from.
    pub settings: Settings,
    /// All that is wrong, errors and warnings.
    pub problems: Vec<Problem>,
}

impl Loaded {
    /// Whether it cannot be used.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }
}

/// Reads all sources. Never fails: what is wrong is told beside the result, so that it can be told with everything else.
pub fn read(sources: &Sources<'_>) -> Loaded {
    let (settings, mut problems) = Settings::resolve(sources);
    let mut config = settle::settle(&settings, sources, &mut problems);
    config.project = settings.project().map(str::to_owned);
    problems.extend(checks::check(&config, &settings, sources.file_name()));
    Loaded { config, settings, problems }
}

/// Reads all sources; any error among them refuses the whole.
pub fn load(sources: &Sources<'_>) -> Result<Config, Vec<Problem>> {
    let loaded = read(sources);
    if loaded.has_errors() { Err(loaded.problems) } else { Ok(loaded.config) }
}
