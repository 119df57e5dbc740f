//! The model of the role `cache`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use compozy_runtime::Role;
use compozy_runtime::stores::{Assignment, Cache, Condition, Dumped, Stores};

use super::{Model, Moving, PAGES_MAX, Walk};
use crate::compare::{Args, Blob, Left, Refusal, Verdict, demand, flat, mismatch, slice, succeed};
use crate::keys::{Pool, duration, shown, shown_all, shown_ttl};
use crate::rng::Rng;
use crate::suite::Options;
use crate::time::Time;

/// When a `set` of a script writes. Versions are known only when the script runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    IfAbsent,
    /// If the version is the one that the key has; if it is missing, the last one that it had.
    IfCurrent,
    /// If the version is one that the key had before.
    IfStale,
}

/// A call of the role.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Get(String),
    GetMany(Vec<String>),
    Set {
        key: String,
        value: Blob,
        ttl: Option<u64>,
        when: When,
    },
    SetMany {
        entries: Vec<(String, Blob)>,
        ttl: Option<u64>,
    },
    Delete(String),
    Exists(String),
    Expire(String, Option<u64>),
    Persist(String),
    Ttl(String),
    Increment(String, i64, Option<u64>),
    /// All pages at once.
    Scan(String, u32),
    /// The first page of a scan that goes on with `ScanNext`, with other calls between.
    ScanBegin(String, u32),
    ScanNext,
    /// A cursor that no scan of this prefix answered.
    ScanFrom {
        prefix: String,
        cursor: String,
    },
    /// One page of a dump.
    Dump(u32),
    Sweep(u32),
    Health,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get(key) => write!(f, "get({})", shown(key)),
            Self::GetMany(keys) => write!(f, "get-many({})", shown_all(keys)),
            Self::Set { key, value, ttl, when } => {
                write!(f, "set({}, {value:?}, {}, {when:?})", shown(key), shown_ttl(*ttl))
            }
            Self::SetMany { entries, ttl } if entries.len() > 6 => {
                write!(f, "set-many({} entries, {})", entries.len(), shown_ttl(*ttl))
            }
            Self::SetMany { entries, ttl } => {
                let entries: Vec<String> =
                    entries.iter().map(|(key, value)| format!("{} = {value:?}", shown(key))).collect();
                write!(f, "set-many([{}], {})", entries.join(", "), shown_ttl(*ttl))
            }
            Self::Delete(key) => write!(f, "delete({})", shown(key)),
            Self::Exists(key) => write!(f, "exists({})", shown(key)),
            Self::Expire(key, ttl) => write!(f, "expire({}, {})", shown(key), shown_ttl(*ttl)),
            Self::Persist(key) => write!(f, "persist({})", shown(key)),
            Self::Ttl(key) => write!(f, "ttl({})", shown(key)),
            Self::Increment(key, delta, ttl) => write!(f, "increment({}, {delta}, {})", shown(key), shown_ttl(*ttl)),
            Self::Scan(prefix, max) => write!(f, "scan({}) to its end, by {max}", shown(prefix)),
            Self::ScanBegin(prefix, max) => write!(f, "scan({}), first page of {max}", shown(prefix)),
            Self::ScanNext => f.write_str("scan, next page"),
            Self::ScanFrom { prefix, cursor } => write!(f, "scan({}) from the cursor {cursor:?}", shown(prefix)),
            Self::Dump(max) => write!(f, "dump, first page of {max}"),
            Self::Sweep(max) => write!(f, "sweep({max})"),
            Self::Health => f.write_str("health()"),
        }
    }
}

#[derive(Debug, Clone)]
struct Slot {
    value: Blob,
    /// `None` until it was seen.
    version: Option<u64>,
    expires: Option<u64>,
}

/// The model.
#[derive(Debug, Clone)]
pub(crate) struct CacheModel {
    slots: BTreeMap<String, Slot>,
    /// Every version that a key was seen with, in order.
    versions: BTreeMap<String, Vec<u64>>,
    walk: Option<Walk>,
    value_bytes_max: usize,
}

