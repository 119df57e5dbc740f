//! Durations, and the policy keys that project, workflow, tool and task have in common.

use crate::diagnostic::{Position, Problems};
use crate::dispatch::{PRIORITY_FIRST, PRIORITY_LAST};
use crate::limits::{ATTEMPTS_MAX, CONCURRENCY_LIMIT_MAX, DURATION_MS_MAX};
use crate::plan::{RetryPolicy, TaskPolicy};
use crate::reader::{Fields, wrong_type};
use crate::suggest::cut;
use crate::yaml::{Data, Node};

/// What one layer says; the innermost that says something wins.
#[derive(Debug, Clone, Default)]
pub(crate) struct PolicyLayer {
    pub(crate) start_to_close_ms: Option<(u64, Position)>,
    pub(crate) schedule_to_close_ms: Option<(u64, Position)>,
    pub(crate) schedule_to_start_ms: Option<u64>,
    pub(crate) heartbeat_ms: Option<u64>,
    pub(crate) maximum_attempts: Option<u32>,
    pub(crate) initial_interval_ms: Option<u64>,
    pub(crate) backoff_coefficient: Option<f64>,
    pub(crate) maximum_interval_ms: Option<u64>,
    pub(crate) non_retryable_codes: Option<Vec<String>>,
    pub(crate) priority: Option<u8>,
    pub(crate) concurrency: Option<Concurrency>,
}

/// `concurrency` of a layer. The key is compiled where it is used: what it may read depends on the task.
#[derive(Debug, Clone)]
pub(crate) struct Concurrency {
    pub(crate) key: Option<Node>,
    pub(crate) limit: u32,
}

/// What all attempts get beyond one attempt when only the latter is set.
const SCHEDULE_MARGIN_MS: u64 = 60_000;

impl PolicyLayer {
    /// This layer over the outer one.
    pub(crate) fn over(self, outer: &Self) -> Self {
        Self {
            start_to_close_ms: self.start_to_close_ms.or(outer.start_to_close_ms),
            schedule_to_close_ms: self.schedule_to_close_ms.or(outer.schedule_to_close_ms),
            schedule_to_start_ms: self.schedule_to_start_ms.or(outer.schedule_to_start_ms),
            heartbeat_ms: self.heartbeat_ms.or(outer.heartbeat_ms),
            maximum_attempts: self.maximum_attempts.or(outer.maximum_attempts),
            initial_interval_ms: self.initial_interval_ms.or(outer.initial_interval_ms),
            backoff_coefficient: self.backoff_coefficient.or(outer.backoff_coefficient),
            maximum_interval_ms: self.maximum_interval_ms.or(outer.maximum_interval_ms),
            non_retryable_codes: self.non_retryable_codes.or_else(|| outer.non_retryable_codes.clone()),
            priority: self.priority.or(outer.priority),
            concurrency: self.concurrency.or_else(|| outer.concurrency.clone()),
        }
    }

    /// With the defaults for what no layer says.
    pub(crate) fn resolve(&self, what: &str, problems: &mut Problems) -> TaskPolicy {
        let default = TaskPolicy::default();
        let retry = RetryPolicy::default();
        let start_to_close_ms = self.start_to_close_ms.map_or(default.start_to_close_ms, |(ms, _)| ms);
        if let (Some((schedule, at)), true) = (self.schedule_to_close_ms, self.start_to_close_ms.is_some())
            && schedule < start_to_close_ms
        {
            problems
                .error(
                    at,
                    "PLAN_TIMEOUT_ORDER",
                    format!(
                        "{what}: all attempts together (schedule_to_close_timeout) have {schedule} ms, less than the \
                         {start_to_close_ms} ms of one attempt (start_to_close_timeout or timeout)"
                    ),
                )
                .help("make schedule_to_close_timeout longer, or the timeout of one attempt shorter");
        }
        let schedule_to_close_ms = match self.schedule_to_close_ms {
            Some((ms, _)) => Some(ms),
            None => default.schedule_to_close_ms.map(|ms| ms.max(start_to_close_ms.saturating_add(SCHEDULE_MARGIN_MS))),
        };
        let initial_interval_ms = self.initial_interval_ms.unwrap_or(retry.initial_interval_ms);
        TaskPolicy {
            start_to_close_ms,
            schedule_to_close_ms,
            schedule_to_start_ms: self.schedule_to_start_ms,
            heartbeat_ms: self.heartbeat_ms,
            retry: RetryPolicy {
                maximum_attempts: self.maximum_attempts.unwrap_or(retry.maximum_attempts),
                initial_interval_ms,
                backoff_coefficient: self.backoff_coefficient.unwrap_or(retry.backoff_coefficient),
                maximum_interval_ms: self
                    .maximum_interval_ms
                    .unwrap_or(retry.maximum_interval_ms.max(initial_interval_ms)),
                non_retryable_codes: self.non_retryable_codes.clone().unwrap_or_default(),
            },
        }
    }
}

