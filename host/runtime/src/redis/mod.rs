//! The native side of `compozy:host/redis`: the part of the operator's server that lies under one plugin's prefix.
//!
//! - `settings`: where the server is; `connect`: one connection; `guard`: its replies are never larger than allowed
//! - `lanes`: the connections of one plugin, their callers, and how they come back; `backoff`: the pauses between attempts
//! - `commands`: the allow-list; `encode`: flat commands in, with the prefix; `reply`: flat nodes out
//! - `client`: pipelines, transactions, scripts; `scan`: the walk over keys; `changes`: listening
//! - `error`: what server and connection answer as typed errors
//! - `host`: the functions that guests import

mod backoff;
mod changes;
mod client;
mod commands;
mod connect;
mod encode;
mod error;
mod guard;
mod host;
mod lanes;
mod reply;
mod scan;
mod settings;

pub use client::{RedisClient, ScriptText};
pub use commands::allowed as allowed_commands;
pub use host::{RedisAccess, Script};
pub use settings::{RedisOpenError, RedisSettings};