/// What a sum is, or why there is none.
fn sum(value: Option<&Blob>, delta: i64) -> Result<i64, Refusal> {
    let Some(Blob(value)) = value else { return Ok(delta) };
    let text = std::str::from_utf8(value).map_err(|_| Refusal::WrongType)?;
    let number: i64 = text.parse().map_err(|_| Refusal::WrongType)?;
    if number.to_string() != text {
        return Err(Refusal::WrongType);
    }
    number.checked_add(delta).ok_or(Refusal::Overflow)
}

impl CacheModel {
    /// Everything that has expired is gone before anything else happens.
    fn expire(&mut self, now: u64) {
        self.slots.retain(|_, slot| slot.expires.is_none_or(|expires| expires > now));
    }

    fn alive(&self) -> BTreeSet<String> {
        self.slots.keys().cloned().collect()
    }

    fn put(&mut self, key: &str, value: Blob, version: Option<u64>, expires: Option<u64>) {
        self.slots.insert(key.to_owned(), Slot { value, version, expires });
    }

    /// The key was written and has this version now.
    fn written(&mut self, key: &str, version: u64) -> Verdict {
        let before = self.versions.entry(key.to_owned()).or_default();
        demand(!before.contains(&version), format!("a version that {} never had", shown(key)), || version.to_string())?;
        before.push(version);
        Ok(())
    }

    /// The backend shows a value.
    fn shows(&mut self, key: &str, found: Option<(Blob, u64)>) -> Verdict {
        let expected = self.slots.get(key).map(|slot| slot.value.clone());
        let actual = found.as_ref().map(|(value, _)| value.clone());
        demand(expected == actual, format!("{expected:?} of {}", shown(key)), || format!("{actual:?}"))?;
        let (Some((_, version)), Some(slot)) = (found, self.slots.get_mut(key)) else { return Ok(()) };
        if let Some(known) = slot.version {
            return demand(known == version, format!("version {known}"), || format!("version {version}"));
        }
        slot.version = Some(version);
        self.written(key, version)
    }

    async fn learn(&mut self, store: &dyn Cache, key: &str) -> Verdict {
        let entry = succeed("get", store.get(key).await)?;
        self.shows(key, entry.map(|entry| (Blob(entry.value), entry.version)))
    }

    async fn condition(&mut self, store: &dyn Cache, key: &str, when: When) -> Verdict<Condition> {
        let known = self.slots.get(key).is_some_and(|slot| slot.version.is_none());
        if known && when != When::Always && when != When::IfAbsent {
            self.learn(store, key).await?;
        }
        let seen = self.versions.get(key).map_or(&[][..], Vec::as_slice);
        let stale = if self.slots.contains_key(key) {
            seen.len().checked_sub(2).map(|at| seen[at])
        } else {
            seen.last().copied()
        };
        Ok(match when {
            When::Always => Condition::Always,
            When::IfAbsent => Condition::IfAbsent,
            When::IfCurrent => Condition::IfVersion(seen.last().copied().unwrap_or(1)),
            When::IfStale => Condition::IfVersion(stale.unwrap_or(0)),
        })
    }

    async fn set(&mut self, store: &dyn Cache, call: (&str, &Blob, Option<u64>, When), now: u64) -> Verdict {
        let (key, value, ttl, when) = call;
        let args = Args::default().key(key).value(value.0.len(), self.value_bytes_max).ttl(ttl);
        let condition = if args.right() { self.condition(store, key, when).await? } else { Condition::Always };
        let there = self.slots.contains_key(key);
        let holds = match when {
            When::Always => true,
            When::IfAbsent => !there,
            When::IfCurrent => there,
            When::IfStale => false,
        };
        let answer = store.set(key, &value.0, duration(ttl), condition).await;
        let expected = if holds { "a version" } else { "none: the condition does not hold" };
        let Some(version) = args.accept(expected, answer)? else { return Ok(()) };
        demand(version.is_some() == holds, expected, || format!("{version:?}"))?;
        if let Some(version) = version {
            self.written(key, version)?;
            self.put(key, value.clone(), Some(version), ttl.map(|ttl| now.saturating_add(ttl)));
        }
        Ok(())
    }