/// Reads the policy keys of a `config`.
pub(crate) fn layer(fields: &mut Fields<'_>, problems: &mut Problems) -> PolicyLayer {
    let mut layer = PolicyLayer {
        start_to_close_ms: duration(fields, "start_to_close_timeout", problems),
        schedule_to_close_ms: duration(fields, "schedule_to_close_timeout", problems),
        schedule_to_start_ms: duration(fields, "schedule_to_start_timeout", problems).map(|(ms, _)| ms),
        heartbeat_ms: duration(fields, "heartbeat_timeout", problems).map(|(ms, _)| ms),
        ..PolicyLayer::default()
    };
    retry(fields, &mut layer, problems);
    dispatch(fields, &mut layer, problems);
    fields.unsupported(&[("on_error", "write `on_error` at each task")], problems);
    layer
}

/// Reads `priority` and `concurrency`.
pub(crate) fn dispatch(fields: &mut Fields<'_>, layer: &mut PolicyLayer, problems: &mut Problems) {
    let priority = fields.integer("priority", PRIORITY_FIRST.into(), PRIORITY_LAST.into(), problems);
    layer.priority = priority.and_then(|(priority, _)| u8::try_from(priority).ok());
    if matches!(fields.take("concurrency"), Some(Node { data: Data::Number(_), .. })) {
        let limit = attempts_at_once(fields, "concurrency", problems);
        layer.concurrency = limit.map(|limit| Concurrency { key: None, limit });
        return;
    }
    let Some(mut concurrency) = fields.fields("concurrency", problems) else { return };
    let key = concurrency.take("key").cloned();
    if !concurrency.has("limit") {
        concurrency.missing("limit", problems);
    }
    let limit = attempts_at_once(&mut concurrency, "limit", problems);
    layer.concurrency = limit.map(|limit| Concurrency { key, limit });
    concurrency.finish(problems);
}

/// Reads a number of attempts that may run at once.
pub(crate) fn attempts_at_once(fields: &mut Fields<'_>, name: &'static str, problems: &mut Problems) -> Option<u32> {
    let (limit, _) = fields.integer(name, 1, CONCURRENCY_LIMIT_MAX.into(), problems)?;
    u32::try_from(limit).ok()
}

/// Reads `retry_policy`.
pub(crate) fn retry(fields: &mut Fields<'_>, layer: &mut PolicyLayer, problems: &mut Problems) {
    let Some(mut retry) = fields.fields("retry_policy", problems) else { return };
    layer.maximum_attempts = retry
        .integer("maximum_attempts", 1, u64::from(ATTEMPTS_MAX), problems)
        .map(|(attempts, _)| u32::try_from(attempts).unwrap_or(ATTEMPTS_MAX));
    layer.initial_interval_ms = duration(&mut retry, "initial_interval", problems).map(|(ms, _)| ms);
    layer.maximum_interval_ms = duration(&mut retry, "maximum_interval", problems).map(|(ms, _)| ms);
    if let Some(node) = retry.take("backoff_coefficient") {
        match &node.data {
            Data::Number(number) if number.as_f64().is_some_and(|factor| (1.0..=100.0).contains(&factor)) => {
                layer.backoff_coefficient = number.as_f64();
            }
            Data::Number(number) => {
                problems
                    .error(
                        node.at,
                        "PLAN_OUT_OF_RANGE",
                        format!("`backoff_coefficient` must be from 1 to 100 but is {number}"),
                    )
                    .value(&number.to_string());
            }
            _ => wrong_type(problems, node, "`backoff_coefficient`", "a number"),
        }
    }
    if retry.has("non_retryable_error_types") {
        let codes = retry.texts("non_retryable_error_types", problems);
        layer.non_retryable_codes = Some(codes.into_iter().map(|(code, _)| code.to_owned()).collect());
    } else {
        retry.take("non_retryable_error_types");
    }
    if let (Some(initial), Some(maximum)) = (layer.initial_interval_ms, layer.maximum_interval_ms)
        && maximum < initial
    {
        problems
            .error(
                retry.at,
                "PLAN_TIMEOUT_ORDER",
                format!("`maximum_interval` ({maximum} ms) is shorter than `initial_interval` ({initial} ms)"),
            )
            .help("make maximum_interval at least as long as initial_interval");
    }
    retry.finish(problems);
}

