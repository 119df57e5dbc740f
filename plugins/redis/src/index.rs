//! Names in sorted sets: lists by prefix, counts, and the removal of what has expired.

use compozy_sdk::redis::{self, List};
use compozy_sdk::store::rules::{KEY_BYTES_MAX, after_prefix, check_page, check_short, foreign_cursor, now};
use compozy_sdk::store::{KeyPage, StoreError};

use crate::keys::{Key, SHARDS, cursor, foreign, hash, read_cursor, shard};
use crate::lua;

/// The names of one kind of thing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Index {
    pub(crate) role: &'static str,
    /// What has these names.
    pub(crate) entry: &'static str,
    /// The set of names in the order of their bytes.
    pub(crate) names: &'static str,
    /// The set of names by the time before which they cannot have expired.
    pub(crate) due: &'static str,
}

/// Where a walk over the names has come: after this one in this shard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Place {
    pub(crate) shard: u8,
    pub(crate) after: String,
}

impl Place {
    /// After this name.
    pub(crate) fn after(name: &str) -> Self {
        Self { shard: shard(name), after: name.to_owned() }
    }

    /// From the numbers and the text of a cursor, if a walk can have been there.
    pub(crate) fn read(number: u64, after: &str) -> Option<Self> {
        let place = Self { shard: u8::try_from(number).ok()?, after: after.to_owned() };
        let possible = place.shard < SHARDS
            && place.after.len() <= KEY_BYTES_MAX
            && (after.is_empty() || shard(after) == place.shard);
        possible.then_some(place)
    }
}

impl Index {
    pub(crate) fn names(&self, shard: u8) -> Key<'static> {
        Key::shared(self.role, shard, self.names)
    }

    pub(crate) fn due(&self, shard: u8) -> Key<'static> {
        Key::shared(self.role, shard, self.due)
    }

    pub(crate) fn entry<'a>(&self, name: &'a str) -> Key<'a> {
        Key::of(self.role, self.entry, name)
    }

    /// Up to `max` names with this prefix behind a place, those of one shard after those of the other, and where the next ones are.
    pub(crate) fn page(
        &self,
        prefix: &str,
        mut place: Place,
        max: usize,
    ) -> Result<(Vec<String>, Option<Place>), StoreError> {
        let mut found: Vec<String> = Vec::new();
        // Asks more shards at once when those before had little.
        let mut group = 1;
        while place.shard < SHARDS {
            let last = place.shard.saturating_add(group).min(SHARDS);
            let room = max - found.len();
            let reply = redis::run(|commands| {
                for shard in place.shard..last {
                    let after = if shard == place.shard { place.after.as_str() } else { "" };
                    let (lower, upper) = bounds(prefix, after);
                    let mut range = commands.command("ZRANGEBYLEX");
                    range.arg(self.names(shard)).arg(&lower).arg(&upper).arg("LIMIT").arg(0).arg(room);
                }
            })?;
            for (shard, value) in (place.shard..last).zip(reply.iter()) {
                for name in value.get::<List<'_>>()?.iter().take(max - found.len()) {
                    found.push(name_of(name.get()?)?);
                }
                if found.len() == max {
                    // The shard may hold more behind the last name.
                    let after = found.last().cloned().unwrap_or_default();
                    return Ok((found, Some(Place { shard, after })));
                }
            }
            place = Place { shard: last, after: String::new() };
            group *= 4;
        }
        Ok((found, None))
    }

    /// A page of the names of what is there.
    pub(crate) fn list(
        &self,
        call: &str,
        prefix: &str,
        cursor_text: Option<&str>,
        max: u32,
    ) -> Result<KeyPage, StoreError> {
        check_page("max", max)?;
        check_short(prefix)?;
        let place = match cursor_text {
            None => Place::default(),
            Some(text) => read_cursor::<2>(call, text)
                .filter(|([of, _], after)| *of == hash(prefix) && (after.is_empty() || after.starts_with(prefix)))
                .and_then(|([_, number], after)| Place::read(number, after))
                .ok_or_else(|| foreign_cursor(text, prefix))?,
        };
        let (names, next) = self.page(prefix, place, max as usize)?;
        let next = next.map(|place| cursor(call, &[hash(prefix), place.shard.into()], &place.after));
        Ok(KeyPage { keys: self.existing(names)?, next })
    }

    /// Those names whose entry has not expired.
    fn existing(&self, mut names: Vec<String>) -> Result<Vec<String>, StoreError> {
        if names.is_empty() {
            return Ok(names);
        }
        let reply = redis::run(|commands| {
            for name in &names {
                commands.command("EXISTS").arg(self.entry(name));
            }
        })?;
        let exists = reply.iter().map(redis::Value::get::<bool>).collect::<Result<Vec<_>, _>>()?;
        let mut exists = exists.into_iter();
        names.retain(|_| exists.next().unwrap_or(false));
        Ok(names)
    }

    /// How many names there are, those of expired entries that are not swept among them.
    pub(crate) fn count(&self) -> Result<u64, StoreError> {
        let reply = redis::run(|commands| {
            for shard in 0..SHARDS {
                commands.command("ZCARD").arg(self.names(shard));
            }
        })?;
        let mut sum = 0;
        for count in reply.iter() {
            sum += count.get::<u64>()?;
        }
        Ok(sum)
    }

    /// Removes up to `max` names of what has expired; answers how many.
    pub(crate) fn sweep(&self, max: u32) -> Result<u32, StoreError> {
        // The host's clock only says where to look; whether something has expired is Redis's to say.
        let now = now();
        let due = redis::run(|commands| {
            for shard in 0..SHARDS {
                let mut range = commands.command("ZRANGEBYSCORE");
                range.arg(self.due(shard)).arg("-inf").arg(now).arg("LIMIT").arg(0).arg(max);
            }
        })?;
        let mut removed = 0;
        for (shard, names) in (0..SHARDS).zip(due.iter()) {
            let names: Vec<&str> = names
                .get::<List<'_>>()?
                .iter()
                .take((max - removed) as usize)
                .map(redis::Value::get)
                .collect::<Result<_, _>>()?;
            if !names.is_empty() {
                removed += self.sweep_shard(shard, &names)?;
            }
        }
        Ok(removed)
    }

    fn sweep_shard(&self, shard: u8, names: &[&str]) -> Result<u32, StoreError> {
        let reply = lua!("clock", "index_sweep")?.invoke(|call| {
            call.key(self.names(shard)).key(self.due(shard));
            for name in names {
                call.key(self.entry(name));
            }
            for name in names {
                call.arg(*name);
            }
        })?;
        Ok(reply.get()?)
    }
}

