//! Memory and tables of one instance, all of them together. (wasmtime's own `StoreLimits` counts each by itself.)

use wasmtime::ResourceLimiter;

use crate::limits::{Limit, LimitHit, Limits};

/// Counts what one instance holds.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory: Sum,
    table: Sum,
    instances: usize,
    memories: usize,
    tables: usize,
}

#[derive(Debug)]
struct Sum {
    limit: Limit,
    used: u64,
    allowed: u64,
    /// The last growth, in case that it fails after it was allowed.
    last: u64,
}

impl Sum {
    fn new(limit: Limit, limits: &Limits) -> Self {
        Self { limit, used: 0, allowed: limits.get(limit), last: 0 }
    }

    /// An error and not a refusal: a guest that takes a refusal for an answer would fail later, in another place, without a name.
    fn grow(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum && maximum as u64 <= self.allowed) {
            self.last = 0;
            // The guest's own maximum comes first: it gets the answer that WebAssembly gives for that.
            return Ok(false);
        }
        let grown = desired.saturating_sub(current) as u64;
        let used = self.used.saturating_add(grown);
        if used > self.allowed {
            return Err(LimitHit { limit: self.limit, used, allowed: self.allowed }.into());
        }
        self.used = used;
        self.last = grown;
        Ok(true)
    }

    fn failed(&mut self) {
        self.used -= std::mem::take(&mut self.last);
    }
}

impl Limiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            memory: Sum::new(Limit::MemoryBytes, limits),
            table: Sum::new(Limit::TableElements, limits),
            instances: limits.size(Limit::Instances),
            memories: limits.size(Limit::Memories),
            tables: limits.size(Limit::Tables),
        }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.memory.grow(current, desired, maximum)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory.failed();
        tracing::debug!(%error, "a plugin's memory could not grow");
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.table.grow(current, desired, maximum)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.table.failed();
        tracing::debug!(%error, "a plugin's table could not grow");
        Ok(())
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        self.tables
    }

    fn memories(&self) -> usize {
        self.memories
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growth_that_failed_is_given_back() {
        let mut sum = Sum { limit: Limit::MemoryBytes, used: 0, allowed: 100, last: 0 };
        assert!(sum.grow(0, 60, None).unwrap());
        sum.failed();
        assert!(sum.grow(0, 90, None).unwrap(), "the first growth did not happen");
        assert!(!sum.grow(90, 95, Some(92)).unwrap());
        sum.failed();
        assert_eq!(sum.used, 90, "a growth beyond the guest's own maximum was never counted");
        let error = sum.grow(90, 101, None).unwrap_err();
        assert_eq!(error.downcast_ref::<LimitHit>().unwrap().used, 101);
    }
}
