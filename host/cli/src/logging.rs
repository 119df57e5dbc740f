//! The host's log: lines on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::exit::{Exit, Fatal};

/// What a serving host logs.
pub(crate) const SERVE_LOG: &str = "info";
/// What the other commands log: their own output is what a person looks at.
pub(crate) const COMMAND_LOG: &str = "warn";

/// Begins to log. `filter` is the value of `log`.
pub(crate) fn start(filter: Option<&str>, default: &str) -> Result<(), Fatal> {
    let text = filter.unwrap_or(default);
    let filter = EnvFilter::try_new(text).map_err(|error| {
        Fatal::new(
            Exit::Usage,
            format!("`{text}` (`log`, COMPOZY_LOG or --log) is not a filter like `info,compozy_engine=debug`: {error}"),
        )
    })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .finish();
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|error| Fatal::setup(format!("the log cannot be started: {error}")))
}