/// A stored name.
pub(crate) fn name_of(bytes: &[u8]) -> Result<String, StoreError> {
    let name = str::from_utf8(bytes).map_err(|_| foreign("the name", &String::from_utf8_lossy(bytes)))?;
    Ok(name.to_owned())
}

/// A range of names as Redis writes it.
fn bounds(prefix: &str, after: &str) -> (Vec<u8>, Vec<u8>) {
    let lower = match (after, prefix) {
        ("", "") => b"-".to_vec(),
        ("", prefix) => [b"[", prefix.as_bytes()].concat(),
        (after, _) => [b"(", after.as_bytes()].concat(),
    };
    let upper =
        if prefix.is_empty() { b"+".to_vec() } else { [b"(".as_slice(), &after_prefix(prefix.as_bytes())].concat() };
    (lower, upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_range_of_names() {
        for (prefix, after, lower, upper) in
            [("", "", "-", "+"), ("a", "", "[a", "(b"), ("a", "ab", "(ab", "(b"), ("", "x", "(x", "+")]
        {
            assert_eq!(bounds(prefix, after), (lower.as_bytes().to_vec(), upper.as_bytes().to_vec()));
        }
    }

    #[test]
    fn a_place_is_refused_where_no_walk_can_have_been() {
        let (number, name) = (u64::from(shard("user")), "user");
        assert_eq!(Place::read(number, name), Some(Place::after(name)));
        assert_eq!(Place::read(15, ""), Some(Place { shard: 15, after: String::new() }));
        for (number, name) in [(number + 1, "user"), (16, ""), (256, ""), (u64::MAX, "")] {
            assert_eq!(Place::read(number, name), None, "{number} {name:?}");
        }
    }
}
