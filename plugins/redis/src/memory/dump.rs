//! How memories move: first all that have messages, then the flush flags of those that have none.

use compozy_sdk::redis;
use compozy_sdk::store::rules::{
    BATCH_ITEMS_MAX, DUMP_PAGE_BYTES_MAX, check_batch, check_key, check_ttl, foreign_cursor,
};
use compozy_sdk::store::{DumpedMemory, MemoryPage, Message, Messages, StoreError, append, slice};

use super::{FLAGS, Header, MEMORIES, Slice, check_messages, flag_keys, key, memory_keys, push_one, range};
use crate::index::Place;
use crate::keys::{cursor, read_cursor};
use crate::lua;
use crate::ttl::left_ms;

/// How many memories a page looks for in one go.
const NAMES: usize = 64;
/// How many messages of a memory a page takes in one go.
const MESSAGES: u32 = 128;
/// How often a read is repeated that a trim came into.
const TRIES: usize = 16;
const CALL: &str = "memory-dump";

/// Where a dump goes on: behind a place, and before that with one memory.
#[derive(Debug, PartialEq, Eq)]
struct Start {
    flags: bool,
    place: Place,
    part: Option<Part>,
}

/// A memory of which a part has gone out. Messages are numbered from the first that the memory ever had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    /// The first message of the dump.
    base: u64,
    /// The next one.
    next: u64,
}

impl Start {
    fn read(text: Option<&str>) -> Result<Self, StoreError> {
        let Some(text) = text else { return Ok(Self { flags: false, place: Place::default(), part: None }) };
        let read = || {
            let ([flags, shard, base, next], name) = read_cursor::<4>(CALL, text)?;
            let place = Place::read(shard, name)?;
            // The first message of a dump is at 0 or later, so the next one is never 0.
            let part = (next > 0).then_some(Part { base, next });
            let possible = flags <= 1 && base <= next && (part.is_none() || (flags == 0 && !name.is_empty()));
            possible.then_some(Self { flags: flags == 1, place, part })
        };
        read().ok_or_else(|| foreign_cursor(text, ""))
    }

    fn write(&self) -> String {
        let Part { base, next } = self.part.unwrap_or(Part { base: 0, next: 0 });
        cursor(CALL, &[self.flags.into(), self.place.shard.into(), base, next], &self.place.after)
    }
}

pub(super) fn dump(text: Option<&str>, max: u32) -> Result<MemoryPage, StoreError> {
    let Start { flags, mut place, part } = Start::read(text)?;
    let mut page =
        Page { max: max as usize, memories: Vec::new(), messages: Messages { list: Vec::new(), bytes: Vec::new() } };
    if let Some(part) = part {
        let name = place.after.clone();
        if let Some(part) = page.add(&name, Some(part))? {
            return Ok(page.end(Some(Start { flags, place, part: Some(part) })));
        }
    }
    if !flags {
        loop {
            let (names, next) = MEMORIES.page("", place.clone(), NAMES)?;
            for name in &names {
                if page.is_full() {
                    return Ok(page.end(Some(Start { flags: false, place, part: None })));
                }
                place = Place::after(name);
                if let Some(part) = page.add(name, None)? {
                    return Ok(page.end(Some(Start { flags: false, place, part: Some(part) })));
                }
            }
            let Some(next) = next else { break };
            place = next;
        }
        place = Place::default();
    }
    loop {
        let room = page.room();
        if room == 0 {
            return Ok(page.end(Some(Start { flags: true, place, part: None })));
        }
        let (names, next) = FLAGS.page("", place, room.min(NAMES))?;
        page.add_flags(&names)?;
        match next {
            Some(next) => place = next,
            None => return Ok(page.end(None)),
        }
    }
}

/// A page that grows.
struct Page {
    max: usize,
    memories: Vec<DumpedMemory>,
    messages: Messages,
}

impl Page {
    fn is_full(&self) -> bool {
        self.messages.list.len() >= self.max
            || self.room() == 0
            || self.messages.bytes.len() as u64 >= DUMP_PAGE_BYTES_MAX
    }

    /// How many memories it can still take.
    fn room(&self) -> usize {
        BATCH_ITEMS_MAX - self.memories.len()
    }

    /// Adds a memory, or what is left of one; answers where to go on when the page is full before its end.
    fn add(&mut self, name: &str, part: Option<Part>) -> Result<Option<Part>, StoreError> {
        let Some((ttl_ms, flush_pending_ms)) = times(name)? else { return Ok(None) };
        let mut part = part;
        let mut offset = None;
        let before = self.messages.list.len();
        let more = loop {
            let room = u32::try_from(self.max - self.messages.list.len()).unwrap_or(u32::MAX);
            let Some(taken) = take(name, part, room.min(MESSAGES))? else { break None };
            let base = part.map_or(taken.first, |part| part.base);
            offset.get_or_insert(taken.first - base);
            for (tokens, content) in taken.contents()? {
                let span = append(&mut self.messages.bytes, content)?;
                self.messages.list.push(Message { span, tokens });
            }
            let next = taken.first + taken.messages.list.len() as u64;
            part = Some(Part { base, next });
            if next >= taken.end {
                break None;
            }
            if self.is_full() {
                break part;
            }
        };
        let messages = (self.messages.list.len() - before) as u32;
        if messages > 0 {
            let (key, offset) = (name.to_owned(), offset.unwrap_or(0));
            self.memories.push(DumpedMemory { key, ttl_ms, flush_pending_ms, offset, messages });
        }
        Ok(more)
    }

