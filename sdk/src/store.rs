//! Storage backends: one trait per role, and [`store_plugin!`](crate::store_plugin).
//!
//! The traits are the contract of `compozy:store`, function by function, with its own words as documentation. Arguments
//! arrive owned, answers leave owned, and bulk data travels flat: one buffer, and [`Span`]s into it.
//!
//! Instances of a backend are kept between calls, so that statements stay prepared (see
//! [`sql::statement!`](crate::sql::statement)). There may be several at once: whatever two calls must agree on belongs into
//! the database. An instance that trapped is never called again.

pub use crate::bindings::cache::exports::compozy::store::cache::Guest as Cache;
pub use crate::bindings::config_store::exports::compozy::store::config_store::{
    ConfigPage, DumpedConfig, Guest as ConfigStore, Namespace,
};
pub use crate::bindings::events::exports::compozy::store::events::Guest as Events;
pub use crate::bindings::imports::compozy::types::buffers::Span;
pub use crate::bindings::imports::compozy::types::stores::{
    Assignment, Attempt, Condition, Counts, DumpPage, Dumped, DumpedLock, DumpedMemory, DumpedStream, Entry, Event,
    EventPage, Exceeded, Found, HealthStatus, Keep, KeyPage, Lease, Lifetime, LockPage, LockState, MemoryPage, Message,
    MessagePage, Messages, Retention, Statistics, StoreError, StreamPage, StreamState, Values,
};
pub use crate::bindings::locks::exports::compozy::store::locks::Guest as Locks;
pub use crate::bindings::memory_store::exports::compozy::store::memory_store::Guest as MemoryStore;

pub mod rules;
pub mod table;

/// Makes the crate a backend: `store_plugin!(MyStore: cache, locks, events, config_store, memory_store)`, with any of the roles.
///
/// The type must implement the trait of each role that is named:
///
/// ```compile_fail
/// struct Nothing;
/// compozy_sdk::store_plugin!(Nothing: cache);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! store_plugin {
    ($store:ident: $($role:ident),+ $(,)?) => {
        $($crate::__store_role!($store, $role);)+
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __store_role {
    ($store:ident, cache) => {
        const _: () = $crate::store::assert_cache::<$store>();
        #[cfg(target_family = "wasm")]
        $crate::bindings::cache::export_cache!($store with_types_in $crate::bindings::cache);
    };
    ($store:ident, locks) => {
        const _: () = $crate::store::assert_locks::<$store>();
        #[cfg(target_family = "wasm")]
        $crate::bindings::locks::export_locks!($store with_types_in $crate::bindings::locks);
    };
    ($store:ident, events) => {
        const _: () = $crate::store::assert_events::<$store>();
        #[cfg(target_family = "wasm")]
        $crate::bindings::events::export_events!($store with_types_in $crate::bindings::events);
    };
    ($store:ident, config_store) => {
        const _: () = $crate::store::assert_config_store::<$store>();
        #[cfg(target_family = "wasm")]
        $crate::bindings::config_store::export_config_store!($store with_types_in $crate::bindings::config_store);
    };
    ($store:ident, memory_store) => {
        const _: () = $crate::store::assert_memory_store::<$store>();
        #[cfg(target_family = "wasm")]
        $crate::bindings::memory_store::export_memory_store!($store with_types_in $crate::bindings::memory_store);
    };
    ($store:ident, $other:ident) => {
        ::core::compile_error!(::core::concat!(
            "there is no store role `", ::core::stringify!($other), "`; there are cache, locks, events, config_store and memory_store"
        ));
    };
}

#[doc(hidden)]
pub const fn assert_cache<T: Cache>() {}
#[doc(hidden)]
pub const fn assert_locks<T: Locks>() {}
#[doc(hidden)]
pub const fn assert_events<T: Events>() {}
#[doc(hidden)]
pub const fn assert_config_store<T: ConfigStore>() {}
#[doc(hidden)]
pub const fn assert_memory_store<T: MemoryStore>() {}

/// The bytes of `span`.
///
/// # Errors
///
/// [`StoreError::InvalidArgument`] when it reaches past the buffer's end.
pub fn slice(bytes: &[u8], span: Span) -> Result<&[u8], StoreError> {
    let start = span.offset as usize;
    start.checked_add(span.length as usize).and_then(|end| bytes.get(start..end)).ok_or_else(|| {
        StoreError::InvalidArgument(format!(
            "a span of {} bytes at {} reaches past the end of a buffer of {} bytes",
            span.length,
            span.offset,
            bytes.len()
        ))
    })
}

/// Appends a value to a flat buffer and answers where it lies.
///
/// # Errors
///
/// [`StoreError::TooLarge`] when the buffer would leave the 4 GiB that a span can name.
pub fn append(bytes: &mut Vec<u8>, value: &[u8]) -> Result<Span, StoreError> {
    let end = bytes.len().saturating_add(value.len());
    match (u32::try_from(bytes.len()), u32::try_from(value.len()), u32::try_from(end)) {
        (Ok(offset), Ok(length), Ok(_)) => {
            bytes.extend_from_slice(value);
            Ok(Span { offset, length })
        }
        _ => Err(StoreError::TooLarge(Exceeded {
            limit: "hostcall_bytes".into(),
            used: end as u64,
            allowed: u64::from(u32::MAX),
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_appended_is_found_by_its_span() {
        let mut bytes = Vec::new();
        let spans = [b"one".as_slice(), b"", b"three"].map(|value| append(&mut bytes, value).unwrap());
        assert_eq!(bytes, b"onethree");
        assert_eq!(spans.map(|span| slice(&bytes, span).unwrap()), [b"one".as_slice(), b"", b"three"]);
    }

    #[test]
    fn a_span_past_the_end_is_an_invalid_argument() {
        for span in [Span { offset: 2, length: 2 }, Span { offset: u32::MAX, length: u32::MAX }] {
            assert!(matches!(slice(b"abc", span), Err(StoreError::InvalidArgument(_))));
        }
    }
}
