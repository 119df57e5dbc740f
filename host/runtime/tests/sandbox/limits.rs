//! Each limit fires, says so, and leaves everybody else alone.

use std::sync::Arc;
use std::time::Duration;

use compozy_runtime::limits::TABLE;
use compozy_runtime::{CallError, Grants, Limit, Retry, Runtime};
use serde_json::{Value, json};

use crate::support::{Sandbox, call, executor, guest, request};

const ECHO: &str = "name = \"echo\"\nversion = \"0.1.0\"\n";
const HOSTILE: &str =
    "name = \"hostile\"\nversion = \"0.1.0\"\n[capabilities]\nsql = true\n[limits]\nfuel = 1_000_000_000_000\n";

fn sandbox(caps: &[(Limit, u64)]) -> Sandbox {
    sandbox_of(guest("hostile"), caps)
}

fn sandbox_of(component: Vec<u8>, caps: &[(Limit, u64)]) -> Sandbox {
    let grants = Grants { sql: true, ..Grants::default() };
    Sandbox::new().with(ECHO, guest("echo")).with(HOSTILE, component).policy("hostile", grants, caps)
}

async fn healthy(runtime: &Runtime) {
    let answer = call(runtime, "echo", "echo", json!({ "fine": true })).await.expect("a healthy call");
    assert_eq!(answer.output, json!({ "fine": true }));
    assert!(answer.ran.fuel > 0);
}

/// Runs a hostile action with a healthy one during and after it, and checks which limit ended it.
async fn fires(sandbox: Sandbox, action: &str, input: Value, caps: &[(Limit, u64)], limit: Limit) {
    let (_folder, runtime) = sandbox.open().await;
    let hostile = call(&runtime, "hostile", action, input);
    let (failure, ()) = tokio::join!(hostile, healthy(&runtime));
    let failure = failure.expect_err("it must not get through");
    let CallError::Limit { plugin, hit } = &failure.error else { panic!("{action}: {}", failure.error) };
    assert_eq!(hit.limit, limit, "{action}: {}", failure.error);
    assert_eq!(hit.allowed, caps.iter().find(|cap| cap.0 == limit).map_or(limit.spec().default, |cap| cap.1));
    assert!(hit.used >= hit.allowed, "{action}: {}", failure.error);
    let sentence = failure.error.to_string();
    let (used, allowed) = (hit.used.to_string(), hit.allowed.to_string());
    for part in [limit.name(), &used, &allowed, limit.spec().unit, "hostile", plugin.short_digest()] {
        assert!(sentence.contains(part), "`{part}` is missing in: {sentence}");
    }
    assert_eq!(failure.error.code(), "PLUGIN_LIMIT");
    let ran = failure.ran.expect("it ran");
    let fuel = runtime.plugin("hostile").expect("loaded").limits().get(Limit::Fuel);
    if limit == Limit::OutputBytes {
        assert!((1..fuel).contains(&ran.fuel), "the guest itself ended well, so its fuel is known");
    } else {
        assert_eq!(ran.fuel, fuel, "a call that broke is charged in full");
    }
    healthy(&runtime).await;
}

/// Each hostile action, the caps that make it quick, and the limit at which it must end.
#[expect(clippy::type_complexity, reason = "a table")]
fn actions() -> Vec<(&'static str, Value, Vec<(Limit, u64)>, Limit)> {
    let hoard = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
        SELECT randomblob(10000) AS b FROM n ORDER BY b LIMIT 1000000000";
    let nothing = || json!({});
    vec![
        ("infinite_loop", nothing(), vec![(Limit::Fuel, 50_000_000)], Limit::Fuel),
        ("infinite_loop", nothing(), vec![(Limit::WallMs, 200)], Limit::WallMs),
        ("loop_in_host_call", nothing(), vec![(Limit::Fuel, 5_000_000)], Limit::Fuel),
        ("loop_in_host_call", nothing(), vec![(Limit::WallMs, 200)], Limit::WallMs),
        ("sleep_forever", nothing(), vec![(Limit::CallTimeoutMs, 300)], Limit::CallTimeoutMs),
        ("grow_memory", nothing(), vec![(Limit::MemoryBytes, 8 << 20)], Limit::MemoryBytes),
        ("grow_memory", nothing(), vec![], Limit::MemoryBytes),
        ("deep_recursion", nothing(), vec![], Limit::StackBytes),
        ("log_flood", nothing(), vec![], Limit::LogBytes),
        ("stdout_flood", nothing(), vec![], Limit::LogBytes),
        ("huge_output", json!({ "bytes": 5 << 20 }), vec![], Limit::OutputBytes),
        ("huge_argument", json!({ "bytes": 22 << 20 }), vec![], Limit::HostcallBytes),
        ("huge_random", json!({ "bytes": 2 << 20 }), vec![], Limit::RandomBytes),
        ("open_handles", nothing(), vec![], Limit::Handles),
        ("sql_forever", nothing(), vec![(Limit::WallMs, 300)], Limit::WallMs),
        ("sql", json!({ "statements": [hoard] }), vec![(Limit::SqlMemoryBytes, 16 << 20)], Limit::SqlMemoryBytes),
    ]
}

