//! A memory's row and its messages. All that changes them runs in the caller's transaction.

use compozy_sdk::sql::{Params, Row, SqlError, statement};
use compozy_sdk::store::{Counts, Keep, StoreError};

use crate::bulk::{Bulk, Insert};

/// How many messages one statement removes or looks at.
const STEP_MESSAGES: i64 = 1_000;

thread_local! {
    static WRITE: Bulk = const { Bulk::new(Insert {
        into: "INSERT INTO message (memory, number, tokens, content) VALUES",
        row: "(?1, $1, $2, $3)",
        end: "",
        shared: 1,
        own: 3,
    }) };
}

/// A message's content and its tokens.
pub(super) type Content<'a> = (&'a [u8], u32);

/// The row of a memory.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) id: i64,
    /// The number of the oldest message.
    pub(super) first: i64,
    /// The number that the next message will get.
    pub(super) next: i64,
    pub(super) tokens: u64,
    pub(super) expires: Option<i64>,
}

impl Head {
    pub(super) fn messages(self) -> u64 {
        self.next.abs_diff(self.first)
    }

    pub(super) fn counts(self) -> Counts {
        Counts { messages: self.messages(), tokens: self.tokens }
    }

    /// Adds messages at the end.
    pub(super) fn push(&mut self, contents: &[Content<'_>]) -> Result<(), StoreError> {
        write(self.id, self.next, contents)?;
        self.next = self.next.saturating_add_unsigned(contents.len() as u64);
        self.tokens += tokens(contents);
        Ok(())
    }

    /// Removes the oldest messages; answers whether there were any to remove.
    pub(super) fn trim(&mut self, keep: Keep) -> Result<bool, StoreError> {
        let first = match keep {
            Keep::Messages(messages) => self.first.max(self.next - i64::from(messages)),
            Keep::Tokens(tokens) => self.first_within(tokens)?,
        };
        let trimmed = first > self.first;
        self.cut(first)?;
        Ok(trimmed)
    }

    /// The number of the first message to keep, so that the kept ones have at most so many tokens.
    fn first_within(self, tokens: u64) -> Result<i64, StoreError> {
        let (mut first, mut excess) = (self.first, self.tokens.saturating_sub(tokens));
        while excess > 0 && first < self.next {
            let step =
                statement!("SELECT tokens FROM message WHERE memory = ?1 AND number >= ?2 ORDER BY number LIMIT ?3")?;
            for row in step.query((self.id, first, STEP_MESSAGES))?.iter() {
                if excess == 0 {
                    break;
                }
                excess = excess.saturating_sub(row.get(0)?);
                first += 1;
            }
        }
        Ok(first)
    }

    /// Removes the messages before a number. What goes takes its tokens with it.
    pub(super) fn cut(&mut self, first: i64) -> Result<(), StoreError> {
        let remove = statement!("DELETE FROM message WHERE memory = ?1 AND number < ?2 RETURNING tokens")?;
        while self.first < first {
            let end = first.min(self.first + STEP_MESSAGES);
            self.removed(remove.query((self.id, end))?.iter())?;
            self.first = end;
        }
        Ok(())
    }

    /// Removes the messages from a number on.
    pub(super) fn cut_end(&mut self, next: i64) -> Result<(), StoreError> {
        let remove = statement!("DELETE FROM message WHERE memory = ?1 AND number >= ?2 RETURNING tokens")?;
        while self.next > next {
            let begin = next.max(self.next - STEP_MESSAGES);
            self.removed(remove.query((self.id, begin))?.iter())?;
            self.next = begin;
        }
        Ok(())
    }

    fn removed<'a>(&mut self, rows: impl Iterator<Item = Row<'a>>) -> Result<(), StoreError> {
        for row in rows {
            let tokens: u64 = row.get(0)?;
            self.tokens = self.tokens.checked_sub(tokens).ok_or_else(|| {
                StoreError::Internal(format!("a memory with {} tokens has a message with {tokens}", self.tokens))
            })?;
        }
        Ok(())
    }

