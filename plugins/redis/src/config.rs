//! The role `config-store`. A value is a Redis string with its full time to live behind it, so that `get` can give it back.

use compozy_sdk::redis;
use compozy_sdk::store::rules::{
    DUMP_PAGE_BYTES_MAX, check_batch, check_key, check_page, check_ttl, check_value, foreign_cursor,
};
use compozy_sdk::store::{
    ConfigPage, ConfigStore, DumpedConfig, HealthStatus, KeyPage, Namespace, Statistics, StoreError, append, slice,
};

use crate::index::{Index, Place};
use crate::keys::{SHARDS, cursor, foreign, read_cursor, shard};
use crate::ttl::left_ms;
use crate::{Redis, lua, server};

/// Digits of the time to live behind a value: enough for the longest.
const TTL_DIGITS: usize = 16;
/// Room behind a value for its time to live and the other arguments, so that it is moved once.
const ROOM_BYTES: usize = 4 * 1024;
const fn index(namespace: Namespace) -> Index {
    let role = match namespace {
        Namespace::Config => "k",
        Namespace::Metadata => "d",
    };
    Index { role, entry: "v", names: "n", due: "x" }
}

const fn call(namespace: Namespace, config: &'static str, metadata: &'static str) -> &'static str {
    match namespace {
        Namespace::Config => config,
        Namespace::Metadata => metadata,
    }
}

/// Puts the time to live behind a value.
fn seal(value: &mut Vec<u8>, ttl: Option<i64>) {
    value.extend_from_slice(format!("{:0TTL_DIGITS$}", ttl.unwrap_or(0)).as_bytes());
}

/// The value and the time to live in what is stored.
fn unseal(stored: &[u8]) -> Option<(&[u8], Option<u64>)> {
    let (value, digits) = stored.split_last_chunk::<TTL_DIGITS>()?;
    let ttl: u64 = str::from_utf8(digits).ok()?.parse().ok()?;
    Some((value, (ttl > 0).then_some(ttl)))
}

fn blob(id: &str, reply: redis::Reply) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(mut value) = reply.into_blob()? else { return Ok(None) };
    let length = value.len().checked_sub(TTL_DIGITS).ok_or_else(|| foreign("the value of the id", id))?;
    value.truncate(length);
    Ok(Some(value))
}

impl ConfigStore for Redis {
    fn save(namespace: Namespace, id: String, mut value: Vec<u8>, ttl_ms: Option<u64>) -> Result<(), StoreError> {
        check_key("id", &id)?;
        check_value(value.len())?;
        let ttl = check_ttl(ttl_ms)?;
        value.reserve_exact(ROOM_BYTES);
        seal(&mut value, ttl);
        let (index, shard) = (index(namespace), shard(&id));
        let reply = lua!("clock", "config_save")?.invoke(|call| {
            let value = call.put(value);
            call.key(index.names(shard)).key(index.due(shard)).key(index.entry(&id)).arg(&id).arg(value).arg(ttl);
        })?;
        Ok(reply.check()?)
    }

    fn get(namespace: Namespace, id: String) -> Result<Option<Vec<u8>>, StoreError> {
        check_key("id", &id)?;
        let reply = lua!("config_get")?.invoke(|call| {
            call.key(index(namespace).entry(&id));
        })?;
        blob(&id, reply)
    }

    fn peek(namespace: Namespace, id: String) -> Result<Option<Vec<u8>>, StoreError> {
        check_key("id", &id)?;
        let reply = redis::run(|commands| {
            commands.command("GET").arg(index(namespace).entry(&id));
        })?;
        blob(&id, reply)
    }

    fn delete(namespace: Namespace, id: String) -> Result<bool, StoreError> {
        check_key("id", &id)?;
        let (index, shard) = (index(namespace), shard(&id));
        let reply = lua!("config_delete")?.invoke(|call| {
            call.key(index.names(shard)).key(index.due(shard)).key(index.entry(&id)).arg(&id);
        })?;
        Ok(reply.get()?)
    }

    fn list(namespace: Namespace, prefix: String, cursor: Option<String>, max: u32) -> Result<KeyPage, StoreError> {
        index(namespace).list(call(namespace, "config-list", "metadata-list"), &prefix, cursor.as_deref(), max)
    }

    fn health() -> Result<HealthStatus, StoreError> {
        server::health()
    }

    fn stats() -> Result<Statistics, StoreError> {
        server::statistics(Some(index(Namespace::Config).count()? + index(Namespace::Metadata).count()?))
    }

    fn sweep(max: u32) -> Result<u32, StoreError> {
        check_page("max", max)?;
        let removed = index(Namespace::Config).sweep(max)?;
        if removed == max { Ok(removed) } else { Ok(removed + index(Namespace::Metadata).sweep(max - removed)?) }
    }

