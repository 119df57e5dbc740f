//! Each limit fires, says so, and leaves everybody else alone.

use std::time::Duration;

use compozy_runtime::{CallError, Grants, Limit, Retry, Runtime};
use serde_json::{Value, json};

use crate::support::{Sandbox, call, guest, request};

const ECHO: &str = "name = \"echo\"\nversion = \"0.1.0\"\n";
const HOSTILE: &str = "name = \"hostile\"\nversion = \"0.1.0\"\n[capabilities]\nsql = true\n";

fn sandbox(caps: &[(Limit, u64)]) -> Sandbox {
    let grants = Grants { sql: true, ..Grants::default() };
    Sandbox::new().with(ECHO, guest("echo")).with(HOSTILE, guest("hostile")).policy("hostile", grants, caps)
}

async fn healthy(runtime: &Runtime) {
    let answer = call(runtime, "echo", "echo", json!({ "fine": true })).await.expect("a healthy call");
    assert_eq!(answer.output, json!({ "fine": true }));
    assert!(answer.ran.fuel > 0);
}

/// Runs a hostile action with a healthy one during and after it, and checks which limit ended it.
async fn fires(action: &str, input: Value, caps: &[(Limit, u64)], limit: Limit) {
    let (_folder, runtime) = sandbox(caps).open().await;
    let hostile = call(&runtime, "hostile", action, input);
    let (failure, ()) = tokio::join!(hostile, healthy(&runtime));
    let failure = failure.expect_err("it must not get through");
    let CallError::Limit { plugin, hit } = &failure.error else { panic!("{action}: {}", failure.error) };
    assert_eq!(hit.limit, limit, "{action}: {}", failure.error);
    assert_eq!(hit.allowed, caps.iter().find(|cap| cap.0 == limit).map_or(limit.spec().default, |cap| cap.1));
    assert!(hit.used >= hit.allowed, "{action}: {}", failure.error);
    let sentence = failure.error.to_string();
    for part in [
        limit.name(),
        &hit.used.to_string(),
        &hit.allowed.to_string(),
        limit.spec().unit,
        "hostile",
        plugin.short_digest(),
    ] {
        assert!(sentence.contains(part), "`{part}` is missing in: {sentence}");
    }
    assert_eq!(failure.error.code(), "PLUGIN_LIMIT");
    let ran = failure.ran.expect("it ran");
    assert_eq!(
        ran.fuel,
        runtime.plugin("hostile").expect("loaded").limits().get(Limit::Fuel),
        "a call that broke is charged in full"
    );
    healthy(&runtime).await;
}

#[tokio::test]
async fn a_loop_ends_with_its_fuel() {
    fires("infinite_loop", json!({}), &[(Limit::Fuel, 50_000_000)], Limit::Fuel).await;
}

#[tokio::test]
async fn a_loop_ends_with_its_time() {
    fires("infinite_loop", json!({}), &[(Limit::Fuel, u64::MAX), (Limit::WallMs, 200)][1..], Limit::WallMs).await;
}

#[tokio::test]
async fn a_loop_in_host_calls_ends() {
    fires("loop_in_host_call", json!({}), &[(Limit::WallMs, 200)], Limit::WallMs).await;
}

#[tokio::test]
async fn a_wait_in_the_host_ends_at_the_outer_timeout() {
    fires("sleep_forever", json!({}), &[(Limit::CallTimeoutMs, 300)], Limit::CallTimeoutMs).await;
}

#[tokio::test]
async fn memory_ends() {
    fires("grow_memory", json!({}), &[(Limit::MemoryBytes, 8 << 20)], Limit::MemoryBytes).await;
}

#[tokio::test]
async fn deep_recursion_ends() {
    fires("deep_recursion", json!({}), &[], Limit::StackBytes).await;
}

#[tokio::test]
async fn a_flood_of_lines_ends() {
    fires("log_flood", json!({}), &[], Limit::LogBytes).await;
    fires("stdout_flood", json!({}), &[], Limit::LogBytes).await;
}

#[tokio::test]
async fn a_huge_output_ends() {
    fires("huge_output", json!({ "bytes": 5 << 20 }), &[], Limit::OutputBytes).await;
}

