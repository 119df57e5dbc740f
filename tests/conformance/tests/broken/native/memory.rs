//! The role `memory-store`.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use compozy_runtime::stores::{
    Counts, DumpedMemory, HealthStatus, Keep, KeyPage, Lifetime, MemoryPage, MemoryStore, Message, MessagePage,
    Messages, Result, Statistics,
};

use super::{
    Fault, Native, check_batch, check_key, check_page, check_write_batch, invalid, lifetime, lock, push, slice,
};

type Said = (Vec<u8>, u32);

#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    messages: Vec<Said>,
    expires: Option<u64>,
    flag: Option<u64>,
    /// Kept beside the messages by the backend whose counts drift.
    tokens: u64,
}

pub(crate) type Memories = BTreeMap<String, Memory>;

impl Memory {
    fn counts(&self, fault: Fault) -> Counts {
        let tokens = match fault {
            Fault::CountersDrift => self.tokens,
            _ => self.messages.iter().map(|(_, tokens)| u64::from(*tokens)).sum(),
        };
        Counts { messages: self.messages.len() as u64, tokens }
    }

    fn trim(&mut self, keep: Keep, fault: Fault) {
        let mut tokens = 0;
        let stay = match keep {
            Keep::Messages(count) => count as usize,
            Keep::Tokens(most) => {
                let mut stay = 0;
                for (_, cost) in self.messages.iter().rev() {
                    tokens += u64::from(*cost);
                    if tokens > most && fault != Fault::TrimKeepsOneTooMany {
                        break;
                    }
                    stay += 1;
                    if tokens > most {
                        break;
                    }
                }
                stay
            }
        };
        let gone = self.messages.len().saturating_sub(stay);
        self.messages.drain(..gone);
        self.settle(fault);
    }

    fn settle(&mut self, fault: Fault) {
        if self.messages.is_empty() && fault != Fault::TtlOutlivesMessages {
            self.expires = None;
        }
    }
}

fn said(messages: &Messages) -> Result<Vec<Said>> {
    let one = |message: &Message| Ok((slice(&messages.bytes, message.span)?.to_vec(), message.tokens));
    messages.list.iter().map(one).collect()
}

fn flat(said: &[Said]) -> Messages {
    let mut messages = Messages { list: Vec::new(), bytes: Vec::new() };
    for (content, tokens) in said {
        let span = push(&mut messages.bytes, content);
        messages.list.push(Message { span, tokens: *tokens });
    }
    messages
}

impl Native {
    /// Runs on a memory after what has expired was taken out of it.
    fn with<T>(&self, key: &str, work: impl FnOnce(&mut Memory) -> T) -> Result<T> {
        check_key(key)?;
        let now = self.now();
        let mut memories = lock(&self.memory);
        let memory = memories.entry(key.to_owned()).or_default();
        if memory.expires.is_some_and(|expires| expires <= now) {
            memory.messages.clear();
            memory.expires = None;
            memory.tokens = 0;
        }
        memory.flag = memory.flag.filter(|until| *until > now);
        let result = work(memory);
        let nothing = memory.messages.is_empty() && memory.flag.is_none() && memory.expires.is_none();
        if nothing {
            memories.remove(key);
        }
        Ok(result)
    }

    fn live(&self) -> Memories {
        let keys: Vec<String> = lock(&self.memory).keys().cloned().collect();
        for key in &keys {
            drop(self.with(key, |_| ()));
        }
        lock(&self.memory).clone()
    }

    fn checked(&self, messages: &Messages) -> Result<Vec<Said>> {
        let said = said(messages)?;
        said.iter().try_for_each(|(content, _)| self.check_value(content.len()))?;
        Ok(said)
    }
}

