//! Why a call of a plugin gave no answer.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::identity::Identity;
use crate::limits::{Limit, LimitHit};

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same call would fail again.
    Never,
    /// It may work later, and not before `after`; `None` leaves the wait to the retry policy.
    Later {
        /// The least wait.
        after: Option<Duration>,
    },
}

/// A call that failed. The message is for a person; [`CallError::code`] is stable.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// A limit ended the call.
    #[error(
        "plugin {plugin} exceeded `{name}` ({meaning}): used {used} {unit}, allowed {allowed} {unit}; {advice}",
        name = hit.limit, used = hit.used, allowed = hit.allowed, unit = hit.limit.spec().unit,
        meaning = hit.limit.spec().meaning, advice = hit.limit.spec().advice
    )]
    Limit {
        /// Whose.
        plugin: Arc<Identity>,
        /// Which limit, used, allowed.
        hit: LimitHit,
    },
    /// The plugin broke off.
    #[error("plugin {plugin} trapped: {trap}{}; this is a defect of the plugin: report it to its author", at(.backtrace))]
    Trap {
        /// Whose.
        plugin: Arc<Identity>,
        /// What happened.
        trap: String,
        /// The innermost functions, from the trap outwards.
        backtrace: Vec<String>,
    },
    /// All places are taken and so is the queue, or the wait was too long.
    #[error(
        "plugin {plugin} is busy: {used} {unit}, allowed are {allowed} (`{name}`); try again later, or {advice}",
        name = hit.limit, used = hit.used, allowed = hit.allowed, unit = hit.limit.spec().unit, advice = hit.limit.spec().advice
    )]
    Busy {
        /// Whose.
        plugin: Arc<Identity>,
        /// `queue_length`, `queue_wait_ms` or, when the host itself has no place, `concurrency`.
        hit: LimitHit,
    },
    /// There is no plugin of this name.
    #[error("there is no plugin `{name}`{}", nearest_or(.nearest.as_ref(), .known, "installed are"))]
    NotFound {
        /// What was asked for.
        name: String,
        /// The most similar name.
        nearest: Option<String>,
        /// All names.
        known: Vec<String>,
    },
    /// The plugin exists but runs no tasks.
    #[error("plugin {plugin} runs no tasks: it does not export `compozy:task/executor`")]
    NotAnExecutor {
        /// Which.
        plugin: Arc<Identity>,
    },
    /// The plugin has no such action.
    #[error("plugin {plugin} has no action `{action}`{}", nearest_or(.nearest.as_ref(), .known, "its actions are"))]
    ActionUnknown {
        /// Which.
        plugin: Arc<Identity>,
        /// What was asked for.
        action: String,
        /// The most similar name.
        nearest: Option<String>,
        /// All names.
        known: Vec<String>,
    },
    /// The run is bound to a build of the plugin that is nowhere to be found.
    #[error(
        "the execution began with plugin `{name}` of sha256 {digest}, which is neither loaded{} nor in the archive of the data folder; \
         put that build into a plugin folder, restart the host and retry the execution, or start a new one",
        instead(.present.as_deref())
    )]
    PinMissing {
        /// The plugin's name.
        name: String,
        /// SHA-256 of the component that the run is bound to.
        digest: String,
        /// That of the plugin of this name which is loaded.
        present: Option<String>,
    },
    /// The run is bound to a build of the plugin that cannot be loaded any more.
    #[error(
        "the execution began with plugin `{name}` of sha256 {digest}, which cannot be loaded any more: {reason}; \
         put that build into a plugin folder, restart the host and retry the execution, or start a new one"
    )]
    PinUnusable {
        /// The plugin's name.
        name: String,
        /// SHA-256 of the component that the run is bound to.
        digest: String,
        /// Why.
        reason: String,
    },
    /// The plugin did its work and says that the task failed.
    #[error("{}", .0.message)]
    Task(TaskFailure),
    /// The output is no JSON.
    #[error("plugin {plugin} answered something that is not UTF-8 JSON: {reason}; this is a defect of the plugin")]
    OutputNotJson {
        /// Whose.
        plugin: Arc<Identity>,
        /// Where and why.
        reason: String,
    },
    /// What the plugin was granted cannot be given, for example a folder that is gone.
    #[error("plugin {plugin} cannot be given what it was granted: {reason}")]
    Grant {
        /// Whose.
        plugin: Arc<Identity>,
        /// What and why.
        reason: String,
    },
    /// The host stops.
    #[error("the host is stopping and takes no more calls")]
    Stopping,
    /// The host broke its own rules.
    #[error("plugin {plugin} could not be called: {reason}; this is a defect of the host")]
    Internal {
        /// Whose.
        plugin: Arc<Identity>,
        /// What happened.
        reason: String,
    },
}

