//! What follows from the end of an attempt.

use compozy_interpreter::{Failure, Timeout};
use compozy_plan::plan::TaskPolicy;
use serde_json::{Value, json};

use crate::limits;
use crate::request::json_bytes;

/// What the engine records.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The task succeeded.
    Completed(Value),
    /// The task failed for good.
    Failed(Failure),
    /// Another attempt follows.
    Retry {
        /// Why the last one failed.
        failure: Failure,
        /// The wait before the next one, in milliseconds.
        wait_ms: u64,
    },
}

/// How long an attempt that begins now may take, and what ends it then. `None`: its time is over already.
pub fn attempt_bound(policy: &TaskPolicy, deadline_ms: Option<u64>, now_ms: u64) -> Option<(u64, Timeout)> {
    let left = deadline_ms.map(|deadline| deadline.saturating_sub(now_ms));
    match left {
        Some(0) => None,
        Some(left) if left < policy.start_to_close_ms => Some((left, Timeout::ScheduleToClose)),
        _ => Some((policy.start_to_close_ms, Timeout::StartToClose)),
    }
}

/// The failure of a task whose time is over.
pub fn timed_out(task: &str, attempt: u32, policy: &TaskPolicy, bound: Timeout) -> Failure {
    let name = bound.name();
    let (limit_ms, retryable) = match bound {
        Timeout::Heartbeat => (policy.heartbeat_ms.unwrap_or_default(), true),
        // Nobody was free to begin it: another attempt would wait at the end of the same queue.
        Timeout::ScheduleToStart => (policy.schedule_to_start_ms.unwrap_or_default(), false),
        // All attempts together had this time: none is left.
        Timeout::ScheduleToClose => (policy.schedule_to_close_ms.unwrap_or_default(), false),
        Timeout::StartToClose | Timeout::Wait | Timeout::Workflow => (policy.start_to_close_ms, true),
    };
    let what = match bound {
        Timeout::ScheduleToStart => "did not begin",
        Timeout::Heartbeat => "gave no sign of life",
        _ => "did not end",
    };
    let message = format!("task `{task}` {what} within its {name} timeout of {limit_ms} ms (attempt {attempt})");
    Failure {
        retryable,
        details: json!({"timeout": name, "limit_ms": limit_ms, "attempt": attempt}),
        ..Failure::timed_out(bound, message)
    }
}

/// The failure of a task whose input or output is too large.
pub fn too_large(task: &str, what: &str, used: usize) -> Failure {
    let allowed = limits::PAYLOAD_BYTES_MAX;
    Failure {
        details: json!({"used": used, "allowed": allowed}),
        ..Failure::permanent(
            "PAYLOAD_TOO_LARGE",
            format!("the {what} of task `{task}` has {used} bytes, at most {allowed} bytes are allowed"),
        )
    }
}

/// Keeps a failure small enough for the journal.
pub fn bounded(mut failure: Failure) -> Failure {
    let half = limits::FAILURE_BYTES_MAX / 2;
    if json_bytes(&failure.details) > half {
        failure.details = Value::Null;
    }
    failure.code = cut(failure.code, 128);
    failure.message = cut(failure.message, half);
    failure
}

fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
    text
}

