//! The role `memory-store`. A memory is a Redis list: a header with the counts, then the messages.
//!
//! The header makes counts exact at the price of one read, and it counts what was removed before the first message: so a message
//! keeps its number, and a dump finds its place again after a trim.

use compozy_sdk::redis::{self, Call, List, Reply};
use compozy_sdk::store::rules::{check_batch, check_key, check_page, check_some, check_ttl, check_value};
use compozy_sdk::store::{
    Counts, DumpedMemory, Exceeded, HealthStatus, Keep, KeyPage, Lifetime, MemoryPage, MemoryStore, Message,
    MessagePage, Messages, Span, Statistics, StoreError, slice,
};

use crate::index::Index;
use crate::keys::{Key, foreign, shard};
use crate::ttl::lifetime;
use crate::{Redis, lua, server, sizes};

mod dump;

/// Memories by name.
const MEMORIES: Index = Index { role: "m", entry: "v", names: "n", due: "x" };
/// Flush flags by the names of their memories.
const FLAGS: Index = Index { role: "m", entry: "f", names: "g", due: "y" };
/// How long a flush flag holds: 30 minutes.
const FLUSH_PENDING_MS: u64 = 30 * 60 * 1_000;
/// Offsets beyond this are as good as this: no memory has so many messages.
const OFFSET_MAX: u64 = 1 << 53;

fn key(name: &str) -> Key<'_> {
    MEMORIES.entry(name)
}

impl MemoryStore for Redis {
    fn append(key: String, messages: Messages, ttl_ms: Option<u64>, keep: Option<Keep>) -> Result<Counts, StoreError> {
        check_key("key", &key)?;
        check_some("messages", messages.list.len())?;
        let tokens = check_messages(&messages)?;
        let ttl = check_ttl(ttl_ms)?;
        let reply = lua!("clock", "memory", "memory_append")?.invoke(|call| {
            memory_keys(call, &key);
            let (mode, limit) = keep.map_or(("", None), |keep| (mode(keep).0, Some(mode(keep).1)));
            call.arg(&key).arg(ttl).arg(mode).arg(limit).arg(tokens);
            push(call, &messages);
        })?;
        counts(&reply)
    }

    fn read(key: String) -> Result<Messages, StoreError> {
        check_key("key", &key)?;
        let Slice { list, reply, .. } = range(&key, 0, OFFSET_MAX)?;
        Ok(Messages { list, bytes: reply.into_bytes() })
    }

    fn page(key: String, offset: u64, limit: u32) -> Result<MessagePage, StoreError> {
        check_key("key", &key)?;
        check_page("limit", limit)?;
        let fits = offset == 0 && sizes::MEMORIES.with(|known| known.fits(&key, limit));
        let Slice { header, list, reply } =
            if fits { first(&key, limit)? } else { range(&key, offset, u64::from(limit))? };
        Ok(MessagePage { messages: Messages { list, bytes: reply.into_bytes() }, total: header.count })
    }

    fn count(key: String) -> Result<Counts, StoreError> {
        check_key("key", &key)?;
        let reply = redis::run(|commands| {
            commands.command("LINDEX").arg(self::key(&key)).arg(0);
        })?;
        match reply.get::<Option<&str>>()? {
            None => Ok(Counts { messages: 0, tokens: 0 }),
            Some(header) => {
                let Header { count, tokens, .. } = Header::read(&key, header)?;
                Ok(Counts { messages: count, tokens })
            }
        }
    }

    fn replace(key: String, messages: Messages, ttl_ms: Option<u64>) -> Result<Counts, StoreError> {
        check_key("key", &key)?;
        check_batch(messages.list.len())?;
        let tokens = check_messages(&messages)?;
        let ttl = check_ttl(ttl_ms)?;
        let reply = lua!("clock", "memory", "memory_replace")?.invoke(|call| {
            memory_keys(call, &key);
            call.arg(&key).arg(ttl).arg(tokens);
            push(call, &messages);
        })?;
        counts(&reply)
    }

    fn trim(key: String, keep: Keep) -> Result<Counts, StoreError> {
        check_key("key", &key)?;
        let reply = lua!("clock", "memory", "memory_trim")?.invoke(|call| {
            memory_keys(call, &key);
            call.arg(&key).arg(mode(keep).0).arg(mode(keep).1);
        })?;
        counts(&reply)
    }

    fn clear(key: String) -> Result<bool, StoreError> {
        check_key("key", &key)?;
        let reply = lua!("memory_clear")?.invoke(|call| {
            memory_keys(call, &key);
            flag_keys(call, &key);
            call.arg(&key);
        })?;
        Ok(reply.get()?)
    }

