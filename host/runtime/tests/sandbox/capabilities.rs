//! A plugin touches what it requested and was granted, and nothing else.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use compozy_runtime::capabilities::{Access, FolderGrant, Origin, StoreKind};
use compozy_runtime::{Grants, Runtime};
use serde_json::{Value, json};

use crate::support::{Sandbox, call, guest, sqlite};

fn manifest(name: &str, capabilities: &str) -> String {
    format!("name = \"{name}\"\nversion = \"0.1.0\"\n[capabilities]\n{capabilities}\n")
}

async fn hostile(capabilities: &str, grants: Grants) -> (tempfile::TempDir, Arc<Runtime>) {
    let manifest = manifest("hostile", capabilities);
    Sandbox::new().with(&manifest, guest("hostile")).policy("hostile", grants, &[]).open().await
}

async fn answer(runtime: &Runtime, action: &str, input: Value) -> Value {
    call(runtime, "hostile", action, input).await.expect(action).output
}

/// All attempts of an answer that got through. Making a link is allowed; following it out of the folder is not.
fn allowed(place: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) if text.starts_with("ALLOWED") && !place.ends_with("/link") => {
            found.push(format!("{place}: {text}"));
        }
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| allowed(&format!("{place}/{name}"), value, found));
        }
        _ => {}
    }
}

#[track_caller]
fn assert_all_refused(value: &Value) {
    let mut found = Vec::new();
    allowed("", value, &mut found);
    assert!(found.is_empty(), "{found:#?}");
    assert!(value.to_string().contains("refused"), "nothing was tried: {value}");
}

fn folder(host: &Path, access: Access) -> Grants {
    let grant = FolderGrant { host: host.to_owned(), access };
    Grants { folders: BTreeMap::from([("/data".to_owned(), grant)]), ..Grants::default() }
}

const DATA: &str = "folders = [{ guest = \"/data\", access = \"read-write\" }]";

#[tokio::test]
async fn nothing_outside_of_a_granted_folder_is_reached() {
    let outside = tempfile::tempdir().unwrap();
    let inside = outside.path().join("inside");
    std::fs::create_dir(&inside).unwrap();
    std::fs::write(inside.join("file"), "12345").unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink("../secret", inside.join("to-secret")).unwrap();
    let (_folder, runtime) = hostile(DATA, folder(&inside, Access::ReadWrite)).await;
    let paths = json!({ "paths": ["/data/../secret", "/data/to-secret/.", "/data/a/../../secret"] });
    assert_all_refused(&answer(&runtime, "path_escape", paths).await);
    let linked = answer(&runtime, "path_escape", json!({ "paths": ["/data/to-secret"] })).await;
    assert!(linked["/data/to-secret"]["read"].as_str().unwrap().starts_with("refused"), "{linked}");
    let own = answer(&runtime, "path_escape", json!({ "paths": ["/data/file"] })).await;
    assert_eq!(own["/data/file"]["read"], "ALLOWED: read 5 bytes");
    assert_eq!(own["/data/file"]["write"], "ALLOWED: written");
    assert!(inside.join("file.escaped").exists());
    assert!(!outside.path().join("secret.escaped").exists());
}