    fn dump(namespace: Namespace, cursor: Option<String>, max: u32) -> Result<ConfigPage, StoreError> {
        check_page("max", max)?;
        let call = call(namespace, "config-dump", "metadata-dump");
        let place = match cursor.as_deref() {
            None => Place::default(),
            Some(text) => read_cursor::<1>(call, text)
                .and_then(|([shard], after)| Place::read(shard, after))
                .ok_or_else(|| foreign_cursor(text, ""))?,
        };
        let index = index(namespace);
        let (ids, mut next) = index.page("", place, max as usize)?;
        let fits = fitting(index, &ids)?;
        if let Some(last) = ids[..fits].last().filter(|_| fits < ids.len()) {
            next = Some(Place::after(last));
        }
        let mut page = ConfigPage {
            entries: Vec::with_capacity(fits),
            bytes: Vec::new(),
            next: next.map(|place| self::cursor(call, &[place.shard.into()], &place.after)),
        };
        for ids in ids[..fits].chunk_by(|a, b| shard(a) == shard(b)) {
            read_into(index, ids, &mut page)?;
        }
        Ok(page)
    }

    fn load(namespace: Namespace, entries: Vec<DumpedConfig>, bytes: Vec<u8>) -> Result<(), StoreError> {
        check_batch(entries.len())?;
        let index = index(namespace);
        let mut writes: Vec<Vec<Write<'_>>> = vec![Vec::new(); SHARDS as usize];
        for entry in &entries {
            check_key("id", &entry.id)?;
            let value = slice(&bytes, entry.value)?;
            check_value(value.len())?;
            let (ttl, left) = (check_ttl(entry.ttl_ms)?, check_ttl(entry.remaining_ms)?);
            if ttl.is_some() != left.is_some() || left > ttl {
                return Err(StoreError::InvalidArgument(format!(
                    "the id `{}` has a time to live of {:?} ms with {:?} ms left; both or none must be given, and no more can be left",
                    entry.id, entry.ttl_ms, entry.remaining_ms
                )));
            }
            let mut value = value.to_vec();
            seal(&mut value, ttl);
            writes[shard(&entry.id) as usize].push((&entry.id, value, left));
        }
        for (shard, writes) in (0..SHARDS).zip(&writes).filter(|(_, writes)| !writes.is_empty()) {
            lua!("clock", "config_save")?
                .invoke(|call| {
                    call.key(index.names(shard)).key(index.due(shard));
                    for (id, ..) in writes {
                        call.key(index.entry(id));
                    }
                    for (id, value, left) in writes {
                        call.arg(*id).arg(value).arg(*left);
                    }
                })?
                .check()?;
        }
        Ok(())
    }
}

/// An id with what is stored and the time that it has left.
type Write<'a> = (&'a str, Vec<u8>, Option<i64>);

/// How many of these ids have values that fit a page together; one at least.
fn fitting(index: Index, ids: &[String]) -> Result<usize, StoreError> {
    if ids.is_empty() {
        return Ok(0);
    }
    let lengths = redis::run(|commands| {
        for id in ids {
            commands.command("STRLEN").arg(index.entry(id));
        }
    })?;
    let (mut bytes, mut fits) = (0, 0);
    for length in lengths.iter() {
        bytes += length.get::<u64>()?;
        if fits > 0 && bytes > DUMP_PAGE_BYTES_MAX {
            break;
        }
        fits += 1;
    }
    Ok(fits.min(ids.len()))
}

/// Adds what these ids of one shard hold.
fn read_into(index: Index, ids: &[String], page: &mut ConfigPage) -> Result<(), StoreError> {
    let reply = lua!("values")?.invoke(|call| {
        for id in ids {
            call.key(index.entry(id));
        }
    })?;
    let mut values = reply.get::<redis::List<'_>>()?.iter();
    for id in ids {
        let (Some(stored), Some(left)) = (values.next(), values.next()) else { break };
        let Some(stored) = stored.get::<Option<&[u8]>>()? else { continue };
        let (value, ttl_ms) = unseal(stored).ok_or_else(|| foreign("the value of the id", id))?;
        let value = append(&mut page.bytes, value)?;
        page.entries.push(DumpedConfig { id: id.clone(), value, ttl_ms, remaining_ms: left_ms(left.get()?) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use compozy_sdk::store::rules::TTL_MS_MAX;

    #[test]
    fn the_full_time_to_live_stands_behind_the_value() {
        for ttl in [None, Some(1), Some(TTL_MS_MAX.cast_signed())] {
            let mut stored = b"value".to_vec();
            seal(&mut stored, ttl);
            assert_eq!(stored.len(), 5 + TTL_DIGITS);
            assert_eq!(unseal(&stored), Some((b"value".as_slice(), ttl.map(i64::cast_unsigned))));
        }
        assert_eq!(unseal(b"too short"), None);
        assert_eq!(unseal(b"no digits in the end"), None);
    }
}
