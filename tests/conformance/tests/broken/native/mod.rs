//! A correct backend of all roles in memory, written without a look at the suite's models, and what can be wrong with it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use compozy_conformance::{Backend, ManualClock, Subject};
use compozy_runtime::Clock;
use compozy_runtime::stores::{KeyPage, Lifetime, Span, StoreError, Stores};

mod cache;
mod config;
mod events;
mod locks;
mod memory;

/// The largest value of these backends, in bytes.
pub(crate) const VALUE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What is wrong with a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    // Of the cache.
    TtlIgnored,
    TtlOneMsLate,
    ExistsCountsExpired,
    MissingIsEmpty,
    LikePrefix,
    ScanSkips,
    ScanCursorIsACount,
    CasDoesNotCompare,
    VersionsBeginAgain,
    LostUpdate,
    IncrementWraps,
    IncrementTrims,
    IncrementTakesTtl,
    LoadDropsTtl,
    LoadGivesNewVersions,
    SetManyKeepsFirst,
    SetManyNotAtomic,
    KeysWithoutCase,
    LimitOffByOne,
    ForgetsOnReopen,
    SweepTakesAll,
    // Of the locks.
    TwoHolders,
    TokenBeginsAgain,
    RefreshRevives,
    RefreshAdds,
    AnyTokenHolds,
    LoadForgetsTokens,
    // Of the events.
    SequenceGap,
    SequenceTwice,
    AppendManyNotAtomic,
    ReadIncludesAfter,
    AgeOffByOne,
    TrimmedStreamForgotten,
    LoadDoubles,
    LoadForgetsSequence,
    // Of the configuration store.
    GetLeavesTtl,
    PeekResetsTtl,
    NamespacesMeet,
    LoadBeginsTtlAgain,
    StaleRead,
    // Of the memory store.
    CountersDrift,
    TrimKeepsOneTooMany,
    TrimInTwoSteps,
    TtlOutlivesMessages,
    LostAppend,
    TotalOfPage,
    ClearLeavesFlag,
    MarkRenewsFlag,
    FlagOfAnHour,
    DumpForgetsFlags,
    MarkLooksThenSets,
}

/// Opens such backends.
pub(crate) struct Natives {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) fault: Fault,
}

/// One of them, with all that it holds.
pub(crate) struct Native {
    clock: Arc<ManualClock>,
    fault: Fault,
    cache: Mutex<cache::Slots>,
    locks: Mutex<locks::Table>,
    events: Mutex<events::Streams>,
    config: Mutex<config::Slots>,
    memory: Mutex<memory::Memories>,
}

/// A handle of it.
struct Opened(Arc<Native>);

#[async_trait]
impl Subject for Natives {
    async fn open(&self) -> Result<Box<dyn Backend>, String> {
        Ok(Box::new(Opened(Arc::new(Native::new(Arc::clone(&self.clock), self.fault)))))
    }
}

#[async_trait]
impl Backend for Opened {
    fn stores(&self) -> Stores {
        Stores {
            cache: Some(self.0.clone()),
            locks: Some(self.0.clone()),
            events: Some(self.0.clone()),
            config: Some(self.0.clone()),
            memory: Some(self.0.clone()),
            ..Stores::default()
        }
    }

    async fn reopen(&mut self) -> Result<bool, String> {
        if self.0.has(Fault::ForgetsOnReopen) {
            self.0 = Arc::new(Native::new(Arc::clone(&self.0.clock), self.0.fault));
        }
        Ok(true)
    }
}