    /// Adds the flush flags of these memories, where they are set and there are no messages.
    fn add_flags(&mut self, names: &[String]) -> Result<(), StoreError> {
        if names.is_empty() {
            return Ok(());
        }
        let reply = redis::run(|commands| {
            for name in names {
                commands.command("EXISTS").arg(key(name));
                commands.command("PTTL").arg(FLAGS.entry(name));
            }
        })?;
        let mut values = reply.iter();
        for name in names {
            let (Some(exists), Some(left)) = (values.next(), values.next()) else { break };
            let flush_pending_ms = left_ms(left.get()?);
            if !exists.get::<bool>()? && flush_pending_ms.is_some() {
                let key = name.clone();
                self.memories.push(DumpedMemory { key, ttl_ms: None, flush_pending_ms, offset: 0, messages: 0 });
            }
        }
        Ok(())
    }

    fn end(self, next: Option<Start>) -> MemoryPage {
        MemoryPage { memories: self.memories, messages: self.messages, next: next.map(|start| start.write()) }
    }
}

/// What a memory and its flush flag have left.
type Times = (Option<u64>, Option<u64>);

/// The times that a memory and its flush flag have left; `None` when there is no memory.
fn times(name: &str) -> Result<Option<Times>, StoreError> {
    let reply = redis::run(|commands| {
        commands.command("PTTL").arg(key(name));
        commands.command("PTTL").arg(FLAGS.entry(name));
    })?;
    let [memory, flag] = reply.array()?;
    let (memory, flag) = (memory.get::<i64>()?, flag.get()?);
    Ok((memory != -2).then(|| (left_ms(memory), left_ms(flag))))
}

/// Messages of a memory, of one moment.
struct Taken {
    /// The number of the first of them.
    first: u64,
    /// The number behind the memory's last one.
    end: u64,
    messages: Messages,
}

impl Taken {
    fn contents(&self) -> Result<Vec<(u32, &[u8])>, StoreError> {
        let content = |message: &Message| Ok((message.tokens, slice(&self.messages.bytes, message.span)?));
        self.messages.list.iter().map(content).collect()
    }
}

/// Up to `max` messages from the part's next one on; `None` when there are none. Fewer when they are too large to travel together.
fn take(name: &str, part: Option<Part>, max: u32) -> Result<Option<Taken>, StoreError> {
    let mut gone = part.map_or(0, |part| part.base);
    let mut count = max;
    for _ in 0..TRIES {
        let offset = part.map_or(0, |part| part.next.saturating_sub(gone));
        let Slice { header, list, reply } = match range(name, offset, u64::from(count)) {
            Err(StoreError::TooLarge(_)) if count > 1 => {
                count /= 2;
                continue;
            }
            answer => answer?,
        };
        let Header { count, gone: now_gone, .. } = header;
        if count == 0 {
            return Ok(None);
        }
        if part.is_some() && now_gone != gone {
            // A trim has moved the messages.
            gone = now_gone;
            continue;
        }
        let (first, end) = (now_gone + offset, now_gone + count);
        return Ok((first < end).then(|| Taken { first, end, messages: Messages { list, bytes: reply.into_bytes() } }));
    }
    Err(StoreError::Busy(format!("the memory `{name}` was trimmed {TRIES} times while it was read; try again")))
}

pub(super) fn load(memories: &[DumpedMemory], messages: &Messages) -> Result<(), StoreError> {
    check_batch(memories.len())?;
    check_batch(messages.list.len())?;
    check_messages(messages)?;
    let mut parts = Vec::with_capacity(memories.len());
    let mut rest = messages.list.as_slice();
    for memory in memories {
        check_key("key", &memory.key)?;
        let (ttl, flag) = (check_ttl(memory.ttl_ms)?, check_ttl(memory.flush_pending_ms)?);
        let Some((own, others)) = rest.split_at_checked(memory.messages as usize) else {
            return Err(StoreError::InvalidArgument(format!(
                "the memory `{}` has {} messages on this page, but only {} of the page's {} are left for it",
                memory.key,
                memory.messages,
                rest.len(),
                messages.list.len()
            )));
        };
        parts.push((memory, ttl, flag, own));
        rest = others;
    }
    if !rest.is_empty() {
        return Err(StoreError::InvalidArgument(format!(
            "{} of the page's {} messages are of no memory of the page",
            rest.len(),
            messages.list.len()
        )));
    }
    for (memory, ttl, flag, own) in parts {
        let tokens: u64 = own.iter().map(|message| u64::from(message.tokens)).sum();
        lua!("clock", "memory", "memory_load")?
            .invoke(|call| {
                memory_keys(call, &memory.key);
                flag_keys(call, &memory.key);
                call.arg(&memory.key).arg(ttl).arg(flag).arg(memory.offset).arg(tokens);
                for message in own {
                    push_one(call, message.tokens, slice(&messages.bytes, message.span).unwrap_or_default());
                }
            })?
            .check()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_goes_on_where_it_stopped() {
        for start in [
            Start { flags: false, place: Place::after("a.b"), part: Some(Part { base: 3, next: 7 }) },
            Start { flags: false, place: Place::after("a"), part: None },
            Start { flags: true, place: Place { shard: 9, after: String::new() }, part: None },
        ] {
            assert_eq!(Start::read(Some(&start.write())).unwrap(), start);
        }
        for bad in ["", "memory-dump.2.3.0.0.", "memory-dump.0.3.0.5.", "memory-dump.0.16.0.0.", "memory-list.0.3.0.0."]
        {
            assert!(matches!(Start::read(Some(bad)), Err(StoreError::InvalidArgument(_))), "{bad}");
        }
    }
}
