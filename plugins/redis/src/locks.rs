//! The role `locks`. A lock is a string that expires: its token, `;` and what the holder said about itself.
//!
//! Tokens come from one counter for each shard, so that a name that is new gets a greater one than it had before it was
//! forgotten.

use compozy_sdk::redis::{self, List};
use compozy_sdk::store::rules::{check_batch, check_key, check_page, check_short, check_ttl};
use compozy_sdk::store::{
    Attempt, DumpedLock, HealthStatus, Lease, LockPage, LockState, Locks, Statistics, StoreError,
};

use crate::keys::{Key, SHARDS, foreign, shard};
use crate::ttl::left_ms;
use crate::walk::Walk;
use crate::{Redis, lua, server};

/// What the keys of locks and counters start with; behind it come shard and kind.
const TAG: &str = "{l";

fn key(name: &str) -> Key<'_> {
    Key::of("l", "v", name)
}

fn counter(name: &str) -> Key<'static> {
    counter_of(shard(name))
}

fn counter_of(shard: u8) -> Key<'static> {
    Key::shared("l", shard, "t")
}

impl Locks for Redis {
    fn acquire(name: String, ttl_ms: u64, holder: String) -> Result<Attempt, StoreError> {
        check_key("name", &name)?;
        check_short(&holder)?;
        let ttl = ttl(ttl_ms)?;
        let reply = lua!("lock_acquire")?.invoke(|call| {
            call.key(key(&name)).key(counter(&name)).arg(ttl).arg(&holder);
        })?;
        let answer = reply.value()?;
        if answer.is_integer() {
            return Ok(Attempt::Held(left_ms(answer.get()?).ok_or_else(|| foreign("the lock", &name))?));
        }
        Ok(Attempt::Acquired(Lease { token: answer.get()?, remaining_ms: ttl }))
    }

    fn refresh(name: String, token: u64, ttl_ms: u64) -> Result<bool, StoreError> {
        check_key("name", &name)?;
        let ttl = ttl(ttl_ms)?;
        let reply = lua!("lock_refresh")?.invoke(|call| {
            call.key(key(&name)).arg(token).arg(ttl);
        })?;
        Ok(reply.get()?)
    }

    fn release(name: String, token: u64) -> Result<bool, StoreError> {
        check_key("name", &name)?;
        let topic = ["locks/", &name].concat();
        let reply = lua!("lock_release")?.invoke(|call| {
            call.key(key(&name)).arg(token).arg(key(&name).len()).arg(&topic);
        })?;
        Ok(reply.get()?)
    }

    fn inspect(name: String) -> Result<Option<LockState>, StoreError> {
        check_key("name", &name)?;
        let reply = lua!("values")?.invoke(|call| {
            call.key(key(&name));
        })?;
        let [lock, left] = reply.get::<List<'_>>()?.array()?;
        let Some(lock) = lock.get::<Option<&str>>()? else { return Ok(None) };
        Ok(Some(read(&name, lock, left.get()?)?))
    }

    fn health() -> Result<HealthStatus, StoreError> {
        server::health()
    }

    fn stats() -> Result<Statistics, StoreError> {
        server::statistics(None)
    }

    fn sweep(max: u32) -> Result<u32, StoreError> {
        check_page("max", max)?;
        // Redis removes what has expired by itself.
        Ok(0)
    }

    fn dump(cursor: Option<String>, max: u32) -> Result<LockPage, StoreError> {
        check_page("max", max)?;
        let walk = Walk::new("locks-dump", TAG, "", cursor.as_deref(), max)?;
        let taken = walk.keys.len().min(max as usize);
        let mut names: Vec<&str> = walk.keys[..taken].iter().filter_map(|key| name_in(key)).collect();
        names.sort_unstable_by_key(|name| shard(name));
        let mut locks = Vec::with_capacity(names.len());
        for names in names.chunk_by(|a, b| shard(a) == shard(b)) {
            read_many(names, &mut locks)?;
        }
        // After the locks: greater than all their tokens.
        Ok(LockPage { locks, greatest_token: greatest_token()?, next: walk.cursor(taken) })
    }

