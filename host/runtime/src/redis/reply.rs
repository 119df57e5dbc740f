//! From the crate's tree of values to flat nodes.

use redis::Value;

use super::commands::Answer;
use super::error::{server, too_large};
use crate::bindings::compozy::host::redis::{Node, RedisError, Reply};
use crate::bindings::compozy::types::buffers::Span;
use crate::limits::Limit;

/// What one node counts beside its bytes.
const NODE_BYTES: usize = size_of::<Node>();

/// What plugins see of INFO: how the server is, and nothing about who else uses it or where it lies.
const INFO: [&str; 22] = [
    "aof_enabled",
    "aof_last_bgrewrite_status",
    "aof_last_write_status",
    "async_loading",
    "blocked_clients",
    "connected_clients",
    "connected_slaves",
    "evicted_keys",
    "instantaneous_ops_per_sec",
    "loading",
    "master_link_status",
    "maxclients",
    "maxmemory",
    "maxmemory_policy",
    "rdb_last_bgsave_status",
    "redis_mode",
    "redis_version",
    "rejected_connections",
    "role",
    "uptime_in_seconds",
    "used_memory",
    "used_memory_peak",
];

/// Collects the reply of one call.
pub(super) struct Collector<'a> {
    reply: Reply,
    prefix: &'a [u8],
    allowed: u64,
}

impl<'a> Collector<'a> {
    pub(super) fn new(prefix: &'a [u8], allowed: u64) -> Self {
        let reply = Reply { nodes: Vec::new(), bytes: Vec::new() };
        Self { reply, prefix, allowed: allowed.min(u64::from(u32::MAX)) }
    }

    pub(super) fn finish(self) -> Reply {
        self.reply
    }

    /// Adds the answer of one command.
    pub(super) fn add(&mut self, value: Value, answer: Answer) -> Result<(), RedisError> {
        match answer {
            Answer::Short | Answer::Large => self.value(value),
            Answer::Popped => self.named(value),
            Answer::Streams => match value {
                Value::Array(streams) => {
                    self.node(Node::List(streams.len() as u32))?;
                    streams.into_iter().try_for_each(|stream| self.named(stream))
                }
                other => self.value(other),
            },
            Answer::Info => self.value(match value {
                Value::BulkString(text) => Value::BulkString(info(&text)),
                Value::VerbatimString { text, .. } => Value::BulkString(info(text.as_bytes())),
                other => other,
            }),
        }
    }

    /// A list whose first element is a key.
    fn named(&mut self, value: Value) -> Result<(), RedisError> {
        let Value::Array(mut elements) = value else { return self.value(value) };
        if let Some(Value::BulkString(key)) = elements.first_mut()
            && key.starts_with(self.prefix)
        {
            key.drain(..self.prefix.len());
        }
        self.value(Value::Array(elements))
    }

    fn value(&mut self, value: Value) -> Result<(), RedisError> {
        match value {
            Value::Nil => self.node(Node::Nil),
            Value::Int(number) => self.node(Node::Integer(number)),
            Value::Boolean(yes) => self.node(Node::Integer(i64::from(yes))),
            Value::BulkString(bytes) => self.bytes(bytes),
            Value::SimpleString(text) | Value::VerbatimString { text, .. } => self.bytes(text.into_bytes()),
            Value::Okay => self.bytes(b"OK".to_vec()),
            Value::Double(number) => self.bytes(number.to_string().into_bytes()),
            Value::BigNumber(digits) => self.bytes(digits),
            Value::Array(values) | Value::Set(values) | Value::Push { data: values, .. } => {
                self.node(Node::List(values.len() as u32))?;
                values.into_iter().try_for_each(|value| self.value(value))
            }
            Value::Map(pairs) => {
                self.node(Node::List(pairs.len() as u32 * 2))?;
                pairs.into_iter().try_for_each(|(key, value)| self.value(key).and_then(|()| self.value(value)))
            }
            Value::Attribute { data, .. } => self.value(*data),
            Value::ServerError(error) => self.node(Node::Failed(server(&error))),
            // The crate may learn more types; RESP2, which is spoken, has none.
            other => self.bytes(format!("{other:?}").into_bytes()),
        }
    }

    fn node(&mut self, node: Node) -> Result<(), RedisError> {
        self.fits(0)?;
        self.reply.nodes.push(node);
        Ok(())
    }

    fn bytes(&mut self, bytes: Vec<u8>) -> Result<(), RedisError> {
        self.fits(bytes.len())?;
        let all = &mut self.reply.bytes;
        // `hostcall_bytes` is below 4 GiB, so offsets and lengths fit.
        let span = Span { offset: all.len() as u32, length: bytes.len() as u32 };
        // A single large value is handed on as it is.
        if all.is_empty() {
            *all = bytes;
        } else {
            all.extend_from_slice(&bytes);
        }
        self.reply.nodes.push(Node::Bytes(span));
        Ok(())
    }

    fn fits(&self, more: usize) -> Result<(), RedisError> {
        let used = (self.reply.bytes.len() + more + (self.reply.nodes.len() + 1) * NODE_BYTES) as u64;
        if used > self.allowed { Err(too_large(Limit::HostcallBytes, used, self.allowed)) } else { Ok(()) }
    }
}

fn info(text: &[u8]) -> Vec<u8> {
    let known = |line: &&[u8]| {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        INFO.iter().any(|known| known.as_bytes() == name)
    };
    let mut kept = Vec::new();
    for line in text.split_inclusive(|byte| *byte == b'\n').filter(known) {
        kept.extend_from_slice(line);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_becomes_flat_with_containers_first() {
        let mut collector = Collector::new(b"p:", 10_000);
        let tree = Value::Array(vec![
            Value::Int(1),
            Value::Array(vec![Value::BulkString(b"ab".to_vec()), Value::Nil]),
            Value::Okay,
        ]);
        collector.add(tree, Answer::Large).unwrap();
        collector.add(Value::SimpleString("x".into()), Answer::Short).unwrap();
        let reply = collector.finish();
        assert_eq!(reply.bytes, b"abOKx");
        let shape: Vec<String> = reply.nodes.iter().map(|node| format!("{node:?}")).collect();
        let expected = [
            "List(3)",
            "Integer(1)",
            "List(2)",
            "offset: 0, length: 2",
            "Nil",
            "offset: 2, length: 2",
            "offset: 4, length: 1",
        ];
        assert_eq!(shape.len(), expected.len());
        for (node, expected) in shape.iter().zip(expected) {
            assert!(node.contains(expected), "{node}");
        }
    }

    #[test]
    fn info_is_filtered() {
        let text = b"# Server\r\nredis_version:7.0.15\r\nexecutable:/usr/bin/redis-server\r\nused_memory:12\r\nused_memory_human:1\r\n";
        assert_eq!(info(text), b"redis_version:7.0.15\r\nused_memory:12\r\n");
        assert!(INFO.is_sorted());
    }
}
