//! The model of the role `memory-store`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use compozy_runtime::Role;
use compozy_runtime::stores::{Counts, Keep, MemoryPage, MemoryStore, Message, Messages, Span, StoreError, Stores};

use super::{Model, Moving, PAGES_MAX, Walk};
use crate::compare::{Args, Blob, Left, Refusal, Verdict, cut, demand, flat, mismatch, slice, succeed};
use crate::keys::{Pool, duration, shown, shown_ttl};
use crate::rng::Rng;
use crate::suite::Options;
use crate::time::Time;

/// A message: content and tokens.
pub(crate) type Said = (Blob, u32);

/// How long the flush flag holds.
pub(crate) const FLUSH_MS: u64 = 30 * 60_000;

/// A call of the role.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Append {
        key: String,
        messages: Vec<Said>,
        ttl: Option<u64>,
        keep: Option<Keep>,
    },
    /// Spans that reach past the end of the buffer.
    BadSpan(String),
    Read(String),
    Page(String, u64, u32),
    Count(String),
    Replace(String, Vec<Said>, Option<u64>),
    Trim(String, Keep),
    Clear(String),
    Expire(String, Option<u64>),
    Ttl(String),
    Mark(String),
    IsMarked(String),
    Unmark(String),
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

fn shown_messages(messages: &[Said]) -> String {
    if messages.len() > 6 { format!("{} messages", messages.len()) } else { format!("{messages:?}") }
}