    fn expire(key: String, ttl_ms: Option<u64>) -> Result<bool, StoreError> {
        check_key("key", &key)?;
        let ttl = check_ttl(ttl_ms)?;
        let reply = lua!("clock", "memory_expire")?.invoke(|call| {
            call.key(self::key(&key)).key(MEMORIES.due(shard(&key))).arg(&key).arg(ttl);
        })?;
        Ok(reply.get()?)
    }

    fn ttl(key: String) -> Result<Lifetime, StoreError> {
        check_key("key", &key)?;
        let reply = redis::run(|commands| {
            commands.command("PTTL").arg(self::key(&key));
        })?;
        Ok(lifetime(reply.get()?))
    }

    fn mark_flush_pending(key: String) -> Result<bool, StoreError> {
        check_key("key", &key)?;
        let reply = lua!("clock", "flag_set")?.invoke(|call| {
            flag_keys(call, &key);
            call.arg(&key).arg(FLUSH_PENDING_MS);
        })?;
        Ok(reply.get()?)
    }

    fn is_flush_pending(key: String) -> Result<bool, StoreError> {
        check_key("key", &key)?;
        let reply = redis::run(|commands| {
            commands.command("EXISTS").arg(FLAGS.entry(&key));
        })?;
        Ok(reply.get()?)
    }

    fn clear_flush_pending(key: String) -> Result<bool, StoreError> {
        check_key("key", &key)?;
        let reply = lua!("flag_clear")?.invoke(|call| {
            flag_keys(call, &key);
            call.arg(&key);
        })?;
        Ok(reply.get()?)
    }

    fn list(prefix: String, cursor: Option<String>, max: u32) -> Result<KeyPage, StoreError> {
        MEMORIES.list("memory-list", &prefix, cursor.as_deref(), max)
    }

    fn health() -> Result<HealthStatus, StoreError> {
        server::health()
    }

    fn stats() -> Result<Statistics, StoreError> {
        server::statistics(Some(MEMORIES.count()?))
    }

    fn sweep(max: u32) -> Result<u32, StoreError> {
        check_page("max", max)?;
        let removed = MEMORIES.sweep(max)?;
        if removed == max { Ok(removed) } else { Ok(removed + FLAGS.sweep(max - removed)?) }
    }

    fn dump(cursor: Option<String>, max: u32) -> Result<MemoryPage, StoreError> {
        check_page("max", max)?;
        dump::dump(cursor.as_deref(), max)
    }

    fn load(memories: Vec<DumpedMemory>, messages: Messages) -> Result<(), StoreError> {
        dump::load(&memories, &messages)
    }
}

/// The first element of a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Header {
    count: u64,
    tokens: u64,
    /// Messages that were removed before the first one.
    gone: u64,
    /// Bytes of the largest message.
    largest: u64,
}

impl Header {
    fn read(name: &str, text: &str) -> Result<Self, StoreError> {
        let mut numbers = text.split(';').map(|number| number.parse().ok());
        match (numbers.next(), numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(Some(count)), Some(Some(tokens)), Some(Some(gone)), Some(Some(largest)), None) => {
                Ok(Self { count, tokens, gone, largest })
            }
            _ => Err(foreign("the header of the memory", name)),
        }
    }
}

/// A message of a list: its tokens, `;` and its content.
fn message(name: &str, item: redis::Value<'_>) -> Result<Message, StoreError> {
    let (bytes, span) = (item.get::<&[u8]>()?, item.span()?);
    let (digits, tokens) = tokens_of(bytes).ok_or_else(|| foreign("a message of the memory", name))?;
    let skipped = digits + 1;
    Ok(Message { span: Span { offset: span.offset + skipped, length: span.length - skipped }, tokens })
}

/// The tokens before the `;`, and how many digits they take.
fn tokens_of(item: &[u8]) -> Option<(u32, u32)> {
    let digits = item.iter().take(11).position(|byte| *byte == b';')?;
    Some((digits as u32, str::from_utf8(&item[..digits]).ok()?.parse().ok()?))
}

/// Reads a header and remembers what it says of sizes.
fn learn(name: &str, text: &str) -> Result<Header, StoreError> {
    let header = Header::read(name, text)?;
    sizes::MEMORIES.with(|known| known.learn(name, header.largest));
    Ok(header)
}

/// Messages of a memory with its header, of one moment.
struct Slice {
    /// All zero when there is no memory.
    header: Header,
    list: Vec<Message>,
    reply: Reply,
}