    async fn set_many(&mut self, store: &dyn Cache, entries: &[(String, Blob)], ttl: Option<u64>, now: u64) -> Verdict {
        let mut args = Args::default().some(entries.len()).ttl(ttl);
        for (key, value) in entries {
            args = args.key(key).value(value.0.len(), self.value_bytes_max);
        }
        let values: Vec<Blob> = entries.iter().map(|(_, value)| value.clone()).collect();
        let (spans, bytes) = flat(&values);
        let assign = |((key, _), value): (&(String, Blob), _)| Assignment { key: key.clone(), value };
        let assignments: Vec<Assignment> = entries.iter().zip(spans).map(assign).collect();
        args.answer(&(), store.set_many(&assignments, &bytes, duration(ttl)).await)?;
        if args.right() {
            for (key, value) in entries {
                self.put(key, value.clone(), None, ttl.map(|ttl| now.saturating_add(ttl)));
            }
        }
        Ok(())
    }

    async fn get_many(&mut self, store: &dyn Cache, keys: &[String]) -> Verdict {
        let args = keys.iter().fold(Args::default().batch(keys.len()), |args, key| args.key(key));
        let expected = format!("{} values", keys.len());
        let Some(values) = args.accept(&expected, store.get_many(keys).await)? else { return Ok(()) };
        demand(values.found.len() == keys.len(), expected, || values.found.len().to_string())?;
        for (key, found) in keys.iter().zip(&values.found) {
            let found = match found {
                Some(found) => Some((slice(&values.bytes, found.span)?, found.version)),
                None => None,
            };
            self.shows(key, found)?;
        }
        Ok(())
    }

    async fn give_ttl(&mut self, store: &dyn Cache, key: &str, ttl: Option<u64>, persist: bool, now: u64) -> Verdict {
        let args = Args::default().key(key).ttl(ttl);
        let answer = if persist { store.persist(key).await } else { store.expire(key, duration(ttl)).await };
        args.answer(&self.slots.contains_key(key), answer)?;
        if let (true, Some(slot)) = (args.right(), self.slots.get_mut(key)) {
            slot.expires = ttl.map(|ttl| now.saturating_add(ttl));
        }
        Ok(())
    }

    async fn increment(&mut self, store: &dyn Cache, call: (&str, i64, Option<u64>), now: u64) -> Verdict {
        let (key, delta, ttl) = call;
        let mut args = Args::default().key(key).ttl(ttl);
        let slot = self.slots.get(key);
        let expires = slot.map_or(ttl.map(|ttl| now.saturating_add(ttl)), |slot| slot.expires);
        let sum = match sum(slot.map(|slot| &slot.value), delta) {
            Ok(sum) => sum,
            Err(refusal) => {
                args = args.not(true, refusal);
                0
            }
        };
        args.answer(&sum, store.increment(key, delta, duration(ttl)).await)?;
        if args.right() {
            self.put(key, Blob(sum.to_string().into_bytes()), None, expires);
        }
        Ok(())
    }

    async fn scan(&mut self, store: &dyn Cache, prefix: &str, max: u32) -> Verdict {
        let mut walk = Walk::new(prefix, max, &self.alive());
        while !Self::advance(store, &mut walk).await? {}
        Ok(())
    }

    /// One page; true at the end.
    async fn advance(store: &dyn Cache, walk: &mut Walk) -> Verdict<bool> {
        let args = Args::default().page(walk.max);
        let page = store.scan(&walk.prefix, walk.cursor.as_deref(), walk.max).await;
        args.accept("a page", page)?.map_or(Ok(true), |page| walk.page(page))
    }