fn shown_keep(keep: Keep) -> String {
    match keep {
        Keep::Messages(count) => format!("keep {count} messages"),
        Keep::Tokens(tokens) => format!("keep {tokens} tokens"),
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append { key, messages, ttl, keep } => {
                let keep = keep.map_or_else(|| "no trim".to_owned(), shown_keep);
                write!(f, "append({}, {}, {}, {keep})", shown(key), shown_messages(messages), shown_ttl(*ttl))
            }
            Self::BadSpan(key) => write!(f, "append({}, a span past the end)", shown(key)),
            Self::Read(key) => write!(f, "read({})", shown(key)),
            Self::Page(key, offset, limit) => write!(f, "page({}, offset {offset}, limit {limit})", shown(key)),
            Self::Count(key) => write!(f, "count({})", shown(key)),
            Self::Replace(key, messages, ttl) => {
                write!(f, "replace({}, {}, {})", shown(key), shown_messages(messages), shown_ttl(*ttl))
            }
            Self::Trim(key, keep) => write!(f, "trim({}, {})", shown(key), shown_keep(*keep)),
            Self::Clear(key) => write!(f, "clear({})", shown(key)),
            Self::Expire(key, ttl) => write!(f, "expire({}, {})", shown(key), shown_ttl(*ttl)),
            Self::Ttl(key) => write!(f, "ttl({})", shown(key)),
            Self::Mark(key) => write!(f, "mark-flush-pending({})", shown(key)),
            Self::IsMarked(key) => write!(f, "is-flush-pending({})", shown(key)),
            Self::Unmark(key) => write!(f, "clear-flush-pending({})", shown(key)),
            Self::List(prefix, max) => write!(f, "list({}) to its end, by {max}", shown(prefix)),
            Self::ListBegin(prefix, max) => write!(f, "list({}), first page of {max}", shown(prefix)),
            Self::ListNext => f.write_str("list, next page"),
            Self::ListFrom { prefix, cursor } => write!(f, "list({}) from the cursor {cursor:?}", shown(prefix)),
            Self::Dump(max) => write!(f, "dump, first page of {max}"),
            Self::Sweep(max) => write!(f, "sweep({max})"),
            Self::Health => f.write_str("health()"),
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Memory {
    messages: Vec<Said>,
    expires: Option<u64>,
}

impl Memory {
    fn counts(&self) -> (u64, u64) {
        (self.messages.len() as u64, self.messages.iter().map(|(_, tokens)| u64::from(*tokens)).sum())
    }

    fn trim(&mut self, keep: Keep) {
        let count = match keep {
            Keep::Messages(count) => count as usize,
            Keep::Tokens(most) => {
                let mut sum = 0;
                let fits = |(_, tokens): &&Said| {
                    sum += u64::from(*tokens);
                    sum <= most
                };
                self.messages.iter().rev().take_while(fits).count()
            }
        };
        self.messages.drain(..self.messages.len().saturating_sub(count));
    }
}

/// The model.
#[derive(Debug, Clone)]
pub(crate) struct MemoryModel {
    /// Memories that have messages.
    memories: BTreeMap<String, Memory>,
    /// When the flush flags end.
    flags: BTreeMap<String, u64>,
    walk: Option<Walk>,
    value_bytes_max: usize,
}

/// Messages in the form of the contract.
pub(crate) fn wire(messages: &[Said]) -> Messages {
    let contents: Vec<Blob> = messages.iter().map(|(content, _)| content.clone()).collect();
    let (spans, bytes) = flat(&contents);
    let list = spans.into_iter().zip(messages).map(|(span, (_, tokens))| Message { span, tokens: *tokens }).collect();
    Messages { list, bytes }
}

/// Messages from the form of the contract.
pub(crate) fn unwire(messages: &Messages) -> Verdict<Vec<Said>> {
    messages.list.iter().map(|message| Ok((slice(&messages.bytes, message.span)?, message.tokens))).collect()
}

fn pair(counts: Result<Counts, StoreError>) -> Result<(u64, u64), StoreError> {
    counts.map(|counts| (counts.messages, counts.tokens))
}

impl MemoryModel {
    fn expire(&mut self, now: u64) {
        self.memories.retain(|_, memory| memory.expires.is_none_or(|expires| expires > now));
        self.flags.retain(|_, expires| *expires > now);
    }

    fn alive(&self) -> BTreeSet<String> {
        self.memories.keys().cloned().collect()
    }

    fn put(&mut self, key: &str, memory: Memory) {
        if memory.messages.is_empty() {
            self.memories.remove(key);
        } else {
            self.memories.insert(key.to_owned(), memory);
        }
    }

    fn of(&self, key: &str) -> Memory {
        self.memories.get(key).cloned().unwrap_or_default()
    }

    fn checked(&self, key: &str, messages: &[Said], ttl: Option<u64>) -> Args {
        let args = Args::default().key(key).ttl(ttl);
        messages.iter().fold(args, |args, (content, _)| args.value(content.0.len(), self.value_bytes_max))
    }

    async fn append(
        &mut self,
        store: &dyn MemoryStore,
        call: (&str, &[Said], Option<u64>, Option<Keep>),
        now: u64,
    ) -> Verdict {
        let (key, messages, ttl, keep) = call;
        let args = self.checked(key, messages, ttl).some(messages.len());
        let mut memory = self.of(key);
        memory.messages.extend_from_slice(messages);
        if let Some(keep) = keep {
            memory.trim(keep);
        }
        if let Some(ttl) = ttl {
            memory.expires = Some(now.saturating_add(ttl));
        }
        args.answer(&memory.counts(), pair(store.append(key, &wire(messages), duration(ttl), keep).await))?;
        if args.right() {
            self.put(key, memory);
        }
        Ok(())
    }

    async fn replace(
        &mut self,
        store: &dyn MemoryStore,
        key: &str,
        messages: &[Said],
        ttl: Option<u64>,
        now: u64,
    ) -> Verdict {
        let args = self.checked(key, messages, ttl).batch(messages.len());
        let expires = ttl.map_or(self.of(key).expires, |ttl| Some(now.saturating_add(ttl)));
        let memory = Memory { messages: messages.to_vec(), expires };
        args.answer(&memory.counts(), pair(store.replace(key, &wire(messages), duration(ttl)).await))?;
        if args.right() {
            self.put(key, memory);
        }
        Ok(())
    }

    async fn page(&self, store: &dyn MemoryStore, key: &str, offset: u64, limit: u32) -> Verdict {
        let args = Args::default().key(key).page(limit);
        let Some(page) = args.accept("messages", store.page(key, offset, limit).await)? else { return Ok(()) };
        let all = self.of(key).messages;
        demand(page.total == all.len() as u64, format!("a total of {}", all.len()), || page.total.to_string())?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(all.len());
        let due = &all[start..all.len().min(start.saturating_add(limit as usize))];
        same(due, &unwire(&page.messages)?)
    }

    async fn read(&self, store: &dyn MemoryStore, key: &str) -> Verdict {
        let args = Args::default().key(key);
        match args.accept("messages", store.read(key).await)? {
            Some(messages) => same(&self.of(key).messages, &unwire(&messages)?),
            None => Ok(()),
        }
    }

    async fn look(&self, store: &dyn MemoryStore, key: &str, time: &Time) -> Verdict {
        let args = Args::default().key(key);
        args.answer(&self.of(key).counts(), pair(store.count(key).await))?;
        self.read(store, key).await?;
        args.answer(&self.flags.contains_key(key), store.is_flush_pending(key).await)?;
        self.left(key, time.now()).check(&args, store.ttl(key).await, time)
    }

    fn left(&self, key: &str, now: u64) -> Left {
        let memory = self.memories.get(key);
        memory.map_or(Left::Missing, |memory| Left::of(memory.expires.map(|expires| expires - now)))
    }

    async fn advance(store: &dyn MemoryStore, walk: &mut Walk) -> Verdict<bool> {
        let page = store.list(&walk.prefix, walk.cursor.as_deref(), walk.max).await;
        let page = Args::default().page(walk.max).accept("a page", page)?;
        page.map_or(Ok(true), |page| walk.page(page))
    }

    async fn list(&self, store: &dyn MemoryStore, prefix: &str, max: u32) -> Verdict {
        let mut walk = Walk::new(prefix, max, &self.alive());
        while !Self::advance(store, &mut walk).await? {}
        Ok(())
    }

    /// What is in a page of a dump is there, with its times to live.
    fn page_is(&self, page: &MemoryPage, time: &Time) -> Verdict {
        let said = unwire(&page.messages)?;
        let mut rest = said.iter();
        for memory in &page.memories {
            let known = self.of(&memory.key);
            let offset = usize::try_from(memory.offset).unwrap_or(usize::MAX).min(known.messages.len());
            let due: Vec<Said> = known.messages[offset..].iter().take(memory.messages as usize).cloned().collect();
            let found: Vec<Said> = rest.by_ref().take(memory.messages as usize).cloned().collect();
            same(&due, &found)?;
            if !due.is_empty() {
                Left::of(known.expires.map(|expires| expires - time.now())).same(Left::of(memory.ttl_ms), time)?;
            }
            let flag = self.flags.get(&memory.key).map_or(Left::Missing, |expires| Left::Ms(expires - time.now()));
            flag.same(memory.flush_pending_ms.map_or(Left::Missing, Left::Ms), time)?;
        }
        demand(rest.next().is_none(), "messages of the memories that the page names", || "more of them".to_owned())
    }

    async fn flag(&mut self, store: &dyn MemoryStore, step: &Call, now: u64) -> Verdict {
        match step {
            Call::Mark(key) => {
                let args = Args::default().key(key);
                args.answer(&!self.flags.contains_key(key), store.mark_flush_pending(key).await)?;
                if args.right() {
                    self.flags.entry(key.clone()).or_insert(now + FLUSH_MS);
                }
                Ok(())
            }
            Call::IsMarked(key) => {
                Args::default().key(key).answer(&self.flags.contains_key(key), store.is_flush_pending(key).await)
            }
            Call::Unmark(key) => {
                let there = self.flags.remove(key).is_some();
                Args::default().key(key).answer(&there, store.clear_flush_pending(key).await)
            }
            _ => Ok(()),
        }
    }

    async fn bulk(&mut self, store: &dyn MemoryStore, step: &Call, time: &Time) -> Verdict {
        match step {
            Call::List(prefix, max) => self.list(store, prefix, *max).await,
            Call::ListBegin(prefix, max) => {
                let mut walk = Walk::new(prefix, *max, &self.alive());
                self.walk = if Self::advance(store, &mut walk).await? { None } else { Some(walk) };
                Ok(())
            }
            Call::ListNext => {
                if let Some(mut walk) = self.walk.take() {
                    self.walk = if Self::advance(store, &mut walk).await? { None } else { Some(walk) };
                }
                Ok(())
            }
            Call::ListFrom { prefix, cursor } => {
                let args = Args::default().not(true, Refusal::Invalid("no list of this prefix answered the cursor"));
                args.accept("", store.list(prefix, Some(cursor), 10).await).map(|_| ())
            }
            Call::Dump(max) => {
                let page = Args::default().page(*max).accept("a page", store.dump(None, *max).await)?;
                page.map_or(Ok(()), |page| self.page_is(&page, time))
            }
            Call::Sweep(max) => {
                let swept = Args::default().page(*max).accept("how many", store.sweep(*max).await)?;
                let swept = swept.unwrap_or_default();
                demand(swept <= *max, format!("at most {max}"), || swept.to_string())
            }
            _ => {
                let health = succeed("health", store.health().await)?;
                demand(!health.detail.is_empty(), "a sentence", || "nothing".to_owned())
            }
        }
    }
}

fn same(expected: &[Said], actual: &[Said]) -> Verdict {
    let words = |messages: &[Said]| format!("{} messages: {}", messages.len(), cut(&format!("{messages:?}")));
    demand(expected == actual, words(expected), || words(actual))
}

#[async_trait]
impl Model for MemoryModel {
    type Store = dyn MemoryStore;
    type Step = Call;
    const ROLE: Role = Role::MemoryStore;

    fn new(options: &Options) -> Self {
        let value_bytes_max = options.value_bytes_max;
        Self { memories: BTreeMap::new(), flags: BTreeMap::new(), walk: None, value_bytes_max }
    }

    fn store(stores: &Stores) -> Option<Arc<dyn MemoryStore>> {
        stores.memory.clone()
    }

    fn random(rng: &mut Rng, pool: &Pool) -> Call {
        let key = pool.key(rng);
        let said = |rng: &mut Rng| (Pool::value(rng), *rng.pick(&[0, 1, 3, 10, 100, u32::MAX]));
        let keep = match rng.below(2) {
            0 => Keep::Messages(*rng.pick(&[0, 1, 2, 3, 5, 10, u32::MAX])),
            _ => Keep::Tokens(*rng.pick(&[0, 1, 4, 13, 100, 113, u64::from(u32::MAX), u64::MAX])),
        };
        match rng.below(40) {
            0..=8 => {
                let messages = (0..rng.below(5)).map(|_| said(rng)).collect();
                Call::Append { key, messages, ttl: pool.ttl(rng), keep: Some(keep).filter(|_| rng.one_in(2)) }
            }
            9..=11 => Call::Read(key),
            12..=13 => Call::Page(key, *rng.pick(&[0, 1, 2, 5, 20, u64::MAX]), Pool::page(rng)),
            14..=16 => Call::Count(key),
            17..=18 => Call::Replace(key, (0..rng.below(4)).map(|_| said(rng)).collect(), pool.ttl(rng)),
            19..=20 => Call::Trim(key, keep),
            21 => Call::Clear(key),
            22..=23 => Call::Expire(key, pool.ttl(rng)),
            24..=25 => Call::Ttl(key),
            26..=27 => Call::Mark(key),
            28 => Call::IsMarked(key),
            29 => Call::Unmark(key),
            30 => Call::List(pool.prefix(rng), Pool::page(rng)),
            31..=32 => Call::ListBegin(pool.prefix(rng), 1 + rng.below(2) as u32),
            33..=36 => Call::ListNext,
            37 => Call::Dump(Pool::page(rng)),
            38 => Call::Sweep(Pool::page(rng)),
            _ => Call::Health,
        }
    }

    async fn apply(&mut self, store: &Self::Store, step: &Call, time: &Time) -> Verdict {
        let now = time.now();
        self.expire(now);
        if let Some(walk) = &mut self.walk {
            walk.observe(&self.memories.keys().cloned().collect());
        }
        match step {
            Call::Append { key, messages, ttl, keep } => self.append(store, (key, messages, *ttl, *keep), now).await?,
            Call::BadSpan(key) => {
                let args = Args::default().not(true, Refusal::Invalid("a span reaches past the end of the buffer"));
                let list = vec![Message { span: Span { offset: 2, length: 2 }, tokens: 1 }];
                args.accept("", store.append(key, &Messages { list, bytes: b"abc".to_vec() }, None, None).await)?;
            }
            Call::Read(key) => self.read(store, key).await?,
            Call::Page(key, offset, limit) => self.page(store, key, *offset, *limit).await?,
            Call::Count(key) => {
                Args::default().key(key).answer(&self.of(key).counts(), pair(store.count(key).await))?;
            }
            Call::Replace(key, messages, ttl) => self.replace(store, key, messages, *ttl, now).await?,
            Call::Trim(key, keep) => {
                let args = Args::default().key(key);
                let mut memory = self.of(key);
                memory.trim(*keep);
                args.answer(&memory.counts(), pair(store.trim(key, *keep).await))?;
                self.put(key, memory);
            }
            Call::Clear(key) => {
                let there = self.memories.remove(key).is_some();
                self.flags.remove(key);
                Args::default().key(key).answer(&there, store.clear(key).await)?;
            }
            Call::Expire(key, ttl) => {
                let args = Args::default().key(key).ttl(*ttl);
                args.answer(&self.memories.contains_key(key), store.expire(key, duration(*ttl)).await)?;
                if let (true, Some(memory)) = (args.right(), self.memories.get_mut(key)) {
                    memory.expires = ttl.map(|ttl| now.saturating_add(ttl));
                }
            }
            Call::Ttl(key) => self.left(key, now).check(&Args::default().key(key), store.ttl(key).await, time)?,
            Call::Mark(_) | Call::IsMarked(_) | Call::Unmark(_) => self.flag(store, step, now).await?,
            _ => self.bulk(store, step, time).await?,
        }
        if let Some(walk) = &mut self.walk {
            walk.observe(&self.memories.keys().cloned().collect());
        }
        Ok(())
    }

    async fn audit(&mut self, store: &Self::Store, time: &Time) -> Verdict {
        self.expire(time.now());
        self.list(store, "", 100).await?;
        for key in self.memories.keys().chain(self.flags.keys()) {
            self.look(store, key, time).await?;
        }
        let stats = succeed("stats", store.stats().await)?;
        let enough = stats.entries.is_none_or(|entries| entries >= self.memories.len() as u64);
        demand(enough, format!("statistics of at least {} memories", self.memories.len()), || {
            format!("{:?}", stats.entries)
        })
    }

    async fn relocate(&self, from: &Self::Store, to: &Self::Store, moving: Moving, time: &Time) -> Verdict {
        let mut alive = self.clone();
        alive.expire(time.now());
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            for _ in 0..u32::from(moving.again) {
                let page = succeed("dump", from.dump(cursor.as_deref(), moving.max).await)?;
                if !page.memories.is_empty() {
                    succeed("load", to.load(&page.memories, &page.messages).await)?;
                }
            }
            let page = succeed("dump", from.dump(cursor.as_deref(), moving.max).await)?;
            alive.page_is(&page, time)?;
            if !page.memories.is_empty() {
                succeed("load", to.load(&page.memories, &page.messages).await)?;
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(()),
            }
        }
        mismatch("a dump that ends", format!("{PAGES_MAX} pages and no end"))
    }

    fn reopened(&mut self, _: bool) {
        self.walk = None;
    }
}
