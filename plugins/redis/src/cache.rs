//! The role `cache`. A value is a Redis string, with the 8 bytes of its version behind it.

use compozy_sdk::redis::{self, Joined, List};
use compozy_sdk::store::rules::{
    BATCH_ITEMS_MAX, DUMP_PAGE_BYTES_MAX, check_batch, check_key, check_keys, check_page, check_short, check_some,
    check_ttl, check_value, new_version,
};
use compozy_sdk::store::{
    Assignment, Cache, Condition, DumpPage, Dumped, Entry, Found, HealthStatus, KeyPage, Lifetime, Span, Statistics,
    StoreError, Values, append, slice,
};

use crate::keys::{Key, foreign};
use crate::ttl::{left_ms, lifetime};
use crate::walk::Walk;
use crate::{Redis, lua, server};

/// The bytes of a version.
const VERSION: usize = 8;
/// How many keys a page of a dump looks at: those that it has no room for travel in its cursor.
const DUMP_KEYS_MAX: u32 = 128;
/// Room behind a value for its version and the other arguments, so that it is moved once.
const ROOM_BYTES: usize = 4 * 1024;
/// What keys start with.
const TAG: &str = "{c}v:";

fn key(name: &str) -> Key<'_> {
    Key::unsharded("c", "v", name)
}

impl Cache for Redis {
    fn get(key: String) -> Result<Option<Entry>, StoreError> {
        check_key("key", &key)?;
        let reply = redis::run(|commands| {
            commands.command("GET").arg(self::key(&key));
        })?;
        let Some(mut value) = reply.into_blob()? else { return Ok(None) };
        let version = version_of(&value).ok_or_else(|| foreign("the value of the key", &key))?;
        value.truncate(value.len() - VERSION);
        Ok(Some(Entry { value, version }))
    }

    fn get_many(keys: Vec<Span>, bytes: Vec<u8>) -> Result<Values, StoreError> {
        let keys = check_keys(&keys, &bytes)?;
        if keys.is_empty() {
            return Ok(Values { found: Vec::new(), bytes: Vec::new() });
        }
        let reply = redis::run(|commands| {
            let mut get = commands.command("MGET");
            for key in &keys {
                get.arg(self::key(key));
            }
        })?;
        let mut found = Vec::with_capacity(keys.len());
        for (value, key) in reply.get::<List<'_>>()?.iter().zip(&keys) {
            found.push(match value.get::<Option<&[u8]>>()? {
                None => None,
                Some(bytes) => {
                    let version = version_of(bytes).ok_or_else(|| foreign("the value of the key", key))?;
                    let Span { offset, length } = value.span()?;
                    Some(Found { span: Span { offset, length: length - VERSION as u32 }, version })
                }
            });
        }
        Ok(Values { found, bytes: reply.into_bytes() })
    }

    fn set(
        key: String,
        mut value: Vec<u8>,
        ttl_ms: Option<u64>,
        condition: Condition,
    ) -> Result<Option<u64>, StoreError> {
        check_key("key", &key)?;
        check_value(value.len())?;
        let ttl = check_ttl(ttl_ms)?;
        let (name, version) = (self::key(&key), new_version());
        value.reserve_exact(ROOM_BYTES);
        value.extend_from_slice(&version.to_be_bytes());
        let written = match condition {
            Condition::Always | Condition::IfAbsent => {
                let reply = redis::run(|commands| {
                    let value = commands.put(value);
                    let mut set = commands.command("SET");
                    set.arg(name).arg(value);
                    if let Some(ttl) = ttl {
                        set.arg("PX").arg(ttl);
                    }
                    if matches!(condition, Condition::IfAbsent) {
                        set.arg("NX");
                    }
                })?;
                reply.get::<Option<&str>>()?.is_some()
            }
            Condition::IfVersion(expected) => lua!("cache_set_if_version")?
                .invoke(|call| {
                    let value = call.put(value);
                    call.key(name).arg(&expected.to_be_bytes()).arg(value).arg(ttl);
                })?
                .get()?,
        };
        Ok(written.then_some(version))
    }

    fn set_many(entries: Vec<Assignment>, bytes: Vec<u8>, ttl_ms: Option<u64>) -> Result<(), StoreError> {
        check_some("entries", entries.len())?;
        let ttl = check_ttl(ttl_ms)?;
        for entry in &entries {
            check_key("key", &entry.key)?;
            check_value(slice(&bytes, entry.value)?.len())?;
        }
        let entries =
            entries.iter().map(|entry| Write { key: &entry.key, span: entry.value, version: new_version(), ttl });
        write_all(&entries.collect::<Vec<_>>(), &bytes)
    }

    fn delete(key: String) -> Result<bool, StoreError> {
        check_key("key", &key)?;
        one("DEL", &key)
    }

    fn exists(key: String) -> Result<bool, StoreError> {
        check_key("key", &key)?;
        one("EXISTS", &key)
    }

    fn expire(key: String, ttl_ms: Option<u64>) -> Result<bool, StoreError> {
        check_key("key", &key)?;
        let Some(ttl) = check_ttl(ttl_ms)? else {
            let reply = lua!("cache_persist")?.invoke(|call| {
                call.key(self::key(&key));
            })?;
            return Ok(reply.get()?);
        };
        let reply = redis::run(|commands| {
            commands.command("PEXPIRE").arg(self::key(&key)).arg(ttl);
        })?;
        Ok(reply.get()?)
    }

    fn ttl(key: String) -> Result<Lifetime, StoreError> {
        check_key("key", &key)?;
        let reply = redis::run(|commands| {
            commands.command("PTTL").arg(self::key(&key));
        })?;
        Ok(lifetime(reply.get()?))
    }

    fn increment(key: String, delta: i64, ttl_ms: Option<u64>) -> Result<i64, StoreError> {
        check_key("key", &key)?;
        let ttl = check_ttl(ttl_ms)?;
        let reply = lua!("cache_increment")?.invoke(|call| {
            call.key(self::key(&key)).arg(delta).arg(&new_version().to_be_bytes()).arg(ttl);
        })?;
        let sum = reply.value()?;
        if sum.is_integer() {
            let why = format!("the value of the key `{key}` is not a decimal integer of 64 bits");
            return Err(StoreError::WrongType(why));
        }
        if let Ok(value) = sum.get::<List<'_>>() {
            let [number] = value.array()?;
            let (number, sign) = (number.get::<i64>()?, if delta < 0 { "-" } else { "+" });
            let why =
                format!("{number} {sign} {} does not fit an integer of 64 bits (key `{key}`)", delta.unsigned_abs());
            return Err(StoreError::Overflow(why));
        }
        Ok(sum.get()?)
    }

    fn scan(prefix: String, cursor: Option<String>, max: u32) -> Result<KeyPage, StoreError> {
        check_page("max", max)?;
        check_short(&prefix)?;
        let mut walk = Walk::new("cache-scan", TAG, &prefix, cursor.as_deref(), max)?;
        let next = walk.cursor(max as usize);
        let mut keys = std::mem::take(&mut walk.keys);
        keys.truncate(max as usize);
        Ok(KeyPage { keys, next })
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

    fn dump(cursor: Option<String>, max: u32) -> Result<DumpPage, StoreError> {
        check_page("max", max)?;
        let walk = Walk::new("cache-dump", TAG, "", cursor.as_deref(), max.min(DUMP_KEYS_MAX))?;
        let keys = fitting(&walk.keys[..walk.keys.len().min(max.min(DUMP_KEYS_MAX) as usize)])?;
        let mut page =
            DumpPage { entries: Vec::with_capacity(keys.len()), bytes: Vec::new(), next: walk.cursor(keys.len()) };
        if keys.is_empty() {
            return Ok(page);
        }
        let reply = lua!("values")?.invoke(|call| {
            for key in keys {
                call.key(self::key(key));
            }
        })?;
        let mut values = reply.get::<List<'_>>()?.iter();
        for key in keys {
            let (Some(value), Some(left)) = (values.next(), values.next()) else { break };
            let Some(bytes) = value.get::<Option<&[u8]>>()? else { continue };
            let version = version_of(bytes).ok_or_else(|| foreign("the value of the key", key))?;
            let span = append(&mut page.bytes, &bytes[..bytes.len() - VERSION])?;
            page.entries.push(Dumped { key: key.clone(), value: span, version, ttl_ms: left_ms(left.get()?) });
        }
        Ok(page)
    }

    fn load(entries: Vec<Dumped>, bytes: Vec<u8>) -> Result<(), StoreError> {
        check_batch(entries.len())?;
        let mut writes = Vec::with_capacity(entries.len());
        for entry in &entries {
            check_key("key", &entry.key)?;
            check_value(slice(&bytes, entry.value)?.len())?;
            let ttl = check_ttl(entry.ttl_ms)?;
            writes.push(Write { key: &entry.key, span: entry.value, version: entry.version, ttl });
        }
        if writes.is_empty() { Ok(()) } else { write_all(&writes, &bytes) }
    }
}

