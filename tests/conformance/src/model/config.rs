//! The model of the role `config-store`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use compozy_runtime::Role;
use compozy_runtime::stores::{ConfigPage, ConfigStore, Namespace, Stores};

use super::{Model, Moving, PAGES_MAX, Walk};
use crate::compare::{Args, Blob, Left, Refusal, Verdict, demand, mismatch, slice, succeed};
use crate::keys::{Pool, duration, shown, shown_ttl};
use crate::rng::Rng;
use crate::suite::Options;
use crate::time::Time;

/// A call of the role, in a namespace.
#[derive(Debug, Clone)]
pub(crate) struct Call(pub(crate) Namespace, pub(crate) Verb);

/// What is done.
#[derive(Debug, Clone)]
pub(crate) enum Verb {
    Save(String, Blob, Option<u64>),
    Get(String),
    Peek(String),
    Delete(String),
    /// All pages at once.
    List(String, u32),
    /// The first page of a list that goes on with `ListNext`, with other calls between.
    ListBegin(String, u32),
    ListNext,
    ListFrom {
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
        let place = match self.0 {
            Namespace::Config => "config",
            Namespace::Metadata => "metadata",
        };
        match &self.1 {
            Verb::Save(id, value, ttl) => write!(f, "save({place}, {}, {value:?}, {})", shown(id), shown_ttl(*ttl)),
            Verb::Get(id) => write!(f, "get({place}, {})", shown(id)),
            Verb::Peek(id) => write!(f, "peek({place}, {})", shown(id)),
            Verb::Delete(id) => write!(f, "delete({place}, {})", shown(id)),
            Verb::List(prefix, max) => write!(f, "list({place}, {}) to its end, by {max}", shown(prefix)),
            Verb::ListBegin(prefix, max) => write!(f, "list({place}, {}), first page of {max}", shown(prefix)),
            Verb::ListNext => f.write_str("list, next page"),
            Verb::ListFrom { prefix, cursor } => {
                write!(f, "list({place}, {}) from the cursor {cursor:?}", shown(prefix))
            }
            Verb::Dump(max) => write!(f, "dump({place}), first page of {max}"),
            Verb::Sweep(max) => write!(f, "sweep({max})"),
            Verb::Health => f.write_str("health()"),
        }
    }
}

#[derive(Debug, Clone)]
struct Slot {
    value: Blob,
    /// The full time to live.
    ttl: Option<u64>,
    expires: Option<u64>,
}

/// The model.
#[derive(Debug, Clone)]
pub(crate) struct ConfigModel {
    config: BTreeMap<String, Slot>,
    metadata: BTreeMap<String, Slot>,
    walk: Option<(Namespace, Walk)>,
    value_bytes_max: usize,
}

impl ConfigModel {
    fn slots(&mut self, namespace: Namespace) -> &mut BTreeMap<String, Slot> {
        match namespace {
            Namespace::Config => &mut self.config,
            Namespace::Metadata => &mut self.metadata,
        }
    }

    fn expire(&mut self, now: u64) {
        for namespace in [Namespace::Config, Namespace::Metadata] {
            self.slots(namespace).retain(|_, slot| slot.expires.is_none_or(|expires| expires > now));
        }
    }

    fn alive(&mut self, namespace: Namespace) -> BTreeSet<String> {
        self.slots(namespace).keys().cloned().collect()
    }

    fn observe(&mut self) {
        if let Some((namespace, mut walk)) = self.walk.take() {
            walk.observe(&self.alive(namespace));
            self.walk = Some((namespace, walk));
        }
    }

    async fn advance(store: &dyn ConfigStore, namespace: Namespace, walk: &mut Walk) -> Verdict<bool> {
        let page = store.list(namespace, &walk.prefix, walk.cursor.as_deref(), walk.max).await;
        let page = Args::default().page(walk.max).accept("a page", page)?;
        page.map_or(Ok(true), |page| walk.page(page))
    }

