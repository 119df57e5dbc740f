//! The plugin `hostile`: one action per misbehaviour. Each must end at its own limit or be refused, while everybody else
//! on the same host goes on.
//!
//! Actions that try to break out answer what came of each attempt: `refused: <why>` or `ALLOWED: <what>`.
//! The ones that use up something do so until they are stopped.
#![expect(clippy::needless_pass_by_value, clippy::unnecessary_wraps, reason = "the form of an action")]

use compozy_sdk::{Context, Json, TaskError, task_plugin};
use serde::Deserialize;

mod escape;
mod exhaust;

task_plugin! {
    /// Computes for ever.
    "infinite_loop" => exhaust::infinite_loop,
    /// Calls a cheap import for ever.
    "loop_in_host_call" => exhaust::loop_in_host_call,
    /// Waits for ever in an import.
    "sleep_forever" => exhaust::sleep_forever,
    /// Takes memory until there is none.
    "grow_memory" => exhaust::grow_memory,
    /// Asks for `bytes` at once and tells whether it got them.
    "allocate" => exhaust::allocate,
    /// Calls itself for ever.
    "deep_recursion" => exhaust::deep_recursion,
    /// Logs for ever.
    "log_flood" => exhaust::log_flood,
    /// Writes to standard output for ever.
    "stdout_flood" => exhaust::stdout_flood,
    /// Answers `bytes` bytes.
    "huge_output" => exhaust::huge_output,
    /// Hands `bytes` bytes to an import.
    "huge_argument" => exhaust::huge_argument,
    /// Asks for `bytes` random bytes at once.
    "huge_random" => exhaust::huge_random,
    /// Opens resources for ever.
    "open_handles" => exhaust::open_handles,
    /// Prepares statements for ever.
    "open_statements" => exhaust::open_statements,
    /// Runs a query that never ends.
    "sql_forever" => exhaust::sql_forever,
    /// Makes its database file grow for ever.
    "sql_fill" => exhaust::sql_fill,
    /// Keeps a write transaction open and comes back without an end.
    "sql_leave_open" => exhaust::sql_leave_open,
    /// Runs `statements` and tells what came of each.
    "sql" => escape::sql,
    /// Tries to reach another database file.
    "sql_attach" => escape::sql_attach,
    /// Tries to change how its database works.
    "sql_pragma" => escape::sql_pragma,
    /// Tries to read `paths` and the ways out of `/data` that it knows itself.
    "path_escape" => escape::paths,
    /// Answers the environment and the arguments that it sees.
    "read_env" => escape::environment,
    /// Tries to connect to `address` and to ask for `url`.
    "network" => escape::network,
    /// Panics.
    "panic" => panic,
    /// Ends the process, as far as it has one.
    "exit" => exit,
    /// Counts in a static and answers the count; panics after it when `then_panic`.
    "count_static" => count_static,
}

/// Input of actions that take a size.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Size {
    bytes: usize,
}

#[expect(clippy::panic, reason = "that is what it is for")]
fn panic(_: Json, _: &Context) -> Result<(), TaskError> {
    panic!("a panic, as asked")
}

#[expect(clippy::exit, reason = "that is what it is for")]
fn exit(_: Json, _: &Context) -> Result<(), TaskError> {
    std::process::exit(0)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Count {
    #[serde(default)]
    then_panic: bool,
}

fn count_static(input: Count, _: &Context) -> Result<u32, TaskError> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    assert!(!input.then_panic, "a panic after counting, as asked");
    Ok(count)
}
