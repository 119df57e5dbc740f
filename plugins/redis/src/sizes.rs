//! How large a read can become.
//!
//! An answer beyond the host's limit ends the connection that it comes on, and with it the calls of others. So a stream and a memory
//! know their largest entry, and an instance remembers what it was told: a read whose answer is known to fit is one command, any
//! other looks first.

use std::cell::RefCell;
use std::collections::HashMap;

/// Bytes that an answer can have: a little less than the default of `hostcall_bytes`, and more than the largest value.
pub(crate) const ANSWER_BYTES: u64 = 19 * 1024 * 1024;
/// Bytes that a page may have, where it may be shorter than was asked for.
pub(crate) const PAGE_BYTES: u64 = 8 * 1024 * 1024;
/// What an entry costs beside its content.
const ENTRY_BYTES: u64 = 128;
/// How many names an instance remembers.
const NAMES_MAX: usize = 512;

thread_local! {
    pub(crate) static STREAMS: Sizes = Sizes::default();
    pub(crate) static MEMORIES: Sizes = Sizes::default();
}

/// The largest entry, in bytes, of each name that was seen lately. It may have got a larger one since: that is rare, and does no more
/// harm than a broken connection.
#[derive(Debug, Default)]
pub(crate) struct Sizes(RefCell<HashMap<Box<str>, u64>>);

impl Sizes {
    /// Bytes of the largest entry that a name was known to have.
    pub(crate) fn largest(&self, name: &str) -> Option<u64> {
        self.0.borrow().get(name).copied()
    }

    /// Whether any so many entries of a name are known to fit a page.
    pub(crate) fn fits(&self, name: &str, count: u32) -> bool {
        self.largest(name).is_some_and(|largest| fitting(largest, count) == count)
    }

    /// Forgets a name.
    pub(crate) fn forget(&self, name: &str) {
        self.0.borrow_mut().remove(name);
    }

    /// Remembers the largest entry of a name.
    pub(crate) fn learn(&self, name: &str, largest: u64) {
        let mut known = self.0.borrow_mut();
        if let Some(place) = known.get_mut(name) {
            *place = largest;
            return;
        }
        if known.len() >= NAMES_MAX {
            known.clear();
        }
        known.insert(name.into(), largest);
    }
}

/// How many of up to `max` entries fit a page whatever they are; one at least.
pub(crate) fn fitting(largest: u64, max: u32) -> u32 {
    let fits = PAGE_BYTES / largest.saturating_add(ENTRY_BYTES);
    max.min(u32::try_from(fits).unwrap_or(u32::MAX)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_never_holds_more_than_fits() {
        for (largest, max, count) in
            [(0, 1_000, 1_000), (8_000, 1_000, 1_000), (100_000, 1_000, 83), (16 << 20, 10, 1), (u64::MAX, 5, 1)]
        {
            assert_eq!(fitting(largest, max), count, "{largest}");
        }
    }

    #[test]
    fn an_instance_remembers_so_many_names() {
        let sizes = Sizes::default();
        assert!(sizes.largest("a").is_none() && !sizes.fits("a", 1));
        sizes.learn("a", 1);
        sizes.learn("a", 100_000);
        assert_eq!((sizes.largest("a"), sizes.fits("a", 83), sizes.fits("a", 84)), (Some(100_000), true, false));
        sizes.forget("a");
        assert_eq!(sizes.largest("a"), None);
        sizes.learn("a", 1);
        (0..NAMES_MAX).for_each(|number| sizes.learn(&format!("other-{number}"), 1));
        assert_eq!(sizes.largest("a"), None);
        assert!(sizes.0.borrow().len() <= NAMES_MAX);
    }
}
