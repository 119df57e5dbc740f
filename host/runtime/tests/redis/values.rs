//! Commands, transactions, scripts and walks: what goes in comes out, under the plugin's own prefix.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use compozy_runtime::bindings::compozy::host::redis::{Atomicity, Commands, Node, RedisError};
use compozy_runtime::bindings::compozy::types::buffers::Span;
use compozy_runtime::limits::Limit;
use redis_test_server::Server;

use crate::support::{
    PREFIX, client, client_with, commands, failed, invoke, lines, ok, refusal, run, slice, text, unavailable,
};

const PIPELINE: Atomicity = Atomicity::Pipeline;
const TRANSACTION: Atomicity = Atomicity::Transaction;

#[tokio::test]
async fn keys_lie_under_the_plugins_prefix_and_come_back_without_it() {
    let server = Server::start(&[]);
    let client = client(&server);
    assert_eq!(ok(&client, "set k v").await, "OK");
    assert_eq!(server.command(&["GET", &format!("{PREFIX}k")]), "$1\r\nv\r\n");
    assert_eq!(server.command(&["EXISTS", "k"]), ":0\r\n");
    assert_eq!(ok(&client, "get k").await, "v");
    server.command(&["SET", "k", "of somebody else"]);
    assert_eq!(ok(&client, "mget k missing k").await, "(v nil v)");
    ok(&client, "XADD s 1-1 f v").await;
    assert_eq!(ok(&client, "XREAD STREAMS s 0").await, "((s ((1-1 (f v)))))");
    ok(&client, "RPUSH l a b").await;
    assert_eq!(ok(&client, "LMPOP 2 missing l LEFT").await, "(l (a))");
    assert_eq!(
        text(&client.run(&lines(&["ZADD z 1 m", "ZMPOP 1 z MIN"]), TRANSACTION).await.unwrap()),
        "1 (z ((m 1)))"
    );
}

#[tokio::test]
async fn binary_keys_and_values_pass() {
    let server = Server::start(&[]);
    let client = client(&server);
    let every: Vec<u8> = (0..=255).collect();
    let key = b"\0\r\n{}*\xff".as_slice();
    let reply = client.run(&commands(&[&[b"SET".as_slice(), key, &every], &[b"GET", key]]), PIPELINE).await.unwrap();
    let Node::Bytes(span) = reply.nodes[1] else { panic!("{reply:?}") };
    assert_eq!(slice(&reply.bytes, span), every);
    let empty = client.run(&commands(&[&["SET", "", ""], &["GET", ""]]), PIPELINE).await.unwrap();
    assert_eq!(text(&empty), "OK ");
}

#[tokio::test]
async fn one_command_that_fails_leaves_the_others() {
    let server = Server::start(&[]);
    let client = client(&server);
    ok(&client, "set text abc").await;
    for atomicity in [PIPELINE, TRANSACTION] {
        ok(&client, "del n").await;
        let reply = client.run(&lines(&["incr n", "incr text", "lpush text x", "incr n"]), atomicity).await.unwrap();
        assert!(matches!(
            reply.nodes.as_slice(),
            [
                Node::Integer(1),
                Node::Failed(RedisError::Invalid(_)),
                Node::Failed(RedisError::WrongType(_)),
                Node::Integer(2)
            ]
        ));
    }
    // The same with answers that can be large, which are sent in another way.
    for atomicity in [PIPELINE, TRANSACTION] {
        let reply = client.run(&lines(&["get n", "lrange text 0 1", "get text"]), atomicity).await.unwrap();
        assert!(matches!(&reply.nodes[1], Node::Failed(RedisError::WrongType(_))), "{reply:?}");
        assert_eq!(reply.bytes, b"2abc");
    }
}

#[tokio::test]
async fn a_transaction_that_cannot_be_queued_does_nothing() {
    let server = Server::start(&[]);
    let client = client(&server);
    let result = client.run(&lines(&["set a 1", "set b", "set c 1"]), TRANSACTION).await;
    assert!(refusal(result).contains("command 1"), "the culprit is named");
    assert_eq!(ok(&client, "exists a b c").await, "0");
}

#[tokio::test]
async fn a_pipeline_keeps_its_order() {
    let server = Server::start(&[]);
    let client = client(&server);
    let mut all = Vec::new();
    for number in 0..500 {
        all.push(format!("rpush l {number}"));
        all.push("lrange l -1 -1".to_owned());
    }
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let reply = client.run(&lines(&all), PIPELINE).await.unwrap();
    let expected: Vec<String> = (0..500).map(|number| format!("{} ({number})", number + 1)).collect();
    assert_eq!(text(&reply), expected.join(" "));
}

