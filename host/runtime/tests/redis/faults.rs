//! Servers that die, stop, refuse or are full: typed errors within the timeout, and recovery by itself.

use std::time::{Duration, Instant};

use compozy_runtime::bindings::compozy::host::redis::{Atomicity, RedisError};
use compozy_runtime::limits::Limit;
use compozy_runtime::redis::{RedisClient, RedisSettings};
use redis_test_server::Server;

use crate::relay::Relay;
use crate::support::{PLUGIN, client, client_with, commands, failed, invoke, limits, lines, ok, run, unavailable};

const PATIENCE: Duration = Duration::from_secs(30);

/// Asks until the answer is this; each call must end in time.
async fn until(client: &RedisClient, line: &str, expected: &str) {
    let begun = Instant::now();
    loop {
        let call = Instant::now();
        let answer = run(client, line).await;
        assert!(call.elapsed() < Duration::from_secs(10), "{line} took {:?}", call.elapsed());
        match answer {
            Ok(answer) if answer == expected => return,
            Ok(answer) => assert!(answer.starts_with('!'), "{line}: {answer}"),
            Err(RedisError::Unavailable(_) | RedisError::Busy(_)) => {}
            Err(other) => panic!("{line}: {other:?}"),
        }
        assert!(begun.elapsed() < PATIENCE, "{line} never answered {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_client_is_made_while_the_server_is_down_and_works_when_it_comes() {
    let mut server = Server::start(&[]);
    server.kill();
    let client = client_with(&server.url(), &[(Limit::RedisTimeoutMs, 300)]);
    let begun = Instant::now();
    let why = unavailable(run(&client, "GET k").await);
    assert!(begun.elapsed() >= Duration::from_millis(290) && begun.elapsed() < Duration::from_secs(5));
    for words in [&format!("127.0.0.1:{}", server.port()), "300 ms (`redis_timeout_ms`)", "refused", "tried"] {
        assert!(why.contains(words), "{why}");
    }
    server.restart();
    until(&client, "GET k", "nil").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_that_comes_back_is_used_again_and_nothing_acknowledged_is_lost() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let client = client(&server);
    let acknowledged = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (client, acknowledged) = (client.clone(), acknowledged.clone());
            tokio::spawn(async move {
                for number in 0.. {
                    let key = format!("{writer}-{number}");
                    match run(&client, &format!("SET {key} v")).await {
                        Ok(_) => acknowledged.lock().unwrap().push(key),
                        Err(RedisError::Unavailable(_)) => return,
                        Err(other) => panic!("{other:?}"),
                    }
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.kill();
    for writer in writers {
        tokio::time::timeout(Duration::from_secs(10), writer).await.expect("no call hangs").unwrap();
    }
    server.restart();
    until(&client, "PING", "PONG").await;
    let keys = std::mem::take(&mut *acknowledged.lock().unwrap());
    assert!(keys.len() > 10, "only {} writes", keys.len());
    for key in keys {
        assert_eq!(ok(&client, &format!("EXISTS {key}")).await, "1", "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_ends_calls_in_time_and_works_when_it_goes_on() {
    let mut server = Server::start(&[]);
    let client = client_with(&server.url(), &[(Limit::RedisTimeoutMs, 500)]);
    ok(&client, "SET k v").await;
    server.pause();
    let begun = Instant::now();
    let calls: Vec<_> = (0..32)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { unavailable(run(&client, "GET k").await) })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // Now without a connection that answers.
    let why = unavailable(run(&client, "GET k").await);
    assert!(why.contains("500 ms"), "{why}");
    server.resume();
    until(&client, "GET k", "v").await;
    // Nothing of what was given up comes as the answer of another call.
    for number in 0..50 {
        ok(&client, &format!("SET n {number}")).await;
        assert_eq!(ok(&client, "GET n").await, number.to_string());
    }
}

#[tokio::test]
async fn database_and_password_are_given_again_after_a_reconnect() {
    let mut server = Server::start(&["--requirepass", "sekret"]);
    let mut settings = RedisSettings::new(server.url());
    (settings.password, settings.database) = (Some("sekret".into()), Some(3));
    let client = RedisClient::new(&settings, PLUGIN, limits(&[])).unwrap();
    for _ in 0..2 {
        until(&client, "SET k v", "OK").await;
        let keyspace = client.script("return redis.call('INFO', 'keyspace')".to_owned()).unwrap();
        let keyspace = invoke(&client, &keyspace, &[], &[]).await.unwrap();
        assert!(keyspace.contains("db3:keys=1") && !keyspace.contains("db0"), "{keyspace}");
        let list = client.script("return redis.call('CLIENT', 'LIST')".to_owned()).unwrap();
        let list = invoke(&client, &list, &[], &[]).await;
        if let Ok(list) = list {
            assert!(list.contains("name=compozy:test "), "{list}");
        }
        server.restart();
    }
}

#[tokio::test]
async fn wrong_and_missing_passwords_are_unavailable_and_never_shown() {
    let server = Server::start(&["--requirepass", "sekret"]);
    let none = client_with(&server.url(), &[(Limit::RedisTimeoutMs, 300)]);
    assert!(matches!(failed(&none, "GET k").await, RedisError::Unavailable(why) if why.starts_with("NOAUTH")));
    let url = server.url().replace("://", "://:wr0ng@");
    let wrong = client_with(&url, &[(Limit::RedisTimeoutMs, 300)]);
    let why = unavailable(run(&wrong, "GET k").await);
    assert!(why.contains("refuses the user or the password") && !why.contains("wr0ng"), "{why}");
}

#[tokio::test]
async fn a_full_server_is_unavailable_and_still_reads() {
    let server = Server::start(&[]);
    let client = client(&server);
    ok(&client, "SET k v").await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let oom = |error: RedisError| matches!(error, RedisError::Unavailable(why) if why.contains("OOM"));
    assert!(oom(failed(&client, "SET k w").await));
    assert!(oom(client.run(&lines(&["SET a 1", "SET b 1"]), Atomicity::Transaction).await.unwrap_err()));
    let script = client.script("return redis.call('SET', KEYS[1], 'w')".to_owned()).unwrap();
    assert!(oom(invoke(&client, &script, &["k"], &[]).await.unwrap_err()));
    assert_eq!(ok(&client, "GET k").await, "v");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(ok(&client, "SET k w").await, "OK");
}

#[tokio::test]
async fn a_read_only_replica_and_a_lonely_master_are_unavailable() {
    let server = Server::start(&[]);
    let client = client(&server);
    ok(&client, "SET k v").await;
    server.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    assert!(matches!(failed(&client, "SET k w").await, RedisError::Unavailable(why) if why.starts_with("NOREPLICAS")));
    server.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    // A replica of nobody who answers.
    server.command(&["CONFIG", "SET", "replica-serve-stale-data", "no"]);
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    assert!(matches!(failed(&client, "GET k").await, RedisError::Busy(why) if why.starts_with("MASTERDOWN")));
    server.command(&["CONFIG", "SET", "replica-serve-stale-data", "yes"]);
    assert!(matches!(failed(&client, "SET k w").await, RedisError::Unavailable(why) if why.starts_with("READONLY")));
    server.command(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(ok(&client, "SET k w").await, "OK");
}

#[tokio::test]
async fn a_busy_and_a_loading_server_are_busy() {
    let mut server = Server::start(&["--busy-reply-threshold", "50", "--appendonly", "yes", "--key-load-delay", "150"]);
    let client = client_with(&server.url(), &[(Limit::RedisTimeoutMs, 1_000)]);
    ok(&client, "SET k v").await;
    let endless = client.script("while true do end".to_owned()).unwrap();
    let (ended, ()) = tokio::join!(invoke(&client, &endless, &[], &[]), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        // On a connection of its own, because answers of one connection come in order.
        let other = client_with(&server.url(), &[]);
        let error = failed(&other, "GET k").await;
        assert!(matches!(&error, RedisError::Busy(why) if why.starts_with("BUSY")), "{error:?}");
        server.command(&["SCRIPT", "KILL"]);
    });
    assert!(matches!(ended, Err(RedisError::Invalid(_) | RedisError::Unavailable(_))), "{ended:?}");
    // The server looks up from loading every 1,024 commands.
    for part in 0..20 {
        let values: Vec<String> = (0..1_000).map(|number| format!("SET k{part}-{number} v")).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        client.run(&lines(&values), Atomicity::Pipeline).await.unwrap();
    }
    server.restart_without_waiting();
    let begun = Instant::now();
    loop {
        if let Ok(reply) = client.run(&lines(&["GET k1-1"]), Atomicity::Pipeline).await
            && let Some(compozy_runtime::bindings::compozy::host::redis::Node::Failed(error)) = reply.nodes.first()
        {
            assert!(matches!(error, RedisError::Busy(why) if why.starts_with("LOADING")), "{error:?}");
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "the server was never seen loading: {}", server.log());
    }
    until(&client, "GET k1-1", "v").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_large_value_does_not_hold_up_all_others() {
    let server = Server::start(&[]);
    let direct = client(&server);
    let large = vec![b'x'; 16 << 20];
    direct.run(&commands(&[&[b"SET".as_slice(), b"large", &large]]), Atomicity::Pipeline).await.unwrap();
    ok(&direct, "SET small v").await;
    // The large answer stays under way, however quick the machine is.
    let mut relay = Relay::start(server.port(), 1 << 20).await;
    let client = client_with(&relay.url(), &[(Limit::RedisTimeoutMs, 300_000)]);
    let getter = {
        let client = client.clone();
        tokio::spawn(async move { client.run(&lines(&["GET large"]), Atomicity::Pipeline).await.unwrap().bytes.len() })
    };
    relay.stopped().await;
    let (mut answered, mut tries) = (0, 0);
    while answered < 10 {
        tries += 1;
        assert!(tries <= 20, "only {answered} small answers in {tries} tries while a large one was under way");
        // A first one may set out before the client has seen what comes. It waits behind the large one, and is given up.
        if let Ok(answer) = tokio::time::timeout(Duration::from_secs(2), ok(&client, "GET small")).await {
            assert_eq!(answer, "v");
            answered += 1;
        }
    }
    assert!(!getter.is_finished());
    relay.go_on();
    assert_eq!(getter.await.unwrap(), 16 << 20);
}
