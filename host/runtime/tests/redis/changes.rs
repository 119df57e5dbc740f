//! The channel `changes`, other transports, and denials.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use compozy_runtime::bindings::compozy::host::redis::{Host, HostScript, RedisError};
use compozy_runtime::limits::Limit;
use compozy_runtime::redis::{RedisAccess, RedisClient, RedisSettings};
use redis_test_server::Server;
use tokio::sync::broadcast::Receiver;

use crate::support::{PLUGIN, client, client_with, invoke, limits, lines, ok, run, unavailable};

const PATIENCE: Duration = Duration::from_secs(30);

/// Publishes until a message comes, because nobody promises when listening begins.
async fn heard(client: &RedisClient, receiver: &mut Receiver<Arc<str>>, topic: &str) {
    let begun = Instant::now();
    loop {
        let _ = run(client, &format!("PUBLISH changes {topic}")).await;
        match tokio::time::timeout(Duration::from_millis(50), receiver.recv()).await {
            Ok(Ok(heard)) if &*heard == topic => return,
            _ => assert!(begun.elapsed() < PATIENCE, "`{topic}` was never heard"),
        }
    }
}

fn listeners(server: &Server) -> String {
    server.command(&["PUBSUB", "NUMSUB", "compozy:test:changes"]).rsplit(':').next().unwrap().trim().to_owned()
}

#[tokio::test]
async fn changes_are_heard_while_somebody_waits_also_after_a_restart() {
    let mut server = Server::start(&[]);
    let client = client(&server);
    assert_eq!(listeners(&server), "0", "nobody waits yet");
    let mut receiver = client.subscribe();
    heard(&client, &mut receiver, "events/a").await;
    let script = client.script("return redis.call('PUBLISH', KEYS[1], ARGV[1])".to_owned()).unwrap();
    assert_eq!(invoke(&client, &script, &["changes"], &["locks/b"]).await.unwrap(), "1");
    while &*receiver.recv().await.unwrap() != "locks/b" {}
    // A second one shares the connection; another plugin's changes are not heard.
    let second = client.subscribe();
    server.command(&["PUBLISH", "compozy:other:changes", "events/x"]);
    assert_eq!(listeners(&server), "1");
    server.restart();
    heard(&client, &mut receiver, "events/after").await;
    drop((receiver, second));
    let begun = Instant::now();
    while listeners(&server) != "0" {
        assert!(begun.elapsed() < PATIENCE, "the connection stays though nobody waits");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut again = client.subscribe();
    heard(&client, &mut again, "events/again").await;
}

#[tokio::test]
async fn a_unix_socket_does_as_well() {
    let server = Server::start(&[]);
    for scheme in ["unix", "redis+unix"] {
        let client = client_with(&format!("{scheme}://{}?db=2", server.socket().display()), &[]);
        ok(&client, "SET k v").await;
        assert_eq!(ok(&client, "GET k").await, "v");
    }
    let nowhere = client_with("unix:///nowhere/redis.sock", &[(Limit::RedisTimeoutMs, 100)]);
    let why = unavailable(run(&nowhere, "GET k").await);
    assert!(why.contains("/nowhere/redis.sock"), "{why}");
}

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").current_dir(folder).args(arguments.split(' ')).output();
    let output =
        output.expect("`openssl` is needed to make certificates: install it (Debian: `apt-get install openssl`)");
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn tls_needs_a_certificate_of_the_given_authority_for_the_given_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(path, &format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca"));
    openssl(path, &format!("req -x509 {key} -keyout other.key -out other.pem -days 2 -subj /CN=other-ca"));
    openssl(path, &format!("req {key} -keyout redis.key -out redis.csr -subj /CN=localhost"));
    std::fs::write(path.join("names"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n").unwrap();
    openssl(
        path,
        "x509 -req -in redis.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out redis.pem -days 2 -extfile names",
    );
    let (ca, other) = (path.join("ca.pem"), path.join("other.pem"));
    let tls = [
        "--tls-cert-file",
        "redis.pem",
        "--tls-key-file",
        "redis.key",
        "--tls-ca-cert-file",
        "ca.pem",
        "--tls-auth-clients",
        "no",
    ];
    let server = Server::start_tls(folder, &tls);
    let port = server.tls_port().unwrap();
    let with = |host: &str, ca: Option<&Path>| {
        let settings =
            RedisSettings { ca_file: ca.map(Path::to_owned), ..RedisSettings::new(format!("rediss://{host}:{port}")) };
        RedisClient::new(&settings, PLUGIN, limits(&[(Limit::RedisTimeoutMs, 1_000)])).unwrap()
    };
    let client = with("localhost", Some(&ca));
    ok(&client, "SET k v").await;
    assert_eq!(ok(&client, "GET k").await, "v");
    let mut receiver = client.subscribe();
    heard(&client, &mut receiver, "events/a").await;
    for (host, ca) in [("localhost", None), ("localhost", Some(&*other)), ("127.0.0.1", Some(&*ca))] {
        let why = unavailable(run(&with(host, ca), "GET k").await);
        assert!(why.contains("TLS") && why.contains("certificate"), "{host}: {why}");
    }
}

#[tokio::test]
async fn a_guest_without_the_grant_is_denied_and_one_with_it_has_a_limit_of_scripts() {
    let mut denied = RedisAccess::denied("grant it");
    let is_denied = |error: RedisError| matches!(error, RedisError::Denied(why) if why == "grant it");
    let atomicity = compozy_runtime::bindings::compozy::host::redis::Atomicity::Pipeline;
    assert!(is_denied(denied.run(lines(&["GET k"]), atomicity).await.unwrap().unwrap_err()));
    assert!(is_denied(denied.prepare(String::new()).unwrap().unwrap_err()));
    assert!(is_denied(denied.scan(String::new(), None, 1).await.unwrap().unwrap_err()));

    let server = Server::start(&[]);
    let mut access = RedisAccess::granted(client_with(&server.url(), &[(Limit::RedisScripts, 2)]));
    let first = access.prepare("return 1".to_owned()).unwrap().unwrap();
    access.prepare("return 2".to_owned()).unwrap().unwrap();
    match access.prepare("return 3".to_owned()).unwrap() {
        Err(RedisError::TooLarge(exceeded)) => {
            assert_eq!((exceeded.limit.as_str(), exceeded.used, exceeded.allowed), ("redis_scripts", 3, 2));
        }
        other => panic!("{other:?}"),
    }
    HostScript::drop(&mut access, first).unwrap();
    let third = access.prepare("return 3".to_owned()).unwrap().unwrap();
    let reply = access.invoke(third, 0, Vec::new(), Vec::new()).await.unwrap().unwrap();
    assert_eq!(crate::support::text(&reply), "3");
}