    async fn list(&mut self, store: &dyn ConfigStore, namespace: Namespace, prefix: &str, max: u32) -> Verdict {
        let mut walk = Walk::new(prefix, max, &self.alive(namespace));
        while !Self::advance(store, namespace, &mut walk).await? {}
        Ok(())
    }

    /// What is in a page of a dump is there, with its times to live.
    fn page_is(&mut self, namespace: Namespace, page: &ConfigPage, time: &Time) -> Verdict {
        for entry in &page.entries {
            let Some(slot) = self.slots(namespace).get(&entry.id) else {
                return mismatch("only ids that are there", format!("{} in the dump", shown(&entry.id)));
            };
            let value = slice(&page.bytes, entry.value)?;
            demand(value == slot.value, format!("{:?} of {} in the dump", slot.value, shown(&entry.id)), || {
                format!("{value:?}")
            })?;
            demand(
                entry.ttl_ms == slot.ttl,
                format!("full time to live {:?} of {}", slot.ttl, shown(&entry.id)),
                || format!("{:?}", entry.ttl_ms),
            )?;
            let left = slot.expires.map(|expires| expires - time.now());
            Left::of(left).same(Left::of(entry.remaining_ms), time)?;
        }
        Ok(())
    }

    async fn dump(&mut self, store: &dyn ConfigStore, namespace: Namespace, max: u32, time: &Time) -> Verdict {
        let page = Args::default().page(max).accept("a page", store.dump(namespace, None, max).await)?;
        let Some(page) = page else { return Ok(()) };
        demand(page.entries.len() <= max as usize, format!("at most {max} ids"), || page.entries.len().to_string())?;
        self.page_is(namespace, &page, time)
    }

    async fn look(
        &mut self,
        store: &dyn ConfigStore,
        namespace: Namespace,
        id: &str,
        reset: bool,
        now: u64,
    ) -> Verdict {
        let args = Args::default().key(id);
        let expected = self.slots(namespace).get(id).map(|slot| slot.value.clone());
        let answer = if reset { store.get(namespace, id).await } else { store.peek(namespace, id).await };
        args.answer(&expected, answer.map(|value| value.map(Blob)))?;
        if let (true, Some(slot)) = (reset, self.slots(namespace).get_mut(id)) {
            slot.expires = slot.ttl.map(|ttl| now.saturating_add(ttl));
        }
        Ok(())
    }
}

#[async_trait]
impl Model for ConfigModel {
    type Store = dyn ConfigStore;
    type Step = Call;
    const ROLE: Role = Role::ConfigStore;

    fn new(options: &Options) -> Self {
        let value_bytes_max = options.value_bytes_max;
        Self { config: BTreeMap::new(), metadata: BTreeMap::new(), walk: None, value_bytes_max }
    }

    fn store(stores: &Stores) -> Option<Arc<dyn ConfigStore>> {
        stores.config.clone()
    }

    fn random(rng: &mut Rng, pool: &Pool) -> Call {
        let namespace = if rng.one_in(3) { Namespace::Metadata } else { Namespace::Config };
        let id = pool.key(rng);
        let verb = match rng.below(24) {
            0..=5 => Verb::Save(id, Pool::value(rng), pool.ttl(rng)),
            6..=10 => Verb::Get(id),
            11..=13 => Verb::Peek(id),
            14..=15 => Verb::Delete(id),
            16 => Verb::List(pool.prefix(rng), Pool::page(rng)),
            17 => Verb::ListBegin(pool.prefix(rng), 1 + rng.below(2) as u32),
            18..=20 => Verb::ListNext,
            21 => Verb::Dump(Pool::page(rng)),
            22 => Verb::Sweep(Pool::page(rng)),
            _ => Verb::Health,
        };
        Call(namespace, verb)
    }