#[async_trait]
impl MemoryStore for Native {
    async fn append(
        &self,
        key: &str,
        messages: &Messages,
        ttl: Option<Duration>,
        keep: Option<Keep>,
    ) -> Result<Counts> {
        check_key(key)?;
        check_write_batch(messages.list.len())?;
        let new = self.checked(messages)?;
        let expires = self.expires(ttl)?;
        if self.has(Fault::LostAppend) {
            let mut all = self.with(key, |memory| memory.messages.clone())?;
            super::pause().await;
            all.extend(new);
            return self.with(key, |memory| {
                memory.messages = all;
                memory.expires = expires.or(memory.expires);
                if let Some(keep) = keep {
                    memory.trim(keep, self.fault);
                }
                memory.counts(self.fault)
            });
        }
        if let (true, Some(keep)) = (self.has(Fault::TrimInTwoSteps), keep) {
            self.with(key, |memory| memory.messages.extend(new))?;
            super::pause().await;
            return self.with(key, |memory| {
                memory.expires = expires.or(memory.expires);
                memory.trim(keep, self.fault);
                memory.counts(self.fault)
            });
        }
        self.with(key, |memory| {
            memory.tokens += new.iter().map(|(_, tokens)| u64::from(*tokens)).sum::<u64>();
            memory.messages.extend(new);
            memory.expires = expires.or(memory.expires);
            if let Some(keep) = keep {
                memory.trim(keep, self.fault);
            }
            memory.counts(self.fault)
        })
    }

    async fn read(&self, key: &str) -> Result<Messages> {
        self.with(key, |memory| flat(&memory.messages))
    }

    async fn page(&self, key: &str, offset: u64, limit: u32) -> Result<MessagePage> {
        check_page(limit)?;
        self.with(key, |memory| {
            let all = &memory.messages;
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(all.len());
            let end = start.saturating_add(limit as usize).min(all.len());
            let total = if self.has(Fault::TotalOfPage) { end - start } else { all.len() };
            MessagePage { messages: flat(&all[start..end]), total: total as u64 }
        })
    }

    async fn count(&self, key: &str) -> Result<Counts> {
        self.with(key, |memory| memory.counts(self.fault))
    }

    async fn replace(&self, key: &str, messages: &Messages, ttl: Option<Duration>) -> Result<Counts> {
        check_key(key)?;
        check_batch(messages.list.len())?;
        let new = self.checked(messages)?;
        let expires = self.expires(ttl)?;
        self.with(key, |memory| {
            memory.tokens = new.iter().map(|(_, tokens)| u64::from(*tokens)).sum();
            memory.messages = new;
            memory.expires = expires.or(memory.expires);
            memory.settle(self.fault);
            memory.counts(self.fault)
        })
    }

    async fn trim(&self, key: &str, keep: Keep) -> Result<Counts> {
        self.with(key, |memory| {
            memory.trim(keep, self.fault);
            memory.counts(self.fault)
        })
    }

    async fn clear(&self, key: &str) -> Result<bool> {
        let flag = self.has(Fault::ClearLeavesFlag);
        self.with(key, |memory| {
            let there = !memory.messages.is_empty();
            *memory = Memory { flag: memory.flag.filter(|_| flag), ..Memory::default() };
            there
        })
    }

    async fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool> {
        let expires = self.expires(ttl)?;
        self.with(key, |memory| {
            let there = !memory.messages.is_empty();
            if there {
                memory.expires = expires;
            }
            there
        })
    }

    async fn ttl(&self, key: &str) -> Result<Lifetime> {
        let now = self.now();
        self.with(key, |memory| lifetime(now, (!memory.messages.is_empty()).then_some(memory.expires)))
    }

    async fn mark_flush_pending(&self, key: &str) -> Result<bool> {
        let until = self.clock_ms() + if self.has(Fault::FlagOfAnHour) { 3_600_000 } else { 1_800_000 };
        let looked = self.with(key, |memory| memory.flag.is_none())?;
        if self.has(Fault::MarkLooksThenSets) {
            super::pause().await;
        }
        self.with(key, |memory| {
            let new = if self.has(Fault::MarkLooksThenSets) { looked } else { memory.flag.is_none() };
            if new || self.has(Fault::MarkRenewsFlag) {
                memory.flag = Some(until);
            }
            new
        })
    }

    async fn is_flush_pending(&self, key: &str) -> Result<bool> {
        self.with(key, |memory| memory.flag.is_some())
    }

    async fn clear_flush_pending(&self, key: &str) -> Result<bool> {
        self.with(key, |memory| memory.flag.take().is_some())
    }