impl Native {
    fn new(clock: Arc<ManualClock>, fault: Fault) -> Self {
        Self {
            clock,
            fault,
            cache: Mutex::default(),
            locks: Mutex::default(),
            events: Mutex::default(),
            config: Mutex::default(),
            memory: Mutex::default(),
        }
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// Now; for some faults not quite.
    pub(crate) fn now(&self) -> u64 {
        match self.fault {
            Fault::TtlIgnored => 0,
            Fault::TtlOneMsLate => self.clock.now_ms() - 1,
            _ => self.clock.now_ms(),
        }
    }

    /// The clock without a fault.
    pub(crate) fn clock_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    fn expires(&self, ttl: Option<Duration>) -> Result<Option<u64>, StoreError> {
        match ttl {
            Some(Duration::ZERO) => Err(invalid("a time to live is at least 1 ms")),
            Some(ttl) => {
                Ok(Some(self.clock.now_ms().saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))))
            }
            None => Ok(None),
        }
    }

    pub(crate) fn check_value(&self, bytes: usize) -> Result<(), StoreError> {
        let allowed = VALUE_BYTES_MAX + usize::from(self.has(Fault::LimitOffByOne));
        if bytes > allowed { Err(too_large("value_bytes", bytes, VALUE_BYTES_MAX)) } else { Ok(()) }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn invalid(why: &str) -> StoreError {
    StoreError::InvalidArgument(why.to_owned())
}

pub(crate) fn too_large(limit: &str, used: usize, allowed: usize) -> StoreError {
    StoreError::TooLarge { limit: limit.to_owned(), used: used as u64, allowed: allowed as u64 }
}

pub(crate) fn check_key(key: &str) -> Result<(), StoreError> {
    match key.len() {
        0 => Err(invalid("the key is empty")),
        1..=512 => Ok(()),
        used => Err(too_large("key_bytes", used, 512)),
    }
}

pub(crate) fn check_batch(items: usize) -> Result<(), StoreError> {
    if items > 1_000 { Err(too_large("batch_items", items, 1_000)) } else { Ok(()) }
}

pub(crate) fn check_write_batch(items: usize) -> Result<(), StoreError> {
    if items == 0 { Err(invalid("nothing to write")) } else { check_batch(items) }
}

pub(crate) fn check_page(max: u32) -> Result<(), StoreError> {
    if (1..=1_000).contains(&max) { Ok(()) } else { Err(invalid("a page has 1 to 1000 entries")) }
}

pub(crate) fn slice(bytes: &[u8], span: Span) -> Result<&[u8], StoreError> {
    let start = span.offset as usize;
    bytes.get(start..start + span.length as usize).ok_or_else(|| invalid("a span reaches past the end"))
}

pub(crate) fn push(bytes: &mut Vec<u8>, value: &[u8]) -> Span {
    let span = Span { offset: bytes.len() as u32, length: value.len() as u32 };
    bytes.extend_from_slice(value);
    span
}

#[expect(clippy::option_option, reason = "the thing may be missing, and it may live without end")]
pub(crate) fn lifetime(now: u64, expires: Option<Option<u64>>) -> Lifetime {
    match expires {
        None => Lifetime::Missing,
        Some(None) => Lifetime::Unlimited,
        Some(Some(expires)) => Lifetime::RemainingMs(expires - now),
    }
}

/// A cursor is `after:`, how long the prefix was, and the last key.
pub(crate) fn cursor_after<'a>(prefix: &str, cursor: Option<&'a str>) -> Result<Option<&'a str>, StoreError> {
    let Some(cursor) = cursor else { return Ok(None) };
    let last = cursor.strip_prefix(&format!("after:{}:", prefix.len())).filter(|last| last.starts_with(prefix));
    last.map(Some).ok_or_else(|| invalid("the cursor is not one of this call"))
}

pub(crate) fn cursor(prefix: &str, last: &str) -> String {
    format!("after:{}:{last}", prefix.len())
}

impl Native {
    /// A page of sorted keys.
    pub(crate) fn key_page<'a>(
        &self,
        keys: impl Iterator<Item = &'a String>,
        prefix: &str,
        after: Option<&str>,
        max: u32,
    ) -> Result<KeyPage, StoreError> {
        check_page(max)?;
        let fits =
            |key: &&String| if self.has(Fault::LikePrefix) { like(prefix, key) } else { key.starts_with(prefix) };
        let max = max as usize;
        if self.has(Fault::ScanCursorIsACount) {
            let skip = after.map_or(Ok(0), |after| after.parse::<usize>().map_err(|_| invalid("no cursor")))?;
            let keys: Vec<String> = keys.filter(fits).skip(skip).take(max + 1).cloned().collect();
            let next = (keys.len() > max).then(|| (skip + max).to_string());
            return Ok(KeyPage { keys: keys.into_iter().take(max).collect(), next });
        }
        let after = if self.has(Fault::LikePrefix) { after } else { cursor_after(prefix, after)? };
        let mut keys: Vec<String> = keys
            .filter(fits)
            .filter(|key| after.is_none_or(|after| key.as_str() > after))
            .take(max + 1)
            .cloned()
            .collect();
        let more = keys.len() > max;
        keys.truncate(max);
        let last = keys.last().filter(|_| more);
        let next = last.map(|last| if self.has(Fault::LikePrefix) { last.clone() } else { cursor(prefix, last) });
        if self.has(Fault::ScanSkips) && more {
            keys.pop();
        }
        Ok(KeyPage { keys, next })
    }
}

/// SQL's `key LIKE prefix || '%'`.
fn like(prefix: &str, key: &str) -> bool {
    fn matches(pattern: &[char], text: &[char]) -> bool {
        match (pattern.first(), text.first()) {
            (None, _) => true,
            (Some('%'), _) => (0..=text.len()).any(|skip| matches(&pattern[1..], &text[skip..])),
            (Some('_'), Some(_)) => matches(&pattern[1..], &text[1..]),
            (Some(wanted), Some(found)) => wanted == found && matches(&pattern[1..], &text[1..]),
            (Some(_), None) => false,
        }
    }
    matches(&prefix.chars().collect::<Vec<_>>(), &key.chars().collect::<Vec<_>>())
}

/// What lies between two steps that should be one: long enough for others to come between.
pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}
