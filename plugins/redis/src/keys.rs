//! The names of keys, and cursors.

use compozy_sdk::redis::{Arg, Commands, Joined};
use compozy_sdk::store::StoreError;

/// Parts into which a role's keys fall. Never change it: keys would not be found again.
pub(crate) const SHARDS: u8 = 16;

const NUMBERS: [&str; SHARDS as usize] =
    ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15"];

/// The shard of a name. Never change it either.
pub(crate) fn shard(name: &str) -> u8 {
    (hash(name) % u64::from(SHARDS)) as u8
}

/// FNV-1a, folded, so that all its bits count for the shard.
pub(crate) fn hash(text: &str) -> u64 {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (hash >> 32) ^ (hash & 0xFFFF_FFFF)
}

/// A key of this plugin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key<'a> {
    role: &'static str,
    shard: &'static str,
    kind: &'static str,
    name: Option<&'a str>,
}

impl<'a> Key<'a> {
    /// What belongs to a name.
    pub(crate) fn of(role: &'static str, kind: &'static str, name: &'a str) -> Self {
        Self { role, shard: NUMBERS[shard(name) as usize], kind, name: Some(name) }
    }

    /// What belongs to a shard.
    pub(crate) fn shared(role: &'static str, shard: u8, kind: &'static str) -> Self {
        Self { role, shard: NUMBERS[shard as usize], kind, name: None }
    }

    /// What belongs to a name in a role without shards.
    pub(crate) fn unsharded(role: &'static str, kind: &'static str, name: &'a str) -> Self {
        Self { role, shard: "", kind, name: Some(name) }
    }

    fn pieces(&self) -> [&[u8]; 7] {
        let (colon, name) = match self.name {
            Some(name) => (":", name),
            None => ("", ""),
        };
        ["{", self.role, self.shard, "}", self.kind, colon, name].map(str::as_bytes)
    }

    /// Its bytes, the host's prefix not among them.
    pub(crate) fn len(&self) -> usize {
        self.pieces().iter().map(|piece| piece.len()).sum()
    }
}

impl Arg for Key<'_> {
    fn add_to(self, commands: &mut Commands) {
        Joined(&self.pieces()).add_to(commands);
    }
}

/// Makes a cursor: the call that it belongs to, numbers, and a text that may hold anything.
pub(crate) fn cursor(call: &str, numbers: &[u64], text: &str) -> String {
    use std::fmt::Write as _;
    let mut cursor = call.to_owned();
    for number in numbers {
        let _ = write!(cursor, ".{number}");
    }
    cursor.push('.');
    cursor.push_str(text);
    cursor
}

/// Reads what [`cursor`] made for the same call; `None` for anything else.
pub(crate) fn read_cursor<'a, const N: usize>(call: &str, cursor: &'a str) -> Option<([u64; N], &'a str)> {
    let mut rest = cursor.strip_prefix(call)?.strip_prefix('.')?;
    let mut numbers = [0; N];
    for number in &mut numbers {
        let (digits, behind) = rest.split_once('.')?;
        // Only the spelling that was given out.
        *number = digits.parse().ok().filter(|number: &u64| number.to_string() == digits)?;
        rest = behind;
    }
    Some((numbers, rest))
}

/// A defect of the plugin, or somebody else who writes to its keys.
pub(crate) fn foreign(what: &str, name: &str) -> StoreError {
    StoreError::Internal(format!(
        "{what} `{name}` does not have the plugin's form; somebody else has written to its keys"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_in_its_shard_for_ever() {
        let shards = ["", "a", "b", "user:1", "日本語", "{x}"].map(shard);
        assert_eq!(shards, [1, 0, 9, 1, 2, 8]);
    }

    #[test]
    fn names_spread_over_all_shards() {
        let mut counts = [0; SHARDS as usize];
        (0..16_000).for_each(|number| counts[shard(&format!("session-{number}")) as usize] += 1);
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }

    #[test]
    fn keys_carry_the_tag_of_their_shard_before_anything_of_the_name() {
        let text = |key: Key<'_>| String::from_utf8(key.pieces().concat()).unwrap();
        let key = Key::of("m", "v", "{other}:1");
        assert_eq!(text(key), format!("{{m{}}}v:{{other}}:1", shard("{other}:1")));
        assert_eq!(key.len(), text(key).len());
        assert_eq!(text(Key::shared("k", 15, "n")), "{k15}n");
        assert_eq!(text(Key::unsharded("c", "v", "")), "{c}v:");
    }

    #[test]
    fn a_cursor_is_read_by_the_call_that_made_it_only() {
        let text = cursor("list", &[3, u64::MAX], "a.b\0{}");
        assert_eq!(read_cursor("list", &text), Some(([3, u64::MAX], "a.b\0{}")));
        for bad in ["", "list", "list.", "list.3", "list.3.4", "list.x.4.a", "list.03.4.a", "list.-1.4.a", "dump.3.4.a"]
        {
            assert_eq!(read_cursor::<2>("list", bad), None, "{bad:?}");
        }
    }
}
