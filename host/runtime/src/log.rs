//! What plugins log: `compozy:host/log`, stdout and stderr, all against one budget of bytes per call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::bindings::compozy::host::log::{Field, Host, Level};
use crate::identity::Identity;
use crate::limits::{Limit, LimitHit, Limits};

/// What a line counts beside its text, so that empty lines are not free.
const LINE_OVERHEAD_BYTES: u64 = 16;

/// The bytes that the present call has logged.
#[derive(Debug)]
pub(crate) struct LogBudget {
    used: AtomicU64,
    allowed: u64,
}

impl LogBudget {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { used: AtomicU64::new(0), allowed: limits.get(Limit::LogBytes) }
    }

    /// Takes bytes from the budget.
    pub(crate) fn spend(&self, bytes: u64) -> Result<(), LimitHit> {
        let used = self.used.fetch_add(bytes, Relaxed).saturating_add(bytes);
        if used > self.allowed {
            return Err(LimitHit { limit: Limit::LogBytes, used, allowed: self.allowed });
        }
        Ok(())
    }
}

/// The part of a guest's state that serves `compozy:host/log`.
#[derive(Debug)]
pub(crate) struct LogAccess {
    plugin: Arc<Identity>,
    budget: Arc<LogBudget>,
}

impl LogAccess {
    pub(crate) fn new(plugin: Arc<Identity>, budget: Arc<LogBudget>) -> Self {
        Self { plugin, budget }
    }

    pub(crate) fn reset(&self) {
        self.budget.used.store(0, Relaxed);
    }
}

impl Host for LogAccess {
    fn log(&mut self, level: Level, message: String, fields: Vec<Field>) -> wasmtime::Result<()> {
        let values: usize = fields.iter().map(|field| field.name.len() + field.value.len()).sum();
        self.budget.spend(LINE_OVERHEAD_BYTES + (message.len() + values) as u64)?;
        let plugin = self.plugin.name.as_str();
        let digest = self.plugin.short_digest();
        // `tracing` fixes the level and the names of fields when it is compiled.
        macro_rules! line {
            ($level:ident) => {
                if tracing::enabled!(target: "compozy::plugin", tracing::Level::$level) {
                    let fields = Fields(&fields);
                    tracing::event!(target: "compozy::plugin", tracing::Level::$level, plugin, digest, %fields, "{message}");
                }
            };
        }
        match level {
            Level::Trace => line!(TRACE),
            Level::Debug => line!(DEBUG),
            Level::Info => line!(INFO),
            Level::Warn => line!(WARN),
            Level::Error => line!(ERROR),
        }
        Ok(())
    }
}

struct Fields<'a>(&'a [Field]);

impl std::fmt::Display for Fields<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, field) in self.0.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{}={:?}", field.name, field.value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_counts_text_fields_and_lines() {
        let budget = LogBudget { used: AtomicU64::new(0), allowed: 100 };
        let plugin = Identity { name: "p".into(), version: "0.1.0".into(), digest: "0".repeat(64) };
        let mut log = LogAccess::new(Arc::new(plugin), Arc::new(budget));
        let fields = || vec![Field { name: "a".into(), value: "bcd".into() }];
        log.log(Level::Info, "0123456789".into(), fields()).unwrap();
        log.log(Level::Info, "0123456789".into(), fields()).unwrap();
        log.log(Level::Info, "0123456789".into(), fields()).unwrap();
        let error = log.log(Level::Info, "0123456789".into(), fields()).unwrap_err();
        let hit = error.downcast_ref::<LimitHit>().unwrap();
        assert_eq!(*hit, LimitHit { limit: Limit::LogBytes, used: 120, allowed: 100 });
        log.reset();
        log.log(Level::Info, "next call".into(), Vec::new()).unwrap();
    }
}
