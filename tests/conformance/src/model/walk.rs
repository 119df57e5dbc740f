//! What a scan or a list owes to its caller, whatever is written meanwhile.

use std::collections::BTreeSet;

use compozy_runtime::stores::KeyPage;

use super::PAGES_MAX;
use crate::compare::{Verdict, demand, mismatch};
use crate::keys::{shown, shown_all};

/// A scan that has begun.
#[derive(Debug, Clone)]
pub(crate) struct Walk {
    pub(crate) prefix: String,
    pub(crate) max: u32,
    pub(crate) cursor: Option<String>,
    /// Keys that were there all the time.
    must: BTreeSet<String>,
    /// Keys that were there at some time.
    may: BTreeSet<String>,
    seen: BTreeSet<String>,
    pages: usize,
}

impl Walk {
    /// Begins while these keys are there.
    pub(crate) fn new(prefix: &str, max: u32, alive: &BTreeSet<String>) -> Self {
        let must: BTreeSet<String> = alive.iter().filter(|key| key.starts_with(prefix)).cloned().collect();
        let (may, seen) = (must.clone(), BTreeSet::new());
        Self { prefix: prefix.to_owned(), max, cursor: None, must, may, seen, pages: 0 }
    }

    /// These keys are there now.
    pub(crate) fn observe(&mut self, alive: &BTreeSet<String>) {
        self.must.retain(|key| alive.contains(key));
        self.may.extend(alive.iter().filter(|key| key.starts_with(&self.prefix)).cloned());
    }

    /// Takes a page in; true when it was the last one.
    pub(crate) fn page(&mut self, page: KeyPage) -> Verdict<bool> {
        for key in &page.keys {
            let expected = || format!("only keys that start with {} and are there", shown(&self.prefix));
            if !self.may.contains(key) {
                return mismatch(expected(), shown(key));
            }
        }
        self.seen.extend(page.keys);
        self.pages += 1;
        demand(self.pages < PAGES_MAX, "an end", || format!("{} pages and no end", self.pages))?;
        if page.next.is_some() {
            self.cursor = page.next;
            return Ok(false);
        }
        let missing: Vec<&String> = self.must.difference(&self.seen).collect();
        demand(
            missing.is_empty(),
            format!("every key that was there all the time: {}", shown_all(&self.must)),
            || format!("{} keys are missing: {}", missing.len(), shown_all(missing.iter().copied())),
        )?;
        Ok(true)
    }
}
