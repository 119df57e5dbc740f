//! A server, a client, and short words for commands and answers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use compozy_runtime::bindings::compozy::host::redis::{Atomicity, Commands, Node, RedisError, Reply};
use compozy_runtime::bindings::compozy::types::buffers::Span;
use compozy_runtime::limits::{Limit, Limits};
use compozy_runtime::redis::{RedisClient, RedisSettings, ScriptText};
use redis_test_server::Server;

pub(crate) const PLUGIN: &str = "test";
/// Before each key of the plugin.
pub(crate) const PREFIX: &str = "compozy:test:";

pub(crate) fn limits(limits: &[(Limit, u64)]) -> Limits {
    Limits::effective(&limits.iter().copied().collect(), &BTreeMap::new())
}

pub(crate) fn client(server: &Server) -> Arc<RedisClient> {
    client_with(&server.url(), &[])
}

pub(crate) fn client_with(url: &str, with: &[(Limit, u64)]) -> Arc<RedisClient> {
    RedisClient::new(&RedisSettings::new(url), PLUGIN, limits(with)).unwrap()
}

/// Commands from lists of arguments.
pub(crate) fn commands<A: AsRef<[u8]>>(lists: &[&[A]]) -> Commands {
    let mut commands = Commands { counts: Vec::new(), arguments: Vec::new(), bytes: Vec::new() };
    for list in lists {
        commands.counts.push(list.len() as u32);
        for argument in *list {
            push(&mut commands.arguments, &mut commands.bytes, argument.as_ref());
        }
    }
    commands
}

/// Commands from lines whose words are arguments.
pub(crate) fn lines(lines: &[&str]) -> Commands {
    let lists: Vec<Vec<&str>> = lines.iter().map(|line| line.split(' ').collect()).collect();
    let lists: Vec<&[&str]> = lists.iter().map(Vec::as_slice).collect();
    commands(&lists)
}

fn push(spans: &mut Vec<Span>, bytes: &mut Vec<u8>, argument: &[u8]) {
    spans.push(Span { offset: bytes.len() as u32, length: argument.len() as u32 });
    bytes.extend_from_slice(argument);
}

/// Runs one line and answers it as text.
pub(crate) async fn run(client: &RedisClient, line: &str) -> Result<String, RedisError> {
    client.run(&lines(&[line]), Atomicity::Pipeline).await.map(|reply| text(&reply))
}

/// Runs one line that must be answered.
pub(crate) async fn ok(client: &RedisClient, line: &str) -> String {
    run(client, line).await.unwrap_or_else(|error| panic!("{line}: {error:?}"))
}

/// Runs one line that the server must refuse.
pub(crate) async fn failed(client: &RedisClient, line: &str) -> RedisError {
    let reply = client.run(&lines(&[line]), Atomicity::Pipeline).await;
    match reply.unwrap_or_else(|error| panic!("{line}: {error:?}")).nodes.remove(0) {
        Node::Failed(error) => error,
        other => panic!("{line}: {other:?}"),
    }
}

pub(crate) async fn invoke(
    client: &RedisClient,
    script: &ScriptText,
    keys: &[&str],
    others: &[&str],
) -> Result<String, RedisError> {
    let (mut spans, mut bytes) = (Vec::new(), Vec::new());
    for argument in keys.iter().chain(others) {
        push(&mut spans, &mut bytes, argument.as_bytes());
    }
    client.invoke(script, keys.len() as u32, &spans, &bytes).await.map(|reply| text(&reply))
}

/// Nodes as text: `(a 1 nil)` for a list.
pub(crate) fn text(reply: &Reply) -> String {
    let mut nodes = reply.nodes.iter();
    let mut parts = Vec::new();
    while let Some(node) = nodes.next() {
        parts.push(one(node, &mut nodes, &reply.bytes));
    }
    parts.join(" ")
}

fn one<'a>(node: &Node, nodes: &mut impl Iterator<Item = &'a Node>, bytes: &[u8]) -> String {
    match node {
        Node::Nil => "nil".to_owned(),
        Node::Integer(number) => number.to_string(),
        Node::Bytes(span) => String::from_utf8_lossy(slice(bytes, *span)).into_owned(),
        Node::List(count) => {
            let parts: Vec<String> = (0..*count).map(|_| one(nodes.next().unwrap(), nodes, bytes)).collect();
            format!("({})", parts.join(" "))
        }
        Node::Failed(error) => {
            let mut text = String::from("!");
            write!(text, "{error:?}").unwrap();
            text
        }
    }
}

pub(crate) fn slice(bytes: &[u8], span: Span) -> &[u8] {
    &bytes[span.offset as usize..(span.offset + span.length) as usize]
}

/// The sentence of a refusal by the host itself.
pub(crate) fn refusal(result: Result<impl std::fmt::Debug, RedisError>) -> String {
    match result {
        Err(RedisError::Invalid(why)) => why,
        other => panic!("not refused as invalid: {other:?}"),
    }
}

/// The message of `unavailable`.
pub(crate) fn unavailable(result: Result<impl std::fmt::Debug, RedisError>) -> String {
    match result {
        Err(RedisError::Unavailable(why)) => why,
        other => panic!("not unavailable: {other:?}"),
    }
}