/// A number that looks like chance and is the same for the same attempt of the same task of the same run.
fn chance(seed: u64, task: &str, attempt: u32) -> u64 {
    // FNV-1a over the name, then one round of SplitMix64.
    let name = task
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mut mixed = seed ^ name ^ u64::from(attempt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Judges the end of an attempt. `failed` counts the attempts that failed before it; `seed` is the run's.
pub fn judge(
    task: &str,
    policy: &TaskPolicy,
    seed: u64,
    failed: u32,
    deadline_ms: Option<u64>,
    now_ms: u64,
    result: Result<Value, Failure>,
) -> Verdict {
    let failure = match result {
        Ok(output) => return Verdict::Completed(output),
        Err(failure) => bounded(failure),
    };
    let failures = failed.saturating_add(1);
    if !failure.retryable
        || failures >= policy.retry.maximum_attempts
        || policy.retry.non_retryable_codes.contains(&failure.code)
    {
        return Verdict::Failed(failure);
    }
    let backoff_ms = policy.retry.jittered_backoff_ms(failures, chance(seed, task, failures));
    let wait_ms = backoff_ms.max(failure.retry_after_ms.unwrap_or(0));
    if deadline_ms.is_some_and(|deadline| now_ms.saturating_add(wait_ms) >= deadline) {
        let limit_ms = policy.schedule_to_close_ms.unwrap_or_default();
        // The cause stays the code: it says more than that the time is over.
        return Verdict::Failed(Failure {
            message: format!(
                "{} (no attempt follows: the next, in {wait_ms} ms, would begin after the schedule_to_close timeout of \
                 {limit_ms} ms)",
                failure.message
            ),
            ..failure
        });
    }
    Verdict::Retry { failure, wait_ms }
}

#[cfg(test)]
mod tests {
    use compozy_plan::plan::RetryPolicy;

    use super::*;

    fn policy() -> TaskPolicy {
        TaskPolicy {
            start_to_close_ms: 1_000,
            schedule_to_close_ms: Some(10_000),
            schedule_to_start_ms: None,
            heartbeat_ms: None,
            retry: RetryPolicy {
                maximum_attempts: 3,
                initial_interval_ms: 100,
                backoff_coefficient: 2.0,
                maximum_interval_ms: 150,
                non_retryable_codes: vec!["BAD_KEY".into()],
            },
        }
    }

    fn judged(failed: u32, now_ms: u64, failure: Failure) -> Verdict {
        judge("t", &policy(), 1, failed, Some(10_000), now_ms, Err(failure))
    }

    fn wait(verdict: Verdict) -> u64 {
        match verdict {
            Verdict::Retry { wait_ms, .. } => wait_ms,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn waits_grow_to_their_bound_and_attempts_are_counted() {
        let down = || Failure::transient("DOWN", "is down");
        assert!((100..=120).contains(&wait(judged(0, 0, down()))), "with up to a fifth by chance");
        assert_eq!(wait(judged(1, 0, down())), 150);
        assert_eq!(judged(2, 0, down()), Verdict::Failed(down()));
        assert_eq!(wait(judged(0, 0, Failure { retry_after_ms: Some(5_000), ..down() })), 5_000);
    }

    #[test]
    fn chance_comes_from_the_seed_and_from_nothing_else() {
        let waits = |task: &str| -> Vec<u64> {
            let one = |seed| wait(judge(task, &policy(), seed, 0, None, 0, Err(Failure::transient("DOWN", "is down"))));
            (0..100).map(one).collect()
        };
        assert_eq!(waits("t"), waits("t"), "the same seed, the same wait");
        assert_ne!(waits("t"), waits("u"), "tasks of one run do not wait alike");
        let different: std::collections::BTreeSet<u64> = waits("t").into_iter().collect();
        assert!(different.len() > 10, "a hundred runs do not come back at once: {different:?}");
    }

    #[test]
    fn some_failures_are_final_at_once() {
        let permanent = Failure::permanent("NO", "no");
        assert_eq!(judged(0, 0, permanent.clone()), Verdict::Failed(permanent));
        let listed = Failure::transient("BAD_KEY", "no");
        assert_eq!(judged(0, 0, listed.clone()), Verdict::Failed(listed));
    }

    #[test]
    fn no_attempt_begins_after_schedule_to_close() {
        let Verdict::Failed(failure) = judged(1, 9_900, Failure::transient("DOWN", "is down")) else { panic!() };
        assert_eq!(failure.code, "DOWN");
        assert_eq!(
            failure.message,
            "is down (no attempt follows: the next, in 150 ms, would begin after the schedule_to_close timeout of 10000 ms)"
        );
        assert_eq!(attempt_bound(&policy(), Some(10_000), 0), Some((1_000, Timeout::StartToClose)));
        assert_eq!(attempt_bound(&policy(), Some(10_000), 9_500), Some((500, Timeout::ScheduleToClose)));
        assert_eq!(attempt_bound(&policy(), Some(10_000), 10_000), None);
        assert_eq!(attempt_bound(&policy(), None, 10_000), Some((1_000, Timeout::StartToClose)));
    }

    #[test]
    fn a_failure_is_cut_to_its_bound() {
        let huge = Failure {
            details: Value::String("d".repeat(limits::FAILURE_BYTES_MAX)),
            ..Failure::permanent("C".repeat(1000), "ü".repeat(limits::FAILURE_BYTES_MAX))
        };
        let small = bounded(huge);
        assert!(json_bytes(&small) <= limits::FAILURE_BYTES_MAX);
        assert!(small.message.ends_with('…') && small.details.is_null());
    }
}