    fn load(locks: Vec<DumpedLock>, greatest_token: u64) -> Result<(), StoreError> {
        check_batch(locks.len())?;
        let mut greatest = greatest_token;
        let mut writes: Vec<Vec<(Key<'_>, String, u64)>> = vec![Vec::new(); SHARDS as usize];
        for lock in &locks {
            check_key("name", &lock.name)?;
            check_short(&lock.holder)?;
            greatest = greatest.max(lock.lease.token);
            let content = format!("{};{}", lock.lease.token, lock.holder);
            writes[shard(&lock.name) as usize].push((key(&lock.name), content, ttl(lock.lease.remaining_ms)?));
        }
        if i64::try_from(greatest).is_err() {
            return Err(StoreError::InvalidArgument(format!(
                "the token {greatest} is beyond {}, the greatest that Redis can count to",
                i64::MAX
            )));
        }
        for (shard, writes) in (0..SHARDS).zip(&writes) {
            lua!("lock_load")?
                .invoke(|call| {
                    call.key(counter_of(shard));
                    for (key, ..) in writes {
                        call.key(*key);
                    }
                    call.arg(greatest);
                    for (_, content, ttl) in writes {
                        call.arg(content).arg(*ttl);
                    }
                })?
                .check()?;
        }
        Ok(())
    }
}

/// Checks the time to live of a lease.
fn ttl(ttl_ms: u64) -> Result<u64, StoreError> {
    Ok(check_ttl(Some(ttl_ms))?.map_or(0, i64::cast_unsigned))
}

/// The name in a key that starts behind [`TAG`]; `None` for a counter.
fn name_in(key: &str) -> Option<&str> {
    key.split_once("}v:").filter(|(shard, _)| shard.len() <= 2).map(|(_, name)| name)
}

/// A lock as it is stored.
fn read(name: &str, lock: &str, left: i64) -> Result<LockState, StoreError> {
    let parsed = lock.split_once(';').and_then(|(token, holder)| Some((token.parse().ok()?, holder)));
    let (Some((token, holder)), Some(remaining_ms)) = (parsed, left_ms(left)) else {
        return Err(foreign("the lock", name));
    };
    Ok(LockState { holder: holder.to_owned(), lease: Lease { token, remaining_ms } })
}

/// Those of these locks, which are of one shard, that are held.
fn read_many(names: &[&str], locks: &mut Vec<DumpedLock>) -> Result<(), StoreError> {
    let reply = lua!("values")?.invoke(|call| {
        for name in names {
            call.key(key(name));
        }
    })?;
    let mut values = reply.get::<List<'_>>()?.iter();
    for name in names {
        let (Some(lock), Some(left)) = (values.next(), values.next()) else { break };
        if let Some(lock) = lock.get::<Option<&str>>()? {
            let LockState { holder, lease } = read(name, lock, left.get()?)?;
            locks.push(DumpedLock { name: (*name).to_owned(), holder, lease });
        }
    }
    Ok(())
}

/// The greatest token that any name was given.
fn greatest_token() -> Result<u64, StoreError> {
    let reply = redis::run(|commands| {
        for shard in 0..SHARDS {
            commands.command("GET").arg(counter_of(shard));
        }
    })?;
    let mut greatest = 0;
    for token in reply.iter() {
        greatest = greatest.max(token.get::<Option<u64>>()?.unwrap_or(0));
    }
    Ok(greatest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_read_as_it_was_written() {
        let state = read("a", "9007199254740993;me;you", 5).unwrap();
        assert_eq!(
            (state.holder.as_str(), state.lease.token, state.lease.remaining_ms),
            ("me;you", 9_007_199_254_740_993, 5)
        );
        for (lock, left) in [("x;me", 5), ("7", 5), ("7;me", -1)] {
            assert!(matches!(read("a", lock, left), Err(StoreError::Internal(_))), "{lock}");
        }
    }

    #[test]
    fn counters_are_not_taken_for_locks() {
        assert_eq!(name_in("15}v:a}v:b"), Some("a}v:b"));
        assert_eq!(name_in("3}v:"), Some(""));
        assert_eq!((name_in("3}t"), name_in("333}v:a")), (None, None));
    }
}