#[tokio::test]
async fn a_folder_that_was_granted_for_reading_is_not_written() {
    let inside = tempfile::tempdir().unwrap();
    std::fs::write(inside.path().join("file"), "12345").unwrap();
    let (_folder, runtime) = hostile(DATA, folder(inside.path(), Access::Read)).await;
    let own = answer(&runtime, "path_escape", json!({ "paths": ["/data/file"] })).await;
    assert_eq!(own["/data/file"]["read"], "ALLOWED: read 5 bytes");
    assert!(own["/data/file"]["write"].as_str().unwrap().starts_with("refused"), "{own}");
    assert_eq!(std::fs::read_dir(inside.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn without_a_grant_there_is_no_folder_no_environment_no_network_and_no_sql() {
    let all = format!("{DATA}\nsql = true\nenv = [\"GREETING\"]\nhttp = [\"http://127.0.0.1:1\"]");
    let (_folder, runtime) = hostile(&all, Grants::default()).await;
    assert_all_refused(&answer(&runtime, "path_escape", json!({ "paths": ["/data", "/data/x"] })).await);
    assert_all_refused(&answer(&runtime, "sql", json!({ "statements": ["SELECT 1"] })).await);
    let environment = answer(&runtime, "read_env", json!({})).await;
    assert_eq!((&environment["variables"], &environment["arguments"]), (&json!({}), &json!([])));
    let status = &runtime.plugins()[0];
    assert!(status.granted.is_empty());
    assert_eq!(status.denied, ["sql", "env GREETING", "http http://127.0.0.1:1", "folder /data (read-write)"]);
}

#[tokio::test]
async fn the_environment_is_what_was_requested_and_granted() {
    let env = [("GREETING", "hello"), ("SECRET", "s")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let grants = Grants { env: env.into(), ..Grants::default() };
    let (_folder, runtime) = hostile("env = [\"GREETING\", \"PATH\"]", grants).await;
    let environment = answer(&runtime, "read_env", json!({})).await;
    assert_eq!(environment["variables"], json!({ "GREETING": "hello" }));
}

#[tokio::test]
async fn sql_stays_in_its_file_and_keeps_its_settings() {
    let (_folder, runtime) = hostile("sql = true", Grants { sql: true, ..Grants::default() }).await;
    for action in ["sql_attach", "sql_pragma"] {
        let outcomes = answer(&runtime, action, json!({})).await;
        assert_all_refused(&outcomes);
    }
    let fine = answer(&runtime, "sql", json!({ "statements": ["SELECT 1"] })).await;
    assert_eq!(fine["SELECT 1"]["prepared"], "ALLOWED: 1 rows");
}

/// An HTTP server that counts its connections. `/away` leads to the address in `away`.
fn server(away: Option<SocketAddr>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                request.push(byte[0]);
            }
            let head = match away {
                Some(away) if request.starts_with(b"GET /away") => format!("302 Found\r\nlocation: http://{away}/"),
                _ => "200 OK".to_owned(),
            };
            // A client that went away already is not this server's problem.
            let _ = stream
                .write_all(format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").as_bytes());
        }
    });
    (address, count)
}

#[tokio::test]
async fn http_goes_to_granted_origins_only() {
    let (other, others) = server(None);
    let (address, count) = server(Some(other));
    let wanted = format!("http = [\"http://{address}\", \"http://{other}\"]");
    let grants = || {
        let origin = Origin::parse(&format!("http://{address}")).unwrap();
        Grants { http: [origin].into(), ..Grants::default() }
    };
    let (_folder, runtime) = hostile(&wanted, grants()).await;
    let ask = |url: String| {
        let runtime = Arc::clone(&runtime);
        async move { answer(&runtime, "network", json!({ "address": address.to_string(), "url": url })).await }
    };
    let granted = ask(format!("http://{address}/")).await;
    assert_eq!(granted["http"], "ALLOWED: status 200");
    assert_eq!(count.load(Ordering::SeqCst), 1, "a socket of the plugin's own must not get through: {granted}");
    for kind in ["tcp", "dns"] {
        assert!(granted[kind].as_str().unwrap().starts_with("refused"), "{granted}");
    }
    let away = ask(format!("http://{address}/away")).await;
    assert_eq!(away["http"], "ALLOWED: status 302", "redirects are not followed by the host");
    for url in
        [format!("http://{other}/"), format!("https://{address}/"), format!("http://localhost:{}/", address.port())]
    {
        assert_all_refused(&ask(url).await);
    }
    assert_eq!(others.load(Ordering::SeqCst), 0);
    let (_folder, unrequested) = hostile("", grants()).await;
    let asked = json!({ "address": address.to_string(), "url": format!("http://{address}/") });
    assert_all_refused(&answer(&unrequested, "network", asked).await);
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

fn with_stores(granted: bool) -> Sandbox {
    let stores = if granted { [StoreKind::Cache].into() } else { [].into() };
    let grants = Grants { stores, ..Grants::default() };
    let sql = Grants { sql: true, ..Grants::default() };
    let mut sandbox = Sandbox::new()
        .with(&manifest("first", "stores = [\"cache\"]"), guest("echo"))
        .with(&manifest("second", "stores = [\"cache\"]"), guest("echo"))
        .with(&manifest("sqlite", "sql = true"), sqlite())
        .policy("first", grants.clone(), &[])
        .policy("second", grants, &[])
        .policy("sqlite", sql, &[]);
    sandbox.options.stores = compozy_runtime::StoreSelection::default();
    sandbox
}

#[tokio::test]
async fn plugins_do_not_see_each_others_keys() {
    let (_folder, runtime) = with_stores(true).open().await;
    let count = async |plugin: &str| {
        call(&runtime, plugin, "stores", json!({ "key": "k" })).await.unwrap().output["count"].clone()
    };
    assert_eq!(count("first").await, 1);
    assert_eq!(count("first").await, 2);
    assert_eq!(count("second").await, 1);
    let cache = runtime.stores().cache.clone().unwrap();
    assert!(cache.exists("first/k/count").await.unwrap());
    assert!(!cache.exists("k/count").await.unwrap());
}

#[tokio::test]
async fn stores_are_refused_without_a_grant() {
    let (_folder, runtime) = with_stores(false).open().await;
    let failure = call(&runtime, "first", "stores", json!({ "key": "k" })).await.unwrap_err();
    assert_eq!(failure.error.code(), "STORE_DENIED");
    assert!(failure.to_string().contains("requested by plugin `first` but not granted"), "{failure}");
}

#[tokio::test]
async fn a_stopped_runtime_keeps_no_instances() {
    let (_folder, runtime) = with_stores(true).open().await;
    call(&runtime, "first", "stores", json!({ "key": "k" })).await.unwrap();
    assert!(runtime.idle_instances() > 0, "the cache's instance waits for its next call");
    runtime.stop();
    assert_eq!(runtime.idle_instances(), 0);
}
