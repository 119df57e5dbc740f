//! The native side on Redis: the commands and scripts of the plugin `redis`, sent by this process itself.
//!
//! As one would write it without a sandbox: one multiplexed connection for all callers, scripts by their hash. It has keys of its own,
//! of the plugin's layout but in one shard.

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Script, Value, cmd};

use crate::work::{self, MESSAGES, PAGE, SMALL, Side, Work};

const TTL_MS: u64 = 3_600_000;

macro_rules! lua {
    ($($name:literal),+) => {
        Script::new(concat!($(
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/redis/src/lua/", $name, ".lua")), "\n"
        ),+))
    };
}

pub(crate) struct Native {
    connection: MultiplexedConnection,
    increment: Script,
    memory_append: Script,
    acquire: Script,
    release: Script,
    event_append: Script,
}

#[expect(clippy::needless_pass_by_value, reason = "the form that `map_err` wants")]
fn say(error: redis::RedisError) -> String {
    error.to_string()
}

fn key(kind: &str, name: &str) -> String {
    format!("native:{{0}}{kind}:{name}")
}

/// A version as the plugin has it: 8 bytes behind the value.
fn versioned(size: usize, turn: usize) -> Vec<u8> {
    let mut value = vec![b'v'; size];
    value.extend_from_slice(&(turn as u64).to_be_bytes());
    value
}

impl Native {
    /// Keys with what is read.
    pub(crate) async fn filled(url: &str) -> Result<Self, String> {
        let client = redis::Client::open(url).map_err(say)?;
        let native = Self {
            connection: client.get_multiplexed_async_connection().await.map_err(say)?,
            increment: lua!("cache_increment"),
            memory_append: lua!("clock", "memory", "memory_append"),
            acquire: lua!("lock_acquire"),
            release: lua!("lock_release"),
            event_append: lua!("event_append"),
        };
        for size in [SMALL, 10 * work::KIB, work::MIB] {
            for turn in 0..if size == work::MIB { work::LARGE_KEYS } else { work::KEYS } {
                let key = key("v", &format!("value/{size}/{turn}"));
                native.send(cmd("SET").arg(key).arg(versioned(size, turn)).arg("PX").arg(TTL_MS)).await?;
            }
        }
        for memory in 0..64 {
            for _ in 0..MESSAGES {
                native.append_message(&format!("memory/{memory}")).await?;
            }
        }
        for _ in 0..work::EVENTS {
            native.append_event(work::LONG_STREAM).await?;
        }
        Ok(native)
    }

    async fn send(&self, command: &Cmd) -> Result<Value, String> {
        command.query_async(&mut self.connection.clone()).await.map_err(say)
    }

    async fn append_message(&self, name: &str) -> Result<u64, String> {
        let mut call = self.memory_append.key(key("mv", name));
        call.key("native:{0}mn").key("native:{0}mx").arg(name).arg(TTL_MS).arg("m").arg(MESSAGES).arg(25);
        call.arg([b"25;".as_slice(), &[b'm'; SMALL]].concat());
        let (count, _tokens): (u64, String) = call.invoke_async(&mut self.connection.clone()).await.map_err(say)?;
        Ok(count)
    }

    async fn append_event(&self, stream: &str) -> Result<String, String> {
        let key = key("ev", stream);
        let mut call = self.event_append.key(&key);
        call.key(self::key("eh", stream)).key("native:{0}en").arg(key.len() - "native:".len()).arg(stream);
        call.arg(&[b'e'; SMALL]);
        call.invoke_async(&mut self.connection.clone()).await.map_err(say)
    }

    async fn lock(&self, name: &str) -> Result<bool, String> {
        let key = key("lv", name);
        let mut acquire = self.acquire.key(&key);
        acquire.key("native:{0}lt").arg(60_000).arg("bench");
        let token: String = acquire.invoke_async(&mut self.connection.clone()).await.map_err(say)?;
        let mut release = self.release.key(&key);
        release.arg(token).arg(key.len() - "native:".len()).arg(format!("locks/{name}"));
        release.invoke_async(&mut self.connection.clone()).await.map_err(say)
    }
}

/// How many bytes a bulk string has.
fn length(value: &Value) -> usize {
    match value {
        Value::BulkString(bytes) => bytes.len(),
        _ => 0,
    }
}

fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        _ => &[],
    }
}

#[async_trait]
impl Side for Native {
    async fn run(&self, work: Work, turn: usize) -> Result<(), String> {
        let done = match work {
            Work::Get(size) => {
                let value = self.send(cmd("GET").arg(key("v", &work::key(size, turn)))).await?;
                length(&value) == size + 8
            }
            Work::GetMany => {
                let mut get = cmd("MGET");
                for name in work::many_keys(turn) {
                    get.arg(key("v", &name));
                }
                let values = self.send(&get).await?;
                items(&values).iter().all(|value| length(value) == SMALL + 8)
            }
            Work::Set => {
                let key = key("v", &work::key(SMALL, turn));
                let set = self.send(cmd("SET").arg(key).arg(versioned(SMALL, turn)).arg("PX").arg(TTL_MS)).await?;
                set == Value::Okay
            }
            Work::Increment => {
                let mut call = self.increment.key(key("v", &work::counter(turn)));
                call.arg(1).arg(&turn.to_be_bytes()).arg(TTL_MS);
                let sum: String = call.invoke_async(&mut self.connection.clone()).await.map_err(say)?;
                sum.parse::<i64>().is_ok_and(|sum| sum > 0)
            }
            Work::MemoryAppend => self.append_message(&work::memory(turn)).await? == u64::from(MESSAGES),
            Work::MemoryPage => {
                let key = key("mv", &work::memory(turn));
                let (from, to) = (MESSAGES - PAGE + 1, MESSAGES);
                let mut both = redis::pipe();
                both.atomic().cmd("LINDEX").arg(&key).arg(0).cmd("LRANGE").arg(&key).arg(from).arg(to);
                let (_header, messages): (Value, Value) =
                    both.query_async(&mut self.connection.clone()).await.map_err(say)?;
                items(&messages).len() == PAGE as usize
            }
            Work::Lock => self.lock(&work::lock(turn)).await?,
            Work::EventAppend => !self.append_event(&work::stream(turn)).await?.is_empty(),
            Work::EventRead => {
                let (stream, head) = (key("ev", work::LONG_STREAM), key("eh", work::LONG_STREAM));
                let mut both = redis::pipe();
                both.atomic().cmd("XRANGE").arg(stream).arg(format!("(0-{}", work::after(turn))).arg("+");
                both.arg("COUNT").arg(PAGE).cmd("GET").arg(head);
                let (events, _head): (Value, Value) =
                    both.query_async(&mut self.connection.clone()).await.map_err(say)?;
                items(&events).len() == PAGE as usize
            }
        };
        if done { Ok(()) } else { Err(format!("{work:?} found something else than was written")) }
    }
}
