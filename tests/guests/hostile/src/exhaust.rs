//! Using up what there is.

use std::hint::black_box;
use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use compozy_sdk::{Context, Json, TaskError, info, sql};
use serde_json::json;
use wasip2::clocks::monotonic_clock;
use wasip2::random::random;

use crate::Size;

pub(crate) fn infinite_loop(_: Json, _: &Context) -> Result<(), TaskError> {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

pub(crate) fn loop_in_host_call(_: Json, _: &Context) -> Result<(), TaskError> {
    loop {
        black_box(Instant::now());
    }
}

pub(crate) fn sleep_forever(_: Json, _: &Context) -> Result<(), TaskError> {
    thread::sleep(Duration::from_hours(24));
    Ok(())
}

pub(crate) fn grow_memory(_: Json, _: &Context) -> Result<(), TaskError> {
    let mut kept = Vec::new();
    loop {
        kept.push(black_box(vec![1_u8; 1024 * 1024]));
    }
}

pub(crate) fn allocate(size: Size, _: &Context) -> Result<Json, TaskError> {
    let mut bytes: Vec<u8> = Vec::new();
    let granted = bytes.try_reserve_exact(size.bytes).is_ok();
    black_box(&bytes);
    Ok(json!({ "granted": granted }))
}

pub(crate) fn deep_recursion(_: Json, _: &Context) -> Result<u64, TaskError> {
    // The end lies beyond any stack, but the compiler cannot know.
    Ok(depth(black_box(u64::MAX)))
}

fn depth(left: u64) -> u64 {
    if left == 0 { 0 } else { black_box(depth(black_box(left - 1))) + 1 }
}

pub(crate) fn log_flood(_: Json, _: &Context) -> Result<(), TaskError> {
    let line = "flood ".repeat(100);
    loop {
        info!("a flood", line = line);
    }
}

pub(crate) fn stdout_flood(_: Json, _: &Context) -> Result<(), TaskError> {
    let line = "flood ".repeat(100);
    loop {
        // Whether anybody listens does not matter to a flood.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}

pub(crate) fn huge_output(size: Size, _: &Context) -> Result<String, TaskError> {
    Ok("x".repeat(size.bytes))
}

pub(crate) fn huge_argument(size: Size, _: &Context) -> Result<(), TaskError> {
    let argument = "x".repeat(size.bytes);
    info!("{argument}");
    Ok(())
}

pub(crate) fn huge_random(size: Size, _: &Context) -> Result<usize, TaskError> {
    Ok(random::get_random_bytes(size.bytes as u64).len())
}

pub(crate) fn open_handles(_: Json, _: &Context) -> Result<(), TaskError> {
    let mut kept = Vec::new();
    loop {
        kept.push(monotonic_clock::subscribe_duration(u64::MAX));
    }
}

pub(crate) fn open_statements(_: Json, _: &Context) -> Result<(), TaskError> {
    let mut kept = Vec::new();
    loop {
        kept.push(sql::Statement::prepare("SELECT 1")?);
    }
}

pub(crate) fn sql_forever(_: Json, _: &Context) -> Result<i64, TaskError> {
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let count = sql::Statement::prepare(endless)?.query_row((), |row| row.get(0))?;
    Ok(count.unwrap_or_default())
}

pub(crate) fn sql_fill(_: Json, _: &Context) -> Result<(), TaskError> {
    sql::run_script("CREATE TABLE IF NOT EXISTS fill (blob)")?;
    let insert = sql::Statement::prepare("INSERT INTO fill VALUES (randomblob(1048576))")?;
    loop {
        insert.execute(())?;
    }
}

pub(crate) fn sql_leave_open(_: Json, _: &Context) -> Result<(), TaskError> {
    sql::run_script("CREATE TABLE IF NOT EXISTS left_open (n); BEGIN IMMEDIATE; INSERT INTO left_open VALUES (1)")?;
    Ok(())
}
