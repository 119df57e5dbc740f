//! The built-in backend on Redis: all five roles, under the plugin's own prefix of the server's keys.
//!
//! What every role keeps to:
//!
//! - Each operation is one command, one script, or one transaction; so it is atomic, and it costs one round trip. Two exceptions:
//!   a read of events asks for the stream's head first when it does not know how large they are, and `load` writes shard by shard, all
//!   of it after all was checked (it may be repeated anyway).
//! - Times to live are Redis's own and follow its clock: what has expired is gone for every command at the same moment.
//! - Reads never write, except `config-store.get`, which resets the time to live.
//! - No key is given to Redis as a pattern, so that no character is special.
//! - Numbers that may pass 2^53 never become numbers in Lua, which has only floats.
//!
//! # Keys
//!
//! A key is `{<role><shard>}<kind>:<name>`, and the host puts its prefix for the plugin before it. The braces are Redis's hash tag: all
//! keys of one tag live in one slot of a cluster, and a name with braces of its own cannot change that. The plugin declares each
//! key that a script touches.
//!
//! | key | type | what it holds |
//! |---|---|---|
//! | `{c}v:<key>` | string | cache: the value, and 8 bytes of version behind it |
//! | `{l<n>}v:<name>` | string | locks: the token, `;`, the holder |
//! | `{l<n>}t` | string | locks: the last token of the shard; stays for ever |
//! | `{e<n>}v:<stream>` | stream | events: id `0-<sequence>`, one field: the time and the payload |
//! | `{e<n>}h:<stream>` | string | events: last sequence, last time, size of the largest payload; stays for ever |
//! | `{k<n>}v:<id>`, `{d<n>}v:<id>` | string | configurations and metadata: the value, and the full time to live in 16 digits behind it |
//! | `{m<n>}v:<key>` | list | memories: a header with the counts, then the messages |
//! | `{m<n>}f:<key>` | string | memories: the flush flag |
//! | `{..}n`, `{..}x` | sorted sets | names by their bytes, and when they can expire at the earliest (of flags: `g`, `y`) |
//!
//! The cache is one shard, because its bulk calls are atomic over any keys, and a cluster is atomic within a slot only. The others
//! are spread over 16. Versions and times to live stand behind their values, so that a value is handed on where it lies.
//!
//! Names in sorted sets make a list by prefix a range, where `SCAN` would walk over all keys of the server; the cache does without, because
//! there each write would pay. What expires leaves its name behind, which `list` does not show and `sweep` removes.
//!
//! `PUBLISH` in a script takes its channel from the script's first key, by cutting off the plugin's part: declared as a key of its own, as
//! the host's `changes` may be, the channel would be in another slot than the rest and a cluster would refuse the script.

mod cache;
mod config;
mod events;
mod index;
mod keys;
mod locks;
mod memory;
mod server;
mod sizes;
mod ttl;
mod walk;

/// The type that the roles are exported for.
struct Redis;

compozy_sdk::store_plugin!(Redis: cache, locks, events, config_store, memory_store);

/// A script of `lua/`, with those that it builds upon before it.
macro_rules! lua {
    ($($name:literal),+) => {
        ::compozy_sdk::redis::script!(concat!($(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lua/", $name, ".lua")), "\n"),+))
    };
}
use lua;
