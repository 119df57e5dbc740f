//! What is measured: the operations of stores, as both sides carry them out.

use async_trait::async_trait;

/// Keys of each size that exist.
pub(crate) const KEYS: usize = 1_000;
/// Keys of 1 MiB that exist.
pub(crate) const LARGE_KEYS: usize = 8;
/// Keys of one `get-many`.
pub(crate) const MANY: usize = 100;
/// Messages of a memory, and what `append` keeps.
pub(crate) const MESSAGES: u32 = 100;
/// Messages of a page, and events of a read.
pub(crate) const PAGE: u32 = 20;
/// Bytes of a message and of an event.
pub(crate) const SMALL: usize = 100;
/// Events of the stream that is read.
pub(crate) const EVENTS: usize = 1_000;

pub(crate) const KIB: usize = 1_024;
pub(crate) const MIB: usize = 1_024 * KIB;

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// `cache.get` of a value of so many bytes.
    Get(usize),
    /// `cache.get-many` of [`MANY`] small values.
    GetMany,
    /// `cache.set` of a small value with a time to live.
    Set,
    /// `cache.increment` of one of many counters.
    Increment,
    /// `memory-store.append` of one message, keeping the last [`MESSAGES`].
    MemoryAppend,
    /// `memory-store.page` of the last [`PAGE`] messages.
    MemoryPage,
    /// `locks.acquire` and `locks.release` of a lock that nobody has.
    Lock,
    /// `events.append` of a small event.
    EventAppend,
    /// `events.read-after` of [`PAGE`] events in the middle of a stream.
    EventRead,
}

/// Each measure's name behind the backend's, the work, and the ratio to reach with one caller.
pub(crate) const ALL: [(&str, Work, Targets); 11] = [
    ("cache.get.100B", Work::Get(SMALL), Targets { sqlite: 1.3, redis: 1.1 }),
    ("cache.get.10KiB", Work::Get(10 * KIB), Targets { sqlite: 1.3, redis: 1.1 }),
    ("cache.get.1MiB", Work::Get(MIB), Targets { sqlite: 1.3, redis: 1.3 }),
    ("cache.get-many.100B", Work::GetMany, Targets { sqlite: 1.1, redis: 1.1 }),
    ("cache.set.100B", Work::Set, Targets { sqlite: 1.2, redis: 1.1 }),
    ("cache.increment.1", Work::Increment, Targets { sqlite: 1.2, redis: 1.1 }),
    ("memory.append.100B", Work::MemoryAppend, Targets { sqlite: 1.2, redis: 1.1 }),
    ("memory.page.100B", Work::MemoryPage, Targets { sqlite: 1.3, redis: 1.1 }),
    ("locks.acquire-release.1", Work::Lock, Targets { sqlite: 1.2, redis: 1.1 }),
    ("events.append.100B", Work::EventAppend, Targets { sqlite: 1.2, redis: 1.1 }),
    ("events.read.100B", Work::EventRead, Targets { sqlite: 1.3, redis: 1.1 }),
];

/// The largest time of ours, as a multiple of the native one's, that is good enough.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Targets {
    pub(crate) sqlite: f64,
    pub(crate) redis: f64,
}

/// One side: plugins behind the runtime, or native code that issues the same statements or commands.
#[async_trait]
pub(crate) trait Side: Send + Sync {
    /// Carries out one operation. `turn` picks the key; the same turn picks the same key on both sides.
    async fn run(&self, work: Work, turn: usize) -> Result<(), String>;
}

pub(crate) fn key(size: usize, turn: usize) -> String {
    let keys = if size >= MIB { LARGE_KEYS } else { KEYS };
    format!("value/{size}/{}", spread(turn) % keys)
}

pub(crate) fn many_keys(turn: usize) -> Vec<String> {
    (0..MANY).map(|place| key(SMALL, turn.wrapping_mul(MANY).wrapping_add(place))).collect()
}

pub(crate) fn counter(turn: usize) -> String {
    format!("counter/{}", spread(turn) % KEYS)
}

pub(crate) fn memory(turn: usize) -> String {
    format!("memory/{}", spread(turn) % 64)
}

pub(crate) fn lock(turn: usize) -> String {
    // No two callers want the same one: what is measured is the price of a lock, not the wait for it.
    format!("lock/{turn}")
}

pub(crate) fn stream(turn: usize) -> String {
    format!("stream/{}", spread(turn) % 64)
}

/// The stream that is read.
pub(crate) const LONG_STREAM: &str = "stream/long";

/// The sequence after which is read.
pub(crate) fn after(turn: usize) -> u64 {
    (spread(turn) % (EVENTS - PAGE as usize)) as u64
}

/// Turns that follow each other go to places that do not.
fn spread(turn: usize) -> usize {
    turn.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as usize) >> 17
}