/// The first messages, which are known to fit: the header comes along.
fn first(name: &str, limit: u32) -> Result<Slice, StoreError> {
    let reply = redis::run(|commands| {
        commands.command("LRANGE").arg(key(name)).arg(0).arg(limit);
    })?;
    let mut items = reply.get::<List<'_>>()?.iter();
    let header = items.next().map_or(Ok(Header::default()), |header| learn(name, header.get()?))?;
    let list = items.map(|item| message(name, item)).collect::<Result<_, _>>()?;
    Ok(Slice { header, list, reply })
}

/// Messages from the `offset`-th on, or how large they are when they cannot travel together.
fn range(name: &str, offset: u64, limit: u64) -> Result<Slice, StoreError> {
    let first = offset.min(OFFSET_MAX) + 1;
    let reply = lua!("memory_page")?.invoke(|call| {
        call.key(key(name)).arg(first).arg(first + limit - 1).arg(sizes::ANSWER_BYTES);
    })?;
    let value = reply.value()?;
    if value.is_integer() {
        let (limit, used, allowed) = ("hostcall_bytes".to_owned(), value.get()?, sizes::ANSWER_BYTES);
        return Err(StoreError::TooLarge(Exceeded { limit, used, allowed }));
    }
    let items = value.get::<List<'_>>()?;
    // The header is the last one.
    let messages = items.len().saturating_sub(1);
    let list = items.iter().take(messages).map(|item| message(name, item)).collect::<Result<_, _>>()?;
    let header = items.iter().nth(messages).map_or(Ok(Header::default()), |header| learn(name, header.get()?))?;
    Ok(Slice { header, list, reply })
}

/// Checks each message; answers the tokens of all.
fn check_messages(messages: &Messages) -> Result<u64, StoreError> {
    for message in &messages.list {
        check_value(slice(&messages.bytes, message.span)?.len())?;
    }
    Ok(messages.list.iter().map(|message| u64::from(message.tokens)).sum())
}

/// The keys that `memory.lua` names.
fn memory_keys(call: &mut Call<'_>, name: &str) {
    let shard = shard(name);
    call.key(key(name)).key(MEMORIES.names(shard)).key(MEMORIES.due(shard));
}

fn flag_keys(call: &mut Call<'_>, name: &str) {
    let shard = shard(name);
    call.key(FLAGS.entry(name)).key(FLAGS.names(shard)).key(FLAGS.due(shard));
}

/// Adds messages as they are stored. They were checked before.
fn push(call: &mut Call<'_>, messages: &Messages) {
    for message in &messages.list {
        push_one(call, message.tokens, slice(&messages.bytes, message.span).unwrap_or_default());
    }
}

fn push_one(call: &mut Call<'_>, tokens: u32, content: &[u8]) {
    let mut digits = [0; 10];
    let digits = decimal(tokens, &mut digits);
    call.arg(redis::Joined(&[digits, b";", content]));
}

/// A number's digits, without an allocation.
fn decimal(mut number: u32, buffer: &mut [u8; 10]) -> &[u8] {
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &buffer[at..];
        }
    }
}

/// What to keep, as `memory.lua` takes it.
fn mode(keep: Keep) -> (&'static str, u64) {
    match keep {
        Keep::Messages(count) => ("m", count.into()),
        Keep::Tokens(tokens) => ("t", tokens),
    }
}

/// What the scripts answer: messages and tokens.
fn counts(reply: &Reply) -> Result<Counts, StoreError> {
    let [messages, tokens] = reply.get::<List<'_>>()?.array()?;
    Ok(Counts { messages: messages.get()?, tokens: tokens.get()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_four_numbers() {
        assert_eq!(Header::read("a", "3;70;12;9").unwrap(), Header { count: 3, tokens: 70, gone: 12, largest: 9 });
        for bad in ["", "3;70;12", "3;70;12;1;1", "3;x;12;1", "-1;0;0;0"] {
            assert!(matches!(Header::read("a", bad), Err(StoreError::Internal(_))), "{bad}");
        }
    }

    #[test]
    fn tokens_stand_before_the_content() {
        assert_eq!(tokens_of(b"4294967295;1;2"), Some((10, u32::MAX)));
        assert_eq!(tokens_of(b"0;"), Some((1, 0)));
        for bad in [b"".as_slice(), b";", b"12", b"4294967296;", b"x;", b"00000000001;"] {
            assert_eq!(tokens_of(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn digits_are_written_as_they_are_read() {
        for number in [0, 7, 10, 4_294_967_295] {
            assert_eq!(decimal(number, &mut [0; 10]), number.to_string().as_bytes());
        }
    }
}
