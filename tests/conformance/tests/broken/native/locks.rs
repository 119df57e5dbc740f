//! The role `locks`.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use compozy_runtime::stores::{
    Attempt, DumpedLock, HealthStatus, Lease, LockPage, LockState, Locks, Result, Statistics,
};

use super::{Fault, Native, check_batch, check_key, check_page, cursor, cursor_after, invalid, lock, too_large};

#[derive(Debug, Clone)]
struct Held {
    token: u64,
    holder: String,
    expires: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    held: BTreeMap<String, Held>,
    tokens: u64,
}

impl Table {
    fn live(&self, name: &str, now: u64) -> Option<&Held> {
        self.held.get(name).filter(|held| held.expires > now)
    }
}

impl Native {
    fn until(&self, ttl: Duration) -> Result<u64> {
        Ok(self.expires(Some(ttl))?.unwrap_or(u64::MAX))
    }

    /// Runs on the lease with this token, unless it was lost.
    fn with_lease(&self, name: &str, token: u64, work: impl FnOnce(&mut Table)) -> Result<bool> {
        check_key(name)?;
        let mut table = lock(&self.locks);
        let now = if self.has(Fault::RefreshRevives) { 0 } else { self.now() };
        let holds = table.live(name, now).is_some_and(|held| held.token == token || self.has(Fault::AnyTokenHolds));
        if holds {
            work(&mut table);
        }
        Ok(holds)
    }
}

#[async_trait]
impl Locks for Native {
    async fn acquire(&self, name: &str, ttl: Duration, holder: &str) -> Result<Attempt> {
        check_key(name)?;
        let expires = self.until(ttl)?;
        if holder.len() > 512 {
            return Err(too_large("key_bytes", holder.len(), 512));
        }
        if self.has(Fault::TwoHolders) {
            let free = lock(&self.locks).live(name, self.now()).is_none();
            super::pause().await;
            if free {
                lock(&self.locks).held.remove(name);
            }
        }
        let mut table = lock(&self.locks);
        if let Some(held) = table.live(name, self.now()) {
            return Ok(Attempt::Held(held.expires - self.now()));
        }
        table.tokens += 1;
        let token = match self.fault {
            // Kept with the lock, and gone with it.
            Fault::TokenBeginsAgain => table.held.get(name).map_or(1, |held| held.token + 1),
            _ => table.tokens,
        };
        table.held.insert(name.to_owned(), Held { token, holder: holder.to_owned(), expires });
        Ok(Attempt::Acquired(Lease { token, remaining_ms: expires - self.clock_ms() }))
    }

    async fn refresh(&self, name: &str, token: u64, ttl: Duration) -> Result<bool> {
        let expires = self.until(ttl)?;
        self.with_lease(name, token, |table| {
            if let Some(held) = table.held.get_mut(name) {
                held.expires = if self.has(Fault::RefreshAdds) {
                    held.expires.saturating_add(expires - self.clock_ms())
                } else {
                    expires
                };
            }
        })
    }

    async fn release(&self, name: &str, token: u64) -> Result<bool> {
        if self.has(Fault::RefreshRevives) && lock(&self.locks).live(name, self.now()).is_none() {
            check_key(name)?;
            return Ok(false);
        }
        self.with_lease(name, token, |table| drop(table.held.remove(name)))
    }

    async fn inspect(&self, name: &str) -> Result<Option<LockState>> {
        check_key(name)?;
        let (table, now) = (lock(&self.locks), self.now());
        Ok(table.live(name, now).map(|held| LockState {
            holder: held.holder.clone(),
            lease: Lease { token: held.token, remaining_ms: held.expires - now },
        }))
    }

    async fn health(&self) -> Result<HealthStatus> {
        Ok(HealthStatus { detail: "in memory".to_owned() })
    }

    async fn stats(&self) -> Result<Statistics> {
        Ok(Statistics { entries: Some(lock(&self.locks).held.len() as u64), bytes: None, details: Vec::new() })
    }

    async fn sweep(&self, max: u32) -> Result<u32> {
        check_page(max)?;
        let (mut table, now) = (lock(&self.locks), self.now());
        let old: Vec<String> =
            table.held.keys().filter(|name| table.live(name, now).is_none()).take(max as usize).cloned().collect();
        for name in &old {
            drop(table.held.remove(name));
        }
        Ok(old.len() as u32)
    }

    async fn dump(&self, after: Option<&str>, max: u32) -> Result<LockPage> {
        check_page(max)?;
        let after = cursor_after("", after)?;
        let (table, now) = (lock(&self.locks), self.now());
        let live = table.held.keys().filter(|name| table.live(name, now).is_some());
        let mut names = live.filter(|name| after.is_none_or(|after| name.as_str() > after)).peekable();
        let of = |name: &String| {
            let held = &table.held[name];
            let lease = Lease { token: held.token, remaining_ms: held.expires - now };
            DumpedLock { name: name.clone(), holder: held.holder.clone(), lease }
        };
        let locks: Vec<DumpedLock> = names.by_ref().take(max as usize).map(of).collect();
        let next = names.peek().and_then(|_| locks.last()).map(|last| cursor("", &last.name));
        Ok(LockPage { locks, greatest_token: table.tokens, next })
    }

    async fn load(&self, locks: &[DumpedLock], greatest_token: u64) -> Result<()> {
        check_batch(locks.len())?;
        let mut table = lock(&self.locks);
        for dumped in locks {
            check_key(&dumped.name)?;
            if dumped.lease.remaining_ms == 0 {
                return Err(invalid("a lease has at least 1 ms left"));
            }
            let expires = self.clock_ms().saturating_add(dumped.lease.remaining_ms);
            let held = Held { token: dumped.lease.token, holder: dumped.holder.clone(), expires };
            table.held.insert(dumped.name.clone(), held);
        }
        if !self.has(Fault::LoadForgetsTokens) {
            table.tokens = table.tokens.max(greatest_token);
        }
        Ok(())
    }
}