    async fn list(&self, prefix: &str, cursor: Option<&str>, max: u32) -> Result<KeyPage> {
        let live = self.live();
        let there = live.iter().filter(|(_, memory)| !memory.messages.is_empty()).map(|(key, _)| key);
        self.key_page(there, prefix, cursor, max)
    }

    async fn health(&self) -> Result<HealthStatus> {
        Ok(HealthStatus { detail: "in memory".to_owned() })
    }

    async fn stats(&self) -> Result<Statistics> {
        Ok(Statistics { entries: Some(lock(&self.memory).len() as u64), bytes: None, details: Vec::new() })
    }

    async fn sweep(&self, max: u32) -> Result<u32> {
        check_page(max)?;
        if self.has(Fault::SweepTakesAll) {
            lock(&self.memory).retain(|_, memory| memory.expires.is_none());
        }
        let now = self.now();
        let mut memories = lock(&self.memory);
        let gone = |memory: &Memory| memory.expires.is_some_and(|expires| expires <= now) && memory.flag.is_none();
        let old: Vec<String> =
            memories.iter().filter(|(_, memory)| gone(memory)).take(max as usize).map(|(key, _)| key.clone()).collect();
        for key in &old {
            drop(memories.remove(key));
        }
        Ok(old.len() as u32)
    }

    /// A cursor is `m:`, how many messages of a memory were dumped, `:` and its key.
    async fn dump(&self, cursor: Option<&str>, max: u32) -> Result<MemoryPage> {
        check_page(max)?;
        let place = match cursor {
            None => None,
            Some(cursor) => {
                let parts = cursor.strip_prefix("m:").and_then(|rest| rest.split_once(':'));
                let parsed = parts.and_then(|(offset, key)| Some((key, offset.parse::<usize>().ok()?)));
                Some(parsed.ok_or_else(|| invalid("the cursor is not one of a dump"))?)
            }
        };
        let (live, now) = (self.live(), self.now());
        let mut said: Vec<Said> = Vec::new();
        let (mut memories, mut next) = (Vec::new(), None);
        for (key, memory) in live.iter().filter(|(key, _)| place.is_none_or(|(at, _)| key.as_str() >= at)) {
            let offset = place.filter(|(at, _)| at == key).map_or(0, |(_, offset)| offset);
            if memories.len() >= max as usize || said.len() >= max as usize {
                next = Some(format!("m:0:{key}"));
                break;
            }
            let taken: Vec<Said> =
                memory.messages.iter().skip(offset).take(max as usize - said.len()).cloned().collect();
            memories.push(DumpedMemory {
                key: key.clone(),
                ttl_ms: memory.expires.filter(|_| !memory.messages.is_empty()).map(|expires| expires - now),
                flush_pending_ms: memory.flag.filter(|_| !self.has(Fault::DumpForgetsFlags)).map(|until| until - now),
                offset: offset as u64,
                messages: taken.len() as u32,
            });
            let done = offset + taken.len();
            said.extend(taken);
            if done < memory.messages.len() {
                next = Some(format!("m:{done}:{key}"));
                break;
            }
        }
        Ok(MemoryPage { memories, messages: flat(&said), next })
    }

    async fn load(&self, memories: &[DumpedMemory], messages: &Messages) -> Result<()> {
        let mut rest = said(messages)?.into_iter();
        for dumped in memories {
            let new: Vec<Said> = rest.by_ref().take(dumped.messages as usize).collect();
            let expires = self.expires(dumped.ttl_ms.map(Duration::from_millis))?;
            let flag = dumped.flush_pending_ms.map(|left| self.clock_ms() + left);
            self.with(&dumped.key, |memory| {
                if !self.has(Fault::LoadDoubles) {
                    memory.messages.truncate(usize::try_from(dumped.offset).unwrap_or(usize::MAX));
                }
                memory.messages.extend(new);
                memory.tokens = memory.messages.iter().map(|(_, tokens)| u64::from(*tokens)).sum();
                memory.expires = expires.filter(|_| !self.has(Fault::LoadDropsTtl));
                memory.flag = flag;
            })?;
        }
        Ok(())
    }
}