/// Reads a duration key.
pub(crate) fn duration(
    fields: &mut Fields<'_>,
    name: &'static str,
    problems: &mut Problems,
) -> Option<(u64, Position)> {
    let node = fields.take(name)?;
    let what = format!("`{name}` of {}", fields.what);
    duration_of(node, &what, problems).map(|ms| (ms, node.at))
}

/// Milliseconds of a duration that is written out.
pub(crate) fn duration_of(node: &Node, what: &str, problems: &mut Problems) -> Option<u64> {
    let shown = node.shown().unwrap_or_default();
    let help = "write a number with its unit, for example `500ms`, `30s`, `1m30s` or `2h`";
    match &node.data {
        Data::Text(text) => match parse_duration(text) {
            Ok(ms) if (1..=DURATION_MS_MAX).contains(&ms) => Some(ms),
            Ok(_) => {
                problems
                    .error(
                        node.at,
                        "PLAN_OUT_OF_RANGE",
                        format!("{what} must be from `1ms` to `8760h` but is `{}`", cut(text)),
                    )
                    .value(text);
                None
            }
            Err(reason) => {
                problems
                    .error(node.at, "PLAN_INVALID_DURATION", format!("{what} is no duration: {reason}"))
                    .value(text)
                    .help(help);
                None
            }
        },
        Data::Number(_) => {
            problems
                .error(node.at, "PLAN_INVALID_DURATION", format!("{what} is the number {shown} without a unit"))
                .value(&shown)
                .help(help);
            None
        }
        _ => {
            wrong_type(problems, node, what, "a duration");
            None
        }
    }
}

/// Milliseconds of a duration in Go's way of writing, for example `1m30s`.
pub fn parse_duration(text: &str) -> Result<u64, String> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("it is empty".to_owned());
    }
    if rest.contains("{{") {
        return Err("it cannot be a template".to_owned());
    }
    if rest.starts_with('-') {
        return Err(format!("`{}` is negative", cut(rest)));
    }
    let mut total = 0.0f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let (digits, after) = rest.split_at(end);
        let number: f64 = digits.parse().map_err(|_| format!("`{}` does not begin with a number", cut(rest)))?;
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let factor = match unit.trim() {
            "ms" => 1.0,
            "s" => 1_000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            "us" | "µs" => 0.001,
            "ns" => 0.000_001,
            "" => return Err(format!("`{digits}` has no unit")),
            other => return Err(format!("`{}` is no unit; there are ms, s, m and h", cut(other))),
        };
        total += number * factor;
        rest = next;
    }
    // Longer than any limit is as good as infinite; less than a millisecond counts as one.
    #[expect(clippy::cast_sign_loss, reason = "no part is negative; the cast saturates")]
    let ms = total.ceil() as u64;
    Ok(ms)
}

#[cfg(test)]
mod tests {
    use super::parse_duration;

    #[test]
    fn durations() {
        for (text, ms) in [
            ("30s", 30_000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("1.5h", 5_400_000),
            ("10us", 1),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(ms), "{text}");
        }
        for (text, part) in [
            ("", "empty"),
            ("30", "no unit"),
            ("5 parsecs", "`parsecs` is no unit"),
            ("s", "begin with a number"),
            ("-3s", "negative"),
            ("1.2.3s", "begin with a number"),
            ("{{ .x }}", "template"),
        ] {
            let error = parse_duration(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
