//! What a call should answer against what it answered.

use std::fmt::Debug;

use compozy_runtime::stores::{Lifetime, Span, StoreError};

use crate::time::Time;

/// Where the backend and the contract part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) expected: String,
    pub(crate) actual: String,
}

/// Nothing, or where they part.
pub(crate) type Verdict<T = ()> = Result<T, Mismatch>;

/// A mismatch in words.
pub(crate) fn mismatch<T>(expected: impl Into<String>, actual: impl Into<String>) -> Verdict<T> {
    Err(Mismatch { expected: expected.into(), actual: actual.into() })
}

/// Says that something must be so.
pub(crate) fn demand(holds: bool, expected: impl Into<String>, actual: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { mismatch(expected, actual()) }
}

/// Why the contract refuses a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    Invalid(&'static str),
    TooLarge { limit: &'static str, used: u64, allowed: u64 },
    WrongType,
    Overflow,
}

impl Refusal {
    fn is(&self, error: &StoreError) -> bool {
        match (self, error) {
            (Self::Invalid(_), StoreError::InvalidArgument(why)) => !why.is_empty(),
            (
                Self::TooLarge { limit, used, allowed },
                StoreError::TooLarge { limit: name, used: asked, allowed: most },
            ) => limit == name && used == asked && allowed == most,
            (Self::WrongType, StoreError::WrongType(why)) | (Self::Overflow, StoreError::Overflow(why)) => {
                !why.is_empty()
            }
            _ => false,
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Invalid(why) => format!("invalid-argument, because {why}"),
            Self::TooLarge { limit, used, allowed } => {
                format!("too-large with limit `{limit}`, used {used}, allowed {allowed}")
            }
            Self::WrongType => "wrong-type, with a sentence".to_owned(),
            Self::Overflow => "overflow, with a sentence".to_owned(),
        }
    }
}

/// An error as the contract spells it.
pub(crate) fn error_words(error: &StoreError) -> String {
    let case = match error {
        StoreError::InvalidArgument(_) => "invalid-argument",
        StoreError::TooLarge { limit, used, allowed } => {
            return format!("too-large with limit `{limit}`, used {used}, allowed {allowed}");
        }
        StoreError::WrongType(_) => "wrong-type",
        StoreError::Overflow(_) => "overflow",
        StoreError::Denied(_) => "denied",
        StoreError::Busy(_) => "busy",
        StoreError::Unavailable(_) => "unavailable",
        StoreError::CircuitOpen { .. } => "circuit open",
        StoreError::Internal(_) => "internal",
        StoreError::Call(_) => "no answer",
    };
    format!("{case}: {error}")
}

/// Checks the arguments of a call by the shared rules. With several faults in one call any of their errors will do.
#[derive(Debug, Default)]
pub(crate) struct Args(Vec<Refusal>);

/// Keys, in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 512;
/// Entries of one call or page.
pub(crate) const BATCH_ITEMS_MAX: usize = 1_000;

impl Args {
    fn more(mut self, faulty: bool, refusal: Refusal) -> Self {
        if faulty {
            self.0.push(refusal);
        }
        self
    }

    pub(crate) fn key(self, key: &str) -> Self {
        let used = key.len() as u64;
        let too_large = Refusal::TooLarge { limit: "key_bytes", used, allowed: KEY_BYTES_MAX as u64 };
        self.more(key.is_empty(), Refusal::Invalid("it is empty")).more(key.len() > KEY_BYTES_MAX, too_large)
    }

    pub(crate) fn value(self, bytes: usize, max: usize) -> Self {
        let too_large = Refusal::TooLarge { limit: "value_bytes", used: bytes as u64, allowed: max as u64 };
        self.more(bytes > max, too_large)
    }

    pub(crate) fn ttl(self, ttl_ms: Option<u64>) -> Self {
        self.more(ttl_ms == Some(0), Refusal::Invalid("a time to live is at least 1 ms"))
    }

    /// The entries of a bulk call.
    pub(crate) fn batch(self, items: usize) -> Self {
        let (used, allowed) = (items as u64, BATCH_ITEMS_MAX as u64);
        self.more(items > BATCH_ITEMS_MAX, Refusal::TooLarge { limit: "batch_items", used, allowed })
    }

    /// The entries of a bulk call that writes.
    pub(crate) fn some(self, items: usize) -> Self {
        self.more(items == 0, Refusal::Invalid("there is nothing to write")).batch(items)
    }

    /// How much a page, a scan or a sweep may have.
    pub(crate) fn page(self, max: u32) -> Self {
        let faulty = !(1..=BATCH_ITEMS_MAX).contains(&(max as usize));
        self.more(faulty, Refusal::Invalid("a page has 1 to 1,000 entries"))
    }

    /// What else may be wrong.
    pub(crate) fn not(self, faulty: bool, refusal: Refusal) -> Self {
        self.more(faulty, refusal)
    }