/// What an executor answered in the place of an output.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskFailure {
    /// Stable code, for example `CITY_UNKNOWN`.
    pub code: String,
    /// For a person.
    pub message: String,
    /// More facts.
    pub details: Option<Value>,
    /// Whether trying again can help.
    pub retry: Retry,
}

impl CallError {
    /// A stable code for machines.
    pub fn code(&self) -> &str {
        match self {
            Self::Limit { .. } => "PLUGIN_LIMIT",
            Self::Trap { .. } => "PLUGIN_TRAP",
            Self::Busy { .. } => "PLUGIN_BUSY",
            Self::NotFound { .. } => "PLUGIN_NOT_FOUND",
            Self::NotAnExecutor { .. } => "PLUGIN_NOT_AN_EXECUTOR",
            Self::ActionUnknown { .. } => "ACTION_UNKNOWN",
            Self::PinMissing { .. } => "PLUGIN_PIN_MISSING",
            Self::PinUnusable { .. } => "PLUGIN_PIN_UNUSABLE",
            Self::Task(failure) => &failure.code,
            Self::OutputNotJson { .. } => "OUTPUT_NOT_JSON",
            Self::Grant { .. } => "PLUGIN_GRANT_UNAVAILABLE",
            Self::Stopping => "HOST_STOPPING",
            Self::Internal { .. } => "PLUGIN_INTERNAL",
        }
    }

    /// Whether trying again can help.
    pub fn retry(&self) -> Retry {
        let later = Retry::Later { after: None };
        match self {
            // What was waited for may answer the next time. All other limits depend on the call alone.
            Self::Limit { hit: LimitHit { limit: Limit::CallTimeoutMs, .. }, .. }
            | Self::Busy { .. }
            | Self::Grant { .. }
            | Self::Stopping => later,
            Self::Task(failure) => failure.retry,
            Self::Limit { .. }
            | Self::Trap { .. }
            | Self::NotFound { .. }
            | Self::NotAnExecutor { .. }
            | Self::ActionUnknown { .. }
            // Nobody brings it back within the waits of a retry policy; a person can, and then retries the execution.
            | Self::PinMissing { .. }
            | Self::PinUnusable { .. }
            | Self::OutputNotJson { .. }
            | Self::Internal { .. } => Retry::Never,
        }
    }

    /// The facts as JSON, for those who do not read sentences.
    pub fn details(&self) -> Option<Value> {
        match self {
            Self::Limit { plugin, hit } | Self::Busy { plugin, hit } => Some(serde_json::json!({
                "limit": hit.limit.name(),
                "used": hit.used,
                "allowed": hit.allowed,
                "unit": hit.limit.spec().unit,
                "plugin": plugin.name,
                "digest": plugin.digest,
            })),
            Self::Trap { plugin, trap, backtrace } => Some(serde_json::json!({
                "trap": trap, "backtrace": backtrace, "plugin": plugin.name, "digest": plugin.digest,
            })),
            Self::PinMissing { name, digest, present } => Some(serde_json::json!({
                "plugin": name, "digest": digest, "loaded": present,
            })),
            Self::PinUnusable { name, digest, reason } => Some(serde_json::json!({
                "plugin": name, "digest": digest, "reason": reason,
            })),
            Self::Task(failure) => failure.details.clone(),
            _ => None,
        }
    }
}

fn at(backtrace: &[String]) -> String {
    match backtrace.first() {
        None => String::new(),
        Some(innermost) => format!(" (in {innermost})"),
    }
}

fn instead(present: Option<&str>) -> String {
    present.map_or_else(String::new, |digest| format!(" (that is sha256 {digest})"))
}

fn nearest_or(nearest: Option<&String>, known: &[String], intro: &str) -> String {
    match nearest {
        Some(name) => format!("; did you mean `{name}`?"),
        None if known.is_empty() => String::new(),
        None => format!("; {intro}: {}", known.join(", ")),
    }
}

/// The name that a person may have meant: similar enough, and the most similar.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let allowed = (name.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}