#[tokio::test]
async fn a_huge_argument_ends() {
    fires("huge_argument", json!({ "bytes": 22 << 20 }), &[], Limit::HostcallBytes).await;
}

#[tokio::test]
async fn huge_randomness_ends() {
    fires("huge_random", json!({ "bytes": 2 << 20 }), &[], Limit::RandomBytes).await;
}

#[tokio::test]
async fn handles_end() {
    fires("open_handles", json!({}), &[], Limit::Handles).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_without_end_ends() {
    fires("sql_forever", json!({}), &[(Limit::WallMs, 300)], Limit::WallMs).await;
}

#[tokio::test]
async fn a_large_input_never_reaches_the_plugin() {
    let (_folder, runtime) = sandbox(&[(Limit::InputBytes, 100)]).open().await;
    let failure = call(&runtime, "hostile", "infinite_loop", json!("x".repeat(200))).await.unwrap_err();
    let CallError::Limit { hit, .. } = &failure.error else { panic!("{}", failure.error) };
    assert_eq!((hit.limit, hit.used, hit.allowed), (Limit::InputBytes, 206, 100));
    assert_eq!(failure.ran, None);
}

#[tokio::test]
async fn places_and_queue_are_bounded() {
    let caps =
        [(Limit::Concurrency, 1), (Limit::QueueLength, 1), (Limit::QueueWaitMs, 50), (Limit::CallTimeoutMs, 1_000)];
    let (_folder, runtime) = sandbox(&caps).open().await;
    let sleep = || call(&runtime, "hostile", "sleep_forever", json!({}));
    let (first, second, third) = tokio::join!(sleep(), sleep(), sleep());
    let limit = |failure: CallError| match failure {
        CallError::Limit { hit, .. } => (hit.limit, Retry::Never),
        CallError::Busy { hit, .. } => (hit.limit, Retry::Later { after: None }),
        other => panic!("{other}"),
    };
    assert_eq!(limit(first.unwrap_err().error).0, Limit::CallTimeoutMs);
    let later = Retry::Later { after: None };
    assert_eq!(limit(second.unwrap_err().error), (Limit::QueueWaitMs, later));
    let third = third.unwrap_err();
    assert_eq!((third.error.code(), third.error.retry()), ("PLUGIN_BUSY", later));
    assert_eq!(limit(third.error), (Limit::QueueLength, later));
    healthy(&runtime).await;
}

#[tokio::test]
async fn the_callers_patience_ends_a_call_sooner() {
    let (_folder, runtime) = sandbox(&[]).open().await;
    let mut short = request("hostile", "sleep_forever", &json!({}));
    short.timeout = Duration::from_millis(100);
    let failure = runtime.execute(short).await.unwrap_err();
    let CallError::Limit { hit, .. } = &failure.error else { panic!("{}", failure.error) };
    assert_eq!((hit.limit, hit.allowed), (Limit::CallTimeoutMs, 100));
    assert_eq!(failure.error.retry(), Retry::Later { after: None });
}

#[tokio::test]
async fn a_panic_is_a_trap_and_poisons_nothing() {
    let (_folder, runtime) = sandbox(&[]).open().await;
    let failure = call(&runtime, "hostile", "panic", json!({})).await.unwrap_err();
    assert_eq!((failure.error.code(), failure.error.retry()), ("PLUGIN_TRAP", Retry::Never), "{}", failure.error);
    healthy(&runtime).await;
    assert_eq!(runtime.plugin("hostile").unwrap().counts().failed, 1);
}

#[tokio::test]
async fn names_that_do_not_exist_are_told_with_the_nearest() {
    let (_folder, runtime) = sandbox(&[]).open().await;
    let plugin = call(&runtime, "ecko", "echo", json!(1)).await.unwrap_err();
    assert_eq!(plugin.to_string(), "there is no plugin `ecko`; did you mean `echo`?");
    let action = call(&runtime, "echo", "ecco", json!(1)).await.unwrap_err();
    assert_eq!(action.error.code(), "ACTION_UNKNOWN");
    assert!(action.to_string().ends_with("has no action `ecco`; did you mean `echo`?"), "{action}");
    runtime.stop();
    assert_eq!(call(&runtime, "echo", "echo", json!(1)).await.unwrap_err().error.code(), "HOST_STOPPING");
}