/// One key of a bulk write.
struct Write<'a> {
    key: &'a str,
    span: Span,
    version: u64,
    ttl: Option<i64>,
}

/// Writes all in one step.
fn write_all(writes: &[Write<'_>], bytes: &[u8]) -> Result<(), StoreError> {
    debug_assert!((1..=BATCH_ITEMS_MAX).contains(&writes.len()));
    let stored = |write: &Write<'_>| (slice(bytes, write.span).unwrap_or_default(), write.version.to_be_bytes());
    let reply = if writes.iter().all(|write| write.ttl.is_none()) {
        redis::run(|commands| {
            let mut set = commands.command("MSET");
            for write in writes {
                let (value, version) = stored(write);
                set.arg(key(write.key)).arg(Joined(&[value, &version]));
            }
        })?
    } else {
        redis::transaction(|commands| {
            for write in writes {
                let (value, version) = stored(write);
                let mut set = commands.command("SET");
                set.arg(key(write.key)).arg(Joined(&[value, &version]));
                if let Some(ttl) = write.ttl {
                    set.arg("PX").arg(ttl);
                }
            }
        })?
    };
    Ok(reply.check()?)
}

/// The first of these keys whose values fit a page together; one at least.
fn fitting(keys: &[String]) -> Result<&[String], StoreError> {
    if keys.is_empty() {
        return Ok(keys);
    }
    let reply = redis::run(|commands| {
        for key in keys {
            commands.command("STRLEN").arg(self::key(key));
        }
    })?;
    let (mut bytes, mut fits) = (0, 0);
    for length in reply.iter() {
        bytes += length.get::<u64>()?;
        if fits > 0 && bytes > DUMP_PAGE_BYTES_MAX {
            break;
        }
        fits += 1;
    }
    Ok(&keys[..fits.min(keys.len())])
}

fn one(command: &str, name: &str) -> Result<bool, StoreError> {
    let reply = redis::run(|commands| {
        commands.command(command).arg(key(name));
    })?;
    Ok(reply.get()?)
}

/// The version behind a value.
fn version_of(stored: &[u8]) -> Option<u64> {
    stored.last_chunk::<VERSION>().map(|version| u64::from_be_bytes(*version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_stands_behind_its_value() {
        assert_eq!(version_of(b"value\0\0\0\0\0\0\x01\x02"), Some(0x102));
        assert_eq!(version_of(&[0; 8]), Some(0));
        assert_eq!(version_of(b"1234567"), None);
    }
}