    fn entry_is(&self, entry: &Dumped, bytes: &[u8], time: &Time) -> Verdict {
        let Some(slot) = self.slots.get(&entry.key) else {
            return mismatch("only keys that are there", format!("{} in the dump", shown(&entry.key)));
        };
        let value = slice(bytes, entry.value)?;
        demand(value == slot.value, format!("{:?} of {} in the dump", slot.value, shown(&entry.key)), || {
            format!("{value:?}")
        })?;
        Left::of(slot.expires.map(|expires| expires - time.now())).same(Left::of(entry.ttl_ms), time)
    }
}

#[async_trait]
impl Model for CacheModel {
    type Store = dyn Cache;
    type Step = Call;
    const ROLE: Role = Role::Cache;

    fn new(options: &Options) -> Self {
        let value_bytes_max = options.value_bytes_max;
        Self { slots: BTreeMap::new(), versions: BTreeMap::new(), walk: None, value_bytes_max }
    }

    fn store(stores: &Stores) -> Option<Arc<dyn Cache>> {
        stores.cache.clone()
    }

    fn random(rng: &mut Rng, pool: &Pool) -> Call {
        let key = pool.key(rng);
        match rng.below(40) {
            0..=5 => Call::Get(key),
            6 => Call::GetMany((0..rng.below(6)).map(|_| pool.key(rng)).collect()),
            7..=14 => {
                let when = *rng.pick(&[When::Always, When::Always, When::IfAbsent, When::IfCurrent, When::IfStale]);
                Call::Set { key, value: Pool::value(rng), ttl: pool.ttl(rng), when }
            }
            15..=16 => {
                let entries = (0..rng.below(5)).map(|_| (pool.key(rng), Pool::value(rng))).collect();
                Call::SetMany { entries, ttl: pool.ttl(rng) }
            }
            17..=19 => Call::Delete(key),
            20..=21 => Call::Exists(key),
            22..=23 => Call::Expire(key, pool.ttl(rng)),
            24 => Call::Persist(key),
            25..=27 => Call::Ttl(key),
            28..=31 => {
                let delta = *rng.pick(&[1, -1, 0, 5, -1_000, i64::MAX, i64::MIN]);
                Call::Increment(key, delta, pool.ttl(rng))
            }
            32..=33 => Call::Scan(pool.prefix(rng), Pool::page(rng)),
            34 => Call::ScanBegin(pool.prefix(rng), 1 + rng.below(3) as u32),
            35..=37 => Call::ScanNext,
            38 => Call::Sweep(Pool::page(rng)),
            _ => Call::Health,
        }
    }

