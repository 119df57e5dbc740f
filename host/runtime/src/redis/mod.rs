//! The native side of `compozy:host/redis`: the part of the operator's server that lies under one plugin's prefix.
//!
//! - `settings`: where the server is; `connect`: one connection; `guard`: its replies are never larger than allowed
//! - `lanes`: the connections of one plugin, their callers, and how they come back; `backoff`: the pauses between attempts
//! - `commands`: the allow-list; `encode`: flat commands in, with the prefix; `reply`: flat nodes out
//! - `client`: pipelines, transactions, scripts; `scan`: the walk over keys; `changes`: listening
//! - `error`: what server and connection answer as typed errors
//! - `host`: the functions that guests import
//! - `inspect`: a look at the server for the operator
//!
//! # What keeps a plugin to its own keys
//!
//! All keys of a plugin begin with `<prefix>:<plugin>:`, and it publishes to the channel `<prefix>:<plugin>:changes` only.
//!
//! - **Commands**: enforced here. Those of an allow-list pass, whose keys are known from their arguments; each key gets the prefix. What
//!   could reach further (`SORT`, `KEYS`, `EVAL`, another database), wait, or change the server or the connection is refused.
//! - **Walks**: enforced here. The pattern is ours.
//! - **Scripts**: the keys that are declared get the prefix. Names that a script makes up by itself, the host cannot see: there only the
//!   server can say no, and it does for a user with this ACL (Redis 7 or newer):
//!
//! ```text
//! ACL SETUSER compozy-<plugin> reset on ><password> ~<prefix>:<plugin>:* &<prefix>:<plugin>:changes
//!   +@read +@write +@connection -@dangerous -@blocking -@scripting -randomkey +xread +multi +exec +evalsha +script|load
//!   +publish +subscribe +time +info
//! ```
//!
//! It is enough for all that this module does. What even it does not hide: a script may call `SCAN` or `DBSIZE`, and so learn the names and
//! the number of foreign keys in the same database, though not what they hold. Who minds gives the plugin a server of its own.
//! A plugin can also fill the server's memory or keep it busy with a script; `maxmemory` and `busy-reply-threshold` bound that for all users
//! of the server together.
//!
//! # What is bounded
//!
//! - Time: `redis_timeout_ms` for each call, from looking for a connection to the answer. What was sent may still take place.
//! - Size: `hostcall_bytes` for a call and for its answer. An answer that is larger is noticed while it arrives, before it is in memory as a
//!   whole; its connection is closed and opened again, which costs other calls on it an `unavailable`.
//! - Numbers: 1,000 commands a call, `redis_scripts` and `redis_script_bytes`.
//!
//! # What it does not do
//!
//! It is no cluster client: one server (or one address in front of it) is spoken to, and MOVED is `unavailable`. Errors inside of scripts have
//! their own code from Redis 7 on; an older server answers `ERR` for all of them, which is `invalid`.

mod backoff;
mod changes;
mod client;
mod commands;
mod connect;
mod encode;
mod error;
mod guard;
mod host;
mod inspect;
mod lanes;
mod reply;
mod scan;
mod settings;

pub use client::{RedisClient, ScriptText};
pub use commands::allowed as allowed_commands;
pub use host::{RedisAccess, Script};
pub use inspect::{InspectError, RedisFacts, inspect};
pub use settings::{RedisOpenError, RedisSettings};