#[tokio::test]
async fn commands_are_checked_before_anything_is_sent() {
    let server = Server::start(&[]);
    let client = client(&server);
    let span = |offset, length| Span { offset, length };
    let flat = |counts: &[u32], arguments: &[Span], bytes: &str| Commands {
        counts: counts.to_vec(),
        arguments: arguments.to_vec(),
        bytes: bytes.as_bytes().to_vec(),
    };
    for (commands, words) in [
        (flat(&[], &[], ""), "1 to 1000"),
        (flat(&[1; 1001], &[span(0, 4); 1001], "TIME"), "1001 commands"),
        (flat(&[0], &[], ""), "needs a name"),
        (flat(&[2], &[span(0, 4)], "TIME"), "adds up to 2"),
        (flat(&[1], &[span(0, 5)], "TIME"), "0..5"),
        (flat(&[1], &[span(u32::MAX, 4)], "TIME"), "reaches past"),
        (flat(&[1, 1], &[span(0, 4), span(0, 3)], "TIME"), "command 1"),
    ] {
        let why = refusal(client.run(&commands, PIPELINE).await);
        assert!(why.contains(words), "{why}");
    }
    // Spans may name the same bytes again and again, but not more than a call may carry.
    let limit = client.limits().get(Limit::HostcallBytes);
    let many = flat(&[1 + 40], &[&[span(0, 3)][..], &[span(0, 1 << 20); 40]].concat(), &"DEL".repeat(1 << 20));
    match client.run(&many, PIPELINE).await {
        Err(RedisError::TooLarge(exceeded)) => {
            assert_eq!((exceeded.limit.as_str(), exceeded.allowed), ("hostcall_bytes", limit));
            assert!(exceeded.used > 40 << 20);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn scripts_run_on_prefixed_keys_and_survive_a_flush_and_a_restart() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let client = client(&server);
    let script = client
        .script("redis.call('SET', KEYS[1], ARGV[1]) return {KEYS[1], redis.call('GET', KEYS[1]), 7, false}".to_owned())
        .unwrap();
    let expected = format!("({PREFIX}k v 7 nil)");
    assert_eq!(invoke(&client, &script, &["k"], &["v"]).await.unwrap(), expected);
    server.command(&["SCRIPT", "FLUSH"]);
    assert_eq!(invoke(&client, &script, &["k"], &["v"]).await.unwrap(), expected);
    server.restart();
    // The first call may still find the connection of the old one.
    let mut answer = invoke(&client, &script, &["k"], &["v"]).await;
    if matches!(answer, Err(RedisError::Unavailable(_))) {
        answer = invoke(&client, &script, &["k"], &["v"]).await;
    }
    assert_eq!(answer.unwrap(), expected);
    // Loaded once, then called by its hash.
    invoke(&client, &script, &["k"], &["v"]).await.unwrap();
    let calls = server.command(&["INFO", "commandstats"]);
    assert!(calls.contains("cmdstat_script|load:calls=1,"), "{calls}");
    assert!(calls.contains("cmdstat_evalsha:calls=3,"), "{calls}");
}

#[tokio::test]
async fn scripts_fail_with_a_type() {
    let server = Server::start(&[]);
    let client = client(&server);
    ok(&client, "rpush list x").await;
    let script = |source: &str| client.script(source.to_owned()).unwrap();
    let wrong = invoke(&client, &script("return redis.call('GET', KEYS[1])"), &["list"], &[]).await;
    assert!(matches!(wrong, Err(RedisError::WrongType(_))), "{wrong:?}");
    let broken = refusal(invoke(&client, &script("return +"), &[], &[]).await);
    assert!(broken.contains("compiling"), "{broken}");
    let own = refusal(invoke(&client, &script("return redis.error_reply('MINE something')"), &[], &[]).await);
    assert!(own.starts_with("MINE something"), "{own}");
    let many = client.invoke(&script("return 1"), 1, &[], &[]).await;
    assert!(refusal(many).contains("1 keys were declared"));
    match client.script("x".repeat(64 * 1024 + 1)) {
        Err(RedisError::TooLarge(exceeded)) => {
            assert_eq!(
                (exceeded.limit.as_str(), exceeded.used, exceeded.allowed),
                ("redis_script_bytes", 65_537, 65_536)
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_walk_finds_each_key_of_the_plugin_and_no_other() {
    let server = Server::start(&[]);
    let client = client(&server);
    let special = ["a*b", "a?b", "a[x]b", "a\\b", "a^b", "aéb", "a\nb", "a b"];
    for key in special.iter().chain(&["axb", "axyb", "other"]) {
        client.run(&commands(&[&["SET", key, "1"]]), PIPELINE).await.unwrap();
    }
    for number in 0..500 {
        ok(&client, &format!("set many:{number} x")).await;
        server.command(&["SET", &format!("compozy:tes:many:{number}"), "x"]);
        server.command(&["SET", &format!("compozy:test2:many:{number}"), "x"]);
    }
    let walk = async |prefix: &str, max: u32| {
        let (mut keys, mut cursor) = (BTreeSet::new(), None);
        loop {
            let page = client.scan(prefix, cursor.as_deref(), max).await.unwrap();
            keys.extend(page.keys);
            cursor = page.next;
            if cursor.is_none() {
                return keys;
            }
        }
    };
    for key in special {
        assert_eq!(walk(key, 1000).await, BTreeSet::from([key.to_owned()]));
    }
    assert_eq!(walk("a", 7).await.len(), special.len() + 2);
    assert_eq!(walk("many:", 10).await.len(), 500);
    assert_eq!(walk("", 1000).await.len(), 500 + special.len() + 3);
    assert!(walk("missing", 1000).await.is_empty());
    for (cursor, max, words) in [(None, 0, "`max` is 0"), (None, 1001, "1 to 1000"), (Some("x"), 1, "cursor")] {
        let why = refusal(client.scan("", cursor, max).await);
        assert!(why.contains(words), "{why}");
    }
}

#[tokio::test]
async fn a_value_of_16_mib_goes_in_and_out() {
    let server = Server::start(&[]);
    let client = client_with(&server.url(), &[(Limit::RedisTimeoutMs, 60_000)]);
    let value = vec![b'x'; 16 << 20];
    let big = commands(&[&[b"SET".as_slice(), b"k", &value]]);
    client.run(&big, PIPELINE).await.unwrap();
    let reply = client.run(&lines(&["get k"]), PIPELINE).await.unwrap();
    assert_eq!(reply.bytes, value);
}

#[tokio::test]
async fn an_answer_over_the_limit_is_refused_whoever_else_is_calling() {
    let server = Server::start(&[]);
    let client = client_with(&server.url(), &[(Limit::HostcallBytes, 100_000)]);
    let value = "x".repeat(60_000);
    for key in ["a", "b"] {
        client.run(&commands(&[&["SET", key, &value]]), PIPELINE).await.unwrap();
    }
    ok(&client, "setrange large 200000 x").await;
    let too_large = |result: Result<_, RedisError>| match result {
        Err(RedisError::TooLarge(exceeded)) => {
            assert_eq!((exceeded.limit.as_str(), exceeded.allowed), ("hostcall_bytes", 100_000));
        }
        other => panic!("{other:?}"),
    };
    for atomicity in [PIPELINE, TRANSACTION] {
        for commands in [&["get large"][..], &["get a", "get b"], &["time", "get large", "time"], &["mget a b"]] {
            too_large(client.run(&lines(commands), atomicity).await.map(|reply| text(&reply).len()));
            assert_eq!(ok(&client, "strlen a").await, "60000");
        }
    }
    let script = client.script("return redis.call('GET', KEYS[1])".to_owned()).unwrap();
    too_large(invoke(&client, &script, &["large"], &[]).await.map(|text| text.len()));
    assert_eq!(ok(&client, "strlen a").await, "60000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_share_few_connections() {
    let server = Server::start(&[]);
    let client = client(&server);
    let callers = (0..64).map(|caller| {
        let client = client.clone();
        tokio::spawn(async move {
            for round in 0..100 {
                let key = format!("k{caller}");
                assert_eq!(ok(&client, &format!("set {key} {round}")).await, "OK");
                assert_eq!(ok(&client, &format!("get {key}")).await, round.to_string());
                ok(&client, "incr all").await;
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    assert_eq!(ok(&client, "get all").await, "6400");
    let names = server.command(&["CLIENT", "LIST"]);
    let ours = names.matches("name=compozy:test").count();
    assert!((1..=3).contains(&ours), "{ours} connections: {names}");
}

#[tokio::test]
async fn a_call_ends_at_its_timeout_and_others_go_on() {
    let server = Server::start(&["--enable-debug-command", "yes"]);
    let client = client_with(&server.url(), &[(Limit::RedisTimeoutMs, 200)]);
    ok(&client, "set k v").await;
    let script = client.script("local n = 0 while n < 2e9 do n = n + 1 end".to_owned()).unwrap();
    let begun = Instant::now();
    let why = unavailable(invoke(&client, &script, &[], &[]).await);
    assert!(why.contains("200 ms (`redis_timeout_ms`)") && why.contains("127.0.0.1:"), "{why}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    server.command(&["SCRIPT", "KILL"]);
    let begun = Instant::now();
    while run(&client, "get k").await.ok().as_deref() != Some("v") {
        assert!(begun.elapsed() < Duration::from_secs(30), "it never recovered");
    }
    let _ = failed(&client, "incr k").await;
}
