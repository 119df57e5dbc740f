//! Reaching for what was not given.

use std::fmt::Display;
use std::net::SocketAddrV4;
use std::{env, fs};

use compozy_sdk::{Context, Json, TaskError, http, sql};
use serde::Deserialize;
use serde_json::{Map, json};
use wasip2::filesystem::preopens;
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

/// What came of one attempt.
fn outcome<T, E: Display>(result: Result<T, E>, what: impl FnOnce(T) -> String) -> Json {
    match result {
        Ok(value) => format!("ALLOWED: {}", what(value)).into(),
        Err(error) => format!("refused: {error}").into(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Statements {
    statements: Vec<String>,
}

pub(crate) fn sql(input: Statements, _: &Context) -> Result<Json, TaskError> {
    Ok(attempts(input.statements.iter().map(String::as_str)))
}

/// Each statement by itself, once prepared and once as a script.
fn attempts<'a>(statements: impl Iterator<Item = &'a str>) -> Json {
    let mut outcomes = Map::new();
    for statement in statements {
        let prepared = sql::Statement::prepare(statement).and_then(|statement| statement.query(()));
        let prepared = prepared.map_err(|error| error.message().into_owned());
        let script = sql::run_script(statement).map_err(|error| error.message().into_owned());
        let outcome = json!({
            "prepared": outcome(prepared, |rows| format!("{} rows", rows.len())),
            "script": outcome(script, |()| "ran".into()),
        });
        outcomes.insert(statement.to_owned(), outcome);
    }
    outcomes.into()
}

pub(crate) fn sql_attach(_: Json, _: &Context) -> Result<Json, TaskError> {
    let statements = [
        "ATTACH DATABASE 'other.db' AS other",
        "ATTACH DATABASE ':memory:' AS other",
        "ATTACH DATABASE '' AS other",
        "ATTACH DATABASE 'file:/etc/passwd?mode=ro' AS other",
        "DETACH DATABASE main",
        "VACUUM INTO 'copy.db'",
        "SELECT load_extension('libm.so')",
        "SELECT readfile('/etc/passwd')",
        "SELECT writefile('/tmp/escaped', 'x')",
        "SELECT fts3_tokenizer('simple')",
        "CREATE VIRTUAL TABLE files USING fsdir('/')",
    ];
    Ok(attempts(statements.into_iter()))
}

pub(crate) fn sql_pragma(_: Json, _: &Context) -> Result<Json, TaskError> {
    let statements = [
        "PRAGMA journal_mode = DELETE",
        "PRAGMA synchronous = OFF",
        "PRAGMA writable_schema = ON",
        "PRAGMA trusted_schema = ON",
        "PRAGMA temp_store_directory = '/tmp'",
        "PRAGMA database_list",
        "PRAGMA mmap_size = 1099511627776",
        "PRAGMA max_page_count = 4294967294",
        "PRAGMA hard_heap_limit = 0",
        "PRAGMA locking_mode = EXCLUSIVE",
        "PRAGMA wal_autocheckpoint = 0",
        "SELECT * FROM pragma_database_list",
    ];
    Ok(attempts(statements.into_iter()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Paths {
    /// More paths to try, as this plugin sees them.
    #[serde(default)]
    paths: Vec<String>,
}

pub(crate) fn paths(input: Paths, _: &Context) -> Result<Json, TaskError> {
    let known = [
        "/etc/passwd",
        "/data/../etc/passwd",
        "/data/../../../../../../etc/passwd",
        "../etc/passwd",
        "/proc/self/environ",
        "/",
    ];
    let mut outcomes = Map::new();
    for path in known.into_iter().map(str::to_owned).chain(input.paths) {
        let read = outcome(fs::read(&path), |bytes| format!("read {} bytes", bytes.len()));
        let list = outcome(fs::read_dir(&path), |entries| format!("listed {} entries", entries.count()));
        let write = outcome(fs::write(format!("{path}.escaped"), "x"), |()| "written".into());
        outcomes.insert(path, json!({ "read": read, "list": list, "write": write }));
    }
    for (target, link) in [("/etc", "absolute-link"), ("../../../../../../etc", "relative-link")] {
        outcomes.insert(link.to_owned(), symlink(target, link));
    }
    Ok(outcomes.into())
}

/// Makes a symbolic link out of the first folder that there is, and reads through it.
fn symlink(target: &str, link: &str) -> Json {
    if cfg!(not(target_family = "wasm")) {
        return Json::Null;
    }
    let Some((folder, guest_path)) = preopens::get_directories().into_iter().next() else {
        return "refused: there is no folder".into();
    };
    let made = folder.symlink_at(target, link).map_err(|code| code.name());
    let read = fs::read(format!("{guest_path}/{link}/passwd"));
    json!({
        "link": outcome(made, |()| "made".into()),
        "read": outcome(read, |bytes| format!("read {} bytes", bytes.len())),
    })
}

pub(crate) fn environment(_: Json, _: &Context) -> Result<Json, TaskError> {
    let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let variables: Map<String, Json> =
        env::vars_os().map(|(name, value)| (lossy(name), Json::from(lossy(value)))).collect();
    let arguments: Vec<String> = env::args_os().map(lossy).collect();
    let folder = outcome(env::current_dir(), |folder| folder.display().to_string());
    Ok(json!({ "variables": variables, "arguments": arguments, "folder": folder }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Network {
    /// For example `127.0.0.1:80`.
    address: String,
    /// For example `http://127.0.0.1:80/`.
    url: String,
}

pub(crate) fn network(input: Network, _: &Context) -> Result<Json, TaskError> {
    let connected = match input.address.parse::<SocketAddrV4>() {
        Ok(address) => outcome(connect(address), |()| "connected".into()),
        Err(error) => outcome(Err::<(), _>(error), |()| String::new()),
    };
    let resolved = outcome(resolve("localhost"), |found| format!("{found} addresses"));
    let asked = outcome(http::get(&input.url), |response| format!("status {}", response.status));
    Ok(json!({ "tcp": connected, "dns": resolved, "http": asked }))
}

// By WASI itself and not by `std::net`, for which not every C library of a guest toolchain has the functions.
fn connect(address: SocketAddrV4) -> Result<(), ErrorCode> {
    let [a, b, c, d] = address.ip().octets();
    let remote = IpSocketAddress::Ipv4(Ipv4SocketAddress { port: address.port(), address: (a, b, c, d) });
    let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
    socket.start_connect(&instance_network(), remote)?;
    socket.subscribe().block();
    socket.finish_connect().map(drop)
}

fn resolve(name: &str) -> Result<usize, ErrorCode> {
    let stream = resolve_addresses(&instance_network(), name)?;
    let mut found = 0;
    loop {
        match stream.resolve_next_address() {
            Ok(Some(_)) => found += 1,
            Ok(None) => return Ok(found),
            Err(ErrorCode::WouldBlock) => stream.subscribe().block(),
            Err(error) => return Err(error),
        }
    }
}
