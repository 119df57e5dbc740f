//! The model of the role `locks`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use compozy_runtime::Role;
use compozy_runtime::stores::{Attempt, DumpedLock, Locks, Stores};

use super::{Model, Moving, PAGES_MAX};
use crate::compare::{Args, KEY_BYTES_MAX, Left, Refusal, Verdict, demand, mismatch, succeed};
use crate::keys::{Pool, duration, shown};
use crate::rng::Rng;
use crate::suite::Options;
use crate::time::Time;

/// Which token of a name a call comes with. Tokens are known only when the script runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// That of the last lease, held or lost.
    Last,
    /// That of the lease before.
    Former,
    /// One that no lease had.
    Unknown,
}

/// A call of the role.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Acquire {
        name: String,
        ttl: u64,
        holder: String,
    },
    Refresh(String, Which, u64),
    Release(String, Which),
    Inspect(String),
    /// One page of a dump.
    Dump(u32),
    DumpFrom(String),
    Sweep(u32),
    Health,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acquire { name, ttl, holder } => {
                write!(f, "acquire({}, {ttl} ms, holder {})", shown(name), shown(holder))
            }
            Self::Refresh(name, which, ttl) => write!(f, "refresh({}, {which:?} token, {ttl} ms)", shown(name)),
            Self::Release(name, which) => write!(f, "release({}, {which:?} token)", shown(name)),
            Self::Inspect(name) => write!(f, "inspect({})", shown(name)),
            Self::Dump(max) => write!(f, "dump, first page of {max}"),
            Self::DumpFrom(cursor) => write!(f, "dump from the cursor {cursor:?}"),
            Self::Sweep(max) => write!(f, "sweep({max})"),
            Self::Health => f.write_str("health()"),
        }
    }
}

#[derive(Debug, Clone)]
struct Held {
    holder: String,
    expires: u64,
}

/// The model.
#[derive(Debug, Clone)]
pub(crate) struct LocksModel {
    held: BTreeMap<String, Held>,
    /// Every token that a name had, in order.
    tokens: BTreeMap<String, Vec<u64>>,
    /// Every new token is greater, whatever its name.
    floor: u64,
}

impl LocksModel {
    fn expire(&mut self, now: u64) {
        self.held.retain(|_, held| held.expires > now);
    }

    fn tokens(&self, name: &str) -> &[u64] {
        self.tokens.get(name).map_or(&[], Vec::as_slice)
    }

    /// A token, and whether a call with it holds the lock.
    fn token(&self, name: &str, which: Which) -> (u64, bool) {
        let tokens = self.tokens(name);
        match (which, tokens) {
            (Which::Last, [.., last]) => (*last, self.held.contains_key(name)),
            (Which::Former, [.., former, _]) => (*former, false),
            _ => (tokens.last().copied().unwrap_or_default().saturating_add(1_000), false),
        }
    }

    async fn acquire(&mut self, store: &dyn Locks, name: &str, ttl: u64, holder: &str, time: &Time) -> Verdict {
        let used = holder.len() as u64;
        let too_large = Refusal::TooLarge { limit: "key_bytes", used, allowed: KEY_BYTES_MAX as u64 };
        let args = Args::default().key(name).ttl(Some(ttl)).not(holder.len() > KEY_BYTES_MAX, too_large);
        let now = time.now();
        let left = self.held.get(name).map(|held| held.expires - now);
        let expected = left.map_or("the lock".to_owned(), |left| format!("held for {left} ms"));
        let attempt = store.acquire(name, duration(Some(ttl)).unwrap_or_default(), holder).await;
        let Some(attempt) = args.accept(&expected, attempt)? else { return Ok(()) };
        match (left, attempt) {
            (Some(left), Attempt::Held(actual)) => Left::Ms(left).same(Left::Ms(actual), time),
            (None, Attempt::Acquired(lease)) => {
                let before = self.tokens(name).last().copied().unwrap_or_default().max(self.floor);
                demand(lease.token > before, format!("a token greater than {before}"), || lease.token.to_string())?;
                self.tokens.entry(name.to_owned()).or_default().push(lease.token);
                let holder = holder.to_owned();
                self.held.insert(name.to_owned(), Held { holder, expires: now.saturating_add(ttl) });
                Left::Ms(ttl).same(Left::Ms(lease.remaining_ms), time)
            }
            (_, attempt) => mismatch(expected, format!("{attempt:?}")),
        }
    }

    async fn inspect(&mut self, store: &dyn Locks, name: &str, time: &Time) -> Verdict {
        let args = Args::default().key(name);
        let Some(state) = args.accept("who has the lock", store.inspect(name).await)? else { return Ok(()) };
        let expected = self.held.get(name).map(|held| (held.holder.clone(), self.token(name, Which::Last).0));
        let actual = state.as_ref().map(|state| (state.holder.clone(), state.lease.token));
        demand(expected == actual, format!("{expected:?} has {}", shown(name)), || format!("{actual:?}"))?;
        match (self.held.get(name), state) {
            (Some(held), Some(state)) => {
                Left::Ms(held.expires - time.now()).same(Left::Ms(state.lease.remaining_ms), time)
            }
            _ => Ok(()),
        }
    }