    /// Writes the memory's row; one without messages goes.
    pub(super) fn store(self) -> Result<(), SqlError> {
        if self.first == self.next {
            statement!("DELETE FROM memory WHERE id = ?1")?.execute((self.id,))?;
            return Ok(());
        }
        let write = statement!("UPDATE memory SET first = ?2, next = ?3, tokens = ?4, expires = ?5 WHERE id = ?1")?;
        write.execute((self.id, self.first, self.next, self.tokens, self.expires)).map(drop)
    }
}

fn row(row: Row<'_>) -> Result<Head, SqlError> {
    Ok(Head { id: row.get(0)?, first: row.get(1)?, next: row.get(2)?, tokens: row.get(3)?, expires: row.get(4)? })
}

fn tokens(contents: &[Content<'_>]) -> u64 {
    contents.iter().map(|(_, tokens)| u64::from(*tokens)).sum()
}

fn write(id: i64, number: i64, contents: &[Content<'_>]) -> Result<(), SqlError> {
    let rows: Vec<_> = (number..).zip(contents).collect();
    let own = |(number, (content, tokens)): &(i64, &Content<'_>), params: &mut Params| {
        params.integer(*number);
        params.integer(i64::from(*tokens));
        params.blob(content);
    };
    WRITE.with(|bulk| bulk.write(&rows, |(_, (content, _))| content.len(), |params| params.integer(id), own).map(drop))
}

/// The memory of this key, unless it is missing or expired.
pub(super) fn find(key: &str, now: i64) -> Result<Option<Head>, SqlError> {
    let read = statement!(
        "SELECT id, first, next, tokens, expires FROM memory WHERE key = ?1 AND (expires IS NULL OR expires > ?2)"
    )?;
    read.query_row((key.as_bytes(), now), row)
}

/// The memory whose time ran out first.
pub(super) fn oldest_expired(now: i64) -> Result<Option<Head>, SqlError> {
    let read =
        statement!("SELECT id, first, next, tokens, expires FROM memory WHERE expires <= ?1 ORDER BY expires LIMIT 1")?;
    read.query_row((now,), row)
}

/// Adds messages, of which there must be one, to the memory of this key; it comes to be when it is missing or expired.
/// `expires`: the new time, or `None` to leave the old one.
pub(super) fn append(key: &str, contents: &[Content<'_>], expires: Option<i64>, now: i64) -> Result<Head, StoreError> {
    let mut head = grow(key, contents, expires, now)?;
    if head.is_none() {
        discard_expired(key, now)?;
        head = grow(key, contents, expires, now)?;
    }
    let head = head.ok_or_else(|| StoreError::Internal(format!("the new memory `{key}` takes no messages")))?;
    write(head.id, head.next.saturating_sub_unsigned(contents.len() as u64), contents)?;
    Ok(head)
}

/// Makes room for messages in the memory's row; `None` when the memory has expired.
fn grow(key: &str, contents: &[Content<'_>], expires: Option<i64>, now: i64) -> Result<Option<Head>, SqlError> {
    let write = statement!(
        "INSERT INTO memory (key, first, next, tokens, expires) VALUES (?1, 0, ?2, ?3, ?4)
         ON CONFLICT (key) DO UPDATE SET
             next = memory.next + ?2, tokens = memory.tokens + ?3, expires = coalesce(?4, memory.expires)
         WHERE memory.expires IS NULL OR memory.expires > ?5
         RETURNING id, first, next, tokens, expires"
    )?;
    write.query_row((key.as_bytes(), contents.len(), tokens(contents), expires, now), row)
}

/// Removes what an expired memory of this key has left.
pub(super) fn discard_expired(key: &str, now: i64) -> Result<(), StoreError> {
    let read = statement!("SELECT id, first, next, tokens, expires FROM memory WHERE key = ?1 AND expires <= ?2")?;
    let Some(mut head) = read.query_row((key.as_bytes(), now), row)? else { return Ok(()) };
    head.cut(head.next)?;
    Ok(head.store()?)
}