    async fn apply(&mut self, store: &Self::Store, step: &Call, time: &Time) -> Verdict {
        let now = time.now();
        self.expire(now);
        if let Some(walk) = &mut self.walk {
            walk.observe(&self.slots.keys().cloned().collect());
        }
        match step {
            Call::Get(key) => {
                let args = Args::default().key(key);
                let entry = args.accept("a value or none", store.get(key).await)?;
                if args.right() {
                    self.shows(key, entry.flatten().map(|entry| (Blob(entry.value), entry.version)))?;
                }
            }
            Call::GetMany(keys) => self.get_many(store, keys).await?,
            Call::Set { key, value, ttl, when } => self.set(store, (key, value, *ttl, *when), now).await?,
            Call::SetMany { entries, ttl } => self.set_many(store, entries, *ttl, now).await?,
            Call::Delete(key) => {
                let there = self.slots.remove(key).is_some();
                Args::default().key(key).answer(&there, store.delete(key).await)?;
            }
            Call::Exists(key) => {
                Args::default().key(key).answer(&self.slots.contains_key(key), store.exists(key).await)?;
            }
            Call::Expire(key, ttl) => self.give_ttl(store, key, *ttl, false, now).await?,
            Call::Persist(key) => self.give_ttl(store, key, None, true, now).await?,
            Call::Ttl(key) => {
                let slot = self.slots.get(key).map(|slot| slot.expires.map(|expires| expires - now));
                let left = slot.map_or(Left::Missing, Left::of);
                left.check(&Args::default().key(key), store.ttl(key).await, time)?;
            }
            Call::Increment(key, delta, ttl) => self.increment(store, (key, *delta, *ttl), now).await?,
            Call::Scan(prefix, max) => self.scan(store, prefix, *max).await?,
            Call::ScanBegin(prefix, max) => {
                let mut walk = Walk::new(prefix, *max, &self.alive());
                self.walk = if Self::advance(store, &mut walk).await? { None } else { Some(walk) };
            }
            Call::ScanNext => {
                if let Some(mut walk) = self.walk.take() {
                    self.walk = if Self::advance(store, &mut walk).await? { None } else { Some(walk) };
                }
            }
            Call::ScanFrom { prefix, cursor } => {
                let args = Args::default().not(true, Refusal::Invalid("no scan of this prefix answered the cursor"));
                args.accept("", store.scan(prefix, Some(cursor), 10).await)?;
            }
            Call::Dump(max) => {
                let page = Args::default().page(*max).accept("a page", store.dump(None, *max).await)?;
                if let Some(page) = page {
                    page.entries.iter().try_for_each(|entry| self.entry_is(entry, &page.bytes, time))?;
                }
            }
            Call::Sweep(max) => {
                let args = Args::default().page(*max);
                let swept = args.accept("how many it removed", store.sweep(*max).await)?.unwrap_or_default();
                demand(swept <= *max, format!("at most {max}"), || swept.to_string())?;
            }
            Call::Health => {
                let health = succeed("health", store.health().await)?;
                demand(!health.detail.is_empty(), "a sentence", || "nothing".to_owned())?;
            }
        }
        if let Some(walk) = &mut self.walk {
            walk.observe(&self.slots.keys().cloned().collect());
        }
        Ok(())
    }

    async fn audit(&mut self, store: &Self::Store, time: &Time) -> Verdict {
        self.expire(time.now());
        self.scan(store, "", 100).await?;
        let keys: Vec<String> = self.versions.keys().chain(self.slots.keys()).cloned().collect();
        for key in keys {
            self.learn(store, &key).await?;
            self.apply(store, &Call::Ttl(key), time).await?;
        }
        let stats = succeed("stats", store.stats().await)?;
        let enough = stats.entries.is_none_or(|entries| entries >= self.slots.len() as u64);
        demand(enough, format!("statistics of at least {} entries", self.slots.len()), || {
            format!("{:?}", stats.entries)
        })
    }

    async fn relocate(&self, from: &Self::Store, to: &Self::Store, moving: Moving, time: &Time) -> Verdict {
        let mut alive = self.clone();
        alive.expire(time.now());
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let page = succeed("dump", from.dump(cursor.as_deref(), moving.max).await)?;
            demand(page.entries.len() <= moving.max as usize, format!("at most {} entries", moving.max), || {
                page.entries.len().to_string()
            })?;
            for entry in &page.entries {
                alive.entry_is(entry, &page.bytes, time)?;
            }
            for _ in 0..=u32::from(moving.again) {
                if !page.entries.is_empty() {
                    succeed("load", to.load(&page.entries, &page.bytes).await)?;
                }
            }
            if moving.again {
                let second = succeed("dump", from.dump(cursor.as_deref(), moving.max).await)?;
                if !second.entries.is_empty() {
                    succeed("load", to.load(&second.entries, &second.bytes).await)?;
                }
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(()),
            }
        }
        mismatch("a dump that ends", format!("{PAGES_MAX} pages and no end"))
    }

    fn reopened(&mut self, moved: bool) {
        self.walk = None;
        if moved {
            // A new backend cannot know which versions a key had that was not there any more.
            self.versions.retain(|key, _| self.slots.contains_key(key));
        }
    }
}