    pub(crate) fn right(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares the answer of the call with what it should be when the arguments are right.
    pub(crate) fn answer<T: PartialEq + Debug>(&self, expected: &T, actual: Result<T, StoreError>) -> Verdict {
        match self.accept(&format!("{expected:?}"), actual)? {
            Some(actual) if actual != *expected => mismatch(short(expected), short(&actual)),
            _ => Ok(()),
        }
    }

    /// The answer of the call, of which `expected` says what it should be; nothing when it was refused and had to be.
    pub(crate) fn accept<T>(&self, expected: &str, actual: Result<T, StoreError>) -> Verdict<Option<T>>
    where
        T: Debug,
    {
        match actual {
            Ok(actual) if self.right() => Ok(Some(actual)),
            Ok(actual) => mismatch(self.words(), short(&actual)),
            Err(error) if self.0.iter().any(|refusal| refusal.is(&error)) => Ok(None),
            Err(error) => {
                let expected = if self.right() { cut(expected) } else { self.words() };
                mismatch(expected, format!("error {}", error_words(&error)))
            }
        }
    }

    fn words(&self) -> String {
        let words: Vec<String> = self.0.iter().map(Refusal::words).collect();
        format!("error {}", words.join(", or "))
    }
}

/// The answer of a call that must not fail.
pub(crate) fn succeed<T>(what: &str, actual: Result<T, StoreError>) -> Verdict<T> {
    actual.or_else(|error| mismatch(format!("{what} answers"), format!("error {}", error_words(&error))))
}

fn short(value: &impl Debug) -> String {
    cut(&format!("{value:?}"))
}

/// A text that is not longer than a person reads.
pub(crate) fn cut(text: &str) -> String {
    const CHARS_MAX: usize = 400;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

/// A value that shows itself as a person would write it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Blob(pub(crate) Vec<u8>);

impl Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) if text.len() <= 40 => write!(f, "{text:?}"),
            _ => {
                let sum = self.0.iter().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
                write!(f, "[{} bytes, sum {sum:08x}]", self.0.len())
            }
        }
    }
}

impl From<&str> for Blob {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

/// Many of these.
pub(crate) fn flat(blobs: &[Blob]) -> (Vec<Span>, Vec<u8>) {
    let mut bytes = Vec::with_capacity(blobs.iter().map(|blob| blob.0.len()).sum());
    let spans = blobs
        .iter()
        .map(|blob| {
            let span = Span { offset: bytes.len() as u32, length: blob.0.len() as u32 };
            bytes.extend_from_slice(&blob.0);
            span
        })
        .collect();
    (spans, bytes)
}

/// The bytes of a span of an answer.
pub(crate) fn slice(bytes: &[u8], span: Span) -> Verdict<Blob> {
    let start = span.offset as usize;
    match bytes.get(start..start + span.length as usize) {
        Some(slice) => Ok(Blob(slice.to_vec())),
        None => mismatch("spans inside of the buffer", format!("{span:?} in {} bytes", bytes.len())),
    }
}

/// What a role says of the time to live of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    Missing,
    Unlimited,
    Ms(u64),
}

impl Left {
    /// Of something that is there.
    pub(crate) fn of(ttl_ms: Option<u64>) -> Self {
        ttl_ms.map_or(Self::Unlimited, Self::Ms)
    }

    /// Checks what the backend says against this.
    pub(crate) fn check(self, args: &Args, actual: Result<Lifetime, StoreError>, time: &Time) -> Verdict {
        let Some(actual) = args.accept(&format!("{self:?}"), actual)? else { return Ok(()) };
        let actual = match actual {
            Lifetime::Missing => Self::Missing,
            Lifetime::Unlimited => Self::Unlimited,
            Lifetime::RemainingMs(ms) => Self::Ms(ms),
        };
        self.same(actual, time)
    }

    /// Checks what is left in a dump or in a state.
    pub(crate) fn same(self, actual: Self, time: &Time) -> Verdict {
        let fits = match (self, actual) {
            (Self::Ms(expected), Self::Ms(actual)) => time.fits(expected, actual),
            (expected, actual) => expected == actual,
        };
        demand(fits, format!("time to live {self:?}"), || format!("time to live {actual:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_must_have_its_case_and_name_its_limit() {
        let args = Args::default().key(&"k".repeat(513));
        let error = |limit: &str, used| Err(StoreError::TooLarge { limit: limit.to_owned(), used, allowed: 512 });
        assert!(args.answer(&true, error("key_bytes", 513)).is_ok());
        for wrong in
            [Ok(true), error("key", 513), error("key_bytes", 512), Err(StoreError::InvalidArgument("k".into()))]
        {
            let found = args.answer(&true, wrong).unwrap_err();
            assert_eq!(found.expected, "error too-large with limit `key_bytes`, used 513, allowed 512");
        }
        let empty = Args::default().key("");
        assert!(empty.answer(&true, Err(StoreError::InvalidArgument("the key is empty".into()))).is_ok());
        assert!(empty.answer(&true, Err(StoreError::InvalidArgument(String::new()))).is_err(), "a sentence is needed");
    }

    #[test]
    fn right_arguments_must_be_accepted() {
        let args = Args::default().key("k").ttl(Some(1)).value(5, 5).batch(1_000).some(1).page(1_000);
        assert!(args.answer(&1, Ok(1)).is_ok());
        assert!(args.answer(&1, Ok(2)).is_err());
        assert!(args.answer(&1, Err(StoreError::Busy("later".into()))).is_err());
        for faulty in [
            Args::default().ttl(Some(0)),
            Args::default().value(6, 5),
            Args::default().batch(1_001),
            Args::default().some(0),
            Args::default().page(0),
            Args::default().page(1_001),
        ] {
            assert!(faulty.answer(&1, Ok(1)).is_err(), "{faulty:?}");
        }
    }
}