/// Limits that something else than one of `actions` fires, each in a test of this file, of `loading`, or of the suite `redis`.
const ELSEWHERE: [Limit; 16] = [
    Limit::Memories,
    Limit::TableElements,
    Limit::Tables,
    Limit::Instances,
    Limit::InputBytes,
    Limit::Concurrency,
    Limit::QueueLength,
    Limit::QueueWaitMs,
    Limit::SqlBytes,
    Limit::SqlValueBytes,
    Limit::SqlStatements,
    Limit::SqlBusyMs,
    Limit::RedisTimeoutMs,
    Limit::RedisScripts,
    Limit::RedisScriptBytes,
    Limit::ComponentBytes,
];

#[test]
fn no_limit_is_forgotten() {
    let mut fired: Vec<Limit> = actions().into_iter().map(|(.., limit)| limit).chain(ELSEWHERE).collect();
    fired.sort_unstable();
    fired.dedup();
    assert_eq!(fired, TABLE.map(|spec| spec.limit));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_hostile_action_ends_at_its_limit() {
    for (action, input, caps, limit) in actions() {
        fires(sandbox(&caps), action, input, &caps, limit).await;
    }
}

#[tokio::test]
async fn memories_count_together() {
    let caps = [(Limit::MemoryBytes, 4 << 20)];
    let body = "(loop $l (drop (memory.grow $a (i32.const 4))) (drop (memory.grow $b (i32.const 4))) (br $l))";
    let component = executor("(memory $a 1) (memory $b 1)", body, "");
    fires(sandbox_of(component, &caps), "run", json!(1), &caps, Limit::MemoryBytes).await;
}

#[tokio::test]
async fn tables_count_together() {
    let body = "(loop $l (drop (table.grow $a (ref.null func) (i32.const 500)))
        (drop (table.grow $b (ref.null func) (i32.const 500))) (br $l))";
    let component = executor("(table $a 0 funcref) (table $b 0 funcref)", body, "");
    fires(sandbox_of(component, &[]), "run", json!(1), &[], Limit::TableElements).await;
}

#[tokio::test]
async fn an_executor_written_as_text_works() {
    let (_folder, runtime) = sandbox_of(executor("", "", ""), &[]).open().await;
    assert_eq!(call(&runtime, "hostile", "run", json!(1)).await.unwrap().output, json!(1));
}

#[tokio::test]
async fn what_a_component_is_made_of_is_bounded() {
    let modules = |fields: &str, count: usize| {
        format!("(core module $more {fields}) {}", "(core instance (instantiate $more))".repeat(count))
    };
    for (fields, count, limit, allowed) in [
        ("(memory 1)", 4, Limit::Memories, 4),
        ("(memory 1)", 40, Limit::Memories, 16),
        ("(table 1 funcref)", 17, Limit::Tables, 16),
        ("(table 1 funcref)", 65, Limit::Tables, 64),
        ("(table 30000 funcref)", 1, Limit::TableElements, 20_000),
        ("(memory 2000)", 1, Limit::MemoryBytes, 64 << 20),
        ("", 64, Limit::Instances, 64),
        ("", 300, Limit::Instances, 256),
    ] {
        let errors = sandbox_of(executor("", "", &modules(fields, count)), &[]).errors().await;
        assert_eq!((errors.len(), errors[0].code), (1, "PLUGIN_LIMIT"), "{errors:?}");
        let message = &errors[0].message;
        assert!(message.contains(&format!("`{limit}`")), "{limit} is missing in: {message}");
        assert!(message.contains(&format!("{allowed} {}", limit.spec().unit)), "{allowed} is missing in: {message}");
    }
}

/// What SQL refuses for its size is an error that the guest sees, and can answer to.
#[tokio::test(flavor = "multi_thread")]
async fn sql_tells_the_guest_which_limit() {
    let caps = [(Limit::SqlBytes, 4 << 20), (Limit::SqlValueBytes, 2 << 20), (Limit::SqlStatements, 10)];
    let (_folder, runtime) = sandbox(&caps).open().await;
    let large = json!({ "statements": ["SELECT zeroblob(3000000)"] });
    let answer = call(&runtime, "hostile", "sql", large).await.unwrap().output.to_string();
    assert!(answer.contains("sql_value_bytes") && answer.contains("2097152"), "{answer}");
    for (action, limit, allowed) in [("sql_fill", "sql_bytes", "4194304"), ("open_statements", "sql_statements", "10")]
    {
        let (failure, ()) = tokio::join!(call(&runtime, "hostile", action, json!({})), healthy(&runtime));
        let error = failure.expect_err("it must not get through").error;
        assert_eq!(error.code(), "SQL_TOO_LARGE", "{error}");
        assert!(error.to_string().contains(limit) && error.to_string().contains(allowed), "{error}");
    }
    healthy(&runtime).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_does_not_end_makes_the_others_busy() {
    let caps = [(Limit::SqlBusyMs, 20), (Limit::WallMs, 5_000)];
    let (_folder, runtime) = sandbox(&caps).open().await;
    let run = |statement: &str| {
        let runtime = Arc::clone(&runtime);
        let input = json!({ "statements": [statement] });
        async move { call(&runtime, "hostile", "sql", input).await }
    };
    run("CREATE TABLE t (n)").await.unwrap();
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) INSERT INTO t SELECT max(i) FROM n";
    let writer = tokio::spawn(run(endless));
    loop {
        assert!(!writer.is_finished(), "the writer ended before anybody was told to wait");
        let answer = run("INSERT INTO t VALUES (1)").await.unwrap().output.to_string();
        if answer.contains("sql_busy_ms") {
            break;
        }
    }
    healthy(&runtime).await;
    let ended = writer.await.unwrap().unwrap_err();
    assert_eq!(ended.error.details().unwrap()["limit"], "wall_ms");
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
