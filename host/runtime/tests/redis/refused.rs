//! The allow-list: what passes reaches the plugin's own keys only, the rest does not reach the server.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use compozy_runtime::bindings::compozy::host::redis::{Atomicity, Node, RedisError};
use compozy_runtime::redis::allowed_commands;
use redis_test_server::Server;

use crate::support::{PREFIX, client, client_with, commands, failed, invoke, lines, ok, refusal, run, text};

/// One use of each command, in an order in which each succeeds.
const SAMPLES: &str = "\
SET s abc
SET s abd EX 100 GET
GET s
APPEND s e
STRLEN s
GETRANGE s 0 1
SETRANGE s 0 z
GETEX s EX 100
BITCOUNT s
BITPOS s 1
GETBIT s 1
SETBIT s 1 1
GETSET s new
COPY s copy REPLACE
RENAME copy renamed
RENAMENX renamed renamed2
MGET s renamed2
EXISTS s renamed2
TOUCH s renamed2
TYPE s
EXPIRE s 100
PEXPIRE s 100000
EXPIREAT s 4000000000
PEXPIREAT s 4000000000000
EXPIRETIME s
PEXPIRETIME s
TTL s
PTTL s
PERSIST s
OBJECT ENCODING s
MEMORY USAGE s
GETDEL s
SETEX s 100 v
PSETEX s 100000 v
SETNX s v
MSET a 1 b 2
MSETNX c 1 d 2
INCR a
INCRBY a 2
INCRBYFLOAT a 0.5
DECR b
DECRBY b 2
HSET h f 1 g 2
HMSET h i 3
HSETNX h j 4
HGET h f
HMGET h f g
HGETALL h
HKEYS h
HVALS h
HLEN h
HEXISTS h f
HSTRLEN h f
HINCRBY h f 1
HINCRBYFLOAT h f 1.5
HRANDFIELD h 2
HSCAN h 0
HDEL h f
RPUSH l a b c d e f g
LPUSH l z
RPUSHX l y
LPUSHX l y
LRANGE l 0 -1
LINDEX l 0
LSET l 0 x
LPOS l x
LINSERT l BEFORE x w
LREM l 1 w
LLEN l
LPOP l
RPOP l
LMOVE l l2 LEFT RIGHT
RPOPLPUSH l l2
LMPOP 2 l l2 LEFT
LTRIM l 0 1
SADD set a b c d
SADD set2 b c
SCARD set
SISMEMBER set a
SMISMEMBER set a z
SMEMBERS set
SRANDMEMBER set 2
SSCAN set 0
SINTER set set2
SUNION set set2
SDIFF set set2
SINTERCARD 2 set set2
SINTERSTORE set3 set set2
SUNIONSTORE set3 set set2
SDIFFSTORE set3 set set2
SMOVE set set2 a
SREM set d
SPOP set
ZADD z 1 a 2 b 3 c 4 d 5 e 6 f
ZADD z2 1 a 2 b
ZINCRBY z 1 a
ZCARD z
ZCOUNT z 0 10
ZLEXCOUNT z - +
ZSCORE z a
ZMSCORE z a b
ZRANK z a
ZREVRANK z a
ZRANGE z 0 -1 WITHSCORES
ZRANGEBYSCORE z 0 10
ZRANGEBYLEX z - +
ZREVRANGE z 0 -1
ZREVRANGEBYSCORE z 10 0
ZREVRANGEBYLEX z + -
ZRANDMEMBER z 2
ZSCAN z 0
ZUNION 2 z z2
ZINTER 2 z z2
ZDIFF 2 z z2
ZINTERCARD 2 z z2
ZRANGESTORE z3 z 0 1
ZPOPMIN z
ZPOPMAX z
ZMPOP 2 z z2 MIN
ZREM z a
ZREMRANGEBYRANK z 0 0
ZREMRANGEBYSCORE z 0 1
ZREMRANGEBYLEX z [a [b
XADD x 1-1 f v
XADD x NOMKSTREAM MAXLEN = 100 2-1 f v
XLEN x
XRANGE x - +
XREVRANGE x + -
XREAD COUNT 1 STREAMS x x2 0 0
XINFO STREAM x
XSETID x 9-1
XTRIM x MAXLEN = 1
XDEL x 1-1
DEL c d
UNLINK a b
PUBLISH changes topic
PING
PING text
TIME
INFO server memory";

/// The line of the documentation, for the plugin of these tests.
const ACL: &str = "ACL SETUSER compozy-test reset on >secret ~compozy:test:* &compozy:test:changes +@read +@write +@connection \
                   -@dangerous -@blocking -@scripting -randomkey +xread +multi +exec +evalsha +script|load +publish +subscribe +time \
                   +info";

#[test]
fn the_documentation_has_this_acl() {
    let documented: String = include_str!("../../src/redis/mod.rs")
        .lines()
        .skip_while(|line| !line.contains("ACL SETUSER"))
        .take_while(|line| !line.contains("```"))
        .flat_map(|line| [line.trim_start_matches("//!").trim(), " "])
        .collect();
    let documented =
        documented.replace("<plugin>", "test").replace("<prefix>", "compozy").replace("<password>", "secret");
    assert_eq!(documented.trim(), ACL);
}

#[tokio::test]
async fn each_allowed_command_works_and_stays_under_the_prefix_as_the_servers_own_acl_sees_it() {
    let server = Server::start(&[]);
    let user = acl(&server).await;
    let mut seen = BTreeSet::new();
    for line in SAMPLES.lines() {
        seen.insert(line.split(' ').next().unwrap());
        let reply =
            user.run(&lines(&[line]), Atomicity::Pipeline).await.unwrap_or_else(|error| panic!("{line}: {error:?}"));
        assert!(!matches!(reply.nodes[0], Node::Failed(_)), "{line}: {}", text(&reply));
        assert!(!text(&reply).contains(PREFIX), "{line} shows the prefix: {}", text(&reply));
    }
    assert_eq!(seen, allowed_commands().collect(), "each command has a sample");
    let all = server.command(&["KEYS", "*"]);
    let keys = all.split("\r\n").filter(|line| !line.starts_with(['*', '$']) && !line.is_empty());
    for key in keys {
        assert!(key.starts_with(PREFIX), "{key}");
    }
    // And as one transaction.
    server.command(&["FLUSHALL"]);
    let all: Vec<&str> = SAMPLES.lines().collect();
    let reply = user.run(&lines(&all), Atomicity::Transaction).await.unwrap();
    assert!(!reply.nodes.iter().any(|node| matches!(node, Node::Failed(_))), "{}", text(&reply));
}

async fn acl(server: &Server) -> std::sync::Arc<compozy_runtime::redis::RedisClient> {
    let words: Vec<&str> = ACL.split(' ').collect();
    assert_eq!(server.command(&words), "+OK\r\n");
    let user = client_with(&server.url().replace("://", "://compozy-test:secret@"), &[]);
    assert_eq!(ok(&user, "PING").await, "PONG");
    user
}

#[tokio::test]
async fn the_acl_allows_scripts_and_walks_and_refuses_a_foreign_key_in_a_script() {
    let server = Server::start(&[]);
    let user = acl(&server).await;
    server.command(&["SET", "foreign", "secret of somebody else"]);
    let script = |source: &str| user.script(source.to_owned()).unwrap();
    let set = script("return redis.call('SET', KEYS[1], ARGV[1])");
    assert_eq!(invoke(&user, &set, &["k"], &["v"]).await.unwrap(), "OK");
    let publish = script("return redis.call('PUBLISH', KEYS[1], ARGV[1])");
    assert_eq!(invoke(&user, &publish, &["changes"], &["topic"]).await.unwrap(), "0");
    server.command(&["SCRIPT", "FLUSH"]);
    assert_eq!(invoke(&user, &set, &["k"], &["v"]).await.unwrap(), "OK");
    assert_eq!(user.scan("", None, 100).await.unwrap().keys, ["k"]);
    let mut changes = user.subscribe();
    let begun = Instant::now();
    while changes.try_recv().is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the user may not listen");
        invoke(&user, &publish, &["changes"], &["topic"]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    for (source, foreign) in [
        ("return redis.call('GET', ARGV[1])", "foreign"),
        ("return redis.call('SET', ARGV[1], 'x')", "foreign"),
        ("return redis.call('PUBLISH', ARGV[1], 'x')", "compozy:other:changes"),
        ("return redis.call('DEL', ARGV[1])", "compozy:test2:k"),
        ("return redis.call('FLUSHALL')", ""),
    ] {
        let answer = invoke(&user, &script(source), &["k"], &[foreign]).await;
        // Redis 7.0 says ERR, later ones NOPERM.
        match answer {
            Err(RedisError::Denied(why) | RedisError::Invalid(why))
                if why.contains("The user executing the script") => {}
            Err(RedisError::Denied(why)) if why.starts_with("NOPERM") => {}
            other => panic!("{source}: {other:?}"),
        }
    }
    assert_eq!(server.command(&["GET", "foreign"]), "$23\r\nsecret of somebody else\r\n");
    // Without an ACL, nothing but the plugin's good will keeps a script from it: that is what the ACL is for.
    let plain = client(&server);
    let open = plain.script("return redis.call('GET', ARGV[1])".to_owned()).unwrap();
    assert_eq!(invoke(&plain, &open, &[], &["foreign"]).await.unwrap(), "secret of somebody else");
}

#[tokio::test]
async fn what_the_acl_takes_away_is_denied() {
    let server = Server::start(&[]);
    let user = acl(&server).await;
    server.command(&["ACL", "SETUSER", "compozy-test", "-incr"]);
    assert!(matches!(failed(&user, "INCR n").await, RedisError::Denied(_)));
    let transaction = user.run(&lines(&["SET a 1", "INCR n"]), Atomicity::Transaction).await;
    match transaction {
        Err(RedisError::Denied(why)) => assert!(why.starts_with("command 1: NOPERM"), "{why}"),
        other => panic!("{other:?}"),
    }
    let large = user.run(&lines(&["GET a", "INCR n"]), Atomicity::Transaction).await;
    assert!(matches!(large, Err(RedisError::Denied(why)) if why.starts_with("command 1: NOPERM")));
    assert_eq!(ok(&user, "EXISTS a").await, "0");
}

#[tokio::test]
async fn every_other_command_is_refused_before_it_reaches_the_server() {
    let server = Server::start(&[]);
    let client = client(&server);
    ok(&client, "SET mine 1").await;
    server.command(&["SET", "foreign", "1"]);
    server.command(&["CONFIG", "RESETSTAT"]);
    // All commands that this server has.
    let list = server.command(&["COMMAND", "LIST"]);
    let all: BTreeSet<String> = list
        .split("\r\n")
        .filter(|line| !line.starts_with(['*', '$']) && !line.is_empty() && !line.contains('|'))
        .map(str::to_uppercase)
        .collect();
    assert!(all.len() > 150, "{list}");
    let allowed: BTreeSet<&str> = allowed_commands().collect();
    let refused: Vec<&String> = all.iter().filter(|name| !allowed.contains(name.as_str())).collect();
    assert!(refused.iter().any(|name| name.as_str() == "FLUSHALL"));
    for name in &refused {
        for arguments in
            [vec![name.as_str()], vec![name.as_str(), "mine"], vec![name.as_str(), "1", "mine", "0", "foreign"]]
        {
            let why = refusal(client.run(&commands(&[&arguments]), Atomicity::Pipeline).await);
            assert!(why.contains(name.as_str()) && why.contains("not offered"), "{why}");
        }
        let why =
            refusal(client.run(&commands(&[&["GET", "mine"][..], &[name.as_str()]]), Atomicity::Transaction).await);
        assert!(why.contains("command 1"), "{why}");
    }
    assert!(refused.len() > 80, "{refused:?}");
    for line in [
        "COPY mine other DB 1",
        "XREAD BLOCK 0 STREAMS mine 0",
        "PUBLISH other x",
        "PUBLISH compozy:test:changes x",
        "INFO keyspace",
        "INFO all",
        "OBJECT HELP",
        "MEMORY DOCTOR",
        "XINFO CONSUMERS mine g",
        "sort mine",
        "get\0 mine",
        "NOSUCHCOMMAND",
    ] {
        refusal(run(&client, line).await);
    }
    let calls = server.command(&["INFO", "commandstats"]);
    for line in calls.lines().filter_map(|line| line.strip_prefix("cmdstat_")) {
        // Ours from this test and the connection's own.
        let name = line.split(':').next().unwrap();
        assert!(["config|resetstat", "command|list", "info"].contains(&name), "{line}");
    }
}

#[tokio::test]
async fn info_tells_how_the_server_is_and_nothing_about_others() {
    let server = Server::start(&[]);
    let client = client(&server);
    let info = ok(&client, "INFO").await;
    for field in ["redis_version:", "used_memory:", "aof_enabled:", "role:", "loading:"] {
        assert!(info.contains(field), "{field}: {info}");
    }
    for field in ["config_file", "executable", "tcp_port", "run_id", "db0", "#"] {
        assert!(!info.contains(field), "{field}: {info}");
    }
}