    async fn apply(&mut self, store: &Self::Store, Call(namespace, verb): &Call, time: &Time) -> Verdict {
        let (namespace, now) = (*namespace, time.now());
        self.expire(now);
        self.observe();
        match verb {
            Verb::Save(id, value, ttl) => {
                let args = Args::default().key(id).value(value.0.len(), self.value_bytes_max).ttl(*ttl);
                args.answer(&(), store.save(namespace, id, &value.0, duration(*ttl)).await)?;
                if args.right() {
                    let expires = ttl.map(|ttl| now.saturating_add(ttl));
                    self.slots(namespace).insert(id.clone(), Slot { value: value.clone(), ttl: *ttl, expires });
                }
            }
            Verb::Get(id) => self.look(store, namespace, id, true, now).await?,
            Verb::Peek(id) => self.look(store, namespace, id, false, now).await?,
            Verb::Delete(id) => {
                let there = self.slots(namespace).remove(id).is_some();
                Args::default().key(id).answer(&there, store.delete(namespace, id).await)?;
            }
            Verb::List(prefix, max) => self.list(store, namespace, prefix, *max).await?,
            Verb::ListBegin(prefix, max) => {
                let mut walk = Walk::new(prefix, *max, &self.alive(namespace));
                let done = Self::advance(store, namespace, &mut walk).await?;
                self.walk = if done { None } else { Some((namespace, walk)) };
            }
            Verb::ListNext => {
                if let Some((namespace, mut walk)) = self.walk.take() {
                    let done = Self::advance(store, namespace, &mut walk).await?;
                    self.walk = if done { None } else { Some((namespace, walk)) };
                }
            }
            Verb::ListFrom { prefix, cursor } => {
                let args = Args::default().not(true, Refusal::Invalid("no list of this prefix answered the cursor"));
                args.accept("", store.list(namespace, prefix, Some(cursor), 10).await)?;
            }
            Verb::Dump(max) => self.dump(store, namespace, *max, time).await?,
            Verb::Sweep(max) => {
                let swept = Args::default().page(*max).accept("how many", store.sweep(*max).await)?;
                let swept = swept.unwrap_or_default();
                demand(swept <= *max, format!("at most {max}"), || swept.to_string())?;
            }
            Verb::Health => {
                let health = succeed("health", store.health().await)?;
                demand(!health.detail.is_empty(), "a sentence", || "nothing".to_owned())?;
            }
        }
        self.observe();
        Ok(())
    }

    async fn audit(&mut self, store: &Self::Store, time: &Time) -> Verdict {
        self.expire(time.now());
        for namespace in [Namespace::Config, Namespace::Metadata] {
            self.list(store, namespace, "", 100).await?;
            for id in self.alive(namespace) {
                self.look(store, namespace, &id, false, time.now()).await?;
            }
            self.dump(store, namespace, 1_000, time).await?;
        }
        let stats = succeed("stats", store.stats().await)?;
        let ids = (self.config.len() + self.metadata.len()) as u64;
        let enough = stats.entries.is_none_or(|entries| entries >= ids);
        demand(enough, format!("statistics of at least {ids} ids"), || format!("{:?}", stats.entries))
    }

    async fn relocate(&self, from: &Self::Store, to: &Self::Store, moving: Moving, time: &Time) -> Verdict {
        let mut alive = self.clone();
        alive.expire(time.now());
        for namespace in [Namespace::Config, Namespace::Metadata] {
            let mut cursor: Option<String> = None;
            for pages in 0.. {
                demand(pages < PAGES_MAX, "a dump that ends", || format!("{pages} pages and no end"))?;
                for _ in 0..u32::from(moving.again) {
                    let page = succeed("dump", from.dump(namespace, cursor.as_deref(), moving.max).await)?;
                    if !page.entries.is_empty() {
                        succeed("load", to.load(namespace, &page.entries, &page.bytes).await)?;
                    }
                }
                let page = succeed("dump", from.dump(namespace, cursor.as_deref(), moving.max).await)?;
                alive.page_is(namespace, &page, time)?;
                if !page.entries.is_empty() {
                    succeed("load", to.load(namespace, &page.entries, &page.bytes).await)?;
                }
                match page.next {
                    Some(next) => cursor = Some(next),
                    None => break,
                }
            }
        }
        Ok(())
    }

    fn reopened(&mut self, _: bool) {
        self.walk = None;
    }
}
