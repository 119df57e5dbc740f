//! A host that is killed: what it acknowledged is there, and nothing is there in part.
//!
//! The test starts its own program again, which works on all roles and writes a line after each acknowledged operation. It is killed
//! in the middle of that, then the folder is opened here.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use compozy_runtime::stores::{Attempt, Condition, Message, Messages, Namespace, Span, Stores};
use compozy_runtime::{Runtime, SystemClock};

use super::runtime;

/// Set for the program that is killed: the folder that it works on.
const FOLDER: &str = "COMPOZY_CONFORMANCE_KILLED";
/// After so many acknowledged rounds the program is killed, each time.
const ROUNDS: [u64; 3] = [1, 25, 150];
/// Events and messages of each round, written in one call.
const BATCH: usize = 3;

fn folders(folder: &str) -> (PathBuf, PathBuf) {
    let folder = PathBuf::from(folder);
    (folder.join("data"), folder.join("code"))
}

async fn open(folder: &str) -> Arc<Runtime> {
    let (data, code) = folders(folder);
    std::fs::create_dir_all(&code).unwrap();
    runtime(&data, &code, Arc::new(SystemClock)).await.unwrap()
}

/// One round of writes in every role; what a round wrote can be told from its number.
async fn round(stores: &Stores, number: u64) {
    let text = number.to_string();
    let cache = stores.cache.as_ref().unwrap();
    cache.set(&format!("k{number}"), text.as_bytes(), None, Condition::Always).await.unwrap().unwrap();
    assert_eq!(cache.increment("rounds", 1, None).await.unwrap().cast_unsigned(), number);
    let spans = [Span { offset: 0, length: text.len() as u32 }; BATCH];
    let last = stores.events.as_ref().unwrap().append_many("s", &spans, text.as_bytes()).await.unwrap();
    assert_eq!(last, number * BATCH as u64);
    let list = spans.map(|span| Message { span, tokens: 2 }).to_vec();
    let messages = Messages { list, bytes: text.as_bytes().to_vec() };
    stores.memory.as_ref().unwrap().append("m", &messages, None, None).await.unwrap();
    let config = stores.config.as_ref().unwrap();
    config.save(Namespace::Config, "latest", text.as_bytes(), None).await.unwrap();
    let locks = stores.locks.as_ref().unwrap();
    let day = std::time::Duration::from_hours(24);
    let Attempt::Acquired(lease) = locks.acquire("l", day, &text).await.unwrap() else { panic!("held") };
    println!("done {number} {}", lease.token);
    std::io::stdout().flush().unwrap();
    assert!(locks.release("l", lease.token).await.unwrap());
}

/// The program that is killed. Does nothing when the test calls it by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn program_that_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let runtime = open(&folder).await;
    let stores = Stores::clone(runtime.stores());
    let before = stores.cache.as_ref().unwrap().get("rounds").await.unwrap();
    let before = before.map_or(0, |entry| String::from_utf8(entry.value).unwrap().parse().unwrap());
    settle(&stores, before).await;
    for number in before + 1.. {
        round(&stores, number).await;
    }
}

/// Brings all roles to the same round: the last one may have been broken off between two of them.
async fn settle(stores: &Stores, rounds: u64) {
    let events = stores.events.as_ref().unwrap();
    let memory = stores.memory.as_ref().unwrap();
    let payload = [Span { offset: 0, length: 1 }; BATCH];
    if events.state("s").await.unwrap().last < rounds * BATCH as u64 {
        events.append_many("s", &payload, b"x").await.unwrap();
    }
    if memory.count("m").await.unwrap().messages < rounds * BATCH as u64 {
        let list = payload.map(|span| Message { span, tokens: 2 }).to_vec();
        memory.append("m", &Messages { list, bytes: b"x".to_vec() }, None, None).await.unwrap();
    }
    let locks = stores.locks.as_ref().unwrap();
    if let Some(held) = locks.inspect("l").await.unwrap() {
        assert!(locks.release("l", held.lease.token).await.unwrap());
    }
}

/// Runs the program until it has acknowledged so many more rounds, and kills it; answers the last round and token that it told.
fn run_and_kill(folder: &str, rounds: u64) -> (u64, u64) {
    let name = "killed::program_that_is_killed";
    let mut program = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = (0, 0);
    let mut count = 0;
    for line in BufReader::new(program.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        // The harness writes the test's name before the first line.
        let Some((_, numbers)) = line.split_once("done ") else { continue };
        let (number, token) = numbers.split_once(' ').unwrap();
        told = (number.parse().unwrap(), token.parse().unwrap());
        count += 1;
        if count == rounds {
            // SIGKILL, while the next round goes on.
            program.kill().unwrap();
        }
    }
    program.wait().unwrap();
    assert!(count >= rounds, "the program ended by itself after {count} rounds");
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    for rounds in ROUNDS {
        let (last, token) = run_and_kill(folder, rounds);
        let runtime = open(folder).await;
        check(runtime.stores(), last, token).await;
    }
}

async fn check(stores: &Stores, last: u64, token: u64) {
    let cache = stores.cache.as_ref().unwrap();
    for number in 1..=last {
        let value = cache.get(&format!("k{number}")).await.unwrap().unwrap().value;
        assert_eq!(value, number.to_string().as_bytes(), "round {number} of {last}");
    }
    let rounds = cache.get("rounds").await.unwrap().unwrap().value;
    let rounds: u64 = String::from_utf8(rounds).unwrap().parse().unwrap();
    // The round after the last one may have begun.
    assert!((last..=last + 1).contains(&rounds), "{rounds} rounds, {last} acknowledged");

    let state = stores.events.as_ref().unwrap().state("s").await.unwrap();
    assert_eq!((state.length, state.first), (state.last, Some(1)), "no gap");
    assert!(state.last >= last * BATCH as u64 && state.last.is_multiple_of(BATCH as u64), "whole batches: {state:?}");

    let memory = stores.memory.as_ref().unwrap();
    let counts = memory.count("m").await.unwrap();
    assert!(counts.messages >= last * BATCH as u64 && counts.messages.is_multiple_of(BATCH as u64), "{counts:?}");
    assert_eq!(counts.tokens, counts.messages * 2, "counts are exact");
    assert_eq!(memory.page("m", 0, 1).await.unwrap().total, counts.messages);

    let config = stores.config.as_ref().unwrap().peek(Namespace::Config, "latest").await.unwrap().unwrap();
    let config: u64 = String::from_utf8(config).unwrap().parse().unwrap();
    assert!((last..=last + 1).contains(&config), "{config}, {last} acknowledged");

    let locks = stores.locks.as_ref().unwrap();
    if let Some(held) = locks.inspect("l").await.unwrap() {
        assert!(held.lease.token >= token, "{held:?}");
        assert!(locks.release("l", held.lease.token).await.unwrap());
    }
    let attempt = locks.acquire("l", std::time::Duration::from_mins(1), "").await.unwrap();
    let Attempt::Acquired(lease) = attempt else { panic!("{attempt:?}") };
    assert!(lease.token > token, "{} after {token}", lease.token);
    assert!(locks.release("l", lease.token).await.unwrap());
}