    fn lock_is(&self, lock: &DumpedLock, time: &Time) -> Verdict {
        let Some(held) = self.held.get(&lock.name) else {
            return mismatch("only locks that are held", format!("{} in the dump", shown(&lock.name)));
        };
        let expected = (&held.holder, self.token(&lock.name, Which::Last).0);
        let actual = (&lock.holder, lock.lease.token);
        demand(expected == actual, format!("{expected:?} has {}", shown(&lock.name)), || format!("{actual:?}"))?;
        Left::Ms(held.expires - time.now()).same(Left::Ms(lock.lease.remaining_ms), time)
    }

    fn greatest(&self) -> u64 {
        self.tokens.values().flatten().copied().max().unwrap_or_default().max(self.floor)
    }

    async fn dump(&self, store: &dyn Locks, max: u32, time: &Time) -> Verdict {
        let Some(page) = Args::default().page(max).accept("a page", store.dump(None, max).await)? else {
            return Ok(());
        };
        demand(page.locks.len() <= max as usize, format!("at most {max} locks"), || page.locks.len().to_string())?;
        page.locks.iter().try_for_each(|lock| self.lock_is(lock, time))
    }
}

#[async_trait]
impl Model for LocksModel {
    type Store = dyn Locks;
    type Step = Call;
    const ROLE: Role = Role::Locks;

    fn new(_: &Options) -> Self {
        Self { held: BTreeMap::new(), tokens: BTreeMap::new(), floor: 0 }
    }

    fn store(stores: &Stores) -> Option<Arc<dyn Locks>> {
        stores.locks.clone()
    }

    fn random(rng: &mut Rng, pool: &Pool) -> Call {
        let name = pool.key(rng);
        let which = *rng.pick(&[Which::Last, Which::Last, Which::Last, Which::Former, Which::Unknown]);
        match rng.below(20) {
            0..=6 => Call::Acquire { name, ttl: pool.some_ttl(rng), holder: pool.prefix(rng) },
            7..=10 => Call::Refresh(name, which, pool.some_ttl(rng)),
            11..=14 => Call::Release(name, which),
            15..=16 => Call::Inspect(name),
            17 => Call::Dump(Pool::page(rng)),
            18 => Call::Sweep(Pool::page(rng)),
            _ => Call::Health,
        }
    }

    async fn apply(&mut self, store: &Self::Store, step: &Call, time: &Time) -> Verdict {
        let now = time.now();
        self.expire(now);
        match step {
            Call::Acquire { name, ttl, holder } => self.acquire(store, name, *ttl, holder, time).await,
            Call::Refresh(name, which, ttl) => {
                let args = Args::default().key(name).ttl(Some(*ttl));
                let (token, holds) = self.token(name, *which);
                args.answer(&holds, store.refresh(name, token, duration(Some(*ttl)).unwrap_or_default()).await)?;
                if let (true, true, Some(held)) = (args.right(), holds, self.held.get_mut(name)) {
                    held.expires = now.saturating_add(*ttl);
                }
                Ok(())
            }
            Call::Release(name, which) => {
                let (token, holds) = self.token(name, *which);
                Args::default().key(name).answer(&holds, store.release(name, token).await)?;
                if holds {
                    self.held.remove(name);
                }
                Ok(())
            }
            Call::Inspect(name) => self.inspect(store, name, time).await,
            Call::Dump(max) => self.dump(store, *max, time).await,
            Call::DumpFrom(cursor) => {
                let args = Args::default().not(true, Refusal::Invalid("no dump answered the cursor"));
                args.accept("", store.dump(Some(cursor), 10).await).map(|_| ())
            }
            Call::Sweep(max) => {
                let swept = Args::default().page(*max).accept("how many", store.sweep(*max).await)?;
                let swept = swept.unwrap_or_default();
                demand(swept <= *max, format!("at most {max}"), || swept.to_string())
            }
            Call::Health => {
                let health = succeed("health", store.health().await)?;
                demand(!health.detail.is_empty(), "a sentence", || "nothing".to_owned())
            }
        }
    }

    async fn audit(&mut self, store: &Self::Store, time: &Time) -> Verdict {
        self.expire(time.now());
        for name in self.tokens.keys().cloned().collect::<Vec<_>>() {
            self.inspect(store, &name, time).await?;
        }
        let stats = succeed("stats", store.stats().await)?;
        let enough = stats.entries.is_none_or(|entries| entries >= self.held.len() as u64);
        demand(enough, format!("statistics of at least {} locks", self.held.len()), || format!("{:?}", stats.entries))
    }

    async fn relocate(&self, from: &Self::Store, to: &Self::Store, moving: Moving, time: &Time) -> Verdict {
        let mut alive = self.clone();
        alive.expire(time.now());
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            for _ in 0..u32::from(moving.again) {
                let page = succeed("dump", from.dump(cursor.as_deref(), moving.max).await)?;
                succeed("load", to.load(&page.locks, page.greatest_token).await)?;
            }
            let page = succeed("dump", from.dump(cursor.as_deref(), moving.max).await)?;
            page.locks.iter().try_for_each(|lock| alive.lock_is(lock, time))?;
            let greatest = self.greatest();
            demand(page.greatest_token >= greatest, format!("a greatest token of at least {greatest}"), || {
                page.greatest_token.to_string()
            })?;
            succeed("load", to.load(&page.locks, page.greatest_token).await)?;
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(()),
            }
        }
        mismatch("a dump that ends", format!("{PAGES_MAX} pages and no end"))
    }

    fn reopened(&mut self, moved: bool) {
        if moved {
            self.floor = self.greatest();
        }
    }
}
