//! The role `locks`.
//!
//! Tokens of all names come from one counter in the database, which triggers keep at the greatest token: so a token grows for
//! ever, though released and expired locks leave no row.

use compozy_sdk::sql::{self, statement};
use compozy_sdk::store::{
    Attempt, DumpedLock, HealthStatus, Lease, LockPage, LockState, Locks, Statistics, StoreError,
};

use crate::page::{Call, key};
use crate::report::{self, COUNTED_MAX};
use crate::{Sqlite, schema};
use compozy_sdk::store::rules::{check_batch, check_key, check_page, check_short, check_ttl, expires, left, now};

/// How often an attempt to take a lock that was given back meanwhile is tried again.
const ACQUIRE_TRIES: usize = 8;
/// The greatest token that can be loaded: what comes after it lasts for longer than anybody counts.
const TOKEN_MAX: u64 = 1 << 62;
const DUMP: Call = Call("locks.dump:");

impl Locks for Sqlite {
    fn acquire(name: String, ttl_ms: u64, holder: String) -> Result<Attempt, StoreError> {
        check_key("name", &name)?;
        check_short(&holder)?;
        let ttl = check_ttl(Some(ttl_ms))?;
        schema::ready()?;
        for _ in 0..ACQUIRE_TRIES {
            let now = now();
            let expires = expires(now, ttl);
            let take = statement!(
                "INSERT INTO lock (name, token, holder, expires) VALUES (?1, (SELECT token + 1 FROM fence), ?2, ?3)
                 ON CONFLICT (name) DO UPDATE SET token = excluded.token, holder = excluded.holder, expires = excluded.expires
                 WHERE lock.expires <= ?4 RETURNING token"
            )?;
            let token = take.query_row((name.as_bytes(), holder.as_bytes(), expires, now), |row| row.get(0))?;
            if let Some(token) = token {
                let remaining_ms = left(now, expires.unwrap_or(now));
                return Ok(Attempt::Acquired(Lease { token, remaining_ms }));
            }
            if let Some(state) = held(&name, now)? {
                return Ok(Attempt::Held(state.lease.remaining_ms));
            }
        }
        Err(StoreError::Busy(format!(
            "others took and gave back the lock `{name}` {ACQUIRE_TRIES} times during this attempt; try again"
        )))
    }

    fn refresh(name: String, token: u64, ttl_ms: u64) -> Result<bool, StoreError> {
        check_key("name", &name)?;
        let ttl = check_ttl(Some(ttl_ms))?;
        schema::ready()?;
        let now = now();
        let write = statement!("UPDATE lock SET expires = ?3 WHERE name = ?1 AND token = ?2 AND expires > ?4")?;
        Ok(write.execute((name.as_bytes(), token.cast_signed(), expires(now, ttl), now))? > 0)
    }

    fn release(name: String, token: u64) -> Result<bool, StoreError> {
        check_key("name", &name)?;
        schema::ready()?;
        let remove = statement!("DELETE FROM lock WHERE name = ?1 AND token = ?2 RETURNING expires > ?3")?;
        let was_held = remove.query_row((name.as_bytes(), token.cast_signed(), now()), |row| row.get(0))?;
        Ok(was_held.unwrap_or(false))
    }

    fn inspect(name: String) -> Result<Option<LockState>, StoreError> {
        check_key("name", &name)?;
        schema::ready()?;
        held(&name, now())
    }

    fn health() -> Result<HealthStatus, StoreError> {
        report::health()
    }

    fn stats() -> Result<Statistics, StoreError> {
        schema::ready()?;
        let count = statement!("SELECT count(*) FROM (SELECT 1 FROM lock LIMIT ?1)")?;
        let entries = count.query_row((COUNTED_MAX + 1,), report::counted)?.flatten();
        let token = statement!("SELECT token FROM fence")?.query_row((), |row| row.get::<u64>(0))?;
        report::statistics(entries, vec![("greatest_token".to_owned(), token.unwrap_or(0).to_string())])
    }

    fn sweep(max: u32) -> Result<u32, StoreError> {
        check_page("max", max)?;
        schema::ready()?;
        let now = now();
        let any = statement!("SELECT 1 FROM lock WHERE expires <= ?1 LIMIT 1")?;
        if any.query((now,))?.is_empty() {
            return Ok(0);
        }
        let remove = statement!(
            "DELETE FROM lock WHERE name IN (SELECT name FROM lock WHERE expires <= ?1 ORDER BY expires LIMIT ?2)"
        )?;
        Ok(remove.execute((now, max))? as u32)
    }

    fn dump(cursor: Option<String>, max: u32) -> Result<LockPage, StoreError> {
        check_page("max", max)?;
        let range = DUMP.range("", cursor.as_deref())?;
        schema::ready()?;
        let now = now();
        let rows = statement!(
            "SELECT name, holder, token, expires FROM lock WHERE name >= ?1 AND name < ?2 AND expires > ?3
             ORDER BY name LIMIT ?4"
        )?
        .query((&range.lower, &range.upper, now, max + 1))?;
        let mut locks = Vec::with_capacity(rows.len());
        for row in rows.iter().take(max as usize) {
            let lease = Lease { token: row.get(2)?, remaining_ms: left(now, row.get(3)?) };
            locks.push(DumpedLock { name: key(row, 0)?, holder: key(row, 1)?, lease });
        }
        let last = locks.last().filter(|_| rows.len() > locks.len());
        let next = last.map(|lock| range.after(&lock.name));
        // Asked after the locks were read: so it is not smaller than the token of any of them.
        let greatest_token = statement!("SELECT token FROM fence")?.query_row((), |row| row.get(0))?.unwrap_or(0);
        Ok(LockPage { locks, greatest_token, next })
    }

    fn load(locks: Vec<DumpedLock>, greatest_token: u64) -> Result<(), StoreError> {
        check_batch(locks.len())?;
        check_token(greatest_token)?;
        for lock in &locks {
            check_key("name", &lock.name)?;
            check_short(&lock.holder)?;
            check_ttl(Some(lock.lease.remaining_ms))?;
            check_token(lock.lease.token)?;
        }
        schema::ready()?;
        let now = now();
        sql::transaction(|| {
            for DumpedLock { name, holder, lease } in &locks {
                let expires = expires(now, check_ttl(Some(lease.remaining_ms))?);
                statement!(
                    "INSERT INTO lock (name, token, holder, expires) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (name) DO UPDATE SET token = excluded.token, holder = excluded.holder, expires = excluded.expires"
                )?
                .execute((name.as_bytes(), lease.token, holder.as_bytes(), expires))?;
            }
            statement!("UPDATE fence SET token = max(token, ?1)")?.execute((greatest_token,))?;
            Ok(())
        })
    }
}

fn check_token(token: u64) -> Result<(), StoreError> {
    if token <= TOKEN_MAX {
        return Ok(());
    }
    Err(StoreError::InvalidArgument(format!(
        "the token {token} is greater than {TOKEN_MAX}, the greatest that can be loaded"
    )))
}

/// Who has the lock, unless it has expired.
fn held(name: &str, now: i64) -> Result<Option<LockState>, StoreError> {
    let read = statement!("SELECT holder, token, expires FROM lock WHERE name = ?1 AND expires > ?2")?;
    Ok(read.query_row((name.as_bytes(), now), |row| {
        let lease = Lease { token: row.get(1)?, remaining_ms: left(now, row.get(2)?) };
        Ok(LockState { holder: key(row, 0)?, lease })
    })?)
}
